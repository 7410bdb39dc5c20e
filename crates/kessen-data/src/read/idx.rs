//! The IDX format of MNIST: <https://yann.lecun.com/exdb/mnist/>, big-endian, often under gzip.

use std::path::Path;

use kessen_tensor::{DType, Tensor, element_count};

use super::file::{LIMIT, read_bytes};
use crate::{Error, Place, Result};

/// Reads the IDX file `path`, decompressed where its name ends in `.gz`.
///
/// # Errors
/// [`Error::Io`] and those of [`parse_idx`].
pub fn read_idx(path: impl AsRef<Path>) -> Result<Tensor> {
    let path = path.as_ref();
    parse_idx(&read_bytes(path, LIMIT)?, &path.display().to_string())
}

/// The array in the bytes of an IDX file: bytes as u8, signed bytes and integers as i64, reals as f32.
///
/// `name` stands for the file in messages.
///
/// ```
/// let bytes = [0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4]; // unsigned bytes, one dimension, of 3
/// let labels = kessen_data::parse_idx(&bytes, "labels")?;
/// assert_eq!(labels.as_slice::<u8>()?, [5, 0, 4]);
/// # Ok::<(), kessen_data::Error>(())
/// ```
///
/// # Errors
/// [`Error::Format`] where the head is no IDX head or the data is not as long as it says.
pub fn parse_idx(bytes: &[u8], name: &str) -> Result<Tensor> {
    let wrong = |found: String, expected: String| Error::format(Place::file(name), found, expected);
    let &[0, 0, kind, rank, ref rest @ ..] = bytes else {
        let found = format!("{:02x?}", &bytes[..bytes.len().min(4)]);
        let expected = "an IDX head: two zero bytes, a type, a number of dimensions";
        return Err(wrong(found, expected.to_owned()));
    };
    let size = match kind {
        0x08 | 0x09 => 1,
        0x0b => 2,
        0x0c | 0x0d => 4,
        0x0e => 8,
        _ => {
            let found = format!("element type 0x{kind:02x}");
            return Err(wrong(found, "0x08, 0x09 or 0x0b to 0x0e".to_owned()));
        }
    };
    let rank = usize::from(rank);
    if rank > 8 || rest.len() < 4 * rank {
        let found = format!("{rank} dimensions in {} bytes", bytes.len());
        return Err(wrong(found, "at most 8 dimensions, 4 bytes each".to_owned()));
    }
    let (head, data) = rest.split_at(4 * rank);
    let shape: Vec<usize> = head.as_chunks::<4>().0.iter().map(|&d| u32::from_be_bytes(d) as usize).collect();
    let expected = element_count(&shape).ok().and_then(|n| n.checked_mul(size));
    if expected != Some(data.len()) {
        let expected = expected.map_or("less".to_owned(), |n| n.to_string());
        return Err(wrong(
            format!("{} bytes of data", data.len()),
            format!("{expected} for shape {shape:?}; the file is cut off or has something appended"),
        ));
    }
    let integers = |values: Vec<i64>| Ok(Tensor::from_vec(&shape, values)?);
    let reals = |values: Vec<f32>| Ok(Tensor::from_vec(&shape, values)?);
    match kind {
        0x08 => Ok(Tensor::from_bytes(DType::U8, &shape, data)?),
        0x09 => integers(data.iter().map(|&b| i64::from(b.cast_signed())).collect()),
        0x0b => integers(data.as_chunks().0.iter().map(|&b| i64::from(i16::from_be_bytes(b))).collect()),
        0x0c => integers(data.as_chunks().0.iter().map(|&b| i64::from(i32::from_be_bytes(b))).collect()),
        0x0d => reals(data.as_chunks().0.iter().map(|&b| f32::from_be_bytes(b)).collect()),
        _ => reals(data.as_chunks().0.iter().map(|&b| f64::from_be_bytes(b) as f32).collect()),
    }
}
