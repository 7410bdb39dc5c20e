//! Softmax and losses.

use crate::floats;
use crate::suite::{Floats, Suite};
use kessen_kernels::loss::{CrossEntropy, Pointwise, Reduction, pointwise, pointwise_scratch};
use kessen_kernels::{Indices, softmax};
use std::hint::black_box;

pub fn rows(suite: &mut Suite) {
    for [n, k] in [[2048, 17], [128, 10], [2048, 256], [16, 1000]] {
        let len = n * k;
        suite.group(&format!("softmax {n}x{k}"), floats(2 * len)).bench("forward", [len, len], |[x, y]| {
            softmax::softmax(x, [n, k, 1], y);
        });
        let classes: Vec<i64> = (0..n).map(|i| (i % k) as i64).collect();
        let name = format!("cross-entropy {n}x{k}");
        let lengths = [len, n, len];
        suite.group(&name, floats(2 * len)).bench("with gradient", lengths, |[x, losses, dx]| {
            let (loss, classes) = (CrossEntropy::default(), Indices::I64(&classes));
            assert!(loss.forward_backward(x, [n, k, 1], classes, 1.0, losses, dx).is_ok());
        });
    }
    let n = 1 << 16;
    let mut scratch = Floats::scratch([pointwise_scratch(n)]);
    suite.group("squared error 256 KB", floats(3 * n)).bench("with gradient", [n, n, n], |[x, t, dx]| {
        let dx = Some(dx);
        black_box(pointwise(Pointwise::Mse, Reduction::Mean, x, t, 1.0, dx, scratch.slice()));
    });
}
