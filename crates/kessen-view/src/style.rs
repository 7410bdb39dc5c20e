//! One style for every picture: colours by role, letter sizes, colour maps.
//!
//! The categorical colours follow Okabe and Ito (2008), darkened where a thin line on white would be too pale;
//! they stay apart under the common kinds of colour blindness. Each has a partner for dark pages.

use std::fmt;

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rgb(pub u8, pub u8, pub u8);

impl Rgb {
    /// The colour at `t` in [0, 1] between `self` and `other`.
    pub fn mix(self, other: Rgb, t: f64) -> Rgb {
        let part =
            |a: u8, b: u8| (f64::from(a) + (f64::from(b) - f64::from(a)) * t.clamp(0.0, 1.0)).round() as u8;
        Rgb(part(self.0, other.0), part(self.1, other.1), part(self.2, other.2))
    }

    /// Perceived brightness in [0, 1].
    pub fn luma(self) -> f64 {
        (0.299 * f64::from(self.0) + 0.587 * f64::from(self.1) + 0.114 * f64::from(self.2)) / 255.0
    }

    /// Black or white, whichever reads better on this colour.
    pub fn readable(self) -> Rgb {
        if self.luma() > 0.55 { Rgb(0x1f, 0x29, 0x37) } else { Rgb(255, 255, 255) }
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

/// A colour by its role: written into the SVG in its light form with a class, which a dark page overrides.
#[derive(Debug, PartialEq)]
pub(crate) struct Role {
    pub class: &'static str,
    pub light: Rgb,
    pub dark: Rgb,
}

const fn role(class: &'static str, light: u32, dark: u32) -> Role {
    const fn rgb(hex: u32) -> Rgb {
        Rgb((hex >> 16) as u8, (hex >> 8) as u8, hex as u8)
    }
    Role { class, light: rgb(light), dark: rgb(dark) }
}

pub(crate) static PAPER: Role = role("paper", 0xffffff, 0x171c24);
pub(crate) static INK: Role = role("ink", 0x1f2937, 0xe8ebf0);
pub(crate) static MUTED: Role = role("muted", 0x566070, 0xa7b0be);
pub(crate) static GRID: Role = role("grid", 0xe3e7ec, 0x313946);
pub(crate) static AXIS: Role = role("axis", 0x98a2b0, 0x6b7686);

/// A cell of a matrix without anything in it.
pub(crate) static CELL: Role = role("cell", 0xf6f8fa, 0x212833);

pub(crate) static BLUE: Role = role("blue", 0x0067a8, 0x5fb2ee);
pub(crate) static VERMILION: Role = role("vermilion", 0xd1500b, 0xff8a4c);
pub(crate) static GREEN: Role = role("green", 0x008a65, 0x3fc79a);
pub(crate) static PURPLE: Role = role("purple", 0xa8508a, 0xdf97c5);
pub(crate) static ORANGE: Role = role("orange", 0xd18f00, 0xf2bd4a);
pub(crate) static SKY: Role = role("sky", 0x3d9fd8, 0x9ad3f7);
pub(crate) static BROWN: Role = role("brown", 0x7a5230, 0xc9a27e);
pub(crate) static SLATE: Role = role("slate", 0x5b6475, 0xb4bcc9);

/// What a box of an architecture drawing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A value that is given.
    Input,
    /// A value that is wanted.
    Output,
    /// Convolution.
    Conv,
    /// Fully connected layer, matrix product, embedding.
    Linear,
    /// Recurrent layer.
    Recurrent,
    /// Attention.
    Attention,
    /// Pooling.
    Pool,
    /// Normalisation, dropout.
    Norm,
    /// Activation, softmax, other element-wise maps of one value.
    Activation,
    /// Sum, concatenation: where branches meet.
    Join,
    /// Reshape, slice: moves numbers only.
    Move,
    /// Loss.
    Loss,
    /// Several nodes in one box.
    Group,
    /// Anything else.
    Other,
}

static KINDS: [(&Role, Role); 7] = [
    (&BLUE, role("blue-box", 0xdfedf8, 0x16324a)),
    (&GREEN, role("green-box", 0xddf1ea, 0x143a30)),
    (&PURPLE, role("purple-box", 0xf5e6f0, 0x402a3b)),
    (&ORANGE, role("orange-box", 0xfbf0d9, 0x403314)),
    (&VERMILION, role("vermilion-box", 0xfce8dc, 0x472714)),
    (&SLATE, role("slate-box", 0xebeef2, 0x2a313d)),
    (&BROWN, role("brown-box", 0xf1e8df, 0x3a2d20)),
];

impl Kind {
    fn colours(self) -> &'static (&'static Role, Role) {
        let index = match self {
            Kind::Conv => 0,
            Kind::Linear => 1,
            Kind::Recurrent | Kind::Attention => 2,
            Kind::Pool => 3,
            Kind::Join | Kind::Loss => 4,
            Kind::Group => 6,
            _ => 5,
        };
        &KINDS[index]
    }

    /// The box' border.
    pub(crate) fn stroke(self) -> &'static Role {
        self.colours().0
    }

    /// The box' area.
    pub(crate) fn fill(self) -> &'static Role {
        &self.colours().1
    }
}

/// Colours of series, in the order they are given out.
pub(crate) static SERIES: [&Role; 8] = [&BLUE, &VERMILION, &GREEN, &PURPLE, &ORANGE, &SKY, &BROWN, &SLATE];

/// Letter sizes in pixels, for a picture of about 900 pixels width.
pub(crate) mod size {
    pub const TITLE: f64 = 24.0;
    pub const LABEL: f64 = 20.0;
    pub const TICK: f64 = 18.0;
    pub const SMALL: f64 = 15.0;
}

/// What an area or a line is painted with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Paint {
    None,
    Role(&'static Role),
    Rgb(Rgb),
}

impl From<&'static Role> for Paint {
    fn from(role: &'static Role) -> Self {
        Paint::Role(role)
    }
}

impl From<Rgb> for Paint {
    fn from(rgb: Rgb) -> Self {
        Paint::Rgb(rgb)
    }
}

fn along(stops: &[Rgb], t: f64) -> Rgb {
    let t = if t.is_finite() { t.clamp(0.0, 1.0) } else { 0.0 } * (stops.len() - 1) as f64;
    let k = (t as usize).min(stops.len() - 2);
    stops[k].mix(stops[k + 1], t - k as f64)
}

/// White to deep blue, `t` in [0, 1].
pub(crate) fn blues(t: f64) -> Rgb {
    along(&[Rgb(248, 250, 252), Rgb(189, 217, 239), Rgb(93, 160, 209), Rgb(19, 100, 166), Rgb(8, 48, 96)], t)
}

/// White to deep vermilion, `t` in [0, 1].
pub(crate) fn vermilions(t: f64) -> Rgb {
    along(&[Rgb(248, 250, 252), Rgb(253, 214, 184), Rgb(246, 148, 86), Rgb(209, 80, 11), Rgb(122, 40, 4)], t)
}

/// Blue below zero, white at zero, vermilion above; `t` in [−1, 1].
pub(crate) fn diverging(t: f64) -> Rgb {
    if t < 0.0 { blues(-t) } else { vermilions(t) }
}

/// Dark violet over green to yellow (Viridis, by van der Walt and Smith), `t` in [0, 1].
pub(crate) fn viridis(t: f64) -> Rgb {
    along(
        &[
            Rgb(68, 1, 84),
            Rgb(72, 40, 120),
            Rgb(62, 74, 137),
            Rgb(49, 104, 142),
            Rgb(38, 130, 142),
            Rgb(31, 158, 137),
            Rgb(53, 183, 121),
            Rgb(109, 205, 89),
            Rgb(180, 222, 44),
            Rgb(253, 231, 37),
        ],
        t,
    )
}

/// The colour of item `index` of `count`: the series' colours while they suffice, else a ramp that leaves out
/// what is too pale for a thin line.
pub(crate) fn series_paint(index: usize, count: usize) -> Paint {
    if count <= SERIES.len() {
        return Paint::Role(SERIES[index % SERIES.len()]);
    }
    Paint::Rgb(viridis(0.05 + 0.8 * index as f64 / (count - 1) as f64))
}

/// CSS that turns every picture on a page dark where the reader's system is.
pub(crate) fn dark_css() -> String {
    let fixed = [&PAPER, &INK, &MUTED, &GRID, &AXIS, &CELL];
    let rule = |r: &&Role| format!(".f-{0}{{fill:{1}}}.s-{0}{{stroke:{1}}}", r.class, r.dark);
    let boxes = KINDS.each_ref().map(|kind| &kind.1);
    fixed.iter().chain(SERIES.iter()).chain(&boxes).map(rule).collect()
}
