//! Metrics: each a value that knows its name, which direction is better, and what OpenAI calls it. The formulas are
//! beside them, in tables of [`Score`]s by what is predicted. Whoever needs a metric (early stopping, the best
//! checkpoint, the result file, events) asks the value.

pub mod classes;
pub mod guesses;
pub mod labels;
pub mod preferences;
pub mod regression;

use std::cmp::Ordering;
use std::fmt;
use std::sync::LazyLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which direction is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Lower,
    Higher,
}

/// What an evaluation measures. Two are equal if their names are.
#[derive(Clone, Copy)]
pub struct Metric {
    name: &'static str,
    better: Better,
    /// OpenAI's name, of those that its service measures too; they are the ones that events tell.
    openai: Option<&'static str>,
    /// Whether its values on the validation data have a column in every result file, as OpenAI's have, not only in those
    /// of runs that measure it.
    always_in_result_file: bool,
}

/// The mean of the loss that is trained, without what regularises it.
pub const LOSS: Metric = Metric { openai: Some("loss"), ..Metric::new("loss", Better::Lower) };

/// The share of right predictions, of whatever is predicted.
pub const ACCURACY: Metric = Metric { openai: Some("mean_token_accuracy"), ..Metric::new("accuracy", Better::Higher) };

impl Metric {
    /// A metric of ours alone.
    const fn new(name: &'static str, better: Better) -> Self {
        Self { name, better, openai: None, always_in_result_file: false }
    }

    /// Its name on the wire, in reports and in storage.
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Which direction is better.
    pub const fn better(self) -> Better {
        self.better
    }

    /// How much better `value` is than `other`; below 0 if it is worse.
    pub fn gain(self, value: f64, other: f64) -> f64 {
        match self.better() {
            Better::Lower => other - value,
            Better::Higher => value - other,
        }
    }

    /// Its name where it is measured on `split`.
    pub fn on(self, split: Split) -> String {
        format!("{}_{}", split.about().name, self.name())
    }

    /// What OpenAI calls it there: none, one name or several.
    pub fn openai_names(self, split: Split) -> impl Iterator<Item = String> {
        let names = self.openai.map(|name| split.about().openai.iter().map(move |split| format!("{split}_{name}")));
        names.into_iter().flatten()
    }

    /// How an event begins to tell its value on `split`: `full validation loss`. None of those that events leave out.
    pub fn words(self, split: Split) -> Option<String> {
        self.openai.map(|_| format!("{} {}", split.about().words, self.name()))
    }

    /// Its column in the result file, and whether that is there in any case.
    pub fn column(self, split: Split) -> (String, bool) {
        let about = split.about();
        let name = self.openai.filter(|_| split == Split::Validation).unwrap_or(self.name());
        let always = self.openai.is_some() || (split == Split::Validation && self.always_in_result_file);
        (format!("{}_{name}", about.column), always)
    }
}

/// Data that a run measures itself on as it goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The batches of one step.
    Training,
    /// The whole validation data.
    Validation,
}

struct AboutSplit {
    name: &'static str,
    openai: &'static [&'static str],
    words: &'static str,
    column: &'static str,
}

impl Split {
    const fn about(self) -> &'static AboutSplit {
        match self {
            Self::Training => &AboutSplit { name: "train", openai: &["train"], words: "training", column: "train" },
            // OpenAI's `valid_` is a sample of the validation data; ours is all of it, so that both names fit.
            Self::Validation => &AboutSplit {
                name: "full_valid",
                openai: &["valid", "full_valid"],
                words: "full validation",
                column: "valid",
            },
        }
    }
}

/// What a step has beside metrics.
pub const LEARNING_RATE: &str = "learning_rate";
/// The norm of the gradient before it is clipped.
pub const GRAD_NORM: &str = "grad_norm";
/// Tokens that the training has seen so far.
pub const TRAINED_TOKENS: &str = "trained_tokens";
/// Tokens that a step trained on in a second, padding not counted; none of images. Wall clock: no two runs have the same.
pub const TOKENS_PER_SECOND: &str = "tokens_per_second";
/// The share of the floating-point operations that the device could do which the model's own are, 0 to 1; of GPUs whose peak is
/// known. Wall clock as well.
pub const MODEL_FLOPS_UTILIZATION: &str = "model_flops_utilization";
/// Most bytes of GPU memory so far.
pub const PEAK_DEVICE_MEMORY: &str = "peak_device_memory";

/// A metric and its formula over counts of the kind `C`.
pub struct Score<C> {
    pub metric: Metric,
    /// None where the counts have no such score.
    pub of: fn(&C) -> Option<f64>,
    /// Whether a report says how sure it is, by a bootstrap.
    pub interval: bool,
}

impl<C> Score<C> {
    const fn new(metric: Metric, of: fn(&C) -> Option<f64>) -> Self {
        Self { metric, of, interval: false }
    }

    /// One whose report says how sure it is.
    const fn sure(metric: Metric, of: fn(&C) -> Option<f64>) -> Self {
        Self { metric, of, interval: true }
    }
}

/// The scores of `counts` by the formulas of a table.
pub fn scores<C>(table: &[Score<C>], counts: &C) -> Vec<(Metric, f64)> {
    table.iter().filter_map(|score| Some((score.metric, (score.of)(counts)?))).collect()
}

/// The loss and the metrics of a table: what a task that is scored by it measures.
pub fn measured<C>(table: &[Score<C>]) -> Vec<Metric> {
    [LOSS].into_iter().chain(table.iter().map(|score| score.metric)).collect()
}

/// All metrics, each once, in the order of the documentation.
pub fn all() -> &'static [Metric] {
    static ALL: LazyLock<Vec<Metric>> = LazyLock::new(|| {
        let mut all = measured(&classes::SCORES);
        let others = [
            measured(&labels::SCORES),
            measured(&regression::SCORES),
            measured(&guesses::WORDS),
            measured(&guesses::NEAREST),
            measured(&preferences::SCORES),
        ];
        for metric in others.into_iter().flatten() {
            if !all.contains(&metric) {
                all.push(metric);
            }
        }
        all
    });
    &ALL
}

/// All metrics on all data that a run measures itself on, those of the training first.
pub fn by_split() -> impl Iterator<Item = (Metric, Split)> {
    let on = |split| all().iter().map(move |&metric| (metric, split));
    on(Split::Training).chain(on(Split::Validation))
}

/// The names of metrics as a sentence lists them.
pub fn names(metrics: &[Metric]) -> String {
    metrics.iter().map(|metric| metric.name()).collect::<Vec<_>>().join(", ")
}

/// A share; 0 of nothing.
fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}
impl Eq for Metric {}

impl Ord for Metric {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}
impl PartialOrd for Metric {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Debug for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Metric {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Metric {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        let found = all().iter().copied().find(|metric| metric.name() == word);
        found.ok_or_else(|| serde::de::Error::custom(format!("must be one of {}", names(all()))))
    }
}

#[cfg(test)]
mod tests {
    use super::{ACCURACY, LOSS, Metric, Split, all, guesses, labels};

    #[test]
    fn a_metric_is_its_name() {
        for metric in all() {
            let text = serde_json::to_string(metric).unwrap();
            assert_eq!(text, format!("\"{}\"", metric.name()));
            assert_eq!(serde_json::from_str::<Metric>(&text).unwrap(), *metric);
            assert_eq!(all().iter().filter(|other| other.name() == metric.name()).count(), 1);
        }
        let error = serde_json::from_str::<Metric>("\"bleu\"").unwrap_err().to_string();
        assert!(error.starts_with("must be one of loss, accuracy, macro_f1,"), "{error}");
    }

    #[test]
    fn names_are_ours_and_openais() {
        let openai = |metric: Metric, split| metric.openai_names(split).collect::<Vec<_>>();
        assert_eq!(LOSS.on(Split::Validation), "full_valid_loss");
        assert_eq!(openai(LOSS, Split::Validation), ["valid_loss", "full_valid_loss"]);
        assert_eq!(openai(ACCURACY, Split::Training), ["train_mean_token_accuracy"]);
        assert_eq!(ACCURACY.column(Split::Training).0, "train_accuracy");
        assert_eq!(ACCURACY.column(Split::Validation).0, "valid_mean_token_accuracy");
        assert_eq!(labels::MICRO_F1.column(Split::Validation), ("valid_micro_f1".to_owned(), false));
        assert_eq!(LOSS.words(Split::Validation).unwrap(), "full validation loss");
    }

    #[test]
    fn less_is_better_of_errors_and_more_of_scores() {
        assert!(LOSS.gain(1.0, 2.0) > 0.0 && guesses::PERPLEXITY.gain(2.0, 1.0) < 0.0);
        assert!(ACCURACY.gain(1.0, 2.0) < 0.0);
    }
}
