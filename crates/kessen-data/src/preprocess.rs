//! What stands between a raw input and the network, as data that a model file carries.

use kessen_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::{Error, Field, Picture, Result, Slot, Source};

/// How raw inputs become the network's numbers and its numbers become answers.
///
/// It is fitted on training samples only, goes into the model file as JSON, and is applied unchanged to a raw
/// image or table row at prediction. The rejected alternative, standardising files when they are read, would leave
/// a model that only works beside the data it was trained on.
///
/// ```
/// use kessen_data::{Preprocess, data};
///
/// let digits = data::digits()?;
/// let json = serde_json::to_string(digits.train.preprocess()).unwrap();
/// let back: Preprocess = serde_json::from_str(&json).unwrap();
/// assert_eq!(&back, digits.test.preprocess());
/// assert_eq!(back.labels().unwrap()[7], "7");
/// # Ok::<(), kessen_data::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preprocess {
    /// What a raw input looks like.
    pub input: Input,
    /// Mean and standard deviation of each channel or feature of the input.
    #[serde(default, skip_serializing_if = "Standardise::is_identity")]
    pub standardise: Standardise,
    /// What the network answers.
    #[serde(default)]
    pub target: Target,
}

/// What a raw input looks like.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Input {
    /// Numbers as they are.
    #[default]
    Array,
    /// An image file, brought to one size; black is 0 and white is 1 before standardisation.
    Image(ImageInput),
    /// A row of a table, without the target.
    Table {
        /// The columns in the network's order.
        columns: Vec<Column>,
    },
}

/// The size and colours that every image is brought to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageInput {
    /// 1 for grey, 3 for RGB.
    pub channels: usize,
    /// Rows of pixels.
    pub height: usize,
    /// Columns of pixels.
    pub width: usize,
    /// What happens to an image of other proportions.
    #[serde(default)]
    pub fit: Fit,
}

impl ImageInput {
    /// Whether images can be brought to this size; a model file may ask for anything.
    pub(crate) fn check(&self) -> Result<()> {
        let Self { channels, height, width, .. } = *self;
        if !matches!(channels, 1 | 3) {
            return Err(Error::option("channels", channels, "1 for grey or 3 for RGB"));
        }
        if !(1..=4096).contains(&height) || !(1..=4096).contains(&width) {
            return Err(Error::option("image size", format!("{height} × {width}"), "1 to 4096 each way"));
        }
        Ok(())
    }
}

/// How an image of other proportions comes to the network's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// Both sides are scaled, each by its own factor.
    #[default]
    Stretch,
    /// Scaled until the shorter side fits, then cut at the centre.
    Crop,
    /// Scaled until the longer side fits, then padded with black on both sides.
    Pad,
}

/// One column of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// The name in the table's head.
    pub name: String,
    /// A nominal column's values, each becoming one feature that is 0 or 1; empty for a column of numbers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

impl Column {
    /// Features that the column becomes.
    pub fn features(&self) -> usize {
        self.values.len().max(1)
    }
}

/// What the network answers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Target {
    /// Nothing that has a name.
    #[default]
    Unnamed,
    /// One of several classes.
    Classes {
        /// The column's name; empty where the data has none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        name: String,
        /// The classes' names, by class number.
        labels: Vec<String>,
    },
    /// Real numbers.
    Values {
        /// What each number is.
        names: Vec<String>,
        /// Mean and standard deviation of each; the network learns the standardised values.
        #[serde(default, skip_serializing_if = "Standardise::is_identity")]
        standardise: Standardise,
    },
}

/// z = (v − mean) / std, per index of the first dimension (channel, feature), or with one pair for all.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardise {
    /// The means; empty leaves values as they are.
    pub mean: Vec<f32>,
    /// The standard deviations, positive.
    pub std: Vec<f32>,
}

impl Standardise {
    /// Whether values stay as they are.
    pub fn is_identity(&self) -> bool {
        self.mean.is_empty()
    }

    /// Standardises one sample in place.
    pub fn apply(&self, sample: &mut [f32]) {
        self.each(sample, |v, mean, std| (v - mean) / std);
    }

    /// The inverse of [`apply`](Self::apply): the network's numbers in the data's own units.
    pub fn undo(&self, sample: &mut [f32]) {
        self.each(sample, |z, mean, std| z * std + mean);
    }

    fn each(&self, sample: &mut [f32], f: impl Fn(f32, f32, f32) -> f32) {
        if self.is_identity() || sample.is_empty() {
            return;
        }
        let chunk = sample.len().div_ceil(self.mean.len());
        for ((values, &mean), &std) in sample.chunks_mut(chunk).zip(&self.mean).zip(&self.std) {
            for v in values {
                *v = f(*v, mean, std);
            }
        }
    }

    /// Mean and standard deviation of field `field` over `rows` of `source`, per index of the first dimension.
    ///
    /// A channel or feature that is constant gets the standard deviation 1.
    pub(crate) fn fit(source: &dyn Source, rows: impl Iterator<Item = usize>, field: usize) -> Result<Self> {
        let shape = &source.fields()[field].shape;
        let groups = shape.first().copied().unwrap_or(1).max(1);
        let n = source.fields()[field].len();
        let mut sample = vec![0.0f32; n];
        let (mut count, mut mean, mut square) = (0.0f64, vec![0.0f64; groups], vec![0.0f64; groups]);
        for row in rows {
            source.read(row, field, Slot::F32(&mut sample))?;
            count += 1.0;
            for (g, values) in sample.chunks(n.div_ceil(groups).max(1)).enumerate() {
                let size = values.len() as f64;
                let m = values.iter().map(|&v| f64::from(v)).sum::<f64>() / size;
                // Welford's update with samples as blocks: one pass, no cancellation.
                let within = values.iter().map(|&v| (f64::from(v) - m).powi(2)).sum::<f64>() / size;
                let delta = m - mean[g];
                mean[g] += delta / count;
                square[g] += within + delta * (m - mean[g]);
            }
        }
        let std = square.iter().map(|s| (s / count.max(1.0)).sqrt());
        Ok(Self {
            std: std.map(|s| if s > 1e-12 { s as f32 } else { 1.0 }).collect(),
            mean: mean.iter().map(|&m| m as f32).collect(),
        })
    }

    pub(crate) fn check(&self, field: &Field) -> Result<()> {
        let n = self.mean.len();
        let groups = field.shape.first().copied().unwrap_or(1);
        let what = || format!("standardisation of field `{}`", field.name);
        if n != self.std.len() || !(n == 0 || n == 1 || n == groups) {
            return Err(Error::mismatch(
                what(),
                format!("{n} means and {} standard deviations", self.std.len()),
                format!("1 or {groups} of each, for samples of shape {:?}", field.shape),
            ));
        }
        if self.std.iter().any(|&s| s.is_nan() || s <= 0.0) || self.mean.iter().any(|m| !m.is_finite()) {
            return Err(Error::mismatch(
                what(),
                format!("mean {:?}, std {:?}", self.mean, self.std),
                "finite means and positive standard deviations",
            ));
        }
        Ok(())
    }
}

impl Preprocess {
    /// The class names, by class number, where the target is a class.
    pub fn labels(&self) -> Option<&[String]> {
        match &self.target {
            Target::Classes { labels, .. } => Some(labels),
            _ => None,
        }
    }

    /// The features' names in the network's order, where they have any: `width`, and `sex=M` for one value of a
    /// nominal column.
    pub fn feature_names(&self) -> Option<Vec<String>> {
        let Input::Table { columns } = &self.input else { return None };
        let mut names = Vec::new();
        for column in columns {
            match column.values.is_empty() {
                true => names.push(column.name.clone()),
                false => names.extend(column.values.iter().map(|v| format!("{}={v}", column.name))),
            }
        }
        Some(names)
    }

    /// The network's input f32 \[1, C, H, W\] for one image file's bytes; `name` stands for the file in messages.
    ///
    /// # Errors
    /// Those of [`Picture::decode`]; [`Error::Mismatch`] where the network takes no images.
    pub fn image(&self, bytes: &[u8], name: &str) -> Result<Tensor> {
        let Input::Image(input) = &self.input else {
            let expected = "an input as in training; this model takes no images";
            return Err(Error::mismatch(name, "an image", expected));
        };
        input.check()?;
        let shape = [input.channels, input.height, input.width];
        self.standardise.check(&Field::f32(name, &shape))?;
        let mut values = Picture::decode(bytes, name)?.to_values(input);
        self.standardise.apply(&mut values);
        Ok(Tensor::from_vec(&[1, shape[0], shape[1], shape[2]], values)?)
    }

    /// The names of a target of real numbers, and how to bring it back to the data's own units.
    pub fn values(&self) -> Option<(&[String], &Standardise)> {
        match &self.target {
            Target::Values { names, standardise } => Some((names, standardise)),
            _ => None,
        }
    }

    /// Whether it fits samples of these fields.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with what was found and expected.
    pub(crate) fn check(&self, fields: &[Field]) -> Result<()> {
        let Some(input) = fields.first() else { return Ok(()) };
        self.standardise.check(input)?;
        if !self.standardise.is_identity() && input.dtype != DType::F32 {
            return Err(Error::mismatch(
                format!("standardisation of field `{}`", input.name),
                "integers",
                "real numbers, or no standardisation",
            ));
        }
        let shape = match &self.input {
            Input::Image(i) => Some(vec![i.channels, i.height, i.width]),
            Input::Table { columns } => Some(vec![columns.iter().map(Column::features).sum()]),
            Input::Array => None,
        };
        if let Some(shape) = shape.filter(|s| *s != input.shape) {
            let found = format!("samples of shape {:?}", input.shape);
            return Err(Error::mismatch(
                format!("field `{}`", input.name),
                found,
                format!("{shape:?} as the preprocessing says"),
            ));
        }
        self.check_target(fields)
    }

    fn check_target(&self, fields: &[Field]) -> Result<()> {
        let Some(target) = fields.iter().find(|f| f.name == "target") else { return Ok(()) };
        let found = || format!("{} {:?}", target.dtype, target.shape);
        match &self.target {
            Target::Classes { .. } if target.dtype != DType::I64 => {
                Err(Error::mismatch("field `target`", found(), "i64 class numbers"))
            }
            Target::Values { names, .. } if target.dtype != DType::F32 || names.len() != target.len() => {
                Err(Error::mismatch("field `target`", found(), format!("f32 [{}]", names.len())))
            }
            Target::Values { standardise, .. } => standardise.check(target),
            _ => Ok(()),
        }
    }
}
