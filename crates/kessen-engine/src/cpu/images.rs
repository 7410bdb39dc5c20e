//! Blocked images that lie within others, and what is known of them besides their numbers.
//!
//! A concatenation along channels needs no copy where each part is written where it lies in the whole, and a slice of
//! channels needs none where it is read there: both are *slices*, buffers whose images lie as far apart as those of the
//! whole. The lowering of an operator asks for them by name ([`PlanBuilder::blocked_slice`],
//! [`PlanBuilder::image_result`]); what does not know them gets a copy. A concatenation inside another one lies in that.

use std::collections::{HashMap, HashSet};

use kessen_graph::{Graph, Op, ValueId};
use kessen_kernels::layout::{self, PANEL};
use kessen_tensor::DType;

use super::builder::{Layout, PlanBuilder};
use super::memory::{Buf, BufInfo, Keep, Kind, Slice};

/// What the builder knows of blocked images.
#[derive(Default)]
pub(super) struct Images {
    /// Values that a batch normalisation takes the statistics of.
    normalised: HashSet<ValueId>,
    /// Statistics that were computed along with a value.
    statistics: HashMap<ValueId, Buf>,
    /// Per part of a concatenation along channels: the whole, and the part's first block of channels in it.
    places: HashMap<ValueId, (ValueId, usize)>,
    /// Buffers of concatenations, from when the first part was written.
    wholes: HashMap<ValueId, Buf>,
    /// Parts that were written in place.
    written: HashSet<ValueId>,
}

impl Images {
    pub fn new(graph: &Graph, live: &[bool], statics: &[bool]) -> Self {
        let mut images = Images::default();
        for (node, _) in graph.nodes().iter().zip(live).filter(|(_, live)| **live) {
            match &node.op {
                Op::BatchNormTrain(_) => {
                    images.normalised.insert(node.inputs[0]);
                }
                Op::Concat(op) if op.dim == 1 => images.place(graph, &node.inputs, node.outputs[0], statics),
                _ => {}
            }
        }
        images
    }

    /// Gives each part of a concatenation its place, where all of them are whole blocks of channels. A value has one
    /// place at most; where it is wanted elsewhere too, it is copied there.
    fn place(&mut self, graph: &Graph, parts: &[ValueId], whole: ValueId, statics: &[bool]) {
        let channels = |v: ValueId| {
            let ty = graph.ty(v);
            let fits = ty.dtype == DType::F32 && ty.shape.len() == 4;
            ty.shape.get(1).and_then(|c| c.as_fixed()).filter(|c| fits && c.is_multiple_of(PANEL))
        };
        if !parts.iter().all(|&v| channels(v).is_some() && !statics[v.index()]) {
            return;
        }
        let mut block = 0;
        for &part in parts {
            if parts.iter().filter(|&&v| v == part).count() == 1 {
                self.places.entry(part).or_insert((whole, block));
            }
            block += channels(part).unwrap_or(0) / PANEL;
        }
    }
}

impl PlanBuilder<'_> {
    /// Whether the producer of `v` should compute its statistics too.
    pub fn wants_statistics(&self, v: ValueId) -> bool {
        self.fuses() && self.images.normalised.contains(&v)
    }

    /// Says that the statistics of `v` lie in `buf`: means of its channels, then variances.
    pub fn bind_statistics(&mut self, v: ValueId, buf: Buf) {
        self.images.statistics.insert(v, buf);
    }

    /// The statistics of `v`, where they were computed with it.
    pub fn statistics(&self, v: ValueId) -> Option<Buf> {
        self.images.statistics.get(&v).copied()
    }

    /// A value in blocks of 16 channels, which may be a slice: its images lie [`Self::image_step`] apart.
    pub fn blocked_slice(&mut self, v: ValueId) -> Buf {
        self.buffer_of(v, Layout::Blocked).unwrap_or_else(|| self.blocked(v))
    }

    /// Distance of a buffer's images, where they don't follow each other.
    pub fn image_step(&self, buf: Buf) -> Option<usize> {
        let slice = self.infos[buf.index()].slice?;
        (slice.images > 1 && slice.step != slice.own).then_some(slice.step)
    }

    /// A blocked value laid out without gaps.
    pub fn gathered(&mut self, v: ValueId, buf: Buf) -> Buf {
        match self.image_step(buf) {
            None => buf,
            Some(_) => {
                let copy = self.copied(v, buf);
                self.bind(v, Layout::Blocked, copy);
                copy
            }
        }
    }

    /// A copy of a blocked value in memory of its own.
    fn copied(&mut self, v: ValueId, buf: Buf) -> Buf {
        let [n, c, h, w] = self.image(v);
        let own = layout::blocked_len(1, c, h, w);
        let step = self.image_step(buf).unwrap_or(own);
        self.derived(v, buf, n * own, "copy of slice", move |src, dst| {
            layout::copy_images(n, own, src, step, dst, own);
        })
    }

    /// A buffer for a blocked result of a kernel that can write slices; `reads` is what the step reads.
    pub fn image_result(&mut self, v: ValueId, reads: &[Buf]) -> Buf {
        let part = self.part(v);
        match part.filter(|&part| reads.iter().all(|&r| self.whole(r) != self.whole(part))) {
            Some(buf) => {
                self.images.written.insert(v);
                self.bind(v, Layout::Blocked, buf);
                buf
            }
            None => self.result(v, Layout::Blocked),
        }
    }

    /// The place of `v` in the concatenation it belongs to.
    fn part(&mut self, v: ValueId) -> Option<Buf> {
        if !self.fuses() || self.is_static(v) {
            return None;
        }
        let (whole, block) = *self.images.places.get(&v)?;
        let buf = self.concatenation(whole);
        Some(self.slice(buf, block, v))
    }

    /// The buffer of a concatenation whose parts are written in place.
    fn concatenation(&mut self, v: ValueId) -> Buf {
        if let Some(&buf) = self.images.wholes.get(&v) {
            return buf;
        }
        let buf = match self.part(v) {
            Some(part) => part,
            None => {
                let [n, c, h, w] = self.image(v);
                self.buffer(Kind::F32, layout::blocked_len(n, c, h, w), Keep::Step)
            }
        };
        self.images.wholes.insert(v, buf);
        buf
    }

    /// The slice of `buf` from block number `block` on that has the shape of `v`.
    fn slice(&mut self, buf: Buf, block: usize, v: ValueId) -> Buf {
        let [images, c, h, w] = self.image(v);
        let own = layout::blocked_len(1, c, h, w);
        let info = self.infos[buf.index()];
        let start = block * layout::blocked_len(1, PANEL, h, w);
        let slice = match info.slice {
            Some(outer) => Slice { start: outer.start + start, own, ..outer },
            None => Slice { whole: buf, start, step: info.len / images.max(1), own, images },
        };
        let len = layout::slice_len(images, own, Some(slice.step));
        self.add(BufInfo { len, slice: Some(slice), ..info })
    }

    /// Binds `v` to the channels of `x` from number `first` on, where that needs no copy.
    pub fn alias_channels(&mut self, v: ValueId, x: ValueId, first: usize) -> bool {
        let Some(buf) = self.buffer_of(x, Layout::Blocked).filter(|_| self.fuses()) else { return false };
        let whole = self.whole(buf);
        let fits = first.is_multiple_of(PANEL) && self.image(v)[1].is_multiple_of(PANEL);
        if !fits || self.infos[whole.index()].keep != Keep::Step {
            return false;
        }
        let slice = self.slice(buf, first / PANEL, v);
        self.bind(v, Layout::Blocked, slice);
        true
    }

    /// Brings those parts of a concatenation to their places that were not written there. Returns whether the
    /// concatenation is one of parts in place at all.
    pub fn complete(&mut self, v: ValueId, parts: &[ValueId]) -> bool {
        let in_place = self.images.wholes.contains_key(&v) || self.images.places.contains_key(&v);
        if !in_place || !self.fuses() || self.is_static(v) {
            return false;
        }
        let whole = self.concatenation(v);
        let mut block = 0;
        for &part in parts {
            let is_there = self.images.written.contains(&part)
                && self.images.places.get(&part).is_some_and(|(home, _)| *home == v);
            if !is_there && self.len(part) > 0 {
                let place = self.slice(whole, block, part);
                self.copy_part(part, place);
            }
            block += self.image(part)[1] / PANEL;
        }
        self.bind(v, Layout::Blocked, whole);
        true
    }

    /// Copies a value to its place in a concatenation.
    fn copy_part(&mut self, v: ValueId, place: Buf) {
        let mut from = self.blocked_slice(v);
        if self.whole(from) == self.whole(place) {
            from = self.copied(v, from);
        }
        let [n, c, h, w] = self.image(v);
        let own = layout::blocked_len(1, c, h, w);
        let step = |b: &Self, buf| b.image_step(buf).unwrap_or(own);
        let (source, target) = (step(self, from), step(self, place));
        self.step("concat part", &[from], &[place], move |views, _| {
            layout::copy_images(n, own, views.read(0), source, views.write(0), target);
            Ok(())
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::CompileOptions;
    use crate::cpu::param::ParamLayout;
    use kessen_graph::{Bindings, shape};

    /// Runs `check` with a builder, a value of 48 channels in blocks, and slices of its first 16 and last 32.
    fn with_slices(check: impl Fn(&mut PlanBuilder<'_>, Buf, [Buf; 2])) {
        let graph = Graph::build("n", |g| {
            let x = g.input("x", shape![2, 48, 3, 5]);
            [("a", x.slice(1, 0, 16)), ("b", x.slice(1, 16, 48))]
        });
        let graph = graph.unwrap();
        let layouts = vec![ParamLayout::Plain; graph.values().len()];
        let live = vec![true; graph.nodes().len()];
        let options = CompileOptions::inference();
        let mut b = PlanBuilder::new(&graph, &live, &Bindings::default(), &options, layouts, true).unwrap();
        let whole = b.buffer(Kind::F32, layout::blocked_len(2, 48, 3, 5), Keep::Step);
        let [a, c] = [0, 1].map(|k| graph.outputs()[k].1);
        let slices = [b.slice(whole, 0, a), b.slice(whole, 1, c)];
        check(&mut b, whole, slices);
    }

    #[test]
    fn slices_lie_in_the_whole() {
        with_slices(|b, whole, [first, last]| {
            let [first, last] = [first, last].map(|s| b.infos[s.index()]);
            let (first_at, last_at) = (first.slice.unwrap(), last.slice.unwrap());
            assert_eq!((first_at.start, first_at.own, first_at.step), (0, 240, 720));
            assert_eq!((last_at.start, last_at.own, last_at.step), (240, 480, 720));
            assert_eq!(last_at.start + last.len, b.infos[whole.index()].len);
        });
    }

    #[test]
    #[should_panic(expected = "overlapping buffers")]
    fn one_slice_is_not_read_while_another_is_written() {
        with_slices(|b, _, [first, last]| b.step("bad", &[first], &[last], |_, _| Ok(())));
    }

    #[test]
    #[should_panic(expected = "overlapping buffers")]
    fn a_slice_is_not_written_with_the_whole() {
        with_slices(|b, whole, [first, _]| b.step("bad", &[], &[whole, first], |_, _| Ok(())));
    }
}
