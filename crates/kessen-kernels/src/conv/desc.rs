//! The shape of a convolution and everything that follows from it.

use crate::Error;
use crate::layout::{self, blocked_len};
use crate::micro::PANEL;
use std::ops::Range;

/// How images lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub enum Layout {
    /// nChw16c: `[N][⌈C/16⌉][H][W][16]`.
    #[default]
    Blocked,
    /// NCHW, for few channels; needs `groups == 1`.
    Plain,
}

/// The shape of a 2-D convolution; a 1-D one has `height = 1`, `kernel[0] = 1`.
///
/// Pairs are `[rows, columns]`. Output: `⌊(size + before + after − dilation·(kernel − 1) − 1)/stride⌋ + 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvDesc {
    /// Images `N`.
    pub batch: usize,
    /// Input channels `C`, of all groups.
    pub channels: usize,
    /// Output channels `K`, of all groups.
    pub filters: usize,
    /// Input height `H`.
    pub height: usize,
    /// Input width `W`.
    pub width: usize,
    /// Kernel size.
    pub kernel: [usize; 2],
    /// Step of the kernel.
    pub stride: [usize; 2],
    /// Zero rows above and zero columns to the left.
    pub pad_before: [usize; 2],
    /// Zero rows below and zero columns to the right.
    pub pad_after: [usize; 2],
    /// Distance of the kernel's taps.
    pub dilation: [usize; 2],
    /// Groups, each connecting `C/groups` inputs with `K/groups` outputs.
    pub groups: usize,
    /// Layout of the input and of its gradient.
    pub input: Layout,
    /// Layout of the output and of its gradient. NCHW needs a plain input, stride 1 and padding that the kernel reaches
    /// beyond.
    pub output: Layout,
    /// Distance of the images of a blocked input (and of its gradient) in elements, where it is a slice of the channels
    /// of a larger tensor; `None` where they follow each other.
    pub input_step: Option<usize>,
    /// The same for the output and its gradient.
    pub output_step: Option<usize>,
}

/// Groups merged until their channels fill whole blocks: a convolution over `count` such supergroups, each dense from
/// `channels` to `filters`, with zeros between channels of different groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grouping {
    pub count: usize,
    pub channels: usize,
    pub filters: usize,
}

impl Grouping {
    pub fn in_blocks(&self) -> usize {
        self.channels.div_ceil(PANEL)
    }

    pub fn out_blocks(&self) -> usize {
        self.filters.div_ceil(PANEL)
    }
}

impl ConvDesc {
    /// A convolution of square kernel and stride 1 without padding.
    pub fn new(batch: usize, channels: usize, filters: usize, size: [usize; 2], kernel: usize) -> ConvDesc {
        ConvDesc {
            batch,
            channels,
            filters,
            height: size[0],
            width: size[1],
            kernel: [kernel; 2],
            stride: [1; 2],
            pad_before: [0; 2],
            pad_after: [0; 2],
            dilation: [1; 2],
            groups: 1,
            input: Layout::Blocked,
            output: Layout::Blocked,
            input_step: None,
            output_step: None,
        }
    }

    /// The same padding on all sides.
    pub fn padding(mut self, padding: usize) -> ConvDesc {
        (self.pad_before, self.pad_after) = ([padding; 2], [padding; 2]);
        self
    }

    /// The same stride both ways.
    pub fn stride(mut self, stride: usize) -> ConvDesc {
        self.stride = [stride; 2];
        self
    }

    /// The same dilation both ways.
    pub fn dilation(mut self, dilation: usize) -> ConvDesc {
        self.dilation = [dilation; 2];
        self
    }

    /// Number of groups.
    pub fn groups(mut self, groups: usize) -> ConvDesc {
        self.groups = groups;
        self
    }

    /// Reads its input as NCHW.
    pub fn plain(mut self) -> ConvDesc {
        self.input = Layout::Plain;
        self
    }

    /// Writes its output as NCHW.
    pub fn plain_output(mut self) -> ConvDesc {
        self.output = Layout::Plain;
        self
    }

    /// Tells whether the shape can be computed.
    ///
    /// # Errors
    /// A size of zero, channels that the groups don't divide, a kernel larger than the padded input, a plain input
    /// with groups or as a slice, a plain output of what has no kernel for it, or images that would overlap.
    pub fn check(&self) -> Result<(), Error> {
        let fail = |reason: String| Err(Error::Convolution { reason });
        for (name, pair) in [("kernel", self.kernel), ("stride", self.stride), ("dilation", self.dilation)] {
            if pair.contains(&0) {
                return fail(format!("{name} {}x{} has a size of zero", pair[0], pair[1]));
            }
        }
        let (c, k, groups) = (self.channels, self.filters, self.groups);
        if groups == 0 || c == 0 || k == 0 || !c.is_multiple_of(groups) || !k.is_multiple_of(groups) {
            return fail(format!("{c} input and {k} output channels don't divide into {groups} groups"));
        }
        for axis in 0..2 {
            let (size, span) = (self.padded(axis), self.span(axis));
            if span > size {
                let name = ["height", "width"][axis];
                return fail(format!(
                    "a kernel spanning {span} exceeds the padded {name} of {size}; pad more or use a smaller kernel"
                ));
            }
        }
        if self.input == Layout::Plain && groups != 1 {
            return fail(format!("a plain input with {groups} groups; reorder it to nChw16c"));
        }
        if self.input == Layout::Plain && self.input_step.is_some() {
            return fail("a plain input as a slice of a larger one; reorder it to nChw16c".to_owned());
        }
        if self.output == Layout::Plain && (!self.is_planar() || self.output_step.is_some()) {
            return fail(
                "a plain output needs a plain input, stride 1, less padding than the kernel spans, and no larger tensor \
                 around it; use nChw16c"
                    .to_owned(),
            );
        }
        let [oh, ow] = self.output();
        for (step, own) in [
            (self.input_step, blocked_len(1, c, self.height, self.width)),
            (self.output_step, blocked_len(1, k, oh, ow)),
        ] {
            if let Some(step) = step.filter(|&step| step < own) {
                return fail(format!("images of {own} elements every {step} overlap"));
            }
        }
        Ok(())
    }

    /// Input size along an axis with its padding.
    pub(crate) fn padded(&self, axis: usize) -> usize {
        [self.height, self.width][axis] + self.pad_before[axis] + self.pad_after[axis]
    }

    /// Pixels from the kernel's first tap to its last.
    pub(crate) fn span(&self, axis: usize) -> usize {
        self.dilation[axis] * (self.kernel[axis] - 1) + 1
    }

    /// Output size `[rows, columns]`.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| (self.padded(axis) - self.span(axis)) / self.stride[axis] + 1)
    }

    /// Multiply-adds of one pass.
    pub fn macs(&self) -> usize {
        let [oh, ow] = self.output();
        self.batch * self.filters * oh * ow * self.channels / self.groups * self.kernel[0] * self.kernel[1]
    }

    /// Elements of the input and of its gradient, from the first to the last.
    pub fn input_len(&self) -> usize {
        match self.input {
            Layout::Blocked => {
                let own = blocked_len(1, self.channels, self.height, self.width);
                layout::slice_len(self.batch, own, self.input_step)
            }
            Layout::Plain => self.batch * self.channels * self.height * self.width,
        }
    }

    /// Elements of the output and of its gradient, from the first to the last.
    pub fn output_len(&self) -> usize {
        let [oh, ow] = self.output();
        match self.output {
            Layout::Blocked => {
                layout::slice_len(self.batch, blocked_len(1, self.filters, oh, ow), self.output_step)
            }
            Layout::Plain => self.batch * self.filters * oh * ow,
        }
    }

    /// Distance of the images of a blocked input.
    pub(super) fn input_image(&self) -> usize {
        self.input_step.unwrap_or_else(|| blocked_len(1, self.channels, self.height, self.width))
    }

    /// Distance of the images of a blocked output.
    pub(super) fn output_image(&self) -> usize {
        let [oh, ow] = self.output();
        self.output_step.unwrap_or_else(|| blocked_len(1, self.filters, oh, ow))
    }

    /// Elements of the bias and of its gradient: `K` rounded up to 16, the rest zero.
    pub fn bias_len(&self) -> usize {
        self.filters.next_multiple_of(PANEL)
    }

    /// Whether each channel is filtered by itself.
    pub(crate) fn is_depthwise(&self) -> bool {
        self.groups > 1 && self.groups == self.channels && self.groups == self.filters
    }

    /// The merged groups.
    pub(crate) fn grouping(&self) -> Grouping {
        let (c, k) = (self.channels / self.groups, self.filters / self.groups);
        let fits = |merged: &usize| {
            self.groups.is_multiple_of(*merged)
                && (merged * c).is_multiple_of(PANEL)
                && (merged * k).is_multiple_of(PANEL)
        };
        // More than 16 never help: 16 groups fill whole blocks already, if 16 divides the groups at all.
        let merged = if self.groups == 1 { 1 } else { (1..=PANEL).find(fits).unwrap_or(self.groups) };
        Grouping { count: self.groups / merged, channels: merged * c, filters: merged * k }
    }

    /// The same computation with rows joined where nothing depends on them (1×1, stride 1, no padding).
    pub(crate) fn joined(mut self) -> ConvDesc {
        let pads = [self.pad_before, self.pad_after];
        if self.kernel == [1; 2] && self.stride == [1; 2] && pads == [[0; 2]; 2] {
            (self.height, self.width) = (1, self.height * self.width);
        }
        self
    }

    /// Output positions along an axis, within `range`, whose tap `tap` lies in the image.
    pub(crate) fn inside(&self, axis: usize, tap: usize, range: &Range<usize>) -> Range<usize> {
        let (stride, pad) = (self.stride[axis] as isize, self.pad_before[axis] as isize);
        let (size, at) = ([self.height, self.width][axis] as isize, (tap * self.dilation[axis]) as isize);
        let low = (pad - at + stride - 1).div_euclid(stride).max(range.start as isize);
        let high = ((size - 1 + pad - at).div_euclid(stride) + 1).min(range.end as isize);
        low as usize..high.max(low) as usize
    }

    /// Asserts what every kernel relies on.
    #[track_caller]
    pub(crate) fn assert_valid(&self) {
        if let Err(error) = self.check() {
            panic!("{error}");
        }
    }
}

/// The taps, `step` apart, that lie inside an axis of `size`, where the first is at `first`; steps may lead backwards.
pub(super) fn taps_inside(first: isize, step: isize, taps: usize, size: usize) -> Range<usize> {
    if step < 0 {
        return taps_inside(size as isize - 1 - first, -step, taps, size);
    }
    let before = |end: isize| (end - first + step - 1).div_euclid(step).clamp(0, taps as isize) as usize;
    before(0)..before(size as isize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_follow_the_formula() {
        let d = ConvDesc::new(2, 3, 64, [224, 224], 7).stride(2).padding(3);
        assert_eq!(d.output(), [112, 112]);
        assert_eq!(d.macs(), 2 * 64 * 112 * 112 * 3 * 49);
        assert_eq!(ConvDesc::new(1, 3, 8, [9, 10], 3).dilation(2).output(), [5, 6]);
    }

    #[test]
    fn taps_inside_an_axis() {
        for (first, step, taps, size) in
            [(-2, 1, 5, 10), (7, 1, 5, 10), (-3, 2, 4, 2), (-9, 2, 4, 2), (18, 1, 5, 10)]
        {
            let inside = |tap: &usize| (0..size).contains(&(first + step * *tap as isize));
            let want: Vec<usize> = (0..taps).filter(inside).collect();
            assert_eq!(taps_inside(first, step, taps, size as usize).collect::<Vec<_>>(), want);
            let mirrored = taps_inside(size - 1 - first, -step, taps, size as usize);
            assert_eq!(mirrored.collect::<Vec<_>>(), want);
        }
    }

    #[test]
    fn groups_merge_into_whole_blocks() {
        let grouping = |c, k, g| {
            let g = ConvDesc::new(1, c, k, [4, 4], 1).groups(g).grouping();
            (g.count, g.channels, g.filters)
        };
        assert_eq!(grouping(64, 128, 2), (2, 32, 64));
        assert_eq!(grouping(32, 32, 8), (2, 16, 16));
        assert_eq!(grouping(12, 24, 3), (1, 12, 24));
        assert_eq!(grouping(5, 7, 1), (1, 5, 7));
    }

    #[test]
    fn impossible_shapes_are_refused_with_their_numbers() {
        let base = ConvDesc::new(1, 4, 6, [4, 5], 3);
        for (desc, text) in [
            (ConvDesc { kernel: [5, 3], ..base }, "spanning 5 exceeds the padded height of 4"),
            (base.dilation(3), "spanning 7 exceeds the padded height of 4"),
            (base.groups(3), "4 input and 6 output channels don't divide into 3 groups"),
            (base.stride(0), "stride 0x0"),
            (base.groups(2).plain(), "plain input with 2 groups"),
            (base.plain_output(), "plain output needs a plain input"),
            (base.plain().stride(2).plain_output(), "plain output needs a plain input, stride 1"),
            (base.plain().padding(3).plain_output(), "less padding than the kernel spans"),
        ] {
            let found = desc.check().unwrap_err().to_string();
            assert!(found.contains(text), "{found}");
        }
    }
}
