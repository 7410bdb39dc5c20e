//! The fuzz targets' bodies on mutated files, for some seconds.

mod bodies;

use std::time::{Duration, Instant};

use kessen_formats::{Model, SafeTensors, npy};
use kessen_graph::Graph;
use kessen_tensor::{Rng, Tensor};

/// Runs `body` on mutations of `seed`: bytes flipped, set, cut out, doubled, and digits exchanged.
fn mutate(seed: &[u8], body: fn(&[u8])) {
    let mut rng = Rng::named(1, "mutations");
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        let mut bytes = seed.to_vec();
        for _ in 0..=rng.below(4) {
            let at = rng.below(bytes.len().max(1));
            match rng.below(6) {
                _ if bytes.is_empty() => {}
                0 => bytes[at] ^= 1 << rng.below(8),
                1 => bytes[at] = [0, 0xff, b'{', b'"', b',', b'-'][rng.below(6)],
                2 => bytes.truncate(at),
                3 => drop(bytes.drain(at..(at + 1 + rng.below(8)).min(bytes.len()))),
                4 => bytes.insert(at, bytes[at]),
                _ => {
                    let digits: Vec<usize> =
                        (0..bytes.len()).filter(|&i| bytes[i].is_ascii_digit()).collect();
                    if !digits.is_empty() {
                        bytes[digits[rng.below(digits.len())]] = b'0' + rng.below(10) as u8;
                    }
                }
            }
        }
        body(&bytes);
    }
}

fn sample() -> SafeTensors {
    let mut file = SafeTensors::default();
    file.metadata.insert("a".to_owned(), "b".to_owned());
    file.tensors.push(("w".to_owned(), Tensor::from_vec(&[2, 3], vec![1.0f32; 6]).unwrap()));
    file.tensors.push(("n".to_owned(), Tensor::scalar(7i64)));
    file
}

#[test]
fn safetensors_survives_mutations() {
    mutate(&sample().encode(), bodies::safetensors);
}

#[test]
fn npy_survives_mutations() {
    mutate(&npy::encode(&Tensor::from_vec(&[2, 3], vec![1.0f64; 6]).unwrap()).unwrap(), bodies::npy);
}

#[test]
fn model_survives_mutations() {
    let graph = Graph::from_text("x: input batch 2 4 4\nconv a 2 3x3 | relu | flatten | linear b 2").unwrap();
    let value = |shape: &[usize]| Tensor::zeros(kessen_tensor::DType::F32, shape).unwrap();
    let params = graph.params().iter().map(|p| (p.path.clone(), value(&p.shape))).collect();
    mutate(&Model::new(graph, params).unwrap().encode(), bodies::model);
}
