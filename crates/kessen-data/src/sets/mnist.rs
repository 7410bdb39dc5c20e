//! MNIST, and everything that comes in its four files.

use std::path::{Path, PathBuf};

use kessen_tensor::{DType, Tensor};

use super::{Entry, Open};
use crate::read::list;
use crate::{
    Dataset, Error, Fit, ImageInput, Input, Place, Preprocess, Result, Splits, Standardise, Target, read_idx,
};

pub(super) const ENTRY: Entry = Entry {
    name: "mnist",
    summary: "70,000 handwritten digits, 28×28 grey, 10 classes",
    source: "Y. LeCun, C. Cortes, C. Burges, The MNIST database of handwritten digits, 1998",
    licence: "CC BY-SA 3.0",
    open: Open::Folder(|folder| mnist(folder)),
};

/// Reads MNIST from a folder with its four files, `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
/// `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each also with `.gz`.
///
/// Fields `image` f32 \[1, 28, 28\], standardised by the training part, and `target` i64 \[\]. Sets in the same form
/// (Fashion-MNIST, Kuzushiji-MNIST) are read as well, whatever their size of image.
///
/// # Errors
/// [`Error::Io`] for a folder that does not exist, [`Error::Empty`] where a file is missing, [`Error::Format`] for one
/// that is damaged or does not belong to the others.
pub fn mnist(folder: impl AsRef<Path>) -> Result<Splits> {
    let folder = folder.as_ref();
    let files = list(folder)?;
    let train = part(folder, &files, "train")?;
    let test = part(folder, &files, "t10k")?;
    Splits::new("mnist", train, test)?.standardised()
}

fn part(folder: &Path, files: &[PathBuf], name: &str) -> Result<Dataset> {
    let (images, images_at) = array(folder, files, name, "images-idx3-ubyte", 3)?;
    let (labels, labels_at) = array(folder, files, name, "labels-idx1-ubyte", 1)?;
    let &[n, h, w] = images.shape() else { return Err(wrong_shape(&images_at, &images, 3)) };
    if labels.shape() != [n] {
        let found = format!("{:?} labels", labels.shape());
        return Err(Error::format(labels_at, found, format!("{n}, as many as there are images")));
    }
    let preprocess = Preprocess {
        input: Input::Image(ImageInput { channels: 1, height: h, width: w, fit: Fit::Pad }),
        standardise: Standardise::default(),
        target: Target::Classes { name: String::new(), labels: (0..10).map(|d| d.to_string()).collect() },
    };
    if let Some(at) = labels.as_slice::<u8>()?.iter().position(|&l| l > 9) {
        let found = format!("label {} at {at}", labels.as_slice::<u8>()?[at]);
        return Err(Error::format(labels_at, found, "0 to 9"));
    }
    let images = images.reshaped(&[n, 1, h, w])?;
    let fields = [("image", images), ("target", labels.cast(DType::I64)?)];
    Dataset::from_bytes(fields, 1.0 / 255.0)?.with_preprocess(preprocess)
}

fn array(folder: &Path, files: &[PathBuf], start: &str, kind: &str, rank: usize) -> Result<(Tensor, Place)> {
    let file = files.iter().find(|p| {
        let name = p.file_name().unwrap_or_default().to_string_lossy();
        let name = name.strip_suffix(".gz").unwrap_or(&name);
        name.starts_with(start) && name.ends_with(kind)
    });
    let Some(file) = file else {
        let what = folder.display().to_string();
        return Err(Error::Empty {
            what,
            hint: format!("the file {start}-{kind}, or the same with .gz, is missing"),
        });
    };
    let place = Place::file(file.display().to_string());
    let tensor = read_idx(file)?;
    match tensor.dtype() == DType::U8 && tensor.shape().len() == rank {
        true => Ok((tensor, place)),
        false => Err(wrong_shape(&place, &tensor, rank)),
    }
}

fn wrong_shape(place: &Place, tensor: &Tensor, rank: usize) -> Error {
    let found = format!("{} {:?}", tensor.dtype(), tensor.shape());
    Error::format(place.clone(), found, format!("bytes in {rank} dimensions"))
}
