//! Tables of rows and columns, for classification and regression.

use std::collections::BTreeSet;
use std::path::Path;

use kessen_tensor::Tensor;
use serde::{Deserialize, Serialize};

use crate::error::nearest;
use crate::read::{Kind, RawTable, read_text};
use crate::{Column, Dataset, Error, Field, Input, Preprocess, Result, Splits, Standardise, Target};

/// The most different values that a nominal column may have.
const MAX_VALUES: usize = 256;
/// The most classes that a nominal target may have.
const MAX_CLASSES: usize = 100_000;

/// A table as its file has it.
///
/// ```
/// use kessen_data::{Table, TableOptions};
///
/// let rows = "size,colour,price\n1,red,10\n2,blue,19\n3,red,31\n4,blue,42\n5,red,48\n";
/// let table = Table::csv(rows, "shop.csv", None)?;
/// let splits = table.splits(&TableOptions { target: Some("price".into()), ..TableOptions::default() })?;
/// let preprocess = splits.train.preprocess();
/// assert_eq!(preprocess.feature_names().unwrap(), ["size", "colour=blue", "colour=red"]);
/// assert_eq!((splits.train.len(), splits.test.len()), (4, 1));
///
/// // A new row goes the same way.
/// let x = Table::csv("colour,size\nred,6\n", "new.csv", None)?.inputs(preprocess)?;
/// assert_eq!(x.shape(), [1, 3]);
/// # Ok::<(), kessen_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Table(RawTable);

/// What a table is learned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The target is one of several classes.
    Classification,
    /// The target is a number.
    Regression,
}

/// What happens to a row with a missing value (`?`, `NA` or nothing).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Missing {
    /// It is left out, and [`Splits::notes`] says how many were.
    #[default]
    Drop,
    /// It is an error.
    Error,
}

/// How a table becomes a data set.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TableOptions {
    /// The column to learn; where none is named, `class`, `target`, `label` or `y`, or else the last one.
    pub target: Option<String>,
    /// By default classification where the target's values are words or declared, regression where they are numbers.
    pub task: Option<Task>,
    /// Columns to leave out.
    pub ignore: Vec<String>,
    /// Columns of numbers that are names of something, each value becoming a feature of its own.
    pub nominal: Vec<String>,
    /// What happens to rows with a missing value.
    pub missing: Missing,
    /// Whether the features are standardised.
    pub standardise: bool,
    /// The fraction of the rows to test on, of each class alike.
    pub test: f64,
    /// The fraction of the rows for validation, of each class alike.
    pub validation: f64,
    /// Chooses those rows.
    pub seed: u64,
}

impl Default for TableOptions {
    fn default() -> Self {
        Self {
            target: None,
            task: None,
            ignore: Vec::new(),
            nominal: Vec::new(),
            missing: Missing::Drop,
            standardise: true,
            test: 0.2,
            validation: 0.0,
            seed: 0,
        }
    }
}

impl Table {
    /// Reads the file `path`: ARFF where its name ends in `.arff` (or `.arff.gz`), separated values otherwise.
    ///
    /// # Errors
    /// [`Error::Io`], and those of [`Table::csv`] and [`Table::arff`].
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let (text, name) = (read_text(path)?, path.display().to_string());
        let lower = name.to_lowercase();
        match lower.strip_suffix(".gz").unwrap_or(&lower).ends_with(".arff") {
            true => Self::arff(&text, &name),
            false => Self::csv(&text, &name, None),
        }
    }

    /// The rows of comma-, semicolon- or tab-separated text; `name` stands for the file in messages.
    ///
    /// `header` says whether the first row names the columns; `None` takes it for names where it has words above
    /// numbers, or words that do not occur again below.
    ///
    /// # Errors
    /// [`Error::Format`] with the line for rows of different lengths, [`Error::Empty`] where there is no row.
    pub fn csv(text: &str, name: &str, header: Option<bool>) -> Result<Self> {
        RawTable::csv(text, name, header).map(Self)
    }

    /// The rows of text in Weka's format ARFF; `name` stands for the file in messages.
    ///
    /// # Errors
    /// [`Error::Format`] with the line, also for what is not supported: sparse rows, dates, relational attributes.
    pub fn arff(text: &str, name: &str) -> Result<Self> {
        RawTable::arff(text, name).map(Self)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.0.rows.len()
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.0.rows.is_empty()
    }

    /// The columns' names, `column 1` and so on where the file has none.
    pub fn column_names(&self) -> Vec<String> {
        (0..self.0.kinds.len()).map(|c| self.0.name(c)).collect()
    }

    /// Training, validation and test parts, with features `x` f32 \[F\] and `target` i64 \[\] or f32 \[1\].
    ///
    /// # Errors
    /// [`Error::Unknown`] for a column that does not exist, [`Error::Format`] with file, line and column for a value
    /// that does not belong to its column, [`Error::Empty`] where no row is left, [`Error::Option`] for fractions
    /// that leave nothing to learn from.
    pub fn splits(&self, options: &TableOptions) -> Result<Splits> {
        if options.test + options.validation >= 1.0 {
            let found = format!("{} + {}", options.test, options.validation);
            return Err(Error::option("test + validation", found, "below 1"));
        }
        let target = self.target(options)?;
        let used = self.features(options, target)?;
        let mut table = self.clone();
        table.0.rows.clear();
        for row in 0..self.len() {
            let gap = used.iter().chain([&target]).find(|&&c| self.0.cell(row, c).is_none());
            match (gap, options.missing) {
                (None, _) => table.0.rows.push(self.0.rows[row].clone()),
                (Some(_), Missing::Drop) => {}
                (Some(&c), Missing::Error) => return Err(self.0.wrong(row, c, "a value")),
            }
        }
        let dropped = self.len() - table.len();
        if table.is_empty() {
            let hint = "every row has a missing value; ignore the column that lacks them".to_owned();
            return Err(Error::Empty { what: self.0.file.clone(), hint });
        }
        let columns = used.iter().map(|&c| table.column(c, options)).collect::<Result<_>>()?;
        let preprocess = Preprocess {
            input: Input::Table { columns },
            standardise: Standardise::default(),
            target: table.target_kind(target, options)?,
        };
        let all = table.dataset(&preprocess)?;
        let (rest, test) = all.hold_out(options.test, options.seed)?;
        let name = Path::new(&self.0.file).file_stem().unwrap_or_default().to_string_lossy();
        let mut splits = Splits::new(&name, rest, test)?;
        if options.validation > 0.0 {
            splits = splits.with_validation(options.validation / (1.0 - options.test), options.seed)?;
        }
        if dropped > 0 {
            splits.notes.push(format!(
                "{}: left out {dropped} of {} rows, which miss a value",
                self.0.file,
                self.len()
            ));
        }
        if options.standardise { splits.standardised() } else { Ok(splits) }
    }

    /// All rows as a data set under `preprocess`, such as a trained model's; the columns are found by their names.
    ///
    /// # Errors
    /// As [`Table::inputs`], and the same for the target's column.
    pub fn dataset(&self, preprocess: &Preprocess) -> Result<Dataset> {
        let x = self.encode(preprocess)?;
        let n = self.len();
        let target = match &preprocess.target {
            Target::Classes { name, labels } => {
                let column = self.target_column(preprocess, name)?;
                let class = |row| self.class(row, column, labels).map(|c| c as i64);
                Tensor::from_vec(&[n], (0..n).map(class).collect::<Result<_>>()?)?
            }
            Target::Values { names, .. } => {
                let columns: Vec<_> =
                    names.iter().map(|t| self.target_column(preprocess, t)).collect::<Result<_>>()?;
                let values = (0..n).flat_map(|row| columns.iter().map(move |&c| self.0.number(row, c)));
                Tensor::from_vec(&[n, names.len()], values.collect::<Result<_>>()?)?
            }
            Target::Unnamed => {
                let expected = "classes or values, for a data set with a target";
                return Err(Error::mismatch("the preprocessing's target", "no name", expected));
            }
        };
        Dataset::from_tensors([("x", x), ("target", target)])?.with_preprocess(preprocess.clone())
    }

    /// The network's inputs f32 \[rows, F\], standardised; columns are found by their names, and others are left out.
    ///
    /// In a file without names the columns stand in the order of the training data, with or without the target's.
    ///
    /// # Errors
    /// [`Error::Unknown`] for a column that is not there; [`Error::Format`] with file, line and column for a value that
    /// is missing, no number, or none of the values known from training.
    pub fn inputs(&self, preprocess: &Preprocess) -> Result<Tensor> {
        let mut x = self.encode(preprocess)?;
        let features = x.shape()[1].max(1);
        preprocess.standardise.check(&Field::f32("x", &[features]))?;
        x.as_slice_mut::<f32>()?.chunks_mut(features).for_each(|row| preprocess.standardise.apply(row));
        Ok(x)
    }

    fn encode(&self, preprocess: &Preprocess) -> Result<Tensor> {
        let Input::Table { columns } = &preprocess.input else {
            let expected = "a table; give the model what it was trained on";
            return Err(Error::mismatch(self.0.file.clone(), "a preprocessing of other inputs", expected));
        };
        let places = self.places(columns, preprocess)?;
        let features: usize = columns.iter().map(Column::features).sum();
        let mut x = Vec::with_capacity(self.len() * features);
        for row in 0..self.len() {
            for (column, &place) in columns.iter().zip(&places) {
                if column.values.is_empty() {
                    x.push(self.0.number(row, place)?);
                    continue;
                }
                let value = self.class(row, place, &column.values)?;
                x.extend((0..column.values.len()).map(|v| if v == value { 1.0 } else { 0.0 }));
            }
        }
        Ok(Tensor::from_vec(&[self.len(), features], x)?)
    }

    /// Where each of the preprocessing's columns stands in this table.
    fn places(&self, columns: &[Column], preprocess: &Preprocess) -> Result<Vec<usize>> {
        if self.0.names.is_some() {
            return columns.iter().map(|c| self.find(&c.name)).collect();
        }
        let found = self.0.kinds.len();
        let named: Vec<_> = columns.iter().map(|c| self.find(&c.name)).collect();
        // Names that a table without names was given at training hold their places.
        if found != columns.len() && named.iter().all(Result::is_ok) {
            return named.into_iter().collect();
        }
        let targets = preprocess.values().map_or(1, |(names, _)| names.len());
        if found != columns.len() && found != columns.len() + targets {
            let expected = format!(
                "{} columns: {}",
                columns.len(),
                preprocess.feature_names().unwrap_or_default().join(", ")
            );
            return Err(Error::mismatch(
                self.0.file.clone(),
                format!("{found} columns without names"),
                expected,
            ));
        }
        Ok((0..columns.len()).collect())
    }

    fn target_column(&self, preprocess: &Preprocess, name: &str) -> Result<usize> {
        let unnamed = self.0.names.is_none() && self.find(name).is_err();
        match (&preprocess.input, unnamed) {
            // In a table without names, the target follows the features.
            (Input::Table { columns }, true) if columns.len() < self.0.kinds.len() => Ok(columns.len()),
            _ => self.find(name),
        }
    }

    fn find(&self, name: &str) -> Result<usize> {
        let names = self.column_names();
        let exact = names.iter().position(|n| n == name);
        exact
            .or_else(|| names.iter().position(|n| n.eq_ignore_ascii_case(name)))
            .ok_or_else(|| Error::unknown("column", name, names))
    }

    fn target(&self, options: &TableOptions) -> Result<usize> {
        if let Some(name) = &options.target {
            return self.find(name);
        }
        let usual = ["class", "target", "label", "y"].iter().find_map(|n| self.find(n).ok());
        Ok(usual.unwrap_or(self.0.kinds.len() - 1))
    }

    /// The columns that are features, in the file's order.
    fn features(&self, options: &TableOptions, target: usize) -> Result<Vec<usize>> {
        let mut ignored = vec![false; self.0.kinds.len()];
        ignored[target] = true;
        for name in &options.ignore {
            ignored[self.find(name)?] = true;
        }
        for name in &options.nominal {
            self.find(name)?;
        }
        let used: Vec<usize> = (0..ignored.len()).filter(|&c| !ignored[c]).collect();
        if used.is_empty() {
            let hint =
                format!("besides the target `{}` there must be a column to learn from", self.0.name(target));
            return Err(Error::Empty { what: self.0.file.clone(), hint });
        }
        Ok(used)
    }

    fn column(&self, c: usize, options: &TableOptions) -> Result<Column> {
        let name = self.0.name(c);
        let nominal = options.nominal.iter().any(|n| self.find(n).is_ok_and(|n| n == c));
        let values = match &self.0.kinds[c] {
            Kind::Nominal(values) => values.clone(),
            _ if nominal => self.values(c, MAX_VALUES)?,
            Kind::Numeric => Vec::new(),
            Kind::Open if self.is_numeric(c)? => Vec::new(),
            Kind::Open => self.values(c, MAX_VALUES)?,
        };
        Ok(Column { name, values })
    }

    fn target_kind(&self, c: usize, options: &TableOptions) -> Result<Target> {
        let declared = matches!(self.0.kinds[c], Kind::Nominal(_));
        let numeric = !declared && (self.0.kinds[c] == Kind::Numeric || self.is_numeric(c)?);
        let numbers = if numeric { Task::Regression } else { Task::Classification };
        let name = self.0.name(c);
        match (options.task.unwrap_or(numbers), &self.0.kinds[c]) {
            (Task::Regression, _) => {
                Ok(Target::Values { names: vec![name], standardise: Standardise::default() })
            }
            (Task::Classification, Kind::Nominal(values)) => {
                Ok(Target::Classes { name, labels: values.clone() })
            }
            (Task::Classification, _) => Ok(Target::Classes { name, labels: self.values(c, MAX_CLASSES)? }),
        }
    }

    /// Whether an undeclared column holds numbers. A few words among many numbers are a mistake in the file.
    fn is_numeric(&self, c: usize) -> Result<bool> {
        let is_word = |&row: &usize| self.0.cell(row, c).is_some_and(|v| v.parse::<f64>().is_err());
        let words = (0..self.len()).filter(is_word).count();
        match (0..self.len()).find(is_word) {
            Some(row) if words * 10 <= self.len() => {
                let others = self.len() - words;
                let expected =
                    format!("a number, as in {others} other rows; or name the column in `nominal`");
                Err(self.0.wrong(row, c, &expected))
            }
            word => Ok(word.is_none()),
        }
    }

    /// The different values of a column: numbers by size, words by name.
    fn values(&self, c: usize, most: usize) -> Result<Vec<String>> {
        let values: BTreeSet<&str> = (0..self.len()).filter_map(|row| self.0.cell(row, c)).collect();
        if values.len() > most {
            let place = crate::Place::file(&*self.0.file).column(c + 1, &self.0.name(c));
            let found = format!("{} different values", values.len());
            return Err(Error::format(place, found, format!("at most {most}; ignore the column")));
        }
        let mut values: Vec<String> = values.into_iter().map(str::to_owned).collect();
        if let Ok(numbers) = values.iter().map(|v| v.parse::<f64>()).collect::<Result<Vec<_>, _>>() {
            let mut order: Vec<usize> = (0..values.len()).collect();
            order.sort_by(|&a, &b| numbers[a].total_cmp(&numbers[b]));
            values = order.into_iter().map(|i| values[i].clone()).collect();
        }
        Ok(values)
    }

    /// The index of the cell's value in `values`.
    fn class(&self, row: usize, column: usize, values: &[String]) -> Result<usize> {
        let cell = self.0.cell(row, column);
        let found = cell.and_then(|cell| values.iter().position(|v| v == cell));
        found.ok_or_else(|| {
            let near = cell.and_then(|cell| nearest(cell, values.iter().map(String::as_str)));
            let near = near.map_or(String::new(), |v| format!(" (`{v}`?)"));
            let shown: Vec<_> = values.iter().take(12).map(String::as_str).collect();
            let more = if values.len() > 12 { ", …" } else { "" };
            self.0.wrong(row, column, &format!("one of {}{more}{near}", shown.join(", ")))
        })
    }
}
