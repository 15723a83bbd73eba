//! The contract between the service and a trainer that serves a model: the spec that is written for it, and one JSON
//! value per line each way. First it says whether it is ready ([`Opened`]); then each [`Asked`] has a [`Reply`], or several.

mod classification;
mod generation;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::classification::{Classify, DEFAULT_TOP_K, Input, LabelScore, MAX_INPUTS, MAX_TOP_K, Prediction};
pub use self::generation::{Finish, Generate, Likely, Piece, Prompt, PromptTokens, SLICE, Sampling, Token};
use super::job::JobError;

/// The version of this contract. A trainer refuses a spec of another version.
pub const VERSION: u32 = 4;

/// What a serving process needs to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServingSpec {
    pub version: u32,
    /// The model's directory, taken from the folder of the spec's file.
    pub model: PathBuf,
    /// Tokens kept of each text to classify, as in training; None is as many as the model takes.
    pub max_tokens: Option<u32>,
    /// CPU threads to compute with.
    pub threads: usize,
}

/// A request, or a slice of one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    pub id: u64,
    /// The name of a model that was loaded; None is the one that the process was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(flatten)]
    pub question: Question,
}

/// What a model is asked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Question {
    /// Answered by [`Answered::Output`].
    Classify(Classify),
    /// Answered by [`Answered::Tokens`].
    Read(Prompt),
    /// Answered by an [`Answered::Piece`] for each token, [`Answered::Reading`] while none comes, and one
    /// [`Answered::Paused`] or [`Answered::Ended`] behind them.
    Generate(Box<Generate>),
    /// Have another model answer as well, which has the same base. Answered by [`Answered::Done`].
    Load(Loading),
    /// Forget the model of that name. Answered by [`Answered::Done`].
    Unload(String),
}

/// A model upon the base of the one that a process was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loading {
    /// What it is called in questions.
    pub name: String,
    /// Its directory, without the base's weights, taken from the process's own folder.
    pub directory: PathBuf,
}

/// The first line that a serving process prints.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Opened {
    Ready,
    Failed(JobError),
}

/// An answer to the request with that id.
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
    /// A prompt, as the model reads it.
    Tokens(PromptTokens),
    /// It is still reading the prompt.
    Reading,
    /// What a token adds to the text.
    Piece(Piece),
    /// The slice's time is over, and the text is not.
    Paused,
    /// The text has come to its end.
    Ended(Finish),
    /// It is done, and there is nothing to say of it.
    Done,
    Error(Refusal),
}

/// Why a request has no answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The part of the request that is at fault; None is a fault of ours.
    pub param: Option<String>,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{
        Answered, Asked, Classify, Finish, Generate, Input, Opened, Prediction, Prompt, Question, Refusal, Reply,
        Sampling,
    };

    #[test]
    fn each_message_is_one_line_of_its_own_form() {
        let text = r#"{"id":1,"classify":{"input":["a",["b","c"]],"top_k":2}}"#;
        let asked: Asked = serde_json::from_str(text).unwrap();
        let input = vec![Input::One("a".into()), Input::Pair("b".into(), "c".into())];
        assert_eq!(asked, Asked { id: 1, model: None, question: Question::Classify(Classify { input, top_k: 2 }) });
        let asked = Asked { id: 2, model: Some("b".into()), question: Question::Read(Prompt::Text("a".into())) };
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(text, r#"{"id":2,"model":"b","read":{"text":"a"}}"#);
        assert_eq!(serde_json::from_str::<Asked>(&text).unwrap(), asked);
        let sampling = Sampling { logit_bias: vec![(7, -100.0)], top_logprobs: Some(2), ..Sampling::GREEDY };
        let generate = Generate { prompt: vec![1], written: vec![2], sampling, stop: vec!["a".into()], most: 3 };
        let asked = Asked { id: 3, model: None, question: Question::Generate(Box::new(generate)) };
        assert_eq!(serde_json::from_str::<Asked>(&serde_json::to_string(&asked).unwrap()).unwrap(), asked);
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
        for (answer, expected) in [
            (Answered::Paused, json!({"id": 3, "paused": null})),
            (Answered::Ended(Finish::Length), json!({"id": 3, "ended": "length"})),
        ] {
            let reply = Reply { id: 3, answer };
            assert_eq!(serde_json::to_value(&reply).unwrap(), expected);
            assert_eq!(serde_json::from_value::<Reply>(expected).unwrap(), reply);
        }
    }
}
