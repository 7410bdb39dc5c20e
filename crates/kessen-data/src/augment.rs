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
                    let map = Affine { shift: [draw(), draw()], ..Affine::default() }.inverse(h, w);
                    self.scratch.copy_from_slice(sample);
                    warp(&self.scratch, sample, shape, border, &map);
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
                    warp(&self.scratch, sample, shape, border, &map);
                }
                Augment::Elastic { pixels, cells, border } => {
                    self.grid.draw(cells, || around(rng, pixels));
                    self.scratch.copy_from_slice(sample);
                    warp(&self.scratch, sample, shape, border, &self.grid.over(h, w));
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A 2 × 3 × 4 image whose pixels are all different.
    fn image() -> Vec<f32> {
        (1..=24).map(|v| v as f32).collect()
    }

    fn apply(step: Augment, stream: u64) -> Vec<f32> {
        let field = Field::f32("image", &[2, 3, 4]);
        let mut sample = image();
        Augmenter::new(&[step], &field).unwrap().apply(&mut Rng::new(0, stream), &mut sample);
        sample
    }

    fn affine(rotate: f32, scale: f32, shear: f32, shift: f32) -> Augment {
        Augment::Affine { rotate, scale, shear, shift, border: Border::Zero }
    }

    #[test]
    fn steps_without_an_amount_change_nothing() {
        let border = Border::Zero;
        let steps = [
            Augment::Shift { pixels: 0, border },
            Augment::Flip { probability: 0.0 },
            affine(0.0, 0.0, 0.0, 0.0),
            Augment::Elastic { pixels: 0.0, cells: 3, border },
            Augment::Cutout { size: 2, probability: 0.0 },
            Augment::Noise { std: 0.0 },
            Augment::Brightness { amount: 0.0 },
            Augment::Contrast { amount: 0.0 },
        ];
        for step in steps {
            let close = apply(step.clone(), 1).iter().zip(image()).all(|(a, b)| (a - b).abs() < 1e-4);
            assert!(close, "{step:?}");
        }
    }

    #[test]
    fn every_shift_is_reached_and_moves_whole_pixels() {
        let source = image();
        let mut seen = std::collections::BTreeSet::new();
        for stream in 0..200 {
            let out = apply(Augment::Shift { pixels: 1, border: Border::Zero }, stream);
            let shifted = |dy: isize, dx: isize| -> Vec<f32> {
                let at = |c: usize, y: isize, x: isize| match (0..3).contains(&y) && (0..4).contains(&x) {
                    true => source[c * 12 + (y * 4 + x) as usize],
                    false => 0.0,
                };
                let all = (0..24).map(|i| (i / 12, (i / 4 % 3) as isize, (i % 4) as isize));
                all.map(|(c, y, x)| at(c, y + dy, x + dx)).collect()
            };
            let found = (-1..=1)
                .flat_map(|dy| (-1..=1).map(move |dx| (dy, dx)))
                .find(|&(dy, dx)| out == shifted(dy, dx));
            seen.insert(found.expect("a shift by at most one pixel"));
        }
        assert_eq!(seen.len(), 9);
    }

    #[test]
    fn flips_exchange_left_and_right_as_often_as_asked() {
        let flipped: Vec<f32> = image().chunks(4).flat_map(|r| r.iter().rev().copied()).collect();
        let flip = Augment::Flip { probability: 0.25 };
        let count = (0..1000).filter(|&s| apply(flip.clone(), s) == flipped).count();
        let same = (0..1000).filter(|&s| apply(flip.clone(), s) == image()).count();
        assert_eq!(count + same, 1000);
        assert!((200..300).contains(&count), "{count}");
    }

    #[test]
    fn cutout_blackens_a_square_within_the_image() {
        for stream in 0..50 {
            let out = apply(Augment::Cutout { size: 2, probability: 1.0 }, stream);
            let black: Vec<usize> = (0..24).filter(|&i| out[i] == 0.0).collect();
            let planes = black.iter().filter(|&&i| i < 12).map(|i| i + 12).collect::<Vec<_>>();
            assert!(matches!(black.len(), 2 | 4 | 8) && black[black.len() / 2..] == planes, "{black:?}");
        }
    }

    #[test]
    fn noise_brightness_and_contrast_have_their_sizes() {
        let differences = |step: Augment| -> Vec<f32> {
            (0..500)
                .flat_map(|s| apply(step.clone(), s).into_iter().zip(image()).map(|(a, b)| a - b))
                .collect()
        };
        let noise = differences(Augment::Noise { std: 0.5 });
        let std = (noise.iter().map(|d| d * d).sum::<f32>() / noise.len() as f32).sqrt();
        assert!((std - 0.5).abs() < 0.02, "{std}");
        let bright = differences(Augment::Brightness { amount: 0.5 });
        let most = bright.iter().fold(0.0f32, |m, d| m.max(d.abs()));
        assert!((0.45..=0.501).contains(&most), "{most}");
        for stream in 0..20 {
            let out = apply(Augment::Contrast { amount: 0.5 }, stream);
            let (factor, mean) = ((out[23] - out[0]) / 23.0, out.iter().sum::<f32>() / 24.0);
            assert!((0.5..=1.5).contains(&factor) && (mean - 12.5).abs() < 1e-3, "{factor} {mean}");
        }
    }

    #[test]
    fn data_and_code_name_the_same_steps() {
        let cases = [
            (r#"{"kind":"crop","padding":2}"#, Augment::Shift { pixels: 2, border: Border::Zero }),
            (
                r#"{"kind":"shift","pixels":2,"border":"reflect"}"#,
                Augment::Shift { pixels: 2, border: Border::Reflect },
            ),
            (r#"{"kind":"affine","rotate":10}"#, affine(10.0, 0.0, 0.0, 0.0)),
            (r#"{"kind":"flip"}"#, Augment::Flip { probability: 0.5 }),
            (
                r#"{"kind":"elastic","pixels":1.0}"#,
                Augment::Elastic { pixels: 1.0, cells: 3, border: Border::Zero },
            ),
        ];
        for (text, step) in cases {
            assert_eq!(serde_json::from_str::<Augment>(text).unwrap(), step);
            let back = serde_json::to_string(&step).unwrap();
            assert_eq!(serde_json::from_str::<Augment>(&back).unwrap(), step);
        }
        let error = serde_json::from_str::<Augment>(r#"{"kind":"flipp"}"#).unwrap_err().to_string();
        assert!(error.contains("unknown variant `flipp`, expected one of "), "{error}");
    }
}
