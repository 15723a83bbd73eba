//! A training example as the API shows it.

use serde::Serialize;

use super::list::Item;
use crate::app::jobs::{Example, Target};
use crate::domain::report::Place;

/// What is known of a training example; the id is its number among them.
#[derive(Serialize)]
pub(super) struct ExampleView {
    id: String,
    object: &'static str,
    /// Of the data file; of an archive `file` says more.
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    #[serde(flatten)]
    target: TargetView,
    mean_loss: Option<f64>,
    margin: Option<f64>,
    correctness: Option<f64>,
    forgetting_events: Option<u32>,
    /// How many count.
    epochs: u32,
}

/// By the kind of target.
#[derive(Serialize)]
#[serde(untagged)]
enum TargetView {
    Label { label: String, prediction: Option<String> },
    Labels { labels: Vec<String>, disputed_label: Option<String> },
    Value { value: f64, prediction: Option<f32> },
}

impl From<Example> for ExampleView {
    fn from(example: Example) -> Self {
        let Example { number, place: Place { line, member }, target, statistics } = example;
        Self {
            id: number.to_string(),
            object: "fine_tuning.job.example",
            line: member.is_none().then_some(line),
            file: member,
            target: match target {
                Target::Label { label, prediction } => TargetView::Label { label, prediction },
                Target::Labels { labels, disputed } => TargetView::Labels { labels, disputed_label: disputed },
                Target::Value { value, prediction } => TargetView::Value { value, prediction },
            },
            mean_loss: statistics.mean_loss(),
            margin: statistics.margin(),
            correctness: statistics.correctness(),
            forgetting_events: statistics.forgetting_events(),
            epochs: statistics.epochs,
        }
    }
}

impl Item for ExampleView {
    fn id(&self) -> &str {
        &self.id
    }
}
