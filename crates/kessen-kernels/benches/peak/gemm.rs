//! Matrix products.

use crate::multiply_adds;
use crate::suite::{Floats, Group, Suite};
use kessen_kernels::epilogue::Epilogue;
use kessen_kernels::gemm::Gemm;

/// Products, and which operands they find transposed (`t`).
fn shapes() -> Vec<(&'static str, Gemm)> {
    let squares = [1024, 1000, 128, 64];
    let mut all = Vec::from(squares.map(|n| ("nn", Gemm::new(n, n, n))));
    all.push(("nt", Gemm::new(1024, 1024, 1024).trans_b()));
    all.push(("tn", Gemm::new(1024, 1024, 1024).trans_a()));
    all.push(("nn", Gemm::new(512, 2048, 512)));
    all.extend(
        [(768, 256), (256, 256), (1024, 256), (256, 1024)].map(|(n, k)| ("nn", Gemm::new(2048, n, k))),
    );
    all.extend([(32, 10, 84), (8, 16, 8), (1, 1024, 1024)].map(|(m, n, k)| ("nn", Gemm::new(m, n, k))));
    all.push(("nt", Gemm::new(1, 1024, 1024).trans_b()));
    all.push(("nn", Gemm::new(1024, 1, 1024)));
    all.push(("nt", Gemm::new(128, 128, 64).trans_b().batched(64)));
    all.push(("nn", Gemm::new(128, 64, 128).batched(64)));
    all
}

/// Calls `bench` with the group of each product and the lengths of all its `A`s, `B`s and `C`s.
pub fn each(suite: &mut Suite, suffix: &str, bench: impl Fn(Group<'_>, &Gemm, [usize; 3])) {
    for (kind, g) in shapes() {
        let batch = if g.batch > 1 { format!(" batch {}", g.batch) } else { String::new() };
        let name = format!("gemm {kind} {}x{}x{}{batch}{suffix}", g.m, g.n, g.k);
        let lengths = [g.m * g.k, g.k * g.n, g.m * g.n].map(|each| each * g.batch);
        bench(suite.group(&name, multiply_adds(g.m * g.n * g.k * g.batch)), &g, lengths);
    }
}

pub fn products(suite: &mut Suite) {
    each(suite, "", |mut group, g, [a, b, c]| {
        let store = Epilogue::store();
        let mut scratch = Floats::scratch([g.scratch()]);
        let scratch = scratch.slice();
        group.bench("plain", [a, b, c], |[a, b, c]| g.run(a, b, c, &store, scratch));
        if g.batch == 1 && !g.trans_a && !g.trans_b {
            group.bench("packed", [a, g.packed_len(), c], |[a, b, c]| g.run_packed(a, b, c, &store, scratch));
        }
    });
}
