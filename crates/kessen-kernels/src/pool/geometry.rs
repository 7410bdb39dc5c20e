//! Where the windows of a pooling lie.

use crate::Error;
use std::ops::Range;

/// A window along one axis: the input places `first, first + step, …`, `count` of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taps {
    pub first: usize,
    pub count: usize,
    pub step: usize,
    /// Places including those in the padding (what `count_include_pad` divides by).
    pub padded: usize,
}

/// One axis of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Axis {
    input: usize,
    output: usize,
    kernel: usize,
    stride: usize,
    before: usize,
    behind: usize,
    dilation: usize,
    adaptive: bool,
}

impl Axis {
    /// Windows of `kernel` places, `dilation` apart, every `stride` places over an input of `input` with
    /// `padding` before and behind. The output has ⌊(input + padding − dilation·(kernel−1) − 1)/stride⌋ + 1 places;
    /// with `ceil` the division rounds up, less one place where the last window would start behind the input and
    /// its padding before (PyTorch's rule).
    ///
    /// # Errors
    /// A size is 0, the window is larger than the padded input, or the padding exceeds the window.
    pub fn new(
        input: usize,
        kernel: usize,
        stride: usize,
        padding: [usize; 2],
        dilation: usize,
        ceil: bool,
    ) -> Result<Self, Error> {
        let [before, behind] = padding;
        let refuse = |why: &str| {
            Err(Error::Descriptor(format!(
                "pooling with kernel {kernel}, stride {stride}, padding {before}+{behind}, dilation {dilation} over \
                 {input} places: {why}"
            )))
        };
        if input == 0 || kernel == 0 || stride == 0 || dilation == 0 {
            return refuse("sizes must be at least 1");
        }
        let extent = dilation * (kernel - 1) + 1;
        if before >= extent.max(2) || behind >= extent.max(2) {
            return refuse("padding must be smaller than the window");
        }
        let Some(room) = (input + before + behind).checked_sub(extent) else {
            return refuse("the window is larger than the padded input");
        };
        let mut output = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
        if ceil && (output - 1) * stride >= input + before {
            output -= 1;
        }
        Ok(Axis { input, output, kernel, stride, before, behind, dilation, adaptive: false })
    }

    /// `output` windows that cover the input evenly: place `o` covers ⌊o·input/output⌋ to ⌈(o+1)·input/output⌉. One
    /// window covers everything; where the input divides evenly, they are ordinary windows side by side.
    ///
    /// # Errors
    /// A size is 0.
    pub fn adaptive(input: usize, output: usize) -> Result<Self, Error> {
        if input == 0 || output == 0 {
            return Err(Error::Descriptor(format!(
                "adaptive pooling of {input} places to {output}: sizes must be at least 1"
            )));
        }
        let (before, behind) = (0, 0);
        if input.is_multiple_of(output) {
            return Axis::new(input, input / output, input / output, [0, 0], 1, false);
        }
        Ok(Axis { input, output, kernel: input, stride: 1, before, behind, dilation: 1, adaptive: true })
    }

    /// Number of input places.
    pub fn input(&self) -> usize {
        self.input
    }

    /// Number of output places.
    pub fn output(&self) -> usize {
        self.output
    }

    /// Whether every window is `kernel` neighbouring places, `stride` apart, from place 0 on, inside the input.
    pub(super) fn is_plain(&self, kernel: usize, stride: usize) -> bool {
        !self.adaptive
            && (self.kernel, self.stride, self.dilation, self.before) == (kernel, stride, 1, 0)
            && (self.output - 1) * stride + kernel <= self.input
    }

    /// The stride, where windows have one.
    pub(super) fn even_stride(&self) -> Option<usize> {
        (!self.adaptive).then_some(self.stride)
    }

    /// The outputs whose windows are neighbouring places inside the input.
    pub(super) fn full(&self) -> Range<usize> {
        let end = self.input + self.before;
        if self.adaptive || self.dilation > 1 || end < self.kernel {
            return 0..0;
        }
        let last = ((end - self.kernel) / self.stride + 1).min(self.output);
        self.before.div_ceil(self.stride).min(last)..last
    }

    /// Whether every place lies in exactly one window, which is full.
    pub(super) fn tiles(&self) -> bool {
        self.is_plain(self.kernel, self.kernel) && self.output * self.kernel == self.input
    }

    /// Whether no place lies in two windows.
    pub(super) fn disjoint(&self) -> bool {
        !self.adaptive && self.dilation == 1 && self.stride >= self.kernel
    }

    /// Window `o` without clipping, counted in the padded input: kernel and dilation.
    pub(super) fn kernel(&self) -> (usize, usize) {
        (self.kernel, self.dilation)
    }

    /// Distance of neighbouring windows; meaningless where they are uneven.
    pub(super) fn stride(&self) -> usize {
        self.stride
    }

    /// Padding before the input.
    pub(super) fn before(&self) -> usize {
        self.before
    }

    /// The window of output place `o`.
    #[inline(always)]
    pub(super) fn taps(&self, o: usize) -> Taps {
        let (k, d) = (self.kernel, self.dilation);
        if self.adaptive {
            let first = o * self.input / self.output;
            let count = ((o + 1) * self.input).div_ceil(self.output) - first;
            return Taps { first, count, step: 1, padded: count };
        }
        let start = o * self.stride;
        if start >= self.before && start - self.before + (k - 1) * d < self.input {
            return Taps { first: start - self.before, count: k, step: d, padded: k };
        }
        let skipped = self.before.saturating_sub(start).div_ceil(d);
        let end = (self.input + self.before).saturating_sub(start).div_ceil(d).min(k);
        let padded = k.min(self.input + self.before + self.behind - start);
        let count = end.saturating_sub(skipped);
        let first = if count == 0 { 0 } else { start + skipped * d - self.before };
        Taps { first, count, step: d, padded }
    }
}
