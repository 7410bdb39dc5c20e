//! Function approximation as the lecture shows it: every hidden unit's basis function, before, during and after.
//!
//! The basis functions are the inputs of the last linear layer, whatever comes before it. So a deeper network shows
//! those that it has learnt, too.

use anyhow::{Context, Result};
use kessen_data::{Expression, Splits};
use kessen_engine::Backend;
use kessen_graph::{Graph, Op, ValueId};
use kessen_tensor::Tensor;
use kessen_train::{Predictor, ReadParams, Trained};
use kessen_view::{Approximation, Section, Snapshot, Unit};

use crate::progress::Watch;
use crate::recipe::Recipe;
use std::sync::Arc;

/// Places at which the curves are drawn.
const PLACES: usize = 401;
/// Points of the data that are drawn.
const POINTS: usize = 400;
/// More hidden units than this would be a thicket.
const UNITS: usize = 256;

type Params = Vec<(String, Tensor)>;

/// Parameters at some moments of a training.
#[derive(Debug, Default)]
pub struct Snapshots {
    /// Epochs at which to look.
    at: Vec<usize>,
    taken: Vec<(usize, Params)>,
}

impl Snapshots {
    /// A look before the first step and one in the middle of what is learnt, about a tenth of `epochs`.
    pub fn new(epochs: usize) -> Self {
        Self { at: vec![epochs.div_ceil(10)], taken: Vec::new() }
    }
}

impl Watch for &mut Snapshots {
    fn look(&mut self, epoch: usize, params: &ReadParams<'_>) -> kessen_train::Result<()> {
        if self.taken.is_empty() || self.at.contains(&epoch) {
            self.taken.push((epoch, params()?));
        }
        Ok(())
    }
}

/// Whether a model is a sum of basis functions of one variable: one number in, a last linear layer with one output.
pub fn applies(model: &Graph, splits: &Splits) -> bool {
    let one = splits.train.fields()[0].shape.iter().product::<usize>() == 1;
    one && output_layer(model).is_some_and(|l| l.units <= UNITS)
}

/// The last layer: y(x) = Σᵢ wᵢ·fᵢ(x) + b.
struct OutputLayer {
    /// fᵢ.
    bases: ValueId,
    weight: String,
    bias: Option<String>,
    units: usize,
}

fn output_layer(model: &Graph) -> Option<OutputLayer> {
    let (_, output) = model.outputs().first()?;
    let (node, _) = model.producer(*output)?;
    let node = model.node(node);
    let (Op::Linear(_), [bases, weight, bias @ ..]) = (&node.op, node.inputs.as_slice()) else { return None };
    let shape = &model.ty(*weight).shape;
    let units = (shape[0].as_fixed() == Some(1)).then(|| shape[1].as_fixed())??;
    let name = |v: &ValueId| model.value(*v).name.clone();
    Some(OutputLayer { bases: *bases, weight: name(weight), bias: bias.first().map(name), units })
}

/// The section with the picture.
pub fn section(recipe: &Recipe, splits: &Splits, trained: &Trained, taken: &Snapshots) -> Result<Section> {
    let layer = output_layer(&trained.model).context("the model has no last linear layer")?;
    let preprocess = splits.train.preprocess();
    let data = points(splits)?;
    let (low, high) =
        data.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), p| (a.min(p.0), b.max(p.0)));
    let places: Vec<f64> = (0..PLACES).map(|i| low + (high - low) * i as f64 / (PLACES - 1) as f64).collect();
    let mut x: Vec<f32> = places.iter().map(|&v| v as f32).collect();
    x.chunks_mut(1).for_each(|v| preprocess.standardise.apply(v));
    let x = Tensor::from_vec(&[PLACES, 1], x)?;
    let (mean, std) = match preprocess.values() {
        Some((_, s)) if !s.is_identity() => (f64::from(s.mean[0]), f64::from(s.std[0])),
        _ => (0.0, 1.0),
    };
    let title = recipe.data.expression().map_or_else(|| recipe.name.clone(), |f| format!("y = {}", f.target));
    let mut picture = Approximation::new(title, places.clone()).data(thin(&data));
    if let Some(options) = recipe.data.expression() {
        let f = Expression::parse(&options.target)?;
        picture = picture.target(places.iter().map(|&x| f.eval(x)).collect::<Vec<_>>())?;
    }
    let mut hidden = trained.model.clone();
    hidden.clear_outputs();
    hidden.add_output("bases", layer.bases)?;
    let backend: Arc<dyn Backend> = kessen_train::default_backend();
    let end = (usize::MAX, trained.params().to_vec());
    let last = trained.history.last().map_or(0, |e| e.epoch);
    for (epoch, params) in taken.taken.iter().filter(|(e, _)| *e < last || last == 0).chain([&end]) {
        let predictor = Predictor::new(backend.clone(), &hidden, params)?;
        let input = hidden.value(hidden.inputs()[0]).name.clone();
        let outputs = predictor.predict(&[(input.as_str(), &x)])?;
        let bases = outputs[0].1.as_slice::<f32>()?;
        let get = |path: &str| params.iter().find(|(p, _)| p == path).map(|(_, t)| t.to_f64_vec());
        let weight = get(&layer.weight).context("the last layer has no weight")?;
        let bias = layer.bias.as_deref().and_then(get).map_or(0.0, |b| b[0]);
        let unit = |i: usize| Unit {
            basis: (0..PLACES).map(|k| f64::from(bases[k * layer.units + i])).collect(),
            weight: std * weight[i],
        };
        let title = match *epoch {
            0 => "before training".to_owned(),
            usize::MAX => format!("after {last} epochs"),
            e => format!("after {e} epochs"),
        };
        let units = (0..layer.units).map(unit).collect();
        picture = picture.snapshot(Snapshot { title, units, bias: std * bias + mean })?;
    }
    let text = format!(
        "The network computes y(x) = Σᵢ wᵢ·fᵢ(x) + b. Each of its {} hidden units contributes one basis function fᵢ, \
         and learning changes the basis functions themselves, not only their weights.",
        layer.units
    );
    Ok(Section::new("The function and its basis functions").text(text).picture(picture.fit(), "").picture(
        picture.picture(),
        "Columns: moments of the training. Rows: data and network; basis functions fᵢ(x); weighted basis functions \
         wᵢ·fᵢ(x) with their sum.",
    ))
}

/// The training points in their own units, by ascending x.
fn points(splits: &Splits) -> Result<Vec<(f64, f64)>> {
    let preprocess = splits.train.preprocess();
    let mut points = Vec::with_capacity(splits.train.len());
    for i in 0..splits.train.len() {
        let sample = splits.train.sample(i)?;
        let find = |name: &str| sample.iter().find(|(n, _)| n == name).map(|(_, t)| t);
        let mut x = [sample[0].1.as_slice::<f32>()?[0]];
        let mut y = [find("target").context("the data have no target")?.as_slice::<f32>()?[0]];
        preprocess.standardise.undo(&mut x);
        if let Some((_, standardise)) = preprocess.values() {
            standardise.undo(&mut y);
        }
        points.push((f64::from(x[0]), f64::from(y[0])));
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    Ok(points)
}

fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    points.iter().copied().step_by(points.len().div_ceil(POINTS).max(1)).collect()
}
