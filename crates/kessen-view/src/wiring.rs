//! A network's wiring as a drawing.

mod fold;
mod parts;

use crate::diagram::{Block, BlockId, BlockKind, Diagram};
use crate::picture::Picture;
use crate::scale::fixed;
use kessen_graph::Graph;
use parts::Part;

/// How a [`Graph`] is drawn. The default shows every layer, repeated blocks once, in as many columns as suit a slide.
///
/// ```
/// use kessen_graph::{Graph, shape};
/// use kessen_view::Drawing;
///
/// let net = Graph::build("mlp", |g| {
///     let x = g.input("x", shape!["batch", 2]);
///     x.linear("hidden", 16).sigmoid().linear("out", 1)
/// })?;
/// let picture = Drawing::default().picture(&net);
/// assert!(picture.to_svg().contains("hidden"));
/// # Ok::<(), kessen_graph::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Drawing {
    depth: Option<usize>,
    fuse: bool,
    fold: bool,
    columns: Option<usize>,
    title: Option<String>,
}

impl Default for Drawing {
    fn default() -> Self {
        Drawing { depth: None, fuse: true, fold: true, columns: None, title: None }
    }
}

/// The drawing of `graph` with the default [`Drawing`].
pub fn draw(graph: &Graph) -> Picture {
    Drawing::default().picture(graph)
}

impl Drawing {
    /// Draws as one box what agrees in the first `depth` parts of its path: with depth 1, `layer1.0.conv1` and
    /// `layer1.1.conv2` become the box `layer1`. Zero changes nothing.
    pub fn collapse(self, depth: usize) -> Drawing {
        Drawing { depth: Some(depth).filter(|&d| d > 0), ..self }
    }

    /// Whether normalisations, activations and reshapes are written into the box of the layer before them; they are
    /// by default.
    pub fn fuse(self, fuse: bool) -> Drawing {
        Drawing { fuse, ..self }
    }

    /// Whether equal blocks in a row, such as `layer1.1` and `layer1.2`, are drawn once in a frame that counts them;
    /// they are by default.
    pub fn fold(self, fold: bool) -> Drawing {
        Drawing { fold, ..self }
    }

    /// Sets the number of columns a long drawing is broken into.
    pub fn columns(self, columns: usize) -> Drawing {
        Drawing { columns: Some(columns), ..self }
    }

    /// Sets the title in place of the graph's name and number of parameters.
    pub fn title(self, title: impl Into<String>) -> Drawing {
        Drawing { title: Some(title.into()), ..self }
    }

    /// Draws what the graph's outputs depend on.
    pub fn picture(&self, graph: &Graph) -> Picture {
        let mut parts = parts::parts(graph, self.fuse);
        if let Some(depth) = self.depth {
            parts = fold::collapse(parts, depth);
        }
        let mut repeats = Vec::new();
        if self.fold {
            (parts, repeats) = fold::fold(parts);
        }
        let counted = || match (graph.name(), graph.weight_count()) {
            (name, 0) => name.to_owned(),
            (name, count) => format!("{name} · {} parameters", fixed(count as f64, 0)),
        };
        let mut diagram = Diagram::new(self.title.clone().unwrap_or_else(counted));
        let mut ids: Vec<BlockId> = Vec::new();
        for part in &parts {
            let from: Vec<(BlockId, &str)> =
                part.inputs.iter().map(|&input| (ids[input], parts[input].shape.as_str())).collect();
            ids.push(diagram.block(block(part), &from));
        }
        for repeat in repeats {
            diagram.frame(format!("×{}", repeat.count), repeat.parts.into_iter().map(|part| ids[part]));
        }
        match self.columns {
            Some(columns) => diagram.columns(columns).picture(),
            None => diagram.fit().picture(),
        }
    }
}

fn block(part: &Part) -> Block {
    let mut block = Block::new(part.kind, &part.title);
    for detail in &part.details {
        block = block.detail(detail);
    }
    if !part.fused.is_empty() {
        block = block.detail(part.fused.join(" · "));
    }
    match part.weights {
        0 => block,
        count => block.detail(format!("{} parameters", fixed(count as f64, 0))),
    }
}

/// What a box with an operator of this name does.
fn kind_of(operator: &str) -> BlockKind {
    let has = |part: &str| operator.contains(part);
    match operator {
        "linear" | "matmul" | "embedding" => BlockKind::Linear,
        "concat" | "binary" | "add" | "sub" | "mul" | "div" => BlockKind::Join,
        "reshape" | "transpose" | "slice" | "broadcast" | "cast" | "pad" | "gather" => BlockKind::Move,
        "unary" | "softmax" | "clamp" => BlockKind::Activation,
        "dropout" => BlockKind::Norm,
        "cross_entropy" | "bce_with_logits" | "regression_loss" => BlockKind::Loss,
        _ if has("attention") => BlockKind::Attention,
        _ if has("recurrent") || has("lstm") || has("gru") || has("elman") => BlockKind::Recurrent,
        _ if has("conv") => BlockKind::Conv,
        _ if has("pool") => BlockKind::Pool,
        _ if has("norm") => BlockKind::Norm,
        _ => BlockKind::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kessen_graph::ops::conv::conv;
    use kessen_graph::{Wire, shape};

    fn texts(picture: &Picture) -> Vec<String> {
        let svg = picture.to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let drawn = |n: &roxmltree::Node| n.has_tag_name("text") && n.attribute("aria-hidden").is_none();
        document.descendants().filter(drawn).filter_map(|n| n.text()).map(str::to_owned).collect()
    }

    fn basic(x: Wire, path: &str, width: usize) -> Wire {
        let h = x.conv(&format!("{path}.conv1"), conv(width, 3).padding(1).no_bias());
        let h = h.batch_norm(&format!("{path}.bn1")).relu();
        let h = h.conv(&format!("{path}.conv2"), conv(width, 3).padding(1).no_bias());
        h.batch_norm(&format!("{path}.bn2")).add(&x).relu()
    }

    fn residual(blocks: usize) -> Graph {
        let net = Graph::build("tiny", |g| {
            let x = g.input("image", shape!["batch", 3, 8, 8]);
            let mut h = x.conv("conv1", conv(4, 3).padding(1)).relu();
            for k in 0..blocks {
                h = basic(h, &format!("layer1.{k}"), 4);
            }
            h.flatten().linear("fc", 10)
        });
        net.unwrap()
    }

    #[test]
    fn what_follows_a_layer_is_written_into_its_box() {
        let found = texts(&draw(&residual(0)));
        for expected in [
            "image",
            "conv1",
            "3×3 · 4 filters",
            "relu · flatten",
            "112 parameters",
            "fc",
            "10 units",
            "output",
        ] {
            assert!(found.contains(&expected.to_owned()), "{expected} in {found:?}");
        }
        assert!(found.contains(&"3×8×8".to_owned()) && found.contains(&"256".to_owned()), "{found:?}");
        let apart = texts(&Drawing::default().fuse(false).picture(&residual(0)));
        assert!(apart.contains(&"relu".to_owned()) && apart.contains(&"flatten".to_owned()), "{apart:?}");
    }

    #[test]
    fn equal_blocks_are_drawn_once_and_counted() {
        let found = texts(&draw(&residual(4)));
        assert!(found.contains(&"×4".to_owned()), "{found:?}");
        assert_eq!(found.iter().filter(|t| t.ends_with(".conv1")).count(), 1);
        let every = texts(&Drawing::default().fold(false).picture(&residual(4)));
        assert_eq!(every.iter().filter(|t| t.ends_with(".conv1")).count(), 4);
    }

    #[test]
    fn stages_collapse_by_path() {
        let found = texts(&Drawing::default().collapse(1).picture(&residual(3)));
        assert!(found.contains(&"layer1".to_owned()), "{found:?}");
        assert!(!found.iter().any(|t| t.contains("layer1.")), "{found:?}");
    }

    #[test]
    fn branches_meet_in_one_box_with_every_link() {
        let net = Graph::build("inception", |g| {
            let x = g.input("x", shape!["batch", 8, 6, 6]);
            let a = x.conv("a", conv(4, 1)).relu();
            let b = x.conv("b.reduce", conv(2, 1)).relu().conv("b.conv", conv(4, 3).padding(1)).relu();
            a.concat(&[&b], 1)
        });
        let svg = draw(&net.unwrap()).to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let links = document.descendants().filter(|n| n.has_tag_name("path")).count() / 2;
        assert_eq!(links, 6, "x to both branches, reduce to conv, both to concat, concat to output");
    }

    #[test]
    fn a_graph_without_outputs_is_an_empty_drawing() {
        draw(&Graph::new("nothing")).to_png(1.0).unwrap();
    }
}
