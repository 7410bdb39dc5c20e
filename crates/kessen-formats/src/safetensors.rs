//! The safetensors format: eight bytes of length, a JSON header, the tensors' bytes.
//!
//! Specification: <https://github.com/huggingface/safetensors#format>. Written here rather than taken from the
//! `safetensors` crate, whose metadata is a hash map (equal models would become unequal files), which lets a name
//! that stands twice pass, and which does not say what was found and expected.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use kessen_tensor::{DType, Tensor};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::{Error, Result, write_atomic};

/// The longest header that is read, as in the format's own implementation.
const MAX_HEADER: u64 = 100_000_000;
const HEADER: &str = "safetensors header";

/// Named tensors with notes.
///
/// ```
/// use kessen_formats::SafeTensors;
/// use kessen_tensor::Tensor;
///
/// let mut file = SafeTensors::default();
/// file.metadata.insert("made by".into(), "hand".into());
/// file.tensors.push(("w".into(), Tensor::from_vec(&[2], vec![1.0f32, 2.0])?));
/// let back = SafeTensors::decode(&file.encode())?;
/// assert_eq!(back.tensors[0].1.as_slice::<f32>()?, [1.0, 2.0]);
/// assert_eq!(back.metadata["made by"], "hand");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct SafeTensors {
    /// Texts by name (`__metadata__`).
    pub metadata: BTreeMap<String, String>,
    /// Tensors by name, in the file's order.
    pub tensors: Vec<(String, Tensor)>,
}

/// One entry of the header, checked.
struct Entry {
    name: String,
    dtype: DType,
    shape: Vec<usize>,
    begin: usize,
    end: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// A JSON object as it stands, names that occur twice included.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

impl SafeTensors {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error::Io`] where it can't be read, [`Error::File`] where it is not what the format asks for.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { action: "read", path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        let length = file.metadata().map_err(io)?.len();
        Self::decode_from(BufReader::new(file), length).map_err(|e| e.of(path))
    }

    /// Reads the bytes of a file.
    ///
    /// # Errors
    /// [`Error::Format`] with what was found and expected; memory is taken only for what the bytes can hold.
    pub fn decode(bytes: &[u8]) -> Result<Self> {
        Self::decode_from(bytes, bytes.len() as u64)
    }

    fn decode_from(mut reader: impl Read, length: u64) -> Result<Self> {
        let mut prefix = [0; 8];
        read_exact(&mut reader, &mut prefix, "safetensors length")?;
        let header_length = u64::from_le_bytes(prefix);
        let rest = length.saturating_sub(8);
        if header_length > rest.min(MAX_HEADER) {
            return Err(Error::format(
                HEADER,
                format!("a length of {header_length} bytes in a file of {length}"),
                format!("at most {}; the file is truncated or not safetensors", rest.min(MAX_HEADER)),
            ));
        }
        let mut header = vec![0; header_length as usize];
        read_exact(&mut reader, &mut header, HEADER)?;
        let (metadata, entries) = parse_header(&header, rest - header_length)?;
        let mut tensors = Vec::with_capacity(entries.len());
        for entry in entries {
            let mut tensor = Tensor::zeros(entry.dtype, &entry.shape)?;
            read_exact(&mut reader, tensor.bytes_mut(), &entry.name)?;
            tensors.push((entry.name, tensor));
        }
        Ok(Self { metadata, tensors })
    }

    /// The bytes of a file: the same contents give the same bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // Writing to memory does not fail.
        let _ = self.write_to(&mut bytes);
        bytes
    }

    /// Writes a file, atomically.
    ///
    /// # Errors
    /// [`Error::Format`] where a name occurs twice or is `__metadata__`; [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let mut names: Vec<&str> = self.tensors.iter().map(|(n, _)| n.as_str()).collect();
        names.push("__metadata__");
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|w| w[0] == w[1]) {
            return Err(Error::format("tensors to write", format!("`{}` twice", pair[0]), "unique names"));
        }
        write_atomic(path, |w| self.write_to(w))
    }

    fn write_to(&self, w: &mut dyn Write) -> std::io::Result<()> {
        let mut order: Vec<&(String, Tensor)> = self.tensors.iter().collect();
        // Widest elements first keeps every tensor aligned to its element's size.
        order.sort_by_key(|(_, t)| std::cmp::Reverse(t.dtype().size()));
        let mut header = serde_json::Map::new();
        if !self.metadata.is_empty() {
            header.insert("__metadata__".to_owned(), serde_json::json!(self.metadata));
        }
        let mut at = 0;
        for (name, tensor) in &order {
            let end = at + tensor.bytes().len();
            let entry = serde_json::json!({
                "dtype": tag(tensor.dtype()), "shape": tensor.shape(), "data_offsets": [at, end],
            });
            header.insert(name.clone(), entry);
            at = end;
        }
        let mut header = serde_json::to_vec(&header)?;
        header.resize(header.len().next_multiple_of(8), b' ');
        w.write_all(&(header.len() as u64).to_le_bytes())?;
        w.write_all(&header)?;
        order.iter().try_for_each(|(_, t)| w.write_all(t.bytes()))
    }

    /// The tensor of that name.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|(n, _)| n == name).map(|(_, t)| t)
    }
}

fn parse_header(header: &[u8], data: u64) -> Result<(BTreeMap<String, String>, Vec<Entry>)> {
    let json = |e: serde_json::Error| Error::format(HEADER, e.to_string(), "a JSON object of tensors");
    let Members(members) = serde_json::from_slice(header).map_err(json)?;
    let mut metadata = BTreeMap::new();
    let mut entries = Vec::with_capacity(members.len());
    let mut names = std::collections::HashSet::new();
    for (name, value) in members {
        if !names.insert(name.clone()) {
            return Err(Error::format(HEADER, format!("the name `{name}` twice"), "unique names"));
        }
        if name == "__metadata__" {
            metadata = serde_json::from_value(value)
                .map_err(|e| Error::format("safetensors metadata", e.to_string(), "texts by name"))?;
        } else {
            entries.push(parse_entry(name, value, data)?);
        }
    }
    entries.sort_by_key(|e| (e.begin, e.end));
    let mut at = 0;
    let mut before = "the header";
    for entry in &entries {
        if entry.begin != at {
            let kind = if entry.begin < at { "overlaps" } else { "leaves a gap after" };
            return Err(Error::format(
                format!("tensor `{}`", entry.name),
                format!("an offset of {}, which {kind} {before}", entry.begin),
                format!("{at}; the file is damaged"),
            ));
        }
        (at, before) = (entry.end, &entry.name);
    }
    if at as u64 != data {
        return Err(Error::format(
            "safetensors data",
            format!("{data} bytes"),
            format!("{at}, where the last tensor ends; the file is damaged"),
        ));
    }
    Ok((metadata, entries))
}

fn parse_entry(name: String, value: Value, data: u64) -> Result<Entry> {
    let place = format!("tensor `{name}`");
    let raw: RawEntry = serde_json::from_value(value)
        .map_err(|e| Error::format(&place, e.to_string(), "dtype, shape and data_offsets"))?;
    let dtype = DType::ALL.into_iter().find(|&d| tag(d) == raw.dtype).ok_or_else(|| {
        let known = DType::ALL.map(tag).join(", ");
        Error::format(&place, format!("element type {}", raw.dtype), format!("one of {known}"))
    })?;
    let [begin, end] = raw.data_offsets;
    let size = kessen_tensor::element_count(&raw.shape)? * dtype.size();
    if begin > end || end as u64 > data {
        return Err(Error::format(
            place,
            format!("bytes {begin} to {end} of {data}"),
            "a range inside the file; it is truncated or damaged",
        ));
    }
    if end - begin != size {
        return Err(Error::format(
            place,
            format!("{} bytes for {} {:?}", end - begin, raw.dtype, raw.shape),
            format!("{size} bytes"),
        ));
    }
    Ok(Entry { name, dtype, shape: raw.shape, begin, end })
}

fn read_exact(reader: &mut impl Read, out: &mut [u8], place: &str) -> Result<()> {
    reader.read_exact(out).map_err(|e| {
        Error::format(place, e.to_string(), format!("{} bytes; the file is truncated", out.len()))
    })
}

/// The format's name of an element type.
const fn tag(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 => "F32",
        DType::F64 => "F64",
        DType::F16 => "F16",
        DType::Bf16 => "BF16",
        DType::I64 => "I64",
        DType::I32 => "I32",
        DType::U8 => "U8",
        DType::Bool => "BOOL",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: usize) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    }

    fn entry(dtype: &str, shape: &str, begin: usize, end: usize) -> String {
        format!(r#"{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    }

    #[test]
    fn damaged_files_are_refused_with_the_reason() {
        let f4 = |b, e| entry("F32", "[1]", b, e);
        let one = |e: String| format!(r#"{{"a":{e}}}"#);
        let two = |a: &str, x: String, b: &str, y: String| format!(r#"{{"{a}":{x},"{b}":{y}}}"#);
        let mut near_2_64 = file("{}", 0);
        near_2_64[..8].copy_from_slice(&(u64::MAX - 7).to_le_bytes());
        let cases: Vec<(&str, Vec<u8>, &str)> = vec![
            ("empty", vec![], "truncated"),
            ("short length", vec![1, 2, 3], "truncated"),
            ("length near 2^64", near_2_64, "18446744073709551608"),
            ("length past the end", file("{}", 0)[..9].to_vec(), "a length of 2 bytes in a file of 9"),
            ("no JSON", file("nonsense", 0), "JSON object"),
            ("not UTF-8", [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat(), "JSON object"),
            ("truncated data", file(&one(f4(0, 4)), 3), "0 to 4 of 3"),
            ("trailing data", file(&one(f4(0, 4)), 5), "5 bytes"),
            ("overlap", file(&two("a", f4(0, 4), "b", f4(2, 6)), 6), "overlaps a"),
            ("gap", file(&two("a", f4(0, 4), "b", f4(8, 12)), 12), "gap after a"),
            ("same name", file(&two("a", f4(0, 4), "a", f4(4, 8)), 8), "`a` twice"),
            ("wrong size", file(&one(entry("F64", "[1]", 0, 4)), 4), "8 bytes"),
            ("wrong dtype", file(&one(entry("I16", "[2]", 0, 4)), 4), "element type I16"),
            ("huge shape", file(&one(entry("F32", "[4294967296,4294967296]", 0, 4)), 4), "too large"),
            ("negative", file(&one(entry("F32", "[-1]", 0, 4)), 4), "tensor `a`"),
            ("backwards", file(&one(f4(4, 0)), 4), "4 to 0"),
            ("metadata", file(r#"{"__metadata__":{"a":1}}"#, 0), "texts by name"),
        ];
        for (name, bytes, part) in cases {
            let error = SafeTensors::decode(&bytes).expect_err(name).to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }

    #[test]
    fn every_element_type_round_trips_and_files_are_reproducible() {
        let mut file = SafeTensors::default();
        for dtype in DType::ALL {
            let mut t = Tensor::zeros(dtype, &[3, 1]).unwrap();
            t.bytes_mut().fill(1);
            file.tensors.push((dtype.name().to_owned(), t));
        }
        file.tensors.push(("none".to_owned(), Tensor::zeros(DType::F32, &[0, 4]).unwrap()));
        file.metadata = (0..9).map(|i| (format!("k{i}"), "v\n\"".to_owned())).collect();
        let bytes = file.encode();
        assert_eq!(u64::from_le_bytes(bytes[..8].try_into().unwrap()) % 8, 0);
        let back = SafeTensors::decode(&bytes).unwrap();
        assert_eq!(back.metadata, file.metadata);
        for (name, tensor) in &file.tensors {
            let found = back.get(name).unwrap();
            assert_eq!((found.dtype(), found.shape()), (tensor.dtype(), tensor.shape()));
            assert_eq!(found.bytes(), tensor.bytes(), "{name}");
        }
        assert_eq!(back.encode(), bytes);
    }

    #[test]
    fn names_that_would_collide_are_not_written() {
        let t = Tensor::scalar(1.0f32);
        let path = tempfile::tempdir().unwrap().path().join("x");
        for names in [["a", "a"], ["a", "__metadata__"]] {
            let tensors = names.map(|n| (n.to_owned(), t.clone())).to_vec();
            assert!(SafeTensors { tensors, ..Default::default() }.write(&path).is_err());
        }
    }
}
