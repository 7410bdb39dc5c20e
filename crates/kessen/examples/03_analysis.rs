//! Lesson 3: what a wiring costs and what its units see, before anything is computed.
//!
//! Output sizes ⌊(J + 2P − M)/S⌋ + 1, receptive fields along every path, parameters, multiply-accumulate operations
//! and bytes follow from the graph alone; so does the drawing.
//!
//! `cargo run -p kessen --example 03_analysis`

use kessen::prelude::*;

fn main() -> Result<()> {
    // A residual block: two branches meet, so a unit behind it sees what either of them sees.
    let net = Graph::build("residual", |g| {
        let image = g.input("image", shape!["batch", 3, 32, 32]);
        let x = image.conv("stem", conv(16, 3).padding(1)).relu();
        let h = x.conv("conv1", conv(16, 3).padding(1)).batch_norm("bn1").relu();
        let h = h.conv("conv2", conv(16, 3).padding(1)).batch_norm("bn2");
        h.add(&x).relu().max_pool(4).flatten().linear("fc", 10)
    })?;
    let summary = net.summary([("batch", 1)])?;
    println!("{summary}");
    println!("the heaviest layer: {:?}", summary.rows.iter().max_by_key(|r| r.macs).map(|r| &r.path));

    // An architecture of the zoo, and what the lecture says of it.
    for name in ["alexnet", "vgg16", "googlenet", "resnet34"] {
        let total = zoo::build(name, &Default::default())?.summary([("batch", 1)])?.total;
        println!(
            "{name:>10}: {:>11} parameters, {:>6} million MACs",
            total.parameters,
            total.macs / 1_000_000
        );
    }

    // What a plan for a batch of 8 needs, in bytes, for inference and for a whole training step.
    let bindings = Bindings::default().with("batch", 8);
    let inference = Cpu::new().compile(&net.for_inference()?, &bindings, &CompileOptions::inference())?;
    let step = TrainStep::new(&net, &StepSpec::new(cross_entropy(), adam(1e-3)), DType::I64)?;
    let options = CompileOptions::training(kessen::train::GUARD);
    let training = Cpu::new().compile(&step.graph, &bindings, &options)?;
    println!("plan: {} bytes for inference, {} for a training step", inference.memory(), training.memory());

    let path = std::env::temp_dir().join("kessen-residual.svg");
    draw(&net).save(&path)?;
    println!("drawn into {}", path.display());
    Ok(())
}
