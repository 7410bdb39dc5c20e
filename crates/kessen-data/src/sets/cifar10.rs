//! CIFAR-10 in its binary version.

use std::path::Path;

use kessen_tensor::Tensor;

use super::{Entry, Open};
use crate::read::{LIMIT, list, read_bytes};
use crate::{Dataset, Error, Fit, ImageInput, Input, Place, Preprocess, Result, Splits, Standardise, Target};

pub(super) const ENTRY: Entry = Entry {
    name: "cifar10",
    summary: "60,000 photographs, 32×32 colour, 10 classes",
    source: "A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    licence: "not stated; for research",
    open: Open::Folder(|folder| cifar10(folder)),
};

const LABELS: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// Bytes of a record: the class, then the red, green and blue planes of 32 × 32.
const RECORD: usize = 1 + 3 * 32 * 32;

/// Reads CIFAR-10 from a folder with the files of its binary version: `data_batch_1.bin` to `data_batch_5.bin` (those
/// that are there) and `test_batch.bin`. Without the latter, every fifth image is held out for testing.
///
/// Fields `image` f32 \[3, 32, 32\], standardised per channel by the training part, and `target` i64 \[\].
///
/// # Errors
/// [`Error::Io`] for a folder that does not exist, [`Error::Empty`] for one without such files, [`Error::Format`] for a
/// file that is damaged.
pub fn cifar10(folder: impl AsRef<Path>) -> Result<Splits> {
    let folder = folder.as_ref();
    let part = |start: &str| -> Result<Option<Dataset>> {
        let (mut pixels, mut targets) = (Vec::new(), Vec::new());
        for file in list(folder)? {
            let name = file.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with(start) && name.ends_with(".bin") {
                records(&read_bytes(&file, LIMIT)?, &file.display().to_string(), &mut pixels, &mut targets)?;
            }
        }
        let n = targets.len();
        if n == 0 {
            return Ok(None);
        }
        let fields = [
            ("image", Tensor::from_vec(&[n, 3, 32, 32], pixels)?),
            ("target", Tensor::from_vec(&[n], targets)?),
        ];
        Dataset::from_bytes(fields, 1.0 / 255.0)?.with_preprocess(preprocess()).map(Some)
    };
    let Some(train) = part("data_batch")? else {
        let hint = "the files data_batch_1.bin to data_batch_5.bin of CIFAR-10's binary version are missing";
        return Err(Error::Empty { what: folder.display().to_string(), hint: hint.to_owned() });
    };
    let (train, test) = match part("test_batch")? {
        Some(test) => (train, test),
        None => train.hold_out(0.2, 0)?,
    };
    Splits::new("cifar10", train, test)?.standardised()
}

fn preprocess() -> Preprocess {
    Preprocess {
        input: Input::Image(ImageInput { channels: 3, height: 32, width: 32, fit: Fit::Crop }),
        standardise: Standardise::default(),
        target: Target::Classes { name: String::new(), labels: LABELS.map(str::to_owned).to_vec() },
    }
}

fn records(bytes: &[u8], name: &str, pixels: &mut Vec<u8>, targets: &mut Vec<i64>) -> Result<()> {
    let wrong = |found: String, expected: &str| Err(Error::format(Place::file(name), found, expected));
    if bytes.is_empty() || !bytes.len().is_multiple_of(RECORD) {
        return wrong(format!("{} bytes", bytes.len()), "whole records of 3073 bytes");
    }
    for (i, record) in bytes.chunks_exact(RECORD).enumerate() {
        if usize::from(record[0]) >= LABELS.len() {
            return wrong(format!("class {} in record {i}", record[0]), "0 to 9");
        }
        targets.push(i64::from(record[0]));
        pixels.extend_from_slice(&record[1..]);
    }
    Ok(())
}
