//! Where boxes stand relative to one another: layers, and the order within each layer (Sugiyama et al., 1981).
//!
//! Links run from a layer to a later one. A link over several layers is broken into pieces by bends, one per layer
//! it passes, so that it gets a place of its own beside the boxes there.

/// A box or a bend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Vertex {
    pub layer: usize,
    /// The link that bends here; none for a box.
    pub link: Option<usize>,
}

/// Boxes and bends in their layers.
#[derive(Debug, Default)]
pub(super) struct Layers {
    /// Boxes first, with their own indices, then the bends.
    pub vertices: Vec<Vertex>,
    /// Vertices of each layer from left to right.
    pub layers: Vec<Vec<usize>>,
    /// Each link's vertices from its source to its target.
    pub paths: Vec<Vec<usize>>,
}

impl Layers {
    /// Orders `count` boxes with `links` (from, to), where `from < to` throughout.
    pub fn new(count: usize, links: &[(usize, usize)]) -> Layers {
        let layer = assign(count, links);
        let vertices = layer.iter().map(|&layer| Vertex { layer, link: None }).collect();
        let mut order = Layers { vertices, ..Layers::default() };
        for (index, &(from, to)) in links.iter().enumerate() {
            let mut path = vec![from];
            for layer in layer[from] + 1..layer[to] {
                path.push(order.vertices.len());
                order.vertices.push(Vertex { layer, link: Some(index) });
            }
            path.push(to);
            order.paths.push(path);
        }
        order.fill(count, links);
        order.untangle();
        order
    }

    /// Puts the vertices into their layers depth first, short links before long ones, so that a link around others
    /// starts out to their right.
    fn fill(&mut self, count: usize, links: &[(usize, usize)]) {
        let layers = self.vertices.iter().map(|v| v.layer + 1).max().unwrap_or(0);
        self.layers = vec![vec![]; layers];
        let mut leaving = vec![vec![]; count];
        for (index, &(from, _)) in links.iter().enumerate() {
            leaving[from].push(index);
        }
        let mut seen = vec![false; count];
        for root in 0..count {
            let mut stack = vec![(None, root)];
            while let Some((link, vertex)) = stack.pop() {
                if let Some(index) = link {
                    let path: &Vec<usize> = &self.paths[index];
                    for &bend in &path[1..path.len() - 1] {
                        self.layers[self.vertices[bend].layer].push(bend);
                    }
                }
                if std::mem::replace(&mut seen[vertex], true) {
                    continue;
                }
                self.layers[self.vertices[vertex].layer].push(vertex);
                let mut onward = leaving[vertex].clone();
                onward.sort_by_key(|&index| self.paths[index].len());
                // The stack hands out its end first.
                stack.extend(onward.iter().rev().map(|&index| (Some(index), links[index].1)));
            }
        }
    }

    /// Sweeps down and up, sorting each layer by the mean place of its neighbours in the layer before, and keeps the
    /// order with the fewest crossings.
    fn untangle(&mut self) {
        const SWEEPS: usize = 24;
        let (above, below) = self.neighbours();
        let mut best = (self.crossings(&below), self.layers.clone());
        for sweep in 0..SWEEPS {
            if best.0 == 0 {
                break;
            }
            let mut place = self.places();
            let down = sweep % 2 == 0;
            let count = self.layers.len();
            for step in 1..count {
                let (layer, near) = if down { (step, &above) } else { (count - 1 - step, &below) };
                let mean = |v: &usize| match near[*v].len() {
                    0 => place[*v],
                    n => near[*v].iter().map(|&u| place[u]).sum::<f64>() / n as f64,
                };
                let mut keyed: Vec<(f64, usize)> = self.layers[layer].iter().map(|v| (mean(v), *v)).collect();
                keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
                self.layers[layer] = keyed.into_iter().map(|k| k.1).collect();
                for (k, &v) in self.layers[layer].iter().enumerate() {
                    place[v] = k as f64;
                }
            }
            let crossings = self.crossings(&below);
            if crossings < best.0 {
                best = (crossings, self.layers.clone());
            }
        }
        self.layers = best.1;
    }

    /// Each vertex' neighbours one layer up and one layer down.
    pub fn neighbours(&self) -> (Vec<Vec<usize>>, Vec<Vec<usize>>) {
        let mut above = vec![vec![]; self.vertices.len()];
        let mut below = above.clone();
        for piece in self.paths.iter().flat_map(|path| path.windows(2)) {
            above[piece[1]].push(piece[0]);
            below[piece[0]].push(piece[1]);
        }
        (above, below)
    }

    fn places(&self) -> Vec<f64> {
        let mut place = vec![0.0; self.vertices.len()];
        for layer in &self.layers {
            for (k, &v) in layer.iter().enumerate() {
                place[v] = k as f64;
            }
        }
        place
    }

    fn crossings(&self, below: &[Vec<usize>]) -> usize {
        let place = self.places();
        let between = |layer: &Vec<usize>| {
            let pieces: Vec<(f64, f64)> = layer
                .iter()
                .flat_map(|&v| below[v].iter().map(move |&u| (v, u)))
                .map(|(v, u)| (place[v], place[u]))
                .collect();
            let cross = |(k, a): (usize, &(f64, f64))| {
                pieces[k + 1..].iter().filter(|b| (a.0 - b.0) * (a.1 - b.1) < 0.0).count()
            };
            pieces.iter().enumerate().map(cross).sum::<usize>()
        };
        self.layers.iter().map(between).sum()
    }
}

/// The layer of each box: one more than its deepest predecessor's, but a box without predecessors stands right
/// above its first successor.
fn assign(count: usize, links: &[(usize, usize)]) -> Vec<usize> {
    let mut layer = vec![0; count];
    let mut by_target: Vec<(usize, usize)> = links.to_vec();
    by_target.sort_by_key(|link| link.1);
    for &(from, to) in &by_target {
        layer[to] = layer[to].max(layer[from] + 1);
    }
    for source in 0..count {
        if !links.iter().any(|l| l.1 == source) {
            let first = links.iter().filter(|l| l.0 == source).map(|l| layer[l.1]).min();
            layer[source] = first.map_or(layer[source], |first| first - 1);
        }
    }
    layer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skip_stands_to_the_right_of_what_it_skips() {
        let order = Layers::new(4, &[(0, 3), (0, 1), (1, 2), (2, 3)]);
        assert_eq!(order.layers.len(), 4);
        assert_eq!(order.layers[1], [1, 4]);
        assert_eq!(order.layers[2], [2, 5]);
        assert_eq!(order.paths[0], [0, 4, 5, 3]);
    }

    #[test]
    fn crossings_that_can_be_avoided_are() {
        // Two chains whose second boxes were numbered the wrong way round.
        let order = Layers::new(4, &[(0, 3), (1, 2)]);
        let (_, below) = order.neighbours();
        assert_eq!(order.crossings(&below), 0);
    }

    #[test]
    fn a_late_input_stands_above_its_user() {
        let order = Layers::new(4, &[(0, 1), (1, 3), (2, 3)]);
        assert_eq!(order.vertices.iter().map(|v| v.layer).collect::<Vec<_>>(), [0, 1, 1, 2]);
    }

    #[test]
    fn nothing_to_order() {
        assert!(Layers::new(0, &[]).layers.is_empty());
        assert_eq!(Layers::new(2, &[]).layers, [vec![0, 1]]);
    }
}
