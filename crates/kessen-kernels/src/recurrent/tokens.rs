//! Layers whose inputs are rows of a table: the product with the input weights is made once for the table instead of
//! once for every place where a row occurs.
//!
//! Worth it where neither table nor weights change and more rows are looked up than the table has.

use super::forward::{Outputs, Sums};
use super::{Recurrent, States, Weights};
use crate::epilogue::Epilogue;
use crate::gemm::Gemm;
use crate::{Error, Indices};

impl Recurrent {
    fn table_product(&self, rows: usize) -> Gemm {
        Gemm::new(rows, self.columns(), self.inputs)
    }

    /// Elements of the product of a table of `rows` rows.
    pub fn projected_len(&self, rows: usize) -> usize {
        rows * self.columns()
    }

    /// Number of elements of scratch that [`Recurrent::project`] needs.
    pub fn project_scratch(&self, rows: usize) -> usize {
        self.columns() + self.padded() + self.table_product(rows).packed_scratch()
    }

    /// The gates' sums of each row of `table`, `[rows, D]`: W_ih·x + b_ih + b_hh (a GRU's n without b_hn).
    ///
    /// # Panics
    /// If a slice's length does not fit.
    pub fn project(
        &self,
        table: &[f32],
        rows: usize,
        weights: &Weights<'_>,
        projected: &mut [f32],
        scratch: &mut [f32],
    ) {
        assert!(table.len() == rows * self.inputs, "recurrent: table");
        assert!(projected.len() == self.projected_len(rows), "recurrent: projected table");
        let (bias, scratch) = scratch.split_at_mut(self.columns());
        let (bias_n, scratch) = scratch.split_at_mut(self.padded());
        self.merge_biases(weights, bias, bias_n);
        let epilogue = Epilogue::store().bias(bias);
        self.table_product(rows).run_packed(table, weights.input, projected, &epilogue, scratch);
    }

    /// [`Recurrent::forward`] on the rows `ids`, one for each of the layer's rows, of a table that
    /// [`Recurrent::project`] has multiplied.
    ///
    /// # Errors
    /// A length is larger than `T`, or an id is no row of the table.
    ///
    /// # Panics
    /// If a slice's length does not fit.
    pub fn forward_tokens(
        &self,
        ids: Indices<'_>,
        projected: &[f32],
        weights: &Weights<'_>,
        start: States<'_>,
        lengths: Option<Indices<'_>>,
        out: &mut Outputs<'_>,
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        assert!(ids.len() == self.batch * self.time, "recurrent: ids");
        let rows = projected.len() / self.columns().max(1);
        if let Some(place) = (0..ids.len()).find(|&i| ids.get(i) < 0 || ids.get(i) as usize >= rows) {
            let found = ids.show(place);
            return Err(Error::Descriptor(format!(
                "id {found} at place {place} is no row of a table of {rows}"
            )));
        }
        let sums = Sums::Table(projected, ids);
        self.run(weights, start, lengths, sums, out, scratch, |_, _, _, _, _, _| {})
    }
}
