//! What a model would read of a job's examples, shown before there is a job.

use serde_json::{Value, json};

use super::language::{chats, preferences};
use super::tasks::service;

/// The text that is trained on, and all of it.
fn texts(sequence: &Value) -> (String, String) {
    let join = |trained: bool| -> String {
        let tokens = sequence["tokens"].as_array().unwrap().iter();
        let kept = tokens.filter(|token| !trained || token["trained"] == true);
        kept.map(|token| token["text"].as_str().unwrap()).collect()
    };
    (join(true), join(false))
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_shown_with_what_is_trained_and_what_is_cut() {
    let service = service(&["tiny-llama", "tiny-bert"]).await;
    let client = service.client();
    let preview =
        async |body: Value, query: &str| client.post_json(&format!("/v1/fine_tuning/preview{query}"), &body).await;
    let faulty = format!("{}{{\"messages\": []}}\n", chats(1));
    let file = client.upload("chats.jsonl", format!("{faulty}{}", chats(4))).await;
    let shown = preview(json!({"model": "tiny-llama", "training_file": file}), "").await.good();
    assert_eq!((&shown["method"]["type"], shown["data"].as_array().unwrap().len()), (&json!("supervised"), 3));
    let first = &shown["data"][0];
    let (trained, whole) = texts(&first["sequences"][0]);
    let conversation: Value = serde_json::from_str(faulty.lines().next().unwrap()).unwrap();
    let answer = conversation["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
    assert!(trained.starts_with(answer) && trained.contains("<|im_end|>"), "{trained}");
    assert!(whole.len() > trained.len() && whole.contains("name the topic"), "{whole}");
    assert_eq!((&first["line"], &first["problem"]), (&json!(1), &Value::Null));
    let problem = shown["data"][1]["problem"].as_str().unwrap();
    assert!(problem.contains("is faulty: messages is an empty list"), "{problem}");

    // Nothing is learned within so few tokens; the job would leave the example out.
    let method = |more: Value| json!({"type": "supervised", "supervised": {"hyperparameters": more}});
    let body =
        json!({"model": "tiny-llama", "training_file": file, "method": method(json!({"max_sequence_length": 8}))});
    let short = preview(body, "?limit=1").await.good();
    let sequence = &short["data"][0]["sequences"][0];
    assert_eq!((short["data"].as_array().unwrap().len(), &short["max_sequence_length"]), (1, &json!(8)));
    let count = |name: &str| sequence[name].as_u64().unwrap();
    assert_eq!((count("token_count") - count("cut_tokens"), count("trained_tokens")), (8, 0));
    assert!(short["data"][0]["problem"].as_str().unwrap().contains("nothing to learn"));
    let fails = method(json!({"max_sequence_length": 8, "truncation": "fail"}));
    let body = json!({"model": "tiny-llama", "training_file": file, "method": fails});
    let refused = preview(body, "").await.good();
    assert!(refused["data"][0]["problem"].as_str().unwrap().starts_with("fails the job: it has"), "{refused}");

    let file = client.upload("preferences.jsonl", preferences(3)).await;
    let shown = preview(json!({"model": "tiny-llama", "training_file": file}), "").await.good();
    let names: Vec<&Value> =
        shown["data"][0]["sequences"].as_array().unwrap().iter().map(|sequence| &sequence["name"]).collect();
    assert_eq!((&shown["method"]["type"], names), (&json!("dpo"), vec![&json!("preferred"), &json!("non_preferred")]));

    let file = client.upload("domain.txt", "how do i get my new card when it has not come yet\n").await;
    let method = json!({"type": "causal_lm", "causal_lm": {"hyperparameters": {"max_sequence_length": 8}}});
    let body = json!({"model": "tiny-llama", "training_file": file, "method": method});
    let pieces = preview(body, "").await.good()["data"][0]["sequences"].clone();
    let counts: Vec<u64> =
        pieces.as_array().unwrap().iter().map(|piece| piece["token_count"].as_u64().unwrap()).collect();
    assert!(counts.len() > 1 && counts.iter().all(|&count| count <= 8), "{counts:?}");

    let labelled = client.upload("labelled.csv", "text,label\na,x\nb,y\n").await;
    for (body, query, param) in [
        (json!({"model": "tiny-bert", "training_file": labelled}), "", "method.type"),
        (json!({"model": "tiny-llama", "training_file": "file-x"}), "", "training_file"),
        (json!({"model": "tiny-llama", "training_file": labelled}), "?limit=21", "limit"),
        (json!({"model": "tiny-llama"}), "", "training_file"),
    ] {
        let (status, found, _, message) = preview(body, query).await.error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{message}");
    }
}
