//! Reads the golden files: safetensors, as `golden/*.py` write them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// A stored array.
#[derive(Debug, Clone)]
pub struct Stored {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [usize; 2],
}

/// Every array of `golden/values/NAME.safetensors`.
pub fn read(name: &str) -> BTreeMap<String, Stored> {
    let path = super::golden_folder().join("values").join(format!("{name}.safetensors"));
    let bytes = std::fs::read(&path)
        .unwrap_or_else(|e| panic!("{}: {e}; write it with `python golden/generate.py`", path.display()));
    let (length, rest) = bytes.split_at(8);
    let (header, data) = rest.split_at(u64::from_le_bytes(length.try_into().unwrap()) as usize);
    let header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).unwrap();
    let arrays = header.into_iter().filter(|(name, _)| name != "__metadata__");
    arrays.map(|(name, entry)| (name, stored(serde_json::from_value(entry).unwrap(), data))).collect()
}

fn stored(entry: Entry, data: &[u8]) -> Stored {
    let bytes = &data[entry.data_offsets[0]..entry.data_offsets[1]];
    let data = match entry.dtype.as_str() {
        "F32" => bytes.chunks(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect(),
        "F64" => bytes.chunks(8).map(|b| f64::from_le_bytes(b.try_into().unwrap())).collect(),
        "I64" => bytes.chunks(8).map(|b| i64::from_le_bytes(b.try_into().unwrap()) as f64).collect(),
        "U8" => bytes.iter().map(|b| f64::from(*b)).collect(),
        other => panic!("golden arrays are F32, F64, I64 or U8, found {other}"),
    };
    Stored { shape: entry.shape, data }
}
