//! A contiguous row-major array.

use crate::{Buffer, DType, Element, Error, Result};

/// Number of elements of `shape`; 1 for a scalar.
///
/// # Errors
/// [`Error::TooLarge`] where eight bytes per element would exceed `isize::MAX`, so that no size computed from it
/// can overflow.
pub fn element_count(shape: &[usize]) -> Result<usize> {
    let count =
        if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) };
    count.filter(|&n| n <= isize::MAX as usize / 8).ok_or_else(|| Error::TooLarge { shape: shape.to_vec() })
}

/// Strides in elements of a contiguous row-major array.
pub fn row_major_strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; shape.len()];
    for i in (1..shape.len()).rev() {
        strides[i - 1] = strides[i] * shape[i].max(1);
    }
    strides
}

/// Owned contiguous row-major array of one element type.
#[derive(Debug, Clone)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<usize>,
    buffer: Buffer,
}

impl Tensor {
    /// All elements zero.
    ///
    /// # Errors
    /// [`Error::TooLarge`] where the shape does not fit the address space.
    pub fn zeros(dtype: DType, shape: &[usize]) -> Result<Self> {
        let count = element_count(shape)?;
        Ok(Self { dtype, shape: shape.to_vec(), buffer: Buffer::zeroed(count * dtype.size()) })
    }

    /// Copies `data`, row by row, into a tensor of `shape`.
    ///
    /// # Errors
    /// [`Error::Length`] where `data` does not fill `shape` exactly.
    pub fn from_slice<T: Element>(shape: &[usize], data: &[T]) -> Result<Self> {
        let expected = element_count(shape)?;
        if expected != data.len() {
            return Err(Error::Length { shape: shape.to_vec(), expected, found: data.len() });
        }
        let mut tensor = Self::zeros(T::DTYPE, shape)?;
        tensor.buffer.bytes_mut().copy_from_slice(bytemuck::cast_slice(data));
        Ok(tensor)
    }

    /// As [`Tensor::from_slice`], from a vector.
    ///
    /// # Errors
    /// [`Error::Length`] where `data` does not fill `shape` exactly.
    pub fn from_vec<T: Element>(shape: &[usize], data: Vec<T>) -> Result<Self> {
        Self::from_slice(shape, &data)
    }

    /// A tensor of any element type from its little-endian bytes.
    ///
    /// # Errors
    /// [`Error::Length`] (in bytes) where `bytes` does not fill `shape` exactly.
    pub fn from_bytes(dtype: DType, shape: &[usize], bytes: &[u8]) -> Result<Self> {
        let expected = element_count(shape)? * dtype.size();
        if expected != bytes.len() {
            return Err(Error::Length { shape: shape.to_vec(), expected, found: bytes.len() });
        }
        let mut tensor = Self::zeros(dtype, shape)?;
        tensor.buffer.bytes_mut().copy_from_slice(bytes);
        Ok(tensor)
    }

    /// A tensor without dimensions.
    pub fn scalar<T: Element>(value: T) -> Self {
        let mut buffer = Buffer::zeroed(size_of::<T>());
        buffer.bytes_mut().copy_from_slice(bytemuck::bytes_of(&value));
        Self { dtype: T::DTYPE, shape: Vec::new(), buffer }
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Dimensions, outermost first.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        self.buffer.len() / self.dtype.size()
    }

    /// Whether there is no element.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The elements, row by row.
    ///
    /// # Errors
    /// [`Error::DType`] where the tensor holds another type.
    pub fn as_slice<T: Element>(&self) -> Result<&[T]> {
        self.expect_dtype(T::DTYPE)?;
        Ok(bytemuck::cast_slice(self.buffer.bytes()))
    }

    /// The elements, row by row, to write.
    ///
    /// # Errors
    /// [`Error::DType`] where the tensor holds another type.
    pub fn as_slice_mut<T: Element>(&mut self) -> Result<&mut [T]> {
        self.expect_dtype(T::DTYPE)?;
        Ok(bytemuck::cast_slice_mut(self.buffer.bytes_mut()))
    }

    /// The elements' bytes, little-endian on every supported machine.
    pub fn bytes(&self) -> &[u8] {
        self.buffer.bytes()
    }

    /// The elements' bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.buffer.bytes_mut()
    }

    /// The same elements under another shape.
    ///
    /// # Errors
    /// [`Error::Length`] where the number of elements differs.
    pub fn reshaped(mut self, shape: &[usize]) -> Result<Self> {
        let expected = element_count(shape)?;
        if expected != self.len() {
            return Err(Error::Length { shape: shape.to_vec(), expected, found: self.len() });
        }
        self.shape = shape.to_vec();
        Ok(self)
    }

    /// Each element as `f64`; `f16` and `bf16` are widened exactly.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        fn wide<T: Element>(bytes: &[u8], f: impl Fn(T) -> f64) -> Vec<f64> {
            bytemuck::cast_slice::<u8, T>(bytes).iter().map(|&v| f(v)).collect()
        }
        let b = self.buffer.bytes();
        let half = |convert: fn(u16) -> f64| {
            bytemuck::cast_slice::<u8, u16>(b).iter().map(|&v| convert(v)).collect()
        };
        match self.dtype {
            DType::F32 => wide::<f32>(b, f64::from),
            DType::F64 => wide::<f64>(b, |v| v),
            DType::I64 => wide::<i64>(b, |v| v as f64),
            DType::I32 => wide::<i32>(b, f64::from),
            DType::U8 | DType::Bool => wide::<u8>(b, f64::from),
            DType::F16 => half(f16_to_f64),
            DType::Bf16 => half(|v| f64::from(f32::from_bits(u32::from(v) << 16))),
        }
    }

    /// A copy with every element converted to `f32`, `f64`, `i64`, `i32`, `u8` or `bool` (not zero).
    ///
    /// Floats become integers as by Rust's `as`: towards zero, saturating, NaN to 0.
    ///
    /// # Errors
    /// [`Error::DType`] for the target types `f16` and `bf16`, which are only read, never computed with.
    pub fn cast(&self, dtype: DType) -> Result<Self> {
        if dtype == self.dtype {
            return Ok(self.clone());
        }
        if let (DType::I64, DType::I32) = (self.dtype, dtype) {
            let narrow: Vec<i32> = self.as_slice::<i64>()?.iter().map(|&v| v as i32).collect();
            return Self::from_vec(&self.shape, narrow);
        }
        let values = self.to_f64_vec();
        match dtype {
            DType::F32 => Self::from_vec(&self.shape, values.iter().map(|&v| v as f32).collect()),
            DType::F64 => Self::from_vec(&self.shape, values),
            DType::I64 => Self::from_vec(&self.shape, values.iter().map(|&v| v as i64).collect()),
            DType::I32 => Self::from_vec(&self.shape, values.iter().map(|&v| v as i32).collect()),
            DType::U8 => Self::from_vec(&self.shape, values.iter().map(|&v| v as u8).collect()),
            DType::Bool => {
                let bits: Vec<u8> = values.iter().map(|&v| u8::from(v != 0.0)).collect();
                Self::from_bytes(DType::Bool, &self.shape, &bits)
            }
            DType::F16 | DType::Bf16 => Err(Error::DType { expected: dtype, found: self.dtype }),
        }
    }

    fn expect_dtype(&self, expected: DType) -> Result<()> {
        // A bool is read and written as its byte.
        let found = if self.dtype == DType::Bool && expected == DType::U8 { DType::U8 } else { self.dtype };
        if found == expected { Ok(()) } else { Err(Error::DType { expected, found }) }
    }
}

/// Equal element types, shapes and bits: `NaN` equals the same `NaN`, and `0.0` differs from `-0.0`.
impl PartialEq for Tensor {
    fn eq(&self, other: &Self) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

/// IEEE 754 binary16: 1 sign, 5 exponent (bias 15), 10 fraction bits.
fn f16_to_f64(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        e => (1.0 + fraction / 1024.0) * 2f64.powi(e - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_that_does_not_fill_the_shape_is_refused() {
        let error = Tensor::from_vec(&[2, 3], vec![1.0f32; 5]).unwrap_err();
        assert_eq!(error, Error::Length { shape: vec![2, 3], expected: 6, found: 5 });
    }

    #[test]
    fn sizes_near_the_address_space_are_refused_and_zero_dimensions_are_not() {
        assert!(matches!(Tensor::zeros(DType::F32, &[usize::MAX, 2]), Err(Error::TooLarge { .. })));
        assert!(matches!(element_count(&[1 << 62]), Err(Error::TooLarge { .. })));
        assert_eq!(Tensor::zeros(DType::F32, &[usize::MAX, 0]).unwrap().len(), 0);
    }

    #[test]
    fn half_precision_widens_exactly() {
        let bits: [u16; 7] = [0x3c00, 0xc000, 0x0001, 0x7bff, 0x7c00, 0x8000, 0x3555];
        let t = Tensor::from_bytes(DType::F16, &[7], bytemuck::cast_slice(&bits)).unwrap();
        let expected = [1.0, -2.0, 2f64.powi(-24), 65504.0, f64::INFINITY, -0.0, 0.333_251_953_125];
        assert_eq!(t.to_f64_vec(), expected);
    }

    #[test]
    fn casts_keep_shape_and_saturate() {
        let t = Tensor::from_vec(&[3], vec![-1.5f32, 300.0, f32::NAN]).unwrap();
        assert_eq!(t.cast(DType::U8).unwrap().as_slice::<u8>().unwrap(), [0, 255, 0]);
        assert_eq!(t.cast(DType::I64).unwrap().as_slice::<i64>().unwrap(), [-1, 300, 0]);
        assert!(t.cast(DType::F16).is_err());
    }
}
