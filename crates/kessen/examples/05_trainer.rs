//! Lesson 5: the same by `Trainer`, with a convolutional network, augmentation, a schedule and an average of weights.
//!
//! `cargo run -p kessen --example 05_trainer`

use kessen::prelude::*;
use kessen::train::{EpochRecord, ReadParams};

/// Prints an epoch at a time.
struct Print;

impl Observer for Print {
    fn on_epoch(&mut self, e: &EpochRecord, _params: &ReadParams<'_>) -> kessen::train::Result<()> {
        println!("epoch {}: loss {:.4}, accuracy {:.2} %", e.epoch, e.train.loss, 100.0 * e.train.accuracy);
        Ok(())
    }
}

fn main() -> Result<()> {
    let net = Graph::build("digits", |g| {
        let image = g.input("image", shape!["batch", 1, 8, 8]);
        let h = image.conv("c1", conv(16, 3).padding(1)).relu();
        let h = h.conv("c2", conv(32, 3).padding(1)).relu().max_pool(2).flatten();
        h.linear("f3", 64).relu().dropout(0.2).linear("f4", 10)
    })?;
    let digits = data::digits()?;
    let shift =
        Augment::Affine { rotate: 8.0, scale: 0.1, shear: 0.0, shift: 0.5, border: Default::default() };
    let model = Trainer::new(&net)
        .loss(cross_entropy().smoothing(0.05))
        .optimizer(adamw(5e-3))
        .schedule(Schedule::one_cycle())
        .augment(&[shift])
        .ema(0.99)
        .epochs(6)
        .seed(1)
        .fit_observed(&digits, &mut Print)?;
    let test = model.evaluate(&digits.test)?;
    println!("test: accuracy {:.2} %", 100.0 * test.accuracy);
    if let Some(confusion) = &test.confusion {
        let worst = (0..10).min_by(|&a, &b| confusion.recall(a).total_cmp(&confusion.recall(b)));
        println!("the hardest digit is {}", worst.unwrap_or_default());
    }
    Ok(())
}
