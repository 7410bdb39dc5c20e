//! Which field of the data goes to which input of a graph.

use kessen_data::{Batch, Field};
use kessen_engine::{Data, Executable, Given};
use kessen_graph::{Bindings, Dim, Graph};
use kessen_tensor::DType;

use crate::metrics::Targets;
use crate::{Error, Result};

/// Fields for inputs, and the numbers that the data give the named dimensions.
#[derive(Debug, Clone)]
pub(crate) struct Feed {
    /// Input's position, field's name and type.
    routes: Vec<(usize, String, DType)>,
    pub(crate) bindings: Bindings,
}

impl Feed {
    /// Matches fields to inputs by name; where no field has the name of the first input, it gets the first field.
    /// Inputs under `train.` are not data.
    pub(crate) fn new(graph: &Graph, fields: &[Field], batch: usize) -> Result<Self> {
        let mut routes = Vec::new();
        let mut bindings = Bindings::default();
        for (at, &input) in graph.inputs().iter().enumerate() {
            let value = graph.value(input);
            if value.name.starts_with("train.") {
                continue;
            }
            let named = fields.iter().find(|f| f.name == value.name);
            let field = named.or(if at == 0 { fields.first() } else { None }).ok_or_else(|| {
                let found = fields.iter().map(|f| format!("`{}`", f.name)).collect::<Vec<_>>().join(", ");
                let expected = "a field of that name; rename the input or the field";
                Error::mismatch(format!("input `{}`", value.name), format!("the fields {found}"), expected)
            })?;
            let shape: Vec<usize> = std::iter::once(batch).chain(field.shape.iter().copied()).collect();
            let fits = field.dtype == value.ty.dtype && unify(&value.ty.shape, &shape, &mut bindings);
            // A target of one number per sample may be written [N] or [N, 1].
            let single = value.name == "target" && field.len() == 1 && value.ty.rank() == 2;
            if !(fits || single && unify(&value.ty.shape, &[batch, 1], &mut bindings)) {
                return Err(Error::mismatch(
                    format!("input `{}`", value.name),
                    format!("field `{}` of {} {:?} per sample", field.name, field.dtype, field.shape),
                    format!("{} with the samples first; change the model or the data", value.ty),
                ));
            }
            routes.push((at, field.name.clone(), field.dtype));
        }
        Ok(Self { routes, bindings })
    }

    /// Hands a batch over: as inputs for a run, and what are too many for those written.
    pub(crate) fn hand_over<'b>(
        &self,
        executable: &mut dyn Executable,
        batch: &'b Batch,
    ) -> Result<Handed<'b>> {
        let mut handed = Handed { given: [(0, Data::F32(&[])); MOST_GIVEN], count: 0 };
        for (at, name, dtype) in &self.routes {
            let data = match dtype {
                DType::I64 => Data::I64(batch.i64(name)?),
                _ => Data::F32(batch.f32(name)?),
            };
            match handed.given.get_mut(handed.count) {
                Some(place) => {
                    *place = (*at, data);
                    handed.count += 1;
                }
                None => executable.write_input(*at, data)?,
            }
        }
        Ok(handed)
    }
}

/// Fields that a run reads where the batch has them, at most: a list of fixed length, so that a step allocates nothing.
const MOST_GIVEN: usize = 8;

/// A batch's fields as inputs of a run.
pub(crate) struct Handed<'b> {
    given: [Given<'b>; MOST_GIVEN],
    count: usize,
}

impl<'b> Handed<'b> {
    /// As an executable takes them.
    pub(crate) fn given(&self) -> &[Given<'b>] {
        &self.given[..self.count]
    }
}

/// The targets of a batch.
pub(crate) fn targets<'a>(batch: &'a Batch, dtype: DType) -> Result<Targets<'a>> {
    Ok(match dtype {
        DType::I64 => Targets::I64(batch.i64("target")?),
        _ => Targets::F32(batch.f32("target")?),
    })
}

/// Binds the names in `dims` so that they come out as `shape`; false where they can't.
pub(crate) fn unify(dims: &[Dim], shape: &[usize], bindings: &mut Bindings) -> bool {
    let mut trial = bindings.clone();
    let fits = dims.len() == shape.len()
        && dims.iter().zip(shape).all(|(d, &n)| match d.as_name() {
            Some(name) if trial.find(name).is_none() => {
                trial.set(name, n);
                true
            }
            _ => d.eval(&trial).is_ok_and(|found| found == n),
        });
    if fits {
        *bindings = trial;
    }
    fits
}
