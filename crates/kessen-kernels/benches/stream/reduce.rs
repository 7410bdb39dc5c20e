//! Sums over axes and over everything.

use crate::floats;
use crate::suite::{Floats, Suite};
use kessen_kernels::reduce::{self, Reduce, Reduction};
use std::hint::black_box;

const LEN: usize = 1 << 22;

pub fn sums(suite: &mut Suite) {
    let shapes: [(&str, &[usize], &[usize]); 4] = [
        ("all", &[LEN], &[0]),
        ("rows 4096x1024", &[4096, 1024], &[1]),
        ("columns 2048x2048", &[2048, 2048], &[0]),
        ("NCHW over N, H, W 16x64x4096", &[16, 64, 4096], &[0, 2]),
    ];
    for (name, shape, axes) in shapes {
        let r = Reduction::new(Reduce::Sum, shape, axes).expect("axes of the shape");
        let mut scratch = Floats::scratch([r.run_scratch()]);
        suite.group("sum of", floats(LEN)).bench(name, [LEN, r.output_len()], |[x, y]| {
            r.run(x, y, scratch.slice());
        });
    }
    suite.group("sum of", floats(LEN)).bench("squares", [LEN, LEN], |[x, scratch]| {
        black_box(reduce::sum_of_squares(&[x], scratch));
    });
    suite.group("first non-finite", floats(LEN)).bench("16 MB", [LEN], |[x]| {
        black_box(reduce::first_non_finite(x));
    });
}
