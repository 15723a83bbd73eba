//! Written texts as answers: whole, or token by token as server-sent events, as OpenAI's clients read them.

use std::collections::{BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::Stream;
use serde_json::{Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::generation::StreamOptions;
use super::problem;
use crate::app::serving::{Texts, Told};
use crate::domain::calls::Gate;
use crate::domain::chat::ToolCall;
use crate::domain::error::Result;
use crate::domain::serving::{Finish, Piece, Token};

/// How long a stream is silent before a comment shows that it lives.
const SILENCE: Duration = Duration::from_secs(15);

/// How one endpoint writes texts.
pub(super) trait Form: Send + Sync + 'static {
    /// What ids begin with.
    fn id_prefix(&self) -> &'static str;
    /// What `object` is of a whole answer, and of a chunk.
    fn objects(&self) -> [&'static str; 2];
    /// The choice of a text that has ended.
    fn whole(&self, choice: usize, text: &str, tokens: &[Token], finish: Finish) -> Value;
    /// The choice of the chunk before a text's first piece, if there is one.
    fn begin(&self, choice: usize) -> Option<Value>;
    /// The choice of a chunk with a piece.
    fn piece(&self, choice: usize, piece: &Piece) -> Value;
    /// The choice of the chunk that ends a text, which has calls or has not.
    fn end(&self, choice: usize, finish: Finish, has_calls: bool) -> Value;
    /// The tools that may be called; None where there are none.
    fn tools(&self) -> Option<&BTreeSet<String>> {
        None
    }
    /// The choice of the chunk with the calls of a text, where there are tools.
    fn calls(&self, choice: usize, _calls: &[ToolCall]) -> Value {
        json!({"index": choice})
    }
}

/// The word on the wire.
pub(super) fn finish_reason(finish: Finish, has_calls: bool) -> &'static str {
    match finish {
        Finish::Stop if has_calls => "tool_calls",
        Finish::Stop => "stop",
        Finish::Length => "length",
    }
}

/// The bytes of a token's text; null of one that is a part of a character.
pub(super) fn bytes_of(text: &str) -> Value {
    if text.contains(char::REPLACEMENT_CHARACTER) { Value::Null } else { json!(text.as_bytes()) }
}

/// An answer on its way.
pub(super) struct Answering<F> {
    form: F,
    texts: Texts,
    id: String,
    created: i64,
    model: String,
    prompt_tokens: usize,
    completion_tokens: usize,
}

impl<F: Form> Answering<F> {
    /// The answer with these texts, whose prompts have so many tokens.
    pub(super) fn new(form: F, model: String, (texts, prompts): (Texts, Vec<usize>)) -> Self {
        let id = format!("{}-{}", form.id_prefix(), Uuid::now_v7().simple());
        let created = OffsetDateTime::now_utc().unix_timestamp();
        Self { form, texts, id, created, model, prompt_tokens: prompts.iter().sum(), completion_tokens: 0 }
    }

    /// All of it at once.
    ///
    /// # Errors
    /// See [`Texts::next`].
    pub(super) async fn whole(mut self) -> Result<Response> {
        let (mut choices, mut text, mut tokens) = (Vec::new(), String::new(), Vec::new());
        while let Some(told) = self.texts.next().await? {
            match told {
                Told::Begun(_) => {}
                Told::Piece(_, piece) => {
                    text.push_str(&piece.text);
                    tokens.extend(piece.token);
                }
                Told::Ended(choice, finish) => {
                    choices.push(self.form.whole(choice, &text, &tokens, finish));
                    self.completion_tokens += tokens.len();
                    text.clear();
                    tokens.clear();
                }
            }
        }
        let mut answer = self.around(0, &choices);
        answer["usage"] = self.usage();
        Ok(Json(answer).into_response())
    }

    /// Piece by piece, with `data: [DONE]` behind the last one. What goes wrong on the way is an event, too, and the last.
    pub(super) fn stream(self, options: StreamOptions) -> Response {
        let ready = VecDeque::new();
        let streaming = Streaming { answering: self, options, begun: None, gate: None, ready, is_over: false };
        Sse::new(streaming.events()).keep_alive(KeepAlive::new().interval(SILENCE)).into_response()
    }

    /// What stands around choices: of a whole answer (0) or of a chunk (1).
    fn around(&self, object: usize, choices: &[Value]) -> Value {
        json!({
            "id": self.id,
            "object": self.form.objects()[object],
            "created": self.created,
            "model": self.model,
            "choices": choices,
            "system_fingerprint": null,
        })
    }

    fn usage(&self) -> Value {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
        })
    }
}

/// An answer that is streamed.
struct Streaming<F> {
    answering: Answering<F>,
    options: StreamOptions,
    /// The text whose beginning was told last.
    begun: Option<usize>,
    /// What holds back calls of that text, where there are tools.
    gate: Option<Gate>,
    /// Events that are to be sent next.
    ready: VecDeque<Event>,
    is_over: bool,
}

impl<F: Form> Streaming<F> {
    fn events(self) -> impl Stream<Item = std::result::Result<Event, Infallible>> {
        futures_util::stream::unfold(self, |mut streaming| async move {
            while streaming.ready.is_empty() {
                if streaming.is_over {
                    return None;
                }
                streaming.go_on().await;
            }
            let event = streaming.ready.pop_front()?;
            Some((Ok(event), streaming))
        })
    }

    async fn go_on(&mut self) {
        match self.answering.texts.next().await {
            Ok(Some(Told::Begun(_))) => {}
            Ok(Some(Told::Piece(choice, mut piece))) => {
                self.begin(choice);
                if let Some(gate) = &mut self.gate {
                    piece.text = gate.push(&piece.text);
                }
                self.answering.completion_tokens += usize::from(piece.token.is_some());
                let tells_token = piece.token.as_ref().is_some_and(|token| token.likely.is_some());
                if !piece.text.is_empty() || tells_token {
                    let choice = self.answering.form.piece(choice, &piece);
                    self.push(choice);
                }
            }
            Ok(Some(Told::Ended(choice, finish))) => {
                self.begin(choice);
                let has_calls = self.call(choice);
                let choice = self.answering.form.end(choice, finish, has_calls);
                self.push(choice);
            }
            Ok(None) => {
                if self.options.include_usage {
                    let mut chunk = self.answering.around(1, &[]);
                    chunk["usage"] = self.answering.usage();
                    self.ready.push_back(event(&chunk));
                }
                self.ready.push_back(Event::default().data("[DONE]"));
                self.is_over = true;
            }
            Err(error) => {
                tracing::warn!(error = error.chain(), "a stream of text breaks off");
                self.ready.push_back(event(&problem::body(&error)));
                self.is_over = true;
            }
        }
    }

    fn begin(&mut self, choice: usize) {
        if self.begun == Some(choice) {
            return;
        }
        self.begun = Some(choice);
        self.gate = self.answering.form.tools().map(|_| Gate::default());
        if let Some(choice) = self.answering.form.begin(choice) {
            self.push(choice);
        }
    }

    /// Tells what was held back of a text that has ended, and whether it has calls.
    fn call(&mut self, choice: usize) -> bool {
        let form = &self.answering.form;
        let (Some(gate), Some(tools)) = (self.gate.take(), form.tools()) else { return false };
        let (text, calls) = gate.end(tools);
        let rest = (!text.is_empty()).then(|| form.piece(choice, &Piece { text, token: None }));
        let told = (!calls.is_empty()).then(|| form.calls(choice, &calls));
        let has_calls = told.is_some();
        rest.into_iter().chain(told).for_each(|choice| self.push(choice));
        has_calls
    }

    fn push(&mut self, choice: Value) {
        let mut chunk = self.answering.around(1, &[choice]);
        if self.options.include_usage {
            chunk["usage"] = Value::Null;
        }
        self.ready.push_back(event(&chunk));
    }
}

fn event(value: &Value) -> Event {
    Event::default().data(value.to_string())
}
