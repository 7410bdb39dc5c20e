//! Lifetimes to offsets: where each buffer lies.
//!
//! Buffers of the arena are placed largest first, each at the lowest offset that is free during its whole life
//! (greedy by size, as in Pisarchyk & Lee, "Efficient memory management for deep neural net inference", 2020).

use super::memory::{BufInfo, lasts};
use kessen_tensor::ALIGNMENT;

/// First and last step that touch a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Life {
    pub first: usize,
    pub last: usize,
}

/// Offsets in bytes of all buffers within their region, and the sizes of the lasting region and the arena.
pub(crate) struct Placement {
    pub offsets: Vec<usize>,
    pub lasting: usize,
    pub arena: usize,
}

/// Places every buffer but slices, which lie in others; `lives[i]` is `None` for a buffer that no step touches, and what
/// touches a slice touches the whole.
pub(crate) fn place(infos: &[BufInfo], lives: &[Option<Life>]) -> Placement {
    let mut offsets = vec![0; infos.len()];
    let mut lasting = 0;
    let mut order = Vec::new();
    for (i, info) in infos.iter().enumerate().filter(|(_, info)| info.slice.is_none()) {
        if lasts(info.keep) {
            offsets[i] = lasting;
            lasting += info.bytes().next_multiple_of(ALIGNMENT);
        } else if lives[i].is_some() {
            order.push(i);
        }
    }
    order.sort_by_key(|&i| (std::cmp::Reverse(infos[i].bytes()), i));
    let mut placed: Vec<(usize, usize, Life)> = Vec::new();
    let mut arena = 0;
    for i in order {
        let Some(life) = lives[i] else { continue };
        let size = infos[i].bytes().next_multiple_of(ALIGNMENT);
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(.., other)| other.first <= life.last && life.first <= other.last)
            .map(|&(start, end, _)| (start, end))
            .collect();
        busy.sort_unstable();
        let mut offset = 0;
        for (start, end) in busy {
            if offset + size <= start {
                break;
            }
            offset = offset.max(end);
        }
        offsets[i] = offset;
        arena = arena.max(offset + size);
        placed.push((offset, offset + size, life));
    }
    // A buffer that nothing touches keeps offset 0; its memory is never reached, but must exist.
    let idle = infos
        .iter()
        .zip(lives)
        .filter(|(info, life)| !lasts(info.keep) && life.is_none() && info.slice.is_none());
    let arena = idle.map(|(info, _)| info.bytes()).fold(arena, usize::max);
    Placement { offsets, lasting, arena }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::memory::{Keep, Kind};
    use kessen_tensor::Rng;

    fn info(len: usize, keep: Keep) -> BufInfo {
        BufInfo { kind: Kind::F32, len, keep, slice: None }
    }

    #[test]
    fn a_chain_needs_two_buffers_at_a_time() {
        let infos = vec![info(1024, Keep::Step); 6];
        let lives: Vec<_> = (0..6).map(|i| Some(Life { first: i, last: i + 1 })).collect();
        assert_eq!(place(&infos, &lives).arena, 2 * 4096);
    }

    #[test]
    fn buffers_alive_together_never_overlap() {
        let mut rng = Rng::new(5, 0);
        for _ in 0..50 {
            let infos: Vec<_> = (0..40).map(|_| info(1 + rng.below(5000), Keep::Step)).collect();
            let lives: Vec<_> = (0..40)
                .map(|_| {
                    let first = rng.below(30);
                    Some(Life { first, last: first + rng.below(10) })
                })
                .collect();
            let placement = place(&infos, &lives);
            for i in 0..40 {
                for j in 0..i {
                    let (a, b) = (lives[i].unwrap(), lives[j].unwrap());
                    let together = a.first <= b.last && b.first <= a.last;
                    let end = |k: usize| placement.offsets[k] + infos[k].bytes();
                    let apart = end(i) <= placement.offsets[j] || end(j) <= placement.offsets[i];
                    assert!(!together || apart, "{i} {j}");
                }
                assert!(placement.offsets[i] + infos[i].bytes() <= placement.arena);
            }
        }
    }
}
