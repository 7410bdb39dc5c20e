//! Passes from graph to graph, before planning.

mod fold_batch_norm;
mod live;
mod recompute;

pub(crate) use fold_batch_norm::fold_batch_norm;
pub(crate) use live::live_nodes;
pub(crate) use recompute::{CHOICES, Parts, recompute};
