//! Lines and points over two axes.

use super::frame::{Frame, Key, KeyKind, Plot, range};
use super::{Axis, Scale};
use crate::font;
use crate::picture::{Anchor, Canvas, Look, Picture, Rect, Words};
use crate::spread::apart_within;
use crate::style::{MUTED, Paint, SERIES, size};

/// How the points of a series are marked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// A line through the points, in their order; a value that cannot be shown interrupts it.
    Line,
    /// A dot for each point.
    Points,
    /// Both.
    LinePoints,
}

/// A named list of points and how it is drawn.
#[derive(Debug, Clone)]
pub struct Series {
    name: String,
    points: Vec<(f64, f64)>,
    mark: Mark,
    paint: Option<Paint>,
    width: f64,
    radius: f64,
    dash: Option<&'static str>,
    opacity: f64,
}

impl Series {
    /// A series with the next free colour. An empty name keeps it out of the legend.
    pub fn new(name: impl Into<String>, mark: Mark, points: impl IntoIterator<Item = (f64, f64)>) -> Series {
        let (width, radius) = (3.5, if mark == Mark::Points { 4.5 } else { 5.5 });
        let points = points.into_iter().collect();
        Series { name: name.into(), points, mark, paint: None, width, radius, dash: None, opacity: 1.0 }
    }

    /// Uses the style's colour number `index` (modulo 8) in place of the next free one.
    pub fn colour(self, index: usize) -> Series {
        self.paint(SERIES[index % SERIES.len()])
    }

    /// Draws the line dashed.
    pub fn dashed(self) -> Series {
        Series { dash: Some("10 8"), ..self }
    }

    /// Draws thin and pale, as for raw values behind a smoothed line.
    pub fn faint(self) -> Series {
        Series { opacity: 0.35, width: 2.0, ..self }
    }

    /// Sets the line's width in pixels.
    pub fn width(self, width: f64) -> Series {
        Series { width, ..self }
    }

    /// Sets the dots' radius in pixels.
    pub fn radius(self, radius: f64) -> Series {
        Series { radius, ..self }
    }

    pub(crate) fn paint(self, paint: impl Into<Paint>) -> Series {
        Series { paint: Some(paint.into()), ..self }
    }

    fn key(&self, paint: Paint) -> Key {
        let kind = if self.mark == Mark::Points { KeyKind::Dot } else { KeyKind::Line(self.dash) };
        Key { name: self.name.clone(), paint, kind }
    }
}

/// A chart of lines and points. Values that an axis cannot show (NaN, infinities, what is not positive on a
/// logarithmic axis) are left out and interrupt a line.
///
/// Up to six lines are labelled at their right ends; otherwise there is a legend.
#[derive(Debug, Clone)]
pub struct XyChart {
    title: String,
    size: (f64, f64),
    x: Axis,
    y: Axis,
    series: Vec<Series>,
    rules: Vec<(f64, String)>,
    direct: bool,
}

impl XyChart {
    /// An empty chart of 900×520 units.
    pub fn new(title: impl Into<String>) -> XyChart {
        let (x, y) = (Axis::default(), Axis::default());
        XyChart {
            title: title.into(),
            size: (900.0, 520.0),
            x,
            y,
            series: vec![],
            rules: vec![],
            direct: true,
        }
    }

    /// Sets the size in SVG units; at least 160×120.
    pub fn size(self, width: f64, height: f64) -> XyChart {
        XyChart { size: (width.max(160.0), height.max(120.0)), ..self }
    }

    /// Sets the x axis.
    pub fn x(self, x: Axis) -> XyChart {
        XyChart { x, ..self }
    }

    /// Sets the y axis.
    pub fn y(self, y: Axis) -> XyChart {
        XyChart { y, ..self }
    }

    /// Names the x axis.
    pub fn x_label(mut self, label: impl Into<String>) -> XyChart {
        self.x.label = label.into();
        self
    }

    /// Names the y axis.
    pub fn y_label(mut self, label: impl Into<String>) -> XyChart {
        self.y.label = label.into();
        self
    }

    /// Makes both axes logarithmic, to powers of ten.
    pub fn log_log(mut self) -> XyChart {
        (self.x.scale, self.y.scale) = (Scale::Log10, Scale::Log10);
        self
    }

    /// Adds a line.
    pub fn line(self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> XyChart {
        self.series(Series::new(name, Mark::Line, points))
    }

    /// Adds dots (a scatter plot).
    pub fn points(self, name: impl Into<String>, points: impl IntoIterator<Item = (f64, f64)>) -> XyChart {
        self.series(Series::new(name, Mark::Points, points))
    }

    /// Adds a series.
    pub fn series(mut self, series: Series) -> XyChart {
        self.series.push(series);
        self
    }

    /// Adds a dashed horizontal line at `y` with its name, as for a bound to reach.
    pub fn rule(mut self, y: f64, name: impl Into<String>) -> XyChart {
        self.rules.push((y, name.into()));
        self
    }

    /// Always uses a legend, never labels at the lines' ends.
    pub fn legend(self) -> XyChart {
        XyChart { direct: false, ..self }
    }

    /// Draws the chart.
    pub fn picture(&self) -> Picture {
        let mut canvas = Canvas::new(self.size.0, self.size.1, &self.title);
        let paints = self.paints();
        let points = || self.series.iter().flat_map(|s| s.points.iter());
        let only_lines = self.series.iter().all(|s| s.mark != Mark::Points);
        let x_range = range(&self.x, points().map(|p| p.0), if only_lines { 0.0 } else { 0.03 });
        let rules = self.rules.iter().map(|r| r.0);
        let y_range = range(&self.y, points().map(|p| p.1).chain(rules), 0.06);
        let named: Vec<usize> = (0..self.series.len()).filter(|&k| !self.series[k].name.is_empty()).collect();
        let direct = self.direct && only_lines && named.len() <= 6 && named.len() > 1;
        let label_width = |k: &usize| font::width(&self.series[*k].name, size::TICK, true);
        let longest = named.iter().map(label_width).fold(0.0, f64::max).min(self.size.0 * 0.35);
        let legend = if direct { &[] } else { named.as_slice() };
        let frame = Frame {
            size: self.size,
            title: &self.title,
            x: &self.x,
            y: &self.y,
            x_range,
            y_range,
            right: if direct { longest + 30.0 } else { 26.0 },
            keys: legend.iter().map(|&k| self.series[k].key(paints[k])).collect(),
            x_ticks: true,
        };
        let plot = frame.draw(&mut canvas);
        // A little wider than the plot, so that the border cuts no line or dot in half.
        let Rect { x, y, w, h } = plot.area;
        canvas.clipped(Rect { x: x - 8.0, y: y - 8.0, w: w + 16.0, h: h + 16.0 }, |canvas| {
            for (series, &paint) in self.series.iter().zip(&paints) {
                draw_series(canvas, &plot, series, paint);
            }
        });
        self.draw_rules(&mut canvas, &plot);
        if direct {
            self.draw_labels(&mut canvas, &plot, &named, &paints, longest);
        }
        if points().all(|&(x, y)| plot.x.pixel(x).and(plot.y.pixel(y)).is_none()) {
            let (x, y) = plot.area.centre();
            canvas.text(x, y, "no data", Words::new(size::LABEL, &MUTED).anchor(Anchor::Middle).halo());
        }
        canvas.finish()
    }

    fn paints(&self) -> Vec<Paint> {
        let mut free = 0;
        let mut next = || {
            free += 1;
            Paint::Role(SERIES[(free - 1) % SERIES.len()])
        };
        self.series.iter().map(|s| s.paint.unwrap_or_else(&mut next)).collect()
    }

    fn draw_rules(&self, canvas: &mut Canvas, plot: &Plot) {
        let area = plot.area;
        for (value, name) in &self.rules {
            let Some(at) = plot.y.pixel(*value).filter(|at| (area.y..=area.bottom()).contains(at)) else {
                continue;
            };
            canvas.line((area.x, at), (area.right(), at), Look::stroke(&MUTED, 2.0).dashed(Some("6 6")));
            let words = Words::new(size::TICK, &MUTED).halo();
            let above = if at - 24.0 > area.y { at - 8.0 } else { at + 20.0 };
            canvas.text(area.x + 8.0, above, name, words);
        }
    }

    /// Names at the right ends of the lines, moved apart where they would overlap.
    fn draw_labels(&self, canvas: &mut Canvas, plot: &Plot, named: &[usize], paints: &[Paint], room: f64) {
        let end = |k: &usize| {
            let last = self.series[*k].points.iter().rev().find_map(|&(x, y)| {
                let at = plot.x.pixel(x).and(plot.y.pixel(y))?;
                Some(at.clamp(plot.area.y, plot.area.bottom()))
            });
            (last.unwrap_or(plot.area.bottom()), *k)
        };
        let mut ends: Vec<(f64, usize)> = named.iter().map(end).collect();
        ends.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted: Vec<(f64, f64)> = ends.iter().map(|e| (e.0, 1.0)).collect();
        let gaps = vec![22.0; ends.len().saturating_sub(1)];
        let placed = apart_within(&wanted, &gaps, plot.area.y + 6.0, plot.area.bottom() + 4.0);
        for (at, (_, k)) in placed.into_iter().zip(ends) {
            let name = font::fit(&self.series[k].name, room + 1.0, size::TICK, true);
            canvas.text(
                plot.area.right() + 12.0,
                at,
                &name,
                Words::new(size::TICK, paints[k]).bold().centred(),
            );
        }
    }
}

fn draw_series(canvas: &mut Canvas, plot: &Plot, series: &Series, paint: Paint) {
    let pixels: Vec<Option<(f64, f64)>> =
        series.points.iter().map(|&(x, y)| plot.x.pixel(x).zip(plot.y.pixel(y))).collect();
    let stroke = Look::stroke(paint, series.width).dashed(series.dash).opacity(series.opacity);
    let dot = Look::fill(paint).opacity(series.opacity);
    if series.mark != Mark::Points {
        for run in pixels.split(Option::is_none) {
            let run: Vec<(f64, f64)> = run.iter().flatten().copied().collect();
            match run.as_slice() {
                [] => {}
                [only] => canvas.circle(*only, series.radius.max(series.width), dot),
                _ => canvas.polyline(&thinned(&run), stroke),
            }
        }
    }
    if series.mark != Mark::Line {
        // Many dots hide one another: let them shine through.
        let many = if pixels.len() > 400 { 0.45 } else { 0.85 };
        for &at in pixels.iter().flatten() {
            let look = Look::fill(paint).opacity(series.opacity * many);
            canvas.circle(at, series.radius, if series.mark == Mark::Points { look } else { dot });
        }
    }
}

/// At most four points per pixel column (first, lowest, highest, last): looks the same as all of them.
fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let column = |p: &(f64, f64)| p.0.floor() as i64;
    let mut kept = Vec::with_capacity(points.len().min(4096));
    for run in points.chunk_by(|a, b| column(a) == column(b)) {
        if run.len() <= 4 {
            kept.extend_from_slice(run);
            continue;
        }
        let by_height = |a: &usize, b: &usize| run[*a].1.total_cmp(&run[*b].1);
        let inner = 1..run.len() - 1;
        let low = inner.clone().min_by(by_height).unwrap_or(0);
        let high = inner.max_by(by_height).unwrap_or(0);
        kept.extend([0, low.min(high), low.max(high), run.len() - 1].map(|k| run[k]));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::style::INK;

    fn parsed(picture: &Picture) -> (usize, usize, Vec<String>) {
        let svg = picture.to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let count = |tag: &str| document.descendants().filter(|n| n.has_tag_name(tag)).count();
        let texts = document.descendants().filter(|n| n.has_tag_name("text")).filter_map(|n| n.text());
        (count("path"), count("circle"), texts.map(str::to_owned).collect())
    }

    fn ramp(n: usize) -> Vec<(f64, f64)> {
        (0..n).map(|k| (k as f64, (k as f64).sin())).collect()
    }

    #[test]
    fn two_lines_are_labelled_at_their_ends() {
        let chart = XyChart::new("T").x_label("epoch").line("train", ramp(9)).line("test", ramp(7));
        let (paths, circles, texts) = parsed(&chart.picture());
        assert_eq!((paths, circles), (2, 0));
        for expected in ["T", "epoch", "train", "test"] {
            assert_eq!(texts.iter().filter(|t| *t == expected).count(), 1, "{expected} in {texts:?}");
        }
    }

    #[test]
    fn points_have_a_legend_and_one_dot_each() {
        let (paths, circles, texts) = parsed(&XyChart::new("").points("data", ramp(9)).picture());
        assert_eq!((paths, circles), (0, 10), "nine dots and the legend's");
        assert!(texts.contains(&"data".to_owned()));
    }

    #[test]
    fn odd_data_never_panics_and_says_when_there_is_none() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        let cases: [(&str, Vec<(f64, f64)>, bool); 9] = [
            ("empty", vec![], true),
            ("one point", vec![(3.0, 4.0)], false),
            ("nan", vec![(0.0, nan), (nan, 1.0)], true),
            ("infinite", vec![(0.0, inf), (1.0, -inf)], true),
            ("gap", vec![(0.0, 1.0), (1.0, nan), (2.0, 3.0), (3.0, 1.0)], false),
            ("constant", vec![(0.0, 1.0), (1.0, 1.0)], false),
            ("huge", vec![(0.0, 1e299), (1.0, -1e299)], false),
            ("beyond", vec![(0.0, f64::MAX), (1.0, f64::MIN)], true),
            ("tiny", vec![(0.0, 5e-324), (1.0, 0.0)], false),
        ];
        for (name, points, none) in cases {
            let chart = XyChart::new(name).line("a", points.clone()).points("b", points);
            for chart in [chart.clone(), chart.log_log()] {
                let log = chart.x.scale == Scale::Log10;
                let (_, _, texts) = parsed(&chart.picture());
                assert!(log || texts.iter().any(|t| t == "no data") == none, "{name}: {texts:?}");
                assert!(!chart.picture().to_svg().contains("NaN"), "{name}");
                chart.picture().to_png(0.5).unwrap();
            }
        }
    }

    #[test]
    fn a_gap_splits_the_line() {
        let chart =
            XyChart::new("").line("", [(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, 1.0)]);
        assert_eq!(parsed(&chart.picture()).0, 2);
    }

    #[test]
    fn a_hundred_thousand_points_stay_small() {
        let points = (0..100_000).map(|k| (f64::from(k), f64::from(k * 7919 % 1000)));
        let svg = XyChart::new("").line("", points).picture().to_svg();
        assert!(svg.len() < 80_000, "{} bytes", svg.len());
    }

    #[test]
    fn thinning_keeps_the_extremes() {
        let points = [(1.0, 5.0), (1.1, 9.0), (1.2, 1.0), (1.3, 4.0), (1.4, 6.0), (2.0, 3.0)];
        assert_eq!(thinned(&points), [(1.0, 5.0), (1.1, 9.0), (1.2, 1.0), (1.4, 6.0), (2.0, 3.0)]);
    }

    #[test]
    fn rules_outside_logarithmic_reach_are_left_out() {
        let chart =
            XyChart::new("").line("", [(1.0, 1.0), (2.0, 4.0)]).log_log().rule(0.0, "zero").rule(2.0, "two");
        let texts = parsed(&chart.picture()).2;
        assert!(texts.contains(&"two".to_owned()) && !texts.contains(&"zero".to_owned()), "{texts:?}");
    }

    #[test]
    fn the_ink_role_is_used_for_the_title() {
        let svg = XyChart::new("Title").line("", ramp(3)).picture().to_svg();
        assert!(svg.contains(&format!("class=\"f-{}\">Title<", INK.class)), "{svg}");
    }
}
