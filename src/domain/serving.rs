//! The contract between the service and a trainer that serves a model: the spec that is written for it, and one JSON
//! value per line each way. First it says whether it is ready ([`Opened`]); then each [`Asked`] has a [`Reply`].

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::job::JobError;

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
    pub answer: Answered,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Answered, Asked, Input, LabelScore, Opened, Prediction, Refusal, Reply};

    #[test]
    fn each_message_is_one_line_of_its_own_form() {
        let asked: Asked = serde_json::from_str(r#"{"id": 1, "input": ["a", ["b", "c"]], "top_k": 2}"#).unwrap();
        assert_eq!(asked.input, [Input::One("a".into()), Input::Pair("b".into(), "c".into())]);
        assert_eq!(serde_json::to_value(Opened::Ready).unwrap(), json!("ready"));
        let refusal = Refusal { param: Some("input[3]".into()), message: "is empty".into() };
        let refused = Reply { id: 1, answer: Answered::Error(refusal) };
        let text = json!({"id": 1, "error": {"param": "input[3]", "message": "is empty"}});
        assert_eq!(serde_json::to_value(&refused).unwrap(), text);
        let prediction = Prediction { value: Some(0.5), tokens: 3, ..Prediction::default() };
        let answered = Reply { id: 2, answer: Answered::Output(vec![prediction]) };
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
}
