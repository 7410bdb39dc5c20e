//! Architecture drawings: boxes in layers, joined by links.

mod draw;
mod order;
mod pages;
mod place;

use crate::font;
use crate::picture::Picture;
use crate::style::{Kind, size};

/// What a box does; decides its colour.
pub use crate::style::Kind as BlockKind;

/// A box of a drawing.
#[derive(Debug, Clone)]
pub struct Block {
    kind: Kind,
    title: String,
    details: Vec<String>,
}

impl Block {
    /// A box with its name.
    pub fn new(kind: BlockKind, title: impl Into<String>) -> Block {
        Block { kind, title: title.into(), details: vec![] }
    }

    /// Adds a line below the name: kernel size, parameters, what is fused into it.
    pub fn detail(mut self, line: impl Into<String>) -> Block {
        self.details.push(line.into());
        self
    }

    fn size(&self) -> (f64, f64) {
        let details = self.details.iter().map(|d| font::width(d, size::SMALL, false));
        let widest = details.fold(font::width(&self.title, size::TICK, true), f64::max);
        let height =
            34.0 + DETAIL * self.details.len() as f64 + if self.details.is_empty() { 2.0 } else { 6.0 };
        ((widest + 28.0).max(96.0), height)
    }
}

/// Height of a line of details.
const DETAIL: f64 = 20.0;

/// A box of a [`Diagram`], to link others to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockId(usize);

/// A drawing of boxes in layers from top to bottom. Branches stand side by side; a link that skips layers runs
/// beside the boxes that it skips.
///
/// A box is added after those that it is linked from, so there are no circles.
///
/// ```
/// use kessen_view::{Block, BlockKind, Diagram};
///
/// let mut net = Diagram::new("MLP");
/// let x = net.block(Block::new(BlockKind::Input, "x"), &[]);
/// let h = net.block(Block::new(BlockKind::Linear, "hidden").detail("16 units · sigmoid"), &[(x, "batch×1")]);
/// net.block(Block::new(BlockKind::Linear, "out"), &[(h, "batch×16")]);
/// assert!(net.picture().to_svg().contains("sigmoid"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Diagram {
    title: String,
    blocks: Vec<Block>,
    links: Vec<(usize, usize)>,
    /// What flows along each link.
    labels: Vec<String>,
    frames: Vec<(String, Vec<usize>)>,
    /// Zero for as many as fit a slide.
    columns: usize,
}

impl Diagram {
    /// An empty drawing.
    pub fn new(title: impl Into<String>) -> Diagram {
        Diagram { title: title.into(), columns: 1, ..Diagram::default() }
    }

    /// Adds a box with its links from boxes added before, each with what flows along it. An id of another drawing
    /// may be left out.
    pub fn block(&mut self, block: Block, from: &[(BlockId, &str)]) -> BlockId {
        let id = self.blocks.len();
        self.blocks.push(block);
        for &(source, label) in from.iter().filter(|(source, _)| source.0 < id) {
            self.links.push((source.0, id));
            self.labels.push(label.to_owned());
        }
        BlockId(id)
    }

    /// Draws a frame with a name around boxes that no others stand between: a repeated block, a stage.
    pub fn frame(&mut self, name: impl Into<String>, blocks: impl IntoIterator<Item = BlockId>) {
        let known: Vec<usize> = blocks.into_iter().map(|b| b.0).filter(|&b| b < self.blocks.len()).collect();
        if !known.is_empty() {
            self.frames.push((name.into(), known));
        }
    }

    /// Breaks a long drawing into this many columns, where it has places that the links of a single box pass.
    pub fn columns(self, columns: usize) -> Diagram {
        Diagram { columns: columns.max(1), ..self }
    }

    /// Breaks a long drawing into as many columns as bring it nearest to a slide's shape.
    pub fn fit(self) -> Diagram {
        Diagram { columns: 0, ..self }
    }

    /// Number of boxes.
    pub fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether there are no boxes.
    pub fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Draws it.
    pub fn picture(&self) -> Picture {
        let sizes: Vec<(f64, f64)> = self.blocks.iter().map(Block::size).collect();
        let placed = place::place(&sizes, &self.links);
        let pages = match self.columns {
            0 => pages::fit(self, &placed),
            columns => pages::pages(self, &placed, columns),
        };
        draw::draw(self, &placed, &pages)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn residual() -> Diagram {
        let mut net = Diagram::new("<net> & co");
        let x = net.block(Block::new(Kind::Input, "x"), &[]);
        let a = net.block(Block::new(Kind::Conv, "conv1").detail("3×3"), &[(x, "64×56×56")]);
        let b = net.block(Block::new(Kind::Conv, "conv2"), &[(a, "64×56×56")]);
        let sum = net.block(Block::new(Kind::Join, "add"), &[(b, "64×56×56"), (x, "64×56×56")]);
        net.block(Block::new(Kind::Output, "y"), &[(sum, "64×56×56")]);
        net.frame("×3", [a, b, sum]);
        net
    }

    fn count(picture: &Picture, tag: &str) -> usize {
        let svg = picture.to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        document.descendants().filter(|n| n.has_tag_name(tag)).count()
    }

    #[test]
    fn boxes_links_and_frames_are_drawn() {
        let picture = residual().picture();
        assert_eq!(count(&picture, "rect"), 1 + 5 + 1, "paper, boxes, frame");
        assert_eq!(count(&picture, "path"), 2 * 5, "line and tip of each link");
        let svg = picture.to_svg();
        assert!(svg.contains("&lt;net&gt; &amp; co") && svg.contains("3×3") && svg.contains("×3"));
        assert_eq!(svg.matches("64×56×56").count(), 2 * 4, "one label per source, with its rim");
    }

    #[test]
    fn columns_break_only_where_one_link_passes() {
        let mut net = Diagram::new("");
        let mut last = net.block(Block::new(Kind::Input, "x"), &[]);
        for k in 0..12 {
            last = net.block(Block::new(Kind::Conv, format!("conv{k}")), &[(last, "shape")]);
        }
        let (one, three) = (net.clone().picture(), net.columns(3).picture());
        assert!(three.height() < 0.5 * one.height() && three.width() > 2.0 * one.width());
        let skip = residual();
        assert!(skip.clone().columns(4).picture().height() > 0.5 * skip.picture().height());
    }

    #[test]
    fn ids_of_another_drawing_are_left_out() {
        let mut other = residual();
        let far = other.block(Block::new(Kind::Other, "far"), &[]);
        let mut net = Diagram::new("");
        net.block(Block::new(Kind::Other, "only"), &[(far, "")]);
        net.frame("f", [far]);
        assert_eq!(count(&net.picture(), "path"), 0);
    }

    #[test]
    fn an_empty_drawing_is_a_picture() {
        Diagram::new("").picture().to_png(1.0).unwrap();
        Diagram::new("").columns(0).picture().to_png(1.0).unwrap();
    }
}
