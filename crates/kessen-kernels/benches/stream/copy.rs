//! Transposes.

use crate::floats;
use crate::suite::Suite;
use kessen_kernels::copy::StridedCopy;

pub fn transposes(suite: &mut Suite) {
    let cases: [(&str, &[usize], &[usize]); 5] = [
        ("256x256", &[256, 256], &[1, 0]),
        ("2048x2048", &[2048, 2048], &[1, 0]),
        ("heads [16, 128, 4, 64] -> [16, 4, 128, 64]", &[16, 128, 4, 64], &[0, 2, 1, 3]),
        ("NCHW -> NHWC 16x64x56x56", &[16, 64, 3136], &[0, 2, 1]),
        ("NCHW -> NHWC 16x3x224x224", &[16, 3, 50_176], &[0, 2, 1]),
    ];
    for (name, shape, order) in cases {
        let n = shape.iter().product();
        let copy = StridedCopy::transpose(shape, order).expect("an order of the axes");
        suite.group("transpose", floats(2 * n)).bench(name, [n, n], |[x, y]| copy.run(x, y));
    }
}
