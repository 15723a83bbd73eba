//! `/v1/completions`: a language model goes on from a text.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::ApiState;
use super::extract::{Caller, JsonBody};
use super::fields::{missing, required};
use super::generation::{Options, StreamOptions, stream, whole};
use super::problem::Answer;
use super::route::{Route, post};
use super::texts::{Answering, Form, finish_reason};
use crate::app::serving;
use crate::domain::error::{Error, Result};
use crate::domain::serving::{Finish, Likely, Piece, Prompt, Token};

/// The largest body, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// Prompts of one request.
const MOST_PROMPTS: usize = 64;

/// Tokens of a text where nobody says how many, as at OpenAI.
const USUAL_TOKENS: u64 = 16;

pub(super) fn routes() -> Vec<Route> {
    let create = post("/v1/completions", "create_completion", create_completion);
    vec![create.with_body_limit(MAX_BYTES).with_patience().without_change()]
}

/// As sent. Any field may be null, which is the same as absent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompletionBody {
    model: Option<String>,
    prompt: Option<Value>,
    suffix: Option<String>,
    echo: Option<bool>,
    best_of: Option<u64>,
    max_tokens: Option<u64>,
    n: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    logit_bias: Option<BTreeMap<String, f64>>,
    logprobs: Option<u64>,
    stop: Option<Value>,
    seed: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(rename = "user")]
    _user: Option<IgnoredAny>,
}

impl CompletionBody {
    /// The model, the texts that are wanted of it, and how the answer has them.
    fn into_request(self) -> Result<(String, serving::Wanted, Text, Option<StreamOptions>)> {
        let model = required("model", self.model)?;
        if self.suffix.is_some_and(|suffix| !suffix.is_empty()) {
            return Err(Error::invalid("suffix", "suffix is not supported: a text goes on to its end."));
        }
        if self.best_of.is_some_and(|best| best != self.n.unwrap_or(1)) {
            return Err(Error::invalid("best_of", "best_of must be n: all texts that are written are returned."));
        }
        let prompts = prompts(self.prompt)?;
        let top_logprobs = whole("logprobs", self.logprobs, 0..=5)?.map(|top| top as usize);
        let echoed = if self.echo.unwrap_or(false) { echoed(&prompts, top_logprobs.is_some())? } else { Vec::new() };
        let most = whole("max_tokens", self.max_tokens, 1..=u64::MAX)?.unwrap_or(USUAL_TOKENS);
        let stream = stream(self.stream, self.stream_options)?;
        let options = Options {
            n: self.n,
            temperature: self.temperature,
            top_p: self.top_p,
            frequency_penalty: self.frequency_penalty,
            presence_penalty: self.presence_penalty,
            logit_bias: self.logit_bias,
            stop: self.stop,
            seed: self.seed,
        };
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let wanted = options.wanted("prompt", prompts, Some(most), top_logprobs)?;
        let texts = wanted.choices * wanted.prompts.len();
        let streamed = (0..texts).map(|_| AtomicUsize::new(0)).collect();
        let form = Text { echoed, choices: wanted.choices, streamed };
        Ok((model, wanted, form, stream))
    }
}

/// A text, a list of texts, the ids of tokens, or a list of such lists.
fn prompts(prompt: Option<Value>) -> Result<Vec<Prompt>> {
    let Some(prompt) = prompt else {
        return Err(missing("prompt"));
    };
    let one = |value: &Value| match value {
        Value::String(text) => Some(Prompt::Text(text.clone())),
        Value::Array(ids) if !ids.is_empty() => {
            let ids = ids.iter().map(|id| u32::try_from(id.as_u64()?).ok());
            ids.collect::<Option<_>>().map(Prompt::Tokens)
        }
        _ => None,
    };
    let found = match (one(&prompt), &prompt) {
        (Some(prompt), _) => Some(vec![prompt]),
        (None, Value::Array(items)) if !items.is_empty() => items.iter().map(one).collect(),
        _ => None,
    };
    match found {
        Some(prompts) if prompts.len() <= MOST_PROMPTS => Ok(prompts),
        Some(prompts) => {
            let message = format!("prompt has {} prompts; at most {MOST_PROMPTS} are allowed.", prompts.len());
            Err(Error::invalid("prompt", message))
        }
        None => {
            let message = "prompt must be a text, a list of texts, a list of ids of tokens, or a list of such lists.";
            Err(Error::invalid("prompt", message))
        }
    }
}

/// The texts of prompts, which answers begin with.
fn echoed(prompts: &[Prompt], has_logprobs: bool) -> Result<Vec<String>> {
    if has_logprobs {
        return Err(Error::invalid("echo", "echo and logprobs are not to be had together."));
    }
    let text = |prompt: &Prompt| match prompt {
        Prompt::Text(text) => Ok(text.clone()),
        _ => Err(Error::invalid("echo", "echo needs prompts that are texts, not ids of tokens.")),
    };
    prompts.iter().map(text).collect()
}

async fn create_completion(
    caller: Caller,
    State(state): State<ApiState>,
    body: JsonBody<CompletionBody>,
) -> Answer<Response> {
    let JsonBody { value, held: _held, .. } = body;
    let (model, wanted, form, stream) = value.into_request()?;
    let model = serving::language_model(&state.app, caller.0.id, &model).await?;
    let texts = serving::generate(&state.app, caller.0.id, &model, wanted).await?;
    let answering = Answering::new(form, model.name, texts);
    Ok(match stream {
        Some(options) => answering.stream(options),
        None => answering.whole().await?,
    })
}

/// Answers as completions.
struct Text {
    /// What each prompt's texts begin with, where they begin with it.
    echoed: Vec<String>,
    choices: usize,
    /// Characters that were streamed of each text whose tokens are told.
    streamed: Vec<AtomicUsize>,
}

impl Text {
    fn echo(&self, choice: usize) -> Option<&str> {
        self.echoed.get(choice / self.choices).map(String::as_str)
    }
}

impl Form for Text {
    fn id_prefix(&self) -> &'static str {
        "cmpl"
    }

    fn objects(&self) -> [&'static str; 2] {
        ["text_completion"; 2]
    }

    fn whole(&self, choice: usize, text: &str, tokens: &[Token], finish: Finish) -> Value {
        let text = format!("{}{text}", self.echo(choice).unwrap_or_default());
        json!({"index": choice, "text": text, "logprobs": logprobs(tokens, 0), "finish_reason": finish_reason(finish, false)})
    }

    fn begin(&self, choice: usize) -> Option<Value> {
        let text = self.echo(choice)?;
        Some(json!({"index": choice, "text": text, "logprobs": null, "finish_reason": null}))
    }

    fn piece(&self, choice: usize, piece: &Piece) -> Value {
        let token = piece.token.as_ref().and_then(|token| token.likely.as_ref());
        let length = token.map_or(0, |token| token.text.chars().count());
        let start = self.streamed.get(choice).map_or(0, |streamed| streamed.fetch_add(length, Ordering::Relaxed));
        let logprobs = logprobs(piece.token.as_slice(), start);
        json!({"index": choice, "text": piece.text, "logprobs": logprobs, "finish_reason": null})
    }

    fn end(&self, choice: usize, finish: Finish, _has_calls: bool) -> Value {
        json!({"index": choice, "text": "", "logprobs": null, "finish_reason": finish_reason(finish, false)})
    }
}

/// What the model thought of each token, the first of which begins at character `start`; null where that is not wanted.
fn logprobs(tokens: &[Token], start: usize) -> Value {
    let told: Vec<(&Likely, &[Likely])> =
        tokens.iter().filter_map(|token| Some((token.likely.as_ref()?, token.top.as_slice()))).collect();
    if told.is_empty() {
        return Value::Null;
    }
    let mut start = start;
    let offsets = told.iter().map(|(token, _)| {
        let offset = start;
        start += token.text.chars().count();
        offset
    });
    let offsets: Vec<usize> = offsets.collect();
    let top = |listed: &[Likely]| -> Value {
        listed.iter().map(|likely| (likely.text.clone(), json!(likely.logprob))).collect()
    };
    json!({
        "tokens": told.iter().map(|(token, _)| token.text.as_str()).collect::<Vec<_>>(),
        "token_logprobs": told.iter().map(|(token, _)| token.logprob).collect::<Vec<_>>(),
        "top_logprobs": told.iter().map(|(_, listed)| top(listed)).collect::<Vec<_>>(),
        "text_offset": offsets,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use serde_json::{Value, json};

    use super::{CompletionBody, Finish, Form, Likely, Prompt, Text, Token, prompts};

    #[test]
    fn prompts_are_texts_or_tokens_one_or_many() {
        let text = |text: &str| Prompt::Text(text.to_owned());
        for (value, expected) in [
            (json!("a"), vec![text("a")]),
            (json!(["a", "b"]), vec![text("a"), text("b")]),
            (json!([1, 2]), vec![Prompt::Tokens(vec![1, 2])]),
            (json!([[1], [2, 3]]), vec![Prompt::Tokens(vec![1]), Prompt::Tokens(vec![2, 3])]),
        ] {
            assert_eq!(prompts(Some(value)).unwrap(), expected);
        }
        for value in [json!([]), json!(3), json!([-1]), json!([[]]), json!({"a": 1}), json!(["a", 1.5])] {
            let error = prompts(Some(value.clone())).unwrap_err();
            assert!(error.message.contains("must be a text"), "{value}: {}", error.message);
        }
        assert!(prompts(Some(json!(vec!["a"; 65]))).unwrap_err().message.contains("has 65 prompts"));
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (more, param) in [
            (json!({"suffix": "b"}), "suffix"),
            (json!({"best_of": 2}), "best_of"),
            (json!({"echo": true, "prompt": [1]}), "echo"),
            (json!({"echo": true, "logprobs": 1}), "echo"),
            (json!({"logprobs": 6}), "logprobs"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"prompt": null}), "prompt"),
        ] {
            let mut body = json!({"model": "m", "prompt": "a"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let body: CompletionBody = serde_json::from_value(body).unwrap();
            assert_eq!(body.into_request().map(drop).unwrap_err().param.as_deref(), Some(param));
        }
    }

    #[test]
    fn a_text_begins_with_its_prompt_where_that_is_wanted() {
        let form = Text { echoed: vec!["a".to_owned(), "b".to_owned()], choices: 2, streamed: Vec::new() };
        assert_eq!(form.whole(3, "c", &[], Finish::Length)["text"], "bc");
        assert_eq!(form.begin(1).unwrap()["text"], "a");
        let plain = Text { echoed: Vec::new(), choices: 1, streamed: vec![AtomicUsize::new(0)] };
        assert_eq!((plain.begin(0), &plain.whole(0, "c", &[], Finish::Stop)["text"]), (None, &json!("c")));
    }

    #[test]
    fn probabilities_stand_in_columns() {
        let token = |text: &str| {
            let likely = Likely { text: text.to_owned(), logprob: -1.0 };
            Token { id: 0, likely: Some(likely.clone()), top: vec![likely] }
        };
        let plain = Text { echoed: Vec::new(), choices: 1, streamed: vec![AtomicUsize::new(0)] };
        let found = plain.whole(0, "éab", &[token("é"), token("ab")], Finish::Stop)["logprobs"].clone();
        assert_eq!(found["text_offset"], json!([0, 1]));
        assert_eq!(found["top_logprobs"], json!([{"é": -1.0}, {"ab": -1.0}]));
        assert_eq!(plain.whole(0, "", &[], Finish::Stop)["logprobs"], Value::Null);
    }
}
