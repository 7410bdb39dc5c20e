//! A matrix of coloured cells with the names of its rows and columns.

use crate::font;
use crate::picture::{Anchor, Canvas, Look, Picture, Rect, Words};
use crate::scale::number;
use crate::style::{INK, MUTED, PAPER, Paint, Rgb, size};
use crate::{Error, Result};

#[derive(Debug, Clone)]
pub(super) struct Matrix {
    pub title: String,
    pub rows: Vec<String>,
    pub columns: Vec<String>,
    pub row_label: String,
    pub column_label: String,
    /// Row by row.
    pub values: Vec<f64>,
    /// Width to fill.
    pub width: f64,
}

/// What stands to the right of the cells.
pub(super) enum Aside<'a> {
    /// One text per row under a head.
    Column { head: &'a str, cells: &'a [String] },
    /// The colours from one value to another; left out where the cells show their values.
    Bar { colour: &'a dyn Fn(f64) -> Rgb, from: f64, to: f64 },
}

/// Sizes of a matrix' picture.
struct Plan {
    /// The cells as a whole.
    area: Rect,
    /// Width and height of a cell.
    cell: (f64, f64),
    /// Whether the columns' names are turned.
    steep: bool,
    /// Height of the columns' names.
    head: f64,
    /// Room to the right of the cells.
    right: f64,
    /// Size of the letters in the cells; none where the values do not fit.
    letters: Option<f64>,
}

/// Longest name of a row or column, in pixels.
const LONGEST: f64 = 240.0;

impl Matrix {
    pub fn new(title: String, rows: Vec<String>, columns: Vec<String>, values: Vec<f64>) -> Result<Matrix> {
        let expected = rows.len() * columns.len();
        if values.len() != expected {
            let what = format!("matrix {title:?} with {} rows and {} columns", rows.len(), columns.len());
            return Err(Error::Length { what, found: values.len(), expected, because: "rows × columns" });
        }
        let (row_label, column_label) = (String::new(), String::new());
        Ok(Matrix { title, rows, columns, row_label, column_label, values, width: 760.0 })
    }

    /// Draws the cells with `colour(row, column, value)` and `text(value)`.
    pub fn draw(
        &self,
        colour: impl Fn(usize, usize, f64) -> Paint,
        text: impl Fn(f64) -> String,
        aside: Aside<'_>,
    ) -> Picture {
        let texts: Vec<String> = self.values.iter().map(|&v| text(v)).collect();
        let plan = self.plan(&texts, &aside);
        let title = font::width(&self.title, size::TITLE, true) + 32.0;
        let width = (plan.area.right() + plan.right).max(title).ceil();
        let height = (plan.area.bottom() + 18.0).max(plan.area.y + 60.0).ceil();
        let mut canvas = Canvas::new(width, height, &self.title);
        canvas.rect(Rect { x: 0.0, y: 0.0, w: width, h: height }, Look::fill(&PAPER));
        canvas.text(16.0, 36.0, &self.title, Words::new(size::TITLE, &INK).bold());
        self.draw_names(&mut canvas, &plan);
        self.draw_cells(&mut canvas, &plan, colour, &texts);
        match aside {
            Aside::Column { head, cells } => draw_column(&mut canvas, &plan, head, cells),
            Aside::Bar { colour, from, to } if plan.letters.is_none() && !self.values.is_empty() => {
                draw_bar(&mut canvas, &plan, colour, (from, to));
            }
            Aside::Bar { .. } => {}
        }
        canvas.finish()
    }

    fn plan(&self, texts: &[String], aside: &Aside<'_>) -> Plan {
        let left =
            28.0 + if self.row_label.is_empty() { 0.0 } else { 34.0 } + widest(&self.rows).min(LONGEST);
        let cell =
            |right: f64| ((self.width - left - right) / self.columns.len().max(1) as f64).clamp(8.0, 72.0);
        let letters = |cell: f64| {
            let fits = |letters: &f64| {
                let text = |t: &String| font::width(t, *letters, false) + 6.0 <= cell;
                *letters <= cell.min(54.0) * 0.5 && texts.iter().all(text)
            };
            [size::TICK, 16.0, 14.0, 12.0].into_iter().find(fits)
        };
        let right = match aside {
            Aside::Column { cells, .. } => 30.0 + widest(cells).max(50.0),
            Aside::Bar { .. } if letters(cell(16.0)).is_some() => 16.0,
            Aside::Bar { from, to, .. } => 62.0 + widest(&[number(*from), number(*to)]),
        };
        let wide = cell(right);
        let steep = widest(&self.columns) + 8.0 > wide;
        let head = if steep { widest(&self.columns).min(LONGEST) + 12.0 } else { 30.0 };
        let top = if self.title.is_empty() { 12.0 } else { 56.0 };
        let top = top + if self.column_label.is_empty() { 0.0 } else { 30.0 } + head;
        let high = wide.min(54.0);
        let area =
            Rect { x: left, y: top, w: wide * self.columns.len() as f64, h: high * self.rows.len() as f64 };
        Plan { area, cell: (wide, high), steep, head, right, letters: letters(wide) }
    }

    fn draw_names(&self, canvas: &mut Canvas, plan: &Plan) {
        let Plan { area, cell, .. } = plan;
        let label = Words::new(size::LABEL, &MUTED).anchor(Anchor::Middle);
        canvas.text(area.centre().0, area.y - plan.head - 6.0, &self.column_label, label);
        canvas.text(32.0, area.centre().1, &self.row_label, label.turned(-90.0));
        let words = Words::new(size::TICK, &INK);
        for (c, name) in self.columns.iter().enumerate().step_by(skip(cell.0)) {
            let x = area.x + cell.0 * (c as f64 + 0.5);
            let name = font::fit(name, LONGEST, size::TICK, false);
            match plan.steep {
                true => canvas.text(x + 6.0, area.y - 8.0, &name, words.turned(-90.0)),
                false => canvas.text(x, area.y - 9.0, &name, words.anchor(Anchor::Middle)),
            }
        }
        for (r, name) in self.rows.iter().enumerate().step_by(skip(cell.1)) {
            let y = area.y + cell.1 * (r as f64 + 0.5);
            let name = font::fit(name, LONGEST, size::TICK, false);
            canvas.text(area.x - 10.0, y, &name, words.anchor(Anchor::End).centred());
        }
    }

    fn draw_cells(
        &self,
        canvas: &mut Canvas,
        plan: &Plan,
        colour: impl Fn(usize, usize, f64) -> Paint,
        texts: &[String],
    ) {
        let (wide, high) = plan.cell;
        let gap = if wide > 20.0 { 2.0 } else { 0.0 };
        for (k, (&value, text)) in self.values.iter().zip(texts).enumerate() {
            let (r, c) = (k / self.columns.len(), k % self.columns.len());
            let (x, y) = (plan.area.x + wide * c as f64, plan.area.y + high * r as f64);
            let fill = if value.is_finite() { colour(r, c, value) } else { Rgb(200, 200, 200).into() };
            let area = Rect { x, y, w: wide - gap, h: high - gap };
            canvas.rect(area, Look::fill(fill).round(gap * 1.5));
            if let Some(letters) = plan.letters {
                let paint =
                    if let Paint::Rgb(fill) = fill { fill.readable().into() } else { Paint::from(&MUTED) };
                let words = Words::new(letters, paint).anchor(Anchor::Middle).centred();
                let (x, y) = area.centre();
                canvas.text(x, y, text, words);
            }
        }
    }
}

fn draw_column(canvas: &mut Canvas, plan: &Plan, head: &str, cells: &[String]) {
    let words = Words::new(size::TICK, &MUTED).anchor(Anchor::End);
    let right = plan.area.right() + plan.right - 12.0;
    canvas.text(right, plan.area.y - 9.0, head, words);
    for (r, cell) in cells.iter().enumerate().step_by(skip(plan.cell.1)) {
        canvas.text(right, plan.area.y + plan.cell.1 * (r as f64 + 0.5), cell, words.centred());
    }
}

fn draw_bar(canvas: &mut Canvas, plan: &Plan, colour: &dyn Fn(f64) -> Rgb, (from, to): (f64, f64)) {
    const STEPS: usize = 40;
    if !(from.is_finite() && to.is_finite()) {
        return;
    }
    let (x, height) = (plan.area.right() + 20.0, plan.area.h.clamp(40.0, 300.0));
    let at = |share: f64| plan.area.y + height * (1.0 - share);
    for step in 0..STEPS {
        let share = step as f64 / STEPS as f64;
        let fill = colour(from + (to - from) * (share + 0.5 / STEPS as f64));
        let y = at(share + 1.0 / STEPS as f64);
        canvas.rect(Rect { x, y, w: 16.0, h: height / STEPS as f64 + 0.5 }, Look::fill(fill));
    }
    for (share, value) in [(0.0, from), (1.0, to)] {
        let y = at(share) + if share == 0.0 { -7.0 } else { 7.0 };
        canvas.text(x + 24.0, y, &number(value), Words::new(size::TICK, &MUTED).centred());
    }
    if from < 0.0 && to > 0.0 {
        canvas.text(x + 24.0, at(-from / (to - from)), "0", Words::new(size::TICK, &MUTED).centred());
    }
}

fn widest(items: &[String]) -> f64 {
    items.iter().map(|s| font::width(s, size::TICK, false)).fold(0.0, f64::max)
}

/// How many lines of text one has to go on so that they do not touch.
fn skip(cell: f64) -> usize {
    (20.0 / cell).ceil().max(1.0) as usize
}
