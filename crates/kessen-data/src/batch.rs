//! The memory of one mini-batch, filled again and again.

use kessen_tensor::{DType, Tensor};

use crate::{Error, Field, Result, Slot};

/// Room for `capacity` samples and the samples in it; made by [`Loader::batch`](crate::Loader::batch).
#[derive(Debug, Clone)]
pub struct Batch {
    pub(crate) fields: Vec<Field>,
    pub(crate) tensors: Vec<Tensor>,
    pub(crate) capacity: usize,
    pub(crate) rows: Vec<usize>,
    pub(crate) epoch: u64,
    pub(crate) step: usize,
}

impl Batch {
    pub(crate) fn new(fields: &[Field], capacity: usize) -> Result<Self> {
        let tensors = fields
            .iter()
            .map(|f| Tensor::zeros(f.dtype, &[&[capacity], &f.shape[..]].concat()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            fields: fields.to_vec(),
            tensors,
            capacity,
            rows: Vec::with_capacity(capacity),
            epoch: 0,
            step: 0,
        })
    }

    /// Samples in the batch; fewer than its capacity only in an epoch's last, partial batch.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing was filled in yet.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Samples that fit.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The epoch that it was filled for, from 0.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The step within the epoch, from 0.
    pub fn step(&self) -> usize {
        self.step
    }

    /// The samples' indices in the data set, in the batch's order.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// The fields, input first.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The numbers of the f32 field `name`, `len()` samples row by row.
    ///
    /// # Errors
    /// [`Error::Unknown`] for another name, [`Error::Tensor`] where the field holds integers.
    pub fn f32(&self, name: &str) -> Result<&[f32]> {
        let i = self.index(name)?;
        Ok(&self.tensors[i].as_slice::<f32>()?[..self.len() * self.fields[i].len()])
    }

    /// The numbers of the i64 field `name`, `len()` samples row by row.
    ///
    /// # Errors
    /// [`Error::Unknown`] for another name, [`Error::Tensor`] where the field holds real numbers.
    pub fn i64(&self, name: &str) -> Result<&[i64]> {
        let i = self.index(name)?;
        Ok(&self.tensors[i].as_slice::<i64>()?[..self.len() * self.fields[i].len()])
    }

    /// A copy of the field `name` as a tensor of shape \[`len()`, …\].
    ///
    /// # Errors
    /// [`Error::Unknown`] for another name.
    pub fn tensor(&self, name: &str) -> Result<Tensor> {
        let i = self.index(name)?;
        let field = &self.fields[i];
        let shape = [&[self.len()], &field.shape[..]].concat();
        let bytes = self.len() * field.len() * field.dtype.size();
        Ok(Tensor::from_bytes(field.dtype, &shape, &self.tensors[i].bytes()[..bytes])?)
    }

    /// The memory of sample `row` of the batch in field `field`.
    pub(crate) fn slot(&mut self, field: usize, row: usize) -> Result<Slot<'_>> {
        let n = self.fields[field].len();
        let range = row * n..(row + 1) * n;
        let tensor = &mut self.tensors[field];
        Ok(match self.fields[field].dtype {
            DType::I64 => Slot::I64(&mut tensor.as_slice_mut::<i64>()?[range]),
            _ => Slot::F32(&mut tensor.as_slice_mut::<f32>()?[range]),
        })
    }

    fn index(&self, name: &str) -> Result<usize> {
        let names = || self.fields.iter().map(|f| f.name.as_str());
        names().position(|n| n == name).ok_or_else(|| Error::unknown("field", name, names()))
    }
}
