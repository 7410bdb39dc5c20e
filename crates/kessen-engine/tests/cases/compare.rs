//! How far apart two arrays may be, and are.

use kessen_graph::{Bindings, Graph};

use super::runner::Array;

/// The largest difference, relative to the largest expected magnitude (at least 1e-3).
pub fn relative_error(found: &[f64], expected: &[f64]) -> f64 {
    error_above(1e-3, found, expected)
}

/// The largest difference, relative to the largest expected magnitude (at least `floor`).
fn error_above(floor: f64, found: &[f64], expected: &[f64]) -> f64 {
    if found.len() != expected.len() {
        return f64::INFINITY;
    }
    let scale = expected.iter().filter(|v| v.is_finite()).fold(floor, |m, v| m.max(v.abs()));
    let differences = found.iter().zip(expected).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() });
    // `f64::max` would drop a NaN.
    let worst = differences.fold(0.0, |m: f64, d| if d > m || d.is_nan() { d } else { m });
    worst / scale
}

/// c·√K·ε: what rounding to f32 at each of K additions leaves, K the longest sum in the graph.
///
/// # Errors
/// Dimensions without a number.
pub fn tolerance(graph: &Graph, bindings: &Bindings) -> Result<f64, kessen_graph::Error> {
    /// Room for the functions between the sums, each good to a few units in the last place.
    const C: f64 = 6.0;
    let shapes = graph.shapes(bindings)?;
    let mut longest = 1.0f64;
    for node in graph.nodes() {
        let shape = |v: &kessen_graph::ValueId| shapes[v.index()].as_slice();
        let inputs: Vec<&[usize]> = node.inputs.iter().map(shape).collect();
        let outputs: Vec<&[usize]> = node.outputs.iter().map(shape).collect();
        let count =
            |shapes: &[&[usize]]| shapes.iter().map(|s| s.iter().product::<usize>()).max().unwrap_or(1);
        let results = count(&outputs).max(1) as f64;
        let macs = node.op.operator().macs(&inputs, &outputs) as f64;
        longest = longest.max(macs / results).max(count(&inputs) as f64 / results);
    }
    Ok(C * longest.sqrt() * f64::from(f32::EPSILON))
}

/// Checks shape and numbers.
///
/// # Errors
/// What differs, and by how much.
pub fn compare(name: &str, found: &Array, expected: &Array, tolerance: f64) -> Result<(), String> {
    compare_above(1e-3, name, found, expected, tolerance)
}

/// As [`compare`], differences being relative to at least `floor`.
///
/// # Errors
/// What differs, and by how much.
pub fn compare_above(
    floor: f64,
    name: &str,
    found: &Array,
    expected: &Array,
    tolerance: f64,
) -> Result<(), String> {
    if found.shape != expected.shape {
        return Err(format!("{name} has shape {:?}, expected {:?}", found.shape, expected.shape));
    }
    let error = error_above(floor, &found.data, &expected.data);
    if error <= tolerance {
        return Ok(());
    }
    let at = (0..found.data.len())
        .max_by(|&i, &j| {
            let d = |i: usize| (found.data[i] - expected.data[i]).abs();
            d(i).total_cmp(&d(j))
        })
        .unwrap_or(0);
    let (a, b) = (found.data[at], expected.data[at]);
    Err(format!("{name} is off by {error:.1e} (allowed {tolerance:.1e}), as element {at}: {a} for {b}"))
}
