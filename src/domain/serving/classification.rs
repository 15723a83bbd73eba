//! What a classifier is asked, and what it says.

use serde::{Deserialize, Serialize};

use super::Refusal;

/// The most inputs of one request.
pub const MAX_INPUTS: usize = 256;

/// The most labels that an answer lists of one input, and how many it lists where nobody says.
pub const MAX_TOP_K: usize = 100;
pub const DEFAULT_TOP_K: usize = 5;

/// Inputs to classify.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Classify {
    pub input: Vec<Input>,
    /// How many labels to list of each.
    pub top_k: usize,
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

#[cfg(test)]
mod tests {
    use super::{LabelScore, Prediction, Refusal};

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
