//! Every operator, by the list of cases: the gradient rules against finite differences of the reference, the
//! reference against PyTorch's values, the fast backends against the reference.

mod cases;

use cases::compare::{compare, relative_error, tolerance};
use cases::runner::{Array, Part, Run};
use cases::{Case, golden};
use kessen_engine::{Backend, CompileOptions, Cpu, Mode, Reference};
use kessen_graph::Bindings;

/// Runs `check` on every case and reports all that fail at once.
fn for_every_case(cases: &[Case], check: impl Fn(&Case) -> Result<(), String>) {
    let failures: Vec<String> =
        cases.iter().filter_map(|case| check(case).err().map(|e| format!("{}: {e}", case.name))).collect();
    assert!(failures.is_empty(), "{} of {} cases fail\n{}", failures.len(), cases.len(), failures.join("\n"));
}

fn reference(case: &Case, part: Part) -> Result<Run, String> {
    let mut run =
        Run::new(case, part, &Reference, &CompileOptions::inference()).map_err(|e| e.to_string())?;
    run.run().map_err(|e| e.to_string())?;
    Ok(run)
}

#[test]
fn names_are_unique_and_every_operator_has_a_case() {
    let cases = cases::all();
    for (i, case) in cases.iter().enumerate() {
        assert!(cases[..i].iter().all(|c| c.name != case.name), "two cases are named {}", case.name);
    }
    // Gradient operators are covered by the gradients of the cases.
    let mut covered: Vec<String> = Vec::new();
    for case in &cases {
        let graph =
            cases::runner::graph(case, Part::Backward).unwrap_or_else(|e| panic!("{}: {e}", case.name));
        covered.extend(graph.nodes().iter().map(|n| n.op.operator().name().to_owned()));
    }
    let names = kessen_graph::Op::all().into_iter().map(|op| op.operator().name().to_owned());
    let missing: Vec<String> = names.filter(|name| !covered.contains(name)).collect();
    assert!(missing.is_empty(), "operators without a case: {missing:?}");
}

#[test]
fn gradients_agree_with_finite_differences() {
    let cases: Vec<Case> = cases::all().into_iter().filter(|c| !c.large && !c.no_differences).collect();
    for_every_case(&cases, |case| {
        let gradients = reference(case, Part::Backward)?;
        let mut loss = reference(case, Part::Loss)?;
        for (i, &input) in gradients.wrt.iter().enumerate() {
            let (found, expected) = differences(&mut loss, input, &gradients.gradient(i).data);
            let error = relative_error(&expected, &found);
            if error > 1e-6 || error.is_nan() {
                return Err(format!("operand {input}: the gradient is off by {error:.1e}"));
            }
        }
        Ok(())
    });
}

/// Central differences of the loss in some elements of operand `input`, and `gradient` there.
fn differences(run: &mut Run, input: usize, gradient: &[f64]) -> (Vec<f64>, Vec<f64>) {
    /// Elements examined, spread over the operand.
    const SAMPLES: usize = 50;
    let mut numbers = run.operand(input).fill();
    let step = numbers.len().div_ceil(SAMPLES).max(1);
    let (mut found, mut expected) = (Vec::new(), Vec::new());
    for i in (0..numbers.len()).step_by(step) {
        let (at, h) = (numbers[i], 1e-5);
        numbers[i] = at + h;
        let above = run.loss_at(input, &numbers);
        numbers[i] = at - h;
        let below = run.loss_at(input, &numbers);
        numbers[i] = at;
        found.push((above - below) / (2.0 * h));
        expected.push(gradient[i]);
    }
    run.loss_at(input, &numbers);
    (found, expected)
}

#[test]
fn the_reference_agrees_with_pytorch() {
    let cases: Vec<Case> =
        cases::all().into_iter().filter(|c| !c.large && !c.no_golden && c.family != "optimizer").collect();
    let mut families: Vec<&str> = cases.iter().map(|c| c.family.as_str()).collect();
    families.dedup();
    let stored: Vec<_> = families.iter().map(|f| (*f, golden::read(f))).collect();
    for_every_case(&cases, |case| {
        let values = &stored.iter().find(|(f, _)| *f == case.family).unwrap().1;
        let run = reference(case, Part::Backward)?;
        let results = (0..run.results).map(|k| (format!("result{k}"), run.output(k)));
        let gradients = (0..run.wrt.len()).map(|i| (format!("gradient{}", run.wrt[i]), run.gradient(i)));
        for (name, found) in results.chain(gradients) {
            let key = format!("{}/{name}", case.name);
            let expected = values.get(&key).ok_or_else(|| format!("no stored `{key}`"))?;
            compare(
                &name,
                &found,
                &Array { shape: expected.shape.clone(), data: expected.data.clone() },
                1e-5,
            )?;
        }
        Ok(())
    });
}

/// Runs the list on `backend`, forward for inference and with gradients for training, against the reference.
fn agree_with_the_reference(backend: &dyn Backend) {
    let training = CompileOptions { mode: Mode::Training, ..CompileOptions::inference() };
    for_every_case(&cases::all(), |case| {
        for (part, options) in
            [(Part::Forward, CompileOptions::inference()), (Part::Backward, training.clone())]
        {
            let expected = reference(case, part)?;
            let mut found = Run::new(case, part, backend, &options).map_err(|e| e.to_string())?;
            // The second run sees what the first left in memory.
            found.run().and_then(|()| found.run_on()).map_err(|e| e.to_string())?;
            let graph = cases::runner::graph(case, part).map_err(|e| e.to_string())?;
            let allowed = tolerance(&graph, &Bindings::default()).map_err(|e| e.to_string())?;
            for (i, (name, _)) in graph.outputs().iter().enumerate() {
                // The loss's terms cancel each other.
                if name != "loss" {
                    compare(&format!("{part:?} {name}"), &found.output(i), &expected.output(i), allowed)?;
                }
            }
        }
        Ok(())
    });
}

#[test]
fn cpu_agrees_with_the_reference() {
    agree_with_the_reference(&Cpu::new());
}

#[test]
fn cpu_without_fusion_agrees_with_the_reference() {
    agree_with_the_reference(&Cpu::unfused());
}
