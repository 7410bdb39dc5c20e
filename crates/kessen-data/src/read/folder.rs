//! Folders of images, one folder per class.

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;

use kessen_tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::{Picture, list};
use crate::{
    Dataset, Error, Field, ImageInput, Input, Place, Preprocess, Result, Slot, Source, Splits, Target,
};

/// Images that take up no more than this together are decoded once and kept.
const KEEP: usize = 1 << 30;
const EXTENSIONS: [&str; 10] = ["png", "jpg", "jpeg", "bmp", "gif", "pbm", "pgm", "ppm", "pnm", "webp"];

/// How a folder of images is read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FolderOptions {
    /// The size and colours that every image is brought to.
    pub image: ImageInput,
    /// The fraction of the images to test on, where the folder has no part `test`.
    #[serde(default = "fifth")]
    pub test: f64,
    /// Chooses the images to test on.
    #[serde(default)]
    pub seed: u64,
}

fn fifth() -> f64 {
    0.2
}

/// Reads `folder/CLASS/*.png` (or JPEG, BMP, GIF, PNM, WebP), or `folder/train/CLASS/*` and `folder/test/CLASS/*`
/// (and `validation`, or `val`) where the data is split already.
///
/// Classes are numbered in the order of their names. Fields `image` f32 \[C, H, W\], standardised per channel by the
/// training part, and `target` i64 \[\]. Images that need less than 1 GiB together are decoded once, by all processors;
/// others whenever they are read.
///
/// # Errors
/// [`Error::Io`] for a folder that does not exist, [`Error::Empty`] for one without images, [`Error::Format`] for an
/// image that cannot be decoded, with its path, and for a class that the training part does not have.
pub fn image_folder(folder: impl AsRef<Path>, options: &FolderOptions) -> Result<Splits> {
    let folder = folder.as_ref();
    options.image.check()?;
    let name = folder.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
    let part = |names: &[&str]| names.iter().map(|n| folder.join(n)).find(|p| p.is_dir());
    let train = part(&["train"]);
    let labels = classes(train.as_deref().unwrap_or(folder))?;
    let read = |path: &Path| open(path, &labels, &options.image);
    let Some(train) = train else {
        let (train, test) = read(folder)?.hold_out(options.test, options.seed)?;
        return Splits::new(&name, train, test)?.standardised();
    };
    let train = read(&train)?;
    let optional = |names: &[&str]| part(names).map_or_else(|| train.subset(&[]), |p| read(&p));
    let mut splits = Splits::new(&name, train.clone(), optional(&["test"])?)?;
    splits.validation = optional(&["validation", "val", "valid"])?;
    splits.standardised()
}

/// The names of the folders in `folder`.
fn classes(folder: &Path) -> Result<Vec<String>> {
    let folders = list(folder)?.into_iter().filter(|p| p.is_dir());
    let labels: Vec<String> =
        folders.filter_map(|p| Some(p.file_name()?.to_string_lossy().into_owned())).collect();
    if labels.is_empty() {
        let hint = "put the images of each class into a folder with the class's name".to_owned();
        return Err(Error::Empty { what: folder.display().to_string(), hint });
    }
    Ok(labels)
}

fn open(folder: &Path, labels: &[String], image: &ImageInput) -> Result<Dataset> {
    let mut files = Vec::new();
    for class in classes(folder)? {
        let Some(target) = labels.iter().position(|l| *l == class) else {
            let place = Place::file(folder.display().to_string());
            let expected = format!("one of the {} classes of the training part", labels.len());
            return Err(Error::format(place, format!("class `{class}`"), expected));
        };
        let is_image = |p: &PathBuf| {
            let extension = p.extension().unwrap_or_default().to_string_lossy().to_lowercase();
            EXTENSIONS.contains(&extension.as_str())
        };
        files.extend(list(&folder.join(&class))?.into_iter().filter(is_image).map(|p| (p, target as i64)));
    }
    if files.is_empty() {
        let hint = format!("images end in {}", EXTENSIONS.map(|e| format!(".{e}")).join(" "));
        return Err(Error::Empty { what: folder.display().to_string(), hint });
    }
    let shape = [image.channels, image.height, image.width];
    let preprocess = Preprocess {
        input: Input::Image(image.clone()),
        target: Target::Classes { name: String::new(), labels: labels.to_vec() },
        ..Preprocess::default()
    };
    let dataset = if files.len().saturating_mul(shape.iter().product()) <= KEEP {
        let pixels = decode_all(&files, image)?;
        let targets: Vec<i64> = files.iter().map(|f| f.1).collect();
        let shape = [&[files.len()], &shape[..]].concat();
        let fields = [
            ("image", Tensor::from_vec(&shape, pixels)?),
            ("target", Tensor::from_vec(&[files.len()], targets)?),
        ];
        Dataset::from_bytes(fields, 1.0 / 255.0)?
    } else {
        let fields = vec![Field::f32("image", &shape), Field::i64("target", &[])];
        Dataset::new(Files { fields, files, image: image.clone() })?
    };
    dataset.with_preprocess(preprocess)
}

/// Every image's bytes \[N, C, H, W\], decoded by all processors.
fn decode_all(files: &[(PathBuf, i64)], image: &ImageInput) -> Result<Vec<u8>> {
    let size = image.channels * image.height * image.width;
    let mut pixels = vec![0u8; files.len() * size];
    let failed: Mutex<Option<(usize, Error)>> = Mutex::new(None);
    let share = files.len().div_ceil(thread::available_parallelism().map_or(1, usize::from));
    thread::scope(|scope| {
        for (i, (files, pixels)) in files.chunks(share).zip(pixels.chunks_mut(share * size)).enumerate() {
            let failed = &failed;
            scope.spawn(move || {
                for (k, ((path, _), out)) in files.iter().zip(pixels.chunks_exact_mut(size)).enumerate() {
                    match Picture::read(path) {
                        Ok(picture) => out.copy_from_slice(&picture.to_bytes(image)),
                        Err(error) => {
                            // The first file in order is named, whichever thread was first to fail.
                            let mut failed = failed.lock().unwrap_or_else(|e| e.into_inner());
                            if failed.as_ref().is_none_or(|(at, _)| *at > i * share + k) {
                                *failed = Some((i * share + k, error));
                            }
                            return;
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(|e| e.into_inner()) {
        Some((_, error)) => Err(error),
        None => Ok(pixels),
    }
}

/// Images that are decoded when they are read.
struct Files {
    fields: Vec<Field>,
    files: Vec<(PathBuf, i64)>,
    image: ImageInput,
}

impl Source for Files {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, sample: usize, _: usize, out: Slot<'_>) -> Result<()> {
        let (path, target) = &self.files[sample];
        match out {
            Slot::F32(out) => out.copy_from_slice(&Picture::read(path)?.to_values(&self.image)),
            Slot::I64(out) => out[0] = *target,
        }
        Ok(())
    }
}
