//! Which forward values are kept.

use kessen_graph::{Op, ValueId};

use super::Parts;

/// Longest chain of cheap nodes that is repeated for one value: a few passes over memory.
const LONGEST_CHAIN: usize = 4;

/// How much is computed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Choice {
    /// What a few passes over memory compute from values that are kept anyway.
    Cheap,
    /// The forward part is cut into `segments` that keep about the same number of bytes. Of the first `repeated` of them
    /// only what later segments read is kept. `thrifty`: in a segment that is computed again, cheap values are not
    /// kept either.
    Segments { segments: usize, repeated: usize, thrifty: bool },
}

const fn segments(segments: usize, repeated: usize, thrifty: bool) -> Choice {
    Choice::Segments { segments, repeated, thrifty }
}

/// The choices in the order in which they are tried: each repeats about as much as the one before it, or more.
pub(crate) const CHOICES: [Choice; 22] = [
    Choice::Cheap,
    segments(4, 1, false),
    segments(8, 2, false),
    segments(16, 4, false),
    segments(4, 2, false),
    segments(8, 4, false),
    segments(16, 8, false),
    segments(4, 3, false),
    segments(8, 6, false),
    segments(16, 12, false),
    segments(6, 5, false),
    segments(8, 7, false),
    segments(12, 11, false),
    segments(16, 15, false),
    segments(24, 23, false),
    segments(32, 31, false),
    segments(4, 3, true),
    segments(6, 5, true),
    segments(8, 7, true),
    segments(12, 11, true),
    segments(16, 15, true),
    segments(32, 31, true),
];

impl Choice {
    /// Whether cheap values of repeated segments are not kept.
    pub fn is_thrifty(self) -> bool {
        matches!(self, Self::Segments { thrifty: true, .. })
    }
}

/// Whether the operator costs a pass over memory, or less.
pub(super) fn is_cheap(op: &Op) -> bool {
    matches!(
        op,
        Op::Unary(_)
            | Op::Binary(_)
            | Op::Clamp(_)
            | Op::Cast(_)
            | Op::Dropout(_)
            | Op::BatchNormTrain(_)
            | Op::LayerNorm(_)
            | Op::Softmax(_)
            | Op::MaxPool(_)
            | Op::AvgPool(_)
            | Op::AdaptivePool(_)
            | Op::Reshape(_)
            | Op::Broadcast(_)
            | Op::Transpose(_)
            | Op::Slice(_)
            | Op::Pad(_)
            | Op::Concat(_)
            | Op::Embedding(_)
    )
}

impl Parts<'_> {
    /// For each value, whether it lies in memory where the backward part reads it.
    pub fn kept(&self, choice: Choice) -> Vec<bool> {
        match choice {
            Choice::Cheap => {
                let mut kept = vec![true; self.bytes.len()];
                self.drop_cheap(&mut kept, 0);
                kept
            }
            Choice::Segments { segments, repeated, thrifty } => {
                let cuts = self.cuts(segments, repeated);
                let mut kept = self.crossing(&cuts);
                if thrifty {
                    self.drop_cheap(&mut kept, cuts.last().map_or(0, |cut| cut + 1));
                }
                kept
            }
        }
    }

    /// Drops what is cheap to compute from values that are kept because the backward part wants them, for nodes from
    /// `start` on; of earlier values those that are kept are at hand.
    fn drop_cheap(&self, kept: &mut [bool], start: usize) {
        let graph = self.graph;
        // Per value: nodes that have to be repeated to get it; `None` where it is not at hand.
        let mut chain: Vec<Option<usize>> = graph
            .value_ids()
            .map(|v| match self.forward_producer(v) {
                None => Some(0),
                Some((id, _)) => (id.index() < start && kept[v.index()]).then_some(0),
            })
            .collect();
        for node in &graph.nodes()[start..self.turn] {
            let operands = node.inputs.iter().map(|v| chain[v.index()]).collect::<Option<Vec<_>>>();
            let longest = operands.map(|lengths| lengths.into_iter().max().unwrap_or(0));
            let repeats = is_cheap(&node.op) && self.can_repeat(node);
            let length = longest.filter(|&n| repeats && n < LONGEST_CHAIN).map(|n| n + 1);
            for &v in &node.outputs {
                let stays = self.output[v.index()] || self.is_small(node, v);
                chain[v.index()] = match length {
                    Some(length) if !stays => {
                        kept[v.index()] = false;
                        Some(length)
                    }
                    _ => (stays || self.wanted[v.index()]).then_some(0),
                };
            }
        }
    }

    /// Positions of the nodes after which the forward part is cut: the ends of the segments that are repeated.
    fn cuts(&self, segments: usize, repeated: usize) -> Vec<usize> {
        let (sums, crossing) = (self.kept_until(), self.crossing_bytes());
        let total = sums.last().copied().unwrap_or(0);
        let mut cuts = Vec::new();
        for k in 1..=repeated {
            let (target, slack) = (total / segments * k, total / segments / 2);
            let near = |&at: &usize| sums[at].abs_diff(target) <= slack;
            let best =
                (0..self.turn).filter(near).min_by_key(|&at| (crossing[at], sums[at].abs_diff(target)));
            if let Some(at) = best.filter(|at| cuts.last().is_none_or(|last| last < at)) {
                cuts.push(at);
            }
        }
        cuts
    }

    /// Bytes that the backward part reads of the nodes up to each position.
    fn kept_until(&self) -> Vec<usize> {
        let of = |v: &ValueId| if self.wanted[v.index()] { self.bytes[v.index()] } else { 0 };
        let nodes = self.graph.nodes()[..self.turn].iter();
        nodes
            .scan(0, |sum, node| {
                *sum += node.outputs.iter().map(of).sum::<usize>();
                Some(*sum)
            })
            .collect()
    }

    /// Bytes of the values that go from the nodes up to each position to later ones of the forward part. What the
    /// backward part does not read itself counts twice: cutting there would keep more, and part what is one step.
    fn crossing_bytes(&self) -> Vec<usize> {
        let mut crossing = vec![0; self.turn];
        for v in self.graph.value_ids() {
            let (Some((id, _)), Some(last)) = (self.forward_producer(v), self.last_use[v.index()]) else {
                continue;
            };
            let weight = if self.wanted[v.index()] { 1 } else { 2 };
            crossing[id.index()..last].iter_mut().for_each(|sum| *sum += weight * self.bytes[v.index()]);
        }
        crossing
    }

    /// The values that are kept where the forward part is cut: what goes across a cut, what lies behind the last one,
    /// and what can't be or need not be repeated.
    fn crossing(&self, cuts: &[usize]) -> Vec<bool> {
        let behind = cuts.last().map_or(0, |cut| cut + 1);
        let keeps = |v: ValueId| {
            let Some((id, _)) = self.forward_producer(v) else { return true };
            let (node, at) = (self.graph.node(id), id.index());
            let last = self.last_use[v.index()].unwrap_or(at);
            let crosses = cuts.iter().any(|cut| (at..last).contains(cut));
            let stays = self.output[v.index()] || self.is_small(node, v) || !self.can_repeat(node);
            at >= behind || crosses || stays
        };
        self.graph.value_ids().map(keeps).collect()
    }
}
