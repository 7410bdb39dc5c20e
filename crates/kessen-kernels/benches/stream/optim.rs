//! Updates of parameters.

use crate::suite::Suite;
use crate::{SIZES, floats};
use kessen_kernels::Indices;
use kessen_kernels::embedding::Embedding;
use kessen_kernels::optim::{Adam, Common, Sgd};

/// With β₂ = 0 any number serves as a second moment.
const ADAM: Adam =
    Adam { lr: 1e-6, beta1: 0.9, beta2: 0.0, eps: 1e-8, weight_decay: 0.0, decoupled: false, step: 10 };

pub fn updates(suite: &mut Suite) {
    let sgd =
        Sgd { lr: 1e-6, momentum: 0.9, dampening: 0.0, weight_decay: 1e-4, nesterov: false, first: false };
    for (size, n) in SIZES {
        suite.group("sgd with momentum", floats(5 * n)).also_cold().bench(size, [n; 3], |[p, g, m]| {
            sgd.step(p, g, m, Common::default());
        });
        suite.group("adam", floats(7 * n)).also_cold().bench(size, [n; 4], |[p, g, m, v]| {
            ADAM.step(p, g, m, v, Common::default());
        });
    }
}

/// An embedding's gradient and Adam's step with it, in two passes and in one: the work is that of one pass.
pub fn tables(suite: &mut Suite) {
    let e = Embedding { rows: 10_000, width: 128, padding: None };
    let (n, len) = (2048, e.rows * e.width);
    let ids: Vec<i64> = (0..n as i64).map(|i| i * 7919 % 10_007 % 10_000).collect();
    let (mut places, mut scratch) = (vec![0; e.update_places(n)], vec![0.0; e.update_scratch()]);
    let lens = [len, len, len, n * e.width];
    let work = floats(n * e.width + 6 * len);
    let mut group = suite.group("embedding gradient and adam", work).also_cold();
    group.bench("two passes", [len, len, len, n * e.width, len], |[p, m, v, dy, g]| {
        assert!(e.backward(Indices::I64(&ids), dy, g, false).is_ok());
        ADAM.step(p, g, m, v, Common::default());
    });
    group.bench("one pass", lens, |[p, m, v, dy]| {
        let target = ADAM.pieces(p, m, v, Common::default());
        assert!(e.update(Indices::I64(&ids), dy, &target, &mut places, &mut scratch).is_ok());
    });
}
