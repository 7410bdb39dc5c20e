//! The charts, one file per kind.

mod bar;
mod frame;
mod heat;
mod images;
mod matrix;
mod panels;
mod xy;

pub use bar::BarChart;
pub use heat::{ColourMap, Confusion, HeatMap};
pub use images::{ImageGrid, Tile};
pub use panels::Panels;
pub use xy::{Mark, Series, XyChart};

/// How values are spread along an axis. Logarithmic scales leave out what is not positive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scale {
    /// Equal differences take equal room.
    #[default]
    Linear,
    /// Equal ratios take equal room; ticks at powers of ten.
    Log10,
    /// Equal ratios take equal room; ticks at powers of two.
    Log2,
}

/// One axis of a chart.
#[derive(Debug, Clone, Default)]
pub struct Axis {
    pub(crate) label: String,
    pub(crate) scale: Scale,
    pub(crate) range: Option<(f64, f64)>,
    pub(crate) whole: bool,
    pub(crate) include: Option<f64>,
}

impl Axis {
    /// A linear axis that covers its data.
    pub fn new(label: impl Into<String>) -> Axis {
        Axis { label: label.into(), ..Axis::default() }
    }

    /// Sets the scale.
    pub fn scale(self, scale: Scale) -> Axis {
        Axis { scale, ..self }
    }

    /// Fixes the range in place of the data's; ignored where the scale cannot show it.
    pub fn range(self, from: f64, to: f64) -> Axis {
        Axis { range: Some((from, to)), ..self }
    }

    /// Ticks at whole numbers only, as for epochs.
    pub fn whole(self) -> Axis {
        Axis { whole: true, ..self }
    }

    /// Makes the range reach `value`, as for bars that start at zero.
    pub fn include(self, value: f64) -> Axis {
        Axis { include: Some(value), ..self }
    }
}
