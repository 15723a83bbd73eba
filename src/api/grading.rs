//! How an evaluation grades what a model writes: OpenAI's graders and `sampling_params`, as sent.

use serde::Deserialize;
use serde_json::Value;

use super::extract::read_value;
use super::fields::filled;
use super::generation::{real, stops, whole};
use crate::domain::clip::clipped;
use crate::domain::error::{Error, Result};
use crate::domain::grading::{
    Check, Grader, Grading, MOST_GRADERS, NAME_CHARS, OPERATIONS, Operation, SIMILARITIES, SamplingParams, Similarity,
};

/// The longest template, in characters.
const TEMPLATE_CHARS: usize = 10_000;
/// Types that OpenAI has and that ask another model or run a program.
const ELSEWHERE: [&str; 6] = ["score_model", "label_model", "python", "multi", "endpoint", "code"];

/// A grader as sent, whose fields its type decides.
#[derive(Deserialize)]
#[serde(transparent)]
pub(super) struct GraderBody(Value);

/// A grader of the types here. Any field may be null, which is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OwnGrader {
    r#type: Option<String>,
    name: Option<String>,
    input: Option<String>,
    reference: Option<String>,
    operation: Option<String>,
    evaluation_metric: Option<String>,
    pass_threshold: Option<f64>,
}

/// How answers are generated.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SamplingParamsBody {
    temperature: Option<f64>,
    top_p: Option<f64>,
    seed: Option<i64>,
    max_completion_tokens: Option<u64>,
    stop: Option<Value>,
}

/// What is graded and how; None where nothing is.
///
/// # Errors
/// A value is missing or not allowed; the error names it.
pub(super) fn grading(
    graders: Option<Vec<GraderBody>>,
    sampling: Option<SamplingParamsBody>,
) -> Result<Option<Grading>> {
    let graders = graders.unwrap_or_default();
    if graders.is_empty() {
        return match sampling {
            None => Ok(None),
            Some(_) => Err(Error::invalid("sampling_params", "sampling_params is given, so graders must be.")),
        };
    }
    if graders.len() > MOST_GRADERS {
        let message = format!("graders has {} items; at most {MOST_GRADERS} are allowed.", graders.len());
        return Err(Error::invalid("graders", message));
    }
    let graders: Vec<Grader> =
        graders.into_iter().enumerate().map(|(i, body)| body.read(&format!("graders[{i}]"))).collect::<Result<_>>()?;
    for (index, grader) in graders.iter().enumerate() {
        if graders[..index].iter().any(|other| other.name == grader.name) {
            let message = format!("graders[{index}].name is that of another grader; each must have its own.");
            return Err(Error::invalid(format!("graders[{index}].name"), message));
        }
    }
    Ok(Some(Grading { graders, sampling_params: sampling.unwrap_or_default().read()? }))
}

impl GraderBody {
    /// The grader that stands at `at` in a body.
    ///
    /// # Errors
    /// It is of a type that is not here, or not as one of its type is.
    pub(super) fn read(self, at: &str) -> Result<Grader> {
        if let Some(word) = self.0["type"].as_str().filter(|word| ELSEWHERE.contains(word)) {
            let message = format!(
                "{at}.type is {word}, which asks another model or runs a program; the graders here are string_check and \
                 text_similarity."
            );
            return Err(Error::invalid(format!("{at}.type"), message));
        }
        read_value::<OwnGrader>(self.0, at)?.grader(at)
    }
}

impl OwnGrader {
    fn grader(self, at: &str) -> Result<Grader> {
        let at = |field: &str| format!("{at}.{field}");
        let text = |field, value: Option<String>, most| filled(&at(field), value, most);
        let name = text("name", self.name, NAME_CHARS)?;
        let word = text("type", self.r#type, NAME_CHARS)?;
        let strays = |fields: &[(&str, bool)]| match fields.iter().find(|(_, is_there)| *is_there) {
            None => Ok(()),
            Some((field, _)) => {
                let message = format!("{} does not belong to a grader of type {word}.", at(field));
                Err(Error::invalid(at(field), message))
            }
        };
        let check = match word.as_str() {
            "string_check" => {
                strays(&[
                    ("evaluation_metric", self.evaluation_metric.is_some()),
                    ("pass_threshold", self.pass_threshold.is_some()),
                ])?;
                let word = text("operation", self.operation, NAME_CHARS)?;
                let known = OPERATIONS.into_iter().find(|one| one.as_str() == word);
                let operation =
                    known.ok_or_else(|| unknown(&at("operation"), &word, &OPERATIONS.map(Operation::as_str)))?;
                Check::StringCheck { operation }
            }
            "text_similarity" => {
                strays(&[("operation", self.operation.is_some())])?;
                let word = text("evaluation_metric", self.evaluation_metric, NAME_CHARS)?;
                let evaluation_metric = Similarity::parse(&word)
                    .ok_or_else(|| unknown(&at("evaluation_metric"), &word, &SIMILARITIES.map(Similarity::as_str)))?;
                let pass_threshold = real(&at("pass_threshold"), self.pass_threshold, 0.0..=1.0)?;
                Check::TextSimilarity { evaluation_metric, pass_threshold }
            }
            other => return Err(unknown(&at("type"), other, &["string_check", "text_similarity"])),
        };
        let input = text("input", self.input, TEMPLATE_CHARS)?;
        Ok(Grader { name, input, reference: text("reference", self.reference, TEMPLATE_CHARS)?, check })
    }
}

impl SamplingParamsBody {
    fn read(self) -> Result<SamplingParams> {
        let usual = SamplingParams::default();
        let most = whole("sampling_params.max_completion_tokens", self.max_completion_tokens, 1..=u64::MAX)?;
        Ok(SamplingParams {
            temperature: real("sampling_params.temperature", self.temperature, 0.0..=2.0)?.unwrap_or(usual.temperature),
            top_p: real("sampling_params.top_p", self.top_p, 0.0..=1.0)?.unwrap_or(usual.top_p),
            seed: self.seed.unwrap_or(usual.seed),
            max_completion_tokens: most
                .map_or(usual.max_completion_tokens, |most| usize::try_from(most).unwrap_or(usize::MAX)),
            stop: stops("sampling_params.stop", self.stop)?,
        })
    }
}

fn unknown(at: &str, word: &str, known: &[&str]) -> Error {
    Error::invalid(at, format!("{at} is '{}'; it must be one of {}.", clipped(word), known.join(", ")))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Grading, Result, SamplingParams, grading};

    fn read(graders: Value, sampling: Value) -> Result<Option<Grading>> {
        grading(serde_json::from_value(graders).unwrap(), serde_json::from_value(sampling).unwrap())
    }

    fn exact(more: &Value) -> Value {
        let mut grader = json!({"type": "string_check", "name": "exact", "operation": "eq",
                                "input": "{{sample.output_text}}", "reference": "{{item.answer}}"});
        grader.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        grader
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let similar = json!({"type": "text_similarity", "operation": null, "evaluation_metric": "bleu"});
        for (change, param, message) in [
            (json!({"name": null}), "graders[0].name", "Missing required parameter: 'graders[0].name'."),
            (json!({"name": ""}), "graders[0].name", "Missing"),
            (json!({"name": "a".repeat(65)}), "graders[0].name", "has 65 characters; at most 64"),
            (
                json!({"type": "exact"}),
                "graders[0].type",
                "is 'exact'; it must be one of string_check, text_similarity.",
            ),
            (json!({"type": "label_model"}), "graders[0].type", "asks another model"),
            (json!({"type": "score_model", "input": [{"role": "user"}]}), "graders[0].type", "asks another model"),
            (json!({"type": "python", "source": "1"}), "graders[0].type", "runs a program"),
            (json!({"source": "1"}), "graders[0].source", "Unrecognized request argument supplied: graders[0].source"),
            (json!({"input": [1]}), "graders[0].input", "invalid type: sequence, expected a string"),
            (json!({"operation": "is"}), "graders[0].operation", "must be one of eq, ne, like, ilike."),
            (json!({"operation": null}), "graders[0].operation", "Missing"),
            (
                json!({"pass_threshold": 0.5}),
                "graders[0].pass_threshold",
                "does not belong to a grader of type string_check",
            ),
            (json!({"input": null}), "graders[0].input", "Missing"),
            (json!({"reference": "a".repeat(10_001)}), "graders[0].reference", "at most 10000"),
        ] {
            let error = read(json!([exact(&change)]), Value::Null).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
            assert!(error.message.contains(message), "{}", error.message);
        }
        for (change, param, message) in [
            (
                json!({"evaluation_metric": "meteor"}),
                "graders[0].evaluation_metric",
                "one of fuzzy_match, bleu, gleu, rouge_1",
            ),
            (json!({"pass_threshold": 1.5}), "graders[0].pass_threshold", "must be 0 to 1"),
            (json!({"operation": "eq"}), "graders[0].operation", "does not belong"),
        ] {
            let mut grader = exact(&similar);
            grader.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let error = read(json!([grader]), Value::Null).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param), "{}", error.message);
            assert!(error.message.contains(message), "{}", error.message);
        }
        let one = exact(&json!({}));
        for (graders, sampling, param) in [
            (json!([one, one]), Value::Null, "graders[1].name"),
            (Value::from(vec![one.clone(); 17]), Value::Null, "graders"),
            (Value::Null, json!({}), "sampling_params"),
            (json!([one]), json!({"temperature": 3}), "sampling_params.temperature"),
            (json!([one]), json!({"max_completion_tokens": 0}), "sampling_params.max_completion_tokens"),
            (json!([one]), json!({"stop": ""}), "sampling_params.stop"),
        ] {
            assert_eq!(read(graders, sampling).unwrap_err().param.as_deref(), Some(param));
        }
    }

    #[test]
    fn answers_are_the_likeliest_unless_told_otherwise() {
        assert_eq!(read(json!([]), Value::Null).unwrap(), None);
        let found = read(json!([exact(&json!({}))]), Value::Null).unwrap().unwrap();
        assert_eq!(found.sampling_params, SamplingParams::default());
        assert_eq!(found.sampling_params.temperature, 0.0);
        let sent = json!({"temperature": 0.5, "top_p": 0.9, "seed": 3, "max_completion_tokens": 8, "stop": "\n"});
        let found = read(json!([exact(&json!({}))]), sent).unwrap().unwrap().sampling_params;
        assert_eq!((found.seed, found.max_completion_tokens, found.stop), (3, 8, vec!["\n".to_owned()]));
    }
}
