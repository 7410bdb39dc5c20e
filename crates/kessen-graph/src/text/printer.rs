//! Graph → text.
//!
//! Values are printed in their order, so that reading declares them in the same order. A parameter that begins a
//! layer is printed as the layer, where building that layer gives exactly the values at hand.

use std::collections::HashSet;

use kessen_tensor::{DType, Tensor};

use crate::graph::{NodeId, Origin, Param, ParamKind, Value, ValueId};
use crate::names::Names;
use crate::{DEFAULT_WEIGHT, Graph, GraphBuilder, Init, Op, Wire};

use super::arguments::{Arguments, Word};
use super::declare::{element_texts, float_text};
use super::layers::{Description, LAYERS, Layer, View, init_text};
use super::lexer::Place;
use super::vocabulary::{DERIVED, Vocabulary, attribute_text, is_reserved, leading_key, word_of};

/// Columns of a line, where its parts allow it.
const WIDTH: usize = 100;
/// Parameters of a layer at most.
const MAX_PARAMS: usize = 64;

/// The text of a graph.
pub(super) fn print(graph: &Graph) -> String {
    let custom: Vec<_> = graph
        .nodes()
        .iter()
        .filter_map(|n| match &n.op {
            Op::Custom(c) => Some(c.operator.clone()),
            _ => None,
        })
        .collect();
    let mut printer = Printer {
        graph,
        vocabulary: Vocabulary::new(&custom),
        text: String::new(),
        line: String::new(),
        current: None,
        names: Names::default(),
        inline: HashSet::new(),
        uses: graph.use_counts(),
        full: false,
    };
    printer.run();
    printer.text
}

struct Printer<'g> {
    graph: &'g Graph,
    vocabulary: Vocabulary<'g>,
    text: String,
    line: String,
    current: Option<ValueId>,
    /// The names so far.
    names: Names,
    /// Constants that the next node's operands show as numbers.
    inline: HashSet<ValueId>,
    uses: Vec<usize>,
    /// Whether the line ends before the next layer.
    full: bool,
}

impl<'g> Printer<'g> {
    fn run(&mut self) {
        let graph = self.graph;
        if !graph.name().is_empty() {
            let name = graph.name();
            let word =
                name.chars().all(|c| c.is_alphanumeric() || "_-.".contains(c)).then(|| name.to_owned());
            self.statement(&format!("graph {}", word.unwrap_or_else(|| format!("{name:?}"))));
        }
        let mut i = 0;
        while i < graph.values().len() {
            let id = ValueId::new(i);
            let value = graph.value(id);
            let count = match &value.origin {
                Origin::Input => self.input(id, value),
                Origin::Param(p) => self.layer(i).unwrap_or_else(|| self.param(graph.param(*p))),
                Origin::Constant(tensor) => {
                    self.inline_constants(i).unwrap_or_else(|| self.constant(value, tensor))
                }
                Origin::Node(node, _) => self.node(*node),
            };
            for value in &graph.values()[i..i + count] {
                self.names.insert(&value.name);
            }
            i += count;
        }
        self.ends();
    }

    fn flush(&mut self) {
        if !self.line.is_empty() {
            self.text.push_str(&self.line);
            self.text.push('\n');
            self.line.clear();
        }
        self.full = false;
    }

    fn statement(&mut self, text: &str) {
        self.flush();
        self.text.push_str(text);
        self.text.push('\n');
    }

    fn input(&mut self, id: ValueId, value: &Value) -> usize {
        let dims: Vec<String> = value.ty.shape.iter().map(ToString::to_string).collect();
        let ambiguous = dims.first().is_some_and(|d| d.parse::<DType>().is_ok());
        let dtype =
            if value.ty.dtype == DType::F32 && !ambiguous { None } else { Some(value.ty.dtype.to_string()) };
        let words: Vec<String> = ["input".to_owned()].into_iter().chain(dtype).chain(dims).collect();
        self.statement(&format!("{}: {}", value.name, words.join(" ")));
        self.current = Some(id);
        1
    }

    fn param(&mut self, param: &Param) -> usize {
        let (word, usual) = match param.kind {
            ParamKind::Weight => ("param", DEFAULT_WEIGHT),
            ParamKind::Buffer => ("buffer", Init::Constant(0.0)),
            ParamKind::State => ("state", Init::Constant(0.0)),
        };
        let mut text = format!("{word} {}", param.path);
        param.shape.iter().for_each(|n| text.push_str(&format!(" {n}")));
        if param.init != usual {
            text.push_str(&format!(" init {}", init_text(param.init)));
        }
        self.statement(&text);
        1
    }

    fn constant(&mut self, value: &Value, tensor: &Tensor) -> usize {
        let mut text = format!("const {}", value.name);
        if tensor.dtype() != DType::F32 {
            text.push_str(&format!(" {}", tensor.dtype()));
        }
        tensor.shape().iter().for_each(|n| text.push_str(&format!(" {n}")));
        text.push_str(" =");
        element_texts(tensor).iter().for_each(|v| text.push_str(&format!(" {v}")));
        self.statement(&text);
        1
    }

    /// Scalars from value `i` on that the next node uses as operands in the same order, and that have the names
    /// which numbers among operands get. Returns how many values they are.
    fn inline_constants(&mut self, i: usize) -> Option<usize> {
        let values = &self.graph.values()[i..];
        let scalar = |v: &Value| match &v.origin {
            Origin::Constant(t) => scalar_text(t).is_some(),
            _ => false,
        };
        let count = values.iter().take(MAX_PARAMS).take_while(|v| scalar(v)).count();
        let Origin::Node(node, _) = values.get(count)?.origin else { return None };
        for value in &values[..count] {
            if value.name != self.names.fresh("constant") {
                return None;
            }
            self.names.insert(&value.name);
        }
        let run: Vec<ValueId> = (i..i + count).map(ValueId::new).collect();
        let operands = self.graph.node(node).inputs.iter().filter(|v| run.contains(v)).copied();
        if operands.collect::<Vec<_>>() != run {
            return None;
        }
        self.inline.extend(run);
        (count > 0).then_some(count)
    }

    /// Prints the layer that begins with the parameter at value `i`, if one does. Returns how many values it makes.
    fn layer(&mut self, i: usize) -> Option<usize> {
        let values = &self.graph.values()[i..];
        let params: Vec<&Param> = values
            .iter()
            .take(MAX_PARAMS)
            .map_while(|v| match v.origin {
                Origin::Param(p) => Some(self.graph.param(p)),
                _ => None,
            })
            .collect();
        let Origin::Node(id, 0) = values.get(params.len())?.origin else { return None };
        let view = View { graph: self.graph, params, node: self.graph.node(id) };
        for layer in &LAYERS {
            let Some(mut description) = (layer.describe)(&view) else { continue };
            if let Some(usual) = (layer.operator)() {
                let op = view.node.op.operator();
                if usual.operator().name() != op.name() {
                    continue;
                }
                description.before.push_str(&attribute_text(op, usual.operator(), None));
            }
            let Some((count, result)) = self.builds(layer, &description, i) else { continue };
            let mut words = vec![layer.words[0].to_owned(), description.path.clone()];
            words.extend([&description.before, &description.behind].map(|w| w.trim().to_owned()));
            for (key, values) in &description.values {
                let names: Vec<&str> = values.iter().map(|v| self.graph.value(*v).name.as_str()).collect();
                words.push(match names.as_slice() {
                    [name] => format!("{key} {name}"),
                    names => format!("{key} [{}]", names.join(",")),
                });
            }
            words.retain(|w| !w.is_empty());
            self.chain(&words.join(" "), Some(description.operand), None, result, true);
            return Some(count);
        }
        None
    }

    /// Builds the layer as described. Where that gives exactly the values from `i` on: how many they
    /// are, and the layer's result.
    fn builds(&self, layer: &Layer, said: &Description, i: usize) -> Option<(usize, ValueId)> {
        let place = Place { line: 1, column: 1 };
        let words = format!("{} {}", said.before, said.behind);
        let words: Vec<Word> = words.split_whitespace().map(|w| Word { text: w.to_owned(), place }).collect();
        let mut arguments = Arguments::read(layer.words[0], place, &words, &layer.signature()).ok()?;
        // The built graph begins with inputs that stand for the values outside the layer.
        let mut outer = vec![said.operand];
        for v in said.values.iter().flat_map(|(_, values)| values) {
            if !outer.contains(v) {
                outer.push(*v);
            }
        }
        if outer.iter().any(|v| v.index() >= i) {
            return None;
        }
        let builder = GraphBuilder::from_graph(Graph::new(""));
        let value = |v: &ValueId| self.graph.value(*v);
        let wires: Vec<Wire> =
            outer.iter().map(|v| builder.input_of(&value(v).name, value(v).ty.clone())).collect();
        if said.automatic_names {
            builder.with(|g| {
                g.reserve(&self.names);
                Ok(())
            });
        }
        let wire = |v: &ValueId| wires[outer.iter().position(|o| o == v).unwrap_or(0)].clone();
        for (key, values) in &said.values {
            arguments.set_wires(key, values.iter().map(wire).collect());
        }
        let result = (layer.build)(&wires[0], &said.path, &arguments).ok()?.id()?;
        if builder.take_error().is_some() {
            return None;
        }
        let built = builder.with(|g| Ok(std::mem::take(g)))?;
        let of_built = |v: ValueId| match outer.get(v.index()) {
            Some(v) => *v,
            None => ValueId::new(i + v.index() - outer.len()),
        };
        let count = built.values().len() - outer.len();
        let same = |v: ValueId| self.is_same(&built, v, of_built(v));
        let alike = built.value_ids().skip(outer.len()).all(same)
            && built.nodes().iter().all(|node| {
                let original = self.graph.producer(of_built(node.outputs[0]));
                original.map(|(id, _)| self.graph.node(id)).is_some_and(|original| {
                    node.path == original.path
                        && node.op == original.op
                        && node.inputs.iter().map(|v| of_built(*v)).eq(original.inputs.iter().copied())
                })
            });
        alike.then(|| (count, of_built(result)))
    }

    /// Whether value `a` of `built` and value `b` of the printed graph are alike, their nodes aside.
    fn is_same(&self, built: &Graph, a: ValueId, b: ValueId) -> bool {
        let (a, Some(b)) = (built.value(a), self.graph.values().get(b.index())) else { return false };
        a.name == b.name
            && a.ty == b.ty
            && match (&a.origin, &b.origin) {
                (Origin::Param(p), Origin::Param(q)) => {
                    let (p, q) = (built.param(*p), self.graph.param(*q));
                    p.kind == q.kind && p.init == q.init
                }
                (Origin::Node(_, j), Origin::Node(_, k)) => j == k,
                (Origin::Constant(s), Origin::Constant(t)) => s == t,
                _ => false,
            }
    }

    fn node(&mut self, id: NodeId) -> usize {
        let node = self.graph.node(id);
        let is_automatic = |stem: &str| node.path == self.names.fresh(stem);
        let ty = node.inputs.first().map(|&v| self.graph.ty(v));
        let derived = DERIVED.iter().find(|d| {
            node.inputs.len() == 1
                && ty.and_then(|t| (d.op)(t)).as_ref() == Some(&node.op)
                && is_automatic(d.stem)
        });
        let (word, attributes, automatic) = match derived {
            Some(d) => (d.word.to_owned(), String::new(), true),
            None => {
                let (word, usual) = word_of(&node.op);
                let (op, usual) = (node.op.operator(), usual.operator());
                let attributes = attribute_text(op, usual, leading_key(op));
                (word, attributes, is_automatic(node.op.operator().word()))
            }
        };
        let label = (!automatic).then_some(node.path.as_str());
        let is_layer = super::layers::find(&word).is_some();
        match node.inputs.as_slice() {
            [x] if !self.inline.contains(x) && !is_layer => {
                self.chain(&format!("{word}{attributes}"), Some(*x), label, node.outputs[0], false);
            }
            operands => {
                let names: Vec<String> = operands.iter().map(|&v| self.operand(v)).collect();
                if !names.iter().any(|n| n == "_") {
                    self.flush();
                }
                let text = format!("{word}({}){attributes}", names.join(", "));
                self.chain(&text, None, label, node.outputs[0], false);
            }
        }
        self.inline.clear();
        node.outputs.len()
    }

    fn operand(&self, v: ValueId) -> String {
        let value = self.graph.value(v);
        match &value.origin {
            _ if self.current == Some(v) => "_".to_owned(),
            Origin::Constant(t) if self.inline.contains(&v) => scalar_text(t).unwrap_or_default(),
            _ => value.name.clone(),
        }
    }

    /// Adds a stage that works on `x` (`None`: its operands are in the text) to the line, or begins a new one.
    fn chain(&mut self, text: &str, x: Option<ValueId>, label: Option<&str>, result: ValueId, layer: bool) {
        let wide = self.line.chars().count() + text.len() > WIDTH;
        if let Some(x) = x.filter(|x| self.current != Some(*x)) {
            self.flush();
            let name = &self.graph.value(x).name;
            self.line = if is_reserved(name, &self.vocabulary) { format!("({name})") } else { name.clone() };
        } else if label.is_some() || (self.full && layer) || wide {
            self.flush();
        }
        if !self.line.is_empty() {
            self.line.push_str(" | ");
        }
        self.line.push_str(text);
        self.current = Some(result);
        // A section ends where the shape changes without parameters (pooling, flatten) or where a branch begins.
        let branch = self.uses[result.index()] > 1;
        let resized = !layer
            && self.graph.producer(result).is_some_and(|(n, _)| {
                self.graph.node(n).inputs.first().is_some_and(|&x| self.graph.ty(x) != self.graph.ty(result))
            });
        self.full |= resized;
        if let Some(label) = label {
            self.line = format!("{label}: {}", self.line);
            self.flush();
        } else if branch {
            self.flush();
        }
    }

    fn ends(&mut self) {
        let outputs = self.graph.outputs();
        match outputs {
            [] if self.current.is_none() => {}
            [] => self.statement("no output"),
            [(name, value)] if self.current == Some(*value) => {
                if name != "output" {
                    let stage = format!("output {name}");
                    self.line = if self.line.is_empty() { stage } else { format!("{} | {stage}", self.line) };
                }
            }
            outputs => {
                for (name, value) in outputs {
                    self.statement(&format!("output {name} {}", self.graph.value(*value).name));
                }
            }
        }
        for (param, value) in self.graph.updates() {
            let (param, value) = (self.graph.param(*param), self.graph.value(*value));
            self.statement(&format!("update {} {}", param.path, value.name));
        }
        self.flush();
    }
}

/// The number that stands for the scalar among operands, where it can.
fn scalar_text(tensor: &Tensor) -> Option<String> {
    let value = match tensor.as_slice::<f32>() {
        Ok(&[v]) if tensor.shape().is_empty() => v,
        _ => return None,
    };
    Some(float_text(value, f32::is_finite)).filter(|t| !t.is_empty())
}
