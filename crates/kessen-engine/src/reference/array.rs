//! Row-major arrays with subscripts, as the formulas write them.

use std::ops::{Index, IndexMut};

use kessen_tensor::{DType, Tensor};

use crate::Data;

/// Elements in row-major order under a shape: `x[[n, c, i, j]]`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Array<T = f64> {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Vec<T>,
}

impl<T: Copy + Default> Array<T> {
    /// All elements zero.
    pub fn zeros(shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), data: vec![T::default(); shape.iter().product()] }
    }
}

impl<T> Array<T> {
    /// The dimensions of an array of `R` dimensions. The graph's shape rules have checked the rank.
    pub fn dims<const R: usize>(&self) -> [usize; R] {
        std::array::from_fn(|i| self.shape[i])
    }

    /// The last dimension and the number of rows of that length: `[…, F]` seen as `[rows, F]`.
    pub fn rows(&self) -> [usize; 2] {
        let last = self.shape.last().copied().unwrap_or(1);
        [self.data.len().checked_div(last).unwrap_or(0), last]
    }

    fn offset<const R: usize>(&self, at: [usize; R]) -> usize {
        let mut offset = 0;
        for (i, n) in at.into_iter().zip(&self.shape) {
            debug_assert!(i < *n, "subscript {at:?} in an array of shape {:?}", self.shape);
            offset = offset * n + i;
        }
        offset
    }
}

impl<T, const R: usize> Index<[usize; R]> for Array<T> {
    type Output = T;

    fn index(&self, at: [usize; R]) -> &T {
        &self.data[self.offset(at)]
    }
}

impl<T, const R: usize> IndexMut<[usize; R]> for Array<T> {
    fn index_mut(&mut self, at: [usize; R]) -> &mut T {
        let offset = self.offset(at);
        &mut self.data[offset]
    }
}

/// Which element of an operand of shape `small` stands at element `i` of the shape `large` that it is broadcast to.
///
/// Shapes are aligned at the last dimension; a dimension of 1 (or a missing one) is repeated.
pub(super) fn broadcast_source(i: usize, large: &[usize], small: &[usize]) -> usize {
    let (mut rest, mut stride, mut source) = (i, 1, 0);
    for (n, m) in large.iter().rev().zip(small.iter().rev()) {
        if *m != 1 {
            source += rest % n * stride;
        }
        rest /= n;
        stride *= m;
    }
    source
}

/// What flows along a wire.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Real numbers.
    Real(Array<f64>),
    /// Class labels, token ids: whole numbers, kept exactly.
    Ids(Array<i64>),
}

impl Value {
    /// Zeros of the kind that `dtype` stands for.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Self {
        if dtype.is_float() { Self::Real(Array::zeros(shape)) } else { Self::Ids(Array::zeros(shape)) }
    }

    /// The elements of a tensor.
    pub fn from_tensor(tensor: &Tensor) -> Self {
        let shape = tensor.shape().to_vec();
        match tensor.as_slice::<i64>() {
            Ok(ids) => Self::Ids(Array { shape, data: ids.to_vec() }),
            Err(_) if tensor.dtype().is_float() => Self::Real(Array { shape, data: tensor.to_f64_vec() }),
            // i32, u8 and bool are exact in f64.
            Err(_) => {
                Self::Ids(Array { shape, data: tensor.to_f64_vec().into_iter().map(|v| v as i64).collect() })
            }
        }
    }

    /// Dimensions.
    pub fn shape(&self) -> &[usize] {
        match self {
            Self::Real(a) => &a.shape,
            Self::Ids(a) => &a.shape,
        }
    }

    /// Sets every element to zero.
    pub fn clear(&mut self) {
        match self {
            Self::Real(a) => a.data.fill(0.0),
            Self::Ids(a) => a.data.fill(0),
        }
    }

    /// Rounds real numbers to single precision: what parameters are kept in between runs, as files keep them, so that
    /// a run that goes on from a file equals one that was never interrupted.
    pub fn round_to_f32(&mut self) {
        if let Self::Real(a) = self {
            a.data.iter_mut().for_each(|v| *v = f64::from(*v as f32));
        }
    }

    /// Whether no element is infinite or NaN.
    pub fn is_finite(&self) -> bool {
        match self {
            Self::Real(a) => a.data.iter().all(|v| v.is_finite()),
            Self::Ids(_) => true,
        }
    }

    /// The elements.
    pub fn data(&self) -> Data<'_> {
        match self {
            Self::Real(a) => Data::F64(&a.data),
            Self::Ids(a) => Data::I64(&a.data),
        }
    }

    /// Takes the elements of `data`; `false` where they are of another kind or number.
    pub fn write(&mut self, data: Data<'_>) -> bool {
        if data.len() != self.data().len() {
            return false;
        }
        match (self, data) {
            (Self::Real(a), Data::F32(d)) => {
                a.data.iter_mut().zip(d).for_each(|(a, d)| *a = f64::from(*d));
            }
            (Self::Real(a), Data::F64(d)) => a.data.copy_from_slice(d),
            (Self::Ids(a), Data::I64(d)) => a.data.copy_from_slice(d),
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subscripts_are_row_major() {
        let mut a = Array::<f64>::zeros(&[2, 3, 4]);
        a[[1, 2, 3]] = 5.0;
        assert_eq!(a.data.iter().position(|&v| v == 5.0), Some(23));
        assert_eq!(a.rows(), [6, 4]);
    }

    #[test]
    fn broadcasting_repeats_ones_and_missing_dimensions() {
        let large = [2, 3, 4];
        let cases: [(&[usize], usize); 5] =
            [(&[2, 3, 4], 23), (&[3, 1], 2), (&[4], 3), (&[], 0), (&[2, 1, 4], 7)];
        for (small, expected) in cases {
            assert_eq!(broadcast_source(23, &large, small), expected, "{small:?}");
        }
    }
}
