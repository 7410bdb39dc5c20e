//! `kessen bench --profile`: where the time of a call goes, step by step and kernel by kernel.

use std::time::{Duration, Instant};

use anyhow::Result;
use kessen_engine::StepFacts;
use kessen_kernels::machine;
use serde_json::{Value, json};

use super::{Call, milliseconds};
use crate::term::{Style, Term, table};

/// Calls with the time of each step.
pub struct Profile {
    steps: Vec<StepFacts>,
    /// Mean seconds per call of each step, and of the whole call.
    seconds: Vec<f64>,
    whole: f64,
    calls: usize,
    /// The machine's most: 10⁹ floating-point operations and bytes a second.
    peak_gflops: f64,
    copy_gbytes: f64,
}

/// Steps that belong together.
#[derive(Default)]
struct Sum {
    count: usize,
    seconds: f64,
    macs: u64,
    bytes: u64,
}

impl Sum {
    fn add(&mut self, step: &StepFacts, seconds: f64) {
        self.count += 1;
        self.seconds += seconds;
        self.macs += step.macs;
        self.bytes += step.bytes;
    }

    fn gflops(&self) -> f64 {
        2.0 * self.macs as f64 / self.seconds.max(1e-12) / 1e9
    }

    fn gbytes(&self) -> f64 {
        self.bytes as f64 / self.seconds.max(1e-12) / 1e9
    }
}

impl Profile {
    /// Two calls to warm up, then calls until the time is over, at least three.
    pub fn measure(call: &mut Call<'_>, time: Duration) -> Result<Self> {
        let (peak_gflops, copy_gbytes) = (machine::peak_gflops(), machine::copy_gbytes());
        let steps = call.session.executable().steps();
        let mut times = vec![Duration::ZERO; steps.len()];
        call.run()?;
        call.run_timed(&mut times)?;
        times.fill(Duration::ZERO);
        let (begun, mut calls) = (Instant::now(), 0);
        while calls < 3 || begun.elapsed() < time {
            call.run_timed(&mut times)?;
            calls += 1;
        }
        let mean = |d: Duration| d.as_secs_f64() / calls as f64;
        let (whole, seconds) = (mean(begun.elapsed()), times.into_iter().map(mean).collect());
        Ok(Self { steps, seconds, whole, calls, peak_gflops, copy_gbytes })
    }

    /// Time within steps.
    fn inside(&self) -> f64 {
        self.seconds.iter().sum()
    }

    /// Steps by kernel, the costliest first.
    fn kernels(&self) -> Vec<(&str, Sum)> {
        let mut kernels: Vec<(&str, Sum)> = Vec::new();
        for (step, &seconds) in self.steps.iter().zip(&self.seconds) {
            let at = kernels.iter().position(|(name, _)| *name == step.kernel);
            let at = at.unwrap_or_else(|| {
                kernels.push((&step.kernel, Sum::default()));
                kernels.len() - 1
            });
            kernels[at].1.add(step, seconds);
        }
        kernels.sort_by(|a, b| b.1.seconds.total_cmp(&a.1.seconds));
        kernels
    }

    fn cells(&self, sum: &Sum) -> Vec<String> {
        let rate = |v: f64| if v >= 0.05 { format!("{v:.1}") } else { String::new() };
        let counts = sum.macs > 0;
        let (gflops, share) = (sum.gflops(), 100.0 * sum.gflops() / self.peak_gflops);
        vec![
            milliseconds(sum.seconds),
            format!("{:.1} %", 100.0 * sum.seconds / self.whole),
            if counts { rate(gflops) } else { String::new() },
            if counts { rate(share) } else { String::new() },
            rate(sum.gbytes()),
        ]
    }

    fn row(&self, names: &[&str], sum: &Sum) -> Vec<String> {
        names.iter().map(|&n| n.to_owned()).chain(self.cells(sum)).collect()
    }

    /// Both tables and where the rest of the time went.
    pub fn print(&self, term: &Term) {
        let head = |names: &[&str]| {
            let columns = ["time", "share", "GFLOP/s", "% of peak", "GB/s"];
            names.iter().chain(&columns).map(|&c| c.to_owned()).collect::<Vec<String>>()
        };
        let mut steps = vec![head(&["step", "node", "kernel"])];
        for (i, (step, &seconds)) in self.steps.iter().zip(&self.seconds).enumerate() {
            let mut sum = Sum::default();
            sum.add(step, seconds);
            steps.push(self.row(&[&i.to_string(), &step.path, &step.kernel], &sum));
        }
        term.result(&format!("{}\n", table(term, &steps, None)));
        let mut kernels = vec![head(&["kernel", "steps"])];
        for (name, sum) in self.kernels() {
            kernels.push(self.row(&[name, &sum.count.to_string()], &sum));
        }
        let mut all = Sum::default();
        self.steps.iter().zip(&self.seconds).for_each(|(step, &seconds)| all.add(step, seconds));
        let total = self.row(&["all steps", &all.count.to_string()], &all);
        term.result(&table(term, &kernels, Some(&total)));
        let outside = (self.whole - self.inside()).max(0.0);
        term.result(&format!(
            "\n{} per call ({} calls), of which {} ({:.1} %) outside the steps: inputs, dispatch, the clock itself",
            term.paint(Style::Strong, &milliseconds(self.whole)),
            self.calls,
            milliseconds(outside),
            100.0 * outside / self.whole,
        ));
        term.result(&format!(
            "peak of this machine, measured just before: {:.1} GFLOP/s multiply-adds, {:.1} GB/s copied",
            self.peak_gflops, self.copy_gbytes
        ));
        term.result(
            "GFLOP/s count the formula's operations, so Winograd's algorithm can exceed the peak; \
             GB/s count operands once, so what stays in caches can exceed the memory's rate",
        );
    }

    /// The same for programs.
    pub fn json(&self) -> Value {
        let steps: Vec<Value> = self
            .steps
            .iter()
            .zip(&self.seconds)
            .map(|(s, sec)| json!({"node": s.path, "kernel": s.kernel, "sec": sec, "macs": s.macs, "bytes": s.bytes}))
            .collect();
        json!({
            "sec": self.whole, "outside_sec": (self.whole - self.inside()).max(0.0), "n": self.calls,
            "peak_gflops": self.peak_gflops, "copy_gbytes": self.copy_gbytes, "steps": steps,
        })
    }
}
