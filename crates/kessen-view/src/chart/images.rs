//! Sheets of small images: digits with their labels, filters, feature maps.

use crate::Image;
use crate::font;
use crate::picture::{Anchor, Canvas, Look, Picture, Rect, Words};
use crate::style::{GRID, INK, MUTED, PAPER, VERMILION, size};

/// One image of a sheet with what stands below it.
#[derive(Debug, Clone)]
pub struct Tile {
    image: Image,
    caption: String,
    note: String,
    wrong: bool,
}

impl Tile {
    /// An image without words.
    pub fn new(image: Image) -> Tile {
        Tile { image, caption: String::new(), note: String::new(), wrong: false }
    }

    /// An image with one line below it.
    pub fn captioned(image: Image, caption: impl Into<String>) -> Tile {
        Tile { caption: caption.into(), ..Tile::new(image) }
    }

    /// An image with what it was taken for and, where that is wrong, what it is.
    pub fn judged(image: Image, truth: &str, predicted: &str) -> Tile {
        let wrong = truth != predicted;
        let caption = if wrong { format!("{truth} → {predicted}") } else { truth.to_owned() };
        Tile { image, caption, note: String::new(), wrong }
    }

    /// Adds a smaller second line, as for a probability.
    pub fn note(self, note: impl Into<String>) -> Tile {
        Tile { note: note.into(), ..self }
    }
}

/// A sheet of images in rows, all enlarged to the same size without smoothing.
#[derive(Debug, Clone)]
pub struct ImageGrid {
    title: String,
    tiles: Vec<Tile>,
    columns: usize,
    side: f64,
}

impl ImageGrid {
    /// A sheet with as many columns as make it about twice as wide as high.
    pub fn new(title: impl Into<String>, tiles: impl IntoIterator<Item = Tile>) -> ImageGrid {
        let tiles: Vec<Tile> = tiles.into_iter().collect();
        let columns = ((tiles.len() as f64 * 2.0).sqrt().ceil() as usize).clamp(1, 16);
        ImageGrid { title: title.into(), tiles, columns, side: 96.0 }
    }

    /// Sets the number of columns; at least one.
    pub fn columns(self, columns: usize) -> ImageGrid {
        ImageGrid { columns: columns.max(1), ..self }
    }

    /// Sets the longer side of each image in SVG units; at least 8.
    pub fn side(self, side: f64) -> ImageGrid {
        ImageGrid { side: side.max(8.0), ..self }
    }

    /// Draws the sheet.
    pub fn picture(&self) -> Picture {
        let captions = self.tiles.iter().any(|t| !t.caption.is_empty());
        let notes = self.tiles.iter().any(|t| !t.note.is_empty());
        let below = if captions { 26.0 } else { 0.0 } + if notes { 20.0 } else { 0.0 };
        let gap = if captions { 18.0 } else { (self.side * 0.12).clamp(4.0, 12.0) };
        let longest = |f: fn(&Tile) -> &str, size| {
            self.tiles.iter().map(|t| font::width(f(t), size, true)).fold(0.0, f64::max)
        };
        let words = longest(|t| &t.caption, size::TICK).max(longest(|t| &t.note, size::SMALL));
        let slot = self.side.max(words.min(self.side * 2.0));
        let largest =
            |f: fn(&Image) -> usize| self.tiles.iter().map(|t| f(&t.image)).max().unwrap_or(1).max(1) as f64;
        let (pixels_wide, pixels_high) = (largest(Image::width), largest(Image::height));
        let scale = self.side / pixels_wide.max(pixels_high);
        let tall = pixels_high * scale;
        let top = if self.title.is_empty() { 16.0 } else { 60.0 };
        let columns = self.columns.min(self.tiles.len()).max(1);
        let rows = self.tiles.len().div_ceil(columns);
        let title_width = font::width(&self.title, size::TITLE, true);
        let width = 32.0 + ((slot + gap) * columns as f64 - gap).max(title_width);
        let height = top + (tall + below + gap) * rows as f64 - gap + 16.0;
        let mut canvas = Canvas::new(width, height.max(top + 16.0), &self.title);
        canvas.rect(Rect { x: 0.0, y: 0.0, w: width.ceil(), h: height.ceil() }, Look::fill(&PAPER));
        canvas.text(16.0, 38.0, &self.title, Words::new(size::TITLE, &INK).bold());
        for (k, tile) in self.tiles.iter().enumerate() {
            let middle = 16.0 + (slot + gap) * (k % columns) as f64 + slot / 2.0;
            let y = top + (tall + below + gap) * (k / columns) as f64;
            let (w, h) = (tile.image.width() as f64 * scale, tile.image.height() as f64 * scale);
            let area = Rect { x: middle - w / 2.0, y: y + (tall - h) / 2.0, w, h };
            // Twice the size on paper leaves nothing to smooth at the scales pictures are shown in.
            canvas.image(area, &tile.image.png(((scale * 2.0).ceil() as usize).clamp(1, 32)));
            canvas.rect(
                area,
                Look::stroke(if tile.wrong { &VERMILION } else { &GRID }, if tile.wrong { 2.5 } else { 1.0 }),
            );
            let paint = if tile.wrong { &VERMILION } else { &INK };
            let caption = font::fit(&tile.caption, slot + gap, size::TICK, true);
            canvas.text(
                middle,
                y + tall + 20.0,
                &caption,
                Words::new(size::TICK, paint).anchor(Anchor::Middle).bold(),
            );
            let note = font::fit(&tile.note, slot + gap, size::SMALL, false);
            canvas.text(
                middle,
                y + tall + 39.0,
                &note,
                Words::new(size::SMALL, &MUTED).anchor(Anchor::Middle),
            );
        }
        canvas.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_image_per_tile_with_its_words() {
        let image = Image::grey(2, 2, &[0.0, 1.0, 1.0, 0.0], 0.0, 1.0).unwrap();
        let tiles = [
            Tile::judged(image.clone(), "7", "1").note("93 %"),
            Tile::judged(image.clone(), "4", "4"),
            Tile::new(image),
        ];
        let svg = ImageGrid::new("<worst>", tiles).picture().to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let images = document.descendants().filter(|n| n.has_tag_name("image"));
        assert!(images.clone().all(|n| n.attribute("href").unwrap().starts_with("data:image/png;base64,")));
        assert_eq!(images.count(), 3);
        let texts: Vec<_> =
            document.descendants().filter(|n| n.has_tag_name("text")).filter_map(|n| n.text()).collect();
        assert_eq!(texts, ["<worst>", "7 → 1", "93 %", "4"]);
    }

    #[test]
    fn empty_sheets_and_images_never_panic() {
        ImageGrid::new("none", []).picture().to_png(1.0).unwrap();
        let empty = Image::grey(0, 0, &[], 0.0, 1.0).unwrap();
        ImageGrid::new("", [Tile::new(empty)]).columns(0).side(0.0).picture().to_png(1.0).unwrap();
    }

    #[test]
    fn pixels_stay_crisp_in_the_png() {
        let image = Image::grey(1, 2, &[0.0, 1.0], 0.0, 1.0).unwrap();
        let picture = ImageGrid::new("", [Tile::new(image)]).side(80.0).picture();
        let mut reader =
            png::Decoder::new(std::io::Cursor::new(picture.to_png(1.0).unwrap())).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        let grey = |x: usize, y: usize| pixels[(y * info.width as usize + x) * 4];
        assert_eq!(
            (grey(53, 36), grey(59, 36)),
            (0, 255),
            "left and right of the border between the two pixels"
        );
    }
}
