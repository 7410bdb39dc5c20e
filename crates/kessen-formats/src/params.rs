//! Parameters from a file against the architecture that they are for.

use kessen_graph::{Graph, ParamKind};
use kessen_tensor::{DType, Tensor};

use crate::error::ParamReport;
use crate::{Error, Result};

/// Brings the tensors of a file into the order of `graph`'s parameters of the given kinds, as f32.
///
/// Half precision is widened, double precision rounded. PyTorch's `num_batches_tracked` counters are left out:
/// nothing is computed from them.
///
/// # Errors
/// [`Error::Params`] with all that is missing, unexpected, of another shape or not a real number, at once.
pub fn match_params(
    graph: &Graph,
    kinds: &[ParamKind],
    tensors: &[(String, Tensor)],
) -> Result<Vec<(String, Tensor)>> {
    let mut report = ParamReport { architecture: graph.name().to_owned(), ..Default::default() };
    let by_name: std::collections::HashMap<&str, &Tensor> =
        tensors.iter().map(|(n, t)| (n.as_str(), t)).collect();
    let wanted: Vec<_> = graph.params().iter().filter(|p| kinds.contains(&p.kind)).collect();
    let mut found = Vec::with_capacity(wanted.len());
    for param in &wanted {
        let Some(tensor) = by_name.get(param.path.as_str()) else {
            report.missing.push(param.path.clone());
            continue;
        };
        if tensor.shape() != param.shape || !tensor.dtype().is_float() {
            let found = format!("{} {:?}", tensor.dtype(), tensor.shape());
            report.misfit.push((param.path.clone(), found, format!("f32 {:?}", param.shape)));
            continue;
        }
        found.push((param.path.clone(), tensor.cast(DType::F32)?));
    }
    let known: std::collections::HashSet<&str> = wanted.iter().map(|p| p.path.as_str()).collect();
    let counter = |name: &str| name == "num_batches_tracked" || name.ends_with(".num_batches_tracked");
    let extra = tensors.iter().filter(|(n, _)| !known.contains(n.as_str()) && !counter(n));
    report.unexpected = extra.map(|(n, _)| n.clone()).collect();
    if report.is_empty() { Ok(found) } else { Err(Error::Params(Box::new(report))) }
}

#[cfg(test)]
mod tests {
    use kessen_graph::shape;

    use super::*;

    #[test]
    fn everything_wrong_is_listed_at_once() {
        let net = Graph::build("net", |g| {
            g.input("x", shape!["batch", 3]).linear("a", 4).linear("b", 2).linear("c", 2)
        })
        .unwrap();
        let t = |dtype, shape: &[usize]| Tensor::zeros(dtype, shape).unwrap();
        let mut tensors: Vec<(String, Tensor)> = [
            ("a.weight", t(DType::Bf16, &[4, 3])),
            ("a.bias", t(DType::F16, &[4])),
            ("a.num_batches_tracked", t(DType::I64, &[])),
            ("b.weight", t(DType::F32, &[4, 2])),
            ("b.bias", t(DType::I64, &[2])),
            ("c.wieght", t(DType::F32, &[2, 2])),
            ("c.bias", t(DType::F64, &[2])),
        ]
        .map(|(n, t)| (n.to_owned(), t))
        .to_vec();
        let error = match_params(&net, &[ParamKind::Weight], &tensors).unwrap_err().to_string();
        for part in [
            "missing (1): c.weight",
            "unexpected (1): c.wieght",
            "`b.weight` is f32 [4, 2], expected f32 [2, 4]",
            "`b.bias` is i64 [2]",
        ] {
            assert!(error.contains(part), "{error}");
        }
        tensors[3].1 = t(DType::F32, &[2, 4]);
        tensors[4].1 = t(DType::F32, &[2]);
        tensors[5].0 = "c.weight".to_owned();
        let found = match_params(&net, &[ParamKind::Weight], &tensors).unwrap();
        assert!(found.iter().all(|(_, t)| t.dtype() == DType::F32));
        assert_eq!(found[1].0, net.params()[1].path);
    }
}
