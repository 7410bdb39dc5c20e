//! The text form: a graph as a short readable text, and back.
//!
//! ```text
//! image: input batch 1 28 28
//! conv c1 6 5x5 pad 2 | relu | max_pool 2
//! conv c2 16 5x5 | relu | max_pool 2 | flatten
//! linear f3 120 | relu | linear f4 84 | relu | linear f5 10 | output logits
//! ```
//!
//! # Chains
//! A statement is a chain of stages joined by `|`; it ends with its line or at `;`, and a line that begins with `|`
//! continues it. A stage takes the *current value*, the result of the stage before (also of the line before), unless
//! it names its operands in parentheses, where `_` is the current value and a number is a constant: `add(_, h)`,
//! `concat(a, b, c) 1`, `mul(_, 0.5)`. A chain may begin with a value's name, in parentheses where the name is also
//! a word of the language: `h | conv …`, `(relu) | conv …`. `#` at the start of a word begins a comment.
//!
//! # Names
//! `h: …` names the result of the chain's last stage. An operator without a name of its own gets its word, or
//! `word_1`, `word_2` … where that is taken. The second output of the node `n` is `n#1`. An input has its name in
//! front, too: `ids: input i64 batch time`; dimensions are numbers, names and sums and products of these.
//!
//! # Layers and operators
//! A *layer* has its path in front of everything else and declares its parameters as the builder does; it may name
//! further values (`lstm rnn 128 lengths steps`). Every operator also has its plain form, `c: conv(x, w, b) stride 2`, with `param w 6 1 5 5 init
//! uniform(0.2)`, `buffer`, `state` (of the training run) and `const c 2 2 = 1 0 0 1`. Behind an operator stand its
//! attributes, `name value`; the name of the first may be left out where the operator is little without it
//! (`max_pool 2`, `sum [1]`). `{0..3}` in a path repeats the stage: `conv c{1..3} 64 3x3 pad 1`.
//!
//! # Ends
//! `output NAME VALUE` names an output and `update PARAM VALUE` says what a parameter becomes after the run; `VALUE`
//! may be left out where it is the current value. Without any `output` the last value is the output `output`;
//! `no output` says that there is none.
//!
//! # Blocks
//! What repeats is written once, with arguments; `in` is the value it is applied to, and its path goes in front of
//! every path inside (`-` where there is none):
//! ```text
//! block basic(width, stride=1)
//!   x: in
//!   conv conv1 $width 3x3 stride $stride pad 1 | relu | conv conv2 $width 3x3 pad 1 | add(_, x) | relu
//! end
//! image: input batch 64 32 32
//! basic layer1.{0..2} 64
//! ```
//! The printer writes no blocks: it writes what they expand to.
//!
//! The rejected alternative is a serialised tree (JSON, TOML): complete as well, but nobody would write it, and a
//! diff of it shows brackets.

mod arguments;
mod blocks;
mod declare;
mod layers;
mod lexer;
mod parser;
mod printer;
mod stage;
mod vocabulary;

use std::fmt;
use std::sync::Arc;

use crate::op::CustomOperator;
use crate::{Graph, Result};

impl Graph {
    /// Reads the text form.
    ///
    /// ```
    /// use kessen_graph::Graph;
    ///
    /// let net = Graph::from_text("x: input batch 1\nlinear hidden 16 | sigmoid | linear out 1")?;
    /// assert_eq!(net.weight_count(), 49);
    /// assert_eq!(Graph::from_text(&net.to_string())?, net);
    /// # Ok::<(), kessen_graph::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`crate::Error::Text`] with line and column: what was found, what was expected, the nearest name.
    pub fn from_text(text: &str) -> Result<Self> {
        Self::from_text_with(text, &[])
    }

    /// As [`Graph::from_text`], with operators written outside this crate under their names.
    ///
    /// # Errors
    /// As [`Graph::from_text`].
    pub fn from_text_with(text: &str, custom: &[Arc<dyn CustomOperator>]) -> Result<Self> {
        parser::parse(text, custom)
    }

    /// The text form; [`Graph::from_text`] gives the identical graph.
    pub fn to_text(&self) -> String {
        printer::print(self)
    }
}

/// The text form.
impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

pub(crate) use vocabulary::phrase;

/// Every layer and operator of the text form, with its attributes and their usual values, from their declarations.
///
/// ```
/// let reference = kessen_graph::text_reference();
/// assert!(reference.contains("linear PATH OUTPUTS"));
/// assert!(reference.contains("max_pool [kernel 2] [stride 2]"));
/// ```
pub fn text_reference() -> String {
    let mut text = String::from("Layers\n");
    layers::LAYERS.iter().for_each(|layer| text.push_str(&format!("  {}\n", layer.usage)));
    text.push_str("\nOperators\n");
    vocabulary::usages().iter().for_each(|usage| text.push_str(&format!("  {usage}\n")));
    text
}

/// What a fuzz target of the text form does: reads `bytes`, and where they are a graph, prints it and reads it again.
///
/// # Panics
/// Where the printed text does not give the same graph.
pub fn fuzz_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(graph) = Graph::from_text(text) {
        let printed = graph.to_text();
        match Graph::from_text(&printed) {
            Ok(again) => assert!(again == graph, "the printed text gives another graph:\n{printed}"),
            Err(error) => panic!("the printed text can't be read: {error}\n{printed}"),
        }
    }
}
