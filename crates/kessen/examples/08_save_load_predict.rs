//! Lesson 8: a model as one file that knows how to read raw inputs, and answers in words.
//!
//! `cargo run -p kessen --example 08_save_load_predict`

use kessen::prelude::*;

fn main() -> Result<()> {
    let iris = data::iris()?;
    let net = Graph::from_text("x: input batch 4\nlinear hidden 16 | tanh | linear out 3")?;
    let model = Trainer::new(&net).optimizer(adam(0.02)).epochs(40).batch(16).fit(&iris)?;

    let path = std::env::temp_dir().join("kessen-iris.safetensors");
    model.save(&path)?;

    // The file carries the wiring, the parameters under PyTorch's names, the columns, the standardisation, the labels.
    let mut saved = SavedModel::load(&path)?;
    println!("{} holds {} parameters:", path.display(), saved.model.params.len());
    for (name, value) in &saved.model.params {
        println!("  {name} {:?}", value.shape());
    }
    println!("features: {:?}", saved.preprocess.feature_names().unwrap_or_default());

    // Raw rows, as they would come from a file: columns are found by their names, in any order.
    let rows = "petallength,petalwidth,sepallength,sepalwidth\n1.4,0.2,5.1,3.5\n6.0,2.5,6.3,3.3\n";
    let table = Table::csv(rows, "two flowers", Some(true))?;
    let inputs = saved.rows(&table)?;
    for (i, answer) in saved.classes(&inputs)?.iter().enumerate() {
        println!("flower {}: {} ({:.1} %)", i + 1, answer[0].0, 100.0 * answer[0].1);
    }
    std::fs::remove_file(&path).ok();
    Ok(())
}
