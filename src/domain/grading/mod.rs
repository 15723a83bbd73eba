//! How what a language model writes is graded: OpenAI's graders (<https://platform.openai.com/docs/guides/graders>), those of
//! them that ask no other model.

mod bleu;
mod fuzzy;
mod overlap;
mod rouge;
mod similarity;
mod template;
mod words;

use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::similarity::{SIMILARITIES, Similarity};
pub use self::template::Template;

/// The most graders of one evaluation, and the longest name of one, in characters.
pub const MOST_GRADERS: usize = 16;
pub const NAME_CHARS: usize = 64;

/// What answers are asked for, and how they are graded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grading {
    pub graders: Vec<Grader>,
    pub sampling_params: SamplingParams,
}

/// How answers are generated: OpenAI's `sampling_params`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SamplingParams {
    /// 0 takes the likeliest token each time.
    pub temperature: f64,
    pub top_p: f64,
    /// Each example draws by this and its own line.
    pub seed: i64,
    /// The most tokens of an answer.
    pub max_completion_tokens: usize,
    /// Texts that end an answer and are no part of it.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub stop: Vec<String>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self { temperature: 0.0, top_p: 1.0, seed: 0, max_completion_tokens: 256, stop: Vec::new() }
    }
}

/// A grader.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Grader {
    pub name: String,
    /// What is graded, and what by: texts with `{{ … }}` in them.
    pub input: String,
    pub reference: String,
    #[serde(flatten)]
    pub check: Check,
}

/// What a grader looks at.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Check {
    /// 1 where it holds, or else 0.
    StringCheck { operation: Operation },
    /// How similar both are, 0 to 1.
    TextSimilarity {
        evaluation_metric: Similarity,
        /// From where on an answer passes; None counts none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        pass_threshold: Option<f64>,
    },
}

/// What a string check asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Operation {
    /// Both are equal.
    Eq,
    /// They are not.
    Ne,
    /// The input contains the reference.
    Like,
    /// It does, whatever the case of letters.
    Ilike,
}

/// All operations.
pub const OPERATIONS: [Operation; 4] = [Operation::Eq, Operation::Ne, Operation::Like, Operation::Ilike];

impl Operation {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Like => "like",
            Self::Ilike => "ilike",
        }
    }

    fn holds(self, input: &str, reference: &str) -> bool {
        match self {
            Self::Eq => input == reference,
            Self::Ne => input != reference,
            Self::Like => input.contains(reference),
            Self::Ilike => input.to_lowercase().contains(&reference.to_lowercase()),
        }
    }
}

impl Check {
    /// 0 to 1; 1 is as good as can be.
    pub fn score(self, input: &str, reference: &str) -> f64 {
        match self {
            Self::StringCheck { operation } => f64::from(u8::from(operation.holds(input, reference))),
            Self::TextSimilarity { evaluation_metric, .. } => evaluation_metric.score(input, reference),
        }
    }

    /// Whether an answer with this score passes; None where the grader says of none.
    pub fn passes(self, score: f64) -> Option<bool> {
        match self {
            Self::StringCheck { .. } => Some(score == 1.0),
            Self::TextSimilarity { pass_threshold, .. } => pass_threshold.map(|least| score >= least),
        }
    }
}

/// A grader that is ready to work.
pub struct Ready<'a> {
    pub grader: &'a Grader,
    input: Template,
    reference: Template,
}

impl<'a> Ready<'a> {
    /// # Errors
    /// A template cannot be used: the field of the grader that holds it, and what is wrong.
    pub fn new(grader: &'a Grader) -> Result<Self, (&'static str, String)> {
        let template = |name, text| Template::parse(text).map_err(|why| (name, why));
        let (input, reference) = (template("input", &grader.input)?, template("reference", &grader.reference)?);
        Ok(Self { grader, input, reference })
    }

    /// The score of an answer.
    ///
    /// # Errors
    /// A template names what is not there.
    pub fn score(&self, item: &Value, output_text: &str) -> Result<f64, String> {
        let (input, reference) = self.texts(item, output_text)?;
        Ok(self.grader.check.score(&input, &reference))
    }

    /// The input and the reference of an answer.
    ///
    /// # Errors
    /// A template names what is not there.
    pub fn texts(&self, item: &Value, output_text: &str) -> Result<(String, String), String> {
        Ok((self.input.fill(item, output_text)?, self.reference.fill(item, output_text)?))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Check, Grader, OPERATIONS, Operation, Ready};

    fn grader(check: Check, input: &str, reference: &str) -> Grader {
        Grader { name: "a".to_owned(), input: input.to_owned(), reference: reference.to_owned(), check }
    }

    #[test]
    fn string_checks_are_openais() {
        for (operation, input, reference, expected) in [
            (Operation::Eq, "a", "a", 1.0),
            (Operation::Eq, "a", "A", 0.0),
            (Operation::Ne, "a", "A", 1.0),
            (Operation::Ne, "a", "a", 0.0),
            (Operation::Like, "the card", "card", 1.0),
            (Operation::Like, "card", "the card", 0.0),
            (Operation::Like, "the Card", "card", 0.0),
            (Operation::Ilike, "the ÄRGER", "ärger", 1.0),
            (Operation::Ilike, "the card", "cord", 0.0),
        ] {
            let check = Check::StringCheck { operation };
            assert_eq!(check.score(input, reference), expected, "{} {input} {reference}", operation.as_str());
            assert_eq!(check.passes(expected), Some(expected == 1.0));
        }
        let words = OPERATIONS.map(|operation| serde_json::to_value(operation).unwrap());
        assert_eq!(words, OPERATIONS.map(|operation| json!(operation.as_str())));
    }

    #[test]
    fn a_grader_is_openais_object() {
        let text = json!({"name": "n", "type": "text_similarity", "input": "{{sample.output_text}}",
                          "reference": "{{item.answer}}", "evaluation_metric": "rouge_l", "pass_threshold": 0.5});
        let grader: Grader = serde_json::from_value(text.clone()).unwrap();
        assert_eq!(serde_json::to_value(&grader).unwrap(), text);
        assert_eq!((grader.check.passes(0.5), grader.check.passes(0.49)), (Some(true), Some(false)));
        let item = json!({"answer": "a new card"});
        assert_eq!(Ready::new(&grader).unwrap().score(&item, "A new card!"), Ok(1.0));
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        let check = Check::StringCheck { operation: Operation::Eq };
        let refused = Ready::new(&grader(check, "{{sample.output_text}}", "{{answer}}")).err().unwrap();
        assert_eq!(refused.0, "reference");
        let of_answer = grader(check, "{{sample.output_text}}", "{{item.answer}}");
        let why = Ready::new(&of_answer).unwrap().score(&json!({}), "a").unwrap_err();
        assert!(why.contains("item.answer"), "{why}");
    }
}
