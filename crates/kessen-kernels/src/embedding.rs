//! Looking rows up in a table, and adding gradients back to them.

use crate::threads::{Shared, parallel_chunks};
use crate::{Error, Indices};

/// Elements of one task.
const GRAIN: usize = 16 * 1024;
/// Columns of one task of the backward pass.
const COLUMNS: usize = 64;

/// A table of `rows` vectors of `width` elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding {
    /// Number of vectors.
    pub rows: usize,
    /// Elements of a vector.
    pub width: usize,
    /// The row that receives no gradient.
    pub padding: Option<usize>,
}

impl Embedding {
    /// `y[i] = table[indices[i]]`, with `y` of `[indices, width]`.
    ///
    /// # Errors
    /// An index is not below `rows`; `y` is untouched then.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn forward(&self, table: &[f32], indices: Indices<'_>, y: &mut [f32]) -> Result<(), Error> {
        let (n, w) = (indices.len(), self.width);
        assert!(table.len() == self.rows * w && y.len() == n * w, "embedding: lengths don't fit");
        self.check(indices)?;
        let out = Shared::new(y);
        parallel_chunks(n, (GRAIN / w.max(1)).max(1), |places| {
            for i in places {
                let row = indices.get(i) as usize;
                // SAFETY: each place has its own vector.
                let y = unsafe { out.part(i * w..(i + 1) * w) };
                y.copy_from_slice(&table[row * w..(row + 1) * w]);
            }
        });
        Ok(())
    }

    /// `dtable[indices[i]] += dy[i]` in the order of `i`, after clearing `dtable` unless `accumulate`. Tasks share the
    /// columns, so the order never changes.
    ///
    /// # Errors
    /// An index is not below `rows`.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor.
    pub fn backward(
        &self,
        indices: Indices<'_>,
        dy: &[f32],
        dtable: &mut [f32],
        accumulate: bool,
    ) -> Result<(), Error> {
        let (n, w) = (indices.len(), self.width);
        assert!(dtable.len() == self.rows * w && dy.len() == n * w, "embedding: lengths don't fit");
        self.check(indices)?;
        if !accumulate {
            crate::elementwise::fill(0.0, dtable);
        }
        let out = Shared::new(dtable);
        let columns = if n * w < GRAIN { w.max(1) } else { COLUMNS };
        parallel_chunks(w, columns, |columns| {
            for i in 0..n {
                let row = indices.get(i) as usize;
                if Some(row) == self.padding {
                    continue;
                }
                // SAFETY: tasks have disjoint columns.
                let d = unsafe { out.part(row * w + columns.start..row * w + columns.end) };
                let dy = &dy[i * w + columns.start..i * w + columns.end];
                d.iter_mut().zip(dy).for_each(|(d, &g)| *d += g);
            }
        });
        Ok(())
    }

    fn check(&self, indices: Indices<'_>) -> Result<(), Error> {
        for place in 0..indices.len() {
            let row = indices.get(place);
            if row < 0 || row as usize >= self.rows {
                return Err(Error::Row { place, found: indices.show(place), rows: self.rows });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Guarded, assert_close, everywhere, numbers, wide};

    #[test]
    fn rows_are_fetched_and_gradients_added_in_order() {
        for (rows, width, n) in [(1, 1, 1), (5, 3, 7), (100, 65, 33), (50, 200, 500)] {
            let e = Embedding { rows, width, padding: Some(2) };
            let (table, dy) = (numbers(1, rows * width), numbers(2, n * width));
            let indices: Vec<i64> = (0..n).map(|i| (i * i % rows) as i64).collect();
            let floats: Vec<f32> = indices.iter().map(|&i| i as f32).collect();
            let mut want_y = Vec::new();
            let mut want = vec![0.0; rows * width];
            for (i, &row) in indices.iter().enumerate() {
                for c in 0..width {
                    want_y.push(f64::from(table[row as usize * width + c]));
                    if row != 2 {
                        want[row as usize * width + c] += dy[i * width + c];
                    }
                }
            }
            let run = || {
                let (mut y, mut d) = (Guarded::new(n * width), Guarded::new(rows * width));
                e.forward(&table, Indices::I64(&indices), y.slice()).unwrap();
                e.backward(Indices::F32(&floats), &dy, d.slice(), false).unwrap();
                let once = d.slice().to_vec();
                e.backward(Indices::I64(&indices), &dy, d.slice(), true).unwrap();
                vec![y.done(), once, d.done()]
            };
            let twice: Vec<f64> = want.iter().map(|&d| 2.0 * f64::from(d)).collect();
            everywhere(run, |isa, got| {
                assert_close(&format!("forward on {isa}"), &got[0], &want_y, 0.0, 0.0);
                assert_close(&format!("backward on {isa}"), &got[1], &wide(&want), 0.0, 0.0);
                assert_close(&format!("accumulated on {isa}"), &got[2], &twice, 1e-5, 1e-6);
            });
        }
    }

    #[test]
    fn an_index_out_of_range_is_named() {
        let e = Embedding { rows: 4, width: 1, padding: None };
        for (indices, found) in [
            (Indices::I64(&[0, 4]), "is 4"),
            (Indices::I64(&[0, -1]), "is -1"),
            (Indices::F32(&[0.0, 0.5]), "is 0.5"),
            (Indices::F32(&[0.0, f32::NAN]), "is NaN"),
        ] {
            let error = e.forward(&[0.0; 4], indices, &mut [0.0; 2]).unwrap_err().to_string();
            assert!(
                error.contains("place 1") && error.contains(found) && error.contains("4 rows"),
                "{error}"
            );
            assert!(e.backward(indices, &[0.0; 2], &mut [0.0; 4], false).is_err());
        }
    }
}
