//! Weka's attribute-relation file format: <https://waikato.github.io/weka-wiki/formats_and_processing/arff_stable/>.

use csv::StringRecord;

use super::raw::shorten;
use super::{Kind, RawTable};
use crate::{Error, Place, Result};

impl RawTable {
    /// Reads `text`: numeric, nominal and string attributes, quoted names and values, `?` for a missing one.
    ///
    /// Sparse rows, dates and relational attributes are refused.
    pub fn arff(text: &str, file: &str) -> Result<Self> {
        let mut table = Self { file: file.to_owned(), names: None, kinds: Vec::new(), rows: Vec::new() };
        let mut names: Vec<String> = Vec::new();
        let mut in_data = false;
        for (line, content) in (1u64..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('%') {
                continue;
            }
            let place = || Place::line(file, line);
            if in_data {
                table.rows.push((line, row(content, names.len(), &place)?));
                continue;
            }
            let (keyword, rest) = content.split_once(char::is_whitespace).unwrap_or((content, ""));
            match keyword.to_ascii_lowercase().as_str() {
                "@relation" => {}
                "@attribute" => {
                    let (name, kind) = attribute(rest.trim(), &place)?;
                    if names.contains(&name) {
                        return Err(Error::format(place(), format!("`{name}` again"), "different names"));
                    }
                    names.push(name);
                    table.kinds.push(kind);
                }
                "@data" if names.is_empty() => {
                    return Err(Error::format(place(), "@data", "@attribute lines before it"));
                }
                "@data" => in_data = true,
                _ => {
                    let found = format!("`{}`", shorten(content));
                    return Err(Error::format(place(), found, "@relation, @attribute, @data or a % comment"));
                }
            }
        }
        if !in_data {
            return Err(Error::format(
                Place::file(file),
                "no @data line",
                "an ARFF file with attributes and data",
            ));
        }
        if table.rows.is_empty() {
            return Err(Error::Empty {
                what: file.to_owned(),
                hint: "there is no row below @data".to_owned(),
            });
        }
        table.names = Some(names);
        Ok(table)
    }
}

/// The name and kind of what follows `@attribute`.
fn attribute(text: &str, place: &dyn Fn() -> Place) -> Result<(String, Kind)> {
    let (name, rest) = token(text, |c| c.is_whitespace() || c == '{', place)?;
    if name.is_empty() {
        return Err(Error::format(place(), "an attribute without a name", "@attribute NAME TYPE"));
    }
    let rest = rest.trim();
    if let Some(list) = rest.strip_prefix('{') {
        let Some(list) = list.trim_end().strip_suffix('}') else {
            return Err(Error::format(place(), "a list of values without its end", "`}`"));
        };
        let values = cells(list, place)?;
        if values.iter().any(String::is_empty) {
            return Err(Error::format(place(), "an empty value", "values between `{` and `}`"));
        }
        return Ok((name, Kind::Nominal(values)));
    }
    let word = rest.split(|c: char| c.is_whitespace() || c == '[').next().unwrap_or_default();
    match word.to_ascii_lowercase().as_str() {
        "numeric" | "real" | "integer" => Ok((name, Kind::Numeric)),
        "string" => Ok((name, Kind::Open)),
        _ => {
            let found = format!("`{}` as the type of `{name}`", shorten(rest));
            Err(Error::format(place(), found, "numeric, real, integer, string or a list {a, b, …} of values"))
        }
    }
}

fn row(content: &str, columns: usize, place: &dyn Fn() -> Place) -> Result<StringRecord> {
    if content.starts_with('{') {
        let expected = "a row with every value; convert with Weka's SparseToNonSparse filter";
        return Err(Error::format(place(), "a sparse row", expected));
    }
    let cells = cells(content, place)?;
    if cells.len() != columns {
        let expected = format!("{columns}, one per attribute");
        return Err(Error::format(place(), format!("{} values", cells.len()), expected));
    }
    Ok(StringRecord::from(cells))
}

/// The values between commas.
fn cells(mut text: &str, place: &dyn Fn() -> Place) -> Result<Vec<String>> {
    let mut cells = Vec::new();
    loop {
        let (cell, rest) = token(text.trim_start(), |c| c == ',', place)?;
        cells.push(cell);
        match rest.trim_start().strip_prefix(',') {
            Some(rest) => text = rest,
            None if rest.trim().is_empty() => return Ok(cells),
            None => {
                let found = format!("`{}` after a quoted value", shorten(rest.trim()));
                return Err(Error::format(place(), found, "a comma"));
            }
        }
    }
}

/// The quoted or bare word at the start of `text`, and what follows it.
fn token<'a>(
    text: &'a str,
    ends: impl Fn(char) -> bool,
    place: &dyn Fn() -> Place,
) -> Result<(String, &'a str)> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '\'' | '"')) else {
        let end = text.find(ends).unwrap_or(text.len());
        return Ok((text[..end].trim().to_owned(), &text[end..]));
    };
    let mut word = String::new();
    let mut characters = text.char_indices().skip(1);
    while let Some((i, c)) = characters.next() {
        match c {
            '\\' => word.extend(characters.next().map(|(_, c)| c)),
            c if c == quote => return Ok((word, &text[i + 1..])),
            c => word.push(c),
        }
    }
    Err(Error::format(place(), format!("{quote} without its end"), format!("a closing {quote}")))
}
