//! A picture is SVG text with a size; PNG is rendered from that text.

mod canvas;

pub(crate) use canvas::{Anchor, Canvas, Look, Rect, Words, escape};

use crate::{Error, Result, file, font};
use resvg::{tiny_skia, usvg};
use std::path::Path;

/// A finished drawing: SVG, rendered to PNG on demand.
#[derive(Debug, Clone, PartialEq)]
pub struct Picture {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

impl Picture {
    /// Largest width or height of a PNG, in pixels.
    pub const MAX_PNG_SIDE: u32 = 16_384;

    /// Width in SVG units, which are pixels at scale 1.
    pub fn width(&self) -> f64 {
        self.width
    }

    /// Height in SVG units.
    pub fn height(&self) -> f64 {
        self.height
    }

    /// What the picture shows; read aloud by screen readers.
    pub fn title(&self) -> &str {
        &self.title
    }

    pub(crate) fn body(&self) -> &str {
        &self.body
    }

    /// The picture as an SVG document, which is also valid inline in HTML: it refers to nothing outside itself
    /// and defines no ids.
    pub fn to_svg(&self) -> String {
        let Picture { width, height, title, body } = self;
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\" font-family=\"{}\" role=\"img\" aria-label=\"{}\">\n{body}</svg>\n",
            font::FAMILY,
            escape(title),
        )
    }

    /// The picture as PNG, `scale` pixels per SVG unit (2 suits a slide or a high-resolution screen). The letters are
    /// the embedded font's; only those that it lacks, such as Japanese ones, are looked for in the system's fonts.
    ///
    /// # Errors
    /// [`Error::Size`] where a side would be empty or above [`Picture::MAX_PNG_SIDE`].
    pub fn to_png(&self, scale: f64) -> Result<Vec<u8>> {
        let limit = Self::MAX_PNG_SIDE;
        let (width, height) = ((self.width * scale).round(), (self.height * scale).round());
        let fits = |side: f64| side >= 1.0 && side <= f64::from(limit);
        if !fits(width) || !fits(height) {
            return Err(Error::Size { width, height, limit });
        }
        let svg = self.to_svg();
        let options = usvg::Options { fontdb: font::database(&svg), ..Default::default() };
        let tree = usvg::Tree::from_str(&svg, &options).map_err(|e| Error::Render(e.to_string()))?;
        let mut pixels = tiny_skia::Pixmap::new(width as u32, height as u32)
            .ok_or_else(|| Error::Render("out of memory".into()))?;
        let scale = tiny_skia::Transform::from_scale(scale as f32, scale as f32);
        resvg::render(&tree, scale, &mut pixels.as_mut());
        pixels.encode_png().map_err(|e| Error::Render(e.to_string()))
    }

    /// Writes the picture as SVG or, at scale 2, as PNG, by the extension of `path`.
    ///
    /// # Errors
    /// [`Error::Extension`] for any other extension; [`Error::Write`] where the file cannot be written, in which
    /// case a file that was there stays as it was.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        let found = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        match found.as_str() {
            "svg" => file::write(path, self.to_svg().as_bytes()),
            "png" => file::write(path, &self.to_png(2.0)?),
            _ => Err(Error::Extension { path: path.into(), found }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::{INK, PAPER};

    fn sample() -> Picture {
        let mut canvas = Canvas::new(120.0, 40.0, "a < b & \"c\"");
        canvas.rect(Rect { x: 0.0, y: 0.0, w: 120.0, h: 40.0 }, Look::fill(&PAPER));
        canvas.text(10.0, 25.0, "<&>", Words::new(18.0, &INK));
        canvas.finish()
    }

    #[test]
    fn texts_are_escaped() {
        let svg = sample().to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        assert_eq!(document.root_element().attribute("aria-label"), Some("a < b & \"c\""));
        assert!(document.descendants().any(|n| n.text() == Some("<&>")));
    }

    #[test]
    fn png_has_the_size_asked_for_and_shows_the_letters() {
        let decoder = png::Decoder::new(std::io::Cursor::new(sample().to_png(2.0).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut pixels).unwrap();
        assert_eq!((info.width, info.height), (240, 80));
        let dark = pixels.chunks(4).filter(|p| p[0] < 128).count();
        assert!(dark > 100, "{dark} dark pixels: the embedded font was not found");
    }

    #[test]
    fn impossible_sizes_and_extensions_are_refused() {
        for scale in [0.0, -1.0, f64::NAN, f64::INFINITY, 1000.0] {
            assert!(matches!(sample().to_png(scale), Err(Error::Size { .. })), "{scale}");
        }
        let error = sample().save("picture.gif").unwrap_err().to_string();
        assert!(error.contains(".svg or .png") && error.contains("gif"), "{error}");
    }

    #[test]
    fn saves_by_extension() {
        let folder = tempfile::tempdir().unwrap();
        sample().save(folder.path().join("a.svg")).unwrap();
        sample().save(folder.path().join("a.PNG")).unwrap();
        assert!(std::fs::read_to_string(folder.path().join("a.svg")).unwrap().contains("</svg>"));
        assert_eq!(&std::fs::read(folder.path().join("a.PNG")).unwrap()[1..4], b"PNG");
    }
}
