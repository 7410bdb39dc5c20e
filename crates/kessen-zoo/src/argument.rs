//! Arguments of architectures: `classes=10, size=64`.

use std::collections::BTreeMap;

use kessen_graph::attribute::Attribute;
use kessen_graph::nearest;

use crate::{Architecture, Error, Result};

/// What can be chosen of an architecture.
#[derive(Debug)]
pub struct Argument {
    /// Its name.
    pub name: &'static str,
    /// The value it has where none is given, as text.
    pub default: &'static str,
    /// What it is.
    pub about: &'static str,
}

/// Names with values, as texts.
pub type Arguments = BTreeMap<String, String>;

/// Reads `key=value, key=value`; commas inside brackets belong to the value.
///
/// # Errors
/// [`Error::Syntax`] where a part has no `=`, or a key stands twice.
pub fn arguments(text: &str) -> Result<Arguments> {
    let mut depth = 0usize;
    let parts = text.split(|c: char| {
        match c {
            '[' | '(' => depth += 1,
            ']' | ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    });
    let mut arguments = Arguments::new();
    for part in parts.map(str::trim).filter(|p| !p.is_empty()) {
        let syntax = |expected: &str| Error::Syntax { text: part.to_owned(), expected: expected.to_owned() };
        let (key, value) = part.split_once('=').ok_or_else(|| syntax("argument=value"))?;
        let value: String = value.split_whitespace().collect();
        if arguments.insert(key.trim().to_owned(), value).is_some() {
            return Err(syntax("each argument once"));
        }
    }
    Ok(arguments)
}

/// The values of an architecture's arguments, given or usual.
#[derive(Debug)]
pub struct Values {
    architecture: &'static Architecture,
    given: Arguments,
}

impl Values {
    pub(crate) fn new(architecture: &'static Architecture, given: &Arguments) -> Result<Self> {
        let names = || architecture.arguments.iter().map(|a| a.name);
        match given.keys().find(|k| !names().any(|n| n == k.as_str())) {
            None => Ok(Self { architecture, given: given.clone() }),
            Some(unknown) => {
                let known = architecture.arguments.iter().map(|a| format!("{}={}", a.name, a.default));
                Err(Error::UnknownArgument {
                    architecture: architecture.name,
                    name: unknown.clone(),
                    nearest: nearest(unknown, names()),
                    known: known.collect::<Vec<_>>().join(", "),
                })
            }
        }
    }

    /// Name of the architecture.
    pub fn name(&self) -> &'static str {
        self.architecture.name
    }

    /// The value of `name`, which the architecture has.
    pub(crate) fn get<T: Attribute>(&self, name: &'static str) -> Result<T> {
        let declared = self.architecture.arguments.iter().find(|a| a.name == name);
        let usual = declared.map_or("", |a| a.default);
        let text = self.given.get(name).map_or(usual, String::as_str);
        T::parse(text).ok_or_else(|| self.wrong(name, T::EXPECTED))
    }

    /// As [`Values::get`], for numbers that are at least 1.
    pub(crate) fn count(&self, name: &'static str) -> Result<usize> {
        match self.get(name)? {
            0 => Err(self.wrong(name, "a whole number ≥ 1")),
            n => Ok(n),
        }
    }

    /// Height and width of the image.
    pub(crate) fn size(&self, name: &'static str) -> Result<[usize; 2]> {
        match self.get::<[usize; 2]>(name)? {
            [0, _] | [_, 0] => Err(self.wrong(name, "a height and width ≥ 1, as 224 or 192x256")),
            size => Ok(size),
        }
    }

    /// A probability below 1.
    pub(crate) fn rate(&self, name: &'static str) -> Result<f64> {
        let rate: f64 = self.get(name)?;
        if (0.0..1.0).contains(&rate) {
            Ok(rate)
        } else {
            Err(self.wrong(name, "a number from 0 to below 1"))
        }
    }

    /// The error for a value of `name`.
    pub(crate) fn wrong(&self, name: &'static str, expected: &str) -> Error {
        Error::Argument {
            architecture: self.architecture.name,
            name,
            found: self.given.get(name).cloned().unwrap_or_default(),
            expected: expected.to_owned(),
        }
    }
}

/// Arguments that several architectures share.
pub(crate) const CLASSES: Argument =
    Argument { name: "classes", default: "1000", about: "number of classes" };
/// As above.
pub(crate) const CHANNELS: Argument =
    Argument { name: "channels", default: "3", about: "channels of the image" };
/// As above.
pub(crate) const SIZE: Argument =
    Argument { name: "size", default: "224", about: "side of the image, or height x width" };
