//! The layouts a convolution's weights live in.
//!
//! - dense: `[supergroup][⌈K/16⌉][⌈C/16⌉][KH][KW][16 c][16 k]` with `C`, `K` those of a supergroup,
//! - plain input: `[⌈K/16⌉][C][KH][KW][16 k]`,
//! - depthwise: `[⌈C/16⌉][KH][KW][16 c]`.
//!
//! Entries without a weight (channels beyond the last, pairs of channels of different groups) are zero and stay zero:
//! the gradient has the same layout and exact zeros there.

use super::desc::{ConvDesc, Layout};
use crate::layout::transpose_raw;
use crate::micro::PANEL;
use crate::threads::{self, Address};

impl ConvDesc {
    /// Length of the weights (and of their gradient) in kernel layout.
    pub fn weight_len(&self) -> usize {
        let taps = self.kernel[0] * self.kernel[1];
        if self.is_depthwise() {
            return self.channels.next_multiple_of(PANEL) * taps;
        }
        let g = self.grouping();
        let rows = match self.input {
            Layout::Blocked => g.in_blocks() * PANEL,
            Layout::Plain => self.channels,
        };
        g.count * g.out_blocks() * PANEL * rows * taps
    }

    /// Calls `f(index in OIHW, index in kernel layout)` for every weight.
    fn for_weights(&self, mut f: impl FnMut(usize, usize)) {
        let taps = self.kernel[0] * self.kernel[1];
        let (g, depthwise) = (self.grouping(), self.is_depthwise());
        let (group_c, group_k) = (self.channels / self.groups, self.filters / self.groups);
        for o in 0..self.filters {
            for i in 0..group_c {
                let c = o / group_k * group_c + i;
                for tap in 0..taps {
                    let place = if depthwise {
                        (c / PANEL * taps + tap) * PANEL + c % PANEL
                    } else if self.input == Layout::Plain {
                        ((o / PANEL * self.channels + c) * taps + tap) * PANEL + o % PANEL
                    } else {
                        let (s, o, c) = (o / g.filters, o % g.filters, c % g.channels);
                        let block = (s * g.out_blocks() + o / PANEL) * g.in_blocks() + c / PANEL;
                        ((block * taps + tap) * PANEL + c % PANEL) * PANEL + o % PANEL
                    };
                    f((o * group_c + i) * taps + tap, place);
                }
            }
        }
    }

    /// Brings OIHW weights (`[K][C/groups][KH][KW]`) into kernel layout.
    ///
    /// # Panics
    /// If a slice is too short or the shape invalid.
    pub fn pack_weight(&self, weight: &[f32], packed: &mut [f32]) {
        self.assert_valid();
        let packed = &mut packed[..self.weight_len()];
        packed.fill(0.0);
        self.for_weights(|from, to| packed[to] = weight[from]);
    }

    /// Brings weights (or their gradient) from kernel layout to OIHW.
    ///
    /// # Panics
    /// If a slice is too short or the shape invalid.
    pub fn unpack_weight(&self, packed: &[f32], weight: &mut [f32]) {
        self.assert_valid();
        self.for_weights(|to, from| weight[to] = packed[from]);
    }

    /// Sets the entries without a weight to zero.
    pub(super) fn clear_padding(&self, dw: &mut [f32]) {
        let taps = self.kernel[0] * self.kernel[1];
        if self.is_depthwise() {
            let lanes = self.channels % PANEL;
            if lanes > 0 {
                let last = self.weight_len() - taps * PANEL;
                dw[last..].chunks_exact_mut(PANEL).for_each(|row| row[lanes..].fill(0.0));
            }
            return;
        }
        let g = self.grouping();
        if self.input == Layout::Plain {
            let lanes = self.filters % PANEL;
            if lanes > 0 {
                let last = (g.out_blocks() - 1) * self.channels * taps * PANEL;
                dw[last..].chunks_exact_mut(PANEL).for_each(|row| row[lanes..].fill(0.0));
            }
            return;
        }
        let (group_c, group_k) = (self.channels / self.groups, self.filters / self.groups);
        let merged = g.channels / group_c > 1;
        for (block, tile) in dw.chunks_exact_mut(taps * PANEL * PANEL).enumerate() {
            let (o0, c0) = (block / g.in_blocks() % g.out_blocks() * PANEL, block % g.in_blocks() * PANEL);
            if o0 + PANEL <= g.filters && c0 + PANEL <= g.channels && !merged {
                continue;
            }
            for (at, v) in tile.iter_mut().enumerate() {
                let (o, c) = (o0 + at % PANEL, c0 + at / PANEL % PANEL);
                if o >= g.filters || c >= g.channels || o / group_k != c / group_c {
                    *v = 0.0;
                }
            }
        }
    }

    /// Writes the weights with the roles of input and output channels exchanged:
    /// `[supergroup][⌈C/16⌉][⌈K/16⌉][KH][KW][16 k][16 c]`.
    pub(super) fn transpose_weight(&self, weight: &[f32], out: &mut [f32]) {
        let taps = self.kernel[0] * self.kernel[1];
        let g = self.grouping();
        let (ins, outs) = (g.in_blocks(), g.out_blocks());
        let rows = match self.input {
            Layout::Blocked => PANEL,
            Layout::Plain => self.channels,
        };
        if self.input == Layout::Plain && !self.channels.is_multiple_of(PANEL) {
            out.fill(0.0);
        }
        let out = Address(out.as_mut_ptr());
        let grain = 64usize.div_ceil(taps);
        threads::parallel_chunks(g.count * ins * outs, grain, |blocks| {
            for block in blocks {
                let (s, i, o) = (block / (ins * outs), block / outs % ins, block % outs);
                for tap in 0..taps {
                    let to = out.get().wrapping_add((block * taps + tap) * PANEL * PANEL);
                    let (from, step, lanes) = if self.input == Layout::Plain {
                        let lanes = (rows - i * PANEL).min(PANEL);
                        (((o * rows + i * PANEL) * taps + tap) * PANEL, taps * PANEL, lanes)
                    } else {
                        let from = ((s * outs + o) * ins + i) * taps + tap;
                        (from * PANEL * PANEL, PANEL, PANEL)
                    };
                    let from = &weight[from..];
                    assert!(from.len() >= (lanes - 1) * step + PANEL);
                    // SAFETY: the source's length was checked; each 16×16 block of the output is written once.
                    unsafe { transpose_raw(from.as_ptr(), step, to, PANEL, lanes, PANEL) }
                }
            }
        });
    }

    /// Floats that [`Self::transpose_weight`] writes.
    pub(super) fn transposed_len(&self) -> usize {
        let g = self.grouping();
        g.count * g.in_blocks() * g.out_blocks() * PANEL * PANEL * self.kernel[0] * self.kernel[1]
    }
}
