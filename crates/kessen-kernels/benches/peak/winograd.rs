//! Convolutions by Winograd's algorithm; work is counted as for direct ones.

use crate::conv;
use crate::suite::{Floats, Suite};
use kessen_kernels::conv::ConvDesc;
use kessen_kernels::conv::winograd::{self, Order};
use kessen_kernels::epilogue::Epilogue;

pub fn convolutions(suite: &mut Suite) {
    for order in [Order::Two, Order::Four] {
        let applies = |d: &ConvDesc| winograd::applies(d, order);
        conv::each(suite, &format!(" {order:?}"), applies, |mut group, d, [x, w, y]| {
            let store = Epilogue::store();
            let mut scratch = Floats::scratch([
                winograd::forward_scratch(d, order),
                winograd::grad_input_scratch(d, order),
                winograd::grad_weight_scratch(d, order),
            ]);
            let scratch = scratch.slice();
            let u = winograd::prepared_len(d, order);
            group.bench("prepared", [x, u, y], |[x, u, y]| {
                winograd::forward_prepared(d, order, x, u, &store, y, scratch);
            });
            group.bench("forward", [x, w, y], |[x, w, y]| {
                winograd::forward(d, order, x, w, &store, y, scratch);
            });
            group.bench("dx", [y, w, x], |[dy, w, dx]| {
                winograd::grad_input(d, order, dy, w, &store, dx, scratch);
            });
            group.bench("dw", [x, y, w], |[x, dy, dw]| {
                winograd::grad_weight(d, order, x, dy, false, dw, scratch);
            });
        });
    }
}
