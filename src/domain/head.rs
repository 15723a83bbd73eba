//! The head of a model on disk, as its `config.json` describes it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::clip::clipped;
use super::method::{Method, ProblemType};
use super::model::without_mark;

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
        let labels: Vec<String> = config.id2label.into_values().collect();
        if let Some(twice) = labels.iter().enumerate().find(|(place, label)| labels[..*place].contains(label)) {
            return Err(format!("its config.json gives two classes the same label, \"{}\"", clipped(twice.1)));
        }
        // Transformers takes a single output for a regression, too.
        let usual = if labels.len() == 1 { ProblemType::Regression } else { ProblemType::default() };
        let problem = config.problem_type.unwrap_or(usual);
        Ok(Self { method, problem, labels })
    }

    /// Whether it predicts these labels in this order, or, where there are none, a value.
    pub fn predicts(&self, labels: &[String]) -> bool {
        match self.problem {
            ProblemType::Regression => labels.is_empty(),
            _ => self.labels == labels,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Head;
    use crate::domain::method::{Method, ProblemType};

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
        let twice = json!({"architectures": ["ViTForImageClassification"], "id2label": {"0": "a", "1": "b", "2": "a"}});
        assert!(Head::read(twice.to_string().as_bytes()).unwrap_err().contains("the same label, \"a\""));
        let one = json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}});
        assert_eq!(Head::read(one.to_string().as_bytes()).unwrap().problem, ProblemType::Regression);
    }

    #[test]
    fn a_head_is_gone_on_with_for_the_same_labels_in_the_same_order() {
        let read = |config: serde_json::Value| Head::read(config.to_string().as_bytes()).unwrap();
        let labels = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let two = json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "a", "1": "b"}});
        let head = read(two);
        assert!(head.predicts(&labels(&["a", "b"])));
        for others in [&["b", "a"][..], &["a"], &["a", "b", "c"], &[]] {
            assert!(!head.predicts(&labels(others)), "{others:?}");
        }
        let one = json!({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}});
        assert!(read(one.clone()).predicts(&[]) && !read(one).predicts(&labels(&["LABEL_0"])));
    }
}
