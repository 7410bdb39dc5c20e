//! Dropout: the mask is computed, never stored.

use kessen_graph::{NodeId, Op};
use kessen_kernels::dropout::Dropout;

use crate::Result;
use crate::cpu::builder::{Layout, PlanBuilder};

/// y = x·mask/(1 − p) in training, else x.
pub(crate) fn lower(b: &mut PlanBuilder<'_>, id: NodeId) -> Result<()> {
    let node = b.graph.node(id);
    let Op::Dropout(op) = &node.op else { return Ok(()) };
    if !op.training {
        return super::shape::lower_alias(b, id);
    }
    let (x, y) = (node.inputs[0], node.outputs[0]);
    let (p, stream) = (op.p as f32, op.key);
    let from = b.plain(x);
    if let Some(buf) = b.result_over(y, x, Layout::Plain) {
        b.step("dropout in place", &[], &[buf], move |views, clock| {
            Dropout { p, seed: clock.seed, stream, step: clock.step }.apply_in_place(views.write(0));
            Ok(())
        });
        return Ok(());
    }
    let out = b.result(y, Layout::Plain);
    b.step("dropout", &[from], &[out], move |views, clock| {
        Dropout { p, seed: clock.seed, stream, step: clock.step }.apply(views.read(0), views.write(0));
        Ok(())
    });
    Ok(())
}
