//! Comma-separated values (RFC 4180), also with semicolons or tabs.

use csv::{ReaderBuilder, StringRecord};

use super::{Kind, RawTable};
use crate::{Error, Place, Result};

impl RawTable {
    /// Reads `text`; `header` says whether the first row holds names, `None` looks for itself.
    ///
    /// The separator is the one of `,`, `;` and tab that the first line has most of. The first row is taken for names
    /// where it has a word above a number, or words that do not occur again below.
    pub fn csv(text: &str, file: &str, header: Option<bool>) -> Result<Self> {
        let first = text.lines().find(|l| !l.trim().is_empty()).unwrap_or_default();
        // Every other piece between quotes is quoted.
        let count = |c: &u8| first.split('"').step_by(2).flat_map(str::bytes).filter(|b| b == c).count();
        let delimiter = *b",;\t".iter().rev().max_by_key(|c| count(c)).unwrap_or(&b',');
        let mut reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .has_headers(false)
            .flexible(true)
            .from_reader(text.as_bytes());
        let mut rows: Vec<(u64, StringRecord)> = Vec::new();
        for record in reader.records() {
            let record = record.map_err(|e| {
                let line = e.position().map_or(1, csv::Position::line);
                Error::format(Place::line(file, line), e.to_string(), "separated values")
            })?;
            // The position of a record counts the blank lines before it, too.
            let line = record.position().map_or(0, csv::Position::line);
            if record.len() == 1 && record[0].trim().is_empty() {
                continue;
            }
            if let Some((_, first)) = rows.first()
                && first.len() != record.len()
            {
                let expected = format!("{} as in the first row", first.len());
                return Err(Error::format(
                    Place::line(file, line),
                    format!("{} values", record.len()),
                    expected,
                ));
            }
            rows.push((line, record));
        }
        let mut names = None;
        if header.unwrap_or_else(|| looks_like_names(&rows)) && !rows.is_empty() {
            let (line, record) = rows.remove(0);
            names = Some(head(&record, file, line)?);
        }
        if rows.is_empty() {
            let hint = "a table needs at least one row of values below its head".to_owned();
            return Err(Error::Empty { what: file.to_owned(), hint });
        }
        let kinds = vec![Kind::Open; rows[0].1.len()];
        Ok(Self { file: file.to_owned(), names, kinds, rows })
    }
}

fn head(record: &StringRecord, file: &str, line: u64) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for (i, name) in record.iter().enumerate() {
        let name = name.trim();
        let place = || Place::line(file, line).column(i + 1, name);
        if name.is_empty() {
            return Err(Error::format(place(), "no name", "a name for each column"));
        }
        if names.iter().any(|n| n == name) {
            return Err(Error::format(place(), format!("`{name}` again"), "different names"));
        }
        names.push(name.to_owned());
    }
    Ok(names)
}

fn is_number(cell: &str) -> bool {
    cell.trim().parse::<f64>().is_ok()
}

fn looks_like_names(rows: &[(u64, StringRecord)]) -> bool {
    let Some((_, head)) = rows.first() else { return false };
    if head.iter().any(|c| is_number(c) || c.trim().is_empty() || c.trim() == "?") {
        return false;
    }
    let Some((_, second)) = rows.get(1) else { return true };
    if second.iter().any(is_number) {
        return true;
    }
    head.iter().enumerate().all(|(i, c)| rows[1..].iter().all(|(_, r)| r.get(i) != Some(c)))
}
