//! Pooling.

use crate::floats;
use crate::suite::Suite;
use kessen_kernels::pool::{Axis, Kind, Layout, Pool};

pub fn windows(suite: &mut Suite) {
    let cases = [
        (Layout::Blocked, 64, 112, [3, 2, 1]),
        (Layout::Blocked, 64, 56, [2, 2, 0]),
        (Layout::Blocked, 64, 28, [3, 1, 1]),
        (Layout::Plain, 384, 28, [2, 2, 0]),
        (Layout::Plain, 384, 56, [3, 2, 1]),
    ];
    for (layout, planes, side, [kernel, stride, padding]) in cases {
        let axis = Axis::new(side, kernel, stride, [padding; 2], 1, false).expect("a window that fits");
        for kind in [Kind::Max, Kind::Average] {
            let p = Pool { kind, layout, planes, rows: axis, columns: axis, slices: None };
            let name = format!("{kind:?} pool {layout:?} {side}x{side} k{kernel}s{stride}");
            let (x, y) = (p.input_len(), p.output_len());
            suite.group(&name, floats(x + y)).bench("forward", [x, y], |[x, y]| p.forward(x, y));
            // Maxima are looked up in x and y.
            let passes = if kind == Kind::Max { 2 } else { 1 };
            let mut group = suite.group(&name, floats(passes * (x + y)));
            group.bench("backward", [x, y, y, x], |[x, y, dy, dx]| p.backward(x, y, dy, dx));
        }
    }
}
