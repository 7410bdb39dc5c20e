//! A model that answers: a graph for inference, its parameters, and plans by shape.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kessen_data::{Dataset, Loader};
use kessen_engine::{Backend, Clock, CompileOptions, Precision, Session};
use kessen_graph::{Bindings, Graph};
use kessen_tensor::{DType, Tensor};

use crate::feed::{Feed, targets, unify};
use crate::metrics::Metrics;
use crate::step::{LOSS, PREDICTION, with_loss};
use crate::{Error, Evaluation, Loss, Result};

/// How many plans are kept.
const PLANS: usize = 4;

/// A model with its parameters on a backend. Plans are made for the shapes that come and kept for the next time.
pub struct Predictor {
    backend: Arc<dyn Backend>,
    graph: Graph,
    params: Vec<(String, Tensor)>,
    options: CompileOptions,
    plans: Mutex<Plans>,
    measuring: Mutex<Option<Measuring>>,
}

type Plans = Vec<(Bindings, Session)>;

/// The plans with a loss, and what they were made for.
struct Measuring {
    graph: Graph,
    target: DType,
    loss: Loss,
    plans: Plans,
}

/// Plans are whole after a panic, too: a run writes all its inputs first.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for Predictor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Predictor({})", self.graph.name())
    }
}

impl Predictor {
    /// A model (as it is wired; see [`Graph::for_inference`]) with its weights and buffers by path.
    ///
    /// # Errors
    /// [`Error::Formats`] with all parameters that are missing, unexpected or of another shape.
    pub fn new(backend: Arc<dyn Backend>, model: &Graph, params: &[(String, Tensor)]) -> Result<Self> {
        use kessen_graph::ParamKind::{Buffer, Weight};
        let params = kessen_formats::match_params(model, &[Weight, Buffer], params)?;
        let (plans, measuring) = (Mutex::default(), Mutex::default());
        let (graph, options) = (model.for_inference()?, CompileOptions::inference());
        Ok(Self { backend, graph, params, options, plans, measuring })
    }

    /// The same with another choice of algorithms.
    pub fn precision(self, precision: Precision) -> Self {
        let (plans, measuring) = (Mutex::default(), Mutex::default());
        Self { options: self.options.precision(precision), plans, measuring, ..self }
    }

    /// The wiring for inference.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The parameters by path.
    pub fn params(&self) -> &[(String, Tensor)] {
        &self.params
    }

    /// Other values for the same parameters.
    ///
    /// # Errors
    /// As [`Predictor::new`].
    pub fn set_params(&mut self, params: Vec<(String, Tensor)>) -> Result<()> {
        for (_, session) in lock(&self.plans).iter_mut() {
            write_params(session, &params)?;
        }
        for (_, session) in lock(&self.measuring).iter_mut().flat_map(|m| &mut m.plans) {
            write_params(session, &params)?;
        }
        self.params = params;
        Ok(())
    }

    /// A plan with the parameters.
    fn session(&self, graph: &Graph, bindings: &Bindings) -> Result<Session> {
        let mut session = Session::new(&*self.backend, graph, bindings, &self.options)?;
        write_params(&mut session, &self.params)?;
        Ok(session)
    }

    /// The outputs by name for inputs by name, as f32.
    ///
    /// # Errors
    /// [`Error::Mismatch`] where an input is missing, unknown or of another shape.
    pub fn predict(&self, inputs: &[(&str, &Tensor)]) -> Result<Vec<(String, Tensor)>> {
        let mut bindings = Bindings::default();
        for &id in self.graph.inputs() {
            let value = self.graph.value(id);
            let what = || format!("input `{}`", value.name);
            let Some((_, tensor)) = inputs.iter().find(|(name, _)| *name == value.name) else {
                return Err(Error::mismatch(what(), "nothing", format!("{}", value.ty)));
            };
            if !unify(&value.ty.shape, tensor.shape(), &mut bindings) {
                let found = format!("{} of shape {:?}", tensor.dtype(), tensor.shape());
                return Err(Error::mismatch(what(), found, value.ty.to_string()));
            }
        }
        let mut plans = lock(&self.plans);
        let make = || self.session(&self.graph, &bindings);
        let session = plan(&mut plans, &bindings, make)?;
        Ok(session.run(inputs, Clock::default())?)
    }

    /// The figures under `loss` on a data set, in batches of at most `batch` samples.
    ///
    /// # Errors
    /// Data that don't fit the model; samples that can't be read.
    pub fn evaluate(&self, loss: &Loss, set: &Dataset, batch: usize) -> Result<Evaluation> {
        let dtype = target_dtype(set)?;
        let mut measuring = lock(&self.measuring);
        let Measuring { graph, plans, .. } = match &mut *measuring {
            Some(m) if m.target == dtype && m.loss == *loss => m,
            other => {
                let (graph, _, _) = with_loss(&self.graph, loss, dtype)?;
                other.insert(Measuring { graph, target: dtype, loss: loss.clone(), plans: Vec::new() })
            }
        };
        let mut loader = Loader::new(set, batch.min(set.len()).max(1))?;
        let mut samples = loader.batch()?;
        let prediction_type = graph.ty(graph.outputs()[PREDICTION].1).clone();
        let class_dim = loss.class_dim(&prediction_type);
        let mut metrics: Option<Metrics> = None;
        for step in 0..loader.steps_per_epoch() {
            loader.fill(0, step, &mut samples)?;
            let feed = Feed::new(graph, set.fields(), samples.len())?;
            let make = || self.session(graph, &feed.bindings);
            let session = plan(plans, &feed.bindings, make)?;
            let executable = session.executable();
            let handed = feed.hand_over(executable, &samples)?;
            executable.run_on(handed.given(), Clock::default())?;
            let shape = executable.output_shape(PREDICTION);
            let preprocess = set.preprocess();
            let metrics =
                metrics.get_or_insert_with(|| Metrics::new(loss, class_dim, shape, preprocess, true));
            let value = executable.output(LOSS).at(0);
            metrics.add(samples.len(), value, executable.output(PREDICTION), targets(&samples, dtype)?);
        }
        metrics
            .map(|m| m.evaluation())
            .ok_or_else(|| Error::mismatch("the data set", "no sample", "one or more"))
    }
}

/// Element type of a data set's targets.
pub(crate) fn target_dtype(set: &Dataset) -> Result<DType> {
    let field = set.fields().iter().find(|f| f.name == "target");
    field.map(|f| f.dtype).ok_or_else(|| {
        let names: Vec<&str> = set.fields().iter().map(|f| f.name.as_str()).collect();
        Error::mismatch("the data set", format!("the fields {names:?}"), "one named `target`")
    })
}

/// The plan for `bindings`, made where there is none yet.
fn plan<'p>(
    plans: &'p mut Plans,
    bindings: &Bindings,
    make: impl FnOnce() -> Result<Session>,
) -> Result<&'p mut Session> {
    let at = match plans.iter().position(|(b, _)| b == bindings) {
        Some(at) => at,
        None => {
            let session = make()?;
            if plans.len() == PLANS {
                plans.remove(0);
            }
            plans.push((bindings.clone(), session));
            plans.len() - 1
        }
    };
    Ok(&mut plans[at].1)
}

/// Writes the parameters that the session's graph has.
pub(crate) fn write_params(session: &mut Session, params: &[(String, Tensor)]) -> Result<()> {
    let ids: std::collections::HashMap<String, kessen_graph::ParamId> = {
        let graph = session.graph();
        graph.param_ids().map(|id| (graph.param(id).path.clone(), id)).collect()
    };
    for (path, value) in params {
        if let Some(&id) = ids.get(path) {
            session.executable().write_param(id, value)?;
        }
    }
    Ok(())
}
