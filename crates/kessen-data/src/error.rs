//! What can go wrong with data.

use std::fmt;
use std::path::PathBuf;

/// Result of a data operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why data could not be read, split, transformed or batched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused to read a file or folder.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A file does not hold what its format asks for.
    #[error("{place}: found {found}, expected {expected}")]
    Format {
        /// Where in which file.
        place: Place,
        /// What stands there.
        found: String,
        /// What the format asks for, and where it helps what to do.
        expected: String,
    },
    /// There is no sample to work with.
    #[error("{what} holds no sample; {hint}")]
    Empty {
        /// The file, folder or data set.
        what: String,
        /// What to do next.
        hint: String,
    },
    /// A text that is no function of x, or one without a value where it is needed.
    #[error("column {column} of `{text}`: found {found}, expected {expected}")]
    Expression {
        /// The text.
        text: String,
        /// The place in it, in characters from 1.
        column: usize,
        /// What stands there.
        found: String,
        /// What was expected, with the nearest name where one is misspelt.
        expected: String,
    },
    /// A name that does not exist.
    #[error("unknown {what} `{name}`{}; known are {}", near(name, known), list(known))]
    Unknown {
        /// The kind of thing that was named.
        what: &'static str,
        /// The name found.
        name: String,
        /// The names that exist.
        known: Vec<String>,
    },
    /// An option outside its range.
    #[error("{option} = {found} is out of range; expected {expected}")]
    Option {
        /// The option's name.
        option: String,
        /// The value found.
        found: String,
        /// The values that are allowed.
        expected: String,
    },
    /// No whole batch can be formed.
    #[error(
        "a batch of {batch_size} is larger than the {samples} samples and partial batches are dropped; \
         use a batch size of at most {samples}, or keep the partial batch"
    )]
    BatchTooLarge {
        /// Samples asked for per batch.
        batch_size: usize,
        /// Samples there are.
        samples: usize,
    },
    /// Fields, shapes or element types that do not belong together.
    #[error("{what}: found {found}, expected {expected}")]
    Mismatch {
        /// The data set, field or buffer.
        what: String,
        /// What was found.
        found: String,
        /// What was expected, and what to do.
        expected: String,
    },
    /// A sample's value cannot be learned from: not finite, or a class that does not exist.
    #[error("sample {sample}, field `{field}`: found {found}, expected {expected}")]
    Sample {
        /// The sample's index in its source, from 0.
        sample: usize,
        /// The field's name.
        field: String,
        /// The value found.
        found: String,
        /// The values that are allowed.
        expected: String,
    },
    /// A prefetching thread ended without a result.
    #[error("the prefetching of batches has stopped{hint}")]
    Stopped {
        /// Why, as far as it is known.
        hint: &'static str,
    },
    /// A shape that does not fit the address space, or a tensor of another type.
    #[error(transparent)]
    Tensor(#[from] kessen_tensor::Error),
}

/// A place in a file, as far as it is known: `iris.csv, line 3, column 2 (width)`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The file's path or the data's name.
    pub file: String,
    /// The line, from 1.
    pub line: Option<u64>,
    /// The column (of a table: its number from 1), and its name where it has one.
    pub column: Option<(usize, String)>,
}

impl Place {
    /// The file as a whole.
    pub fn file(file: impl Into<String>) -> Self {
        Self { file: file.into(), ..Self::default() }
    }

    /// A line of a file, from 1.
    pub fn line(file: impl Into<String>, line: u64) -> Self {
        Self { file: file.into(), line: Some(line), column: None }
    }

    /// The same line's column `number`, from 1, named `name` (or `""`).
    pub fn column(mut self, number: usize, name: &str) -> Self {
        self.column = Some((number, name.to_owned()));
        self
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(line) = self.line {
            write!(f, ", line {line}")?;
        }
        match &self.column {
            Some((number, name)) if name.is_empty() => write!(f, ", column {number}"),
            Some((number, name)) => write!(f, ", column {number} ({name})"),
            None => Ok(()),
        }
    }
}

impl Error {
    pub(crate) fn format(place: Place, found: impl Into<String>, expected: impl Into<String>) -> Self {
        Self::Format { place, found: found.into(), expected: expected.into() }
    }

    pub(crate) fn mismatch(
        what: impl Into<String>,
        found: impl Into<String>,
        expected: impl Into<String>,
    ) -> Self {
        Self::Mismatch { what: what.into(), found: found.into(), expected: expected.into() }
    }

    pub(crate) fn option(
        option: impl Into<String>,
        found: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        Self::Option { option: option.into(), found: found.to_string(), expected: expected.into() }
    }

    pub(crate) fn unknown<S: AsRef<str>>(
        what: &'static str,
        name: &str,
        known: impl IntoIterator<Item = S>,
    ) -> Self {
        let known = known.into_iter().map(|k| k.as_ref().to_owned()).collect();
        Self::Unknown { what, name: name.to_owned(), known }
    }
}

/// The known name that the fewest edits lead to, if they are few.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    let length = lower.chars().count();
    known
        .into_iter()
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .filter(|(edits, _)| *edits < length && *edits <= 1 + length / 3)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, k)| k)
}

fn near(name: &str, known: &[String]) -> String {
    nearest(name, known.iter().map(String::as_str))
        .map_or(String::new(), |k| format!(", did you mean `{k}`?"))
}

fn list(known: &[String]) -> String {
    const SHOWN: usize = 24;
    let mut text = known.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    if known.len() > SHOWN {
        text += &format!(" and {} more", known.len() - SHOWN);
    }
    if text.is_empty() { "none".to_owned() } else { text }
}
