//! Errors by width for some functions: `cargo run --release -p kessen-train --example widths`.

fn main() -> kessen_train::Result<()> {
    type Function = fn(f64) -> f64;
    let functions: [(&str, Function); 5] = [
        ("|x|", f64::abs),
        ("sin(2πx)", |x| (std::f64::consts::TAU * x).sin()),
        ("x²", |x| x * x),
        ("step", |x| f64::from(u8::from(x > 0.0))),
        ("chirp", |x| (20.0 * (x + 1.0) * (x + 1.0)).sin()),
    ];
    for (name, f) in functions {
        println!("{name:10} {:>5} {:>10} {:>10}", "units", "worst", "rms");
        let start = std::time::Instant::now();
        let widths = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512];
        for (units, fit) in widths.iter().zip(kessen_train::approximate_widths(&f, [-1.0, 1.0], &widths)?) {
            println!("{:10} {units:>5} {:>10.2e} {:>10.2e}", "", fit.worst, fit.rms);
        }
        println!("{:10} {:.1} s", "", start.elapsed().as_secs_f64());
    }
    Ok(())
}
