//! Lesson 10: exact sums and fast ones. Winograd's algorithm computes 3×3 convolutions with a quarter of the
//! multiplications and another rounding. Does learning notice?
//!
//! Every seed is trained in both precisions; what the precision changes is held against what the seed changes.
//!
//! `cargo run --release -p kessen --example 10_precision` learns the digits in the binary for a few seconds,
//! `… --example 10_precision -- FOLDER [PICTURE]` CIFAR-10, from a folder with the files of its binary version, for some
//! minutes.

use std::path::PathBuf;

use kessen::prelude::*;
use kessen::view::{Axis, Mark, Panels, Scale, Series, XyChart};

/// A run's curves, one figure for each epoch.
struct Curves {
    loss: Vec<f64>,
    accuracy: Vec<f64>,
    seconds: f64,
}

const PRECISIONS: [Precision; 2] = [Precision::Exact, Precision::Fast];

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (mut splits, net, epochs, seeds) = match arguments.next() {
        Some(folder) => (data::cifar10(folder)?, net([3, 32, 32], &[32, 64, 128])?, 10, 3),
        None => (data::digits()?, net([1, 8, 8], &[32])?, 3, 2),
    };
    let picture = arguments.next().unwrap_or_else(|| std::env::temp_dir().join("kessen-precision.png"));
    // Measured after each epoch and used for nothing else.
    splits.validation = splits.test.clone();
    println!("{}: {} images, {} held out", splits.name, splits.train.len(), splits.test.len());
    println!("seed  precision  loss of the last epoch  accuracy held out  seconds");
    let mut runs: [Vec<Curves>; 2] = [Vec::new(), Vec::new()];
    for seed in 1..=seeds {
        for (precision, runs) in PRECISIONS.into_iter().zip(&mut runs) {
            let run = train(&net, &splits, precision, seed, epochs)?;
            let (loss, accuracy) = (run.loss[epochs - 1], run.accuracy[epochs - 1]);
            println!("{seed:>4}  {precision:<9}  {loss:>22.4}  {accuracy:>15.2} %  {:>7.1}", run.seconds);
            runs.push(run);
        }
    }
    compare(&runs, epochs);
    draw(&splits.name, &runs).save(&picture)?;
    println!("drawn into {}", picture.display());
    Ok(())
}

/// Two 3×3 convolutions for each number of filters, then half the size; one fully connected layer.
fn net([channels, height, width]: [usize; 3], filters: &[usize]) -> Result<Graph> {
    let net = Graph::build("cnn", |g| {
        let mut h = g.input("image", shape!["batch", channels, height, width]);
        for (stage, &filters) in filters.iter().enumerate() {
            for layer in ["a", "b"] {
                let path = format!("conv{stage}{layer}");
                h = h
                    .conv(&path, conv(filters, 3).padding(1).no_bias())
                    .batch_norm(&format!("{path}.bn"))
                    .relu();
            }
            h = h.max_pool(2);
        }
        h.flatten().linear("out", 10)
    })?;
    Ok(net)
}

fn train(net: &Graph, splits: &Splits, precision: Precision, seed: u64, epochs: usize) -> Result<Curves> {
    let trainer =
        Trainer::new(net).loss(cross_entropy()).optimizer(adamw(3e-3)).schedule(Schedule::one_cycle());
    let shift = Augment::Shift { pixels: 1, border: Default::default() };
    let model = trainer.augment(&[shift]).epochs(epochs).seed(seed).precision(precision).fit(splits)?;
    let epochs = &model.history.epochs;
    let accuracy = epochs.iter().map(|e| e.validation.as_ref().map_or(f64::NAN, |v| 100.0 * v.accuracy));
    Ok(Curves {
        loss: epochs.iter().map(|e| e.train.loss).collect(),
        accuracy: accuracy.collect(),
        seconds: epochs.last().map_or(0.0, |e| e.seconds),
    })
}

/// Mean and standard deviation of the seeds for every epoch, and how far the precisions' means are apart.
fn compare([exact, fast]: &[Vec<Curves>; 2], epochs: usize) {
    println!("\nmeans of the seeds ± their standard deviation");
    println!("epoch     loss, exact      loss, fast  accuracy, exact   accuracy, fast");
    let mut shares = [0.0; 2];
    for epoch in 0..epochs {
        let loss = |runs: &[Curves]| moments(runs.iter().map(|r| r.loss[epoch]));
        let accuracy = |runs: &[Curves]| moments(runs.iter().map(|r| r.accuracy[epoch]));
        let figures = [[loss(exact), loss(fast)], [accuracy(exact), accuracy(fast)]];
        for (share, [(a, spread), (b, _)]) in shares.iter_mut().zip(figures) {
            *share += (a - b).abs() / spread / epochs as f64;
        }
        let [[a, b], [c, d]] = figures;
        println!(
            "{:>5}  {:>6.4} ± {:.4} {:>6.4} ± {:.4}  {:>5.2} ± {:.2} %  {:>5.2} ± {:.2} %",
            epoch + 1,
            a.0,
            a.1,
            b.0,
            b.1,
            c.0,
            c.1,
            d.0,
            d.1
        );
    }
    println!(
        "between precisions, mean of the epochs, in standard deviations between seeds: loss {:.2}, accuracy {:.2}",
        shares[0], shares[1]
    );
    let seconds = |runs: &[Curves]| runs.iter().map(|r| r.seconds).sum::<f64>();
    println!("exact took {:.2} times as long", seconds(exact) / seconds(fast));
}

/// Mean and standard deviation, n − 1 in the denominator.
fn moments(values: impl Iterator<Item = f64> + Clone) -> (f64, f64) {
    let n = values.clone().count() as f64;
    let mean = values.clone().sum::<f64>() / n;
    (mean, (values.map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt())
}

fn draw(name: &str, runs: &[Vec<Curves>; 2]) -> Picture {
    let chart = |title: &str, y: Axis, curve: fn(&Curves) -> &[f64]| {
        let mut chart = XyChart::new(title).size(620.0, 440.0).x(Axis::new("epoch").whole()).y(y).legend();
        for (k, (precision, runs)) in PRECISIONS.into_iter().zip(runs).enumerate() {
            for (seed, run) in runs.iter().enumerate() {
                let name = if seed == 0 { precision.word() } else { "" };
                let points = curve(run).iter().enumerate().map(|(epoch, &v)| (epoch as f64 + 1.0, v));
                let series = Series::new(name, Mark::Line, points).colour(k).width(2.0);
                chart = chart.series(if k == 0 { series } else { series.dashed() });
            }
        }
        chart.picture()
    };
    Panels::new(format!("{name}: {} seeds in both precisions", runs[0].len()), 2)
        .panel(chart("Training", Axis::new("loss").scale(Scale::Log10), |r| &r.loss))
        .panel(chart("Held out", Axis::new("accuracy in %"), |r| &r.accuracy))
        .picture()
}
