//! Blocks with arguments, and paths that repeat a stage.

use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use crate::Result;

use super::arguments::{Arguments, Signature, Word};
use super::lexer::{Place, Token};
use super::parser::{Frame, Parser};
use super::vocabulary::{KEYWORDS, number};

/// Blocks within blocks at most.
const MAX_DEPTH: usize = 16;
/// Repetitions of one stage at most.
const MAX_REPEATS: usize = 10_000;

/// A block's definition.
#[derive(Debug)]
pub(super) struct Block<'t> {
    name: &'t str,
    parameters: Vec<(&'t str, Option<&'t str>)>,
    body: Range<usize>,
}

impl<'t> Parser<'t, '_> {
    /// Reads the definition that begins with statement `at`; returns the statement behind its `end`.
    pub(super) fn define_block(&mut self, at: usize) -> Result<usize> {
        let statements = Rc::clone(&self.statements);
        let header = &statements[at];
        let Some(head) = header.get(1) else {
            return Err(header[0].place.error("`block` needs a name: block NAME(argument, other=default)"));
        };
        if let Some(extra) = header.get(2) {
            let found = extra.text;
            return Err(extra.place.error(format!("found `{found}`, expected a new line behind the header")));
        }
        let (name, parameters) = head.text.split_once('(').unwrap_or((head.text, ")"));
        let list = parameters
            .strip_suffix(')')
            .ok_or_else(|| head.place.error("expected `)` at the end of the arguments"))?;
        let parameters =
            list.split(',').map(str::trim).filter(|p| !p.is_empty()).map(|p| match p.split_once('=') {
                Some((name, default)) => (name.trim(), Some(default.trim())),
                None => (p, None),
            });
        let parameters: Vec<_> = parameters.collect();
        let word =
            |n: &str| !n.is_empty() && n.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') && n != "_";
        if let Some((bad, _)) = parameters.iter().find(|(n, _)| !word(n)) {
            return Err(head
                .place
                .error(format!("`{bad}` can't be an argument's name; use letters and digits")));
        }
        let taken = KEYWORDS.contains(&name)
            || self.vocabulary.find(name).is_some()
            || super::layers::find(name).is_some();
        if taken || !word(name) || self.blocks.contains_key(name) {
            return Err(head
                .place
                .error(format!("`{name}` can't be a block's name; it has a meaning already")));
        }
        let ends = |t: &Vec<Token<'t>>| t.len() == 1 && t[0].is("end");
        let length = statements[at + 1..].iter().position(ends);
        let length =
            length.ok_or_else(|| header[0].place.error(format!("block `{name}` has no `end` of its own")))?;
        let body = at + 1..at + 1 + length;
        if let Some(inner) = statements[body.clone()].iter().find(|s| s[0].is("block")) {
            return Err(inner[0].place.error(format!(
                "a block can't be defined inside a block; is the `end` of `{name}` missing?"
            )));
        }
        let end = body.end + 1;
        self.blocks.insert(name, Rc::new(Block { name, parameters, body }));
        Ok(end)
    }

    /// Applies a block under `path` to the current value.
    pub(super) fn apply_block(&mut self, block: &Block<'t>, path: &Word, words: &[Word]) -> Result<()> {
        let place = path.place;
        if self.depth == MAX_DEPTH {
            return Err(place.error(format!(
                "blocks within blocks deeper than {MAX_DEPTH}; does `{}` use itself?",
                block.name
            )));
        }
        let names: Vec<&str> = block.parameters.iter().map(|(n, _)| *n).collect();
        let usage = format!("{} PATH {}", block.name, names.join(" "));
        let signature = Signature { positional: names, usage: usage.clone(), ..Signature::default() };
        let given = Arguments::read(block.name, place, words, &signature)?;
        let mut arguments: HashMap<String, String> =
            given.iter().map(|(k, w)| (k.to_owned(), w.text.clone())).collect();
        for (name, default) in &block.parameters {
            match default {
                _ if arguments.contains_key(*name) => {}
                Some(default) => {
                    arguments.insert((*name).to_owned(), (*default).to_owned());
                }
                None => {
                    return Err(
                        place.error(format!("`{name}` of `{}` is missing; write `{usage}`", block.name))
                    );
                }
            }
        }
        let prefix =
            if path.text == "-" { self.frame.prefix.clone() } else { format!("{}.", self.path(&path.text)) };
        let current = self.frame.current;
        let inner = Frame { prefix, arguments, labels: HashMap::new(), input: current, current };
        let outer = std::mem::replace(&mut self.frame, inner);
        self.depth += 1;
        let statements = Rc::clone(&self.statements);
        for statement in &statements[block.body.clone()] {
            self.statement(statement)?;
        }
        self.depth -= 1;
        let inner = std::mem::replace(&mut self.frame, outer);
        self.frame.current = inner.current;
        Ok(())
    }
}

/// The paths that `path` stands for: `c{1..3}` for `c1`, `c2`, `c3`.
pub(super) fn paths(path: &Word) -> Result<Vec<Word>> {
    let Some((before, rest)) = path.text.split_once('{') else { return Ok(vec![path.clone()]) };
    let error = |place: Place| {
        place.error(format!("`{}`: expected a range such as `layer{{1..3}}` in the path", path.text))
    };
    let (range, after) = rest.split_once('}').ok_or_else(|| error(path.place))?;
    let bounds = range.split_once("..").and_then(|(a, b)| Some((number(a)?, number(b)?)));
    let (first, last) = bounds.filter(|(a, b)| *b + 1 >= *a).ok_or_else(|| error(path.place))?;
    if last + 1 - first > MAX_REPEATS {
        return Err(path.place.error(format!("`{}` repeats more than {MAX_REPEATS} times", path.text)));
    }
    let at = |i: usize| Word { text: format!("{before}{i}{after}"), place: path.place };
    Ok((first..=last).map(at).collect())
}
