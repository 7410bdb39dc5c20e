//! `[model]`: the wiring, as text or as an architecture of the zoo.

use kessen_data::{Splits, Target};
use kessen_graph::Graph;
use toml::{Table, Value};

use super::document::{Document, Result};

/// What is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelSpec {
    wiring: Wiring,
    /// What `$name` in the text stands for, or the zoo's arguments.
    arguments: Table,
}

#[derive(Debug, Clone, PartialEq)]
enum Wiring {
    Text(String),
    Zoo(String),
}

impl ModelSpec {
    /// Reads the section: `text` (the text form), `file` (a file with it) or `zoo` (a name); every other key is an
    /// argument.
    pub(super) fn read(document: &Document, section: Value) -> Result<Self> {
        let Value::Table(mut table) = section else {
            return Err(document.error("model", "expected a section", None));
        };
        let mut take = |key: &str| -> Result<Option<String>> {
            let path = format!("model.{key}");
            table.remove(key).map(|v| document.read(&path, v, &[])).transpose()
        };
        let wiring = match (take("text")?, take("file")?, take("zoo")?) {
            (Some(text), None, None) => Wiring::Text(text),
            (None, Some(file), None) => {
                let text = crate::files::read_text(std::path::Path::new(&file));
                Wiring::Text(text.map_err(|e| document.error("model.file", format!("{e:#}"), None))?)
            }
            (None, None, Some(zoo)) => Wiring::Zoo(zoo),
            _ => {
                let advice = "give one of `text` (the wiring), `file` (a file with it) and `zoo` (a name)";
                return Err(document.error("model", "one wiring is needed", Some(advice.to_owned())));
            }
        };
        if let Some(key) = table.iter().find(|(_, v)| v.is_table() || v.is_array()).map(|(k, _)| k.clone()) {
            return Err(document.error(&format!("model.{key}"), "an argument is a number or a word", None));
        }
        Ok(Self { wiring, arguments: table })
    }

    /// The wiring, with `$features` and `$classes` as the data have them.
    pub(super) fn build(&self, name: &str, document: &Document, data: &Splits) -> anyhow::Result<Graph> {
        let features: usize = data.train.fields()[0].shape.iter().product();
        let outputs = match &data.train.preprocess().target {
            Target::Classes { labels, .. } => labels.len(),
            Target::Values { names, .. } => names.len(),
            _ => 1,
        };
        let mut graph = match &self.wiring {
            Wiring::Zoo(zoo) => {
                let arguments = self.arguments.iter().map(|(k, v)| (k.clone(), plain(v))).collect::<Vec<_>>();
                crate::models::zoo(zoo, &arguments)?
            }
            Wiring::Text(text) => {
                let given = self.arguments.iter().map(|(k, v)| (k.clone(), plain(v)));
                let known = [("features", features), ("classes", outputs)];
                let known = known.map(|(k, n)| (k.to_owned(), n.to_string()));
                let all: Vec<(String, String)> = given.chain(known).collect();
                if let Some(key) = self.arguments.keys().find(|k| !names_in(text).any(|n| n == k.as_str())) {
                    let advice = format!("the wiring would use it as `${key}`");
                    let problem = format!("the model's text has no argument `{key}`");
                    return Err(document.error(&format!("model.{key}"), problem, Some(advice)).into());
                }
                Graph::from_text(&substitute(text, &all)).map_err(|e| {
                    let line = document.line_of("model.text").map(|l| format!(", which begins on line {l}"));
                    let problem = format!("in the model's text{}: {e}", line.unwrap_or_default());
                    document.error("model", problem, None)
                })?
            }
        };
        if let Some(empty) = graph.params().iter().find(|p| p.shape.contains(&0)) {
            let problem = format!("the parameter `{}` of shape {:?} is empty", empty.path, empty.shape);
            let advice = "a layer has at least one unit".to_owned();
            let zero = self.arguments.iter().find(|(_, v)| v.as_integer() == Some(0));
            let place = zero.map_or_else(|| "model".to_owned(), |(k, _)| format!("model.{k}"));
            return Err(document.error(&place, problem, Some(advice)).into());
        }
        if matches!(self.wiring, Wiring::Text(_)) && graph.name().is_empty() {
            graph.set_name(name);
        }
        Ok(graph)
    }

    pub(super) fn to_table(&self) -> Table {
        let mut table = Table::new();
        match &self.wiring {
            Wiring::Text(text) => table.insert("text".to_owned(), Value::String(text.clone())),
            Wiring::Zoo(name) => table.insert("zoo".to_owned(), Value::String(name.clone())),
        };
        table.extend(self.arguments.clone());
        table
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Every `name` of a `$name` in the text.
fn names_in(text: &str) -> impl Iterator<Item = &str> {
    let end = |s: &str| s.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(s.len());
    text.split('$').skip(1).map(move |s| &s[..end(s)])
}

/// Replaces `$name` by its value, the longest name first; other `$` stay, as the arguments of blocks.
fn substitute(text: &str, values: &[(String, String)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let end = after.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(after.len());
        match values.iter().find(|(name, _)| *name == after[..end]) {
            Some((_, value)) => out.push_str(value),
            None => {
                out.push('$');
                out.push_str(&after[..end]);
            }
        }
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}
