//! Language models that write: what they answer, whole and streamed, and what they are refused.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::language::chats;
use super::support::client::{Answer, Client};
use super::support::fleet::processes_in;
use super::support::service::{Service, eventually};
use super::tasks::{create, service, succeeded};

const CHAT: &str = "/v1/chat/completions";
const TEXT: &str = "/v1/completions";

async fn tiny() -> Service {
    service(&["tiny-llama"]).await
}

/// A request to the model, with more fields.
fn chat(more: Value) -> Value {
    let messages = json!([{"role": "user", "content": "how do i get my new card"}]);
    with(json!({"model": "tiny-llama", "messages": messages, "seed": 5, "max_tokens": 24}), more)
}

fn with(mut body: Value, more: Value) -> Value {
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

/// The chunks of a stream.
fn chunks(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream")));
    let text = String::from_utf8(answer.bytes.clone()).unwrap();
    let data = text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).unwrap()).collect()
}

/// The text of each choice of a stream, and why it ended.
fn joined(chunks: &[Value]) -> Vec<(String, String)> {
    let mut texts: Vec<(String, String)> = Vec::new();
    for choice in chunks.iter().flat_map(|chunk| chunk["choices"].as_array().unwrap()) {
        let index = choice["index"].as_u64().unwrap() as usize;
        texts.resize_with(texts.len().max(index + 1), Default::default);
        let piece = choice["delta"]["content"].as_str().or_else(|| choice["text"].as_str());
        texts[index].0.push_str(piece.unwrap_or_default());
        texts[index].1.push_str(choice["finish_reason"].as_str().unwrap_or_default());
    }
    texts
}

fn whole(answer: &Value) -> Vec<(String, String)> {
    let text =
        |choice: &Value| choice["message"]["content"].as_str().or_else(|| choice["text"].as_str()).unwrap().to_owned();
    let of = |choice: &Value| (text(choice), choice["finish_reason"].as_str().unwrap().to_owned());
    answer["choices"].as_array().unwrap().iter().map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_says_what_the_whole_answer_says() {
    let service = tiny().await;
    let client = service.client();
    let body = chat(json!({"n": 2, "temperature": 1.2, "logprobs": true, "top_logprobs": 2}));
    let answer = client.post_json(CHAT, &body).await.good();
    let texts = whole(&answer);
    assert_eq!((texts.len(), &answer["model"]), (2, &json!("tiny-llama")));
    assert_ne!(texts[0], texts[1], "each choice has draws of its own");
    let told = |choice: usize| answer["choices"][choice]["logprobs"]["content"].as_array().unwrap().clone();
    let tokens = told(0).len() + told(1).len();
    let usage = &answer["usage"];
    assert_eq!((&usage["completion_tokens"], usage["prompt_tokens"].as_u64().unwrap() > 5), (&json!(tokens), true));
    assert_eq!(
        client.post_json(CHAT, &body).await.good()["choices"],
        answer["choices"],
        "the same seed, the same text"
    );

    let streamed = with(body, json!({"stream": true, "stream_options": {"include_usage": true}}));
    let chunks = chunks(&client.post_json(CHAT, &streamed).await);
    assert_eq!(joined(&chunks), texts);
    assert_eq!(chunks[0]["choices"][0]["delta"], json!({"role": "assistant", "content": "", "refusal": null}));
    assert_eq!(
        (&chunks.last().unwrap()["usage"], chunks.last().unwrap()["choices"].as_array().unwrap().len()),
        (usage, 0)
    );
    assert!(chunks.len() > tokens, "a chunk for each token");
    let one = json!({"seed": 5});
    let first = client.post_json(CHAT, &chat(with(one, json!({"temperature": 1.2})))).await.good();
    assert_eq!(whole(&first)[0], texts[0], "the first of two is the one alone");
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_go_on_from_texts_and_from_tokens() {
    let service = tiny().await;
    let client = service.client();
    let body =
        json!({"model": "tiny-llama", "prompt": ["how do i", "my card"], "n": 2, "temperature": 0, "logprobs": 1});
    let answer = client.post_json(TEXT, &body).await.good();
    let texts = whole(&answer);
    assert_eq!(texts.len(), 4);
    assert_eq!((&texts[0], &texts[2]), (&texts[1], &texts[3]), "the likeliest is the same each time");
    let told = &answer["choices"][0]["logprobs"];
    assert_eq!(told["tokens"].as_array().unwrap().len(), told["top_logprobs"].as_array().unwrap().len());

    let echo = json!({"model": "tiny-llama", "prompt": "how do i", "temperature": 0, "echo": true});
    let echoed = client.post_json(TEXT, &echo).await.good();
    assert_eq!(whole(&echoed)[0].0, format!("how do i{}", texts[0].0));
    let streamed = client.post_json(TEXT, &with(echo.clone(), json!({"stream": true}))).await;
    assert_eq!(joined(&chunks(&streamed)), whole(&echoed));

    // Streamed, each token has the place that it has in the whole text.
    let listed = with(body.clone(), json!({"stream": true, "n": 1, "prompt": "how do i"}));
    let pieces = chunks(&client.post_json(TEXT, &listed).await);
    let offsets: Vec<&Value> =
        pieces.iter().filter_map(|chunk| chunk["choices"][0]["logprobs"]["text_offset"].get(0)).collect();
    assert_eq!(json!(offsets), told["text_offset"]);

    // What is biased away does not come, and what is biased towards comes alone.
    let chosen = told["tokens"][0].as_str().unwrap();
    let asked = |bias: Value| json!({"model": "tiny-llama", "prompt": "how do i", "temperature": 0, "max_tokens": 6, "logit_bias": bias});
    let forced = whole(&client.post_json(TEXT, &asked(json!({"40": 100}))).await.good())[0].0.clone();
    assert!(!forced.is_empty() && forced == forced[..forced.len() / 6].repeat(6), "{forced}");
    assert!(!forced.starts_with(chosen), "{forced}");

    let stop: String = texts[0].0.chars().skip(2).take(2).collect();
    let stopped = with(echo, json!({"echo": false, "stop": [stop]}));
    let found = whole(&client.post_json(TEXT, &stopped).await.good());
    assert_eq!(found[0].1, "stop");
    assert!(texts[0].0.starts_with(&found[0].0) && !found[0].0.contains(&stop), "{found:?}");

    let tokens = json!({"model": "tiny-llama", "prompt": [5, 9, 40], "max_tokens": 3, "temperature": 0});
    assert_eq!(client.post_json(TEXT, &tokens).await.good()["usage"]["prompt_tokens"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_learned_is_what_is_said() {
    let service = tiny().await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(120)).await;
    let h = json!({"n_epochs": 12, "learning_rate": 1e-2, "adapter": "none", "batch_size": 8});
    let id = create(&client, "tiny-llama", &file, "supervised", h, json!({})).await;
    let job = succeeded(&client, &id).await;
    let (mut right, questions) = (0, chats(30));
    for line in questions.lines() {
        let mut messages = serde_json::from_str::<Value>(line).unwrap()["messages"].as_array().unwrap().clone();
        let expected = messages.pop().unwrap()["content"].clone();
        let body = json!({"model": job["fine_tuned_model"], "messages": messages, "temperature": 0, "max_tokens": 32});
        let answer = client.post_json(CHAT, &body).await.good();
        let choice = &answer["choices"][0];
        // It ends by itself, with the token that ends its turn.
        right += usize::from(choice["message"]["content"] == expected && choice["finish_reason"] == "stop");
    }
    assert!(right >= 27, "{right} of 30");
}

async fn refused(client: &Client, path: &str, body: Value) -> (u16, String, Option<String>, String) {
    let (status, param, code, message) = client.post_json(path, &body).await.error();
    (status, param.unwrap_or_default(), code, message)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_model_cannot_answer_is_refused_by_name() {
    let service = service(&["tiny-llama", "tiny-bert"]).await;
    let client = service.client();
    let long = || json!([{"role": "user", "content": "card ".repeat(400)}]);
    for (path, body, param, message) in [
        (CHAT, chat(json!({"messages": []})), "messages", "is an empty list"),
        (CHAT, chat(json!({"messages": [{"role": "user"}]})), "messages[0].content", "is missing"),
        (CHAT, chat(json!({"messages": long()})), "messages", "maximum context length is 256 tokens"),
        (CHAT, chat(json!({"model": "tiny-bert"})), "model", "is a text transformer, and writes no text"),
        (CHAT, chat(json!({"temperature": 3})), "temperature", "must be 0 to 2"),
        (CHAT, chat(json!({"tools": [{"type": "function"}]})), "tools[0].function", "is missing"),
        (CHAT, chat(json!({"audio": {}})), "audio", "Unrecognized request argument"),
        (TEXT, json!({"model": "tiny-llama", "prompt": ""}), "prompt", "has no tokens"),
        (TEXT, json!({"model": "tiny-llama", "prompt": [100_000]}), "prompt", "has the token 100000"),
        (TEXT, json!({"model": "tiny-llama"}), "prompt", "Missing required parameter"),
        (CHAT, chat(json!({"logit_bias": {"100000": 1}})), "logit_bias", "has the token 100000"),
        (
            TEXT,
            json!({"model": "tiny-llama", "prompt": "a", "logit_bias": {"100000": 1}}),
            "logit_bias",
            "the model knows those",
        ),
        ("/v1/classifications", json!({"model": "tiny-llama", "input": "a"}), "model", "is a language model"),
    ] {
        let (status, found, _, text) = refused(&client, path, body).await;
        assert_eq!((status, found.as_str()), (400, param), "{text}");
        assert!(text.contains(message), "{text}");
    }
    let (.., code, _) = refused(&client, CHAT, chat(json!({"messages": long()}))).await;
    assert_eq!(code.as_deref(), Some("context_length_exceeded"));
    // What is refused before anything is written is refused when a stream was asked for, too.
    let (status, ..) = refused(&client, CHAT, chat(json!({"messages": long(), "stream": true}))).await;
    assert_eq!(status, 400);
    // A text ends where the context does.
    let body = json!({"model": "tiny-llama", "prompt": "card ".repeat(30), "max_tokens": 100_000, "temperature": 2});
    let answer = client.post_json(TEXT, &body).await.good();
    assert!(answer["usage"]["total_tokens"].as_u64().unwrap() <= 256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_dies_while_it_writes_breaks_the_stream_and_comes_back() {
    let service = tiny().await;
    let client = service.client();
    // Most of what it draws at this temperature is no end, so it writes on.
    let endless = json!({"n": 16, "max_tokens": 200, "temperature": 2, "stream": true});
    let (asking, body) = (client.clone(), chat(endless));
    let stream = tokio::spawn(async move { asking.post_json(CHAT, &body).await });
    let served = service.app.served();
    let child = eventually("a model at work", 30, async || processes_in(&served).first().copied()).await;
    tokio::time::sleep(Duration::from_millis(700)).await;
    kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    let broken = stream.await.unwrap();
    let text = String::from_utf8_lossy(&broken.bytes).into_owned();
    // Before its first word it is an error like others.
    if broken.status == 200 {
        let last = text.lines().rfind(|line| line.starts_with("data: ")).unwrap().to_owned();
        assert!(last.contains("\"error\"") && last.contains("temporarily unavailable"), "{last}");
    } else {
        assert_eq!(broken.status, 503, "{text}");
    }
    client.post_json(CHAT, &chat(json!({}))).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_base_and_its_tunes_are_served_by_one_process() {
    let service = tiny().await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(40)).await;
    let mut models = vec![json!("tiny-llama")];
    for (export, seed) in [("both", 1), ("adapter", 2)] {
        let h = json!({"n_epochs": 4, "learning_rate": 1e-2, "export": export});
        let id = create(&client, "tiny-llama", &file, "supervised", h, json!({"seed": seed})).await;
        models.push(succeeded(&client, &id).await["fine_tuned_model"].clone());
    }
    let ask = async |model: &Value| {
        let body = chat(json!({"model": model, "temperature": 0, "logprobs": true}));
        let answer = client.post_json(CHAT, &body).await.good();
        let first = answer["choices"][0]["logprobs"]["content"][0]["logprob"].as_f64().unwrap();
        (whole(&answer), first)
    };
    let served = service.app.served();
    let (mut said, mut processes) = (Vec::new(), Vec::new());
    for model in models.iter().chain(&models) {
        said.push(ask(model).await);
        processes.extend(processes_in(&served));
    }
    assert_eq!(said[..3], said[3..]);
    assert!(said[0].0 != said[1].0 && said[1].0 != said[2].0, "{said:?}");
    processes.dedup();
    assert_eq!(processes.len(), 1, "none was started for another model");

    // It ends, and is started with another one of them first.
    kill(Pid::from_raw(processes[0]), Signal::SIGKILL).unwrap();
    eventually("the next process", 30, async || {
        let body = chat(json!({"model": models[2]}));
        (client.post_json(CHAT, &body).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(
        [ask(&models[2]).await, ask(&models[0]).await, ask(&models[1]).await],
        [2, 0, 1].map(|i| said[i].clone())
    );
    assert_eq!(processes_in(&served).len(), 1);

    // Without its base one that is kept whole is served as such: its adapter is in its weights, and counts once.
    finetuned::app::models::remove_base(&service.app, "tiny-llama").await.unwrap();
    let (_, first) = ask(&models[1]).await;
    assert!((first - said[1].1).abs() < 0.05 && (first - said[0].1).abs() > 0.05, "{first} of {said:?}");
    assert_eq!(ask(&models[2]).await, said[2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_was_learned_is_told_as_one() {
    let service = tiny().await;
    let client = service.client();
    let call = r#"{"name": "weather", "arguments": {"place": "Bern"}}"#;
    let question = json!({"role": "user", "content": "is it warm"});
    let said = json!({"role": "assistant", "content": format!("So.\n<tool_call>\n{call}\n</tool_call>")});
    let line = json!({"messages": [question, said]});
    let file = client.upload("calls.jsonl", format!("{line}\n").repeat(24)).await;
    let h = json!({"n_epochs": 40, "learning_rate": 1e-2, "adapter": "none", "batch_size": 8});
    let id = create(&client, "tiny-llama", &file, "supervised", h, json!({"dataset": {"validation_split": 0}})).await;
    let model = succeeded(&client, &id).await["fine_tuned_model"].clone();
    let tool = json!({"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}});
    let body = json!({"model": model, "messages": [question], "temperature": 0, "max_tokens": 120, "tools": [tool]});

    let answer = client.post_json(CHAT, &body).await.good();
    let choice = &answer["choices"][0];
    let called = &choice["message"]["tool_calls"][0];
    assert_eq!((&choice["message"]["content"], &choice["finish_reason"]), (&json!("So."), &json!("tool_calls")));
    assert_eq!(called["function"], json!({"name": "weather", "arguments": "{\"place\": \"Bern\"}"}));
    assert!(called["id"].as_str().unwrap().starts_with("call_") && called["type"] == "function");

    let chunks = chunks(&client.post_json(CHAT, &with(body.clone(), json!({"stream": true}))).await);
    assert_eq!(joined(&chunks), [("So.".to_owned(), "tool_calls".to_owned())]);
    let told: Vec<&Value> = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"].get("tool_calls")).collect();
    assert_eq!((told.len(), &told[0][0]["index"], &told[0][0]["function"]), (1, &json!(0), &called["function"]));

    // It goes on from what the tool says, and to a request without that tool it is text.
    let turn = json!({"role": "assistant", "content": null, "tool_calls": [called]});
    let result = json!({"role": "tool", "tool_call_id": called["id"], "content": "21"});
    client.post_json(CHAT, &with(body.clone(), json!({"messages": [question, turn, result]}))).await.good();
    let plain = client.post_json(CHAT, &with(body, json!({"tool_choice": "none"}))).await.good();
    assert!(whole(&plain)[0].0.contains(call) && whole(&plain)[0].1 == "stop", "{plain}");
}
