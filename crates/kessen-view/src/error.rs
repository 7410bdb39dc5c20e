use std::path::PathBuf;

/// What can go wrong while a picture or a report is made or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Two lists that belong together have different lengths.
    #[error("{what}: found {found} values, expected {expected} ({because})")]
    Length {
        /// The list with the wrong length.
        what: String,
        /// Its length.
        found: usize,
        /// The length it should have.
        expected: usize,
        /// What the expected length follows from.
        because: &'static str,
    },
    /// The PNG would be larger than [`Picture::MAX_PNG_SIDE`](crate::Picture::MAX_PNG_SIDE) on one side, or empty.
    #[error(
        "a PNG of {width:.0}×{height:.0} pixels cannot be drawn; each side has to be between 1 and {limit}: choose another scale, or save the picture as .svg"
    )]
    Size {
        /// Width asked for, in pixels.
        width: f64,
        /// Height asked for, in pixels.
        height: f64,
        /// Largest side.
        limit: u32,
    },
    /// The file name's extension names no format that pictures are written in.
    #[error("{}: pictures are saved as .svg or .png, found {found:?}; choose one of the two", path.display())]
    Extension {
        /// The path asked for.
        path: PathBuf,
        /// The extension found.
        found: String,
    },
    /// The picture could not be rendered.
    #[error("the picture could not be rendered as PNG: {0}; saving it as .svg still works")]
    Render(String),
    /// A file could not be written.
    #[error("cannot write {}: {source}; nothing was changed there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
