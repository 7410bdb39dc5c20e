//! The sizes that a model is looked at or measured with: of a sample, of named dimensions.

use anyhow::Result;
use kessen_graph::{Bindings, Graph};
use kessen_zoo::Architecture;

use crate::failure::{unknown, usage};

/// Flags.
#[derive(Debug, Default, clap::Args)]
pub struct SizeFlags {
    /// The size of one input sample, such as 3x224x224; an architecture of the zoo is built for it.
    #[arg(long, value_name = "CxHxW")]
    input: Option<String>,
    /// Time steps of a sequence; short for `--dim time=N`.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    time: Option<u32>,
    /// The number of another named dimension; may be given several times.
    #[arg(long, value_name = "NAME=N")]
    dim: Vec<String>,
}

/// The sizes asked for.
#[derive(Debug, Default)]
pub struct Sizes {
    /// What was given to `--input`, and its numbers.
    sample: Option<(String, Vec<usize>)>,
    /// Named dimensions.
    dims: Vec<(String, usize)>,
}

impl SizeFlags {
    /// The flags as numbers.
    ///
    /// # Errors
    /// A usage error where a text is no size.
    pub fn read(&self) -> Result<Sizes> {
        let sample = self.input.as_deref().map(|text| Ok::<_, anyhow::Error>((text.to_owned(), size(text)?)));
        let mut dims: Vec<(String, usize)> =
            self.time.map(|n| ("time".to_owned(), n as usize)).into_iter().collect();
        for text in &self.dim {
            let parsed = text.split_once('=').and_then(|(name, n)| {
                Some((name.trim().to_owned(), n.trim().parse().ok().filter(|&n: &usize| n > 0)?))
            });
            let wrong = || usage(format!("--dim {text}: expected NAME=N with N above 0, such as time=64"));
            dims.push(parsed.ok_or_else(wrong)?);
        }
        Ok(Sizes { sample: sample.transpose()?, dims })
    }
}

impl Sizes {
    /// The arguments that make an architecture have these sizes. Dimensions that are an argument of it are taken out,
    /// since its wiring will not have them as names.
    pub fn arguments(&mut self, architecture: &Architecture) -> Vec<(String, String)> {
        let takes = |name: &str| architecture.arguments.iter().any(|a| a.name == name);
        let mut arguments = Vec::new();
        let mut set = |name: &str, value: String| arguments.push((name.to_owned(), value));
        match self.sample.as_ref().map(|(_, sample)| sample.as_slice()) {
            Some(&[channels, height, width]) if takes("size") => {
                set("channels", channels.to_string());
                set("size", format!("{height}x{width}"));
            }
            Some(&[n]) => {
                if let Some(name) = ["inputs", "source_time", "time"].into_iter().find(|name| takes(name)) {
                    set(name, n.to_string());
                }
            }
            _ => {}
        }
        self.dims.retain(|(name, n)| {
            let taken = takes(name);
            if taken {
                set(name, n.to_string());
            }
            !taken
        });
        arguments
    }

    /// A number for every named dimension of `graph`: `batch`, what was asked for, and `usual` for the others.
    ///
    /// # Errors
    /// A usage error: a sample or batch that does not fit the model's input, a name that it does not have, a named
    /// dimension without a number where `usual` is none.
    pub fn bindings(&self, graph: &Graph, batch: Option<usize>, usual: Option<usize>) -> Result<Bindings> {
        let names = graph.dim_names();
        let mut bindings = Bindings::default();
        bindings.set("batch", batch.unwrap_or(1));
        for (name, n) in &self.dims {
            if !names.contains(name) {
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                return Err(unknown("dimension", name, &known, "`kessen inspect` shows a model's inputs"));
            }
            bindings.set(name, *n);
        }
        self.bind_input(graph, batch, &mut bindings)?;
        let open: Vec<&String> = names.iter().filter(|n| bindings.find(n).is_none()).collect();
        match (open.first(), usual) {
            (None, _) => {}
            (Some(_), Some(n)) => open.iter().for_each(|name| bindings.set(name, n)),
            (Some(name), None) => {
                let list = open.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(", ");
                return Err(usage(format!(
                    "the wiring has the named dimensions {list}\n  = give each a number: --dim {name}=64"
                )));
            }
        }
        Ok(bindings)
    }

    /// Holds sample and batch against the first input, whose names get their numbers.
    fn bind_input(&self, graph: &Graph, batch: Option<usize>, bindings: &mut Bindings) -> Result<()> {
        let Some(&input) = graph.inputs().first() else { return Ok(()) };
        let (name, ty) = (&graph.value(input).name, graph.ty(input));
        let fixed = ty.shape.first().and_then(kessen_graph::Dim::as_fixed);
        if let Some(n) = batch.filter(|&n| fixed.is_some_and(|fixed| fixed != n)) {
            return Err(usage(format!("--batch {n}: the model's input `{name}` is {ty}, the batch first")));
        }
        let Some((text, sizes)) = &self.sample else { return Ok(()) };
        let sample = ty.shape.get(1..).unwrap_or_default();
        let fits = sample.len() == sizes.len()
            && sample.iter().zip(sizes).all(|(d, &n)| {
                match d.as_name().filter(|d| bindings.find(d).is_none()) {
                    Some(open) => {
                        bindings.set(open, n);
                        true
                    }
                    None => d.eval(bindings).is_ok_and(|found| found == n),
                }
            });
        match fits {
            true => Ok(()),
            false => {
                Err(usage(format!("--input {text}: the model's input `{name}` is {ty}, the batch first")))
            }
        }
    }
}

/// `3x224x224` as numbers.
fn size(text: &str) -> Result<Vec<usize>> {
    let parts = text.split(['x', '×', ',']).map(|p| p.trim().parse::<usize>().ok().filter(|&n| n > 0));
    let wrong = || usage(format!("--input {text}: expected sizes above 0 of one sample, such as 3x224x224"));
    parts.collect::<Option<Vec<_>>>().ok_or_else(wrong)
}
