//! Batches in a reproducible order.

use kessen_tensor::Rng;

use crate::augment::{Augment, Augmenter};
use crate::{Batch, Dataset, Error, Prefetch, Result, Slot, Target};

/// Fills batches from a data set.
///
/// What a batch holds is a function of (seed, epoch, step) alone: the order of an epoch comes from a generator keyed
/// by (seed, epoch) and the augmentation of a sample from one keyed by (seed, epoch, sample). So a run can resume at
/// any step, and any number of threads sees the same batches. Filling allocates nothing once an epoch's order has
/// been drawn for the first time.
///
/// ```
/// use kessen_data::{Loader, data};
///
/// let digits = data::digits()?;
/// let mut loader = Loader::new(&digits.train, 64)?.shuffle(1);
/// let mut batch = loader.batch()?;
/// for step in 0..loader.steps_per_epoch() {
///     loader.fill(0, step, &mut batch)?;
///     let (image, target) = (batch.f32("image")?, batch.i64("target")?);
///     assert_eq!(image.len(), 64 * target.len());
/// }
/// assert_eq!(batch.len(), 3823 % 64); // the last batch is a partial one
/// # Ok::<(), kessen_data::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Loader {
    dataset: Dataset,
    batch_size: usize,
    shuffle: bool,
    seed: u64,
    drop_last: bool,
    augmenter: Augmenter,
    order: Vec<u32>,
    ordered: Option<u64>,
}

/// What a generator is keyed for, so that no two purposes share a stream.
#[derive(Clone, Copy)]
enum Purpose {
    Order = 1,
    Augment = 2,
}

fn key(seed: u64, epoch: u64, purpose: Purpose) -> u64 {
    // SplitMix64's finaliser (Steele, Lea, Flood 2014), twice: seeds and epochs are small and close together.
    let mix = |mut z: u64| {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    mix(mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)).wrapping_add(epoch)).wrapping_add(purpose as u64)
}

impl Loader {
    /// Batches of `batch_size` samples in the data's order, the last one with what is left.
    ///
    /// # Errors
    /// [`Error::Empty`] for a data set without samples, [`Error::Option`] for a batch size of 0 or a data set of 2³²
    /// samples or more.
    pub fn new(dataset: &Dataset, batch_size: usize) -> Result<Self> {
        if dataset.is_empty() {
            let hint = "choose another part of the data, or other data".to_owned();
            return Err(Error::Empty { what: "the data set".to_owned(), hint });
        }
        if batch_size == 0 {
            return Err(Error::option("batch size", 0, "at least 1"));
        }
        if u32::try_from(dataset.len()).is_err() {
            return Err(Error::option("samples", dataset.len(), "below 2^32; use a subset"));
        }
        Ok(Self {
            dataset: dataset.clone(),
            batch_size,
            shuffle: false,
            seed: 0,
            drop_last: false,
            augmenter: Augmenter::default(),
            order: (0..dataset.len() as u32).collect(),
            ordered: None,
        })
    }

    /// Draws a new order for each epoch from `seed`, which also keys the augmentation.
    pub fn shuffle(mut self, seed: u64) -> Self {
        (self.shuffle, self.seed, self.ordered) = (true, seed, None);
        self
    }

    /// Leaves out an epoch's last batch where it would not be full.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`] where no batch would be left.
    pub fn drop_last(mut self) -> Result<Self> {
        let (batch_size, samples) = (self.batch_size, self.dataset.len());
        if batch_size > samples {
            return Err(Error::BatchTooLarge { batch_size, samples });
        }
        self.drop_last = true;
        Ok(self)
    }

    /// Changes each input at random, in the order of `steps`; see [`Augment`].
    ///
    /// # Errors
    /// [`Error::Option`] for a setting outside its range; [`Error::Mismatch`] where the input is no image of shape
    /// \[C, H, W\] and a step needs one.
    pub fn augment(mut self, steps: &[Augment]) -> Result<Self> {
        self.augmenter = Augmenter::new(steps, &self.dataset.fields()[0])?;
        Ok(self)
    }

    /// The data that batches are filled from.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// Samples of a full batch.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Batches in an epoch, at least 1.
    pub fn steps_per_epoch(&self) -> usize {
        let n = self.dataset.len();
        if self.drop_last { n / self.batch_size } else { n.div_ceil(self.batch_size) }
    }

    /// Samples in batch `step` of an epoch; 0 past its end.
    pub fn batch_len(&self, step: usize) -> usize {
        if step >= self.steps_per_epoch() {
            return 0;
        }
        self.batch_size.min(self.dataset.len() - step * self.batch_size)
    }

    /// An empty batch with room for a full one.
    ///
    /// # Errors
    /// [`Error::Tensor`] where it would not fit the address space.
    pub fn batch(&self) -> Result<Batch> {
        Batch::new(self.dataset.fields(), self.batch_size.min(self.dataset.len()))
    }

    /// Fills `batch` with step `step` of epoch `epoch`, both from 0.
    ///
    /// # Errors
    /// [`Error::Option`] for a step past the epoch's end, [`Error::Mismatch`] for another loader's batch,
    /// [`Error::Sample`] for a value that is not finite or a class without a label, and whatever makes a sample
    /// unreadable.
    pub fn fill(&mut self, epoch: u64, step: usize, batch: &mut Batch) -> Result<()> {
        let n = self.batch_len(step);
        if n == 0 {
            return Err(Error::option("step", step, format!("below {}", self.steps_per_epoch())));
        }
        if batch.fields != self.dataset.fields() || batch.capacity < n {
            let found = format!("{} samples of {:?}", batch.capacity, batch.fields);
            let expected = format!("{n} of {:?}; make it with `Loader::batch`", self.dataset.fields());
            return Err(Error::mismatch("the batch", found, expected));
        }
        self.draw_order(epoch);
        (batch.epoch, batch.step) = (epoch, step);
        batch.rows.clear();
        let start = step * self.batch_size;
        batch.rows.extend(self.order[start..start + n].iter().map(|&i| i as usize));
        for position in 0..n {
            self.fill_sample(epoch, position, batch)?;
        }
        Ok(())
    }

    /// The same batches, filled ahead by `workers` threads (at least 1), from batch `step` of `epoch` on.
    ///
    /// # Errors
    /// [`Error::Option`] for a step past the epoch's end.
    pub fn prefetch(self, workers: usize, epoch: u64, step: usize) -> Result<Prefetch> {
        Prefetch::start(self, workers, epoch, step)
    }

    fn draw_order(&mut self, epoch: u64) {
        if !self.shuffle || self.ordered == Some(epoch) {
            return;
        }
        for (i, slot) in self.order.iter_mut().enumerate() {
            *slot = i as u32;
        }
        Rng::new(key(self.seed, epoch, Purpose::Order), 0).shuffle(&mut self.order);
        self.ordered = Some(epoch);
    }

    fn fill_sample(&mut self, epoch: u64, position: usize, batch: &mut Batch) -> Result<()> {
        let sample = self.dataset.row(batch.rows[position]);
        let preprocess = self.dataset.preprocess();
        for field in 0..self.dataset.fields().len() {
            self.dataset.source().read(sample, field, batch.slot(field, position)?)?;
            let is_target = self.dataset.fields()[field].name == "target";
            match batch.slot(field, position)? {
                Slot::F32(values) => {
                    if field == 0 {
                        let mut rng = Rng::new(key(self.seed, epoch, Purpose::Augment), sample as u64);
                        self.augmenter.apply(&mut rng, values);
                        preprocess.standardise.apply(values);
                    } else if is_target && let Target::Values { standardise, .. } = &preprocess.target {
                        standardise.apply(values);
                    }
                    // Without an early exit, so that the loop vectorises.
                    if !values.iter().fold(true, |ok, v| ok & v.is_finite()) {
                        return Err(self.not_finite(sample, field, values));
                    }
                }
                Slot::I64(values) => {
                    if is_target && let Some(labels) = preprocess.labels() {
                        self.check_classes(sample, values, labels.len())?;
                    }
                }
            }
        }
        Ok(())
    }

    #[cold]
    fn not_finite(&self, sample: usize, field: usize, values: &[f32]) -> Error {
        let position = values.iter().position(|v| !v.is_finite()).unwrap_or(0);
        Error::Sample {
            sample,
            field: self.dataset.fields()[field].name.clone(),
            found: format!("{} at position {position}", values[position]),
            expected: "finite numbers; remove or repair the sample".to_owned(),
        }
    }

    fn check_classes(&self, sample: usize, classes: &[i64], labels: usize) -> Result<()> {
        match classes.iter().find(|&&c| c < 0 || c >= labels as i64) {
            None => Ok(()),
            Some(class) => Err(Error::Sample {
                sample,
                field: "target".to_owned(),
                found: format!("class {class}"),
                expected: format!("0 to {}, since there are {labels} labels", labels as i64 - 1),
            }),
        }
    }
}
