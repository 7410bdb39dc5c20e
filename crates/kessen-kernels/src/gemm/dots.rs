//! A linear layer whose last panel of outputs is mostly empty: those outputs are dot products, with terms of the sums in the
//! lanes.
//!
//! Glossary: as in [`super::linear`]. Full panels and dot products of a tile of rows take turns, so that its rows of `x` are
//! read in the first-level cache the second time. The sums of sixteen rows' lanes are made together.

use super::product::Product;
use super::{Linear, vector};
use crate::epilogue::Epilogue;
use crate::isa::Isa;
use crate::layout::{panels_len, transpose_raw};
use crate::micro::{Family, Finish, PANEL};
use crate::simd::{Float, LANES, Simd, kernel};
use crate::split::{dividing, even, share};
use crate::threads::parallel_unless;

/// Most full panels of outputs beside dot products: so many do not want a copy of `x`.
const FULL_PANELS: usize = 4;
/// Rows of a task at most.
const TASK_ROWS: usize = 112;

/// Whether [`forward`] takes less time than panels: a dot product takes a cycle for twelve terms and some for its end, a panel's
/// row a cycle for each term.
pub(super) fn has_few_columns(layer: &Linear) -> bool {
    let Linear { batch, inputs, outputs } = *layer;
    let (full, rest) = (outputs / PANEL, outputs % PANEL);
    let dots = full * inputs + rest * (inputs / 12 + 12);
    rest > 0 && batch >= PANEL && full <= FULL_PANELS && dots + dots / 8 <= (full + 1) * inputs
}

/// Floats of scratch of [`forward`].
pub(super) fn forward_scratch(layer: &Linear) -> usize {
    layer.outputs % PANEL * layer.inputs
}

/// `y = epilogue(x·W)`: full panels as such, the other columns as dot products while the rows of `x` are near.
///
/// # Safety
/// All operands fit the layer.
pub(super) unsafe fn forward(
    layer: &Linear,
    x: &[f32],
    weight: &[f32],
    y: &mut [f32],
    epilogue: &Epilogue,
    scratch: &mut [f32],
) {
    let Linear { batch, inputs, outputs } = *layer;
    let (full, rest) = (outputs / PANEL, outputs % PANEL);
    let (isa, family) = (Isa::active(), Family::active());
    let columns = &mut scratch[..rest * inputs];
    let last = weight[full * inputs * PANEL..].as_ptr();
    // SAFETY: `inputs` rows of 16, of which `rest` columns become rows.
    unsafe { transpose_raw(last, PANEL, columns.as_mut_ptr(), inputs, inputs, rest) }
    let columns = &*columns;
    let product = Product {
        n: full * PANEL,
        k: inputs,
        a: x.as_ptr(),
        a_row: inputs as isize,
        a_col: 1,
        a_panel: None,
        b: weight.as_ptr(),
        b_row: PANEL as isize,
        b_panel: panels_len(inputs, PANEL) as isize,
        c: y.as_mut_ptr(),
        c_row: outputs as isize,
        c_panel: PANEL as isize,
        rows_follow: true,
        finish: Finish::new(epilogue),
    };
    let tall = if full == 0 { LANES } else { family.rows(family.panels_for(batch).min(full)).min(LANES) };
    let tasks = dividing(batch.div_ceil(TASK_ROWS));
    parallel_unless(layer.is_small(), tasks, |task| {
        let rows = share(batch, tasks, task);
        for tile in 0..rows.len().div_ceil(tall) {
            let part = even(rows.len(), tall, tile);
            let (first, count) = (rows.start + part.start, part.len());
            let row = |r: usize| &x[(first + r.min(count - 1)) * inputs..][..inputs];
            let tile: [&[f32]; LANES] = std::array::from_fn(row);
            // SAFETY: rows are one task's; the caller's promise.
            unsafe {
                for (index, column) in columns.chunks_exact(inputs).enumerate() {
                    let col = full * PANEL + index;
                    for (row, sum) in (first..first + count).zip(dots(isa, &tile, column)) {
                        vector::finish(&product.finish, product.c, [row, col, row * outputs + col], sum);
                    }
                }
                product.block(family, first..first + count, 0..full, None);
            }
        }
    });
}

kernel! {
    /// `Σ_k rows[r][k]·column[k]` for each of sixteen rows as long as the column.
    fn dots(rows: &[&[f32]; LANES], column: &[f32]) -> [f32; LANES] = dots_with;
}

#[inline(always)]
fn dots_with<S: Simd>(s: S, rows: &[&[f32]; LANES], column: &[f32]) -> [f32; LANES] {
    let mut parts = [s.splat(0.0); LANES];
    let mut at = 0;
    while at < LANES {
        let four = four_dots(s, [rows[at], rows[at + 1], rows[at + 2], rows[at + 3]], column);
        parts[at..at + 4].copy_from_slice(&four);
        at += 4;
    }
    let parts: [S::F; 8] = add_pairs(s, parts);
    let parts: [S::F; 4] = add_pairs(s, parts);
    let parts: [S::F; 2] = add_pairs(s, parts);
    let [sums] = add_pairs(s, parts);
    sums.array()
}

/// Sums of four rows' products with a column, in the lanes' sixteen parts.
#[inline(always)]
fn four_dots<S: Simd>(s: S, [a, b, c, d]: [&[f32]; 4], column: &[f32]) -> [S::F; 4] {
    let (vectors, rest) = column.as_chunks::<LANES>();
    let [mut p, mut q, mut r, mut t] = [s.splat(0.0); 4];
    let rows = a.as_chunks::<LANES>().0.iter().zip(b.as_chunks::<LANES>().0);
    let rows = rows.zip(c.as_chunks::<LANES>().0).zip(d.as_chunks::<LANES>().0);
    for (column, (((a, b), c), d)) in vectors.iter().zip(rows) {
        let column = s.load(column);
        p = s.load(a).mul_add(column, p);
        q = s.load(b).mul_add(column, q);
        r = s.load(c).mul_add(column, r);
        t = s.load(d).mul_add(column, t);
    }
    if !rest.is_empty() {
        let (whole, column) = (column.len() - rest.len(), s.load_part(rest));
        p = s.load_part(&a[whole..]).mul_add(column, p);
        q = s.load_part(&b[whole..]).mul_add(column, q);
        r = s.load_part(&c[whole..]).mul_add(column, r);
        t = s.load_part(&d[whole..]).mul_add(column, t);
    }
    [p, q, r, t]
}

/// Adds neighbouring lanes: half as many vectors of sums, in the order of the lanes. `N` is twice `M`.
#[inline(always)]
fn add_pairs<S: Simd, const N: usize, const M: usize>(s: S, parts: [S::F; N]) -> [S::F; M] {
    let mut sums = [s.splat(0.0); M];
    for (i, sum) in sums.iter_mut().enumerate() {
        let (even, odd) = parts[2 * i].deinterleave(parts[2 * i + 1]);
        *sum = even + odd;
    }
    sums
}
