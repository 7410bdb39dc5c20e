//! The training step as one graph: forward, loss, gradients, clipping, update.
//!
//! A model's graph goes in, a graph with more nodes comes out, and the engine plans it as a whole. Gradient
//! accumulation is part of it: with `train.apply` = 0 a step only adds to the accumulated gradients, with 1 it also
//! updates. The rejected alternative, one plan that accumulates and one that applies, would have to move the
//! parameters between two plans at each update.

use kessen_graph::ops::binary::{Binary, BinaryKind};
use kessen_graph::ops::clamp::Clamp;
use kessen_graph::ops::global_norm::GlobalNorm;
use kessen_graph::ops::optimizer::{AdamStep, RmspropStep, SgdStep};
use kessen_graph::{Graph, Init, Op, ParamId, ParamKind, Type, ValueId, gradients, shape};
use kessen_tensor::{DType, Tensor};
use serde::{Deserialize, Serialize};

use crate::group::{self, Group, Settings};
use crate::{Error, Loss, Optimizer, Result};

/// Prefix of the paths of averaged weights.
pub(crate) const EMA: &str = "ema.";

/// Limits on the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Clip {
    /// Largest length of all gradients as one vector: g ← g·min(1, norm/(‖g‖ + 10⁻⁶)).
    pub norm: Option<f64>,
    /// Largest magnitude of each gradient's elements, applied first.
    pub value: Option<f64>,
}

/// What has to be finite before any parameter changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Watch {
    /// The loss and the length of the gradient.
    #[default]
    Gradient,
    /// The loss alone: each parameter is updated as soon as its gradient is known, which saves the memory of the
    /// others' gradients and a pass over them. The gradient's length is reported only where clipping needs it.
    Loss,
}

/// What a training step consists of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepSpec {
    /// What is minimised.
    pub loss: Loss,
    /// How parameters follow their gradients.
    pub optimizer: Optimizer,
    /// Limits on the gradient.
    #[serde(default)]
    pub clip: Clip,
    /// Batches whose gradients are averaged for one update.
    #[serde(default = "one")]
    pub accumulate: usize,
    /// Decay of the exponential moving average of the weights; none keeps no average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Parameters with settings of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// Whether weight decay also acts on biases and the weights of normalisation.
    #[serde(default)]
    pub decay_all: bool,
    /// What has to be finite before any parameter changes.
    #[serde(default)]
    pub watch: Watch,
}

fn one() -> usize {
    1
}

impl StepSpec {
    /// A step without clipping, accumulation and averages.
    pub fn new(loss: Loss, optimizer: Optimizer) -> Self {
        let clip = Clip::default();
        let watch = Watch::default();
        Self { loss, optimizer, clip, accumulate: 1, ema: None, groups: Vec::new(), decay_all: false, watch }
    }

    /// Refuses settings outside their ranges.
    ///
    /// # Errors
    /// [`Error::Option`] with the range.
    pub fn check(&self) -> Result<()> {
        self.loss.check()?;
        self.optimizer.check()?;
        for (name, limit) in [("clip.norm", self.clip.norm), ("clip.value", self.clip.value)] {
            if let Some(limit) = limit.filter(|v| !(*v > 0.0 && v.is_finite())) {
                return Err(Error::option(name, limit, "a number above 0"));
            }
        }
        if self.accumulate == 0 {
            return Err(Error::option("accumulate", 0, "at least 1"));
        }
        match self.ema.filter(|d| !(0.0..1.0).contains(d)) {
            Some(decay) => Err(Error::option("ema", decay, "0 or more and below 1")),
            None => Ok(()),
        }
    }
}

/// A training step's graph and the positions of its inputs and outputs.
///
/// Inputs are the model's, `target`, and the scalars `train.lr` and `train.step` (of the update, from 1), with
/// `train.ema_decay` and `train.apply` (1 to update, 0 to accumulate only) where the spec asks for them. Outputs are
/// `loss`, `prediction` (the model's first output), `grad_norm` before clipping (NaN where it is not computed), and
/// `guard`, which is finite exactly as long as what [`Watch`] names is.
#[derive(Debug, Clone)]
pub struct TrainStep {
    /// The whole step.
    pub graph: Graph,
    /// Position of the input `train.lr`.
    pub lr: usize,
    /// Position of the input `train.step`.
    pub step: usize,
    /// Position of the input `train.ema_decay`.
    pub ema_decay: Option<usize>,
    /// Position of the input `train.apply`.
    pub apply: Option<usize>,
    /// Weights that the loss does not depend on; they keep their values.
    pub unused: Vec<String>,
}

/// Position of the output `loss`.
pub const LOSS: usize = 0;
/// Position of the output `prediction`.
pub const PREDICTION: usize = 1;
/// Position of the output `grad_norm`.
pub const GRAD_NORM: usize = 2;
/// Name of the output that must stay finite.
pub const GUARD: &str = "guard";

impl TrainStep {
    /// Assembles the step of `model` for targets of element type `target` in the data.
    ///
    /// ```
    /// use kessen_graph::{Graph, shape};
    /// use kessen_tensor::DType;
    /// use kessen_train::{StepSpec, TrainStep, adam, cross_entropy};
    ///
    /// let net = Graph::build("mlp", |g| {
    ///     g.input("x", shape!["batch", 4]).linear("hidden", 8).relu().linear("out", 3)
    /// })?;
    /// let step = TrainStep::new(&net, &StepSpec::new(cross_entropy(), adam(1e-3)), DType::I64)?;
    /// assert_eq!(step.graph.updates().len(), 3 * 4); // four parameters with two moments each
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// Settings out of range; a model without output or weights, or whose output does not suit the loss; operators
    /// without a gradient.
    pub fn new(model: &Graph, spec: &StepSpec, target: DType) -> Result<Self> {
        spec.check()?;
        group::check(&spec.groups, model.params())?;
        let (mut graph, loss, prediction) = with_loss(&model.for_training()?, &spec.loss, target)?;
        let settings = |id: ParamId| {
            let decay = spec.optimizer.weight_decay();
            group::settings(&spec.groups, decay, spec.decay_all, graph.param(id))
        };
        let learnt: Vec<(ParamId, Settings)> = graph
            .param_ids()
            .filter(|&id| graph.param(id).kind == ParamKind::Weight)
            .map(|id| (id, settings(id)))
            .filter(|(_, s)| s.lr_scale > 0.0)
            .collect();
        let values: Vec<ValueId> = learnt.iter().map(|(id, _)| graph.param(*id).value).collect();
        let found = gradients(&mut graph, loss, &values)?;
        let mut unused = Vec::new();
        let mut weights = Vec::new();
        for ((id, settings), gradient) in learnt.into_iter().zip(found) {
            match gradient {
                Some(gradient) => weights.push((id, settings, gradient)),
                None => unused.push(graph.param(id).path.clone()),
            }
        }
        if weights.is_empty() {
            let expected = "at least one that the loss depends on and that is not frozen";
            return Err(Error::mismatch("the model's weights", "none to learn", expected));
        }
        Assembly { graph, spec }.finish(loss, prediction, weights, unused)
    }
}

/// `model` with the target's input and the loss: the graph, the loss, the prediction.
pub(crate) fn with_loss(model: &Graph, loss: &Loss, target: DType) -> Result<(Graph, ValueId, ValueId)> {
    let Some((_, prediction)) = model.outputs().first() else {
        return Err(Error::mismatch("the model", "no output", "one, the prediction"));
    };
    let prediction = *prediction;
    let mut wired = Ok(());
    let graph = model.clone().extend(|g, _| {
        let prediction = g.wire_of(prediction);
        match loss.wire(g, &prediction, target) {
            Ok(loss) => vec![("loss", loss), ("prediction", prediction)],
            Err(error) => {
                wired = Err(error);
                Vec::new()
            }
        }
    });
    wired?;
    let graph = graph?;
    let loss = graph.outputs()[LOSS].1;
    Ok((graph, loss, prediction))
}

struct Assembly<'a> {
    graph: Graph,
    spec: &'a StepSpec,
}

impl Assembly<'_> {
    fn finish(
        mut self,
        loss: ValueId,
        prediction: ValueId,
        weights: Vec<(ParamId, Settings, ValueId)>,
        unused: Vec<String>,
    ) -> Result<TrainStep> {
        let (lr_at, lr) = self.scalar_input("train.lr")?;
        let (step_at, step) = self.scalar_input("train.step")?;
        let apply = (self.spec.accumulate > 1).then(|| self.scalar_input("train.apply")).transpose()?;
        let ema = self.spec.ema.map(|_| self.scalar_input("train.ema_decay")).transpose()?;
        let one = self.constant("train.one", 1.0)?;
        let keep = match apply {
            Some((_, apply)) => Some((apply, self.binary("train.keep", BinaryKind::Sub, one, apply)?)),
            None => None,
        };
        let mut weights = weights;
        for (id, _, gradient) in &mut weights {
            *gradient = self.accumulated(*id, *gradient, keep)?;
            *gradient = self.clipped(*id, *gradient)?;
        }
        let all: Vec<ValueId> = weights.iter().map(|w| w.2).collect();
        let watched = self.spec.watch == Watch::Gradient;
        let norm = match watched || self.spec.clip.norm.is_some() {
            true => self.graph.add_node("train.grad_norm", GlobalNorm {}, &all)?[0],
            false => self.constant("train.grad_norm", f64::NAN)?,
        };
        let scale = self.grad_scale(norm, one)?;
        let scalars = [lr, scale, step];
        let mut new = self.kept_buffers();
        for (id, settings, gradient) in weights {
            new.push((id, self.updated(id, settings, gradient, scalars, keep)?));
        }
        if let Some((_, decay)) = ema {
            self.averaged(&new, decay, one)?;
        }
        let guard = if watched { self.binary("train.guard", BinaryKind::Add, loss, norm)? } else { loss };
        self.graph.clear_outputs();
        for (name, value) in [("loss", loss), ("prediction", prediction), ("grad_norm", norm), (GUARD, guard)]
        {
            self.graph.add_output(name, value)?;
        }
        self.graph.check()?;
        let (ema_decay, apply) = (ema.map(|e| e.0), apply.map(|a| a.0));
        Ok(TrainStep { graph: self.graph, lr: lr_at, step: step_at, ema_decay, apply, unused })
    }

    fn scalar_input(&mut self, name: &str) -> Result<(usize, ValueId)> {
        let at = self.graph.inputs().len();
        Ok((at, self.graph.add_input(name, Type::f32(shape![]))?))
    }

    fn constant(&mut self, name: &str, value: f64) -> Result<ValueId> {
        let name = self.graph.fresh_name(name);
        Ok(self.graph.add_constant(&name, Tensor::scalar(value as f32))?)
    }

    fn binary(&mut self, path: &str, kind: BinaryKind, a: ValueId, b: ValueId) -> Result<ValueId> {
        let path = self.graph.fresh_name(path);
        Ok(self.graph.add_node(&path, Binary { kind }, &[a, b])?[0])
    }

    fn path(&self, id: ParamId) -> String {
        self.graph.param(id).path.clone()
    }

    /// A state of the same shape as parameter `id`, zero at first.
    fn state(&mut self, path: &str, id: ParamId) -> Result<(ParamId, ValueId)> {
        let shape = self.graph.param(id).shape.clone();
        let value = self.graph.add_param(path, &shape, Init::Constant(0.0), ParamKind::State)?;
        let state = self.graph.param_ids().last();
        match state {
            Some(state) => Ok((state, value)),
            None => Err(Error::mismatch("the training step", "no state", "the one just added")),
        }
    }

    /// `old` where only gradients are accumulated, `new` where they are applied. The flag is exactly 0 or 1.
    fn select(
        &mut self,
        path: &str,
        keep: Option<(ValueId, ValueId)>,
        old: ValueId,
        new: ValueId,
    ) -> Result<ValueId> {
        let Some((apply, keep)) = keep else { return Ok(new) };
        let old = self.binary(&format!("{path}.old"), BinaryKind::Mul, old, keep)?;
        let new = self.binary(&format!("{path}.new"), BinaryKind::Mul, new, apply)?;
        self.binary(&format!("{path}.select"), BinaryKind::Add, old, new)
    }

    /// Σ g/k over the batches so far.
    fn accumulated(
        &mut self,
        id: ParamId,
        gradient: ValueId,
        keep: Option<(ValueId, ValueId)>,
    ) -> Result<ValueId> {
        let Some((_, keep)) = keep else { return Ok(gradient) };
        let path = self.path(id);
        let share = self.constant("train.share", 1.0 / self.spec.accumulate as f64)?;
        let gradient = self.binary(&format!("train.{path}.share"), BinaryKind::Mul, gradient, share)?;
        let (state, sum) = self.state(&format!("accumulated.{path}"), id)?;
        let total = self.binary(&format!("train.{path}.accumulate"), BinaryKind::Add, sum, gradient)?;
        let kept = self.binary(&format!("train.{path}.kept"), BinaryKind::Mul, total, keep)?;
        self.graph.add_update(state, kept)?;
        Ok(total)
    }

    fn clipped(&mut self, id: ParamId, gradient: ValueId) -> Result<ValueId> {
        let Some(limit) = self.spec.clip.value else { return Ok(gradient) };
        let path = self.graph.fresh_name(&format!("train.{}.clip", self.path(id)));
        Ok(self.graph.add_node(&path, Clamp { min: -limit, max: limit }, &[gradient])?[0])
    }

    /// min(1, limit/(‖g‖ + 10⁻⁶)), as PyTorch's `clip_grad_norm_`.
    fn grad_scale(&mut self, norm: ValueId, one: ValueId) -> Result<ValueId> {
        let Some(limit) = self.spec.clip.norm else { return Ok(one) };
        let (limit, eps) = (self.constant("train.clip", limit)?, self.constant("train.clip_eps", 1e-6)?);
        let norm = self.binary("train.clip_norm", BinaryKind::Add, norm, eps)?;
        let scale = self.binary("train.clip_ratio", BinaryKind::Div, limit, norm)?;
        self.binary("train.grad_scale", BinaryKind::Min, scale, one)
    }

    /// Adds the optimiser's node with its states and returns the parameter's new value.
    fn updated(
        &mut self,
        id: ParamId,
        settings: Settings,
        gradient: ValueId,
        scalars: [ValueId; 3],
        keep: Option<(ValueId, ValueId)>,
    ) -> Result<ValueId> {
        let path = self.path(id);
        let (op, names) = optimizer_op(&self.spec.optimizer, settings);
        let mut operands = vec![self.graph.param(id).value, gradient];
        operands.extend(scalars);
        let mut targets = vec![(id, operands[0])];
        for name in names {
            let state = self.state(&format!("optimizer.{path}.{name}"), id)?;
            operands.push(state.1);
            targets.push(state);
        }
        let results = self.graph.add_node(&format!("train.{path}.step"), op, &operands)?;
        let mut new = Vec::with_capacity(results.len());
        for ((target, old), result) in targets.into_iter().zip(results) {
            let value = self.select(&format!("train.{}", self.path(target)), keep, old, result)?;
            self.graph.add_update(target, value)?;
            new.push(value);
        }
        Ok(new[0])
    }

    /// Buffers that the forward computation updates, as running statistics, with their new values.
    fn kept_buffers(&self) -> Vec<(ParamId, ValueId)> {
        let buffer = |id: &ParamId| self.graph.param(*id).kind == ParamKind::Buffer;
        self.graph.updates().iter().filter(|(id, _)| buffer(id)).copied().collect()
    }

    /// Averages of what is learnt and of running statistics: a ← decay·a + (1 − decay)·new.
    fn averaged(&mut self, new: &[(ParamId, ValueId)], decay: ValueId, one: ValueId) -> Result<()> {
        let rest = self.binary("train.ema_rest", BinaryKind::Sub, one, decay)?;
        for &(id, value) in new {
            let path = self.path(id);
            let (state, average) = self.state(&format!("{EMA}{path}"), id)?;
            let old = self.binary(&format!("train.{path}.ema_old"), BinaryKind::Mul, average, decay)?;
            let add = self.binary(&format!("train.{path}.ema_new"), BinaryKind::Mul, value, rest)?;
            let sum = self.binary(&format!("train.{path}.ema"), BinaryKind::Add, old, add)?;
            self.graph.add_update(state, sum)?;
        }
        Ok(())
    }
}

/// The operator of an optimiser's step, and the names of its states.
fn optimizer_op(optimizer: &Optimizer, settings: Settings) -> (Op, &'static [&'static str]) {
    let Settings { lr_scale, weight_decay } = settings;
    match *optimizer {
        Optimizer::Sgd { momentum, dampening, nesterov, .. } => (
            SgdStep { momentum, dampening, nesterov, weight_decay, lr_scale }.into(),
            if momentum == 0.0 { &[] } else { &["velocity"] },
        ),
        Optimizer::Adam { betas: [beta1, beta2], eps, .. } => (
            AdamStep { beta1, beta2, eps, weight_decay, lr_scale, ..AdamStep::default() }.into(),
            &["m", "v"],
        ),
        Optimizer::Adamw { betas: [beta1, beta2], eps, .. } => (
            AdamStep { beta1, beta2, eps, weight_decay, decoupled: true, lr_scale, ..AdamStep::default() }
                .into(),
            &["m", "v"],
        ),
        Optimizer::Rmsprop { alpha, eps, momentum, centered, .. } => {
            let op = RmspropStep { alpha, eps, momentum, centered, weight_decay, lr_scale };
            let names = op.state();
            (op.into(), names)
        }
    }
}
