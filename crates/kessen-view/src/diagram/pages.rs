//! A long drawing in several columns.

use super::Diagram;
use super::place::{Placed, TRUNK};
use crate::font;
use crate::picture::Rect;
use crate::style::size;
use std::ops::Range;

/// Room at the left of the first column, and between columns for the line from one to the next.
pub(super) const MARGIN: f64 = 28.0;
pub(super) const BETWEEN: f64 = 80.0;

/// One column of a drawing: a range of layers, where it was placed and where it is drawn.
#[derive(Debug)]
pub(super) struct Page {
    pub layers: Range<usize>,
    /// Left edge and top as placed.
    pub x: f64,
    pub top: f64,
    pub bottom: f64,
    pub width: f64,
    /// Left edge as drawn.
    pub left: f64,
}

/// The columns: about equally high, cut where all links that pass come from one box of the layer above.
pub(super) fn pages(diagram: &Diagram, placed: &Placed, columns: usize) -> Vec<Page> {
    let Some(last) = placed.bands.len().checked_sub(1) else { return vec![] };
    let passable = |cut: usize| {
        let above = |block: usize| placed.layer[block] < cut;
        let mut passing = diagram.links.iter().filter(|l| above(l.0) && !above(l.1));
        let first = passing.next().map(|l| l.0);
        first.is_some_and(|source| placed.layer[source] == cut - 1 && passing.all(|l| l.0 == source))
    };
    let framed = |cut: usize| {
        let above = |blocks: &[usize]| blocks.iter().filter(|&&b| placed.layer[b] < cut).count();
        diagram.frames.iter().any(|(_, blocks)| (1..blocks.len()).contains(&above(blocks)))
    };
    let cuts: Vec<usize> = (1..=last).filter(|&cut| passable(cut) && !framed(cut)).collect();
    let mut starts = vec![0];
    for k in 1..columns {
        let wanted = placed.bands[last].1 * k as f64 / columns as f64;
        let distance = |cut: usize| (placed.bands[cut].0 - wanted).abs();
        starts.extend(cuts.iter().copied().min_by(|&a, &b| distance(a).total_cmp(&distance(b))));
    }
    starts.sort_unstable();
    starts.dedup();
    let mut left = MARGIN;
    let mut pages = Vec::new();
    for (k, &start) in starts.iter().enumerate() {
        let page = page(diagram, placed, start..starts.get(k + 1).copied().unwrap_or(last + 1), left);
        left += page.width + BETWEEN;
        pages.push(page);
    }
    pages
}

/// As many columns as bring the drawing nearest to a slide's shape; one where it is not high.
pub(super) fn fit(diagram: &Diagram, placed: &Placed) -> Vec<Page> {
    const SLIDE: f64 = 16.0 / 9.0;
    const LOW: f64 = 1000.0;
    let off = |pages: &[Page]| {
        let height = pages.iter().map(|p| p.bottom - p.top).fold(1.0, f64::max);
        let width = pages.last().map_or(1.0, |p| p.left + p.width);
        if pages.len() < 2 && height <= LOW { 0.0 } else { (width / height / SLIDE).ln().abs() }
    };
    let tries = (1..=8).map(|columns| pages(diagram, placed, columns));
    tries.min_by(|a, b| off(a).total_cmp(&off(b))).unwrap_or_default()
}

fn page(diagram: &Diagram, placed: &Placed, layers: Range<usize>, left: f64) -> Page {
    let inside = |b: &usize| layers.contains(&placed.layer[*b]);
    let boxes = (0..diagram.blocks.len()).filter(inside).map(|b| &placed.boxes[b]);
    let mut reach: Vec<(f64, f64)> = boxes.map(|r| (r.x, r.right())).collect();
    for (index, &(from, to)) in diagram.links.iter().enumerate() {
        let route = &placed.routes[index];
        if inside(&from) {
            let label = font::width(&diagram.labels[index], size::SMALL, false);
            reach.push((route.start.0, route.start.0 + 12.0 + label));
        }
        if inside(&to) {
            reach.extend(route.columns.iter().map(|c| (c.0 - 6.0, c.0 + 6.0)));
            reach.push((route.start.0, route.start.0));
        }
    }
    for (name, blocks) in diagram.frames.iter().filter(|(_, b)| b.iter().any(inside)) {
        let frame = framed(diagram, placed, blocks);
        reach.push((frame.x - 16.0 - font::width(name, size::TICK, true), frame.right()));
    }
    let x = reach.iter().map(|r| r.0).fold(f64::INFINITY, f64::min);
    let right = reach.iter().map(|r| r.1).fold(f64::NEG_INFINITY, f64::max);
    // A later column starts with the links that come into it.
    let top = if layers.start == 0 { 0.0 } else { placed.bands[layers.start - 1].1 };
    let onward = if layers.end < placed.bands.len() { TRUNK } else { 0.0 };
    Page { x, top, bottom: placed.bands[layers.end - 1].1 + onward, width: right - x, left, layers }
}

/// The area of a frame: its boxes, and the links that pass beside them on the way to one of them.
pub(super) fn framed(diagram: &Diagram, placed: &Placed, blocks: &[usize]) -> Rect {
    let areas = || blocks.iter().map(|&b| placed.boxes[b]);
    let top = areas().map(|r| r.y).fold(f64::INFINITY, f64::min) - 10.0;
    let bottom = areas().map(|r| r.bottom()).fold(f64::NEG_INFINITY, f64::max) + 8.0;
    let into = (0..diagram.links.len()).filter(|&index| blocks.contains(&diagram.links[index].1));
    let beside = into.flat_map(|index| &placed.routes[index].columns).filter(|c| c.1 >= top).map(|c| c.0);
    let sides: Vec<f64> = areas().flat_map(|r| [r.x, r.right()]).chain(beside).collect();
    let left = sides.iter().copied().fold(f64::INFINITY, f64::min) - 16.0;
    let right = sides.iter().copied().fold(f64::NEG_INFINITY, f64::max) + 16.0;
    Rect { x: left, y: top, w: right - left, h: bottom - top }
}
