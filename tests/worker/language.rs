//! Language models through the whole service.

use finetuned::app::models;
use finetuned::failpoint::Failpoints;
use serde_json::{Value, json};

use super::evaluations::{ended, evaluate};
use super::support::client::Client;
use super::support::data;
use super::support::service::Service;
use super::tasks::{create, model_file, model_json, service, succeeded};

/// Plain texts that repeat themselves, so that there is something to learn.
fn texts(count: usize) -> String {
    let text = |(i, (text, label)): (usize, (String, &str))| {
        let line = format!("{text} {label} {text}");
        if i % 5 == 0 { line.repeat(4) } else { line }
    };
    data::rows(count).into_iter().enumerate().map(text).map(|line| format!("{line}\n")).collect()
}

/// The training loss of a job's first and of its last step.
async fn first_and_last_loss(client: &Client, id: &str) -> (f64, f64) {
    let metrics = client.get(&format!("/v1/fine_tuning/jobs/{id}/metrics?limit=1000")).await.good();
    let losses: Vec<f64> =
        metrics["data"].as_array().unwrap().iter().filter_map(|row| row["metrics"]["train_loss"].as_f64()).collect();
    (losses[0], losses[losses.len() - 1])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_is_adapted_to_a_domain() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("domain.txt", texts(120)).await;
    let held_out = client.upload("held_out.txt", texts(40)).await;
    let h =
        json!({"n_epochs": 6, "learning_rate": 5e-3, "max_sequence_length": 64, "adapter": "none", "batch_size": 4});
    let more = json!({"test_file": held_out});
    let id = create(&client, "tiny-llama", &file, "causal_lm", h.clone(), more.clone()).await;
    let job = succeeded(&client, &id).await;
    let test = &job["evaluation"]["test"];
    let (loss, perplexity) = (test["loss"].as_f64().unwrap(), test["perplexity"].as_f64().unwrap());
    assert!(loss < 4.0 && (perplexity.ln() - loss).abs() < 1e-6, "{test}");
    let (first, last) = first_and_last_loss(&client, &id).await;
    assert!(last < first - 1.0, "{first} to {last}");
    let rows = client.get(&format!("/v1/fine_tuning/jobs/{id}/metrics?limit=5")).await.good();
    for row in rows["data"].as_array().unwrap() {
        assert!(row["metrics"]["tokens_per_second"].as_f64().unwrap() > 1.0, "{row}");
    }
    assert_eq!(model_json(&client, &job, "config.json").await["architectures"], json!(["LlamaForCausalLM"]));
    assert!(model_file(&client, &job, "chat_template.jinja").await.starts_with(b"{% for message in messages %}"));
    assert!(job["trained_tokens"].as_u64().unwrap() > 6 * 120 * 5);

    // The same again with adapters on all linear layers, which is what a job has that says nothing, and texts by themselves.
    let mut more_h = h;
    more_h.as_object_mut().unwrap().remove("adapter");
    more_h["packing"] = json!(false);
    let id = create(&client, "tiny-llama", &file, "causal_lm", more_h, more).await;
    let job = succeeded(&client, &id).await;
    let used = &job["method"]["causal_lm"]["hyperparameters"]["adapter"];
    assert_eq!((&used["r"], &used["target_modules"]), (&json!(16), &json!("all-linear")), "{used}");
    let adapter = model_json(&client, &job, "adapter/adapter_config.json").await;
    assert_eq!(adapter["task_type"], "CAUSAL_LM");
    let modules = adapter["target_modules"].as_array().unwrap();
    assert_eq!(modules.len(), 7, "{modules:?}");
    let (first, last) = first_and_last_loss(&client, &id).await;
    assert!(last < first - 0.3, "{first} to {last}");
}

/// Conversations in which the assistant says which topic a question is about.
pub fn chats(count: usize) -> String {
    let line = |(i, (text, label)): (usize, (String, &str))| {
        let mut messages =
            vec![json!({"role": "user", "content": text}), json!({"role": "assistant", "content": label})];
        if i % 4 == 0 {
            messages.insert(0, json!({"role": "system", "content": "name the topic"}));
        }
        format!("{}\n", json!({"messages": messages}))
    };
    data::rows(count).into_iter().enumerate().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_assistant_learns_what_it_says_in_conversations() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(120)).await;
    let test = client.upload("test.jsonl", chats(40)).await;
    // As a client of OpenAI's asks: no method, and hyperparameters of old.
    let body = json!({"model": "tiny-llama", "training_file": file, "seed": 3,
                      "hyperparameters": {"n_epochs": 2, "batch_size": 8}});
    let created = client.post_json("/v1/fine_tuning/jobs", &body).await.good();
    assert_eq!(created["method"]["type"], "supervised");
    let plain = succeeded(&client, created["id"].as_str().unwrap()).await;
    assert_eq!(plain["method"]["supervised"]["hyperparameters"]["adapter"]["r"], 16);

    let h = json!({"n_epochs": 12, "learning_rate": 1e-2, "adapter": "none", "batch_size": 8});
    let id = create(&client, "tiny-llama", &file, "supervised", h, json!({"test_file": test})).await;
    let job = succeeded(&client, &id).await;
    let accuracy = job["evaluation"]["test"]["accuracy"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{}", job["evaluation"]);
    let messages = client.messages(&id).await;
    let last = messages.iter().find(|message| message.starts_with("Step ")).unwrap();
    assert!(last.contains("training loss="), "{last}");

    // Packed rows, the whole of it again from what was learned.
    let name = job["fine_tuned_model"].as_str().unwrap();
    let h = json!({"n_epochs": 1, "packing": true, "max_sequence_length": 128});
    let id = create(&client, name, &file, "supervised", h, json!({"test_file": test})).await;
    let again = succeeded(&client, &id).await;
    assert!(again["evaluation"]["test"]["accuracy"].as_f64().unwrap() > 0.85, "{}", again["evaluation"]);
}

/// Preferences for short answers, in OpenAI's form.
pub fn preferences(count: usize) -> String {
    let line = |(text, label): (String, &str)| {
        let answer = |said: String| json!([{"role": "assistant", "content": said}]);
        let input = json!({"messages": [{"role": "user", "content": text}]});
        let (preferred, other) = (answer(label.to_owned()), answer(format!("{label} {label} {label}")));
        format!("{}\n", json!({"input": input, "preferred_output": preferred, "non_preferred_output": other}))
    };
    data::rows(count).into_iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_comes_to_prefer_what_is_preferred() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("preferences.jsonl", preferences(100)).await;
    let test = client.upload("test.jsonl", preferences(30)).await;
    // The file decides.
    let body = json!({"model": "tiny-llama", "training_file": file, "seed": 3, "hyperparameters": {"n_epochs": 1}});
    let created = client.post_json("/v1/fine_tuning/jobs", &body).await.good();
    assert_eq!(created["method"]["type"], "dpo");
    let plain = succeeded(&client, created["id"].as_str().unwrap()).await;
    assert_eq!(plain["method"]["dpo"]["hyperparameters"]["beta"], 0.1);

    for (h, least) in [
        (json!({"n_epochs": 3, "learning_rate": 2e-3, "beta": 0.5}), 0.5),
        (json!({"n_epochs": 3, "learning_rate": 1e-3, "adapter": "none", "loss": "ipo", "beta": 0.5}), 0.1),
        (json!({"n_epochs": 3, "learning_rate": 1e-3, "adapter": "none", "label_smoothing": 0.1}), 0.1),
    ] {
        let id = create(&client, "tiny-llama", &file, "dpo", h, json!({"test_file": test})).await;
        let job = succeeded(&client, &id).await;
        let test = &job["evaluation"]["test"];
        let (accuracy, margin) = (test["accuracy"].as_f64().unwrap(), test["reward_margin"].as_f64().unwrap());
        assert!(accuracy > 0.9 && margin > least, "{test}");
        let between = test["chosen_reward"].as_f64().unwrap() - test["rejected_reward"].as_f64().unwrap();
        assert!((between - margin).abs() < 1e-6, "{test}");
        let rows = client.get(&format!("/v1/fine_tuning/jobs/{id}/metrics?limit=1")).await.good();
        // Before the first step nothing has changed.
        let first = &rows["data"][0]["metrics"];
        assert!(first["train_reward_margin"].as_f64().unwrap().abs() < 1e-3, "{first}");
    }
}

/// What a file without a method is for is told by its fields, whatever is wrong in it.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_does_not_make_a_file_one_for_another_method() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let same = r#"[{"role":"assistant","content":"b"}]"#;
    let faulty = format!(
        "{}{{\"input\":{{\"messages\":[{{\"role\":\"user\",\"content\":\"a\"}}]}},\"preferred_output\":{same},\"non_preferred_output\":{same}}}\n",
        preferences(12)
    );
    let kto = "{\"prompt\":\"a\",\"completion\":\"b\",\"label\":true}\n{\"prompt\":\"c\",\"completion\":\"d\",\"label\":false}\n";
    for (rows, method, line, told) in [
        (faulty.as_str(), "dpo", "line 13", "non_preferred_output"),
        (kto, "supervised", "line 1", "label: has whether each answer is wanted"),
    ] {
        let file = client.upload("rows.jsonl", rows).await;
        let body = json!({"model": "tiny-llama", "training_file": file});
        let created = client.post_json("/v1/fine_tuning/jobs", &body).await.good();
        assert_eq!(created["method"]["type"], method);
        let job = client.wait_for_end(created["id"].as_str().unwrap()).await;
        let message = job["error"]["message"].as_str().unwrap();
        assert!(message.contains(line) && message.contains(told), "{message}");
    }
    let both = "{\"prompt\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\",\"response\":\"d\"}\n".repeat(4);
    let file = client.upload("both.jsonl", both).await;
    let body = json!({"model": "tiny-llama", "training_file": file});
    let (status, param, _, message) = client.post_json("/v1/fine_tuning/jobs", &body).await.error();
    assert_eq!((status, param.as_deref()), (400, Some("method")));
    assert!(message.contains("for supervised and for dpo"), "{message}");
}

/// The tiny model's chat template writes what is said and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn calls_that_the_template_leaves_out_are_not_learned_as_silence() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let call = |weight: u64| {
        json!({"messages": [
            {"role": "user", "content": "is it warm"},
            {"role": "assistant", "weight": weight, "tool_calls":
                [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "1", "content": "21"}, {"role": "assistant", "content": "yes"},
        ], "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]})
    };
    let said = json!({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]});
    let file = client.upload("calls.jsonl", format!("{said}\n{}\n{}", call(1), format!("{said}\n").repeat(10))).await;
    let id = create(&client, "tiny-llama", &file, "supervised", json!({"n_epochs": 1}), json!({})).await;
    let message = client.wait_for_end(&id).await["error"]["message"].as_str().unwrap().to_owned();
    assert!(
        message.contains("line 2: messages[1] calls tools, which the model's chat template does not write"),
        "{message}"
    );

    let file = client.upload("calls.jsonl", format!("{said}\n{}\n{}", call(0), format!("{said}\n").repeat(10))).await;
    let id = create(&client, "tiny-llama", &file, "supervised", json!({"n_epochs": 1}), json!({})).await;
    succeeded(&client, &id).await;
    let messages = client.messages(&id).await;
    assert!(messages.iter().any(|message| message.starts_with("1 conversation has tools or calls")), "{messages:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_long_is_cut_left_out_or_refused() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let long =
        json!({"messages": [{"role": "user", "content": "card ".repeat(200)}, {"role": "assistant", "content": "x"}]});
    let file = client.upload("chats.jsonl", format!("{}{long}\n", chats(60))).await;
    let run = async |truncation: &str| {
        let h = json!({"n_epochs": 1, "truncation": truncation, "batch_size": 16});
        let id = create(&client, "tiny-llama", &file, "supervised", h, json!({})).await;
        (client.wait_for_end(&id).await, client.messages(&id).await.join("\n"))
    };
    let (job, told) = run("cut").await;
    assert_eq!(job["status"], "succeeded");
    assert!(told.contains("1 example is left out of training_file, without anything to learn"), "{told}");
    let (job, told) = run("drop").await;
    assert_eq!(job["status"], "succeeded");
    assert!(told.contains("longer than max_sequence_length; the first is on line 61"), "{told}");
    let (job, _) = run("fail").await;
    assert_eq!((&job["status"], &job["error"]["param"]), (&json!("failed"), &json!("training_file")));
    let why = job["error"]["message"].as_str().unwrap();
    assert!(why.contains("line 61") && why.contains("max_sequence_length is 256"), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_a_language_model_is_refused_by_name() {
    let service = service(&["tiny-llama", "tiny-bert"]).await;
    let client = service.client();
    let file = client.upload("domain.txt", texts(20)).await;
    for (model, method, h, param, why) in [
        ("tiny-bert", "causal_lm", json!({}), "method.type", "causal_lm"),
        ("tiny-llama", "masked_lm", json!({}), "method.type", "masked_lm"),
        ("tiny-llama", "causal_lm", json!({"max_sequence_length": 257}), "max_sequence_length", "at most 256"),
        ("tiny-llama", "causal_lm", json!({"packing": "yes"}), "packing", "true or false"),
        (
            "tiny-llama",
            "causal_lm",
            json!({"adapter": {"type": "lora", "target_modules": ["self_attn.q_proj", "lm_head"]}}),
            "adapter.target_modules",
            "\"lm_head\". The model's linear layers are called down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj.",
        ),
    ] {
        let body =
            json!({"model": model, "training_file": file, "method": {"type": method, method: {"hyperparameters": h}}});
        let (status, at, _, message) = client.post_json("/v1/fine_tuning/jobs", &body).await.error();
        assert_eq!(status, 400);
        assert!(at.unwrap_or_default().ends_with(param) && message.contains(why), "{message}");
    }
}

/// The weights that jobs of all three methods make, in both precisions, by a worker with these failpoints.
async fn weights_by_method(failpoints: &str, attempts: usize) -> Vec<Vec<u8>> {
    let mut service = Service::api().await;
    let directory = data::tiny_model().with_file_name("tiny-llama");
    models::import(&service.app, &directory, "tiny-llama").await.unwrap();
    service.app.failpoints = Failpoints::parse(failpoints).unwrap();
    service.start_worker();
    let client = service.client();
    let mut found = Vec::new();
    let quantized = json!({"type": "lora", "dropout": 0.1, "target_modules": "all-linear", "quantization": "nf4"});
    for (method, file, more) in [
        ("supervised", chats(48), json!({"packing": true, "max_sequence_length": 64, "batch_size": 4})),
        ("dpo", preferences(48), json!({"batch_size": 4, "adapter": "none"})),
        ("supervised", chats(48), json!({"batch_size": 4, "adapter": "none", "optimizer": "adamw_8bit"})),
        ("causal_lm", texts(48), json!({"batch_size": 2, "max_sequence_length": 48, "gradient_accumulation_steps": 2})),
        ("supervised", chats(48), json!({"batch_size": 4, "gradient_checkpointing": 1, "adapter": quantized})),
    ] {
        let name = if method == "causal_lm" { "data.txt" } else { "data.jsonl" };
        let file = client.upload(name, file).await;
        for precision in ["fp32", "bf16"] {
            let mut h = json!({"n_epochs": 2, "learning_rate": 5e-3, "checkpoint_interval": 3, "precision": precision});
            h.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let id = create(&client, "tiny-llama", &file, method, h, json!({})).await;
            let job = succeeded(&client, &id).await;
            assert_eq!(job["attempts"].as_array().unwrap().len(), attempts, "{method} {precision}");
            found.push(model_file(&client, &job, "model.safetensors").await);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn a_language_model_whose_run_is_killed_ends_with_the_same_bits() {
    let whole = weights_by_method("", 1).await;
    for step in [2, 7] {
        let killed = weights_by_method(&format!("1:trainer.step=kill@{step}"), 2).await;
        for (place, (whole, killed)) in whole.iter().zip(&killed).enumerate() {
            assert!(whole == killed, "run {place}, killed after step {step}");
        }
    }
    assert!(whole.windows(2).all(|pair| pair[0] != pair[1]));
}

/// The paths of a job's model.
async fn paths(client: &Client, job: &Value) -> Vec<String> {
    let name = job["fine_tuned_model"].as_str().unwrap();
    let files = client.get(&format!("/v1/models/{name}/files")).await.good();
    files["data"].as_array().unwrap().iter().map(|file| file["path"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_kept_as_what_was_asked_for() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(40)).await;
    let ask = async |model: &Value| {
        let messages = json!([{"role": "user", "content": "how do i get my new card"}]);
        let body = json!({"model": model, "messages": messages, "temperature": 0, "max_tokens": 12, "logprobs": true});
        let choice = client.post_json("/v1/chat/completions", &body).await.good()["choices"][0].clone();
        let first = choice["logprobs"]["content"][0]["logprob"].as_f64().unwrap();
        (choice["message"]["content"].clone(), first)
    };
    let mut said = Vec::new();
    for (form, has) in
        [("both", [true, true, false]), ("merged", [true, false, false]), ("adapter", [false, true, false])]
    {
        let h = json!({"n_epochs": 4, "learning_rate": 1e-2, "export": form});
        let id = create(&client, "tiny-llama", &file, "supervised", h, json!({"seed": 7})).await;
        let job = succeeded(&client, &id).await;
        let paths = paths(&client, &job).await;
        let there = ["model.safetensors", "adapter/adapter_model.safetensors", "model-f16.gguf"]
            .map(|path| paths.iter().any(|found| found == path));
        assert_eq!(there, has, "{form}: {paths:?}");
        assert!(paths.iter().all(|path| !path.starts_with("base/")), "{paths:?}");
        let card = String::from_utf8(model_file(&client, &job, "README.md").await).unwrap();
        assert_eq!(card.contains("PeftModel.from_pretrained"), form == "adapter", "{card}");
        said.push(ask(&job["fine_tuned_model"]).await);
        // What is kept as an adapter alone is a base for other jobs all the same.
        let more = json!({"n_epochs": 1, "export": "both"});
        let name = job["fine_tuned_model"].as_str().unwrap();
        let id = create(&client, name, &file, "supervised", more, json!({})).await;
        succeeded(&client, &id).await;
    }
    // In bfloat16 merged weights round otherwise than those with the adapter beside them.
    let [both, merged, adapter] = &said[..] else { panic!("{said:?}") };
    assert!(both == adapter && (both.1 - merged.1).abs() < 0.05, "{said:?}");

    let h = json!({"adapter": "none", "n_epochs": 1, "export": "adapter"});
    let body = json!({"model": "tiny-llama", "training_file": file,
                      "method": {"type": "supervised", "supervised": {"hyperparameters": h}}});
    let (status, param, _, message) = client.post_json("/v1/fine_tuning/jobs", &body).await.error();
    assert_eq!((status, param.as_deref()), (400, Some("method.supervised.hyperparameters.export")));
    assert!(message.contains("there is no adapter to keep"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_is_taken_out_as_gguf_and_in_again() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(60)).await;
    let h = json!({"n_epochs": 10, "learning_rate": 1e-2, "adapter": "none", "batch_size": 8,
                   "export": "gguf", "gguf_type": "bf16"});
    let id = create(&client, "tiny-llama", &file, "supervised", h, json!({})).await;
    let job = succeeded(&client, &id).await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tune.gguf");
    std::fs::write(&path, model_file(&client, &job, "model-bf16.gguf").await).unwrap();
    models::import(&service.app, &path, "tune").await.unwrap();
    let ask = async |model: &Value| {
        let body = json!({"model": model, "prompt": "<|im_start|>user\nhow do i get my new card<|im_end|>\n<|im_start|>assistant\n",
                          "temperature": 0, "max_tokens": 12});
        client.post_json("/v1/completions", &body).await.good()["choices"][0]["text"].clone()
    };
    assert_eq!(ask(&json!("tune")).await, ask(&job["fine_tuned_model"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_is_imported_upon_its_base_and_goes_on() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(60)).await;
    let h = json!({"n_epochs": 6, "learning_rate": 1e-2, "batch_size": 8});
    let id = create(&client, "tiny-llama", &file, "supervised", h, json!({})).await;
    let job = succeeded(&client, &id).await;
    let folder = tempfile::tempdir().unwrap();
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let bytes = model_file(&client, &job, &format!("adapter/{name}")).await;
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    std::fs::write(folder.path().join("README.md"), "# Adapter").unwrap();
    let imported = models::import(&service.app, folder.path(), "tune").await.unwrap();
    assert_eq!((imported.new, &imported.skipped[..]), (true, &["README.md".to_owned()][..]));
    assert!(!models::import_upon(&service.app, folder.path(), "tune", "tiny-llama").await.unwrap().new);
    let ask = async |model: &Value| {
        let messages = json!([{"role": "user", "content": "how do i get my new card"}]);
        let body = json!({"model": model, "messages": messages, "temperature": 0, "max_tokens": 12});
        client.post_json("/v1/chat/completions", &body).await.good()["choices"][0]["message"]["content"].clone()
    };
    assert_eq!(ask(&json!("tune")).await, ask(&job["fine_tuned_model"]).await);
    assert_ne!(ask(&json!("tune")).await, ask(&json!("tiny-llama")).await);
    let loss = async |model: &Value| {
        let more = json!({"method": {"type": "supervised", "supervised": {"hyperparameters": {"precision": "fp32"}}}});
        let created = evaluate(&client, model, &file, more).await.good();
        ended(&client, &created).await["scores"]["loss"].as_f64().unwrap()
    };
    let (tune, base) = (loss(&json!("tune")).await, loss(&json!("tiny-llama")).await);
    let made = loss(&job["fine_tuned_model"]).await;
    assert!((tune - made).abs() < 1e-6 && tune < base, "{tune} {made} {base}");
    // It needs its base no longer by name.
    models::remove_base(&service.app, "tiny-llama").await.unwrap();
    let h = json!({"n_epochs": 2, "learning_rate": 1e-2, "batch_size": 8});
    let id = create(&client, "tune", &file, "supervised", h, json!({})).await;
    let more = succeeded(&client, &id).await;
    let further = loss(&more["fine_tuned_model"]).await;
    assert!(further < tune, "{further} {tune}");

    let refused = async |name: &str, base: Option<&str>| {
        let imported = match base {
            Some(base) => models::import_upon(&service.app, folder.path(), name, base).await,
            None => models::import(&service.app, folder.path(), name).await,
        };
        imported.err().unwrap().message
    };
    let message = refused("again", None).await;
    assert!(message.contains("\"tiny-llama\", is not here: import that first"), "{message}");
    assert!(refused("again", Some("other")).await.contains("no base model called other"));
    let config = folder.path().join("adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replacen('{', "{\"use_dora\": true,", 1)).unwrap();
    assert!(refused("again", Some("tune")).await.contains("DoRA (use_dora), which is not built"));
    std::fs::write(&config, text).unwrap();
    let directory = data::tiny_model();
    models::import(&service.app, &directory, "tiny-bert").await.unwrap();
    let message = refused("again", Some("tiny-bert")).await;
    assert!(message.contains("with its base model tiny-bert"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adapter_goes_on_as_the_same_one() {
    let service = service(&["tiny-llama"]).await;
    let client = service.client();
    let file = client.upload("chats.jsonl", chats(60)).await;
    let job = async |model: &str, more: Value| {
        let mut h = json!({"n_epochs": 3, "learning_rate": 1e-2, "batch_size": 8, "precision": "fp32"});
        h.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let id = create(&client, model, &file, "supervised", h, json!({})).await;
        succeeded(&client, &id).await
    };
    let lora = json!({"type": "lora", "r": 4, "alpha": 8, "target_modules": ["q_proj", "v_proj"]});
    let first = job("tiny-llama", json!({"adapter": lora, "export": "adapter"})).await;
    let name = first["fine_tuned_model"].as_str().unwrap();
    let loss = async |model: &Value| {
        let more = json!({"method": {"type": "supervised", "supervised": {"hyperparameters": {"precision": "fp32"}}}});
        let created = evaluate(&client, model, &file, more).await.good();
        ended(&client, &created).await["scores"]["loss"].as_f64().unwrap()
    };
    let before = loss(&first["fine_tuned_model"]).await;

    // So slow a run leaves it as it was; what it leaves is one adapter of the first base, in all forms.
    let still = job(name, json!({"adapter": "continue", "learning_rate": 1e-12, "n_epochs": 1})).await;
    let used = &still["method"]["supervised"]["hyperparameters"]["adapter"];
    assert_eq!((&used["r"], &used["continued"]), (&json!(4), &json!(true)), "{used}");
    assert!((loss(&still["fine_tuned_model"]).await - before).abs() < 1e-6);
    let config = model_json(&client, &still, "adapter/adapter_config.json").await;
    assert_eq!((&config["base_model_name_or_path"], &config["r"]), (&json!("tiny-llama"), &json!(4)));
    let weights = async |job: &Value| model_file(&client, job, "adapter/adapter_model.safetensors").await;
    let (was, is) = (weights(&first).await, weights(&still).await);
    assert_eq!(was.len(), is.len());

    let further = job(name, json!({"adapter": "continue"})).await;
    assert!(loss(&further["fine_tuned_model"]).await < before);
    // Its checkpoints have one adapter upon the first base, and go on like it.
    let checkpoints =
        client.get(&format!("/v1/fine_tuning/jobs/{}/checkpoints", further["id"].as_str().unwrap())).await;
    let checkpoint = checkpoints.good()["data"][0]["fine_tuned_model_checkpoint"].clone();
    assert!((loss(&checkpoint).await - loss(&further["fine_tuned_model"]).await).abs() < 1e-6);
    let again = job(checkpoint.as_str().unwrap(), json!({"adapter": "continue", "export": "adapter"})).await;
    assert!(loss(&again["fine_tuned_model"]).await < before);

    // Merged weights have no adapter that could go on.
    for model in ["tiny-llama", further["fine_tuned_model"].as_str().unwrap()] {
        let h = json!({"adapter": "continue"});
        let body = json!({"model": model, "training_file": file,
                          "method": {"type": "supervised", "supervised": {"hyperparameters": h}}});
        let (status, param, _, message) = client.post_json("/v1/fine_tuning/jobs", &body).await.error();
        assert_eq!((status, param.as_deref()), (400, Some("method.supervised.hyperparameters.adapter")));
        assert!(message.contains("has no adapter of its own"), "{message}");
    }
}
