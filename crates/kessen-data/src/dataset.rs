//! A data set and its splits.

use std::fmt;
use std::sync::Arc;

use kessen_tensor::{DType, Rng, Tensor};

use crate::source::Memory;
use crate::{Error, Field, Loader, Preprocess, Result, Slot, Source, Standardise, Target};

/// Samples, and how they are brought before the network. Cheap to clone: samples are shared.
#[derive(Clone)]
pub struct Dataset {
    source: Arc<dyn Source>,
    /// The source's samples that belong to this set; all where `None`.
    rows: Option<Arc<[usize]>>,
    preprocess: Arc<Preprocess>,
}

impl Dataset {
    /// The samples of `source`, brought before the network as they are.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the source has no field, or one that is neither f32 nor i64.
    pub fn new(source: impl Source + 'static) -> Result<Self> {
        if source.fields().is_empty() {
            return Err(Error::mismatch("the data set", "no field", "at least one, the input"));
        }
        if let Some(f) = source.fields().iter().find(|f| !matches!(f.dtype, DType::F32 | DType::I64)) {
            return Err(Error::mismatch(format!("field `{}`", f.name), f.dtype.name(), "f32 or i64"));
        }
        Ok(Self { source: Arc::new(source), rows: None, preprocess: Arc::default() })
    }

    /// Samples in memory: per field its name and a tensor whose first dimension counts the samples.
    ///
    /// Element types u8 (bytes become real numbers as they are), f32, f64, i32 and i64.
    ///
    /// ```
    /// use kessen_data::{Dataset, Tensor};
    ///
    /// let x = Tensor::from_vec(&[4, 2], vec![0.0f32, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0])?;
    /// let xor = Tensor::from_vec(&[4], vec![0i64, 1, 1, 0])?;
    /// let set = Dataset::from_tensors([("x", x), ("target", xor)])?.with_labels(["same", "different"])?;
    /// assert_eq!((set.len(), set.fields()[0].shape.as_slice()), (4, &[2][..]));
    /// # Ok::<(), kessen_data::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Mismatch`] where the tensors disagree on the number of samples.
    pub fn from_tensors<'a>(fields: impl IntoIterator<Item = (&'a str, Tensor)>) -> Result<Self> {
        Self::from_bytes(fields, 1.0)
    }

    /// As [`from_tensors`](Self::from_tensors), with a factor on tensors of bytes (1/255 for pixels).
    pub(crate) fn from_bytes<'a>(
        fields: impl IntoIterator<Item = (&'a str, Tensor)>,
        byte_scale: f32,
    ) -> Result<Self> {
        let parts = fields.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        Self::new(Memory::new(parts, byte_scale)?)
    }

    /// The same samples with class names.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where there is no field `target` of class numbers.
    pub fn with_labels<S: Into<String>>(self, labels: impl IntoIterator<Item = S>) -> Result<Self> {
        let labels = labels.into_iter().map(Into::into).collect();
        let target = Target::Classes { name: String::new(), labels };
        let preprocess = Preprocess { target, ..self.preprocess().clone() };
        self.with_preprocess(preprocess)
    }

    /// The same samples under another preprocessing, such as a trained model's.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where it belongs to samples of another shape or kind.
    pub fn with_preprocess(mut self, preprocess: Preprocess) -> Result<Self> {
        preprocess.check(self.source.fields())?;
        self.preprocess = Arc::new(preprocess);
        Ok(self)
    }

    /// The preprocessing with means and standard deviations of this set's input and, for a regression, target.
    ///
    /// # Errors
    /// Whatever makes a sample unreadable; [`Error::Mismatch`] for an input of integers.
    pub fn fit(&self) -> Result<Preprocess> {
        let mut preprocess = self.preprocess().clone();
        let rows = || (0..self.len()).map(|i| self.row(i));
        if self.fields()[0].dtype != DType::F32 {
            let name = &self.fields()[0].name;
            return Err(Error::mismatch(
                format!("field `{name}`"),
                "integers",
                "real numbers to standardise",
            ));
        }
        preprocess.standardise = Standardise::fit(&*self.source, rows(), 0)?;
        if let Target::Values { standardise, .. } = &mut preprocess.target
            && let Some(target) = self.fields().iter().position(|f| f.name == "target")
        {
            *standardise = Standardise::fit(&*self.source, rows(), target)?;
        }
        Ok(preprocess)
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.rows.as_ref().map_or_else(|| self.source.len(), |r| r.len())
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The parts of each sample, input first.
    pub fn fields(&self) -> &[Field] {
        self.source.fields()
    }

    /// How samples are brought before the network.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// The class names, by class number, where the target is a class.
    pub fn labels(&self) -> Option<&[String]> {
        self.preprocess.labels()
    }

    /// The samples `indices` of this set, in that order.
    ///
    /// # Errors
    /// [`Error::Option`] for an index that is not below `len()`.
    pub fn subset(&self, indices: &[usize]) -> Result<Self> {
        if let Some(&bad) = indices.iter().find(|&&i| i >= self.len()) {
            return Err(Error::option("index", bad, format!("below {}, the number of samples", self.len())));
        }
        let rows = indices.iter().map(|&i| self.row(i)).collect();
        Ok(Self { rows: Some(rows), ..self.clone() })
    }

    /// Sample `index` as the network sees it without augmentation: each field's name and tensor.
    ///
    /// # Errors
    /// [`Error::Option`] for an index that is not below `len()`; whatever makes the sample unreadable.
    pub fn sample(&self, index: usize) -> Result<Vec<(String, Tensor)>> {
        let mut loader = Loader::new(&self.subset(&[index])?, 1)?;
        let mut batch = loader.batch()?;
        loader.fill(0, 0, &mut batch)?;
        self.fields()
            .iter()
            .map(|f| Ok((f.name.clone(), batch.tensor(&f.name)?.reshaped(&f.shape)?)))
            .collect()
    }

    /// Every sample's class number, or `None` where the target is no class.
    ///
    /// # Errors
    /// Whatever makes a sample unreadable.
    pub fn classes(&self) -> Result<Option<Vec<i64>>> {
        let target = self
            .fields()
            .iter()
            .position(|f| f.name == "target" && f.dtype == DType::I64 && f.shape.is_empty());
        let Some(target) = target else { return Ok(None) };
        let mut class = [0i64];
        let read = |i: usize| {
            self.source.read(self.row(i), target, Slot::I64(&mut class))?;
            Ok(class[0])
        };
        (0..self.len()).map(read).collect::<Result<_>>().map(Some)
    }

    /// Splits off `fraction` of the samples, chosen by `seed`; of each class alike where the target is a class.
    ///
    /// Returns the rest and the part that was split off, each in the order of this set. With at least one sample
    /// and a fraction between 0 and 1, the rest is never empty.
    ///
    /// # Errors
    /// [`Error::Option`] for a fraction outside 0..1; whatever makes a sample unreadable.
    pub fn hold_out(&self, fraction: f64, seed: u64) -> Result<(Self, Self)> {
        if !(0.0..1.0).contains(&fraction) {
            return Err(Error::option("fraction", fraction, "at least 0 and below 1"));
        }
        let classes = self.classes()?.unwrap_or_default();
        let mut order = Rng::named(seed, "hold-out").permutation(self.len());
        order.sort_by_key(|&i| classes.get(i));
        // Every k-th of a list that is sorted by class takes the same share of each class, to within one sample.
        let held = (self.len() as f64 * fraction).round() as usize;
        let held = held.min(self.len().saturating_sub(1));
        let mut out = vec![false; self.len()];
        for k in 0..held {
            out[order[(2 * k + 1) * self.len() / (2 * held)]] = true;
        }
        let pick = |wanted: bool| (0..self.len()).filter(|&i| out[i] == wanted).collect::<Vec<_>>();
        Ok((self.subset(&pick(false))?, self.subset(&pick(true))?))
    }

    /// The index in the source of sample `index` of this set.
    pub(crate) fn row(&self, index: usize) -> usize {
        self.rows.as_ref().map_or(index, |r| r[index])
    }

    pub(crate) fn source(&self) -> &dyn Source {
        &*self.source
    }
}

impl fmt::Debug for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dataset")
            .field("len", &self.len())
            .field("fields", &self.fields())
            .finish_non_exhaustive()
    }
}

/// A data set's parts for learning, for choosing and for the final measurement.
#[derive(Debug, Clone)]
pub struct Splits {
    /// The data set's name.
    pub name: String,
    /// What is learned from.
    pub train: Dataset,
    /// What early stopping and the choice of the best model look at; often empty.
    pub validation: Dataset,
    /// What the final figures are measured on; empty where the data has none.
    pub test: Dataset,
    /// What a user should know, such as how many rows were left out.
    pub notes: Vec<String>,
}

impl Splits {
    /// Splits with an empty validation part, all under `train`'s preprocessing.
    ///
    /// # Errors
    /// [`Error::Empty`] where there is no training sample; [`Error::Mismatch`] where the parts' fields differ.
    pub fn new(name: &str, train: Dataset, test: Dataset) -> Result<Self> {
        if train.is_empty() {
            let hint = "the training part needs at least one";
            return Err(Error::Empty { what: name.to_owned(), hint: hint.to_owned() });
        }
        if train.fields() != test.fields() {
            return Err(Error::mismatch(
                format!("test part of {name}"),
                format!("{:?}", test.fields()),
                format!("{:?} as in training", train.fields()),
            ));
        }
        let preprocess = train.preprocess().clone();
        let validation = train.subset(&[])?;
        let test = test.with_preprocess(preprocess)?;
        Ok(Self { name: name.to_owned(), train, validation, test, notes: Vec::new() })
    }

    /// The same parts, standardised by the mean and standard deviation of the training part.
    ///
    /// # Errors
    /// Whatever makes a sample unreadable.
    pub fn standardised(self) -> Result<Self> {
        let preprocess = self.train.fit()?;
        self.with_preprocess(&preprocess)
    }

    /// The same parts under one preprocessing, such as a trained model's.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where it belongs to samples of another shape or kind.
    pub fn with_preprocess(self, preprocess: &Preprocess) -> Result<Self> {
        let under = |set: Dataset| set.with_preprocess(preprocess.clone());
        Ok(Self {
            name: self.name,
            train: under(self.train)?,
            validation: under(self.validation)?,
            test: under(self.test)?,
            notes: self.notes,
        })
    }

    /// Moves `fraction` of the training samples to the validation part, which must be empty.
    ///
    /// # Errors
    /// As [`Dataset::hold_out`]; [`Error::Option`] where there is a validation part already.
    pub fn with_validation(mut self, fraction: f64, seed: u64) -> Result<Self> {
        if !self.validation.is_empty() {
            let found = format!("{fraction} although {} has a validation part", self.name);
            return Err(Error::option("validation", found, "0, to keep the data's own"));
        }
        (self.train, self.validation) = self.train.hold_out(fraction, seed)?;
        Ok(self)
    }
}
