//! Files and what is in them.

mod arff;
mod csv;
mod file;
pub(crate) mod folder;
pub(crate) mod idx;
pub(crate) mod picture;
mod raw;

pub use folder::{FolderOptions, image_folder};
pub use idx::{parse_idx, read_idx};
pub use picture::Picture;

pub(crate) use file::{LIMIT, list, read_bytes, read_text};
pub(crate) use raw::{Kind, RawTable, shorten};
