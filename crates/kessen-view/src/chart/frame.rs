//! Title, axes, grid and legend around the marks of a chart.

use super::{Axis, Scale};
use crate::font;
use crate::picture::{Anchor, Canvas, Look, Rect, Words};
use crate::scale::{Mapping, extent, padded, shows};
use crate::style::{AXIS, GRID, INK, MUTED, PAPER, Paint, size};

/// One entry of a legend.
#[derive(Debug, Clone)]
pub(crate) struct Key {
    pub name: String,
    pub paint: Paint,
    pub kind: KeyKind,
}

/// The sample drawn before a legend's entry.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum KeyKind {
    Line(Option<&'static str>),
    Dot,
    Square,
}

/// What a frame is drawn from.
#[derive(Debug)]
pub(crate) struct Frame<'a> {
    pub size: (f64, f64),
    pub title: &'a str,
    pub x: &'a Axis,
    pub y: &'a Axis,
    pub x_range: (f64, f64),
    pub y_range: (f64, f64),
    /// Room to the right of the plot, for direct labels.
    pub right: f64,
    pub keys: Vec<Key>,
    /// Whether the x axis has ticks of numbers.
    pub x_ticks: bool,
}

/// Where the marks go.
#[derive(Debug)]
pub(crate) struct Plot {
    pub area: Rect,
    pub x: Mapping,
    pub y: Mapping,
}

/// The range of an axis: the one asked for, else that of `values`, with room at the ends where `room` is set.
pub(crate) fn range(axis: &Axis, values: impl Iterator<Item = f64>, room: f64) -> (f64, f64) {
    let usable = |&(lo, hi): &(f64, f64)| lo < hi && shows(axis.scale, lo) && shows(axis.scale, hi);
    if let Some(range) = axis.range.filter(usable) {
        return range;
    }
    let found = extent(axis.scale, values.chain(axis.include));
    let mut wide = padded(axis.scale, found, room);
    // Room at the ends must not suggest values of the other sign.
    if axis.scale == Scale::Linear && found.0 >= 0.0 {
        wide.0 = wide.0.max(0.0);
    }
    if axis.scale == Scale::Linear && found.1 <= 0.0 {
        wide.1 = wide.1.min(0.0);
    }
    // What an axis has to include is its end, not a value to keep clear of the border.
    let end = |edge: f64, wide: f64| if axis.include == Some(edge) { edge } else { wide };
    (end(found.0, wide.0), end(found.1, wide.1))
}

impl Frame<'_> {
    /// Draws everything but the marks.
    pub fn draw(&self, canvas: &mut Canvas) -> Plot {
        let (width, height) = self.size;
        canvas.rect(Rect { x: 0.0, y: 0.0, w: width, h: height }, Look::fill(&PAPER));
        let mut top = 14.0;
        if !self.title.is_empty() {
            let title = font::fit(self.title, width - 32.0, size::TITLE, true);
            canvas.text(16.0, top + 22.0, &title, Words::new(size::TITLE, &INK).bold());
            top += 38.0;
        }
        top = self.draw_captions(canvas, top);
        let bottom = height
            - if self.x.label.is_empty() { 12.0 } else { 38.0 }
            - if self.x_ticks { 28.0 } else { 0.0 };
        let area_height = (bottom - top - 8.0).max(10.0);
        let (top, bottom) = (top + 8.0, top + 8.0 + area_height);
        let y = Mapping::new(self.y.scale, self.y_range, bottom, top);
        let y_ticks = y.ticks((area_height / 58.0).round() as usize, self.y.whole);
        let widest = y_ticks.iter().map(|t| font::width(&t.label, size::TICK, false)).fold(0.0, f64::max);
        // At least the width of 0.00, so that the plots of a column of charts start at the same place.
        let left = 16.0 + widest.max(36.0) + 10.0;
        let area = Rect { x: left, y: top, w: (width - left - self.right).max(10.0), h: area_height };
        let x = Mapping::new(self.x.scale, self.x_range, area.x, area.right());
        let plot = Plot { area, x, y };
        for tick in y_ticks {
            let Some(at) = plot.y.pixel(tick.value) else { continue };
            let look = Look::stroke(&GRID, if tick.label.is_empty() { 0.6 } else { 1.4 });
            canvas.line((area.x, at), (area.right(), at), look);
            let words = Words::new(size::TICK, &MUTED).anchor(Anchor::End).centred();
            canvas.text(area.x - 10.0, at, &tick.label, words);
        }
        if self.x_ticks {
            self.draw_x_ticks(canvas, &plot);
        }
        canvas.line((area.x, bottom), (area.right(), bottom), Look::stroke(&AXIS, 1.6));
        let words = Words::new(size::LABEL, &MUTED).anchor(Anchor::Middle);
        canvas.text(area.centre().0, height - 14.0, &self.x.label, words);
        plot
    }

    fn draw_x_ticks(&self, canvas: &mut Canvas, plot: &Plot) {
        let area = plot.area;
        let mut count = (area.w / 85.0).round() as usize;
        let mut ticks = plot.x.ticks(count, self.x.whole);
        // Long labels (10,000,000) need more room than the usual ones.
        while count > 2
            && ticks.iter().map(|t| font::width(&t.label, size::TICK, false) + 14.0).sum::<f64>() > area.w
        {
            count -= 1;
            ticks = plot.x.ticks(count, self.x.whole);
        }
        for tick in ticks {
            let Some(at) = plot.x.pixel(tick.value) else { continue };
            let look = Look::stroke(&GRID, if tick.label.is_empty() { 0.6 } else { 1.4 });
            canvas.line((at, area.y), (at, area.bottom()), look);
            let half = font::width(&tick.label, size::TICK, false) / 2.0;
            let at = at.clamp(half + 2.0, (self.size.0 - half - 2.0).max(half + 2.0));
            let words = Words::new(size::TICK, &MUTED).anchor(Anchor::Middle);
            canvas.text(at, area.bottom() + 24.0, &tick.label, words);
        }
    }

    /// The y axis' label and the legend, in as many rows as they need; returns the height reached.
    fn draw_captions(&self, canvas: &mut Canvas, top: f64) -> f64 {
        const SAMPLE: f64 = 34.0;
        const GAP: f64 = 24.0;
        let row = 28.0;
        let right = self.size.0 - 16.0;
        let width = |key: &Key| SAMPLE + font::width(&key.name, size::TICK, false);
        let total = self.keys.iter().map(|k| width(k) + GAP).sum::<f64>() - GAP;
        let label_end = 16.0 + font::width(&self.y.label, size::LABEL, false);
        let mut bottom = top;
        if !self.y.label.is_empty() {
            canvas.text(16.0, top + 20.0, &self.y.label, Words::new(size::LABEL, &MUTED));
            bottom += row;
        }
        if self.keys.is_empty() {
            return bottom;
        }
        let beside = !self.y.label.is_empty() && label_end + 40.0 + total <= right;
        let (mut x, mut y) = (16.0, if beside { top } else { bottom });
        if beside {
            x = right - total;
        }
        for key in &self.keys {
            if x > 16.0 && x + width(key) > right + 1.0 {
                (x, y) = (16.0, y + row);
            }
            let middle = y + 14.0;
            match key.kind {
                KeyKind::Line(dash) => {
                    let look = Look::stroke(key.paint, 4.0).dashed(dash);
                    canvas.line((x, middle), (x + 26.0, middle), look);
                }
                KeyKind::Dot => canvas.circle((x + 18.0, middle), 5.5, Look::fill(key.paint)),
                KeyKind::Square => {
                    let square = Rect { x: x + 9.0, y: middle - 8.0, w: 16.0, h: 16.0 };
                    canvas.rect(square, Look::fill(key.paint).round(2.0));
                }
            }
            canvas.text(x + SAMPLE, middle, &key.name, Words::new(size::TICK, &INK).centred());
            x += width(key) + GAP;
        }
        y + row
    }
}
