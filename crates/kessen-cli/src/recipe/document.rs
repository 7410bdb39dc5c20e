//! A recipe as text, its values with what `--set` changes, and where each of them stands.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use kessen_graph::nearest;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

/// A recipe that can't be used: what is wrong, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecipeError(String);

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RecipeError {}

/// Result of reading a recipe.
pub type Result<T> = std::result::Result<T, RecipeError>;

/// The values of a recipe and their places.
#[derive(Debug, Clone)]
pub struct Document {
    /// The file's path, or the name of an embedded recipe.
    pub name: String,
    /// The text.
    pub text: String,
    /// The values after `--set`.
    pub table: Table,
    /// By dotted path: where the key stands.
    places: BTreeMap<String, Range<usize>>,
    /// By dotted path: the text given to `--set`.
    overrides: BTreeMap<String, String>,
}

impl Document {
    /// Reads `text`; `name` stands for it in messages.
    ///
    /// # Errors
    /// Where it is no TOML, with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        let mut document = Self {
            name: name.to_owned(),
            text: text.to_owned(),
            table: Table::new(),
            places: BTreeMap::new(),
            overrides: BTreeMap::new(),
        };
        let (tree, values) = match (DeTable::parse(text), text.parse::<Table>()) {
            (Ok(tree), Ok(values)) => (tree, values),
            (Err(error), _) | (_, Err(error)) => {
                return Err(document.at_span(error.span(), error.message(), None));
            }
        };
        collect_places("", tree.get_ref(), &mut document.places);
        document.table = values;
        Ok(document)
    }

    /// Applies one `--set key=value`. The value is read as TOML and, where it is none, as text; a key without a
    /// section belongs to `[run]`.
    ///
    /// # Errors
    /// Where it is not of that form, or the key stands below a value that is no section.
    pub fn set(&mut self, assignment: &str) -> Result<()> {
        let wrong = |problem: String| RecipeError(format!("--set {assignment}: {problem}"));
        let Some((path, text)) = assignment.split_once('=') else {
            let example = "--set optimizer.lr=0.01";
            return Err(wrong(format!("expected KEY=VALUE, such as {example}")));
        };
        let (path, text) = (path.trim(), text.trim());
        let keys: Vec<&str> = match path.contains('.') || super::SECTIONS.contains(&path) {
            true => path.split('.').collect(),
            false => vec!["run", path],
        };
        if keys.iter().any(|k| k.is_empty()) {
            return Err(wrong("a key is empty".to_owned()));
        }
        let value = format!("v = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
        let value = value.unwrap_or_else(|| Value::String(text.to_owned()));
        let (last, sections) = match keys.split_last() {
            Some((last, sections)) => (*last, sections),
            None => return Err(wrong("the key is empty".to_owned())),
        };
        let mut table = &mut self.table;
        for section in sections {
            let entry = table.entry((*section).to_owned()).or_insert_with(|| Value::Table(Table::new()));
            table = entry.as_table_mut().ok_or_else(|| wrong(format!("`{section}` is no section")))?;
        }
        // Another kind of optimiser or schedule has other settings; those of the old kind would only be refused.
        if last == "kind" && table.get("kind").is_some_and(|old| *old != value) {
            table.retain(|key, _| {
                key == "lr" || self.overrides.contains_key(&format!("{}.{key}", sections.join(".")))
            });
        }
        table.insert(last.to_owned(), value);
        self.overrides.insert(keys.join("."), assignment.to_owned());
        Ok(())
    }

    /// Reads the value at `path` as `T`; `T`'s default where there is none. `also` names keys that are taken
    /// from the section elsewhere, for the list in a message.
    ///
    /// # Errors
    /// An unknown key with the nearest known one, a value of the wrong type, a missing key; each with its place.
    pub fn read<T: DeserializeOwned>(&self, path: &str, value: Value, also: &[&str]) -> Result<T> {
        T::deserialize(value.clone()).map_err(|error| {
            let message = error.message().to_owned();
            let fails = |v: Value| T::deserialize(v).err().map(|e| e.message().to_owned());
            self.explain(path, &value, &message, also, &fails)
        })
    }

    /// `problem` at the place of `path`, or of the nearest section around it that the text has.
    pub fn error(&self, path: &str, problem: impl fmt::Display, advice: Option<String>) -> RecipeError {
        let (key, advice) = (path.rsplit('.').next().unwrap_or(path), advice.unwrap_or_default());
        if let Some(assignment) = self.overrides.get(path) {
            let advice = if advice.is_empty() { String::new() } else { format!("\n  = {advice}") };
            return RecipeError(format!("--set {assignment}: {problem}{advice}"));
        }
        let mut at = path;
        while !self.places.contains_key(at) {
            match at.rsplit_once('.') {
                Some((outer, _)) => at = outer,
                None => break,
            }
        }
        let advice = Some(advice).filter(|a| !a.is_empty());
        let problem = match at == path {
            true => problem.to_string(),
            false => format!("`{key}`: {problem}"),
        };
        self.at_span(self.places.get(at).cloned(), &problem, advice)
    }

    /// Whether the text or `--set` has a value at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.places.contains_key(path) || self.overrides.contains_key(path)
    }

    /// The line, from 1, on which the key of `path` stands.
    pub fn line_of(&self, path: &str) -> Option<usize> {
        self.places.get(path).map(|span| position(&self.text, span.start).0)
    }

    fn explain(
        &self,
        path: &str,
        value: &Value,
        message: &str,
        also: &[&str],
        fails: &dyn Fn(Value) -> Option<String>,
    ) -> RecipeError {
        let names = backticked(message);
        if message.starts_with("unknown field") {
            let key = names.first().copied().unwrap_or_default();
            let known: Vec<&str> = names.iter().skip(1).chain(also).copied().collect();
            let place = find_key(path, value, key).unwrap_or_else(|| path.to_owned());
            return self.error(&place, format!("unknown key `{key}`"), Some(advice(key, &known)));
        }
        let culprit = find_culprit(path, value, message, fails);
        if message.starts_with("unknown variant") {
            let found = names.first().copied().unwrap_or_default();
            let advice = advice(found, names.get(1..).unwrap_or_default());
            return self.error(&culprit, format!("`{found}` is none of the known names"), Some(advice));
        }
        if let (true, Some(key)) = (message.starts_with("missing field"), names.first()) {
            return self.error(path, format!("the key `{key}` is missing in [{path}]"), None);
        }
        self.error(&culprit, message.trim_end(), None)
    }

    fn at_span(&self, span: Option<Range<usize>>, problem: &str, advice: Option<String>) -> RecipeError {
        let advice = advice.map(|a| format!("\n  = {a}")).unwrap_or_default();
        let Some(span) = span else {
            return RecipeError(format!("{}: {problem}{advice}", self.name));
        };
        let (line, column) = position(&self.text, span.start);
        let text = self.text.lines().nth(line - 1).unwrap_or_default();
        let width = self.text.get(span).map_or(1, |s| s.lines().next().unwrap_or_default().chars().count());
        let (margin, mark) = (line.to_string(), "^".repeat(width.max(1)));
        let (empty, indent) = (" ".repeat(margin.len()), " ".repeat(column - 1));
        RecipeError(format!(
            "{}:{line}:{column}: {problem}\n{empty} |\n{margin} | {text}\n{empty} | {indent}{mark}{advice}",
            self.name
        ))
    }
}

/// Line and column, from 1, of a byte of `text`.
fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

fn collect_places(prefix: &str, table: &DeTable<'_>, places: &mut BTreeMap<String, Range<usize>>) {
    for (key, value) in table {
        let path = join(prefix, key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => collect_places(&path, inner, places),
            DeValue::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    if let DeValue::Table(inner) = item.get_ref() {
                        collect_places(&join(&path, &i.to_string()), inner, places);
                    }
                }
            }
            _ => {}
        }
        places.insert(path, key.span());
    }
}

fn join(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// The parts of a serde message between backticks.
fn backticked(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

/// What to do about `name`, of which `known` are the right forms.
pub fn advice(name: &str, known: &[&str]) -> String {
    let all = format!("known are {}", known.join(", "));
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`? {all}"),
        None => all,
    }
}

/// The path of the key `key` at or below `path`.
fn find_key(path: &str, value: &Value, key: &str) -> Option<String> {
    match value {
        Value::Table(table) if table.contains_key(key) => Some(join(path, key)),
        Value::Table(table) => table.iter().find_map(|(k, v)| find_key(&join(path, k), v, key)),
        Value::Array(items) => {
            items.iter().enumerate().find_map(|(i, v)| find_key(&join(path, &i.to_string()), v, key))
        }
        _ => None,
    }
}

/// The path of the value that `message` complains about: the first whose removal changes the message. Tagged enums
/// are read through a buffer that loses places, so that the message itself does not know.
fn find_culprit(path: &str, value: &Value, message: &str, fails: &dyn Fn(Value) -> Option<String>) -> String {
    let changed = |without: Value| fails(without).is_none_or(|other| other != message);
    match value {
        Value::Table(table) => {
            for (key, inner) in table {
                let mut without = table.clone();
                without.remove(key);
                if changed(Value::Table(without)) {
                    let with = |v: Value| {
                        let mut table = table.clone();
                        table.insert(key.clone(), v);
                        fails(Value::Table(table))
                    };
                    return find_culprit(&join(path, key), inner, message, &with);
                }
            }
        }
        Value::Array(items) => {
            for (i, inner) in items.iter().enumerate() {
                let mut without = items.clone();
                without.remove(i);
                if changed(Value::Array(without)) {
                    let with = |v: Value| {
                        let mut items = items.clone();
                        items[i] = v;
                        fails(Value::Array(items))
                    };
                    return find_culprit(&join(path, &i.to_string()), inner, message, &with);
                }
            }
        }
        _ => {}
    }
    path.to_owned()
}
