//! `/v1/chat/completions`: a language model answers a conversation.

use axum::extract::State;
use axum::response::Response;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

use super::ApiState;
use super::body;
use super::extract::{Caller, JsonBody};
use super::fields::{missing, required};
use super::generation::{Options, StreamOptions, stream, whole};
use super::problem::Answer;
use super::route::{Route, post};
use super::texts::{Answering, Form, bytes_of, finish_reason};
use crate::app::serving;
use crate::dataset::chats;
use crate::domain::calls::{Said, names};
use crate::domain::chat::ToolCall;
use crate::domain::error::{Error, Result};
use crate::domain::serving::{Finish, Likely, Piece, Prompt, Token};

/// The largest body, in bytes.
const MAX_BYTES: usize = 4 << 20;

pub(super) fn routes() -> Vec<Route> {
    let create = post("/v1/chat/completions", "create_chat_completion", create_chat_completion);
    vec![create.with_body_limit(MAX_BYTES).with_patience().without_change()]
}

/// As sent, but for the conversation: that is read as data files have it. Any field may be null, which is the same as absent.
/// Those that begin with an underscore tell OpenAI what it keeps, counts or charges, and mean nothing here.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChatBody {
    model: Option<String>,
    messages: Option<IgnoredAny>,
    #[serde(rename = "tools")]
    _tools: Option<IgnoredAny>,
    #[serde(rename = "functions")]
    _functions: Option<IgnoredAny>,
    #[serde(rename = "parallel_tool_calls")]
    _parallel_tool_calls: Option<IgnoredAny>,
    tool_choice: Option<Value>,
    response_format: Option<Value>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    n: Option<u64>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    frequency_penalty: Option<f64>,
    presence_penalty: Option<f64>,
    logit_bias: Option<BTreeMap<String, f64>>,
    logprobs: Option<bool>,
    top_logprobs: Option<u64>,
    stop: Option<Value>,
    seed: Option<i64>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(rename = "user")]
    _user: Option<IgnoredAny>,
    #[serde(rename = "metadata")]
    _metadata: Option<IgnoredAny>,
    #[serde(rename = "store")]
    _store: Option<IgnoredAny>,
    #[serde(rename = "service_tier")]
    _service_tier: Option<IgnoredAny>,
    #[serde(rename = "safety_identifier")]
    _safety_identifier: Option<IgnoredAny>,
    #[serde(rename = "prompt_cache_key")]
    _prompt_cache_key: Option<IgnoredAny>,
}

/// What is checked of a request before its conversation is read.
struct Checked {
    model: String,
    options: Options,
    most: Option<usize>,
    top_logprobs: Option<usize>,
    has_tools: bool,
    stream: Option<StreamOptions>,
}

impl ChatBody {
    fn check(self) -> Result<Checked> {
        let model = required("model", self.model)?;
        if self.messages.is_none() {
            return Err(missing("messages"));
        }
        let most = [("max_tokens", self.max_tokens), ("max_completion_tokens", self.max_completion_tokens)];
        let [older, newer] = most.map(|(name, value)| whole(name, value, 1..=u64::MAX));
        let most = newer?.or(older?).map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        let checked = Checked {
            model,
            most,
            top_logprobs: top_logprobs(self.logprobs.unwrap_or(false), self.top_logprobs)?,
            has_tools: takes_tools(self.tool_choice.as_ref())?,
            stream: stream(self.stream, self.stream_options)?,
            options: Options {
                n: self.n,
                temperature: self.temperature,
                top_p: self.top_p,
                frequency_penalty: self.frequency_penalty,
                presence_penalty: self.presence_penalty,
                logit_bias: self.logit_bias,
                stop: self.stop,
                seed: self.seed,
            },
        };
        text_alone(self.response_format.as_ref())?;
        Ok(checked)
    }
}

fn top_logprobs(is_wanted: bool, top: Option<u64>) -> Result<Option<usize>> {
    match whole("top_logprobs", top, 0..=20)? {
        Some(_) if !is_wanted => {
            Err(Error::invalid("top_logprobs", "top_logprobs is given, so logprobs must be true."))
        }
        top => Ok(is_wanted.then(|| top.unwrap_or(0) as usize)),
    }
}

/// Whether the model is told of tools.
fn takes_tools(choice: Option<&Value>) -> Result<bool> {
    match choice {
        None => Ok(true),
        Some(Value::String(word)) if word == "auto" => Ok(true),
        Some(Value::String(word)) if word == "none" => Ok(false),
        Some(_) => {
            let message = "tool_choice must be \"auto\" or \"none\": no model is made to call a tool.";
            Err(Error::invalid("tool_choice", message))
        }
    }
}

fn text_alone(format: Option<&Value>) -> Result<()> {
    match format {
        None => Ok(()),
        Some(format) if format["type"] == "text" => Ok(()),
        Some(_) => {
            let message = "response_format must be {\"type\": \"text\"}: no model is made to write JSON.";
            Err(Error::invalid("response_format", message))
        }
    }
}

async fn create_chat_completion(
    caller: Caller,
    State(state): State<ApiState>,
    body: JsonBody<ChatBody>,
) -> Answer<Response> {
    let JsonBody { value, bytes, held: _held } = body;
    let Checked { model, options, most, top_logprobs, has_tools, stream } = value.check()?;
    let model = serving::language_model(&state.app, caller.0.id, &model).await?;
    let conversation = body::aside(bytes.len(), move || chats::asked(&bytes)).await??;
    let conversation = if has_tools { conversation } else { conversation.without_tools() };
    let tools = names(&conversation.tools);
    let wanted = options.wanted("messages", vec![Prompt::Chat(Box::new(conversation))], most, top_logprobs)?;
    let texts = serving::generate(&state.app, caller.0.id, &model, wanted).await?;
    let answering = Answering::new(Chat { tools }, model.name, texts);
    Ok(match stream {
        Some(options) => answering.stream(options),
        None => answering.whole().await?,
    })
}

/// Answers as chat completions.
struct Chat {
    /// The names of the tools that the model was told of.
    tools: BTreeSet<String>,
}

impl Form for Chat {
    fn id_prefix(&self) -> &'static str {
        "chatcmpl"
    }

    fn objects(&self) -> [&'static str; 2] {
        ["chat.completion", "chat.completion.chunk"]
    }

    fn whole(&self, choice: usize, text: &str, tokens: &[Token], finish: Finish) -> Value {
        let Said { content, calls } = Said::read(text, &self.tools);
        let mut message = json!({"role": "assistant", "content": content, "refusal": null});
        if !calls.is_empty() {
            message["tool_calls"] = calls.iter().map(called).collect();
            if content.is_empty() {
                message["content"] = Value::Null;
            }
        }
        let finish_reason = finish_reason(finish, !calls.is_empty());
        json!({"index": choice, "message": message, "logprobs": logprobs(tokens), "finish_reason": finish_reason})
    }

    fn begin(&self, choice: usize) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": "", "refusal": null});
        Some(json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": null}))
    }

    fn piece(&self, choice: usize, piece: &Piece) -> Value {
        let logprobs = logprobs(piece.token.as_slice());
        json!({"index": choice, "delta": {"content": piece.text}, "logprobs": logprobs, "finish_reason": null})
    }

    fn end(&self, choice: usize, finish: Finish, has_calls: bool) -> Value {
        json!({"index": choice, "delta": {}, "logprobs": null, "finish_reason": finish_reason(finish, has_calls)})
    }

    fn tools(&self) -> Option<&BTreeSet<String>> {
        Some(&self.tools).filter(|tools| !tools.is_empty())
    }

    fn calls(&self, choice: usize, calls: &[ToolCall]) -> Value {
        let numbered = calls.iter().enumerate().map(|(index, call)| {
            let mut told = called(call);
            told["index"] = json!(index);
            told
        });
        let delta = json!({"tool_calls": numbered.collect::<Vec<_>>()});
        json!({"index": choice, "delta": delta, "logprobs": null, "finish_reason": null})
    }
}

/// A call, with an id by which a tool's answer names it.
fn called(call: &ToolCall) -> Value {
    let id: String = Uuid::new_v4().simple().to_string().chars().take(24).collect();
    let function = json!({"name": call.name, "arguments": call.arguments});
    json!({"id": format!("call_{id}"), "type": "function", "function": function})
}

/// What the model thought of each token; null where that is not wanted.
fn logprobs(tokens: &[Token]) -> Value {
    let one =
        |likely: &Likely| json!({"token": likely.text, "logprob": likely.logprob, "bytes": bytes_of(&likely.text)});
    let told = tokens.iter().filter_map(|token| {
        let mut told = one(token.likely.as_ref()?);
        told["top_logprobs"] = token.top.iter().map(one).collect();
        Some(told)
    });
    let told: Vec<Value> = told.collect();
    if told.is_empty() { Value::Null } else { json!({"content": told, "refusal": null}) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::{Value, json};

    use super::{Chat, ChatBody, Finish, Form, Likely, Piece, Token};

    fn check(more: &Value) -> Result<(), (String, String)> {
        let mut body = json!({"model": "m", "messages": []});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body: ChatBody = serde_json::from_value(body).unwrap();
        body.check().map(drop).map_err(|error| (error.param.unwrap_or_default(), error.message))
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        for (more, param, message) in [
            (json!({"model": null}), "model", "Missing required parameter: 'model'."),
            (json!({"messages": null}), "messages", "Missing required parameter: 'messages'."),
            (json!({"top_logprobs": 2}), "top_logprobs", "logprobs must be true"),
            (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs", "must be 0 to 20"),
            (json!({"tool_choice": "required"}), "tool_choice", "must be \"auto\" or \"none\""),
            (json!({"response_format": {"type": "json_object"}}), "response_format", "must be {\"type\": \"text\"}"),
            (json!({"max_completion_tokens": 0}), "max_completion_tokens", "must be at least 1"),
            (json!({"max_tokens": 0}), "max_tokens", "must be at least 1"),
            (json!({"stream_options": {"include_usage": true}}), "stream_options", "only allowed when 'stream'"),
        ] {
            let (found, text) = check(&more).unwrap_err();
            assert_eq!(found, param);
            assert!(text.contains(message), "{text}");
        }
        check(&json!({"tool_choice": "none", "response_format": {"type": "text"}, "user": "u", "store": false}))
            .unwrap();
    }

    #[test]
    fn probabilities_are_told_token_by_token() {
        let likely = |text: &str| Likely { text: text.to_owned(), logprob: -0.5 };
        let token = Token { id: 3, likely: Some(likely("é")), top: vec![likely("\u{FFFD}")] };
        let piece = Piece { text: "é".to_owned(), token: Some(token) };
        let chat = Chat { tools: BTreeSet::new() };
        let told = &chat.piece(1, &piece)["logprobs"]["content"][0];
        assert_eq!(told["bytes"], json!([195, 169]));
        assert_eq!(told["top_logprobs"][0], json!({"token": "\u{FFFD}", "logprob": -0.5, "bytes": null}));
        let plain = Token { id: 3, likely: None, top: Vec::new() };
        assert_eq!(chat.whole(0, "é", &[plain], Finish::Stop)["logprobs"], Value::Null);
    }
}
