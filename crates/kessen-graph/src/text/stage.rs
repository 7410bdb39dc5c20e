//! One stage of a chain: a value, a layer, an operator, a block, an input or an end.

use std::rc::Rc;

use kessen_tensor::DType;

use crate::graph::Origin;
use crate::{Dim, Op, Result, Type, ValueId, nearest};

use super::arguments::{Arguments, Signature, Word};
use super::blocks::paths;
use super::layers::{self, Layer};
use super::lexer::{Place, Token};
use super::parser::Parser;
use super::vocabulary::{Meaning, attribute_keys, flag_keys, follows_kernel, leading_key};

impl<'t> Parser<'t, '_> {
    /// Reads one stage; the current value is its result then. `first`: it begins the chain. `label`: the name for
    /// its result, if it has none of its own.
    pub(super) fn stage(
        &mut self,
        tokens: &[Token<'t>],
        first: bool,
        label: Option<&Token<'t>>,
    ) -> Result<()> {
        let head = Word { text: self.expand(&tokens[0])?, place: tokens[0].place };
        let (word, operands) = match head.text.split_once('(') {
            Some((word, rest)) => (word, Some(rest.strip_suffix(')').unwrap_or(rest))),
            None => (head.text.as_str(), None),
        };
        let rest = &tokens[1..];
        match (word, operands) {
            ("", Some(name)) if first => return self.start(name.trim(), &head, rest),
            ("in", None) if self.depth > 0 => {
                self.frame.current = self.frame.input;
                return no_more(&head, rest);
            }
            ("input", None) => return self.input(&head, rest, label),
            ("output", None) => return self.output(&head, rest),
            ("update", None) => return self.update(&head, rest),
            ("no", None) => return self.no_output(&head, rest),
            _ => {}
        }
        let words = self.words(rest)?;
        if let (Some(layer), None) = (layers::find(word), operands) {
            return self
                .each_path(&head, &words, layer.usage, |p, path, words| p.layer(layer, &head, path, words));
        }
        if let (Some(block), None) = (self.blocks.get(word).map(Rc::clone), operands) {
            return self.each_path(&head, &words, &format!("{word} PATH …"), |p, path, words| {
                p.apply_block(&block, path, words)
            });
        }
        if let Some(meaning) = self.vocabulary.find(word) {
            return self.operator(word, meaning, operands, &head, &words, label);
        }
        if first && rest.is_empty() && operands.is_none() && self.find_value(word).is_some() {
            return self.start(word, &head, rest);
        }
        Err(self.unknown_word(word, head.place, first))
    }

    fn unknown_word(&self, word: &str, place: Place, first: bool) -> crate::Error {
        let mut known = self.vocabulary.stage_words();
        known.extend(self.blocks.keys());
        let value = if first { ", or a value's name" } else { "" };
        let hint = nearest(word, known).map(|n| format!("; did you mean `{n}`?")).unwrap_or_default();
        place.error(format!("found `{word}`, expected a layer, an operator or a block{value}{hint}"))
    }

    /// A chain begins with a value.
    fn start(&mut self, name: &str, head: &Word, rest: &[Token<'t>]) -> Result<()> {
        self.frame.current = Some(self.value(name, head.place)?);
        no_more(head, rest)
    }

    /// Carries out `f` for each path that the first word stands for.
    fn each_path(
        &mut self,
        head: &Word,
        words: &[Word],
        usage: &str,
        mut f: impl FnMut(&mut Self, &Word, &[Word]) -> Result<()>,
    ) -> Result<()> {
        let Some((path, words)) = words.split_first() else {
            return Err(head.place.error(format!("`{}` needs its path; write `{usage}`", head.text)));
        };
        paths(path)?.iter().try_for_each(|path| f(self, path, words))
    }

    fn layer(&mut self, layer: &Layer, head: &Word, path: &Word, words: &[Word]) -> Result<()> {
        let mut arguments = Arguments::read(&head.text, head.place, words, &layer.signature())?;
        for key in layer.values {
            let names = arguments.value_names(key);
            let wire = |w: &Word| Ok(self.builder.wire_of(self.value(&w.text, w.place)?));
            arguments.set_wires(key, names.iter().map(wire).collect::<Result<Vec<_>>>()?);
        }
        let x = self.current_wire(&head.text, head.place)?;
        let path = self.path(&path.text);
        let y = self.build(head.place, |_| (layer.build)(&x, &path, &arguments))??;
        self.frame.current = y.id();
        Ok(())
    }

    fn operator(
        &mut self,
        word: &str,
        meaning: Meaning,
        operands: Option<&str>,
        head: &Word,
        words: &[Word],
        label: Option<&Token<'t>>,
    ) -> Result<()> {
        let inputs = match operands {
            None => vec![self.current(word, head.place)?],
            Some(list) => self.operands(word, list, head.place)?,
        };
        let is_derived = matches!(meaning, Meaning::Derived(_));
        let (mut op, stem) = match meaning {
            Meaning::Op(op) => {
                let stem = op.operator().word();
                (op, stem)
            }
            Meaning::Derived(derived) => {
                let ty = inputs.first().map(|&v| self.ty(v));
                let op = ty.and_then(|ty| (derived.op)(&ty)).ok_or_else(|| {
                    head.place.error(format!("`{word}` needs an operand of one dimension or more"))
                })?;
                (op, derived.stem)
            }
        };
        let signature = if is_derived { Signature::default() } else { operator_signature(word, &op) };
        let arguments = Arguments::read(word, head.place, words, &signature)?;
        arguments.set(op.attributes_mut())?;
        if let (Some(stride), false) = (follows_kernel(op.operator(), "stride"), arguments.has("stride")) {
            op.attributes_mut().set_attribute("stride", &stride)?;
        }
        let label = label.map(|l| self.expand(l)).transpose()?;
        let named = label.map(|l| self.path(&l));
        let outputs = self.build(head.place, |b| {
            b.with(|g| {
                let path = named.unwrap_or_else(|| g.fresh_name(stem));
                g.add_node(&path, op, &inputs)
            })
        })?;
        self.frame.current = outputs.and_then(|o| o.first().copied());
        Ok(())
    }

    fn ty(&self, value: ValueId) -> Type {
        self.builder.wire_of(value).ty()
    }

    /// The operands in `list`: `_` is the current value, a number a constant.
    fn operands(&mut self, owner: &str, list: &str, place: Place) -> Result<Vec<ValueId>> {
        if list.trim().is_empty() {
            return Ok(Vec::new());
        }
        let mut at = place.right(owner.chars().count() + 1);
        let mut values = Vec::new();
        for item in list.split(',') {
            let blanks = item.chars().take_while(|c| c.is_whitespace()).count();
            let (name, here) = (item.trim(), at.right(blanks));
            let number = name.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c));
            values.push(if name == "_" {
                self.current(owner, here)?
            } else if number {
                let number: Option<f32> = name.parse().ok().filter(|n: &f32| n.is_finite());
                let number =
                    number.ok_or_else(|| here.error(format!("found `{name}`, expected a finite number")))?;
                let value = self.build(here, |b| b.scalar(number).id())?;
                value.ok_or_else(|| here.error("the constant has no value"))?
            } else {
                self.value(name, here)?
            });
            at = at.right(item.chars().count() + 1);
        }
        Ok(values)
    }

    /// `name: input [dtype] dimensions…`
    fn input(&mut self, head: &Word, rest: &[Token<'t>], label: Option<&Token<'t>>) -> Result<()> {
        let Some(label) = label else {
            return Err(head
                .place
                .error("an input begins its line and has its name in front: `x: input batch 4`"));
        };
        let words = self.words(rest)?;
        let dtype = words.first().and_then(|w| w.text.parse::<DType>().ok());
        let dims = if dtype.is_some() { &words[1..] } else { &words[..] };
        let dim = |w: &Word| w.text.parse::<Dim>().map_err(|e| w.place.error(e.to_string()));
        let shape = dims.iter().map(dim).collect::<Result<Vec<Dim>>>()?;
        let ty = Type { dtype: dtype.unwrap_or(DType::F32), shape };
        let name = self.path(&self.expand(label)?);
        self.frame.current = self.build(label.place, |b| b.input_of(&name, ty).id())?;
        Ok(())
    }

    /// `output NAME [VALUE]`
    fn output(&mut self, head: &Word, rest: &[Token<'t>]) -> Result<()> {
        let words = self.words(rest)?;
        let (name, value) = match words.as_slice() {
            [name] => (name, self.current("output", head.place)?),
            [name, value] => (name, self.value(&value.text, value.place)?),
            _ => return Err(head.place.error("write `output NAME` or `output NAME VALUE`")),
        };
        self.outputs_given = true;
        self.build(name.place, |b| b.with(|g| g.add_output(&name.text, value)))?;
        Ok(())
    }

    /// `update PARAM [VALUE]`
    fn update(&mut self, head: &Word, rest: &[Token<'t>]) -> Result<()> {
        let words = self.words(rest)?;
        let (param, value) = match words.as_slice() {
            [param] => (param, self.current("update", head.place)?),
            [param, value] => (param, self.value(&value.text, value.place)?),
            _ => return Err(head.place.error("write `update PARAM` or `update PARAM VALUE`")),
        };
        let target = self.value(&param.text, param.place)?;
        let updated = self.build(param.place, |b| {
            b.with(|g| match g.value(target).origin {
                Origin::Param(id) => g.add_update(id, value).map(|()| true),
                _ => Ok(false),
            })
        })?;
        match updated {
            Some(true) => Ok(()),
            _ => Err(param.place.error(format!("`{}` is no parameter", param.text))),
        }
    }

    /// `no output`
    fn no_output(&mut self, head: &Word, rest: &[Token<'t>]) -> Result<()> {
        match rest {
            [what] if what.is("output") => {
                self.outputs_given = true;
                Ok(())
            }
            _ => Err(head.place.error("expected `no output`")),
        }
    }
}

/// What may stand behind an operator: its attributes, the leading one without its name.
fn operator_signature(word: &str, op: &Op) -> Signature<'static> {
    if matches!(op, Op::Custom(_)) {
        return Signature::default();
    }
    let (leading, flags) = (leading_key(op.operator()), flag_keys(op.operator()));
    let keys = attribute_keys(op.operator());
    let keys = keys.into_iter().filter(|k| Some(*k) != leading && !flags.contains(k)).collect();
    Signature { positional: leading.into_iter().collect(), keys, flags, usage: word.to_owned() }
}

fn no_more(head: &Word, rest: &[Token<'_>]) -> Result<()> {
    match rest.first() {
        None => Ok(()),
        Some(t) => Err(t
            .place
            .error(format!("found `{}` behind `{}`, expected `|` or a new line", t.text, head.text))),
    }
}
