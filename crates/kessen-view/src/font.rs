//! The embedded font: Liberation Sans, whose advances equal Arial's. What is laid out here therefore fits in any
//! browser as well, which draws the text with its own Arial or Helvetica.

use resvg::usvg::fontdb;
use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};
use std::sync::{Arc, OnceLock};

const REGULAR: &[u8] = include_bytes!("../assets/LiberationSans-Regular.ttf");
const BOLD: &[u8] = include_bytes!("../assets/LiberationSans-Bold.ttf");

/// The `font-family` of every picture.
pub(crate) const FAMILY: &str = "Liberation Sans, Arimo, Arial, Helvetica, Nimbus Sans, sans-serif";

/// Height of a capital letter in em: centres text on a line.
pub(crate) const CAP_HEIGHT: f64 = 0.72;

/// The fonts that `text` is rendered with: the embedded ones alone or, where they lack one of its letters (as
/// Japanese ones), together with the system's.
pub(crate) fn database(text: &str) -> Arc<fontdb::Database> {
    static EMBEDDED: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    static WITH_SYSTEM: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let embedded = || {
        let mut fonts = fontdb::Database::new();
        fonts.load_font_data(REGULAR.to_vec());
        fonts.load_font_data(BOLD.to_vec());
        fonts.set_sans_serif_family("Liberation Sans");
        fonts
    };
    if text.is_ascii() || text.chars().all(has) {
        return EMBEDDED.get_or_init(|| Arc::new(embedded())).clone();
    }
    let with_system = || {
        let mut fonts = embedded();
        fonts.load_system_fonts();
        Arc::new(fonts)
    };
    WITH_SYSTEM.get_or_init(with_system).clone()
}

/// Whether the embedded fonts have `letter` or it draws nothing.
fn has(letter: char) -> bool {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    let font = FONT.get_or_init(|| FontRef::new(REGULAR).ok());
    letter.is_ascii() || font.as_ref().is_none_or(|font| font.charmap().map(letter).is_some())
}

/// Size of raised digits in em, and how far they are raised.
pub(crate) const RAISED: (f64, f64) = (0.68, 0.36);

/// The plain letter of a raised digit or minus sign. The font lacks some of them, so all are set as raised plain
/// ones.
pub(crate) fn raised(letter: char) -> Option<char> {
    let digits = ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'];
    let digit = digits.iter().position(|&d| d == letter).and_then(|d| char::from_digit(d as u32, 10));
    if letter == '⁻' { Some('−') } else { digit }
}

/// Width of one line of `text` at `size` pixels. A letter that the font lacks counts as one em.
pub(crate) fn width(text: &str, size: f64, bold: bool) -> f64 {
    let advances = |data| {
        let font = FontRef::new(data).ok()?;
        let (letters, metrics) =
            (font.charmap(), font.glyph_metrics(Size::unscaled(), LocationRef::default()));
        let em = f64::from(font.metrics(Size::unscaled(), LocationRef::default()).units_per_em);
        let advance = |letter: char| letters.map(letter).and_then(|glyph| metrics.advance_width(glyph));
        let ems = |letter| advance(letter).map_or(1.0, |a| f64::from(a) / em);
        Some(
            text.chars()
                .map(|c| raised(c).map_or_else(|| ems(c), |plain| RAISED.0 * ems(plain)))
                .sum::<f64>(),
        )
    };
    size * advances(if bold { BOLD } else { REGULAR }).unwrap_or(0.6 * text.chars().count() as f64)
}

/// `text`, or as much of its start as fits into `room` pixels with an ellipsis behind it.
pub(crate) fn fit(text: &str, room: f64, size: f64, bold: bool) -> String {
    if width(text, size, bold) <= room {
        return text.to_owned();
    }
    let mut short: String = text.to_owned();
    while short.pop().is_some() {
        let candidate = format!("{}…", short.trim_end());
        if width(&candidate, size, bold) <= room {
            return candidate;
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_that_pictures_use_is_in_both_fonts() {
        let letters = "0123456789−×·–…→≤≥±ΣαβγδηλμσφÅéß√∞≈";
        for data in [REGULAR, BOLD] {
            let font = FontRef::new(data).unwrap();
            let missing: String = letters.chars().filter(|&c| font.charmap().map(c).is_none()).collect();
            assert_eq!(missing, "");
        }
    }

    #[test]
    fn the_system_is_asked_only_for_letters_that_are_missing() {
        assert!(Arc::ptr_eq(&database("loss −0.5 → α"), &database("ASCII")));
        assert!(!Arc::ptr_eq(&database("結線"), &database("ASCII")));
        assert!(database("結線").len() >= database("ASCII").len());
    }

    #[test]
    fn widths_are_arials() {
        assert!((width("0", 1000.0, false) - 556.0).abs() < 1.0);
        assert!((width("W", 1000.0, false) - 944.0).abs() < 1.0);
        assert!((width("a", 1000.0, true) - 556.0).abs() < 1.0);
        assert!((width("⁻⁰", 1000.0, false) - 0.68 * width("−0", 1000.0, false)).abs() < 1.0);
        assert_eq!(width("", 18.0, false), 0.0);
    }

    #[test]
    fn text_is_shortened_to_fit() {
        assert_eq!(fit("short", 100.0, 10.0, false), "short");
        let short = fit("a rather long name", 60.0, 10.0, false);
        assert!(short.ends_with('…') && width(&short, 10.0, false) <= 60.0, "{short}");
        assert_eq!(fit("anything", 0.0, 10.0, false), "");
    }
}
