//! Lesson 4: a training loop by hand.
//!
//! The whole step (forward, loss, gradients, update) is one graph. What is left to write is: take a batch, hand it
//! over, run. `Trainer` of the next lesson does this, with everything around it.
//!
//! `cargo run -p kessen --example 04_training_loop_by_hand`

use kessen::engine::Data;
use kessen::prelude::*;
use kessen::train::{GUARD, LOSS, PREDICTION};

const BATCH: usize = 64;
const EPOCHS: u64 = 3;

fn main() -> Result<()> {
    let digits = data::digits()?;
    let net =
        Graph::from_text("image: input batch 1 8 8\nflatten | linear hidden 64 | relu | linear out 10")?;

    let step = TrainStep::new(&net, &StepSpec::new(cross_entropy(), adam(3e-3)), DType::I64)?;
    println!("the network has {} nodes, its training step {}", net.nodes().len(), step.graph.nodes().len());

    let bindings = Bindings::default().with("batch", BATCH);
    let mut session = Session::new(&Cpu::new(), &step.graph, &bindings, &CompileOptions::training(GUARD))?;
    session.init_params(0)?;
    let (image, target) = (session.input_index("image")?, session.input_index("target")?);

    let mut loader = Loader::new(&digits.train, BATCH)?.shuffle(0).drop_last()?;
    let mut batch = loader.batch()?;
    let mut count = 0u64;
    for epoch in 0..EPOCHS {
        let (mut loss, mut right) = (0.0, 0);
        for k in 0..loader.steps_per_epoch() {
            loader.fill(epoch, k, &mut batch)?;
            let plan = session.executable();
            let given = [
                (image, Data::F32(batch.f32("image")?)),
                (target, Data::I64(batch.i64("target")?)),
                (step.lr, Data::F32(&[3e-3])),
                (step.step, Data::F32(&[(count + 1) as f32])),
            ];
            plan.run_on(&given, Clock { seed: 0, step: count })?;
            loss += plan.output(LOSS).at(0);
            right += correct(&plan.output(PREDICTION), batch.i64("target")?);
            count += 1;
        }
        let steps = loader.steps_per_epoch();
        let accuracy = 100.0 * right as f64 / (steps * BATCH) as f64;
        println!("epoch {}: loss {:.4}, accuracy {accuracy:.2} %", epoch + 1, loss / steps as f64);
    }
    Ok(())
}

/// How many of the largest logits belong to the right class.
fn correct(logits: &Data<'_>, targets: &[i64]) -> usize {
    let classes = logits.len() / targets.len();
    let best = |row: usize| {
        let at = |k: usize| logits.at(row * classes + k);
        (0..classes).max_by(|&a, &b| at(a).total_cmp(&at(b))).unwrap_or(0)
    };
    targets.iter().enumerate().filter(|(row, target)| best(*row) as i64 == **target).count()
}
