//! Bars: one group per category, one bar per series.

use super::Axis;
use super::frame::{Frame, Key, KeyKind, range};
use crate::font;
use crate::picture::{Anchor, Canvas, Look, Picture, Rect, Words};
use crate::scale::number;
use crate::style::{AXIS, INK, MUTED, PAPER, Paint, SERIES, size};

/// A bar chart. Few categories with short names stand upright; otherwise the bars lie, with their names to the
/// left. A value that is not finite has no bar and is named as what it is.
#[derive(Debug, Clone)]
pub struct BarChart {
    title: String,
    value_label: String,
    categories: Vec<String>,
    series: Vec<(String, Vec<f64>)>,
    width: f64,
}

impl BarChart {
    /// A chart with these categories, 900 units wide.
    pub fn new<S: Into<String>>(
        title: impl Into<String>,
        categories: impl IntoIterator<Item = S>,
    ) -> BarChart {
        let categories = categories.into_iter().map(Into::into).collect();
        let (title, value_label) = (title.into(), String::new());
        BarChart { title, value_label, categories, series: vec![], width: 900.0 }
    }

    /// Names the values' axis.
    pub fn value_label(self, label: impl Into<String>) -> BarChart {
        BarChart { value_label: label.into(), ..self }
    }

    /// Sets the width in SVG units; at least 240.
    pub fn width(self, width: f64) -> BarChart {
        BarChart { width: width.max(240.0), ..self }
    }

    /// Adds one value per category; missing ones have no bar, surplus ones are left out.
    pub fn series(mut self, name: impl Into<String>, values: impl IntoIterator<Item = f64>) -> BarChart {
        self.series.push((name.into(), values.into_iter().take(self.categories.len()).collect()));
        self
    }

    /// Draws the chart.
    pub fn picture(&self) -> Picture {
        let slot = (self.width - 100.0) / self.categories.len().max(1) as f64;
        let fits = |name: &String| font::width(name, size::TICK, false) + 10.0 <= slot;
        let values_fit = slot / self.series.len().max(1) as f64 >= 40.0;
        if values_fit && self.categories.iter().all(fits) { self.upright(slot) } else { self.lying() }
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.series.iter().flat_map(|s| s.1.iter().copied())
    }

    fn keys(&self) -> Vec<Key> {
        let named = self.series.iter().enumerate().filter(|(_, s)| !s.0.is_empty() && self.series.len() > 1);
        named.map(|(k, s)| Key { name: s.0.clone(), paint: paint(k), kind: KeyKind::Square }).collect()
    }

    fn upright(&self, slot: f64) -> Picture {
        let height = 480.0;
        let mut canvas = Canvas::new(self.width, height, &self.title);
        let (x, y) = (Axis::new(" "), Axis::new(self.value_label.as_str()).include(0.0));
        let frame = Frame {
            size: (self.width, height),
            title: &self.title,
            x: &x,
            y: &y,
            x_range: (0.0, self.categories.len().max(1) as f64),
            y_range: range(&y, self.values(), 0.1),
            right: 16.0,
            keys: self.keys(),
            x_ticks: false,
        };
        let plot = frame.draw(&mut canvas);
        let zero = plot.y.pixel(0.0).unwrap_or(plot.area.bottom());
        let bar = (slot * 0.76 / self.series.len().max(1) as f64).min(90.0);
        for (c, category) in self.categories.iter().enumerate() {
            let middle = plot.x.pixel(c as f64 + 0.5).unwrap_or(0.0);
            let words = Words::new(size::TICK, &INK).anchor(Anchor::Middle);
            canvas.text(middle, plot.area.bottom() + 26.0, category, words);
            let start = middle - bar * self.series.len() as f64 / 2.0;
            for (k, (_, values)) in self.series.iter().enumerate() {
                let Some(&value) = values.get(c) else { continue };
                let x = start + bar * k as f64;
                let end = plot.y.pixel(value).unwrap_or(zero);
                let r = Rect { x: x + 1.5, y: end.min(zero), w: bar - 3.0, h: (end - zero).abs() };
                canvas.rect(r, Look::fill(paint(k)).round(2.0));
                let above = if end <= zero { end - 7.0 } else { end + 19.0 };
                let text = font::fit(&number(value), bar + 4.0, size::TICK, false);
                canvas.text(x + bar / 2.0, above, &text, Words::new(size::TICK, &INK).anchor(Anchor::Middle));
            }
        }
        canvas.line((plot.area.x, zero), (plot.area.right(), zero), Look::stroke(&AXIS, 1.6));
        canvas.finish()
    }

    fn lying(&self) -> Picture {
        let bar = if self.series.len() > 1 { 22.0 } else { 28.0 };
        let group = bar * self.series.len().max(1) as f64 + 12.0;
        let mut top = if self.title.is_empty() { 12.0 } else { 56.0 };
        let keys = self.keys();
        let rows = top + group * self.categories.len() as f64 + if keys.is_empty() { 0.0 } else { 34.0 };
        let height = rows + if self.value_label.is_empty() { 12.0 } else { 40.0 };
        let mut canvas = Canvas::new(self.width, height.max(80.0), &self.title);
        canvas.rect(Rect { x: 0.0, y: 0.0, w: self.width, h: height.max(80.0) }, Look::fill(&PAPER));
        canvas.text(16.0, 36.0, &self.title, Words::new(size::TITLE, &INK).bold());
        let mut key_x = 16.0;
        for key in &keys {
            canvas.rect(Rect { x: key_x, y: top, w: 16.0, h: 16.0 }, Look::fill(key.paint).round(2.0));
            canvas.text(key_x + 24.0, top + 8.0, &key.name, Words::new(size::TICK, &INK).centred());
            key_x += 48.0 + font::width(&key.name, size::TICK, false);
        }
        top += if keys.is_empty() { 0.0 } else { 34.0 };
        let widths = self.categories.iter().map(|c| font::width(c, size::TICK, false));
        let left = 16.0 + widths.fold(0.0, f64::max).min(self.width * 0.4) + 12.0;
        let (lo, hi) = range(&Axis::default().include(0.0), self.values(), 0.0);
        let room =
            16.0 + self.values().map(|v| font::width(&number(v), size::TICK, false)).fold(0.0, f64::max);
        let before = if lo < 0.0 { room } else { 0.0 };
        let along = |v: f64| left + before + (self.width - left - room - before) * (v - lo) / (hi - lo);
        for (c, category) in self.categories.iter().enumerate() {
            let y = top + group * c as f64;
            let name = font::fit(category, left - 28.0, size::TICK, false);
            let words = Words::new(size::TICK, &INK).anchor(Anchor::End).centred();
            canvas.text(left - 12.0, y + (group - 12.0) / 2.0, &name, words);
            for (k, (_, values)) in self.series.iter().enumerate() {
                let Some(&value) = values.get(c) else { continue };
                let (zero, end) = (along(0.0), along(if value.is_finite() { value } else { 0.0 }));
                let y = y + bar * k as f64;
                let r = Rect { x: zero.min(end), y: y + 1.0, w: (end - zero).abs(), h: bar - 2.0 };
                canvas.rect(r, Look::fill(paint(k)).round(2.0));
                let (x, anchor) =
                    if value < 0.0 { (end - 8.0, Anchor::End) } else { (end + 8.0, Anchor::Start) };
                let words = Words::new(size::TICK, &MUTED).anchor(anchor).centred();
                canvas.text(x, y + bar / 2.0, &number(value), words);
            }
        }
        canvas.line((along(0.0), top - 4.0), (along(0.0), rows - 6.0), Look::stroke(&AXIS, 1.6));
        let words = Words::new(size::LABEL, &MUTED).anchor(Anchor::Middle);
        canvas.text((left + self.width) / 2.0, height - 14.0, &self.value_label, words);
        canvas.finish()
    }
}

fn paint(series: usize) -> Paint {
    Paint::Role(SERIES[series % SERIES.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rects_and_texts(picture: &Picture) -> (usize, Vec<String>) {
        let svg = picture.to_svg();
        let document = roxmltree::Document::parse(&svg).unwrap();
        let rects = document.descendants().filter(|n| n.has_tag_name("rect")).count();
        let texts = document.descendants().filter(|n| n.has_tag_name("text")).filter_map(|n| n.text());
        (rects, texts.map(str::to_owned).collect())
    }

    #[test]
    fn one_bar_per_value_upright_or_lying() {
        let short = BarChart::new("t", ["a", "b", "c"]).series("", [1.0, 2.5, -3.0]);
        let long = BarChart::new("t", (0..40).map(|k| format!("category {k} < &"))).series("", vec![1.0; 40]);
        assert_eq!(rects_and_texts(&short.picture()).0, 1 + 3);
        let (rects, texts) = rects_and_texts(&long.picture());
        assert_eq!(rects, 1 + 40);
        assert!(texts.contains(&"category 7 < &".to_owned()), "{texts:?}");
    }

    #[test]
    fn odd_values_never_panic() {
        let cases: [(&str, &[&str], &[f64]); 5] = [
            ("nothing", &[], &[]),
            ("no values", &["a"], &[]),
            ("too many values", &["a"], &[1.0, 2.0]),
            ("not finite", &["a", "b", "c"], &[f64::NAN, f64::INFINITY, 1.0]),
            ("zeros", &["a", "b"], &[0.0, 0.0]),
        ];
        for (name, categories, values) in cases {
            let chart = BarChart::new(name, categories.iter().copied()).series("x", values.iter().copied());
            for picture in [chart.picture(), chart.lying()] {
                picture.to_png(0.5).unwrap();
                assert!(!picture.to_svg().contains("=\"NaN"), "{name}");
            }
        }
    }

    #[test]
    fn a_value_that_is_not_finite_is_named() {
        let chart = BarChart::new("", ["a", "b"]).series("", [f64::NAN, 1.0]);
        assert!(rects_and_texts(&chart.picture()).1.contains(&"NaN".to_owned()));
    }
}
