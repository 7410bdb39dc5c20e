//! Bodies of the fuzz targets, also run as tests on mutated files. Each takes any bytes, and panics only where the
//! crate is wrong: what is read is written and read back equal.

use kessen_formats::{Model, SafeTensors, npy};

/// Any bytes as a safetensors file.
pub fn safetensors(bytes: &[u8]) {
    let Ok(file) = SafeTensors::decode(bytes) else { return };
    let written = file.encode();
    let back = SafeTensors::decode(&written).map(|b| b.encode());
    assert_eq!(back.ok(), Some(written));
}

/// Any bytes as an npy file.
pub fn npy(bytes: &[u8]) {
    let Ok(array) = npy::decode(bytes) else { return };
    let back = npy::encode(&array).and_then(|b| npy::decode(&b));
    assert!(back.is_ok_and(|b| b.shape() == array.shape() && b.bytes() == array.bytes()));
}

/// Any bytes as a model file.
pub fn model(bytes: &[u8]) {
    let Ok(model) = Model::decode(bytes) else { return };
    let written = model.encode();
    let back = Model::decode(&written).map(|b| b.encode());
    assert_eq!(back.ok(), Some(written));
}
