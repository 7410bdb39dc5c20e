//! Walking several dimensions in row-major order on both sides of a copy.

use super::MAX_RANK;

/// One dimension: its size and its strides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Dim {
    pub size: usize,
    pub source: usize,
    pub target: usize,
}

/// A combination of indices and its offsets.
pub(super) struct Odometer {
    index: [usize; MAX_RANK],
    pub source: usize,
    pub target: usize,
}

impl Odometer {
    /// Combination number `i`.
    pub fn new(dims: &[Dim], mut i: usize) -> Self {
        let mut o = Odometer { index: [0; MAX_RANK], source: 0, target: 0 };
        for (d, dim) in dims.iter().enumerate().rev() {
            o.index[d] = i % dim.size;
            o.source += o.index[d] * dim.source;
            o.target += o.index[d] * dim.target;
            i /= dim.size;
        }
        o
    }

    /// The next combination; the first one after the last.
    pub fn advance(&mut self, dims: &[Dim]) {
        for (d, dim) in dims.iter().enumerate().rev() {
            self.index[d] += 1;
            self.source += dim.source;
            self.target += dim.target;
            if self.index[d] < dim.size {
                return;
            }
            self.index[d] = 0;
            self.source -= dim.size * dim.source;
            self.target -= dim.size * dim.target;
        }
    }
}
