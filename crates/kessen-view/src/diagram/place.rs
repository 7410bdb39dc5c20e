//! Coordinates of boxes and links.

use super::order::Layers;
use crate::picture::Rect;
use crate::spread::{apart, apart_within};

/// Room between neighbouring boxes of a layer, and between a box and a passing link.
const BESIDE: f64 = 34.0;
const BEND: f64 = 26.0;
/// Length of the straight piece in which a link leaves its box, with the shape's label beside it.
pub(super) const TRUNK: f64 = 30.0;
/// Height in which a link reaches its target's column, and the straight piece before the arrow's tip.
const CURVE: f64 = 30.0;
pub(super) const TIP: f64 = 18.0;

/// A link's course: where it starts, the columns it runs through, where it ends.
#[derive(Debug, Clone)]
pub(super) struct Route {
    pub start: (f64, f64),
    /// Straight vertical pieces: x, top, bottom.
    pub columns: Vec<(f64, f64, f64)>,
    pub end: (f64, f64),
}

/// Everything with its place; the left top corner is at (0, 0).
#[derive(Debug)]
pub(super) struct Placed {
    pub boxes: Vec<Rect>,
    pub routes: Vec<Route>,
    /// Layer of each box.
    pub layer: Vec<usize>,
    /// Top and bottom of each layer.
    pub bands: Vec<(f64, f64)>,
}

/// Places boxes of the given sizes (width, height) with links (from, to), `from < to`.
pub(super) fn place(sizes: &[(f64, f64)], links: &[(usize, usize)]) -> Placed {
    let order = Layers::new(sizes.len(), links);
    let x = columns(&order, sizes, links);
    let width_of = |v: usize| sizes.get(v).map_or(0.0, |s| s.0);
    let left = (0..x.len()).map(|v| x[v] - width_of(v) / 2.0).fold(f64::INFINITY, f64::min);
    let x: Vec<f64> = x.iter().map(|x| x - left).collect();
    let ports = ports(&order, sizes, links, &x);
    let bands = bands(&order, sizes, &x, &ports);
    let boxes = (0..sizes.len()).map(|v| {
        let (top, bottom) = bands[order.vertices[v].layer];
        let (w, h) = sizes[v];
        Rect { x: x[v] - w / 2.0, y: (top + bottom - h) / 2.0, w, h }
    });
    let boxes: Vec<Rect> = boxes.collect();
    let route = |index: usize| {
        let (from, to) = links[index];
        let path = &order.paths[index];
        let bends = path[1..path.len() - 1].iter();
        let columns =
            bends.map(|&v| (x[v], bands[order.vertices[v].layer].0, bands[order.vertices[v].layer].1));
        Route {
            start: (x[from], boxes[from].bottom()),
            columns: columns.collect(),
            end: (ports[index], boxes[to].y),
        }
    };
    Placed {
        routes: (0..links.len()).map(route).collect(),
        layer: order.vertices[..sizes.len()].iter().map(|v| v.layer).collect(),
        bands,
        boxes,
    }
}

/// The centre of every vertex. Sweeps down and up put each below (above) the weighted mean of its neighbours in the
/// layer before, keeping the order and the room between them; the last sweep runs down, so that chains are straight.
fn columns(order: &Layers, sizes: &[(f64, f64)], links: &[(usize, usize)]) -> Vec<f64> {
    const ROUNDS: usize = 6;
    let count = order.vertices.len();
    let width = |v: usize| sizes.get(v).map_or(0.0, |s| s.0);
    let gap = |a: usize, b: usize| {
        let bend = order.vertices[a].link.is_some() || order.vertices[b].link.is_some();
        (width(a) + width(b)) / 2.0 + if bend { BEND } else { BESIDE }
    };
    let pull = pulls(order, links);
    let (mut above, mut below) = (vec![vec![]; count], vec![vec![]; count]);
    for (path, pull) in order.paths.iter().zip(&pull) {
        for (piece, &weight) in path.windows(2).zip(pull) {
            above[piece[1]].push((piece[0], weight));
            below[piece[0]].push((piece[1], weight));
        }
    }
    let gaps: Vec<Vec<f64>> =
        order.layers.iter().map(|l| l.windows(2).map(|pair| gap(pair[0], pair[1])).collect()).collect();
    let mut x = vec![0.0; count];
    let layers = order.layers.len();
    for sweep in 0..=2 * ROUNDS {
        let near = if sweep % 2 == 0 { &above } else { &below };
        for step in 0..layers {
            let layer = if sweep % 2 == 0 { step } else { layers - 1 - step };
            let wanted: Vec<(f64, f64)> = order.layers[layer]
                .iter()
                .map(|&v| {
                    let sum: f64 = near[v].iter().map(|&(u, pull)| pull * x[u]).sum();
                    let pull: f64 = near[v].iter().map(|n| n.1).sum();
                    // A passing link makes way for boxes, not they for it.
                    let weight = if order.vertices[v].link.is_some() { 1e-4 } else { 1.0 };
                    (if pull > 0.0 { sum / pull } else { x[v] }, weight)
                })
                .collect();
            for (&v, at) in order.layers[layer].iter().zip(apart(&wanted, &gaps[layer])) {
                x[v] = at;
            }
        }
    }
    // A chain that has moved may have made room for its neighbour.
    for _ in 0..3 {
        straighten(order, &gaps, &mut x);
    }
    x
}

/// Puts every chain (boxes and bends that only follow one another) into one column where there is room for it.
fn straighten(order: &Layers, gaps: &[Vec<f64>], x: &mut [f64]) {
    let (above, below) = order.neighbours();
    let mut place = vec![0; x.len()];
    for layer in &order.layers {
        for (k, &v) in layer.iter().enumerate() {
            place[v] = k;
        }
    }
    let next = |v: usize| match below[v][..] {
        [only] if above[only].len() == 1 => Some(only),
        _ => None,
    };
    let starts = |v: &usize| !matches!(above[*v][..], [only] if next(only).is_some());
    for start in (0..x.len()).filter(starts) {
        let chain: Vec<usize> = std::iter::successors(Some(start), |&v| next(v)).collect();
        let fits = |at: f64, x: &[f64]| {
            chain.iter().all(|&v| {
                let layer = order.vertices[v].layer;
                let (row, gaps, k) = (&order.layers[layer], &gaps[layer], place[v]);
                let left = k == 0 || at - x[row[k - 1]] >= gaps[k - 1] - 1e-6;
                left && (k + 1 == row.len() || x[row[k + 1]] - at >= gaps[k] - 1e-6)
            })
        };
        let far = |at: f64, x: &[f64]| chain.iter().map(|&v| (x[v] - at).abs()).sum::<f64>();
        let fitting = chain.iter().map(|&v| x[v]).filter(|&at| fits(at, x));
        if let Some(at) = fitting.min_by(|&a, &b| far(a, x).total_cmp(&far(b, x))) {
            chain.iter().for_each(|&v| x[v] = at);
        }
    }
}

/// How strongly each piece of each link pulls its ends together. A link around others (its source has other
/// successors and its target other predecessors) hardly pulls at boxes, so that the chain it skips stays straight.
fn pulls(order: &Layers, links: &[(usize, usize)]) -> Vec<Vec<f64>> {
    let degree = |index: usize| {
        let (from, to) = links[index];
        (links.iter().filter(|l| l.0 == from).count(), links.iter().filter(|l| l.1 == to).count())
    };
    let pull = |(index, path): (usize, &Vec<usize>)| {
        let last = path.len() - 2;
        let (out, into) = degree(index);
        let around = out > 1 && into > 1 && last > 0;
        let piece = |k: usize| match () {
            _ if last == 0 => 1.0,
            _ if k > 0 && k < last => 8.0,
            _ if around => 1e-6,
            _ => 1.0,
        };
        (0..=last).map(piece).collect()
    };
    order.paths.iter().enumerate().map(pull).collect()
}

/// Where each link enters its target: as nearly below its last column as the box allows, apart from the others.
fn ports(order: &Layers, sizes: &[(f64, f64)], links: &[(usize, usize)], x: &[f64]) -> Vec<f64> {
    let mut ports = vec![0.0; links.len()];
    for (target, &(width, _)) in sizes.iter().enumerate() {
        let mut into: Vec<(f64, usize)> = (0..links.len())
            .filter(|&index| links[index].1 == target)
            .map(|index| (x[order.paths[index][order.paths[index].len() - 2]], index))
            .collect();
        if let [(_, only)] = into[..] {
            ports[only] = x[target];
            continue;
        }
        into.sort_by(|a, b| a.0.total_cmp(&b.0));
        let half = (width / 2.0 - 16.0).max(0.0);
        let gap = (2.0 * half / (into.len().max(2) - 1) as f64).min(30.0);
        // Links that come straight from above keep their place; the others move.
        let weight = |at: f64| if (at - x[target]).abs() < 1.0 { 100.0 } else { 1.0 };
        let wanted: Vec<(f64, f64)> =
            into.iter().map(|&(at, _)| (at.clamp(x[target] - half, x[target] + half), weight(at))).collect();
        let gaps = vec![gap; into.len().saturating_sub(1)];
        let placed = apart_within(&wanted, &gaps, x[target] - half, x[target] + half);
        for (at, &(_, index)) in placed.iter().zip(&into) {
            ports[index] = *at;
        }
    }
    ports
}

/// Top and bottom of every layer. Between two layers there is room for the labels and, where a link changes its
/// column, for its curve.
fn bands(order: &Layers, sizes: &[(f64, f64)], x: &[f64], ports: &[f64]) -> Vec<(f64, f64)> {
    let mut farthest = vec![0.0f64; order.layers.len() + 1];
    for (path, port) in order.paths.iter().zip(ports) {
        for (k, piece) in path.windows(2).enumerate() {
            let to = if k == path.len() - 2 { *port } else { x[piece[1]] };
            let layer = order.vertices[piece[1]].layer;
            farthest[layer] = farthest[layer].max((to - x[piece[0]]).abs());
        }
    }
    let mut top = 0.0;
    let mut bands = Vec::new();
    for (k, layer) in order.layers.iter().enumerate() {
        if k > 0 {
            let curve = if farthest[k] < 1.0 { 0.0 } else { CURVE + (farthest[k] / 12.0).min(40.0) };
            top += TRUNK + curve + TIP;
        }
        let height = layer.iter().filter_map(|&v| sizes.get(v)).map(|s| s.1).fold(0.0, f64::max);
        bands.push((top, top + height));
        top += height;
    }
    bands
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overlap(a: &Rect, b: &Rect) -> bool {
        a.x < b.right() && b.x < a.right() && a.y < b.bottom() && b.y < a.bottom()
    }

    #[test]
    fn boxes_never_overlap_and_links_run_down() {
        let cases: [(&str, usize, &[(usize, usize)]); 4] = [
            ("chain", 4, &[(0, 1), (1, 2), (2, 3)]),
            ("skip", 4, &[(0, 1), (1, 2), (2, 3), (0, 3)]),
            (
                "branches",
                8,
                &[(0, 1), (0, 2), (2, 3), (0, 4), (4, 5), (0, 6), (1, 7), (3, 7), (5, 7), (6, 7)],
            ),
            (
                "everything to everything",
                6,
                &[(0, 3), (0, 4), (0, 5), (1, 3), (1, 4), (1, 5), (2, 3), (2, 4), (2, 5)],
            ),
        ];
        for (name, count, links) in cases {
            let sizes: Vec<(f64, f64)> = (0..count).map(|k| (80.0 + 30.0 * (k % 3) as f64, 40.0)).collect();
            let placed = place(&sizes, links);
            for a in 0..count {
                assert!(placed.boxes[a].x >= -1e-6, "{name}");
                for b in 0..a {
                    assert!(!overlap(&placed.boxes[a], &placed.boxes[b]), "{name}: {a} and {b}");
                }
            }
            for (route, &(_, to)) in placed.routes.iter().zip(links) {
                assert!(route.start.1 < route.end.1, "{name}");
                let target = placed.boxes[to];
                assert!((target.x..=target.right()).contains(&route.end.0), "{name}");
            }
        }
    }

    #[test]
    fn the_chain_beside_a_skip_is_straight() {
        let placed = place(&[(100.0, 40.0); 4], &[(0, 1), (1, 2), (2, 3), (0, 3)]);
        let centre = placed.boxes[0].centre().0;
        for k in 1..4 {
            assert!((placed.boxes[k].centre().0 - centre).abs() < 2.0, "{:?}", placed.boxes);
        }
        let columns = &placed.routes[3].columns;
        assert!(columns.iter().all(|c| c.0 > placed.boxes[1].right()), "{columns:?}");
        assert!((columns[0].0 - columns[1].0).abs() < 1.0, "the skip is straight too: {columns:?}");
    }

    #[test]
    fn equal_branches_stand_symmetrically() {
        let placed = place(&[(100.0, 40.0); 5], &[(0, 1), (0, 2), (0, 3), (1, 4), (2, 4), (3, 4)]);
        let centre = |k: usize| placed.boxes[k].centre().0;
        assert!((centre(0) - centre(2)).abs() < 1.0 && (centre(4) - centre(2)).abs() < 1.0);
        assert!((centre(1) + centre(3) - 2.0 * centre(2)).abs() < 1.0);
    }

    #[test]
    fn random_wirings_keep_their_boxes_apart() {
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for case in 0..150 {
            let count = 1 + random(25);
            let sizes: Vec<(f64, f64)> =
                (0..count).map(|_| (60.0 + random(150) as f64, 30.0 + random(60) as f64)).collect();
            let links: Vec<(usize, usize)> = (0..random(2 * count))
                .map(|_| (random(count), random(count)))
                .filter(|(from, to)| from < to)
                .collect();
            let placed = place(&sizes, &links);
            for a in 0..count {
                for b in 0..a {
                    assert!(!overlap(&placed.boxes[a], &placed.boxes[b]), "case {case}: {a} and {b}");
                }
            }
            for (route, (_, to)) in placed.routes.iter().zip(&links) {
                let passes = |area: &Rect| {
                    let beside = |c: &(f64, f64, f64)| {
                        c.0 > area.x && c.0 < area.right() && c.1 < area.bottom() && c.2 > area.y
                    };
                    route.columns.iter().any(beside)
                };
                assert!(!placed.boxes.iter().any(passes), "case {case}: a link runs through a box");
                assert!(
                    placed.boxes[*to].x <= route.end.0 && route.end.0 <= placed.boxes[*to].right(),
                    "case {case}"
                );
            }
        }
    }
}
