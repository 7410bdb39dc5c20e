//! Statements that declare: the graph's name, parameters and constants.

use kessen_tensor::{DType, Tensor};

use crate::graph::ParamKind;
use crate::{DEFAULT_WEIGHT, Init, Result};

use super::arguments::Word;
use super::lexer::Token;
use super::parser::Parser;
use super::vocabulary::number;

impl<'t> Parser<'t, '_> {
    /// `graph NAME`, the name in quotation marks where it is more than one word.
    pub(super) fn header(&mut self, tokens: &[Token<'t>]) -> Result<()> {
        let [_, name] = tokens else {
            return Err(tokens[0].place.error("write `graph NAME`, or `graph \"a name with blanks\"`"));
        };
        let text = match name.text.strip_prefix('"') {
            Some(quoted) => unquote(quoted.strip_suffix('"').unwrap_or(quoted)).ok_or_else(|| {
                name.place.error("expected \\n, \\t, \\r, \\\", \\\\ or \\u{…} behind `\\`")
            })?,
            None => name.text.to_owned(),
        };
        self.build(name.place, |b| {
            b.with(|g| {
                g.set_name(&text);
                Ok(())
            })
        })?;
        Ok(())
    }

    /// `param PATH dimensions… [init INIT]`; also `buffer` and `state`.
    pub(super) fn parameter(&mut self, tokens: &[Token<'t>]) -> Result<()> {
        let (kind, usual) = match tokens[0].text {
            "buffer" => (ParamKind::Buffer, Init::Constant(0.0)),
            "state" => (ParamKind::State, Init::Constant(0.0)),
            _ => (ParamKind::Weight, DEFAULT_WEIGHT),
        };
        let words = self.words(&tokens[1..])?;
        let usage = format!("write `{} PATH dimensions… [init INIT]`", tokens[0].text);
        let Some((path, rest)) = words.split_first() else { return Err(tokens[0].place.error(usage)) };
        let dims = rest.iter().position(|w| w.text == "init").unwrap_or(rest.len());
        let (dims, init) = rest.split_at(dims);
        let dim = |w: &Word| {
            let error = || w.place.error(format!("found `{}`, expected a number; {usage}", w.text));
            number(&w.text).ok_or_else(error)
        };
        let shape = dims.iter().map(dim).collect::<Result<Vec<usize>>>()?;
        let init = match init {
            [] => usual,
            [_, init] => init.text.parse::<Init>().map_err(|e| init.place.error(e.to_string()))?,
            [word, ..] => return Err(word.place.error(usage)),
        };
        let name = self.path(&path.text);
        self.build(path.place, |b| b.with(|g| g.add_param(&name, &shape, init, kind)))?;
        Ok(())
    }

    /// `const NAME [dtype] dimensions… = values…`
    pub(super) fn constant(&mut self, tokens: &[Token<'t>]) -> Result<()> {
        let usage = "write `const NAME [dtype] dimensions… = values…`";
        let at = tokens.iter().position(|t| t.is("="));
        let at = at.filter(|&at| at >= 2).ok_or_else(|| tokens[0].place.error(usage))?;
        let words = self.words(&tokens[1..at])?;
        let (path, rest) = words.split_first().ok_or_else(|| tokens[0].place.error(usage))?;
        let dtype = rest.first().and_then(|w| w.text.parse::<DType>().ok());
        let dims = if dtype.is_some() { &rest[1..] } else { rest };
        let dtype = dtype.unwrap_or(DType::F32);
        let dim = |w: &Word| {
            let error = || w.place.error(format!("found `{}`, expected a number; {usage}", w.text));
            number(&w.text).ok_or_else(error)
        };
        let shape = dims.iter().map(dim).collect::<Result<Vec<usize>>>()?;
        let values = self.words(&tokens[at + 1..])?;
        let mut bytes = Vec::with_capacity(values.len() * dtype.size());
        for value in &values {
            let element = element_bytes(dtype, &value.text).ok_or_else(|| {
                value.place.error(format!("found `{}`, expected a value of type {dtype}", value.text))
            })?;
            bytes.extend(element);
        }
        // Before anything of that size is made.
        let count = kessen_tensor::element_count(&shape).map_err(|e| path.place.error(e.to_string()))?;
        if count != values.len() {
            let found = values.len();
            return Err(path
                .place
                .error(format!("`{}` has {count} elements, found {found} values", path.text)));
        }
        let tensor =
            Tensor::from_bytes(dtype, &shape, &bytes).map_err(|e| path.place.error(e.to_string()))?;
        let name = self.path(&path.text);
        self.build(path.place, |b| b.with(|g| g.add_constant(&name, tensor)))?;
        Ok(())
    }
}

/// Little-endian bytes of a value written as a number, or as its bits (`0x7fc0`).
fn element_bytes(dtype: DType, text: &str) -> Option<Vec<u8>> {
    if let Some(hex) = text.strip_prefix("0x") {
        let bits = u64::from_str_radix(hex, 16).ok()?;
        let fits = dtype.size() == 8 || bits >> (8 * dtype.size()) == 0;
        let fits = fits && (dtype != DType::Bool || bits <= 1);
        return fits.then(|| bits.to_le_bytes()[..dtype.size()].to_vec());
    }
    Some(match dtype {
        DType::F32 => text.parse::<f32>().ok()?.to_le_bytes().to_vec(),
        DType::F64 => text.parse::<f64>().ok()?.to_le_bytes().to_vec(),
        DType::I64 => text.parse::<i64>().ok()?.to_le_bytes().to_vec(),
        DType::I32 => text.parse::<i32>().ok()?.to_le_bytes().to_vec(),
        DType::U8 => vec![text.parse::<u8>().ok()?],
        DType::Bool => vec![u8::from(text.parse::<u8>().ok().filter(|b| *b <= 1)? == 1)],
        DType::F16 | DType::Bf16 => return None,
    })
}

/// The elements of a constant as text that [`element_bytes`] reads.
pub(super) fn element_texts(tensor: &Tensor) -> Vec<String> {
    let dtype = tensor.dtype();
    let bits = |bytes: &[u8]| {
        let mut wide = [0; 8];
        wide[..bytes.len()].copy_from_slice(bytes);
        format!("{:#x}", u64::from_le_bytes(wide))
    };
    let text = |bytes: &[u8]| {
        let number = match (dtype, bytes) {
            (DType::F32, &[a, b, c, d]) => float_text(f32::from_le_bytes([a, b, c, d]), f32::is_finite),
            (DType::F64, &[a, b, c, d, e, f, g, h]) => {
                float_text(f64::from_le_bytes([a, b, c, d, e, f, g, h]), f64::is_finite)
            }
            (DType::I64, &[a, b, c, d, e, f, g, h]) => {
                i64::from_le_bytes([a, b, c, d, e, f, g, h]).to_string()
            }
            (DType::I32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]).to_string(),
            (DType::U8, &[v]) => v.to_string(),
            _ => String::new(),
        };
        if number.is_empty() { bits(bytes) } else { number }
    };
    tensor.bytes().chunks_exact(dtype.size()).map(text).collect()
}

/// The shortest text that reads back as the same number; empty where there is none.
pub(super) fn float_text<T: Copy + std::fmt::Debug>(value: T, is_finite: fn(T) -> bool) -> String {
    if !is_finite(value) {
        return String::new();
    }
    let text = format!("{value:?}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Undoes `{:?}` of a string; `None` where it was something else.
fn unquote(text: &str) -> Option<String> {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            plain.push(c);
            continue;
        }
        plain.push(match chars.next()? {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            'u' => {
                let rest = chars.as_str();
                let (digits, after) = rest.strip_prefix('{')?.split_once('}')?;
                chars = after.chars();
                char::from_u32(u32::from_str_radix(digits, 16).ok()?)?
            }
            c @ ('\\' | '"' | '\'') => c,
            _ => return None,
        });
    }
    Some(plain)
}
