//! A table as its file has it: cells of text, and what is declared of each column.

use csv::StringRecord;

use crate::{Place, Result};

/// What a column of a table holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing is declared; the cells decide.
    Open,
    /// Numbers.
    Numeric,
    /// One of these values.
    Nominal(Vec<String>),
}

/// Cells of text with the line that each row stands on.
#[derive(Debug, Clone)]
pub(crate) struct RawTable {
    /// The file's path or the data's name.
    pub file: String,
    /// Names of the columns; none where the file has none.
    pub names: Option<Vec<String>>,
    /// One per column.
    pub kinds: Vec<Kind>,
    /// Line in the file, from 1, and the cells, as many as there are columns.
    pub rows: Vec<(u64, StringRecord)>,
}

impl RawTable {
    /// The place of column `column` (from 0) in row `row`.
    pub fn place(&self, row: usize, column: usize) -> Place {
        Place::line(&*self.file, self.rows[row].0).column(column + 1, &self.name(column))
    }

    /// The column's name; `column 3` where the file has none.
    pub fn name(&self, column: usize) -> String {
        match &self.names {
            Some(names) => names[column].clone(),
            None => format!("column {}", column + 1),
        }
    }

    /// The cell, or `None` where its value is missing.
    pub fn cell(&self, row: usize, column: usize) -> Option<&str> {
        let cell = self.rows[row].1.get(column).unwrap_or_default().trim();
        (!matches!(cell, "" | "?" | "NA")).then_some(cell)
    }

    /// The cell as a number.
    pub fn number(&self, row: usize, column: usize) -> Result<f32> {
        let cell = self.cell(row, column);
        match cell.and_then(|c| c.parse::<f64>().ok()).map(|v| v as f32) {
            Some(v) if v.is_finite() => Ok(v),
            Some(_) => {
                Err(self.wrong(row, column, "a finite number of at most 3.4e38; remove or repair the row"))
            }
            None => Err(self.wrong(row, column, "a number; or declare the column as nominal or ignored")),
        }
    }

    pub fn wrong(&self, row: usize, column: usize, expected: &str) -> crate::Error {
        let found =
            self.cell(row, column).map_or("a missing value".to_owned(), |c| format!("`{}`", shorten(c)));
        crate::Error::format(self.place(row, column), found, expected)
    }
}

/// At most 40 characters of a value, for a message.
pub(crate) fn shorten(text: &str) -> String {
    match text.char_indices().nth(40) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
