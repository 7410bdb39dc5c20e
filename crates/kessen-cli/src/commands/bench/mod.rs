//! `kessen bench`: how long a training step or an inference call takes.
//!
//! A training step is what PyTorch's zero_grad, forward, loss, backward and optimiser step do together, with the batch
//! handed over anew; an inference call takes its input and leaves its output.

mod inputs;
mod profile;
mod works;

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kessen_engine::{Clock, CompileOptions, Data, Executable, Given, Outcome, Precision, Session};
use kessen_graph::{Bindings, Graph};
use kessen_train::{Bytes, Loss, Optimizer, StepSpec, TrainStep, Watch, sgd};
use serde_json::json;

use crate::failure::{unknown, usage};
use crate::models;
use crate::sizes::SizeFlags;
use crate::term::{Style, Term, bytes};

use self::profile::Profile;
use self::works::{WORKS, Work};

/// Named dimensions that nothing gives a number.
const OPEN: usize = 64;

const EXAMPLES: &str = "\
Examples:
  kessen bench --work lenet --mode train --batch 64
  kessen bench --work resnet34 --mode infer --batch 1 --threads 1 --json
  kessen bench --model 'resnet18(classes=10)' --input 3x96x96 --batch 8 --precision exact
  kessen bench --model vgg16_bn --input 3x192x192 --mode infer --batch 8 --json
  kessen bench --work lstm --time 256 --batch 16
  kessen bench --model runs/digits --mode infer --batch 256 --plan
  kessen bench --work transformer --profile

Works: mlp-fit, mlp-mnist, elman, lstm, gru, transformer, lenet, alexnet, vgg16, googlenet, resnet34.
Named dimensions without a number, such as a sequence's time steps, are 64.";

/// Flags.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// A network of the board.
    #[arg(long, value_name = "NAME", required_unless_present = "model", conflicts_with = "model")]
    work: Option<String>,
    /// Any other network: a model file, a run folder, a recipe, a file with a wiring, a name of the zoo.
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,
    /// What is timed.
    #[arg(long, value_name = "MODE", default_value = "train", value_parser = ["train", "infer"])]
    mode: String,
    /// Samples per step [default: the work's own, or 1].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    batch: Option<u32>,
    /// Its sizes.
    #[command(flatten)]
    sizes: SizeFlags,
    /// Which algorithms the plan may use [default: those of a model's training, or `fast`].
    #[arg(long, value_name = "PRECISION", value_parser = models::precision())]
    precision: Option<Precision>,
    /// How long to measure.
    #[arg(long, value_name = "S", default_value_t = 6.0)]
    seconds: f64,
    /// Print the plan, too: which kernel, layout and algorithm each step got.
    #[arg(long)]
    plan: bool,
    /// Print where the time goes: time, GFLOP/s, GB/s and share of the machine's peak of each step and kernel.
    #[arg(long)]
    profile: bool,
    /// The most memory that a training step may take, such as 2GB.
    #[arg(long, value_name = "SIZE")]
    memory_limit: Option<Bytes>,
    /// What computes: `cpu` or `reference`.
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    backend: String,
}

/// A network with what trains it.
struct Subject {
    name: String,
    graph: Graph,
    loss: Loss,
    optimizer: Optimizer,
    batch: usize,
    bindings: Bindings,
    precision: Precision,
}

/// Times of the calls.
struct Times {
    median: f64,
    least: f64,
    count: usize,
}

/// Measures.
pub fn run(term: &Term, args: Args) -> Result<()> {
    if !(args.seconds.is_finite() && args.seconds >= 0.0) {
        return Err(usage(format!("--seconds {}: expected 0 or more", args.seconds)));
    }
    let subject = subject(&args)?;
    let batch = subject.batch;
    let training = args.mode == "train";
    let (session, counters) = compile(&args, &subject, training)?;
    let values = inputs::draw(session.graph(), &subject.bindings, classes(&subject.graph, &subject.loss))?;
    let given = values.iter().map(|(at, values)| (*at, values.data())).collect();
    let mut call = Call { session, given, step: 0, counters };
    if args.plan {
        term.result(call.session.executable().describe().trim_end());
    }
    let time = Duration::from_secs_f64(args.seconds);
    if args.profile {
        let profile = Profile::measure(&mut call, time)?;
        match term.json {
            true => term.result(&profile.json().to_string()),
            false => profile.print(term),
        }
        return Ok(());
    }
    let times = measure(time, || call.run())?;
    let rss = peak_rss() >> 20;
    if term.json {
        let value = json!({
            "who": "kessen", "work": subject.name, "mode": args.mode, "batch": batch, "sec": times.median,
            "min": times.least, "n": times.count, "rss_mb": rss,
        });
        term.result(&value.to_string());
        return Ok(());
    }
    let per_second = batch as f64 / times.median;
    term.result(&format!(
        "{} {} batch {batch}: {} (fastest {}, {} calls), {per_second:.0} samples/s, {} of plan memory, {rss} MiB in all",
        subject.name,
        args.mode,
        term.paint(Style::Strong, &milliseconds(times.median)),
        milliseconds(times.least),
        times.count,
        bytes(call.session.executable().memory() as u64),
    ));
    Ok(())
}

fn milliseconds(seconds: f64) -> String {
    match seconds {
        s if s < 1e-3 => format!("{:.2} µs", s * 1e6),
        s => format!("{:.3} ms", s * 1e3),
    }
}

fn subject(args: &Args) -> Result<Subject> {
    let mut sizes = args.sizes.read()?;
    let (name, graph, loss, optimizer, batch, precision) = match (&args.work, &args.model) {
        (Some(name), _) => {
            let names: Vec<&str> = WORKS.iter().map(|w| w.name).collect();
            let work = WORKS.iter().find(|w| w.name == name);
            let work =
                work.ok_or_else(|| unknown("work", name, &names, "any other network goes by --model"))?;
            let Work { zoo, batch, optimizer, loss, .. } = *work;
            (name, models::zoo_sized(zoo, &mut sizes)?, loss(), optimizer(), Some(batch), None)
        }
        (None, name) => {
            let name = name.as_ref().context("name a network by --work or --model")?;
            let found = models::find_sized(name, &mut sizes)?;
            let graph = found.graph().clone();
            let loss = models::usual_loss(&graph).context("the model has no output")?;
            (name, graph, loss, sgd(1e-3).momentum(0.9), None, found.precision())
        }
    };
    let batch = args.batch.map(|n| n as usize).or(batch);
    let bindings = sizes.bindings(&graph, batch, Some(OPEN))?;
    let first = graph.inputs().first().and_then(|&v| graph.ty(v).shape.first()?.eval(&bindings).ok());
    Ok(Subject {
        name: name.clone(),
        batch: first.or(batch).unwrap_or(1),
        precision: args.precision.or(precision).unwrap_or_default(),
        graph,
        loss,
        optimizer,
        bindings,
    })
}

/// Inputs of a training step that count: learning rate and step.
type Counters = (usize, usize);

/// What is measured, with its parameters drawn.
fn compile(args: &Args, subject: &Subject, training: bool) -> Result<(Session, Option<Counters>)> {
    let backend = models::backend(&args.backend)?;
    let (graph, options, counters) = match training {
        true => {
            let output = subject.graph.ty(subject.graph.outputs()[0].1);
            let target = subject.loss.target_type(output)?.dtype;
            let spec = StepSpec {
                watch: Watch::Loss,
                ..StepSpec::new(subject.loss.clone(), subject.optimizer.clone())
            };
            let step = TrainStep::new(&subject.graph, &spec, target)?;
            let counters = Some((step.lr, step.step));
            (step.graph, CompileOptions::training(kessen_train::GUARD), counters)
        }
        false => (subject.graph.for_inference()?, CompileOptions::inference(), None),
    };
    let limit = args.memory_limit.map(|limit| limit.0);
    let options = options.precision(subject.precision).memory_limit(limit);
    let mut session = Session::new(&*backend, &graph, &subject.bindings, &options)?;
    session.init_params(0)?;
    Ok((session, counters))
}

/// A compiled step with the data that are handed over at each call.
struct Call<'d> {
    session: Session,
    given: Vec<Given<'d>>,
    step: u64,
    counters: Option<Counters>,
}

impl Call<'_> {
    fn run(&mut self) -> Result<()> {
        self.run_with(|executable, given, clock| executable.run_on(given, clock))
    }

    /// As [`Call::run`]; adds what each step took to `times`.
    fn run_timed(&mut self, times: &mut [Duration]) -> Result<()> {
        self.run_with(|executable, given, clock| executable.run_timed(given, clock, times))
    }

    fn run_with(
        &mut self,
        run: impl FnOnce(&mut dyn Executable, &[Given<'_>], Clock) -> kessen_engine::Result<Outcome>,
    ) -> Result<()> {
        let executable: &mut dyn Executable = self.session.executable();
        self.step += 1;
        if let Some((lr, step)) = self.counters {
            executable.write_input(lr, Data::F32(&[1e-4]))?;
            executable.write_input(step, Data::F32(&[self.step as f32]))?;
        }
        match run(executable, &self.given, Clock { seed: 0, step: self.step })? {
            Outcome::Done => Ok(()),
            Outcome::NonFinite => anyhow::bail!("step {}: the loss is not finite", self.step),
        }
    }
}

/// Number of classes of the model's first output.
fn classes(graph: &Graph, loss: &Loss) -> usize {
    let ty = graph.ty(graph.outputs()[0].1);
    ty.shape.get(loss.class_dim(ty)).and_then(kessen_graph::Dim::as_fixed).unwrap_or(1)
}

/// Two calls to warm up, then calls until the time is over, at least three.
fn measure(time: Duration, mut call: impl FnMut() -> Result<()>) -> Result<Times> {
    call()?;
    call()?;
    let mut seconds = Vec::with_capacity(1 << 16);
    let end = Instant::now() + time;
    while seconds.len() < 3 || Instant::now() < end {
        let begun = Instant::now();
        call()?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let (count, half) = (seconds.len(), seconds.len() / 2);
    let median =
        if count.is_multiple_of(2) { (seconds[half - 1] + seconds[half]) / 2.0 } else { seconds[half] };
    Ok(Times { median, least: seconds[0], count })
}

/// The most memory that the process has had, in bytes; 0 where the system does not say.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}
