//! Statements → graph: the state of a reading, names, and the chain.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use crate::op::CustomOperator;
use crate::{Error, Graph, GraphBuilder, Result, ValueId, Wire, nearest};

use super::arguments::Word;
use super::blocks::Block;
use super::lexer::{Place, Token, statements};
use super::vocabulary::{Vocabulary, number};

/// Characters of a text at most.
const MAX_TEXT: usize = 1 << 28;
/// Characters of a word with its block arguments filled in, at most.
const MAX_WORD: usize = 4096;
/// Stages that a text may expand to.
const MAX_STAGES: usize = 100_000;

/// Reads a text.
pub(super) fn parse(text: &str, custom: &[Arc<dyn CustomOperator>]) -> Result<Graph> {
    if text.len() > MAX_TEXT {
        let message = format!("the text has {} bytes; {MAX_TEXT} are the most", text.len());
        return Err(Place { line: 1, column: 1 }.error(message));
    }
    let statements: Rc<[Vec<Token<'_>>]> = statements(text)?.into();
    let mut parser = Parser {
        builder: GraphBuilder::from_graph(Graph::new("")),
        vocabulary: Vocabulary::new(custom),
        statements: Rc::clone(&statements),
        blocks: HashMap::new(),
        names: HashMap::new(),
        seen: 0,
        frame: Frame::default(),
        depth: 0,
        outputs_given: false,
        stages: 0,
    };
    let mut i = 0;
    while i < statements.len() {
        i = if statements[i][0].is("block") && !statements[i].get(1).is_some_and(|t| t.is(":")) {
            parser.define_block(i)?
        } else {
            parser.statement(&statements[i])?;
            i + 1
        };
    }
    parser.finish()
}

/// What is known while a text, or a block of it, is read.
#[derive(Debug, Default)]
pub(super) struct Frame {
    /// What goes in front of every path.
    pub prefix: String,
    /// The block's arguments.
    pub arguments: HashMap<String, String>,
    /// Names given by labels.
    pub labels: HashMap<String, ValueId>,
    /// What the block is applied to.
    pub input: Option<ValueId>,
    /// The result of the last stage.
    pub current: Option<ValueId>,
}

/// The state of a reading.
pub(super) struct Parser<'t, 'r> {
    pub builder: GraphBuilder,
    pub vocabulary: Vocabulary<'r>,
    pub statements: Rc<[Vec<Token<'t>>]>,
    pub blocks: HashMap<&'t str, Rc<Block<'t>>>,
    pub frame: Frame,
    pub depth: usize,
    pub outputs_given: bool,
    names: HashMap<String, ValueId>,
    seen: usize,
    stages: usize,
}

impl<'t> Parser<'t, '_> {
    fn finish(self) -> Result<Graph> {
        let graph = self.builder.with(|g| {
            if let (Some(current), false) = (self.frame.current, self.outputs_given) {
                g.add_output("output", current)?;
            }
            Ok(std::mem::take(g))
        });
        match (graph, self.builder.take_error()) {
            (Some(graph), _) => Ok(graph),
            (None, error) => Err(error.unwrap_or_else(|| Error::Inconsistent("no graph".to_owned()))),
        }
    }

    /// A statement that is no block's definition.
    pub(super) fn statement(&mut self, tokens: &[Token<'t>]) -> Result<()> {
        let first = &tokens[0];
        if tokens.get(1).is_some_and(|t| t.is(":")) {
            let rest = &tokens[2..];
            return match rest.first() {
                None => Err(first.place.error(format!("nothing follows the name `{}:`", first.text))),
                Some(_) => self.chain(rest, Some(first)),
            };
        }
        match first.text {
            "graph" => self.header(tokens),
            "param" | "buffer" | "state" => self.parameter(tokens),
            "const" => self.constant(tokens),
            "end" => Err(first.place.error("`end` without a `block` before it")),
            "block" => Err(first.place.error("a block can't be defined inside a block")),
            _ => self.chain(tokens, None),
        }
    }

    fn chain(&mut self, tokens: &[Token<'t>], label: Option<&Token<'t>>) -> Result<()> {
        // What begins a chain and has no other name takes the label for itself; else it names the chain's end.
        let names_first = tokens[0].is("input") || tokens[0].is("in");
        let count = tokens.split(|t| t.is("|")).count();
        let mut at = 0;
        for (i, stage) in tokens.split(|t| t.is("|")).enumerate() {
            let Some(head) = stage.first() else {
                let pipe = &tokens[at.min(tokens.len() - 1)];
                return Err(pipe.place.error("a stage is missing next to `|`"));
            };
            self.stages += 1;
            if self.stages > MAX_STAGES {
                return Err(head.place.error(format!("the text expands to more than {MAX_STAGES} stages")));
            }
            let named = if names_first { i == 0 } else { i + 1 == count };
            let label = label.filter(|_| named);
            self.stage(stage, i == 0, label)?;
            if let Some(label) = label {
                self.label(label)?;
            }
            at += stage.len() + 1;
        }
        Ok(())
    }

    /// Makes `label` a name of the current value, unless it is its name already.
    fn label(&mut self, label: &Token<'t>) -> Result<()> {
        let name = self.expand(label)?;
        let Some(current) = self.frame.current else {
            return Err(label.place.error(format!("there is no value that `{name}` could name")));
        };
        match self.find_value(&name) {
            Some(value) if value == current => Ok(()),
            Some(_) if self.depth == 0 || self.frame.labels.contains_key(&name) => {
                Err(label.place.error(format!("the name `{name}` is used twice")))
            }
            _ => {
                self.frame.labels.insert(name, current);
                Ok(())
            }
        }
    }

    /// The value of that name: a label, a path within the block, or a path.
    pub(super) fn find_value(&self, name: &str) -> Option<ValueId> {
        let inside = || self.names.get(&self.path(name));
        self.frame.labels.get(name).or_else(inside).or_else(|| self.names.get(name)).copied()
    }

    /// As [`Parser::find_value`], as a wire.
    pub(super) fn value(&self, name: &str, place: Place) -> Result<ValueId> {
        self.find_value(name).ok_or_else(|| {
            let known = self.frame.labels.keys().chain(self.names.keys()).map(String::as_str);
            let hint = nearest(name, known).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
            place.error(format!("found `{name}`, expected the name of a value{hint}"))
        })
    }

    /// `name` behind the block's path.
    pub(super) fn path(&self, name: &str) -> String {
        format!("{}{name}", self.frame.prefix)
    }

    /// The current value, for `owner`.
    pub(super) fn current(&self, owner: &str, place: Place) -> Result<ValueId> {
        self.frame.current.ok_or_else(|| {
            place.error(format!(
                "`{owner}` has no value to work on; begin with an input (`x: input batch 4`) or a value's name"
            ))
        })
    }

    /// The current value as a wire.
    pub(super) fn current_wire(&self, owner: &str, place: Place) -> Result<Wire> {
        self.current(owner, place).map(|v| self.builder.wire_of(v))
    }

    /// Uses the builder; what it refuses is an error at `place`.
    pub(super) fn build<T>(&mut self, place: Place, f: impl FnOnce(&GraphBuilder) -> T) -> Result<T> {
        let result = f(&self.builder);
        if let Some(error) = self.builder.take_error() {
            return Err(place.error(error.to_string()));
        }
        let (names, seen) = (&mut self.names, &mut self.seen);
        self.builder.with(|g| {
            for i in *seen..g.values().len() {
                names.insert(g.values()[i].name.clone(), ValueId::new(i));
            }
            *seen = g.values().len();
            Ok(())
        });
        Ok(result)
    }

    /// The token's text with the block's arguments filled in. Arithmetic on them is carried out where the word is a
    /// number then: `4*$width`.
    pub(super) fn expand(&self, token: &Token<'_>) -> Result<String> {
        let text = token.text;
        if !text.contains('$') {
            return Ok(text.to_owned());
        }
        let mut expanded = String::new();
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let (name, after) = argument_name(rest);
            let value = self.frame.arguments.get(name).ok_or_else(|| {
                let known = self.frame.arguments.keys().map(String::as_str);
                let hint = match nearest(name, known) {
                    Some(n) => format!("; did you mean `${n}`?"),
                    None if self.depth == 0 => "; arguments exist only inside a block".to_owned(),
                    None => "; declare it behind the block's name: block NAME(argument)".to_owned(),
                };
                token.place.error(format!("`${name}` is no argument of the block{hint}"))
            })?;
            expanded.push_str(value);
            if expanded.len() > MAX_WORD {
                return Err(token
                    .place
                    .error(format!("`{text}` expands to more than {MAX_WORD} characters")));
            }
            rest = after;
        }
        expanded.push_str(rest);
        Ok(number(&expanded).map_or(expanded, |n| n.to_string()))
    }

    /// Expanded words, without blanks inside.
    pub(super) fn words(&self, tokens: &[Token<'_>]) -> Result<Vec<Word>> {
        let word = |token: &Token<'_>| {
            let text = self.expand(token)?.split_whitespace().collect();
            Ok(Word { text, place: token.place })
        };
        tokens.iter().map(word).collect()
    }
}

/// The argument's name at the start of `text` (`width` or `{width}`), and what follows.
fn argument_name(text: &str) -> (&str, &str) {
    if let Some((name, rest)) = text.strip_prefix('{').and_then(|t| t.split_once('}')) {
        return (name, rest);
    }
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
    text.split_at(end)
}
