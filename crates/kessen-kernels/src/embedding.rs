//! Looking rows up in a table, and adding gradients back to them.

use crate::isa::Isa;
use crate::optim::Pieces;
use crate::prefetch::prefetch;
use crate::simd::{Float, LANES, Simd, kernel};
use crate::threads::{self, Shared, parallel_chunks};
use crate::{Error, Indices};

/// Elements of one task; a part of a gradient of that size lies in a core's own cache.
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

    /// Integers of scratch for [`Self::update`] with that many indices.
    pub fn update_places(&self, indices: usize) -> usize {
        self.rows + indices
    }

    /// Floats of scratch for [`Self::update`].
    pub fn update_scratch(&self) -> usize {
        threads::count() * self.part_rows() * self.width
    }

    fn part_rows(&self) -> usize {
        (GRAIN / self.width.max(1)).max(1)
    }

    /// The gradient of [`Self::backward`] and an optimiser's step with it in one pass: some rows of the gradient at a
    /// time update their rows of the table and are forgotten. The same bits as the two passes; where a gradient of 0
    /// changes nothing, only rows that occur in `indices` are touched.
    ///
    /// # Errors
    /// An index is not below `rows`; nothing is updated then.
    ///
    /// # Panics
    /// If the lengths don't fit the descriptor, or a scratch is too short.
    pub fn update(
        &self,
        indices: Indices<'_>,
        dy: &[f32],
        target: &Pieces<'_>,
        places: &mut [i64],
        scratch: &mut [f32],
    ) -> Result<(), Error> {
        let (n, w) = (indices.len(), self.width);
        assert!(target.len() == self.rows * w && dy.len() == n * w, "embedding: lengths don't fit");
        let wanted = [self.update_places(n), self.update_scratch()];
        assert!(places.len() >= wanted[0], "embedding: {} places, {} needed", places.len(), wanted[0]);
        assert!(scratch.len() >= wanted[1], "embedding: scratch of {} floats", scratch.len());
        self.check(indices)?;
        scratch[..wanted[1]].fill(0.0);
        let (all, each) = (!target.skips_zeros(), self.part_rows() * w);
        let step = if all { self.part_rows() } else { 1 };
        let (gradient, scratch) = (Gradient::new(self, indices, dy, step, places), Shared::new(scratch));
        let parts = self.rows.div_ceil(step);
        parallel_chunks(parts, (GRAIN / w.max(1)).div_ceil(step).max(1), |parts| {
            let at = threads::worker() * each;
            // SAFETY: each worker has its own part of a gradient.
            let own = unsafe { scratch.part(at..at + each) };
            for part in parts {
                let rows = part * step..((part + 1) * step).min(self.rows);
                if all || gradient.touches(part) {
                    let g = &mut own[..rows.len() * w];
                    gradient.add(part, g);
                    gradient.ask(part + 1, target);
                    // SAFETY: tasks' rows are disjoint.
                    unsafe { target.update(rows.start * w, g) }
                    gradient.clear(part, g);
                }
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

/// The gradient of a table in parts of `step` rows: for each part the places at which its rows' indices occur, in order.
/// `first` has the first one, and `next` behind each place the next one; the number of places ends a list.
struct Gradient<'a> {
    first: &'a [i64],
    next: &'a [i64],
    step: usize,
    indices: Indices<'a>,
    dy: &'a [f32],
    width: usize,
    isa: Isa,
}

impl<'a> Gradient<'a> {
    /// That of all rows but the padding's; the lists are made in the scratch `places`.
    fn new(
        table: &Embedding,
        indices: Indices<'a>,
        dy: &'a [f32],
        step: usize,
        places: &'a mut [i64],
    ) -> Self {
        let n = indices.len();
        let (first, next) = places.split_at_mut(table.rows);
        let first = &mut first[..table.rows.div_ceil(step)];
        first.fill(n as i64);
        for place in (0..n).rev() {
            let row = indices.get(place) as usize;
            if Some(row) != table.padding {
                next[place] = std::mem::replace(&mut first[row / step], place as i64);
            }
        }
        Self { first, next: &next[..n], step, indices, dy, width: table.width, isa: Isa::active() }
    }

    /// Whether a row of the part occurs.
    fn touches(&self, part: usize) -> bool {
        self.places(part).next().is_some()
    }

    /// The places of the part's rows, ascending; none behind the last part.
    fn places(&self, part: usize) -> impl Iterator<Item = usize> {
        let inside = |&place: &usize| place < self.next.len();
        let first = self.first.get(part).map(|&place| place as usize).filter(inside);
        std::iter::successors(first, move |&place| Some(self.next[place] as usize).filter(inside))
    }

    /// What is added at a place.
    fn term(&self, place: usize) -> &'a [f32] {
        &self.dy[place * self.width..(place + 1) * self.width]
    }

    /// The row of the part's gradient `g` to which a place belongs.
    fn row<'g>(&self, place: usize, g: &'g mut [f32]) -> &'g mut [f32] {
        let row = self.indices.get(place) as usize % self.step;
        &mut g[row * self.width..(row + 1) * self.width]
    }

    /// Adds the part's gradient to `g`.
    fn add(&self, part: usize, g: &mut [f32]) {
        self.places(part).for_each(|place| add(self.isa, self.term(place), self.row(place, g)));
    }

    /// Asks for what the part's gradient is made of, and for the rows of the table that it changes: they lie anywhere, where
    /// the hardware does not look ahead.
    fn ask(&self, part: usize, target: &Pieces<'_>) {
        for place in self.places(part) {
            prefetch(self.term(place).as_ptr(), self.width);
            target.ask(self.indices.get(place) as usize * self.width, self.width);
        }
    }

    /// Sets to 0 what [`Self::add`] has changed.
    fn clear(&self, part: usize, g: &mut [f32]) {
        self.places(part).for_each(|place| self.row(place, g).fill(0.0));
    }
}

kernel! {
    fn add(x: &[f32], y: &mut [f32]) = add_with;
}

/// y += x.
#[inline(always)]
fn add_with<S: Simd>(s: S, x: &[f32], y: &mut [f32]) {
    for (y, x) in y.chunks_mut(LANES).zip(x.chunks(LANES)) {
        (s.load_part(y) + s.load_part(x)).store_part(y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::optim::{Adam, Common, RmsProp, Sgd};
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

    /// The step of an optimiser under way on a table with three states.
    type Begin = for<'a> fn(&'a mut [f32], [&'a mut [f32]; 3]) -> Pieces<'a>;

    const DESCENT: Sgd =
        Sgd { lr: 0.1, momentum: 0.0, dampening: 0.0, weight_decay: 0.0, nesterov: false, first: false };

    const RULES: [(&str, Begin); 7] = [
        ("sgd", |p, _| DESCENT.pieces(p, &mut [], Common { clip: 0.4, ..Common::default() })),
        ("sgd with decay", |p, _| Sgd { weight_decay: 0.1, ..DESCENT }.pieces(p, &mut [], Common::default())),
        ("sgd with average", |p, [a, ..]| {
            DESCENT.pieces(p, &mut [], Common { average: Some((a, 0.9)), ..Common::default() })
        }),
        ("momentum", |p, [v, ..]| {
            Sgd { momentum: 0.9, dampening: 0.1, ..DESCENT }.pieces(p, v, Common::default())
        }),
        ("nesterov", |p, [v, ..]| {
            let common = Common { grad_scale: 0.5, ..Common::default() };
            Sgd { momentum: 0.9, nesterov: true, ..DESCENT }.pieces(p, v, common)
        }),
        ("adam", |p, [m, v, _]| {
            let (lr, decoupled, step) = (0.1, false, 3);
            let o = Adam { lr, beta1: 0.9, beta2: 0.99, eps: 1e-6, weight_decay: 0.0, decoupled, step };
            o.pieces(p, m, v, Common::default())
        }),
        ("rmsprop", |p, [v, a, b]| {
            let (momentum, centered) = (0.9, true);
            let o = RmsProp { lr: 0.1, alpha: 0.9, eps: 1e-3, weight_decay: 0.01, momentum, centered };
            o.pieces(p, v, a, b, Common::default())
        }),
    ];

    #[test]
    fn a_table_updated_while_its_gradient_is_summed_gets_the_same_bits() {
        for (rows, width, n) in [(1, 1, 1), (3, 5, 0), (9, 3, 200), (700, 65, 90), (40, 2100, 30)] {
            let e = Embedding { rows, width, padding: (rows > 2).then_some(2) };
            let (table, dy) = (numbers(1, rows * width), numbers(2, n * width));
            let states = [3, 4, 5].map(|seed| numbers(seed, rows * width).iter().map(|v| v * v).collect());
            let ids: Vec<i64> = (0..n).map(|i| (i * i * 7 % rows) as i64).collect();
            for (name, begin) in RULES {
                let run = |step: &dyn Fn(Pieces<'_>)| {
                    let mut p = Guarded::of(&table);
                    let mut s = states.each_ref().map(|s: &Vec<f32>| Guarded::of(s));
                    step(begin(p.slice(), s.each_mut().map(Guarded::slice)));
                    [p.done(), s.map(Guarded::done).concat()].concat()
                };
                let fused = || {
                    let (places, scratch) = (vec![7; e.update_places(n)], vec![f32::NAN; e.update_scratch()]);
                    vec![run(&|target| {
                        e.update(Indices::I64(&ids), &dy, &target, &mut places.clone(), &mut scratch.clone())
                            .unwrap();
                    })]
                };
                everywhere(fused, |isa, got| {
                    let dense = run(&|target| {
                        let mut d = vec![f32::NAN; rows * width];
                        e.backward(Indices::I64(&ids), &dy, &mut d, false).unwrap();
                        target.run(&d);
                    });
                    let same = got[0].iter().zip(&dense).all(|(a, b)| a.to_bits() == b.to_bits());
                    assert!(same, "{name} of {e:?} on {isa}: two ways, two results");
                    assert!(n == 0 || e.padding == Some(2) && rows == 3 || dense[..rows * width] != table);
                });
            }
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
            let (mut table, mut places, mut scratch) = ([1.0; 4], [0; 6], vec![0.0; e.update_scratch()]);
            let target = DESCENT.pieces(&mut table, &mut [], Common::default());
            assert!(e.update(indices, &[1.0; 2], &target, &mut places, &mut scratch).is_err());
            assert_eq!(table, [1.0; 4]);
        }
    }
}
