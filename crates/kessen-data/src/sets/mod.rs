//! The data sets that are known by name: one file each, and one line in [`SETS`].

mod cifar10;
mod digits;
mod iris;
mod mnist;
mod wine;

use std::path::Path;

use crate::{Error, Result, Splits};

pub use cifar10::cifar10;
pub use digits::digits;
pub use iris::iris;
pub use mnist::mnist;
pub use wine::wine;

/// A data set that is known by name.
#[derive(Debug, Clone, Copy)]
pub struct Entry {
    /// The name.
    pub name: &'static str,
    /// What it is, in one line.
    pub summary: &'static str,
    /// Who made it and where it comes from.
    pub source: &'static str,
    /// The licence that it stands under.
    pub licence: &'static str,
    /// How to get at it.
    pub open: Open,
}

/// How to get at a data set.
#[derive(Debug, Clone, Copy)]
pub enum Open {
    /// It is in the binary.
    Embedded(fn() -> Result<Splits>),
    /// It is read from a folder.
    Folder(fn(&Path) -> Result<Splits>),
}

impl Entry {
    /// Reads the data set, from `folder` where it is not in the binary.
    ///
    /// # Errors
    /// [`Error::Option`] where a folder is needed and none is given; whatever makes its files unreadable.
    pub fn open(&self, folder: Option<&Path>) -> Result<Splits> {
        match (self.open, folder) {
            (Open::Embedded(open), _) => open(),
            (Open::Folder(open), Some(folder)) => open(folder),
            (Open::Folder(_), None) => {
                let expected = format!("the folder that {} lies in", self.name);
                Err(Error::option("folder", "nothing", expected))
            }
        }
    }
}

const SETS: [Entry; 5] = [digits::ENTRY, iris::ENTRY, wine::ENTRY, mnist::ENTRY, cifar10::ENTRY];

/// Every data set that is known by name.
///
/// ```
/// for set in kessen_data::data::list() {
///     println!("{:10} {}", set.name, set.summary);
/// }
/// ```
pub fn list() -> &'static [Entry] {
    &SETS
}

/// The data set `name`.
///
/// ```
/// use kessen_data::data;
///
/// assert_eq!(data::find("iris")?.open(None)?.train.len(), 120);
/// let error = data::find("digit").unwrap_err();
/// assert!(error.to_string().contains("did you mean `digits`?"));
/// # Ok::<(), kessen_data::Error>(())
/// ```
///
/// # Errors
/// [`Error::Unknown`] for another name, with the nearest one.
pub fn find(name: &str) -> Result<&'static Entry> {
    SETS.iter().find(|s| s.name == name).ok_or_else(|| Error::unknown("data set", name, SETS.map(|s| s.name)))
}

/// The data set `name`, one that is in the binary.
///
/// # Errors
/// As [`find`] and [`Entry::open`].
pub fn builtin(name: &str) -> Result<Splits> {
    find(name)?.open(None)
}
