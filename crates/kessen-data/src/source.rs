//! Where samples come from: the one trait that a data set implements, and the one in memory.

use kessen_tensor::{DType, Tensor, element_count};

use crate::{Error, Result};

/// One named part of a sample: `image` f32 \[C, H, W\], `x` f32 \[F\], `target` i64 \[\].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// The name; the graph's input or target of the same name is fed from it.
    pub name: String,
    /// The shape of one sample's part; empty for a single number.
    pub shape: Vec<usize>,
    /// [`DType::F32`] or [`DType::I64`].
    pub dtype: DType,
}

impl Field {
    /// A field of real numbers.
    pub fn f32(name: &str, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), dtype: DType::F32 }
    }

    /// A field of integers: a class, token ids.
    pub fn i64(name: &str, shape: &[usize]) -> Self {
        Self { name: name.to_owned(), shape: shape.to_vec(), dtype: DType::I64 }
    }

    /// Numbers in one sample's part.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether one sample's part holds no number.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The memory that one sample's part of one field is written to.
#[derive(Debug)]
pub enum Slot<'a> {
    /// For a field of type [`DType::F32`].
    F32(&'a mut [f32]),
    /// For a field of type [`DType::I64`].
    I64(&'a mut [i64]),
}

impl Slot<'_> {
    /// Numbers that fit.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(out) => out.len(),
            Self::I64(out) => out.len(),
        }
    }

    /// Whether no number fits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A data set's samples, in memory or decoded when read.
///
/// The first field is the input, which standardisation and augmentation work on; a field named `target` is what is
/// to be learned. Everything else (order, batches, threads, randomness) is the [`Loader`](crate::Loader)'s.
///
/// ```
/// use kessen_data::{Dataset, Field, Result, Slot, Source};
///
/// /// Counts: x = i, target = i².
/// struct Squares(Vec<Field>);
///
/// impl Source for Squares {
///     fn len(&self) -> usize {
///         10
///     }
///     fn fields(&self) -> &[Field] {
///         &self.0
///     }
///     fn read(&self, sample: usize, field: usize, out: Slot<'_>) -> Result<()> {
///         if let Slot::F32(out) = out {
///             out[0] = if field == 0 { sample as f32 } else { (sample * sample) as f32 };
///         }
///         Ok(())
///     }
/// }
///
/// let set = Dataset::new(Squares(vec![Field::f32("x", &[1]), Field::f32("target", &[1])]))?;
/// assert_eq!(set.sample(3)?[1].1.as_slice::<f32>()?, [9.0]);
/// # Ok::<(), kessen_data::Error>(())
/// ```
pub trait Source: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;

    /// Whether there is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts of each sample, input first.
    fn fields(&self) -> &[Field];

    /// Writes part `field` of sample `sample` to `out`, whose type and length are the field's.
    ///
    /// The same arguments always write the same numbers, from any thread.
    ///
    /// # Errors
    /// What made the sample unreadable, such as a corrupt image file.
    fn read(&self, sample: usize, field: usize, out: Slot<'_>) -> Result<()>;
}

/// Samples in memory: per field one tensor whose first dimension counts the samples.
pub(crate) struct Memory {
    fields: Vec<Field>,
    columns: Vec<Tensor>,
    /// Factor on `u8` elements: bytes are kept as bytes and become real numbers when read.
    byte_scale: f32,
    len: usize,
}

impl Memory {
    pub(crate) fn new(parts: Vec<(String, Tensor)>, byte_scale: f32) -> Result<Self> {
        let len = match parts.first() {
            Some((_, t)) => t.shape().first().copied().unwrap_or(0),
            None => 0,
        };
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for (name, tensor) in parts {
            if tensor.shape().first() != Some(&len) {
                return Err(Error::mismatch(
                    format!("field `{name}`"),
                    format!("shape {:?}", tensor.shape()),
                    format!("a first dimension of {len}, the number of samples"),
                ));
            }
            let (tensor, dtype) = match tensor.dtype() {
                DType::U8 | DType::F32 => (tensor, DType::F32),
                DType::I64 => (tensor, DType::I64),
                DType::F64 => (tensor.cast(DType::F32)?, DType::F32),
                DType::I32 => (tensor.cast(DType::I64)?, DType::I64),
                other => {
                    return Err(Error::mismatch(format!("field `{name}`"), other.name(), "u8, f32 or i64"));
                }
            };
            let shape = tensor.shape()[1..].to_vec();
            element_count(&shape)?;
            fields.push(Field { name, shape, dtype });
            columns.push(tensor);
        }
        Ok(Self { fields, columns, byte_scale, len })
    }
}

impl Source for Memory {
    fn len(&self) -> usize {
        self.len
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, sample: usize, field: usize, out: Slot<'_>) -> Result<()> {
        let (column, n) = (&self.columns[field], self.fields[field].len());
        let range = sample * n..(sample + 1) * n;
        match out {
            Slot::I64(out) => out.copy_from_slice(&column.as_slice::<i64>()?[range]),
            Slot::F32(out) if column.dtype() == DType::U8 => {
                for (out, &byte) in out.iter_mut().zip(&column.as_slice::<u8>()?[range]) {
                    *out = f32::from(byte) * self.byte_scale;
                }
            }
            Slot::F32(out) => out.copy_from_slice(&column.as_slice::<f32>()?[range]),
        }
        Ok(())
    }
}
