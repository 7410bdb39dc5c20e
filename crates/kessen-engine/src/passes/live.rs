//! Which nodes matter.

use kessen_graph::Graph;

/// For each node, whether an output or an update depends on it.
pub(crate) fn live_nodes(graph: &Graph) -> Vec<bool> {
    let mut needed = vec![false; graph.values().len()];
    let outputs = graph.outputs().iter().map(|(_, v)| v);
    outputs.chain(graph.updates().iter().map(|(_, v)| v)).for_each(|v| needed[v.index()] = true);
    let mut live = vec![false; graph.nodes().len()];
    for id in graph.node_ids().rev() {
        let node = graph.node(id);
        if node.outputs.iter().any(|v| needed[v.index()]) {
            live[id.index()] = true;
            node.inputs.iter().for_each(|v| needed[v.index()] = true);
        }
    }
    live
}
