//! The words of the text form and what they stand for, derived from the operators' own declarations.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use crate::op::{Custom, CustomOperator, Operator};
use crate::{Dim, Op, Type};

use super::layers::LAYERS;
use crate::ops::adaptive_pool::AdaptivePool;
use crate::ops::reshape::{Reshape, element_count};

/// Words that begin a statement or a stage and are no operators.
pub(super) const KEYWORDS: [&str; 12] =
    ["block", "buffer", "const", "end", "graph", "in", "input", "no", "output", "param", "state", "update"];

/// Attributes whose value may stand directly behind the operator's word (`max_pool 2`, `sum [1]`), where they are
/// the operator's first.
const LEADING: [&str; 8] = ["alpha", "dim", "dims", "kernel", "p", "shape", "size", "to"];

/// Short forms of attribute names: what is printed, and the name.
const SHORT: [(&str, &str); 1] = [("pad", "padding")];

/// The word without what may be left out when it is written by hand.
pub(super) fn plain(word: &str) -> String {
    word.replace('_', "").to_lowercase()
}

/// The attribute's name as it is printed.
pub(super) fn short_key(key: &str) -> &str {
    SHORT.iter().find(|(_, long)| *long == key).map_or(key, |(short, _)| short)
}

/// The attribute among `keys` that `word` names, short or long.
pub(super) fn find_key<'k>(word: &str, keys: &[&'k str]) -> Option<&'k str> {
    let long = SHORT.iter().find(|(short, _)| *short == word).map_or(word, |(_, long)| long);
    keys.iter()
        .copied()
        .find(|k| *k == long)
        .or_else(|| keys.iter().copied().find(|k| plain(k) == plain(long)))
}

/// Every built-in operator's words, each with the operator in its usual attributes.
fn operators() -> &'static BTreeMap<&'static str, Op> {
    static WORDS: OnceLock<BTreeMap<&'static str, Op>> = OnceLock::new();
    WORDS.get_or_init(|| {
        let mut words = BTreeMap::new();
        for op in Op::all() {
            let kinds = op.operator().kinds();
            for op in if kinds.is_empty() { vec![op] } else { kinds } {
                words.insert(op.operator().word(), op);
            }
        }
        words
    })
}

/// A word for an operator whose attributes follow from its operand's type.
pub(super) struct Derived {
    /// The word.
    pub word: &'static str,
    /// What a node gets its automatic name from.
    pub stem: &'static str,
    /// The operator for an operand of that type; `None` where it can't be.
    pub op: fn(&Type) -> Option<Op>,
}

/// The words whose attributes follow from the operand.
pub(super) const DERIVED: [Derived; 2] = [
    Derived { word: "flatten", stem: "flatten", op: flatten },
    Derived {
        word: "global_avg_pool",
        stem: "adaptive_avg_pool",
        op: |_| Some(AdaptivePool::default().into()),
    },
];

fn flatten(x: &Type) -> Option<Op> {
    let (first, rest) = x.shape.split_first()?;
    Some(Reshape { shape: vec![first.clone(), element_count(rest)] }.into())
}

/// The words of one text: the built-in ones and the operators registered by the caller.
pub(super) struct Vocabulary<'r> {
    custom: &'r [Arc<dyn CustomOperator>],
}

/// What a word of an operator stands for.
pub(super) enum Meaning {
    /// An operator with its usual attributes.
    Op(Op),
    /// An operator whose attributes follow from the operand.
    Derived(&'static Derived),
}

impl<'r> Vocabulary<'r> {
    pub(super) fn new(custom: &'r [Arc<dyn CustomOperator>]) -> Self {
        Self { custom }
    }

    /// What the word means as an operator. Underscores and capitals may differ.
    pub(super) fn find(&self, word: &str) -> Option<Meaning> {
        if let Some(op) = self.custom_op(word) {
            return Some(Meaning::Op(Op::Custom(op)));
        }
        if let Some(d) = DERIVED.iter().find(|d| plain(d.word) == plain(word)) {
            return Some(Meaning::Derived(d));
        }
        let words = operators();
        let by_plain = || words.iter().find(|(w, _)| plain(w) == plain(word)).map(|(_, op)| op);
        words.get(word).or_else(by_plain).cloned().map(Meaning::Op)
    }

    fn custom_op(&self, word: &str) -> Option<Custom> {
        let named = |name: &str| self.custom.iter().find(|c| c.name() == name).cloned();
        if let Some(operator) = named(word) {
            return Some(Custom { operator, backward: false });
        }
        named(word.strip_suffix("_grad")?).map(|operator| Custom { operator, backward: true })
    }

    /// Every word that may begin a stage.
    pub(super) fn stage_words(&self) -> Vec<&str> {
        let built_in = operators().keys().copied().chain(DERIVED.iter().map(|d| d.word));
        let layers = LAYERS.iter().flat_map(|l| l.words.iter().copied());
        built_in.chain(layers).chain(KEYWORDS).chain(self.custom.iter().map(|c| c.name())).collect()
    }
}

/// The word an operator is printed with, and the same operator with the word's usual attributes.
pub(super) fn word_of(op: &Op) -> (String, Op) {
    if let Op::Custom(custom) = op {
        let suffix = if custom.backward { "_grad" } else { "" };
        return (format!("{}{suffix}", custom.operator.name()), op.clone());
    }
    let word = op.operator().word();
    (word.to_owned(), operators().get(word).unwrap_or(op).clone())
}

/// Whether a value of that name can't begin a chain without parentheses.
pub(super) fn is_reserved(name: &str, vocabulary: &Vocabulary<'_>) -> bool {
    KEYWORDS.contains(&name) || vocabulary.find(name).is_some() || super::layers::find(name).is_some()
}

/// The names of the attributes that stand behind the operator's word; an operator's kind is the word itself.
pub(super) fn attribute_keys(op: &dyn Operator) -> Vec<&'static str> {
    let in_word = !op.kinds().is_empty();
    op.attributes().into_iter().map(|a| a.key).filter(|k| !(in_word && *k == "kind")).collect()
}

/// The attribute that may be written without its name.
pub(super) fn leading_key(op: &dyn Operator) -> Option<&'static str> {
    attribute_keys(op).first().copied().filter(|first| LEADING.contains(first))
}

/// The attributes that are flags: `false` unless their name stands behind the word.
pub(super) fn flag_keys(usual: &dyn Operator) -> Vec<&'static str> {
    usual.attributes().into_iter().filter(|a| a.value == "false").map(|a| a.key).collect()
}

/// The attributes in which `op` differs from `usual`, as they are printed, each with a blank in front. `leading`:
/// the attribute without its name.
pub(super) fn attribute_text(op: &dyn Operator, usual: &dyn Operator, leading: Option<&str>) -> String {
    let (keys, flags) = (attribute_keys(op), flag_keys(usual));
    let mut text = String::new();
    for (a, u) in op.attributes().into_iter().zip(usual.attributes()) {
        let follows = follows_kernel(op, a.key);
        let usual = follows.as_ref().unwrap_or(&u.value);
        // A pooling always says its kernel.
        let said = leading == Some(a.key) && a.key == "kernel";
        if (a.value == *usual && !said) || !keys.contains(&a.key) {
            continue;
        }
        let key = short_key(a.key);
        text.push_str(&match a.value.as_str() {
            value if leading == Some(a.key) => format!(" {value}"),
            "true" if flags.contains(&a.key) => format!(" {key}"),
            value => format!(" {key} {value}"),
        });
    }
    text
}

/// The operator with its attributes as a stage has them; `operand` is the type of its first operand, `kernel` the
/// size of its weight's window.
pub(crate) fn phrase(op: &Op, operand: Option<&Type>, kernel: Option<[usize; 2]>) -> String {
    if let Some(d) = DERIVED.iter().find(|d| operand.and_then(|t| (d.op)(t)).as_ref() == Some(op)) {
        return d.word.to_owned();
    }
    let (word, usual) = word_of(op);
    let (op, usual) = (op.operator(), usual.operator());
    let kernel = kernel.map(|[h, w]| format!(" {h}x{w}")).unwrap_or_default();
    format!("{word}{kernel}{}", attribute_text(op, usual, leading_key(op)))
}

/// How each operator is written, with the usual value of each attribute.
pub(super) fn usages() -> Vec<String> {
    let usage = |(word, op): (&&str, &Op)| {
        let (keys, flags) = (attribute_keys(op.operator()), flag_keys(op.operator()));
        let attributes = op.operator().attributes().into_iter().filter(|a| keys.contains(&a.key)).map(|a| {
            let key = short_key(a.key);
            if flags.contains(&a.key) { format!(" [{key}]") } else { format!(" [{key} {}]", a.value) }
        });
        format!("{word}{}", attributes.collect::<String>())
    };
    let derived = DERIVED.iter().map(|d| d.word.to_owned());
    let mut usages: Vec<String> = operators().iter().map(usage).chain(derived).collect();
    usages.sort();
    usages
}

/// A pooling's stride is its kernel's size unless it is given.
pub(super) fn follows_kernel(op: &dyn Operator, key: &str) -> Option<String> {
    if key != "stride" || leading_key(op) != Some("kernel") {
        return None;
    }
    op.attributes().into_iter().find(|a| a.key == "kernel").map(|a| a.value)
}

/// The number that a word stands for, sums and products included.
pub(super) fn number(text: &str) -> Option<usize> {
    text.parse::<Dim>().ok()?.as_fixed().filter(|&n| u32::try_from(n).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_word_means_two_things() {
        let mut seen = BTreeSet::new();
        let kinds = |op: Op| {
            let kinds = op.operator().kinds();
            if kinds.is_empty() { vec![op] } else { kinds }
        };
        for op in Op::all().into_iter().flat_map(kinds) {
            let word = op.operator().word();
            assert!(seen.insert(plain(word)), "`{word}` is the word of two operators");
            assert!(!KEYWORDS.contains(&word) && !DERIVED.iter().any(|d| d.word == word), "`{word}`");
            assert_eq!(word_of(&op), (word.to_owned(), op));
        }
    }

    #[test]
    fn hand_written_forms_are_found() {
        assert_eq!(find_key("pad", &["stride", "padding"]), Some("padding"));
        assert!(matches!(Vocabulary::new(&[]).find("leakyrelu"), Some(Meaning::Op(Op::Unary(_)))));
    }
}
