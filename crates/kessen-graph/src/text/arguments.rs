//! Words behind an operator, a layer or a block: positional values, `key value` pairs and flags.

use std::str::FromStr;

use crate::attribute::{Attribute, Attributes};
use crate::{Init, Result, Wire, nearest};

use super::lexer::Place;
use super::vocabulary::{find_key, number, plain, short_key};

/// A word after expansion of block arguments.
#[derive(Debug, Clone)]
pub(super) struct Word {
    pub text: String,
    pub place: Place,
}

/// What may stand behind a word.
#[derive(Debug, Clone, Default)]
pub(super) struct Signature<'k> {
    /// Names of the values that are written without their names, in order.
    pub positional: Vec<&'k str>,
    /// Names of values written behind their names (positional ones may be, too).
    pub keys: Vec<&'k str>,
    /// Words that stand alone.
    pub flags: Vec<&'k str>,
    /// How the whole is written, for messages.
    pub usage: String,
}

/// What stood there.
#[derive(Debug)]
pub(super) struct Arguments<'k> {
    owner: String,
    usage: String,
    place: Place,
    given: Vec<(&'k str, Word)>,
    wires: Vec<(&'k str, Vec<Wire>)>,
}

impl<'k> Arguments<'k> {
    /// Sorts `words` by `signature`; `owner` and `place` are for messages.
    ///
    /// # Errors
    /// A word that is no name, a name without its value, a name twice.
    pub(super) fn read(owner: &str, place: Place, words: &[Word], signature: &Signature<'k>) -> Result<Self> {
        let mut arguments = Self {
            owner: owner.to_owned(),
            usage: signature.usage.clone(),
            place,
            given: Vec::new(),
            wires: Vec::new(),
        };
        let mut positional = signature.positional.iter().copied();
        let keys: Vec<&'k str> = signature.positional.iter().chain(&signature.keys).copied().collect();
        let mut words = words.iter().peekable();
        while let Some(word) = words.next() {
            let flag = signature.flags.iter().copied().find(|f| plain(f) == plain(&word.text));
            let (key, value) = match (flag, find_key(&word.text, &keys)) {
                (Some(flag), _) => {
                    words.next_if(|w| w.text == "=");
                    let said = words.next_if(|w| w.text == "true" || w.text == "false");
                    (flag, said.cloned().unwrap_or(Word { text: "true".to_owned(), place: word.place }))
                }
                (None, Some(key)) => {
                    words.next_if(|w| w.text == "=");
                    let value = words
                        .next()
                        .ok_or_else(|| word.place.error(format!("`{}` needs a value", word.text)))?;
                    (key, value.clone())
                }
                (None, None) => match positional.find(|p| !arguments.has(p)) {
                    Some(key) => (key, word.clone()),
                    None => return Err(arguments.unknown(word, signature)),
                },
            };
            if arguments.has(key) {
                return Err(word.place.error(format!("`{key}` of `{owner}` is given twice")));
            }
            arguments.given.push((key, value));
        }
        Ok(arguments)
    }

    fn unknown(&self, word: &Word, signature: &Signature<'_>) -> crate::Error {
        let known = signature.positional.iter().chain(&signature.keys).chain(&signature.flags).copied();
        let known: Vec<&str> = known.map(short_key).collect();
        let expected = match known.as_slice() {
            [] => "the next stage behind `|`, or a new line".to_owned(),
            known => format!("one of: {}", known.join(", ")),
        };
        let hint = nearest(&word.text, known.iter().copied()).map(|n| format!("; did you mean `{n}`?"));
        let (found, owner) = (&word.text, &self.owner);
        word.place.error(format!(
            "found `{found}` behind `{owner}`, expected {expected}{}",
            hint.unwrap_or_default()
        ))
    }

    /// Everything that was given.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'k str, &Word)> {
        self.given.iter().map(|(k, w)| (*k, w))
    }

    /// Whether the flag `key` was given.
    pub(super) fn flag(&self, key: &str) -> bool {
        self.word(key).is_some_and(|w| w.text == "true")
    }

    fn word(&self, key: &str) -> Option<&Word> {
        self.given.iter().find(|(k, _)| *k == key).map(|(_, w)| w)
    }

    /// The value of `key`, where it was given.
    ///
    /// # Errors
    /// Another text than the type's.
    pub(super) fn get<T: Attribute>(&self, key: &str) -> Result<Option<T>> {
        let Some(word) = self.word(key) else { return Ok(None) };
        T::parse(&word.text).map(Some).ok_or_else(|| self.wrong(key, T::EXPECTED))
    }

    /// The error for what stands behind `key`.
    pub(super) fn wrong(&self, key: &str, expected: &str) -> crate::Error {
        let (place, found) = self.word(key).map_or((self.place, ""), |w| (w.place, &w.text));
        place.error(format!("`{key}` of `{}`: found `{found}`, expected {expected}", self.owner))
    }

    /// The value of `key`, which has to be given.
    ///
    /// # Errors
    /// None or another text than the type's.
    pub(super) fn require<T: Attribute>(&self, key: &str) -> Result<T> {
        self.get(key)?.ok_or_else(|| self.missing(key))
    }

    /// The error where `key` has to be given.
    pub(super) fn missing(&self, key: &str) -> crate::Error {
        self.place.error(format!("`{key}` of `{}` is missing; write `{}`", self.owner, self.usage))
    }

    /// As [`Arguments::require`], for a size of which the text may be a product or sum.
    ///
    /// # Errors
    /// None, or no number.
    pub(super) fn size(&self, key: &str) -> Result<usize> {
        let word = self.word(key).ok_or_else(|| self.missing(key))?;
        number(&word.text).ok_or_else(|| {
            let (found, usage) = (&word.text, &self.usage);
            word.place.error(format!("`{key}`: found `{found}`, expected a number; write `{usage}`"))
        })
    }

    /// The initialiser that `key` names, where it was given.
    ///
    /// # Errors
    /// No initialiser.
    pub(super) fn init(&self, key: &str) -> Result<Option<Init>> {
        let Some(word) = self.word(key) else { return Ok(None) };
        Init::from_str(&word.text).map(Some).map_err(|e| word.place.error(e.to_string()))
    }

    /// Sets the attributes of `op` that were given.
    ///
    /// # Errors
    /// A text that is not the attribute's.
    pub(super) fn set(&self, op: &mut dyn Attributes) -> Result<()> {
        let known: Vec<&'static str> = op.attributes().into_iter().map(|a| a.key).collect();
        for (key, word) in self.given.iter().filter(|(key, _)| known.contains(key)) {
            op.set_attribute(key, &word.text).map_err(|e| word.place.error(e.to_string()))?;
        }
        Ok(())
    }

    /// The names of values that stand behind `key`: one, or several in brackets.
    pub(super) fn value_names(&self, key: &str) -> Vec<Word> {
        let Some(word) = self.word(key) else { return Vec::new() };
        let inner = word.text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&word.text);
        let names = inner.split(',').map(str::trim).filter(|n| !n.is_empty());
        names.map(|n| Word { text: n.to_owned(), place: word.place }).collect()
    }

    /// Says which values the names behind `key` are.
    pub(super) fn set_wires(&mut self, key: &'k str, wires: Vec<Wire>) {
        self.wires.push((key, wires));
    }

    /// The values behind `key`.
    pub(super) fn wires(&self, key: &str) -> &[Wire] {
        self.wires.iter().find(|(k, _)| *k == key).map_or(&[], |(_, w)| w)
    }

    /// Whether `key` was given.
    pub(super) fn has(&self, key: &str) -> bool {
        self.given.iter().any(|(k, _)| *k == key)
    }
}
