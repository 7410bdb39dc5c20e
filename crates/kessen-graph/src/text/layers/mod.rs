//! Layers of the text form: words that declare parameters and apply an operator, as the builder's methods do.
//!
//! A layer stands here once: its words, what it is given, how the builder makes it, and how a node with its
//! parameters is described in its words. A description need not be careful: the printer builds what it describes and
//! keeps it only where the result equals the graph at hand.

mod attention;
mod recurrent;

use crate::graph::{Graph, Node, Param, ValueId};
use crate::ops::batch_norm::BatchNorm;
use crate::ops::conv::{Conv, conv_rect};
use crate::ops::embedding::Embedding;
use crate::ops::layer_norm::LayerNorm;
use crate::ops::linear::Linear;
use crate::{DEFAULT_WEIGHT, Init, Op, Result, Wire};

use super::arguments::{Arguments, Signature};
use super::vocabulary::{attribute_keys, flag_keys, plain};

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
    /// Names of values besides the one it is applied to: one, or several in brackets.
    pub values: &'static [&'static str],
    /// Words that stand alone.
    pub flags: &'static [&'static str],
    /// The operator that it applies, whose attributes it takes; none where it is composed of several.
    pub operator: fn() -> Option<Op>,
    /// Makes it.
    pub build: fn(&Wire, &str, &Arguments<'_>) -> Result<Wire>,
    /// The words for what begins at a place of a graph, where it may be this layer.
    pub describe: fn(&View<'_>) -> Option<Description>,
}

/// A place of a graph where parameters begin.
pub(super) struct View<'g> {
    /// The graph.
    pub graph: &'g Graph,
    /// The parameters, up to the first other value.
    pub params: Vec<&'g Param>,
    /// The node that computes that value.
    pub node: &'g Node,
}

/// A layer in words.
#[derive(Debug)]
pub(super) struct Description {
    /// Its path.
    pub path: String,
    /// What stands before the operator's attributes.
    pub before: String,
    /// What stands behind them.
    pub behind: String,
    /// The values it names.
    pub values: Vec<(&'static str, Vec<ValueId>)>,
    /// The value it is applied to.
    pub operand: ValueId,
    /// Whether some of its nodes have no names of their own.
    pub automatic_names: bool,
}

impl Description {
    fn of(view: &View<'_>, before: String, behind: String) -> Option<Self> {
        let operand = *view.node.inputs.first()?;
        let path = view.node.path.clone();
        Some(Self { path, before, behind, values: Vec::new(), operand, automatic_names: false })
    }
}

/// Every layer.
pub(super) static LAYERS: [Layer; 12] = [
    Layer {
        words: &["conv"],
        usage: "conv PATH FILTERS KERNEL [stride S] [pad P] [dilation D] [groups G] [nobias] [init I] [bias_init I]",
        positional: &["filters", "kernel"],
        keys: &["init", "bias_init"],
        values: &[],
        flags: &["nobias"],
        operator: || Some(Conv::default().into()),
        build: build_conv,
        describe: describe_conv,
    },
    Layer {
        words: &["linear"],
        usage: "linear PATH OUTPUTS [nobias] [init I] [bias_init I]",
        positional: &["outputs"],
        keys: &["init", "bias_init"],
        values: &[],
        flags: &["nobias"],
        operator: || Some(Linear::default().into()),
        build: build_linear,
        describe: describe_linear,
    },
    Layer {
        words: &["bn", "batch_norm"],
        usage: "bn PATH [eps E] [momentum M]",
        positional: &[],
        keys: &[],
        values: &[],
        flags: &[],
        operator: || Some(BatchNorm::default().into()),
        build: |x, path, a| {
            let mut op = BatchNorm::default();
            a.set(&mut op)?;
            Ok(x.batch_norm_with(path, op))
        },
        describe: |view| Description::of(view, String::new(), String::new()),
    },
    Layer {
        words: &["layer_norm"],
        usage: "layer_norm PATH [dims D] [eps E] [noaffine]",
        positional: &[],
        keys: &[],
        values: &[],
        flags: &["noaffine"],
        operator: || Some(LayerNorm::default().into()),
        build: |x, path, a| {
            let mut op = LayerNorm::default();
            a.set(&mut op)?;
            Ok(x.layer_norm_with(path, op, !a.flag("noaffine")))
        },
        describe: |view| Description::of(view, String::new(), String::new()),
    },
    Layer {
        words: &["embedding"],
        usage: "embedding PATH VOCABULARY FEATURES [padding_index I] [init I]",
        positional: &["vocabulary", "features"],
        keys: &["init"],
        values: &[],
        flags: &[],
        operator: || Some(Embedding::default().into()),
        build: |x, path, a| {
            let mut op = Embedding::default();
            a.set(&mut op)?;
            let init = a.init("init")?.unwrap_or(Init::Normal(1.0));
            Ok(x.embedding_with(path, a.size("vocabulary")?, a.size("features")?, op, init))
        },
        describe: |view| {
            let weight = view.params.first()?;
            let [vocabulary, features] = weight.shape.as_slice() else { return None };
            let usual = weight.init == Init::Normal(1.0);
            let init = if usual { String::new() } else { format!(" init {}", init_text(weight.init)) };
            Description::of(view, format!("{vocabulary} {features}"), init)
        },
    },
    Layer {
        words: &["group_norm"],
        usage: "group_norm PATH GROUPS",
        positional: &["groups"],
        keys: &[],
        values: &[],
        flags: &[],
        operator: || None,
        build: |x, path, a| Ok(x.group_norm(path, a.size("groups")?)),
        describe: |_| None,
    },
    Layer {
        words: &["rms_norm"],
        usage: "rms_norm PATH [eps E]",
        positional: &[],
        keys: &["eps"],
        values: &[],
        flags: &[],
        operator: || None,
        build: |x, path, a| Ok(x.rms_norm(path, a.get::<f64>("eps")?.unwrap_or(1e-6) as f32)),
        describe: |_| None,
    },
    recurrent::ELMAN,
    recurrent::LSTM,
    recurrent::GRU,
    attention::SELF_ATTENTION,
    attention::CROSS_ATTENTION,
];

/// The layer of that word.
pub(super) fn find(word: &str) -> Option<&'static Layer> {
    LAYERS.iter().find(|l| l.words.iter().any(|w| plain(w) == plain(word)))
}

impl Layer {
    /// What may stand behind the layer's path.
    pub(super) fn signature(&self) -> Signature<'static> {
        let mut keys: Vec<&'static str> = self.keys.iter().chain(self.values).copied().collect();
        let mut flags = self.flags.to_vec();
        if let Some(op) = (self.operator)() {
            flags.extend(flag_keys(op.operator()));
            keys.extend(attribute_keys(op.operator()).into_iter().filter(|k| !flags.contains(k)));
        }
        Signature { positional: self.positional.to_vec(), keys, flags, usage: self.usage.to_owned() }
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

fn describe_conv(view: &View<'_>) -> Option<Description> {
    let params = &view.params;
    let [filters, channels, height, width] = params.first()?.shape.as_slice() else { return None };
    let fan_in = channels * height * width;
    Description::of(view, format!("{filters} {height}x{width}"), weight_and_bias(params, fan_in))
}

fn build_linear(x: &Wire, path: &str, a: &Arguments<'_>) -> Result<Wire> {
    let outputs = a.size("outputs")?;
    let (init, bias_init) = (a.init("init")?.unwrap_or(DEFAULT_WEIGHT), a.init("bias_init")?);
    let y = x.linear_with(path, outputs, init, !a.flag("nobias"));
    set_bias(&y, path, bias_init);
    Ok(y)
}

fn describe_linear(view: &View<'_>) -> Option<Description> {
    let params = &view.params;
    let [outputs, inputs] = params.first()?.shape.as_slice() else { return None };
    Description::of(view, outputs.to_string(), weight_and_bias(params, *inputs))
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
