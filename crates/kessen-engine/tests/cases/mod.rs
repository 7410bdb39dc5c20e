//! The list of operator cases: `golden/cases/*.toml`, read here and by `golden/generate.py`.
//!
//! A case is one operator with its attributes (in the text form's words) and its operands' shapes. The operands'
//! numbers follow from a formula that both readers compute ([`Operand::fill`]), so that they need not be stored.

#![allow(dead_code, reason = "each test binary uses its part of the list")]

pub mod compare;
pub mod golden;
pub mod model;
pub mod runner;
pub mod step;

use std::collections::BTreeMap;
use std::path::PathBuf;

use kessen_graph::{Dim, Op, Type};
use kessen_tensor::DType;
use serde::Deserialize;

/// One line of the list.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Unique name; the operands' numbers are drawn from it.
    pub name: String,
    /// Operator's name in the text form.
    pub op: String,
    /// Attributes in the text form's words; the others have their defaults.
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Operands: `2x3x5`, `scalar`, with a fill behind it.
    pub inputs: Vec<String>,
    /// Operands whose gradient is checked; all real ones where absent.
    pub wrt: Option<Vec<usize>>,
    /// Results that the loss depends on; the first where absent.
    pub differentiable: Option<Vec<usize>>,
    /// Too large to keep PyTorch's values or to differentiate by differences in every element.
    #[serde(default)]
    pub large: bool,
    /// Without counterpart in PyTorch.
    #[serde(default)]
    pub no_golden: bool,
    /// The gradient is not the derivative, by the operator's own definition.
    #[serde(default)]
    pub no_differences: bool,
    /// The family's file name; not in the file.
    #[serde(skip)]
    pub family: String,
}

#[derive(Deserialize)]
struct Family {
    case: Vec<Case>,
}

/// The project's `golden` folder.
pub fn golden_folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../golden")
}

/// The whole list, family by family.
pub fn all() -> Vec<Case> {
    let folder = golden_folder().join("cases");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some())
        .collect();
    files.sort();
    let mut cases = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let family: Family = toml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let name = file.file_stem().unwrap().to_string_lossy().into_owned();
        cases.extend(family.case.into_iter().map(|case| Case { family: name.clone(), ..case }));
    }
    cases
}

impl Case {
    /// The operator with its attributes.
    pub fn operator(&self) -> Op {
        let mut op = Op::by_name(&self.op).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        for (key, text) in &self.attributes {
            op.attributes_mut().set_attribute(key, text).unwrap_or_else(|e| panic!("{}: {e}", self.name));
        }
        op
    }

    /// The operands.
    pub fn operands(&self) -> Vec<Operand> {
        let parse = |(i, text): (usize, &String)| {
            let seed = fnv(&format!("{}/{i}", self.name));
            Operand::parse(text, seed).unwrap_or_else(|| panic!("{}: operand `{text}`", self.name))
        };
        self.inputs.iter().enumerate().map(parse).collect()
    }

    /// Operands whose gradient is checked.
    pub fn wrt(&self) -> Vec<usize> {
        self.wrt.clone().unwrap_or_else(|| {
            let operands = self.operands();
            (0..operands.len()).filter(|&i| !matches!(operands[i].fill, Fill::Ids(_))).collect()
        })
    }

    /// Results that the loss depends on.
    pub fn differentiable(&self) -> Vec<usize> {
        self.differentiable.clone().unwrap_or_else(|| vec![0])
    }
}

/// How an operand's numbers are drawn; `u` is uniform in [−1, 1) on a grid of 2⁻²³.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fill {
    /// s·u.
    Spread(f64),
    /// 1 + u/2: in [0.5, 1.5).
    Positive,
    /// (1 + u)/2: in [0, 1).
    Unit,
    /// A permutation of equally spaced numbers in (−1, 1): no two are near each other.
    Distinct,
    /// Whole numbers in 0..n.
    Ids(u64),
    /// The same number everywhere.
    Constant(f64),
}

/// An operand's shape and numbers.
#[derive(Debug, Clone)]
pub struct Operand {
    pub shape: Vec<usize>,
    pub fill: Fill,
    seed: u64,
}

impl Operand {
    /// `u` fill of that shape; `name` is what the numbers are drawn from.
    pub fn named(name: &str, shape: &[usize]) -> Self {
        Self { shape: shape.to_vec(), fill: Fill::Spread(1.0), seed: fnv(name) }
    }

    fn parse(text: &str, seed: u64) -> Option<Self> {
        let mut words = text.split(' ');
        let shape = match words.next()? {
            "scalar" => Vec::new(),
            shape => shape.split('x').map(|n| n.parse().ok()).collect::<Option<Vec<usize>>>()?,
        };
        let fill = match (words.next(), words.next()) {
            (None, None) => Fill::Spread(1.0),
            (Some("spread"), Some(s)) => Fill::Spread(s.parse().ok()?),
            (Some("positive"), None) => Fill::Positive,
            (Some("unit"), None) => Fill::Unit,
            (Some("distinct"), None) => Fill::Distinct,
            (Some("ids"), Some(n)) => Fill::Ids(n.parse().ok()?),
            (Some("constant"), Some(c)) => Fill::Constant(c.parse().ok()?),
            _ => return None,
        };
        Some(Self { shape, fill, seed })
    }

    /// Element type and shape.
    pub fn ty(&self) -> Type {
        let dtype = if matches!(self.fill, Fill::Ids(_)) { DType::I64 } else { DType::F32 };
        Type { dtype, shape: self.shape.iter().map(|&n| Dim::fixed(n)).collect() }
    }

    /// The numbers, each exact in f32.
    pub fn fill(&self) -> Vec<f64> {
        let count: usize = self.shape.iter().product();
        let word = |i: usize| splitmix(self.seed.wrapping_add(i as u64)) >> 40;
        let uniform = |i: usize| word(i) as f64 / 8_388_608.0 - 1.0;
        let exact = |v: f64| f64::from(v as f32);
        match self.fill {
            Fill::Spread(s) => (0..count).map(|i| exact(s * uniform(i))).collect(),
            Fill::Positive => (0..count).map(|i| exact(1.0 + uniform(i) / 2.0)).collect(),
            Fill::Unit => (0..count).map(|i| exact((1.0 + uniform(i)) / 2.0)).collect(),
            Fill::Ids(n) => (0..count).map(|i| ((word(i) * n) >> 24) as f64).collect(),
            Fill::Constant(c) => vec![exact(c); count],
            Fill::Distinct => {
                let mut order: Vec<usize> = (0..count).collect();
                order.sort_by_key(|&i| (word(i), i));
                let mut values = vec![0.0; count];
                for (rank, i) in order.into_iter().enumerate() {
                    values[i] = exact((2 * rank + 1) as f64 / count as f64 - 1.0);
                }
                values
            }
        }
    }

    /// The numbers in f32, without the detour through f64 that a hundred million of them would take.
    pub fn fill_f32(&self) -> Vec<f32> {
        let count: usize = self.shape.iter().product();
        let uniform = |i: usize| {
            f64::from((splitmix(self.seed.wrapping_add(i as u64)) >> 40) as u32) / 8_388_608.0 - 1.0
        };
        match self.fill {
            Fill::Spread(s) => (0..count).map(|i| (s * uniform(i)) as f32).collect(),
            _ => self.fill().into_iter().map(|v| v as f32).collect(),
        }
    }

    /// The numbers as ids.
    pub fn ids(&self) -> Vec<i64> {
        self.fill().into_iter().map(|v| v as i64).collect()
    }
}

/// FNV-1a, 64 bits.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0100_0000_01b3))
}

/// The output function of SplitMix64 (Steele, Lea, Flood 2014) at the state `i` steps of the golden ratio.
fn splitmix(i: u64) -> u64 {
    let mut z = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
