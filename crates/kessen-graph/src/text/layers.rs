//! Layers of the text form: words that declare parameters and apply an operator, as the builder's methods do.
//!
//! A layer stands here once: its words, what it is given, how the builder makes it, and how a node with its
//! parameters is described in its words. A description need not be careful: the printer builds what it describes and
//! keeps it only where the result equals the graph at hand.

use crate::graph::Param;
use crate::ops::conv::{Conv, conv_rect};
use crate::{DEFAULT_WEIGHT, Init, Op, Result, Wire};

use super::arguments::{Arguments, Signature};
use super::vocabulary::{attribute_keys, plain};

/// A layer.
pub(super) struct Layer {
    /// Its words; the first is printed.
    pub words: &'static [&'static str],
    /// How it is written.
    pub usage: &'static str,
    /// Values that need no name.
    pub positional: &'static [&'static str],
    /// Values with names, besides the operator's attributes.
    pub keys: &'static [&'static str],
    /// Words that stand alone.
    pub flags: &'static [&'static str],
    /// The operator whose attributes it takes.
    pub operator: fn() -> Op,
    /// Makes it.
    pub build: fn(&Wire, &str, &Arguments<'_>) -> Result<Wire>,
    /// The words behind the path for a node of the operator with these parameters, attributes excluded.
    pub describe: fn(&[&Param]) -> Option<String>,
}

/// Every layer.
pub(super) static LAYERS: [Layer; 2] = [
    Layer {
        words: &["conv"],
        usage: "conv PATH FILTERS KERNEL [stride S] [pad P] [dilation D] [groups G] [nobias] [init I] [bias_init I]",
        positional: &["filters", "kernel"],
        keys: &["init", "bias_init"],
        flags: &["nobias"],
        operator: || Conv::default().into(),
        build: build_conv,
        describe: describe_conv,
    },
    Layer {
        words: &["linear"],
        usage: "linear PATH OUTPUTS [nobias] [init I] [bias_init I]",
        positional: &["outputs"],
        keys: &["init", "bias_init"],
        flags: &["nobias"],
        operator: || crate::ops::linear::Linear::default().into(),
        build: build_linear,
        describe: describe_linear,
    },
];

/// The layer of that word.
pub(super) fn find(word: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|l| l.words.iter().any(|w| plain(w) == plain(word)))
}

impl Layer {
    /// What may stand behind the layer's path.
    pub(super) fn signature(&self) -> Signature<'static> {
        let op = (self.operator)();
        let own = self.keys.iter().copied();
        let keys = own.chain(attribute_keys(op.operator())).collect();
        Signature {
            positional: self.positional.to_vec(),
            keys,
            flags: self.flags.to_vec(),
            usage: self.usage.to_owned(),
        }
    }
}

fn build_conv(x: &Wire, path: &str, a: &Arguments<'_>) -> Result<Wire> {
    let mut op = Conv::default();
    a.set(&mut op)?;
    let mut spec = conv_rect(a.size("filters")?, a.require("kernel")?).attributes(op);
    if let Some(init) = a.init("init")? {
        spec = spec.init(init);
    }
    if a.flag("nobias") {
        spec = spec.no_bias();
    }
    let bias_init = a.init("bias_init")?;
    let y = x.conv(path, spec);
    set_bias(&y, path, bias_init);
    Ok(y)
}

fn describe_conv(params: &[&Param]) -> Option<String> {
    let [filters, channels, height, width] = params.first()?.shape.as_slice() else { return None };
    let fan_in = channels * height * width;
    Some(format!("{filters} {height}x{width}{}", weight_and_bias(params, fan_in)))
}

fn build_linear(x: &Wire, path: &str, a: &Arguments<'_>) -> Result<Wire> {
    let outputs = a.size("outputs")?;
    let (init, bias_init) = (a.init("init")?.unwrap_or(DEFAULT_WEIGHT), a.init("bias_init")?);
    let y = x.linear_with(path, outputs, init, !a.flag("nobias"));
    set_bias(&y, path, bias_init);
    Ok(y)
}

fn describe_linear(params: &[&Param]) -> Option<String> {
    let [outputs, inputs] = params.first()?.shape.as_slice() else { return None };
    Some(format!("{outputs}{}", weight_and_bias(params, *inputs)))
}

fn set_bias(y: &Wire, path: &str, init: Option<Init>) {
    if let Some(init) = init {
        y.builder().set_init(&format!("{path}.bias"), init);
    }
}

/// `nobias`, `init` and `bias_init` where they are not the usual ones.
fn weight_and_bias(params: &[&Param], fan_in: usize) -> String {
    let weight = params.first().filter(|w| w.init != DEFAULT_WEIGHT);
    let mut text = weight.map(|w| format!(" init {}", init_text(w.init))).unwrap_or_default();
    match params.get(1) {
        None => text.insert_str(0, " nobias"),
        Some(b) if b.init != Init::default_bias(fan_in) => {
            text.push_str(&format!(" bias_init {}", init_text(b.init)));
        }
        Some(_) => {}
    }
    text
}

/// The shortest text of an initialiser.
pub(super) fn init_text(init: Init) -> String {
    let full = init.to_string();
    let name = full.split('(').next().unwrap_or_default();
    let short = ["zeros", "ones", name].into_iter().find(|s| s.parse() == Ok(init));
    short.map_or(full.clone(), str::to_owned)
}
