//! Lesson 7: a data set of one's own: two spirals, told apart by a perceptron with two hidden layers.
//!
//! A source says how many samples there are and what a sample is. Order, batches, splits, standardisation and
//! threads are not its business.
//!
//! `cargo run -p kessen --example 07_custom_data_set`

use kessen::prelude::*;

/// Points on two spirals, a third of a turn of noise away from the ideal ones.
struct Spirals {
    samples: usize,
    fields: Vec<Field>,
}

impl Spirals {
    fn new(samples: usize) -> Self {
        Self { samples, fields: vec![Field::f32("x", &[2]), Field::i64("target", &[])] }
    }
}

impl Source for Spirals {
    fn len(&self) -> usize {
        self.samples
    }

    fn fields(&self) -> &[Field] {
        &self.fields
    }

    fn read(&self, sample: usize, _field: usize, out: Slot<'_>) -> kessen::data::Result<()> {
        // Keyed by the sample, so that a sample is the same whenever and by whomever it is read.
        let mut rng = Rng::new(7, sample as u64);
        let class = sample % 2;
        match out {
            Slot::I64(out) => out[0] = class as i64,
            Slot::F32(out) => {
                let t = 0.3 + 0.7 * rng.uniform();
                let angle = 9.0 * t + std::f32::consts::PI * class as f32;
                for (value, direction) in out.iter_mut().zip([angle.cos(), angle.sin()]) {
                    *value = t * direction + 0.02 * rng.normal() as f32;
                }
            }
        }
        Ok(())
    }
}

fn main() -> Result<()> {
    let all = Dataset::new(Spirals::new(2000))?.with_labels(["left", "right"])?;
    let (train, test) = all.hold_out(0.25, 0)?;
    let spirals = Splits::new("spirals", train, test)?.standardised()?;
    let net = Graph::from_text("x: input batch 2\nlinear h1 32 | tanh | linear h2 32 | tanh | linear out 2")?;
    let model = Trainer::new(&net).optimizer(adam(0.01)).epochs(30).batch(50).fit(&spirals)?;
    let test = model.evaluate(&spirals.test)?;
    println!("test accuracy {:.1} % on {} points", 100.0 * test.accuracy, test.samples);
    assert!(test.accuracy > 0.95);
    Ok(())
}
