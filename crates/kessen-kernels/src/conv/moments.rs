//! Mean and variance of each output channel, taken from the results while they are in cache.
//!
//! Each task takes the moments of its own pixels after it has computed them and leaves them as a *partial*; partials are
//! joined in the order of tasks. Pixels are visited twice, some hundred at a time, for their mean and for their deviations
//! from it, and joined in f64 by Chan's formula (Chan, Golub and LeVeque, 1979): no digit is lost where the mean is much
//! larger than the deviation. Rejected: sums and sums of squares in the kernels' registers, which would lose them.

use super::desc::ConvDesc;
use crate::isa::Isa;
use crate::micro::PANEL;
use crate::simd::{Float, Simd, kernel};

/// Number, mean (in two parts) and sum of squared deviations of sixteen channels.
const PARTIAL: usize = 4 * PANEL;
/// Runs of pixels that are visited together at most, and the pixels from which on they are.
const RUNS: usize = 64;
const PIXELS: usize = 192;

/// One number per channel of a panel.
type Lanes = [f32; PANEL];

/// Length of the statistics of a convolution: the means of its output channels, then their biased variances, each
/// [`ConvDesc::bias_len`] elements.
pub fn statistics_len(desc: &ConvDesc) -> usize {
    2 * desc.bias_len()
}

/// Moments of sixteen channels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moments {
    count: f64,
    mean: [f64; PANEL],
    squares: [f64; PANEL],
}

impl Moments {
    /// Of no pixels.
    pub const NONE: Moments = Moments { count: 0.0, mean: [0.0; PANEL], squares: [0.0; PANEL] };

    /// Joins the moments of `count` further pixels, whose mean comes as a number and what rounding left of it.
    fn join(&mut self, count: f64, [mean, rest, squares]: [&Lanes; 3]) {
        if count == 0.0 {
            return;
        }
        let total = self.count + count;
        let (share, weight) = (count / total, self.count * (count / total));
        for lane in 0..PANEL {
            let delta = f64::from(mean[lane]) + f64::from(rest[lane]) - self.mean[lane];
            self.mean[lane] += delta * share;
            self.squares[lane] += f64::from(squares[lane]) + delta * delta * weight;
        }
        self.count = total;
    }

    /// Takes in runs of pixels.
    pub fn add<'a>(&mut self, runs: impl Iterator<Item = &'a [f32]>) {
        let isa = Isa::active();
        let (mut held, mut used, mut pixels) = ([[].as_slice(); RUNS], 0, 0);
        let mut flush = |held: &[&[f32]], pixels: usize| {
            self.join(pixels as f64, deviations(isa, held).each_ref());
        };
        for run in runs {
            (held[used], used, pixels) = (run, used + 1, pixels + run.len() / PANEL);
            if used == RUNS || pixels >= PIXELS {
                flush(&held[..used], pixels);
                (used, pixels) = (0, 0);
            }
        }
        if pixels > 0 {
            flush(&held[..used], pixels);
        }
    }
}

/// Where tasks leave their partials: number `index` of a task and panel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partials(*mut f32);

impl Partials {
    /// Floats that `count` partials take.
    pub const fn len(count: usize) -> usize {
        count * PARTIAL
    }

    /// In `room`, which must hold [`Self::len`] floats.
    pub fn new(room: &mut [f32]) -> Partials {
        Partials(room.as_mut_ptr())
    }

    /// # Safety
    /// The partial lies in the room, and no one else reaches it meanwhile.
    pub unsafe fn put(self, index: usize, moments: &Moments) {
        // SAFETY: the caller's promise.
        let place = unsafe { std::slice::from_raw_parts_mut(self.0.add(index * PARTIAL), PARTIAL) };
        for lane in 0..PANEL {
            place[lane] = moments.count as f32;
            let mean = moments.mean[lane] as f32;
            place[PANEL + lane] = mean;
            place[2 * PANEL + lane] = (moments.mean[lane] - f64::from(mean)) as f32;
            place[3 * PANEL + lane] = moments.squares[lane] as f32;
        }
    }
}

/// Joins partials, which lie `[part][panel]`, into statistics (see [`statistics_len`]).
pub(super) fn finish(partials: &[f32], panels: usize, statistics: &mut [f32]) {
    let (means, variances) = statistics.split_at_mut(panels * PANEL);
    for panel in 0..panels {
        let mut all = Moments::NONE;
        for part in partials.as_chunks::<PARTIAL>().0.iter().skip(panel).step_by(panels) {
            let [count, moments @ ..] = [0, 1, 2, 3].map(|k| &part.as_chunks::<PANEL>().0[k]);
            all.join(f64::from(count[0]), moments);
        }
        for lane in 0..PANEL {
            means[panel * PANEL + lane] = all.mean[lane] as f32;
            variances[panel * PANEL + lane] = (all.squares[lane] / all.count) as f32;
        }
    }
}

kernel! {
    /// Mean, what rounding left of it, and sum of squared deviations of each lane over the vectors of all runs, of which
    /// there must be some.
    fn deviations(runs: &[&[f32]]) -> [Lanes; 3] = deviations_with;
}

#[inline(always)]
fn deviations_with<S: Simd>(s: S, runs: &[&[f32]]) -> [Lanes; 3] {
    let count: usize = runs.iter().map(|run| run.len() / PANEL).sum();
    let share = s.splat(1.0 / count as f32);
    let [mut a, mut b, mut c, mut d] = [s.splat(0.0); 4];
    for run in runs {
        for v in run.as_chunks::<PANEL>().0 {
            (a, b, c, d) = (b, c, d, a + s.load(v));
        }
    }
    let mean = ((a + b) + (c + d)) * share;
    let [mut left, mut left2, mut a, mut b] = [s.splat(0.0); 4];
    for run in runs {
        for v in run.as_chunks::<PANEL>().0 {
            let d = s.load(v) - mean;
            (left, left2) = (left2, left + d);
            (a, b) = (b, d.mul_add(d, a));
        }
    }
    let left = left + left2;
    let squares = (a + b) - left * left * share;
    [mean.array(), (left * share).array(), squares.array()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_runs_are_those_of_all_their_pixels() {
        for isa in Isa::available() {
            let x: Vec<f32> = (0..700 * PANEL).map(|i| 1000.0 + (i * 7919 % 997) as f32 / 500.0).collect();
            let mut moments = Moments::NONE;
            let (first, rest) = x.split_at(300 * PANEL);
            let runs = first.chunks(5 * PANEL).chain(rest.chunks(77 * PANEL));
            crate::isa::with(isa, || moments.add(runs));
            assert_eq!(moments.count, 700.0);
            for lane in 0..PANEL {
                let v: Vec<f64> = x.iter().skip(lane).step_by(PANEL).map(|&v| f64::from(v)).collect();
                let mean = v.iter().sum::<f64>() / 700.0;
                let squares = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>();
                assert!((moments.mean[lane] - mean).abs() < 1e-6, "{isa}: {} {mean}", moments.mean[lane]);
                let off = (moments.squares[lane] / squares - 1.0).abs();
                assert!(off < 3e-7, "{isa}: {} {squares}", moments.squares[lane]);
            }
        }
    }

    #[test]
    fn partials_are_joined_whatever_their_sizes() {
        let x: Vec<f32> = (0..100 * PANEL).map(|i| (i % 37) as f32 - 5.0).collect();
        let mut room = vec![f32::NAN; Partials::len(6)];
        let places = Partials::new(&mut room);
        for (index, part) in [0..10, 10..10, 10..100].into_iter().enumerate() {
            let mut moments = Moments::NONE;
            moments.add(std::iter::once(&x[part.start * PANEL..part.end * PANEL]).filter(|r| !r.is_empty()));
            // SAFETY: six partials fit.
            unsafe {
                places.put(2 * index, &Moments::NONE);
                places.put(2 * index + 1, &moments);
            }
        }
        let mut statistics = vec![f32::NAN; 4 * PANEL];
        finish(&room, 2, &mut statistics);
        for lane in 0..PANEL {
            let v: Vec<f64> = x.iter().skip(lane).step_by(PANEL).map(|&v| f64::from(v)).collect();
            let mean = v.iter().sum::<f64>() / 100.0;
            let variance = v.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 100.0;
            assert!((f64::from(statistics[PANEL + lane]) - mean).abs() < 1e-5);
            assert!((f64::from(statistics[3 * PANEL + lane]) / variance - 1.0).abs() < 1e-6);
        }
    }
}
