//! Recipes: a whole training as one TOML file.
//!
//! `[data]` says what is learnt from, `[model]` what is trained, `[loss]`, `[optimizer]`, `[schedule]` and `[warmup]`
//! how, `[run]` for how long, `[[augment]]` how inputs are varied, `[[groups]]` which parameters are treated apart.
//! The settings themselves are the libraries' own types, so a key is declared once.

mod data;
mod document;
mod model;
mod shipped;

use std::path::Path;

use kessen_data::{Augment, Splits};
use kessen_engine::Precision;
use kessen_train::{
    Bytes, CheckpointEvery, Clip, Config, EarlyStopping, Group, Loss, Monitor, Optimizer, Schedule, StepSpec,
    Warmup, Watch,
};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

pub use data::DataSpec;
pub use document::{Document, RecipeError, Result, advice};
pub use model::ModelSpec;
pub use shipped::{SHIPPED, find};

/// The sections of a recipe.
const SECTIONS: [&str; 11] =
    ["name", "about", "data", "model", "loss", "optimizer", "schedule", "warmup", "run", "augment", "groups"];

/// A recipe, read and checked.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// The name that a run folder gets.
    pub name: String,
    /// One line.
    pub about: String,
    /// What is learnt from.
    pub data: DataSpec,
    /// What is trained.
    pub model: ModelSpec,
    /// How.
    pub config: Config,
    document: Document,
}

/// `[run]`: how long, how large, what is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RunSection {
    epochs: usize,
    batch: usize,
    seed: u64,
    precision: Precision,
    accumulate: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    ema: Option<f64>,
    decay_all: bool,
    watch: Watch,
    monitor: Monitor,
    keep_best: bool,
    log_every: u64,
    workers: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit: Option<Bytes>,
    clip: Clip,
    #[serde(skip_serializing_if = "Option::is_none")]
    early_stopping: Option<EarlyStopping>,
    checkpoint: CheckpointEvery,
}

impl Default for RunSection {
    fn default() -> Self {
        Self::of(&Config::new(StepSpec::new(kessen_train::cross_entropy(), kessen_train::adam(1e-3))))
    }
}

impl RunSection {
    fn of(config: &Config) -> Self {
        Self {
            epochs: config.epochs,
            batch: config.batch,
            seed: config.seed,
            precision: config.precision,
            accumulate: config.step.accumulate,
            ema: config.step.ema,
            decay_all: config.step.decay_all,
            watch: config.step.watch,
            monitor: config.monitor,
            keep_best: config.keep_best,
            log_every: config.log_every,
            workers: config.workers,
            memory_limit: config.memory_limit,
            clip: config.step.clip,
            early_stopping: config.early_stopping,
            checkpoint: config.checkpoint,
        }
    }
}

impl Recipe {
    /// Reads the recipe `name`: an embedded one, or a file's path.
    ///
    /// # Errors
    /// A name that is neither, with the nearest one; whatever is wrong in the recipe or in `sets`, with its place.
    pub fn open(name: &str, sets: &[String]) -> anyhow::Result<Self> {
        let is_file = name.ends_with(".toml") || Path::new(name).is_file();
        let (stem, text) = if is_file {
            let text = crate::files::read_text(Path::new(name))?;
            let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy().into_owned();
            (stem, text)
        } else {
            (name.to_owned(), find(name)?.text.to_owned())
        };
        let mut document =
            Document::parse(&if is_file { name.to_owned() } else { format!("{name}.toml") }, &text)?;
        for assignment in sets {
            document.set(assignment)?;
        }
        Ok(Self::read(&stem, document)?)
    }

    /// Reads a recipe from its text, as it stands in a run folder.
    ///
    /// # Errors
    /// Whatever is wrong in it, with its place.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        Self::read(name, Document::parse(name, text)?)
    }

    fn read(name: &str, document: Document) -> Result<Self> {
        if let Some(key) = document.table.keys().find(|k| !SECTIONS.contains(&k.as_str())) {
            let advice = advice(key, &SECTIONS);
            return Err(document.error(key, format!("unknown section `{key}`"), Some(advice)));
        }
        let section = |key: &str| document.table.get(key).cloned();
        let table = |key: &str| section(key).unwrap_or_else(|| Value::Table(Table::new()));
        let needed = |key: &str| {
            section(key).ok_or_else(|| document.error(key, format!("the section [{key}] is missing"), None))
        };
        let name = match section("name") {
            Some(value) => document.read("name", value, &[])?,
            None => name.to_owned(),
        };
        if name.is_empty() || name.starts_with('.') || name.contains(['/', '\\']) {
            let problem = format!("`{name}` can't be the name of a run folder; use a word without / and \\");
            return Err(document.error("name", problem, None));
        }
        let about = match section("about") {
            Some(value) => document.read("about", value, &[])?,
            None => String::new(),
        };
        let data = DataSpec::read(&document, needed("data")?)?;
        let model = ModelSpec::read(&document, needed("model")?)?;
        let loss: Loss = document.read("loss", needed("loss")?, &[])?;
        let optimizer: Optimizer = document.read("optimizer", needed("optimizer")?, &[])?;
        let schedule = match section("schedule") {
            Some(value) => document.read("schedule", value, &[])?,
            None => Schedule::default(),
        };
        let warmup: Warmup = document.read("warmup", table("warmup"), &[])?;
        let run: RunSection = document.read("run", table("run"), &[])?;
        let list = |key: &str| section(key).unwrap_or_else(|| Value::Array(Vec::new()));
        let augment: Vec<Augment> = document.read("augment", list("augment"), &[])?;
        let groups: Vec<Group> = document.read("groups", list("groups"), &[])?;
        let mut step = StepSpec::new(loss, optimizer);
        step.groups = groups;
        let config = assemble(step, schedule, warmup, augment, run);
        let recipe = Self { name, about, data, model, config, document };
        recipe.config.check().map_err(|e| recipe.explain("run", e))?;
        Ok(recipe)
    }

    /// The data, read and split.
    ///
    /// # Errors
    /// A setting out of range with its place; whatever makes the data unreadable.
    pub fn open_data(&self) -> anyhow::Result<Splits> {
        self.data.open(self.config.seed).map_err(|error| match error.downcast::<kessen_data::Error>() {
            Ok(error) => self.explain("data", error.into()).into(),
            Err(other) => other,
        })
    }

    /// The wiring for data of that kind.
    ///
    /// # Errors
    /// What is wrong in the text form or in a zoo's arguments, with its place.
    pub fn build_model(&self, data: &Splits) -> anyhow::Result<kessen_graph::Graph> {
        self.model.build(&self.name, &self.document, data)
    }

    /// An error of a setting, at the place in the recipe where the setting stands.
    pub fn explain(&self, section: &str, error: kessen_train::Error) -> RecipeError {
        use kessen_train::Error;
        let option = match &error {
            Error::Option { option, .. } | Error::Data(kessen_data::Error::Option { option, .. }) => option,
            Error::Data(kessen_data::Error::Expression { .. }) => {
                return self.document.error("data.target", &error, None);
            }
            _ => return RecipeError::from_text(self.document.name.clone(), &error),
        };
        let first = option.split([',', ' ']).next().unwrap_or(option);
        let last = first.rsplit('.').next().unwrap_or(first);
        let in_run = format!("run.{first}");
        let kind = first.split('.').next().unwrap_or(first);
        let places = [first.to_owned(), in_run, format!("{section}.{first}"), format!("data.{last}")];
        let mut at = places.iter().find(|p| self.document.has(p)).cloned();
        for i in 0..self.config.augment.len() {
            let place = format!("augment.{i}.{last}");
            let same = self.document.table.get("augment").and_then(|a| a.get(i)).and_then(|a| a.get("kind"));
            if at.is_none() && same.and_then(Value::as_str) == Some(kind) && self.document.has(&place) {
                at = Some(place);
            }
        }
        self.document.error(at.as_deref().unwrap_or(section), &error, None)
    }

    /// The recipe with every default written out.
    ///
    /// # Errors
    /// None for a recipe that was read.
    pub fn to_toml(&self) -> anyhow::Result<String> {
        let mut table = Table::new();
        table.insert("name".to_owned(), Value::String(self.name.clone()));
        if !self.about.is_empty() {
            table.insert("about".to_owned(), Value::String(self.about.clone()));
        }
        table.insert("data".to_owned(), Value::Table(self.data.to_table()?));
        table.insert("model".to_owned(), Value::Table(self.model.to_table()));
        let config = &self.config;
        table.insert("loss".to_owned(), Value::try_from(&config.step.loss)?);
        table.insert("optimizer".to_owned(), Value::try_from(&config.step.optimizer)?);
        table.insert("schedule".to_owned(), Value::try_from(&config.schedule)?);
        table.insert("warmup".to_owned(), Value::try_from(config.warmup)?);
        let mut run = Table::try_from(RunSection::of(config))?;
        run.retain(|_, v| v.as_table().is_none_or(|t| !t.is_empty()));
        table.insert("run".to_owned(), Value::Table(run));
        for (key, list) in [
            ("augment", Value::try_from(&config.augment)?),
            ("groups", Value::try_from(&config.step.groups)?),
        ] {
            if list.as_array().is_some_and(|l| !l.is_empty()) {
                table.insert(key.to_owned(), list);
            }
        }
        let mut value = Value::Table(table);
        shorten(&mut value);
        Ok(toml::to_string(&value)?)
    }
}

/// Writes single precision as it was meant: 0.1 instead of 0.10000000149011612, which reads back as the same f32.
fn shorten(value: &mut Value) {
    match value {
        Value::Float(v) if f64::from(*v as f32) == *v => *v = (*v as f32).to_string().parse().unwrap_or(*v),
        Value::Array(items) => items.iter_mut().for_each(shorten),
        Value::Table(table) => table.iter_mut().for_each(|(_, v)| shorten(v)),
        _ => {}
    }
}

impl RecipeError {
    fn from_text(name: String, error: &dyn std::fmt::Display) -> Self {
        Document::parse(&name, "").map_or_else(|e| e, |d| d.error("", error, None))
    }
}

fn assemble(
    step: StepSpec,
    schedule: Schedule,
    warmup: Warmup,
    augment: Vec<Augment>,
    run: RunSection,
) -> Config {
    let step = StepSpec {
        clip: run.clip,
        accumulate: run.accumulate,
        ema: run.ema,
        decay_all: run.decay_all,
        watch: run.watch,
        ..step
    };
    Config {
        step,
        schedule,
        warmup,
        epochs: run.epochs,
        batch: run.batch,
        seed: run.seed,
        precision: run.precision,
        augment,
        monitor: run.monitor,
        early_stopping: run.early_stopping,
        keep_best: run.keep_best,
        checkpoint: run.checkpoint,
        log_every: run.log_every,
        workers: run.workers,
        memory_limit: run.memory_limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A generator for tests: Marsaglia's xorshift (2003).
    fn next(state: &mut u64) -> usize {
        *state ^= *state << 13;
        *state ^= *state >> 7;
        *state ^= *state << 17;
        (*state >> 11) as usize
    }

    #[test]
    fn damaged_recipes_are_refused_or_read_but_never_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15;
        let alphabet: Vec<char> = "abcdefgh[]{}=\"'#.,0123456789-+_$\n é語".chars().collect();
        let (mut read, mut refused) = (0, 0);
        for round in 0..3000 {
            let mut text: Vec<char> = SHIPPED[round % SHIPPED.len()].text.chars().collect();
            for _ in 0..1 + next(&mut state) % 4 {
                let (at, length) = (next(&mut state) % text.len(), next(&mut state) % 9);
                match next(&mut state) % 3 {
                    0 => text[at] = alphabet[next(&mut state) % alphabet.len()],
                    1 => drop(text.drain(at..(at + length).min(text.len()))),
                    _ => text.insert(at, alphabet[next(&mut state) % alphabet.len()]),
                }
            }
            let text: String = text.into_iter().collect();
            match Recipe::parse("damaged.toml", &text) {
                Ok(recipe) => {
                    read += 1;
                    let written = recipe.to_toml().unwrap();
                    let again =
                        Recipe::parse("again.toml", &written).unwrap_or_else(|e| panic!("{e}\n{written}"));
                    assert_eq!(again.config, recipe.config, "{written}");
                }
                Err(error) => {
                    refused += 1;
                    assert!(error.to_string().contains("damaged.toml"), "{error}");
                }
            }
        }
        assert!(read > 100 && refused > 100, "{read} read, {refused} refused");
    }

    #[test]
    fn settings_change_what_they_name() {
        let sets =
            ["epochs=3", "optimizer.kind=sgd", "optimizer.lr=0.5", "schedule.kind=constant", "augment=[]"];
        let recipe = Recipe::open("digits", &sets.map(str::to_owned)).unwrap();
        assert_eq!(recipe.config.epochs, 3);
        assert_eq!(recipe.config.step.optimizer, kessen_train::sgd(0.5));
        assert_eq!(recipe.config.schedule, Schedule::default());
        assert_eq!(recipe.config.augment, Vec::<Augment>::new());
    }

    #[test]
    fn single_precision_is_written_as_it_was_meant() {
        let written = Recipe::open("digits", &[]).unwrap().to_toml().unwrap();
        assert!(written.contains("scale = 0.1\n") && written.contains("lr = 0.004\n"), "{written}");
    }
}
