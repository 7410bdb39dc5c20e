//! NumPy's `.npy` format, versions 1 to 3.
//!
//! Specification: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use std::fs;
use std::path::Path;

use kessen_tensor::{DType, Tensor, element_count, row_major_strides};

use crate::{Error, Result, write_atomic};

const MAGIC: &[u8; 6] = b"\x93NUMPY";
const HEADER: &str = "npy header";
/// NumPy's limit on dimensions.
const MAX_RANK: usize = 64;

/// Reads an array; one in Fortran order or big-endian is converted.
///
/// # Errors
/// [`Error::Io`] where the file can't be read, [`Error::File`] where it is not what the format asks for.
pub fn read(path: &Path) -> Result<Tensor> {
    let bytes =
        fs::read(path).map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
    decode(&bytes).map_err(|e| e.of(path))
}

/// Writes an array in C order, atomically.
///
/// # Errors
/// [`Error::Format`] for `bf16`, which NumPy does not have; [`Error::Io`].
pub fn write(path: &Path, tensor: &Tensor) -> Result<()> {
    let bytes = encode(tensor)?;
    write_atomic(path, |w| w.write_all(&bytes))
}

/// The bytes of a file.
///
/// ```
/// use kessen_formats::npy;
/// use kessen_tensor::Tensor;
///
/// let t = Tensor::from_vec(&[2, 2], vec![1i64, 2, 3, 4])?;
/// assert_eq!(npy::decode(&npy::encode(&t)?)?.as_slice::<i64>()?, [1, 2, 3, 4]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::Format`] for `bf16`, which NumPy does not have.
pub fn encode(tensor: &Tensor) -> Result<Vec<u8>> {
    let descr = match tensor.dtype() {
        DType::F32 => "<f4",
        DType::F64 => "<f8",
        DType::F16 => "<f2",
        DType::I64 => "<i8",
        DType::I32 => "<i4",
        DType::U8 => "|u1",
        DType::Bool => "|b1",
        DType::Bf16 => return Err(Error::format("array to write", "bf16", "a type that NumPy has, as f32")),
    };
    let dims: String = tensor.shape().iter().map(|d| format!("{d}, ")).collect();
    let shape = if tensor.shape().len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    // Magic, version, length and header together fill a multiple of 64 bytes, the last of them a line feed.
    let fill = (10 + header.len() + 1).next_multiple_of(64) - (10 + header.len() + 1);
    header.push_str(&" ".repeat(fill));
    header.push('\n');
    let mut bytes = Vec::with_capacity(10 + header.len() + tensor.bytes().len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&[1, 0]);
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    bytes.extend_from_slice(tensor.bytes());
    Ok(bytes)
}

/// Reads the bytes of a file.
///
/// # Errors
/// [`Error::Format`] with what was found and expected; memory is taken only for what the bytes can hold.
pub fn decode(bytes: &[u8]) -> Result<Tensor> {
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(|| {
        Error::format("npy magic", "other bytes", "\\x93NUMPY; save the array with numpy.save")
    })?;
    let truncated = || Error::format(HEADER, "the end of the file", "a whole header; the file is truncated");
    let (length, rest) = match rest {
        [1, _, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => (u32::from_le_bytes([*a, *b, *c, *d]) as usize, rest),
        [major @ (0 | 4..), ..] => {
            return Err(Error::format("npy version", major.to_string(), "1, 2 or 3"));
        }
        _ => return Err(truncated()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(truncated)?;
    let header = parse_header(header)?;
    let expected = element_count(&header.shape)? * header.dtype.size();
    if data.len() != expected {
        return Err(Error::format(
            "npy data",
            format!("{} bytes", data.len()),
            format!("{expected} for {} {:?}; the file is damaged", header.dtype, header.shape),
        ));
    }
    let mut tensor = Tensor::from_bytes(header.dtype, &header.shape, data)?;
    if header.big_endian {
        tensor.bytes_mut().chunks_exact_mut(header.dtype.size()).for_each(<[u8]>::reverse);
    }
    if header.fortran_order { to_c_order(&tensor) } else { Ok(tensor) }
}

struct Header {
    dtype: DType,
    big_endian: bool,
    fortran_order: bool,
    shape: Vec<usize>,
}

fn parse_header(bytes: &[u8]) -> Result<Header> {
    let text = std::str::from_utf8(bytes).map_err(|e| Error::format(HEADER, e.to_string(), "a text"))?;
    let mut parser = Literal { text, rest: text };
    let (mut descr, mut fortran_order, mut shape) = (None, None, None);
    parser.expect("{")?;
    while !parser.eat("}") {
        let key = parser.string()?;
        parser.expect(":")?;
        match key {
            "descr" => descr = Some(parser.string()?),
            "fortran_order" if parser.eat("True") => fortran_order = Some(true),
            "fortran_order" => {
                parser.expect("False")?;
                fortran_order = Some(false);
            }
            "shape" => shape = Some(parser.shape()?),
            _ => return Err(parser.error("descr, fortran_order or shape")),
        }
        if !parser.eat(",") {
            parser.expect("}")?;
            break;
        }
    }
    let missing = |what| Error::format(HEADER, format!("no {what}"), "descr, fortran_order and shape");
    let (dtype, big_endian) = parse_descr(descr.ok_or_else(|| missing("descr"))?)?;
    Ok(Header {
        dtype,
        big_endian,
        fortran_order: fortran_order.ok_or_else(|| missing("fortran_order"))?,
        shape: shape.ok_or_else(|| missing("shape"))?,
    })
}

fn parse_descr(descr: &str) -> Result<(DType, bool)> {
    let big_endian = descr.starts_with('>');
    let dtype = match descr.trim_start_matches(['<', '>', '|', '=']) {
        "f4" => DType::F32,
        "f8" => DType::F64,
        "f2" => DType::F16,
        "i8" => DType::I64,
        "i4" => DType::I32,
        "u1" => DType::U8,
        "b1" | "?" => DType::Bool,
        _ => {
            let expected = "f2, f4, f8, i4, i8, u1 or b1; convert with numpy's astype";
            return Err(Error::format("npy element type", format!("`{descr}`"), expected));
        }
    };
    Ok((dtype, big_endian))
}

/// Reads Python's literals, as far as the header uses them.
struct Literal<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Literal<'a> {
    fn error(&self, expected: &str) -> Error {
        let found: String = self.rest.chars().take(16).collect();
        let at = self.text.len() - self.rest.len() + 1;
        Error::format(HEADER, format!("`{found}` at byte {at}"), expected)
    }

    fn eat(&mut self, token: &str) -> bool {
        self.rest = self.rest.trim_start();
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, token: &str) -> Result<()> {
        if self.eat(token) { Ok(()) } else { Err(self.error(&format!("`{token}`"))) }
    }

    fn string(&mut self) -> Result<&'a str> {
        for quote in ["'", "\""] {
            if self.eat(quote) {
                let (inside, rest) =
                    self.rest.split_once(quote).ok_or_else(|| self.error("a closing quote"))?;
                self.rest = rest;
                return Ok(inside);
            }
        }
        Err(self.error("a text in quotes"))
    }

    fn shape(&mut self) -> Result<Vec<usize>> {
        let mut shape = Vec::new();
        self.expect("(")?;
        while !self.eat(")") {
            self.rest = self.rest.trim_start();
            let digits = self.rest.len() - self.rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, rest) = self.rest.split_at(digits);
            shape.push(number.parse().map_err(|_| self.error("a dimension"))?);
            self.rest = rest;
            if shape.len() > MAX_RANK {
                return Err(self.error("at most 64 dimensions"));
            }
            if !self.eat(",") {
                self.expect(")")?;
                break;
            }
        }
        Ok(shape)
    }
}

/// The same array with the last dimension running fastest.
fn to_c_order(tensor: &Tensor) -> Result<Tensor> {
    let (shape, size) = (tensor.shape(), tensor.dtype().size());
    let mut out = Tensor::zeros(tensor.dtype(), shape)?;
    let strides = row_major_strides(shape);
    for (f, element) in tensor.bytes().chunks_exact(size).enumerate() {
        let (mut left, mut at) = (f, 0);
        for (d, stride) in shape.iter().zip(&strides) {
            at += left % d * stride;
            left /= d;
        }
        out.bytes_mut()[at * size..][..size].copy_from_slice(element);
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes
    }

    #[test]
    fn headers_match_numpys_own() {
        let cases = [
            (vec![], "{'descr': '<f4', 'fortran_order': False, 'shape': (), }"),
            (vec![3], "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }"),
            (vec![2, 3], "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }"),
        ];
        for (shape, header) in cases {
            let bytes = encode(&Tensor::zeros(DType::F32, &shape).unwrap()).unwrap();
            assert_eq!(bytes[10..][..header.len()], *header.as_bytes());
            assert_eq!((bytes.len() - 4 * shape.iter().product::<usize>()) % 64, 0);
        }
    }

    #[test]
    fn every_type_round_trips() {
        for dtype in DType::ALL.into_iter().filter(|d| *d != DType::Bf16) {
            let mut t = Tensor::zeros(dtype, &[2, 3]).unwrap();
            t.bytes_mut()[0] = 1;
            let back = decode(&encode(&t).unwrap()).unwrap();
            assert_eq!((back.dtype(), back.shape(), back.bytes()), (dtype, &[2, 3][..], t.bytes()));
        }
        assert!(encode(&Tensor::zeros(DType::Bf16, &[1]).unwrap()).is_err());
    }

    #[test]
    fn fortran_order_and_big_endian_are_converted() {
        // numpy.array([[1, 2, 3], [4, 5, 6]], dtype="|u1", order="F")
        let bytes = raw("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3)}", &[1, 4, 2, 5, 3, 6]);
        assert_eq!(decode(&bytes).unwrap().as_slice::<u8>().unwrap(), [1, 2, 3, 4, 5, 6]);
        let bytes = raw("{\"shape\":(1,),\"descr\":\">i4\",\"fortran_order\":False}", &258i32.to_be_bytes());
        assert_eq!(decode(&bytes).unwrap().as_slice::<i32>().unwrap(), [258]);
    }

    #[test]
    fn damaged_files_are_refused_with_the_reason() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}";
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("empty", vec![], "magic"),
            ("version", b"\x93NUMPY\x09\x00\x00\x00".to_vec(), "version"),
            ("truncated header", raw(header, &[0; 8])[..20].to_vec(), "truncated"),
            ("truncated data", raw(header, &[0; 7]), "7 bytes"),
            ("no shape", raw("{'descr': '<f4', 'fortran_order': False}", &[]), "no shape"),
            ("object", raw(&header.replace("<f4", "|O"), &[0; 8]), "`|O`"),
            ("negative", raw(&header.replace("(2,)", "(-2,)"), &[0; 8]), "a dimension"),
            ("huge", raw(&header.replace("(2,)", "(4294967296, 4294967296)"), &[0; 8]), "too large"),
            ("huge number", raw(&header.replace("(2,)", "(99999999999999999999,)"), &[]), "a dimension"),
            ("code", raw("__import__('os')", &[]), "`{`"),
        ];
        for (name, bytes, part) in cases {
            let error = decode(&bytes).expect_err(name).to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }
}
