//! Depthwise convolution: the same sweeps as the dense one, lane by lane.

use super::desc::ConvDesc;
use super::pass::Pass;
use crate::micro::PANEL;

/// Turns a dense sweep over channels and filters of equal number into a lanewise one.
pub(super) fn depthwise(dense: Pass, desc: &ConvDesc) -> Pass {
    let blocks = desc.channels.div_ceil(PANEL);
    let taps = (desc.kernel[0] * desc.kernel[1]) as isize;
    let panel = PANEL as isize;
    Pass {
        lanewise: true,
        groups: blocks,
        in_blocks: 1,
        out_blocks: 1,
        depth: 1,
        depth_last: 1,
        b_taps: dense.b_taps.map(|step| step / panel),
        b_block: taps * panel,
        b_panel: taps * panel,
        ..dense
    }
}
