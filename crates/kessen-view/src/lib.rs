//! Pictures of networks and of their training: charts, image sheets, architecture drawings and
//! self-contained HTML reports.
//!
//! Everything here takes plain data (points, matrices, pixels, tables) and returns a [`Picture`]: SVG text that
//! can also be rendered to PNG, from the very same SVG, with the embedded font. No system font, no display and no
//! network is needed, and the same input gives the same bytes (of letters that the font lacks, such as Japanese ones,
//! the PNG shows the system's).
//!
//! ```
//! use kessen_view::XyChart;
//!
//! let picture = XyChart::new("Training")
//!     .x_label("epoch")
//!     .y_label("loss")
//!     .line("train", [(1.0, 0.9), (2.0, 0.5), (3.0, 0.3)])
//!     .line("validation", [(1.0, 0.8), (2.0, 0.6), (3.0, 0.5)])
//!     .picture();
//! assert!(picture.to_svg().starts_with("<svg"));
//! ```
//!
//! The SVG is written here and not by a charting crate: the pictures are few, have to share one style with the
//! architecture drawings, and have to follow the page's light or dark theme through CSS classes, which none of
//! the charting crates offers.

mod approximation;
mod chart;
mod diagram;
mod error;
mod file;
mod font;
mod image;
mod picture;
mod report;
mod scale;
mod spread;
mod style;
mod wiring;

pub use approximation::{Approximation, Snapshot, Unit, WidthError, error_by_width};
pub use chart::{
    Axis, BarChart, ColourMap, Confusion, HeatMap, ImageGrid, Mark, Panels, Scale, Series, Tile, XyChart,
};
pub use diagram::{Block, BlockId, BlockKind, Diagram};
pub use error::{Error, Result};
pub use image::Image;
pub use picture::Picture;
pub use report::{Report, Section, Table, learning_curve};
pub use wiring::{Drawing, draw};
