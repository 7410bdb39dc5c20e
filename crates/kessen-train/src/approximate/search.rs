//! From first values to a fit.

use super::least_squares::{Normal, solve};
use super::samples::{Samples, inside, outside, sigmoids};
use super::{Fit, Perceptron, Snapshot, Unit};

/// Multiply-adds that Levenberg and Marquardt's method may take for one start.
const BUDGET: f64 = 1.5e9;
/// Its steps at most.
const STEPS: usize = 200;
/// Weight of |v|² beside the mean squared error while the units move.
const RIDGE: f64 = 1e-12;
/// Up to this width every start is followed to its end, up to eight times of it three, beyond that the most promising.
const SMALL: usize = 16;
/// Points that a fit is measured on.
const POINTS: usize = 10_001;

/// A perceptron under way, in normalised coordinates.
pub(super) struct Search<'s> {
    samples: &'s Samples,
    f: &'s dyn Fn(f64) -> f64,
    domain: [f64; 2],
    perceptron: Perceptron,
    /// Mean of r², and RIDGE·|v|².
    cost: f64,
    worst: f64,
    snapshots: Vec<Snapshot>,
    best: Option<Fit>,
}

impl<'s> Search<'s> {
    /// The best fit of `units` units, grown from `before` and spread anew.
    pub(super) fn run(
        samples: &'s Samples,
        f: &'s dyn Fn(f64) -> f64,
        domain: [f64; 2],
        units: usize,
        before: Option<&Perceptron>,
    ) -> Fit {
        let mut starts = Vec::new();
        let start = |perceptron, stage: &str| {
            let mut search = Self {
                samples,
                f,
                domain,
                perceptron,
                cost: 0.0,
                worst: 0.0,
                snapshots: Vec::new(),
                best: None,
            };
            search.measure();
            search.keep(stage);
            search
        };
        if let Some(before) = before {
            for steepness in [1.5, 4.0] {
                starts.push(start(grown(samples, domain, units, before, steepness), "grown"));
            }
        }
        let (bents, steep): (&[f64], &[f64]) =
            if units <= 128 { (&[0.0, 0.5, 0.9], &[1.0, 2.0, 4.0]) } else { (&[0.5], &[2.0]) };
        for &bent in bents {
            for &steepness in steep {
                starts.push(start(sigmoids(&samples.bends(units, bent), steepness), "spread"));
            }
        }
        for search in &mut starts {
            search.candidate();
            search.output_layer(RIDGE, None);
            search.keep("least squares");
        }
        starts.sort_by(|a, b| a.cost.total_cmp(&b.cost));
        let followed = match units {
            0..=SMALL => starts.len(),
            _ if units <= 8 * SMALL => 3,
            _ => 1,
        };
        for search in starts.iter_mut().take(followed) {
            search.levenberg_marquardt();
            search.polish();
        }
        let finished = starts.into_iter().filter_map(|s| s.best.map(|best| (best, s.snapshots)));
        let best = finished.min_by(|a, b| a.0.score().total_cmp(&b.0.score()));
        let (mut fit, mut snapshots) =
            best.unwrap_or_else(|| (measured(f, domain, &flat(samples, units)), Vec::new()));
        let (perceptron, worst) = (fit.perceptron.clone(), fit.worst);
        snapshots.push(Snapshot { stage: "done".to_owned(), perceptron, worst });
        fit.snapshots = snapshots;
        fit
    }

    fn outside(&self) -> Perceptron {
        outside(&self.perceptron, self.samples.mean, self.samples.scale, self.domain)
    }

    fn keep(&mut self, stage: &str) {
        let (perceptron, worst) = (self.outside(), self.worst * self.samples.scale);
        self.snapshots.push(Snapshot { stage: stage.to_owned(), perceptron, worst });
    }

    /// Measures the perceptron with parameters in f32 and keeps it where it is the best so far.
    fn candidate(&mut self) {
        let fit = measured(self.f, self.domain, &self.outside());
        if fit.score().is_finite() && self.best.as_ref().is_none_or(|b| fit.score() < b.score()) {
            self.best = Some(fit);
        }
    }

    /// Cost and worst error of the perceptron as it is.
    fn measure(&mut self) {
        let (mut sum, mut worst) = (0.0, 0.0f64);
        for (t, y) in self.samples.t.iter().zip(&self.samples.y) {
            let r = self.perceptron.at(*t) - y;
            sum += r * r;
            worst = worst.max(r.abs());
        }
        let size: f64 = self.perceptron.units.iter().map(|u| u.v * u.v).sum();
        (self.cost, self.worst) = (sum / self.samples.t.len() as f64 + RIDGE * size, worst);
    }

    /// v and c that minimise the mean of weight·r², plus ridge·|v|².
    fn output_layer(&mut self, ridge: f64, weights: Option<&[f64]>) {
        let normal = self.output_normal(weights);
        self.solve_output(&normal, ridge);
    }

    fn output_normal(&self, weights: Option<&[f64]>) -> Normal {
        let h = self.perceptron.units.len();
        let mut normal = Normal::new(h + 1);
        for (n, (t, y)) in self.samples.t.iter().zip(&self.samples.y).enumerate() {
            let root = weights.map_or(1.0, |w| w[n].sqrt());
            let row = normal.row(root * y);
            for (slot, unit) in row.iter_mut().zip(&self.perceptron.units) {
                *slot = root * unit.basis(*t);
            }
            row[h] = root;
        }
        normal.finish()
    }

    fn solve_output(&mut self, normal: &Normal, ridge: f64) {
        let h = self.perceptron.units.len();
        let damping = vec![ridge * self.samples.t.len() as f64; h + 1];
        if let Some(solution) = solve(normal, &damping) {
            for (unit, v) in self.perceptron.units.iter_mut().zip(&solution) {
                unit.v = *v;
            }
            self.perceptron.c = solution[h];
        }
        self.measure();
    }

    /// JᵀJ and Jᵀr with the ridge's part; parameters in the order w, b, v, c.
    fn curvature(&self) -> Normal {
        let units = &self.perceptron.units;
        let h = units.len();
        let mut normal = Normal::new(3 * h + 1);
        let mut basis = vec![0.0; h];
        for (&t, &y) in self.samples.t.iter().zip(&self.samples.y) {
            let mut r = self.perceptron.c - y;
            for (s, unit) in basis.iter_mut().zip(units) {
                *s = unit.basis(t);
                r += unit.v * *s;
            }
            let row = normal.row(-r);
            for (i, (s, unit)) in basis.iter().zip(units).enumerate() {
                let db = unit.v * s * (1.0 - s);
                row[i] = db * t;
                row[h + i] = db;
                row[2 * h + i] = *s;
            }
            row[3 * h] = 1.0;
        }
        let mut normal = normal.finish();
        let ridge = RIDGE * self.samples.t.len() as f64;
        for (i, unit) in units.iter().enumerate() {
            normal.add(2 * h + i, ridge, -ridge * unit.v);
        }
        normal
    }

    fn moved(&self, step: &[f64]) -> Perceptron {
        let h = self.perceptron.units.len();
        let unit = |(i, u): (usize, &Unit)| Unit {
            w: u.w + step[i],
            b: u.b + step[h + i],
            v: u.v + step[2 * h + i],
        };
        let units = self.perceptron.units.iter().enumerate().map(unit).collect();
        Perceptron { units, c: self.perceptron.c + step[3 * h] }
    }

    /// Steps of (JᵀJ + μ·diag JᵀJ)·δ = −Jᵀr; μ falls where a step helps and rises where it does not.
    fn levenberg_marquardt(&mut self) {
        let (n, p) = (self.samples.t.len() as f64, (3 * self.perceptron.units.len() + 1) as f64);
        let steps = ((BUDGET / (n * p * p / 2.0 + p * p * p / 3.0)) as usize).min(STEPS);
        if steps == 0 {
            return;
        }
        let (mut mu, mut rise) = (1e-3, 2.0);
        let mut normal = self.curvature();
        for step in 1..=steps {
            let damping: Vec<f64> = normal.diagonal().map(|d| mu * d.max(1e-12) + 1e-13 * n).collect();
            let before = (self.perceptron.clone(), self.cost, self.worst);
            if let Some(delta) = solve(&normal, &damping) {
                self.perceptron = self.moved(&delta);
                self.measure();
            }
            if self.cost.is_finite() && self.cost < before.1 {
                let gain = 1.0 - self.cost / before.1;
                (mu, rise) = ((mu / 3.0).max(1e-12), 2.0);
                if step.is_power_of_two() {
                    self.keep(&format!("step {step}"));
                }
                if self.worst < 1e-7 || gain < 1e-7 && mu < 1e-6 {
                    break;
                }
                normal = self.curvature();
            } else {
                (self.perceptron, self.cost, self.worst) = before;
                (mu, rise) = (mu * rise, rise * 2.0);
                if mu > 1e10 {
                    break;
                }
            }
        }
        self.candidate();
    }

    /// With w and b as f32 keeps them: v and c anew under several ridges, since large v that cancel lose their
    /// digits in f32; then under Lawson's weights.
    fn polish(&mut self) {
        self.perceptron = self.rounded_units();
        let normal = self.output_normal(None);
        let mut best = (f64::INFINITY, RIDGE);
        for ridge in [1e-14, 1e-12, 1e-11, 1e-10, 1e-9, 1e-8, 1e-7] {
            self.solve_output(&normal, ridge);
            let score = measured(self.f, self.domain, &self.outside()).score();
            if score < best.0 {
                best = (score, ridge);
            }
        }
        self.solve_output(&normal, best.1);
        self.candidate();
        self.reweight(best.1);
    }

    fn rounded_units(&self) -> Perceptron {
        let rounded = self.outside().rounded();
        inside(&rounded, self.samples.mean, self.samples.scale, self.domain)
    }

    /// Lawson's iteration: points weigh in proportion to their error, so that the worst errors level out.
    fn reweight(&mut self, ridge: f64) {
        let n = self.samples.t.len();
        let h = self.perceptron.units.len();
        let rounds = ((BUDGET / 2.0 / (n * h * h) as f64) as usize).min(20);
        let mut weights = vec![1.0; n];
        for _ in 0..rounds {
            let error = |i: usize| (self.perceptron.at(self.samples.t[i]) - self.samples.y[i]).abs();
            let errors: Vec<f64> = (0..n).map(error).collect();
            let total: f64 = errors.iter().zip(&weights).map(|(e, w)| e * w).sum::<f64>() / n as f64;
            if total <= 0.0 {
                break;
            }
            weights.iter_mut().zip(&errors).for_each(|(w, e)| *w *= e / total);
            self.output_layer(ridge, Some(&weights));
            self.candidate();
        }
    }
}

impl Fit {
    /// What fits are compared by.
    fn score(&self) -> f64 {
        self.worst + self.rms
    }
}

/// `before` with new units of no weight where its error is largest.
fn grown(
    samples: &Samples,
    domain: [f64; 2],
    units: usize,
    before: &Perceptron,
    steepness: f64,
) -> Perceptron {
    let mut perceptron = inside(before, samples.mean, samples.scale, domain);
    let error = |(t, y): (&f64, &f64)| (perceptron.at(*t) - y).abs();
    let density: Vec<f64> = samples.t.iter().zip(&samples.y).map(error).collect();
    let places = samples.places(units - before.units.len(), &density, 0.7);
    let scale = units as f64 / places.len() as f64;
    perceptron.units.extend(sigmoids(&places, steepness * scale).units);
    perceptron
}

/// The constant function.
fn flat(samples: &Samples, units: usize) -> Perceptron {
    let unit = Unit { w: 0.0, b: 0.0, v: 0.0 };
    Perceptron { units: vec![unit; units], c: samples.mean }
}

/// A perceptron with parameters in f32, measured.
fn measured(f: &dyn Fn(f64) -> f64, [a, b]: [f64; 2], perceptron: &Perceptron) -> Fit {
    let perceptron = perceptron.rounded();
    let (mut sum, mut worst) = (0.0, 0.0f64);
    for i in 0..POINTS {
        let x = a + (b - a) * i as f64 / (POINTS - 1) as f64;
        let e = (perceptron.at(x) - f(x)).abs();
        sum += e * e;
        worst = if e.is_nan() { f64::NAN } else { worst.max(e) };
    }
    Fit { perceptron, worst, rms: (sum / POINTS as f64).sqrt(), snapshots: Vec::new() }
}
