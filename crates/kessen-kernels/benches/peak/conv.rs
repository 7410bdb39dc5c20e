//! Convolutions, directly.

use crate::multiply_adds;
use crate::suite::{Floats, Group, Suite};
use kessen_kernels::conv::{self, ConvDesc};
use kessen_kernels::epilogue::Epilogue;

/// Convolutions of ResNet, VGG and GoogLeNet, and first layers of plain images.
fn shapes() -> Vec<ConvDesc> {
    let rows =
        [(64, 112), (64, 56), (128, 56), (128, 28), (256, 28), (512, 28), (256, 14), (512, 14), (512, 7)];
    let mut all = Vec::from(rows.map(|(c, side)| ConvDesc::new(8, c, c, [side; 2], 3).padding(1)));
    all.push(ConvDesc::new(1, 256, 256, [14, 14], 3).padding(1));
    for [batch, channels, filters, side] in [
        [8, 64, 64, 56],
        [8, 64, 256, 56],
        [8, 256, 64, 56],
        [8, 128, 128, 28],
        [8, 256, 256, 28],
        [8, 256, 256, 14],
        [8, 512, 512, 14],
        [16, 192, 64, 28],
        [16, 480, 192, 14],
        [16, 832, 128, 7],
        [16, 64, 64, 56],
    ] {
        all.push(ConvDesc::new(batch, channels, filters, [side; 2], 1));
    }
    all.push(ConvDesc::new(8, 128, 256, [28, 28], 3).padding(1).stride(2));
    all.push(ConvDesc::new(8, 128, 256, [28, 28], 1).stride(2));
    all.push(ConvDesc::new(8, 3, 64, [224, 224], 7).padding(3).stride(2).plain());
    all.push(ConvDesc::new(8, 3, 64, [224, 224], 11).padding(2).stride(4).plain());
    all.push(ConvDesc::new(4, 3, 64, [224, 224], 3).padding(1).plain());
    for (batch, channels, filters, side) in
        [(8, 64, 192, 27), (1, 64, 192, 27), (8, 16, 32, 28), (16, 48, 64, 14)]
    {
        all.push(ConvDesc::new(batch, channels, filters, [side; 2], 5).padding(2));
    }
    all.push(ConvDesc::new(8, 192, 192, [28, 28], 3).padding(1).groups(192));
    all.extend([64, 1].into_iter().flat_map(few_channels));
    all
}

/// Convolutions of few channels: plain inputs, and plain outputs where those are preferred.
fn few_channels(batch: usize) -> impl Iterator<Item = ConvDesc> {
    let side = |channels, filters, side: usize, kernel| {
        ConvDesc::new(batch, channels, filters, [side; 2], kernel).plain()
    };
    let shapes = [
        side(1, 6, 28, 5).padding(2),
        side(6, 16, 14, 5),
        side(3, 8, 32, 3).padding(1),
        side(3, 16, 32, 3).padding(1),
        side(1, 32, 28, 3).padding(1),
        side(12, 12, 32, 3).padding(1),
    ];
    shapes.into_iter().map(|d| if d.prefers_plain_output() { d.plain_output() } else { d })
}

/// Calls `bench` with the group of each convolution that `applies`, and the lengths of its input, weights and output.
/// Work is counted as if no tap fell into the padding.
pub fn each(
    suite: &mut Suite,
    suffix: &str,
    applies: impl Fn(&ConvDesc) -> bool,
    bench: impl Fn(Group<'_>, &ConvDesc, [usize; 3]),
) {
    for d in shapes().into_iter().filter(applies) {
        let name = format!(
            "conv n{} {}->{} {}x{} k{}s{}g{}{suffix}",
            d.batch, d.channels, d.filters, d.height, d.width, d.kernel[0], d.stride[0], d.groups
        );
        let lengths = [d.input_len(), d.weight_len(), d.output_len()];
        let group = suite.group(&name, multiply_adds(d.macs()));
        bench(if d.kernel == [1, 1] { group.also_cold() } else { group }, &d, lengths);
    }
}

pub fn convolutions(suite: &mut Suite) {
    each(
        suite,
        "",
        |_| true,
        |mut group, d, [x, w, y]| {
            let store = Epilogue::store();
            let mut scratch = Floats::scratch([
                conv::forward_scratch(d),
                conv::grad_input_scratch(d),
                conv::grad_weight_scratch(d),
            ]);
            let scratch = scratch.slice();
            group.bench("forward", [x, w, y], |[x, w, y]| conv::forward(d, x, w, &store, y, scratch));
            group.bench("dx", [y, w, x], |[dy, w, dx]| conv::grad_input(d, dy, w, &store, dx, scratch));
            group.bench("dw", [x, y, w], |[x, dy, dw]| conv::grad_weight(d, x, dy, false, dw, scratch));
        },
    );
}
