//! Matrix products `C = epilogue(op(A)·op(B))` on row-major slices.
//!
//! Glossary: `op(A)` is `m × k`, `op(B)` is `k × n`, `C` is `m × n`; `ld*` is the distance of consecutive rows in
//! memory; `batch` products of the same shape lie `stride_*` apart. A *panel* is 16 columns ([`crate::layout`]).

pub mod bf16;
mod copies;
mod dots;
mod few;
mod item;
mod linear;
mod outer;
mod pack;
pub(crate) mod product;
mod vector;

pub use linear::Linear;
pub(crate) use outer::{Outer, Sink};
pub(crate) use product::{COPY_LEN, Product};

use crate::epilogue::{Bias, Epilogue};
use crate::layout::panels_len;
use crate::micro::{Family, Finish, PANEL};
use crate::threads::{self, Shared};
use item::Item;
use pack::Source;

/// Multiply-adds below which a product stays on the calling thread (some 10 µs); where few rows take the time of reading a
/// matrix, those that would take it.
const SERIAL_WORK: usize = 1 << 20;
/// Multiply-adds of one task at least.
const TASK_WORK: usize = 1 << 18;
/// Largest product of a batch that is one task; larger ones are cut.
const ITEM_WORK: usize = 1 << 24;

/// The shape of a matrix product, or of a batch of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gemm {
    /// Rows of `C`.
    pub m: usize,
    /// Columns of `C`.
    pub n: usize,
    /// Length of the sums.
    pub k: usize,
    /// `A` is stored as `k × m`.
    pub trans_a: bool,
    /// `B` is stored as `n × k`.
    pub trans_b: bool,
    /// Distance of `A`'s stored rows.
    pub lda: usize,
    /// Distance of `B`'s stored rows.
    pub ldb: usize,
    /// Distance of `C`'s rows.
    pub ldc: usize,
    /// Number of products.
    pub batch: usize,
    /// Distance of consecutive `A`s; 0 shares one.
    pub stride_a: usize,
    /// Distance of consecutive `B`s (packed or not); 0 shares one.
    pub stride_b: usize,
    /// Distance of consecutive `C`s and residuals.
    pub stride_c: usize,
}

impl Gemm {
    /// One product of dense matrices, nothing transposed.
    pub fn new(m: usize, n: usize, k: usize) -> Gemm {
        Gemm {
            m,
            n,
            k,
            trans_a: false,
            trans_b: false,
            lda: k,
            ldb: n,
            ldc: n,
            batch: 1,
            stride_a: 0,
            stride_b: 0,
            stride_c: 0,
        }
    }

    /// `A` is stored dense as `k × m`.
    pub fn trans_a(mut self) -> Gemm {
        (self.trans_a, self.lda) = (true, self.m);
        self
    }

    /// `B` is stored dense as `n × k`.
    pub fn trans_b(mut self) -> Gemm {
        (self.trans_b, self.ldb) = (true, self.k);
        self
    }

    /// `batch` products on dense matrices that follow each other.
    pub fn batched(mut self, batch: usize) -> Gemm {
        (self.batch, self.stride_a, self.stride_b) = (batch, self.m * self.k, self.k * self.n);
        self.stride_c = self.m * self.n;
        self
    }

    /// Length of one packed `B`.
    pub fn packed_len(&self) -> usize {
        panels_len(self.k, self.n)
    }

    /// Packs one `B` into panels for [`Self::run_packed`].
    ///
    /// # Panics
    /// If a slice is too short.
    pub fn pack(&self, b: &[f32], packed: &mut [f32]) {
        assert!(b.len() >= self.b_len(), "gemm: B has {} elements, {} needed", b.len(), self.b_len());
        assert!(packed.len() >= self.packed_len(), "gemm: packed B has {} elements", packed.len());
        let source = Source { b: b.as_ptr(), ld: self.ldb, trans: self.trans_b, k: self.k, n: self.n };
        // SAFETY: lengths checked.
        unsafe { source.pack_all(0..self.n.div_ceil(PANEL), packed.as_mut_ptr()) }
    }

    /// Floats of scratch for [`Self::run`] with the present number of threads.
    pub fn scratch(&self) -> usize {
        let each = threads::count() * COPY_LEN;
        if self.per_item() { threads::count() * self.packed_len() + each } else { self.packed_len() + each }
    }

    /// Floats of scratch for [`Self::run_packed`] with the present number of threads.
    pub fn packed_scratch(&self) -> usize {
        threads::count() * COPY_LEN
    }

    /// Computes the products.
    ///
    /// # Panics
    /// If a slice is too short for the shape, or a leading dimension shorter than its row.
    pub fn run(&self, a: &[f32], b: &[f32], c: &mut [f32], epilogue: &Epilogue, scratch: &mut [f32]) {
        self.check_b(b);
        self.check(a, c, epilogue, scratch, self.scratch());
        // SAFETY: all operands were checked against the shape.
        unsafe { self.dispatch(a.as_ptr(), b.as_ptr(), false, c, epilogue, scratch) }
    }

    /// Computes the products with `B` packed by [`Self::pack`] (and `stride_b` the distance of packed `B`s).
    ///
    /// # Panics
    /// As [`Self::run`].
    pub fn run_packed(&self, a: &[f32], b: &[f32], c: &mut [f32], epilogue: &Epilogue, scratch: &mut [f32]) {
        let b_len = if self.batch == 0 { 0 } else { self.stride_b * (self.batch - 1) + self.packed_len() };
        assert!(b.len() >= b_len, "gemm: packed B has {} elements, {b_len} needed", b.len());
        self.check(a, c, epilogue, scratch, self.packed_scratch());
        // SAFETY: all operands were checked against the shape.
        unsafe { self.dispatch(a.as_ptr(), b.as_ptr(), true, c, epilogue, scratch) }
    }

    /// Elements that one `B` spans.
    fn b_len(&self) -> usize {
        let (rows, cols) = if self.trans_b { (self.n, self.k) } else { (self.k, self.n) };
        if rows == 0 || cols == 0 { 0 } else { (rows - 1) * self.ldb + cols }
    }

    fn check_b(&self, b: &[f32]) {
        let b_len = if self.batch == 0 { 0 } else { self.stride_b * (self.batch - 1) + self.b_len() };
        assert!(b.len() >= b_len, "gemm: B has {} elements, {b_len} needed", b.len());
        assert!(self.ldb >= if self.trans_b { self.k } else { self.n }, "gemm: ldb {} too short", self.ldb);
    }

    fn check(&self, a: &[f32], c: &[f32], epilogue: &Epilogue, scratch: &[f32], wanted: usize) {
        let (rows, cols) = if self.trans_a { (self.k, self.m) } else { (self.m, self.k) };
        let span = |rows: usize, cols: usize, ld: usize, stride: usize| {
            if rows == 0 || cols == 0 || self.batch == 0 {
                return 0;
            }
            assert!(ld >= cols, "gemm: a leading dimension of {ld} for rows of {cols}");
            stride * (self.batch - 1) + (rows - 1) * ld + cols
        };
        let a_len = span(rows, cols, self.lda, self.stride_a);
        let c_len = span(self.m, self.n, self.ldc, self.stride_c);
        assert!(a.len() >= a_len, "gemm: A has {} elements, {a_len} needed", a.len());
        assert!(c.len() >= c_len, "gemm: C has {} elements, {c_len} needed", c.len());
        assert!(
            self.batch < 2 || self.stride_c >= c_len - self.stride_c * (self.batch - 1),
            "gemm: the outputs of a batch overlap"
        );
        if let Some(residual) = epilogue.residual {
            assert!(
                residual.len() >= c_len,
                "gemm: residual has {} elements, {c_len} needed",
                residual.len()
            );
        }
        match epilogue.bias {
            Bias::PerColumn(bias) => assert!(bias.len() >= self.n, "gemm: {} column biases", bias.len()),
            Bias::PerRow(bias) => assert!(bias.len() >= self.m, "gemm: {} row biases", bias.len()),
            Bias::None => {}
        }
        assert!(scratch.len() >= wanted, "gemm: scratch of {} floats, {wanted} needed", scratch.len());
    }

    /// Whether each product of the batch is one task.
    fn per_item(&self) -> bool {
        self.batch > 1 && self.m * self.n * self.k <= ITEM_WORK
    }

    /// # Safety
    /// Operands fit the shape.
    unsafe fn dispatch(
        &self,
        a: *const f32,
        b: *const f32,
        packed: bool,
        c: &mut [f32],
        epilogue: &Epilogue,
        scratch: &mut [f32],
    ) {
        if self.m == 0 || self.n == 0 {
            return;
        }
        let first = Item {
            gemm: self,
            family: Family::active(),
            a,
            b,
            packed,
            c: c.as_mut_ptr(),
            finish: Finish::new(epilogue),
        };
        if !self.per_item() {
            for index in 0..self.batch {
                // SAFETY: the caller's promise.
                unsafe { first.at(index).run_cut(scratch) }
            }
            return;
        }
        let work = (self.m * self.n * self.k).max(1);
        let grain = if work * self.batch <= SERIAL_WORK { self.batch } else { TASK_WORK.div_ceil(work) };
        let each = if packed { COPY_LEN } else { self.packed_len() + COPY_LEN };
        let scratch = Shared::new(scratch);
        threads::parallel_chunks(self.batch, grain, |range| {
            let start = threads::worker() * each;
            // SAFETY: each worker uses its own part.
            let scratch = unsafe { scratch.part(start..start + each) };
            for index in range {
                // SAFETY: the caller's promise; outputs of different items are disjoint.
                unsafe { first.at(index).run_whole(scratch) }
            }
        });
    }
}
