//! Updates of parameters.

use crate::suite::Suite;
use crate::{SIZES, floats};
use kessen_kernels::optim::{Adam, Common, Sgd};

pub fn updates(suite: &mut Suite) {
    let sgd =
        Sgd { lr: 1e-6, momentum: 0.9, dampening: 0.0, weight_decay: 1e-4, nesterov: false, first: false };
    let adam =
        Adam { lr: 1e-6, beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, decoupled: false, step: 10 };
    for (size, n) in SIZES {
        suite.group("sgd with momentum", floats(5 * n)).also_cold().bench(size, [n; 3], |[p, g, m]| {
            sgd.step(p, g, m, Common::default());
        });
        suite.group("adam", floats(7 * n)).also_cold().bench(size, [n; 4], |[p, g, m, v]| {
            adam.step(p, g, m, v, Common::default());
        });
    }
}
