//! `[data]`: a set by its name, a function, a table, a folder of images.

use std::path::{Path, PathBuf};

use kessen_data::{
    FolderOptions, FunctionOptions, Splits, Table as Rows, TableOptions, data, function, image_folder,
};
use toml::{Table, Value};

use super::document::{Document, Result, advice};

/// `data.name` of a function of x.
const FUNCTION: &str = "function";
/// `data.name` of a CSV or ARFF file.
const TABLE: &str = "table";
/// `data.name` of a folder with a folder of images per class.
const IMAGES: &str = "images";

/// What is learnt from.
#[derive(Debug, Clone, PartialEq)]
pub struct DataSpec {
    /// The set's name, or [`FUNCTION`], [`TABLE`], [`IMAGES`].
    pub name: String,
    /// The file or folder that it is read from.
    pub path: Option<PathBuf>,
    /// Fraction of the training part that is set aside for validation.
    pub validation: f64,
    /// What else the kind of data can be told.
    pub options: Options,
}

/// Settings of one kind of data.
#[derive(Debug, Clone, PartialEq)]
pub enum Options {
    /// A set that is known by name has none.
    Named,
    /// A function of x.
    Function(FunctionOptions),
    /// A table.
    Table(TableOptions),
    /// A folder of images.
    Images(FolderOptions),
}

const OWN: [&str; 3] = ["name", "path", "validation"];

impl DataSpec {
    /// Reads the section.
    pub(super) fn read(document: &Document, section: Value) -> Result<Self> {
        let Value::Table(mut table) = section else {
            return Err(document.error("data", "expected a section", None));
        };
        let names = known();
        let name: String = match table.remove("name") {
            Some(name) => document.read("data.name", name, &[])?,
            None => {
                let advice = format!("known are {}", names.join(", "));
                return Err(document.error("data", "the key `name` is missing in [data]", Some(advice)));
            }
        };
        if !names.contains(&name.as_str()) {
            let problem = format!("unknown data set `{name}`");
            return Err(document.error("data.name", problem, Some(advice(&name, &names))));
        }
        let path: Option<PathBuf> =
            table.remove("path").map(|v| document.read("data.path", v, &[])).transpose()?;
        // A table has a validation setting of its own, drawn together with the test part.
        let validation = match table.remove("validation") {
            Some(value) if name != TABLE => document.read("data.validation", value, &[])?,
            Some(value) => {
                table.insert("validation".to_owned(), value);
                0.0
            }
            None => 0.0,
        };
        if !(0.0..1.0).contains(&validation) {
            let problem = format!("{validation} is out of range; expected 0 or more and below 1");
            return Err(document.error("data.validation", problem, None));
        }
        let rest = Value::Table(table.clone());
        let options = match name.as_str() {
            FUNCTION => Options::Function(document.read("data", rest, &OWN)?),
            TABLE => Options::Table(document.read("data", rest, &OWN)?),
            IMAGES => Options::Images(document.read("data", rest, &OWN)?),
            _ => match table.keys().next() {
                None => Options::Named,
                Some(key) => {
                    let problem = format!("unknown key `{key}`");
                    return Err(document.error(&format!("data.{key}"), problem, Some(advice(key, &OWN))));
                }
            },
        };
        if path.is_none() && matches!(options, Options::Table(_) | Options::Images(_)) {
            let advice = "add `path = \"…\"` or `--set data.path=…`".to_owned();
            return Err(document.error("data", format!("`{name}` needs a path"), Some(advice)));
        }
        Ok(Self { name, path, validation, options })
    }

    /// Reads and splits the data.
    pub(super) fn open(&self, seed: u64) -> anyhow::Result<Splits> {
        let path = self.path.as_deref().map(resolve);
        let splits = match (&self.options, &path) {
            (Options::Function(options), None) => function(options)?,
            (Options::Function(options), Some(path)) => {
                let options = TableOptions {
                    standardise: options.standardise,
                    seed: options.seed,
                    ..Default::default()
                };
                Rows::read(path)?.splits(&options)?
            }
            (Options::Table(options), Some(path)) => Rows::read(path)?.splits(options)?,
            (Options::Images(options), Some(path)) => image_folder(path, options)?,
            (_, path) => {
                let entry = data::find(&self.name)?;
                if matches!(entry.open, data::Open::Folder(_)) && path.is_none() {
                    anyhow::bail!(
                        "{} is not in the binary: say where it lies by `--set data.path=FOLDER`\n  it comes from: {}",
                        self.name,
                        entry.source
                    );
                }
                entry.open(path.as_deref())?
            }
        };
        match self.validation > 0.0 {
            true => Ok(splits.with_validation(self.validation, seed)?),
            false => Ok(splits),
        }
    }

    /// The function that the data are points of, where they are.
    pub fn expression(&self) -> Option<&FunctionOptions> {
        match (&self.options, &self.path) {
            (Options::Function(options), None) => Some(options),
            _ => None,
        }
    }

    pub(super) fn to_table(&self) -> anyhow::Result<Table> {
        let mut table = Table::new();
        table.insert("name".to_owned(), Value::String(self.name.clone()));
        if let Some(path) = &self.path {
            let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
            table.insert("path".to_owned(), Value::String(path.display().to_string()));
        }
        let rest = match &self.options {
            Options::Named => Table::new(),
            Options::Function(options) => Table::try_from(options)?,
            Options::Table(options) => Table::try_from(options)?,
            Options::Images(options) => Table::try_from(options)?,
        };
        if !matches!(self.options, Options::Table(_)) {
            table.insert("validation".to_owned(), Value::Float(self.validation));
        }
        table.extend(rest);
        Ok(table)
    }
}

/// The names that `data.name` may have.
fn known() -> Vec<&'static str> {
    data::list().iter().map(|e| e.name).chain([FUNCTION, TABLE, IMAGES]).collect()
}

/// `~/` at the beginning stands for the home folder, also where no shell has replaced it.
fn resolve(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}
