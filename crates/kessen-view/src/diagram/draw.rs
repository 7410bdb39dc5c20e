//! The marks of a drawing.

use super::pages::{BETWEEN, MARGIN, Page, framed};
use super::place::{Placed, Route, TIP, TRUNK};
use super::{Block, DETAIL, Diagram};
use crate::font;
use crate::picture::{Anchor, Canvas, Look, Picture, Rect, Words};
use crate::style::{INK, Kind, MUTED, PAPER, size};
use std::fmt::Write;

/// A displacement.
type Shift = (f64, f64);

pub(super) fn draw(diagram: &Diagram, placed: &Placed, pages: &[Page]) -> Picture {
    let title_height = if diagram.title.is_empty() { 0.0 } else { 36.0 };
    let top = MARGIN + title_height + if pages.len() > 1 { 18.0 } else { 0.0 };
    let tallest = pages.iter().map(|p| p.bottom - p.top).fold(0.0, f64::max);
    // A browser without the font takes a wider one.
    let title = 1.2 * font::width(&diagram.title, size::TITLE, true) + 2.0 * MARGIN;
    let right = pages.last().map_or(0.0, |p| p.left + p.width);
    let (width, height) = ((right + MARGIN).max(title).ceil(), (top + tallest + MARGIN).ceil());
    let mut canvas = Canvas::new(width, height, &diagram.title);
    canvas.rect(Rect { x: 0.0, y: 0.0, w: width, h: height }, Look::fill(&PAPER));
    canvas.text(MARGIN, 40.0, &diagram.title, Words::new(size::TITLE, &INK).bold());
    let page_of =
        |block: usize| pages.iter().position(|p| p.layers.contains(&placed.layer[block])).unwrap_or(0);
    let shift = |block: usize| {
        let page = &pages[page_of(block)];
        (page.left - page.x, top - page.top)
    };
    for (name, blocks) in &diagram.frames {
        draw_frame(&mut canvas, name, moved(framed(diagram, placed, blocks), shift(blocks[0])));
    }
    for (index, &(from, to)) in diagram.links.iter().enumerate() {
        let route = &placed.routes[index];
        draw_route(&mut canvas, route, shift(to));
        let page = &pages[page_of(from)];
        if page_of(to) != page_of(from) {
            let turn = (page.left + page.width + BETWEEN / 2.0, top - 14.0);
            draw_turn(&mut canvas, route.start, (shift(from), shift(to)), turn);
        }
    }
    for (k, block) in diagram.blocks.iter().enumerate() {
        draw_block(&mut canvas, block, moved(placed.boxes[k], shift(k)));
    }
    for block in 0..diagram.blocks.len() {
        draw_label(&mut canvas, diagram, block, moved(placed.boxes[block], shift(block)));
    }
    canvas.finish()
}

fn moved(r: Rect, (dx, dy): Shift) -> Rect {
    Rect { x: r.x + dx, y: r.y + dy, ..r }
}

fn draw_block(canvas: &mut Canvas, block: &Block, area: Rect) {
    let round = if matches!(block.kind, Kind::Input | Kind::Output) { area.h / 2.0 } else { 7.0 };
    canvas.rect(area, Look::fill(block.kind.fill()).outlined(block.kind.stroke(), 1.8).round(round));
    let centre = area.centre().0;
    let line = |size| Words::new(size, &INK).anchor(Anchor::Middle).centred();
    let first = if block.details.is_empty() { area.h / 2.0 } else { 20.0 };
    canvas.text(centre, area.y + first, &block.title, line(size::TICK).bold());
    for (k, detail) in block.details.iter().enumerate() {
        canvas.text(centre, area.y + 43.0 + DETAIL * k as f64, detail, line(size::SMALL));
    }
}

/// What flows out of a box, beside the start of its links; once where all links carry the same.
fn draw_label(canvas: &mut Canvas, diagram: &Diagram, block: usize, area: Rect) {
    let mut labels: Vec<&str> = Vec::new();
    for (index, _) in diagram.links.iter().enumerate().filter(|(_, l)| l.0 == block) {
        if !labels.contains(&diagram.labels[index].as_str()) {
            labels.push(&diagram.labels[index]);
        }
    }
    let words = Words::new(size::SMALL, &MUTED).halo();
    canvas.text(area.centre().0 + 9.0, area.bottom() + 23.0, &labels.join(", "), words);
}

fn draw_frame(canvas: &mut Canvas, name: &str, area: Rect) {
    canvas.rect(area, Look::stroke(&MUTED, 1.6).dashed(Some("7 5")).round(10.0));
    let words = Words::new(size::TICK, &MUTED).anchor(Anchor::End).bold().halo();
    canvas.text(area.x - 8.0, area.y + 18.0, name, words);
}

/// A link: straight out of its box, by curves from column to column, straight into its target.
fn draw_route(canvas: &mut Canvas, route: &Route, (dx, dy): Shift) {
    let at = |(x, y): (f64, f64)| (x + dx, y + dy);
    let (start, end) = (at(route.start), at(route.end));
    let mut d = format!("M{:.1} {:.1}V{:.1}", start.0, start.1, start.1 + TRUNK);
    let mut from = (start.0, start.1 + TRUNK);
    for &(x, top, bottom) in &route.columns {
        let (entry, exit) = (at((x, top)), at((x, bottom)));
        bend(&mut d, from, (entry.0, entry.1 - TIP));
        let _ = write!(d, "V{:.1}", exit.1 + TRUNK);
        from = (exit.0, exit.1 + TRUNK);
    }
    bend(&mut d, from, (end.0, end.1 - TIP));
    let _ = write!(d, "V{:.1}", end.1 - 5.0);
    canvas.path(&d, Look::stroke(&MUTED, 2.0));
    let (x, y) = end;
    canvas.path(&format!("M{x:.1} {:.1}l-5.5 -11h11z", y - 0.5), Look::fill(&MUTED));
}

fn bend(d: &mut String, from: (f64, f64), to: (f64, f64)) {
    if (from.0 - to.0).abs() < 0.5 {
        let _ = write!(d, "L{:.1} {:.1}", to.0, to.1);
    } else {
        let middle = (from.1 + to.1) / 2.0;
        let _ = write!(d, "C{:.1} {middle:.1} {:.1} {middle:.1} {:.1} {:.1}", from.0, to.0, to.0, to.1);
    }
}

/// From the foot of one column of the drawing, through the room between them, to where the same box' links start in
/// the next one.
fn draw_turn(canvas: &mut Canvas, start: (f64, f64), (a, b): (Shift, Shift), (x, top): (f64, f64)) {
    const R: f64 = 10.0;
    let (from, to) = ((start.0 + a.0, start.1 + a.1), (start.0 + b.0, start.1 + b.1));
    let mut d = format!("M{:.1} {:.1}V{:.1}q0 {R} {R} {R}H{:.1}", from.0, from.1, from.1 + TRUNK - R, x - R);
    let _ = write!(d, "q{R} 0 {R} -{R}V{:.1}q0 -{R} {R} -{R}H{:.1}", top + R, to.0 - R);
    let _ = write!(d, "q{R} 0 {R} {R}V{:.1}", to.1);
    canvas.path(&d, Look::stroke(&MUTED, 2.0));
}
