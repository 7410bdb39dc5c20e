//! Random changes that leave an input's meaning as it is.
//!
//! Dimensions: `C` channels, `H` rows, `W` columns. Inputs are images f32 \[C, H, W\] before standardisation, so
//! black is 0 and the pixels that come in from outside are black unless a border is named.

use kessen_tensor::{DType, Rng};
use serde::{Deserialize, Serialize};

use crate::warp::{Affine, Border, Grid, warp};
use crate::{Error, Field, Result};

/// One random change, drawn anew for each sample of each epoch.
///
/// ```
/// use kessen_data::Augment;
///
/// let step: Augment = serde_json::from_str(r#"{ "kind": "affine", "rotate": 10.0, "scale": 0.1 }"#).unwrap();
/// assert_eq!(step, Augment::Affine { rotate: 10.0, scale: 0.1, shear: 0.0, shift: 0.0, border: Default::default() });
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Augment {
    /// Moves by up to `pixels` whole pixels in each direction; the same as padding by `pixels` and cropping.
    #[serde(alias = "crop")]
    Shift {
        /// The largest distance.
        #[serde(alias = "padding")]
        pixels: usize,
        /// What comes in from outside.
        #[serde(default)]
        border: Border,
    },
    /// Exchanges left and right.
    Flip {
        /// How often, 0 to 1.
        #[serde(default = "half")]
        probability: f32,
    },
    /// Rotates, scales, shears and moves about the centre, bilinearly; each amount is uniform around none.
    Affine {
        /// The largest angle in degrees.
        #[serde(default)]
        rotate: f32,
        /// The largest change of size, as a fraction.
        #[serde(default)]
        scale: f32,
        /// The largest shear in degrees.
        #[serde(default)]
        shear: f32,
        /// The largest distance in pixels, in each direction.
        #[serde(default)]
        shift: f32,
        /// What comes in from outside.
        #[serde(default)]
        border: Border,
    },
    /// Displaces a coarse grid of points at random and everything between them smoothly along.
    Elastic {
        /// The largest displacement of a grid point in pixels, in each direction.
        pixels: f32,
        /// Cells of the grid along each side.
        #[serde(default = "three")]
        cells: usize,
        /// What comes in from outside.
        #[serde(default)]
        border: Border,
    },
    /// Blackens a square (DeVries and Taylor 2017); its centre lies anywhere in the image.
    Cutout {
        /// The square's side in pixels.
        size: usize,
        /// How often, 0 to 1.
        #[serde(default = "half")]
        probability: f32,
    },
    /// Adds normal noise to each number; works on any input, images or not.
    Noise {
        /// The noise's standard deviation.
        std: f32,
    },
    /// Adds one amount to all pixels, uniform in ±`amount`.
    Brightness {
        /// The largest amount, where white − black = 1.
        amount: f32,
    },
    /// Multiplies the distance from the image's mean by one factor, uniform in 1 ± `amount`.
    Contrast {
        /// The largest change of the factor, 0 to 1.
        amount: f32,
    },
}

fn half() -> f32 {
    0.5
}

fn three() -> usize {
    3
}

impl Augment {
    /// Each number of the step with its name and largest allowed value; the smallest is 0.
    fn settings(&self) -> Vec<(&'static str, f32, f32)> {
        match *self {
            Self::Shift { pixels, .. } => vec![("shift.pixels", pixels as f32, 1024.0)],
            Self::Flip { probability } => vec![("flip.probability", probability, 1.0)],
            Self::Affine { rotate, scale, shear, shift, .. } => vec![
                ("affine.rotate", rotate, 180.0),
                ("affine.scale", scale, 0.9),
                ("affine.shear", shear, 60.0),
                ("affine.shift", shift, 1024.0),
            ],
            Self::Elastic { pixels, cells, .. } => {
                vec![("elastic.pixels", pixels, 1024.0), ("elastic.cells", cells as f32, 64.0)]
            }
            Self::Cutout { size, probability } => {
                vec![("cutout.size", size as f32, 4096.0), ("cutout.probability", probability, 1.0)]
            }
            Self::Noise { std } => vec![("noise.std", std, 1e6)],
            Self::Brightness { amount } => vec![("brightness.amount", amount, 1e6)],
            Self::Contrast { amount } => vec![("contrast.amount", amount, 1.0)],
        }
    }
}

/// The steps, checked against the input's shape, with the memory that they need.
#[derive(Debug, Clone, Default)]
pub(crate) struct Augmenter {
    steps: Vec<Augment>,
    /// C, H, W; a flat input is 1 × 1 × F.
    shape: [usize; 3],
    scratch: Vec<f32>,
    grid: Grid,
}

impl Augmenter {
    pub(crate) fn new(steps: &[Augment], input: &Field) -> Result<Self> {
        for (name, value, most) in steps.iter().flat_map(Augment::settings) {
            if !(0.0..=most).contains(&value) {
                return Err(Error::option(name, value, format!("0 to {most}")));
            }
        }
        if steps.is_empty() {
            return Ok(Self::default());
        }
        let image = input.dtype == DType::F32 && input.shape.len() == 3;
        let any = |s: &Augment| matches!(s, Augment::Noise { .. }) && input.dtype == DType::F32;
        if let Some(step) = steps.iter().find(|s| !image && !any(s)) {
            let found = format!("{} {:?}", input.dtype, input.shape);
            let expected = format!("an image f32 [C, H, W] for {step:?}; leave this step out");
            return Err(Error::mismatch(format!("field `{}`", input.name), found, expected));
        }
        let shape =
            if image { [input.shape[0], input.shape[1], input.shape[2]] } else { [1, 1, input.len()] };
        let cells = steps.iter().map(|s| if let Augment::Elastic { cells, .. } = s { *cells } else { 0 });
        let grid = Grid::with_room(cells.max().unwrap_or(0));
        Ok(Self { steps: steps.to_vec(), shape, scratch: vec![0.0; input.len()], grid })
    }

    /// Changes one sample in place; draws only from `rng`.
    pub(crate) fn apply(&mut self, rng: &mut Rng, sample: &mut [f32]) {
        let shape @ [c, h, w] = self.shape;
        for step in &self.steps {
            match *step {
                Augment::Shift { pixels, border } => {
                    let mut draw = || rng.below(2 * pixels + 1) as f32 - pixels as f32;
                    let (dy, dx) = (draw(), draw());
                    self.scratch.copy_from_slice(sample);
                    warp(&self.scratch, sample, shape, border, |y, x| (y + dy, x + dx));
                }
                Augment::Flip { probability } => {
                    if rng.uniform() < probability {
                        sample.chunks_exact_mut(w).for_each(<[f32]>::reverse);
                    }
                }
                Augment::Affine { rotate, scale, shear, shift, border } => {
                    let map = Affine {
                        rotate: around(rng, rotate).to_radians(),
                        scale: 1.0 + around(rng, scale),
                        shear: around(rng, shear).to_radians(),
                        shift: [around(rng, shift), around(rng, shift)],
                    }
                    .inverse(h, w);
                    self.scratch.copy_from_slice(sample);
                    warp(&self.scratch, sample, shape, border, map);
                }
                Augment::Elastic { pixels, cells, border } => {
                    self.grid.draw(cells, || around(rng, pixels));
                    self.scratch.copy_from_slice(sample);
                    let grid = &self.grid;
                    warp(&self.scratch, sample, shape, border, |y, x| grid.displaced(y, x, h, w));
                }
                Augment::Cutout { size, probability } => {
                    let hit = rng.uniform() < probability;
                    let (y, x) = (rng.below(h), rng.below(w));
                    if hit {
                        let rows = y.saturating_sub(size / 2)..(y + size.div_ceil(2)).min(h);
                        let columns = x.saturating_sub(size / 2)..(x + size.div_ceil(2)).min(w);
                        for row in (0..c).flat_map(|c| rows.clone().map(move |y| c * h + y)) {
                            sample[row * w..][columns.clone()].fill(0.0);
                        }
                    }
                }
                Augment::Noise { std } => {
                    sample.iter_mut().for_each(|v| *v += std * rng.normal() as f32);
                }
                Augment::Brightness { amount } => {
                    let amount = around(rng, amount);
                    sample.iter_mut().for_each(|v| *v += amount);
                }
                Augment::Contrast { amount } => {
                    let factor = 1.0 + around(rng, amount);
                    let mean = sample.iter().sum::<f32>() / sample.len().max(1) as f32;
                    sample.iter_mut().for_each(|v| *v = mean + (*v - mean) * factor);
                }
            }
        }
    }
}

/// Uniform in ±`most`.
fn around(rng: &mut Rng, most: f32) -> f32 {
    (2.0 * rng.uniform() - 1.0) * most
}
