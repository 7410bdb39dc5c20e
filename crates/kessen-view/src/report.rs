//! A self-contained HTML page about a run: no script, no request to anywhere, light or dark as the reader's system
//! is, and fit to be printed.

mod table;

pub use table::Table;

use crate::chart::{Axis, Mark, Series, XyChart};
use crate::picture::{Picture, escape};
use crate::{Result, file, style};
use std::fmt::Write;
use std::path::Path;

const CSS: &str = include_str!("report/report.css");

/// A page: title, key figures, sections, provenance.
///
/// ```
/// use kessen_view::{Report, Section, Table};
///
/// let page = Report::new("digits")
///     .figure("test accuracy", "98.6 %")
///     .section(Section::new("Classes").table(Table::new(["class", "recall"]).row(["0", "99.4 %"])))
///     .provenance("seed", "1")
///     .to_html();
/// assert!(page.contains("98.6 %"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct Report {
    title: String,
    subtitle: String,
    figures: Vec<(String, String)>,
    sections: Vec<Section>,
    provenance: Vec<(String, String)>,
}

/// A part of a page, under its own heading.
#[derive(Debug, Clone, Default)]
pub struct Section {
    title: String,
    blocks: Vec<Block>,
}

#[derive(Debug, Clone)]
enum Block {
    Text(String),
    Code(String, String),
    Table(Table),
    Pictures(Vec<(Picture, String)>),
}

impl Section {
    /// An empty section.
    pub fn new(title: impl Into<String>) -> Section {
        Section { title: title.into(), blocks: vec![] }
    }

    /// Adds text; an empty line separates paragraphs.
    pub fn text(self, text: impl Into<String>) -> Section {
        self.block(Block::Text(text.into()))
    }

    /// Adds text in a fixed-width font, as a recipe or a plan; folded where it is long.
    pub fn code(self, caption: impl Into<String>, text: impl Into<String>) -> Section {
        self.block(Block::Code(caption.into(), text.into()))
    }

    /// Adds a table.
    pub fn table(self, table: Table) -> Section {
        self.block(Block::Table(table))
    }

    /// Adds a picture over the whole width.
    pub fn picture(self, picture: Picture, caption: impl Into<String>) -> Section {
        self.pictures([(picture, caption)])
    }

    /// Adds pictures that stand side by side where the page is wide enough.
    pub fn pictures<S: Into<String>>(self, pictures: impl IntoIterator<Item = (Picture, S)>) -> Section {
        self.block(Block::Pictures(pictures.into_iter().map(|(p, s)| (p, s.into())).collect()))
    }

    fn block(mut self, block: Block) -> Section {
        self.blocks.push(block);
        self
    }
}

impl Report {
    /// An empty page.
    pub fn new(title: impl Into<String>) -> Report {
        Report { title: title.into(), ..Report::default() }
    }

    /// Sets the line below the title.
    pub fn subtitle(self, subtitle: impl Into<String>) -> Report {
        Report { subtitle: subtitle.into(), ..self }
    }

    /// Adds a key figure, shown large at the top.
    pub fn figure(mut self, name: impl Into<String>, value: impl Into<String>) -> Report {
        self.figures.push((name.into(), value.into()));
        self
    }

    /// Adds a section.
    pub fn section(mut self, section: Section) -> Report {
        self.sections.push(section);
        self
    }

    /// Adds a line to the page's last part, which says where its numbers come from: version, machine, seed, time.
    pub fn provenance(mut self, name: impl Into<String>, value: impl Into<String>) -> Report {
        self.provenance.push((name.into(), value.into()));
        self
    }

    /// The page as one HTML document.
    pub fn to_html(&self) -> String {
        let title = escape(&self.title);
        let mut html = format!(
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
             <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{title}</title>\n\
             <style>\n{CSS}@media screen and (prefers-color-scheme: dark) {{{}}}\n</style>\n</head>\n<body>\n\
             <header>\n<h1>{title}</h1>\n",
            style::dark_css()
        );
        self.write_head(&mut html);
        for (k, section) in self.sections.iter().enumerate() {
            section.write(&mut html, k);
        }
        if !self.provenance.is_empty() {
            html.push_str("<footer>\n<h2 id=\"provenance\">Provenance</h2>\n<dl>\n");
            for (name, value) in &self.provenance {
                push(&mut html, format_args!("<dt>{}</dt><dd>{}</dd>\n", escape(name), escape(value)));
            }
            html.push_str("</dl>\n</footer>\n");
        }
        html.push_str("</body>\n</html>\n");
        html
    }

    /// Writes the page; a file that was there is replaced as a whole or not at all.
    ///
    /// # Errors
    /// [`Error::Write`](crate::Error::Write) where the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        file::write(path.as_ref(), self.to_html().as_bytes())
    }

    fn write_head(&self, html: &mut String) {
        if !self.subtitle.is_empty() {
            push(html, format_args!("<p class=\"subtitle\">{}</p>\n", escape(&self.subtitle)));
        }
        if !self.figures.is_empty() {
            html.push_str("<div class=\"figures\">\n");
            for (name, value) in &self.figures {
                let (name, value) = (escape(name), escape(value));
                push(html, format_args!("<div><b>{value}</b><span>{name}</span></div>\n"));
            }
            html.push_str("</div>\n");
        }
        if self.sections.len() > 2 {
            html.push_str("<nav>");
            for (k, section) in self.sections.iter().enumerate() {
                push(html, format_args!("<a href=\"#s{k}\">{}</a> ", escape(&section.title)));
            }
            html.push_str("</nav>\n");
        }
        html.push_str("</header>\n");
    }
}

impl Section {
    fn write(&self, html: &mut String, index: usize) {
        push(html, format_args!("<section id=\"s{index}\">\n<h2>{}</h2>\n", escape(&self.title)));
        for block in &self.blocks {
            match block {
                Block::Text(text) => {
                    for paragraph in text.split("\n\n").filter(|p| !p.trim().is_empty()) {
                        push(html, format_args!("<p>{}</p>\n", escape(paragraph.trim())));
                    }
                }
                Block::Code(caption, text) => {
                    let open = if text.lines().count() <= 40 { " open=\"open\"" } else { "" };
                    let (caption, text) = (escape(caption), escape(text.trim_end()));
                    push(
                        html,
                        format_args!(
                            "<details{open}><summary>{caption}</summary><pre>{text}</pre></details>\n"
                        ),
                    );
                }
                Block::Table(table) => table.write(html),
                Block::Pictures(pictures) => {
                    html.push_str("<div class=\"pictures\">\n");
                    for (picture, caption) in pictures {
                        push(html, format_args!("<figure>\n{}", picture.to_svg()));
                        if !caption.is_empty() {
                            push(html, format_args!("<figcaption>{}</figcaption>\n", escape(caption)));
                        }
                        html.push_str("</figure>\n");
                    }
                    html.push_str("</div>\n");
                }
            }
        }
        html.push_str("</section>\n");
    }
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = html.write_fmt(text);
}

/// A chart of values over epochs or steps. A curve of more than 200 points is drawn twice: pale as measured, and
/// smoothed by an exponential mean over about a fiftieth of its length.
pub fn learning_curve<S: Into<String>>(
    title: impl Into<String>,
    x_label: &str,
    y_label: &str,
    curves: impl IntoIterator<Item = (S, Vec<(f64, f64)>)>,
) -> XyChart {
    let mut chart = XyChart::new(title).x(Axis::new(x_label).whole()).y_label(y_label);
    let mut strong = Vec::new();
    for (k, (name, points)) in curves.into_iter().enumerate() {
        let long = points.len() > 200;
        let line = if long { smoothed(&points, points.len() as f64 / 50.0) } else { points.clone() };
        strong.push(Series::new(name, Mark::Line, line).colour(k));
        if long {
            chart = chart.series(Series::new("", Mark::Line, points).colour(k).faint());
        }
    }
    // What is pale lies below everything that is strong.
    strong.into_iter().fold(chart, XyChart::series)
}

/// Exponential mean over about `span` values, unbiased at the start; a gap stays a gap.
fn smoothed(points: &[(f64, f64)], span: f64) -> Vec<(f64, f64)> {
    let keep = 1.0 - 1.0 / span.max(1.0);
    let (mut sum, mut weight) = (0.0, 0.0);
    let smooth = |&(x, y): &(f64, f64)| {
        if !y.is_finite() {
            return (x, y);
        }
        (sum, weight) = (keep * sum + y, keep * weight + 1.0);
        (x, sum / weight)
    };
    points.iter().map(smooth).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Confusion;

    fn sample() -> Report {
        let curve = (1..=5).map(|k| (f64::from(k), 1.0 / f64::from(k))).collect::<Vec<_>>();
        let loss =
            learning_curve("Loss", "epoch", "loss", [("train", curve.clone()), ("test", curve)]).picture();
        let confusion = Confusion::new(["a", "b"], &[3, 1, 0, 4]).unwrap().picture();
        Report::new("run <1> & more")
            .subtitle("LeNet on \"digits\"")
            .figure("accuracy", "98.6 %")
            .section(Section::new("Learning").text("First.\n\nSecond <p>.").picture(loss, "loss & so on"))
            .section(Section::new("Mistakes").pictures([(confusion, "")]))
            .section(
                Section::new("Architecture")
                    .code("recipe.toml", "a = \"<b>\"\n")
                    .table(Table::new(["layer", "parameters"]).row(["conv c1", "156"]).total(["all", "156"])),
            )
            .provenance("seed", "1")
    }

    #[test]
    fn the_page_is_well_formed_and_holds_everything_escaped() {
        let html = sample().to_html();
        let xml = html.strip_prefix("<!DOCTYPE html>\n").unwrap();
        let document = roxmltree::Document::parse(xml).unwrap();
        let count = |tag: &str| document.descendants().filter(|n| n.tag_name().name() == tag).count();
        assert_eq!((count("section"), count("figure"), count("table"), count("pre")), (3, 2, 1, 1));
        for text in ["run <1> & more", "98.6 %", "Second <p>.", "loss & so on", "a = \"<b>\"", "156", "seed"]
        {
            assert!(document.descendants().any(|n| n.text() == Some(text)), "{text}");
        }
    }

    #[test]
    fn the_page_asks_for_nothing_from_elsewhere() {
        let html = sample().to_html().replace("http://www.w3.org/2000/svg", "");
        for forbidden in ["http:", "https:", "<script", "<link", "@import", "url("] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
    }

    #[test]
    fn an_empty_page_is_a_page() {
        let html = Report::new("").to_html();
        assert!(roxmltree::Document::parse(html.strip_prefix("<!DOCTYPE html>\n").unwrap()).is_ok());
    }

    #[test]
    fn smoothing_keeps_a_constant_and_its_gaps() {
        let points = [(0.0, 2.0), (1.0, f64::NAN), (2.0, 2.0)];
        let smooth = smoothed(&points, 10.0);
        assert_eq!((smooth[0], smooth[2]), ((0.0, 2.0), (2.0, 2.0)));
        assert!(smooth[1].1.is_nan());
    }

    #[test]
    fn saving_writes_the_page() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        sample().save(&path).unwrap();
        assert_eq!(std::fs::read_to_string(path).unwrap(), sample().to_html());
    }
}
