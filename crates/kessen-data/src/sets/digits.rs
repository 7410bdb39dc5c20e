//! UCI's handwritten digits, in the binary.

use std::io::Read;

use kessen_tensor::Tensor;

use super::{Entry, Open};
use crate::{Dataset, Error, Fit, ImageInput, Input, Place, Preprocess, Result, Splits, Target};

pub(super) const ENTRY: Entry = Entry {
    name: "digits",
    summary: "5,620 handwritten digits, 8×8 grey, 10 classes",
    source: "E. Alpaydin, C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, \
             1998, doi 10.24432/C50P49",
    licence: "CC BY 4.0",
    open: Open::Embedded(digits),
};

/// 5,620 rows of 64 pixels (0 to 16, row by row) and the class, a byte each, under zlib. Made from the official
/// table by `cargo run -p kessen-data --example pack_digits`.
const PACKED: &[u8] = include_bytes!("../../assets/optdigits.zlib");
const TRAIN: usize = 3823;
const TOTAL: usize = 5620;
const PIXELS: usize = 64;

/// Handwritten digits, 8×8 grey, 10 classes, written by 43 people: 3,823 images to train on by 30 of them, 1,797 to
/// test on by the other 13.
///
/// Fields `image` f32 \[1, 8, 8\] (0 to 1 before standardisation, which is fitted on the training part) and `target`
/// i64 \[\]. E. Alpaydin, C. Kaynak: Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998,
/// <https://doi.org/10.24432/C50P49>, CC BY 4.0.
///
/// # Errors
/// None unless the binary is damaged.
pub fn digits() -> Result<Splits> {
    let mut rows = Vec::new();
    let limit = (TOTAL * (PIXELS + 1)) as u64 + 1;
    let read = flate2::read::ZlibDecoder::new(PACKED).take(limit).read_to_end(&mut rows);
    if read.is_err() || rows.len() != TOTAL * (PIXELS + 1) {
        let found = format!("{} bytes", rows.len());
        return Err(Error::format(Place::file("embedded digits"), found, "5620 rows of 65 bytes"));
    }
    let part = |rows: &[u8]| -> Result<Dataset> {
        let n = rows.len() / (PIXELS + 1);
        let pixels: Vec<u8> = rows.chunks(PIXELS + 1).flat_map(|r| &r[..PIXELS]).copied().collect();
        let classes: Vec<i64> = rows.chunks(PIXELS + 1).map(|r| i64::from(r[PIXELS])).collect();
        let fields = [
            ("image", Tensor::from_vec(&[n, 1, 8, 8], pixels)?),
            ("target", Tensor::from_vec(&[n], classes)?),
        ];
        Dataset::from_bytes(fields, 1.0 / 16.0)
    };
    let (train, test) = rows.split_at(TRAIN * (PIXELS + 1));
    let preprocess = Preprocess {
        input: Input::Image(ImageInput { channels: 1, height: 8, width: 8, fit: Fit::Pad }),
        target: Target::Classes { name: String::new(), labels: (0..10).map(|d| d.to_string()).collect() },
        ..Preprocess::default()
    };
    Splits::new("digits", part(train)?.with_preprocess(preprocess)?, part(test)?)?.standardised()
}
