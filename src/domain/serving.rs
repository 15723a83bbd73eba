//! The contract between the service and a trainer that serves a model: the spec that is written for it, and one JSON
//! value per line each way. First it says whether it is ready ([`Opened`]); then each [`Asked`] has a [`Reply`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::job::JobError;
use super::method::{Method, ProblemType};
use super::model::without_mark;

/// The version of this contract. A trainer refuses a spec of another version.
pub const VERSION: u32 = 1;

/// The most inputs of one request.
pub const MAX_INPUTS: usize = 256;

/// The most labels that an answer lists of one input, and how many it lists where nobody says.
pub const MAX_TOP_K: usize = 100;
pub const DEFAULT_TOP_K: usize = 5;

/// What a serving process needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingSpec {
    pub version: u32,
    /// The model's directory, taken from the folder of the spec's file.
    pub model: PathBuf,
    /// Tokens kept of each text, as in training; None is as many as the model takes.
    pub max_tokens: Option<u32>,
    /// CPU threads to compute with.
    pub threads: usize,
}

/// One thing to classify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Input {
    /// A text, or the data URL of an image.
    One(String),
    /// Two texts that are read together.
    Pair(String, String),
}

impl Input {
    /// Bytes of its texts.
    pub fn bytes(&self) -> usize {
        match self {
            Self::One(text) => text.len(),
            Self::Pair(text, pair) => text.len() + pair.len(),
        }
    }
}

/// A request, or a slice of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub id: u64,
    pub input: Vec<Input>,
    /// How many labels to list of each.
    pub top_k: usize,
}

/// The first line that a serving process prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opened {
    Ready,
    Failed(JobError),
}

/// The answer to the request with that id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    pub id: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// One for each input, in order.
    Output(Vec<Prediction>),
    Error(Refusal),
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The part of the request that is at fault; None is a fault of ours.
    pub param: Option<String>,
    pub message: String,
}

impl Refusal {
    /// The same of the whole request, where `before` inputs came before the slice that was refused: an input is named by
    /// its place in the request.
    #[must_use]
    pub fn after(self, before: usize) -> Self {
        let name = self.param.as_deref().unwrap_or_default();
        let index = name.strip_prefix("input[").and_then(|rest| rest.strip_suffix(']')).map(str::parse::<usize>);
        let Some(Ok(index)) = index else { return self };
        let place = format!("input[{}]", index.saturating_add(before));
        let message = match self.message.strip_prefix(name) {
            Some(what) => format!("{place}{what}"),
            None => self.message,
        };
        Self { param: Some(place), message }
    }
}

/// What a model says of one input.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The likeliest label and its probability, where there is one label.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// The labels with a probability of more than one half, where there may be several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predicted: Option<Vec<String>>,
    /// The likeliest labels, likeliest first; none of a regression.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<Vec<LabelScore>>,
    /// What a regression predicts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// Whether the text was cut to fit.
    #[serde(default)]
    pub truncated: bool,
    /// Tokens of the text, special ones included; 0 of an image.
    #[serde(default)]
    pub tokens: u64,
}

impl Prediction {
    /// Whether it lists no more than was asked for, which a process that reads texts of strangers might.
    pub fn is_as_asked(&self, top_k: usize) -> bool {
        let (labels, predicted) =
            (self.labels.as_ref().map_or(0, Vec::len), self.predicted.as_ref().map_or(0, Vec::len));
        labels <= top_k && predicted <= MAX_TOP_K
    }
}

/// A label and its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LabelScore {
    pub label: String,
    pub probability: f64,
}

/// What a model was made for, as its `config.json` says.
pub fn method_of(config_json: &[u8]) -> Option<Method> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        architectures: Vec<String>,
    }
    let config: Config = serde_json::from_slice(without_mark(config_json)).ok()?;
    config.architectures.first().and_then(|class| Method::of_architecture(class))
}

/// The head of a classifier, as the model's `config.json` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub method: Method,
    pub problem: ProblemType,
    /// In the order of their class numbers; a regression has one, which means nothing.
    pub labels: Vec<String>,
}

impl Head {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// The model is no classifier; the text says what is missing.
    pub fn read(config_json: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Config {
            #[serde(default)]
            architectures: Vec<String>,
            #[serde(default)]
            id2label: BTreeMap<usize, String>,
            problem_type: Option<ProblemType>,
        }
        let config: Config =
            serde_json::from_slice(without_mark(config_json)).map_err(|error| format!("its config.json: {error}"))?;
        let method = config.architectures.first().and_then(|class| Method::of_architecture(class));
        let method = method
            .filter(|method| method.is_classification())
            .ok_or_else(|| "it has no classification head".to_owned())?;
        if config.id2label.is_empty() || config.id2label.keys().copied().ne(0..config.id2label.len()) {
            return Err("its config.json has no id2label with a label for every class".to_owned());
        }
        // Transformers takes a single output for a regression, too.
        let usual = if config.id2label.len() == 1 { ProblemType::Regression } else { ProblemType::default() };
        let problem = config.problem_type.unwrap_or(usual);
        Ok(Self { method, problem, labels: config.id2label.into_values().collect() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Asked, Head, Input, LabelScore, Opened, Outcome, Prediction, Refusal, Reply};
    use crate::domain::method::{Method, ProblemType};

    #[test]
    fn each_message_is_one_line_of_its_own_form() {
        let asked: Asked = serde_json::from_str(r#"{"id": 1, "input": ["a", ["b", "c"]], "top_k": 2}"#).unwrap();
        assert_eq!(asked.input, [Input::One("a".into()), Input::Pair("b".into(), "c".into())]);
        assert_eq!(serde_json::to_value(Opened::Ready).unwrap(), json!("ready"));
        let refusal = Refusal { param: Some("input[3]".into()), message: "is empty".into() };
        let refused = Reply { id: 1, outcome: Outcome::Error(refusal) };
        let text = json!({"id": 1, "error": {"param": "input[3]", "message": "is empty"}});
        assert_eq!(serde_json::to_value(&refused).unwrap(), text);
        let prediction = Prediction { value: Some(0.5), tokens: 3, ..Prediction::default() };
        let answered = Reply { id: 2, outcome: Outcome::Output(vec![prediction]) };
        let text = serde_json::to_string(&answered).unwrap();
        assert_eq!(text, r#"{"id":2,"output":[{"value":0.5,"truncated":false,"tokens":3}]}"#);
        assert_eq!(serde_json::from_str::<Reply>(&text).unwrap(), answered);
    }

    #[test]
    fn a_prediction_lists_what_was_asked_for() {
        let labels = |count: usize| vec![LabelScore { label: "a".to_owned(), probability: 0.5 }; count];
        let of = |listed: usize, predicted: usize| Prediction {
            labels: Some(labels(listed)),
            predicted: Some(vec!["a".to_owned(); predicted]),
            ..Prediction::default()
        };
        assert!(of(3, 100).is_as_asked(3) && Prediction::default().is_as_asked(0));
        assert!(!of(4, 0).is_as_asked(3) && !of(0, 101).is_as_asked(3));
    }

    #[test]
    fn a_refused_input_is_named_by_its_place_in_the_whole_request() {
        let refusal = |param: Option<&str>, message: &str| Refusal {
            param: param.map(str::to_owned),
            message: message.to_owned(),
        };
        let at = refusal(Some("input[3]"), "input[3] is no image: input[3].");
        assert_eq!(at.clone().after(0), at);
        assert_eq!(at.after(32), refusal(Some("input[35]"), "input[35] is no image: input[3]."));
        assert_eq!(refusal(Some("input[0]"), "Bad.").after(9), refusal(Some("input[9]"), "Bad."));
        for other in [refusal(Some("model"), "input[1] is odd."), refusal(Some("input[x]"), "a"), refusal(None, "a")] {
            assert_eq!(other.clone().after(32), other);
        }
        let last = format!("input[{}]", usize::MAX);
        assert_eq!(refusal(Some(&last), "a").after(1), refusal(Some(&last), "a"));
    }

    #[test]
    fn a_classifier_is_known_by_its_class_and_its_labels() {
        let labels: serde_json::Map<_, _> =
            (0..12).map(|class| (class.to_string(), json!(format!("l{class}")))).collect();
        let mut config = json!({"architectures": ["BertForSequenceClassification"], "id2label": labels});
        let head = Head::read(config.to_string().as_bytes()).unwrap();
        assert_eq!((head.method, head.problem), (Method::TextClassification, ProblemType::SingleLabelClassification));
        assert_eq!((head.labels[2].as_str(), head.labels[11].as_str()), ("l2", "l11"));
        config["architectures"] = json!(["BertForMaskedLM"]);
        assert!(Head::read(config.to_string().as_bytes()).unwrap_err().contains("no classification head"));
        let holes = json!({"architectures": ["ViTForImageClassification"], "id2label": {"0": "a", "2": "b"}});
        assert!(Head::read(holes.to_string().as_bytes()).unwrap_err().contains("id2label"));
        let one = json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}});
        assert_eq!(Head::read(one.to_string().as_bytes()).unwrap().problem, ProblemType::Regression);
    }
}
