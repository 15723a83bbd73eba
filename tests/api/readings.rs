//! What was found in a data file is kept, and the file is not read again for the same question.

use std::collections::BTreeMap;
use std::path::PathBuf;

use finetuned::app::validation;
use serde_json::{Value, json};

use super::support::client::Client;
use super::support::data;
use super::support::service::{Service, eventually};

/// Where the bytes of a file lie.
fn object(service: &Service, id: &str) -> PathBuf {
    service.objects().join("files").join(id.trim_start_matches("file-").replace('-', ""))
}

/// Spoils a file's bytes and keeps their number: whoever reads it finds it damaged.
fn spoil(service: &Service, id: &str) {
    let path = object(service, id);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
}

/// A job on these files, as it stands once they are validated.
async fn validated(service: &Service, files: &Value, more: &Value) -> Value {
    let mut body = json!({"model": "tiny-bert", "seed": 1});
    for part in [files, more] {
        body.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
    }
    let client = service.client();
    let id = client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned();
    eventually("validation", 30, async || {
        validation::run_once(&service.app).await.unwrap();
        let job = client.job(&id).await;
        (job["status"] != "validating_files").then_some(job)
    })
    .await
}

#[track_caller]
fn is_damaged(job: &Value, param: &str) {
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("file_damaged")), "{job:#}");
    assert_eq!(job["error"]["param"], param, "{job:#}");
}

async fn kept(service: &Service) -> i64 {
    sqlx::query_scalar("select count(*) from readings").fetch_one(service.app.db.pool()).await.unwrap()
}

/// Training, validation and test files of which some examples are the same.
async fn upload_three(client: &Client) -> Value {
    json!({
        "training_file": client.upload("data.csv", data::csv(30)).await,
        "validation_file": client.upload("valid.jsonl", data::jsonl(12)).await,
        "test_file": client.upload("test.csv", data::csv(9)).await,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_job_on_the_same_files_reads_none_and_finds_the_same() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let files = upload_three(&client).await;
    let first = validated(&service, &files, &json!({})).await;
    assert_eq!((&first["status"], kept(&service).await), (&json!("queued"), 3));
    assert_eq!(first["validation"]["validation_overlap"], 12);
    for id in files.as_object().unwrap().values() {
        spoil(&service, id.as_str().unwrap());
    }
    let second = validated(&service, &files, &json!({"hyperparameters": {"n_epochs": 9}})).await;
    assert_eq!(second["status"], "queued", "{second:#}");
    assert_eq!(second["validation"], first["validation"]);
    let events = async |job: &Value| {
        let mut told = client.messages(job["id"].as_str().unwrap()).await;
        told.retain(|message| message.contains("file has") || message.contains("are also training examples"));
        told
    };
    let told = events(&first).await;
    assert_eq!((told.len(), &events(&second).await), (3, &told));
    let labels = "select count(distinct prepared -> 'labels') from jobs";
    let labels: i64 = sqlx::query_scalar(labels).fetch_one(service.app.db.pool()).await.unwrap();
    assert_eq!(labels, 1);

    // Each part of another question is read again.
    for (more, param) in [
        (json!({"dataset": {"text_column": "label"}}), "training_file"),
        (json!({"dataset": {"label_column": "text"}}), "training_file"),
        (json!({"method": {"type": "masked_lm"}}), "training_file"),
    ] {
        is_damaged(&validated(&service, &files, &more).await, param);
    }
    // How much is held out is no question to the file.
    let alone = json!({"training_file": files["training_file"]});
    let split = validated(&service, &alone, &json!({"dataset": {"validation_split": 0.5}})).await;
    assert_eq!((&split["status"], &split["validation"]["held_out"]), (&json!("queued"), &json!(15)));
    assert_eq!(split["validation"]["training"], first["validation"]["training"]);
    // Who only tries wants to know whether the file is whole.
    let mut body = json!({"model": "tiny-bert", "dry_run": true});
    body.as_object_mut().unwrap().extend(alone.as_object().unwrap().clone());
    let tried = client.post_json("/v1/fine_tuning/jobs", &body).await.good();
    assert_eq!(tried["error"]["code"], "file_damaged", "{tried:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_compared_whichever_of_them_are_known() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let files = upload_three(&client).await;
    validated(&service, &json!({"training_file": files["training_file"]}), &json!({})).await;
    // The training file is known, and the others are not.
    let other = client.upload("other.csv", data::csv(4)).await;
    let unseen = client.upload("unseen.csv", format!("{}so what,else\n", data::csv(3))).await;
    for (name, id, overlap) in [
        ("validation_file", &files["validation_file"], 12),
        ("validation_file", &json!(other), 4),
        ("test_file", &files["test_file"], 0),
    ] {
        let job = validated(&service, &json!({"training_file": files["training_file"], name: id}), &json!({})).await;
        assert_eq!((&job["status"], &job["validation"]["validation_overlap"]), (&json!("queued"), &json!(overlap)));
        assert!(job["validation"][name.trim_end_matches("_file")]["examples"].as_u64() > Some(0), "{job:#}");
    }
    for (name, code) in [("validation_file", "invalid_validation_file"), ("test_file", "invalid_test_file")] {
        for _ in 0..2 {
            let asked = json!({"training_file": files["training_file"], name: unseen});
            let job = validated(&service, &asked, &json!({})).await;
            assert_eq!(job["error"]["code"], code, "{job:#}");
            let message = job["error"]["message"].as_str().unwrap();
            assert!(
                message.contains("line 5, label: the label \"else\" does not occur in the training file"),
                "{message}"
            );
        }
    }
    // A test file is compared with the texts of its training file, so it is known beside that one alone.
    let more = client.upload("more.csv", data::csv(60)).await;
    let known = files["test_file"].as_str().unwrap();
    spoil(&service, known);
    let job = validated(&service, &json!({"training_file": more}), &json!({})).await;
    assert_eq!(job["status"], "queued", "{job:#}");
    is_damaged(
        &validated(&service, &json!({"training_file": more, "test_file": known}), &json!({})).await,
        "test_file",
    );
    let asked = json!({"training_file": files["training_file"], "test_file": known});
    let job = validated(&service, &asked, &json!({})).await;
    assert_eq!((&job["status"], &job["validation"]["test"]["examples"]), (&json!("queued"), &json!(9)));
    assert_eq!(job["validation"]["overlaps"][0]["equal"]["count"], 9);
    // What is left out is found among the examples, which are not kept.
    is_damaged(&validated(&service, &asked, &json!({"dataset": {"overlap": "drop"}})).await, "test_file");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_known_by_its_bytes_until_the_last_with_them_is_deleted() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let [first, second] = [client.upload("a.csv", data::csv(30)).await, client.upload("b.csv", data::csv(30)).await];
    let job = async |id: &str| validated(&service, &json!({"training_file": id}), &json!({})).await;
    assert_eq!(job(&first).await["status"], "queued");
    spoil(&service, &second);
    assert_eq!(job(&second).await["status"], "queued", "of the same bytes it is known what they hold");
    // What a file is says its content, not its name; read in another way it is another question.
    let text = client.upload("a.txt", data::csv(30)).await;
    assert_eq!(job(&text).await["status"], "queued");
    let bars = json!({"dataset": {"delimiter": "|"}});
    let other = validated(&service, &json!({"training_file": text}), &bars).await;
    assert_eq!(other["error"]["code"], "invalid_training_file");
    // What is not there at all is told though it is known.
    std::fs::remove_file(object(&service, &second)).unwrap();
    is_damaged(&job(&second).await, "training_file");

    for (id, left) in [(&first, 1), (&text, 1), (&second, 0)] {
        client.delete(&format!("/v1/files/{id}")).await.good();
        assert_eq!(kept(&service).await, left, "{id}");
    }
    let stranger = service.stranger().await;
    let third = stranger.upload("a.csv", data::csv(30)).await;
    let body = json!({"model": "tiny-bert", "training_file": third});
    stranger.post_json("/v1/fine_tuning/jobs", &body).await.good();
    let fourth = client.upload("a.csv", data::csv(30)).await;
    while validation::run_once(&service.app).await.unwrap() {}
    spoil(&service, &fourth);
    is_damaged(&job(&fourth).await, "training_file");
    assert_eq!(kept(&service).await, 1, "that of the other project");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_version_of_the_readers_found_is_not_used() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let file = service.client().upload("data.csv", data::csv(30)).await;
    let files = json!({"training_file": file});
    assert_eq!(validated(&service, &files, &json!({})).await["status"], "queued");
    let set = async |reader: &str| {
        let sql = format!("update readings set reader = {reader}");
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(service.app.db.pool()).await.unwrap();
    };
    set("reader - 1").await;
    assert_eq!(validated(&service, &files, &json!({})).await["status"], "queued");
    let readers: Vec<i32> =
        sqlx::query_scalar("select reader from readings").fetch_all(service.app.db.pool()).await.unwrap();
    assert_eq!(readers, [finetuned::dataset::READER_VERSION], "it was read again");
    set("reader + 1").await;
    spoil(&service, &file);
    is_damaged(&validated(&service, &files, &json!({})).await, "training_file");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_of_a_file_is_bounded() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let columns: Vec<String> = (0..12).map(|i| format!("c{i}")).collect();
    let rows: BTreeMap<&String, String> = columns.iter().map(|name| (name, format!("text of {name}"))).collect();
    let line = format!("{}\n", serde_json::to_string(&rows).unwrap());
    let file = client.upload("data.jsonl", line.repeat(12)).await;
    let files = json!({"training_file": file});
    let ask = async |column: &str| {
        let more = json!({"method": {"type": "masked_lm"}, "dataset": {"text_column": column}});
        validated(&service, &files, &more).await
    };
    for column in &columns {
        assert_eq!(ask(column).await["status"], "queued");
    }
    assert_eq!(kept(&service).await, 8);
    spoil(&service, &file);
    assert_eq!(ask("c11").await["status"], "queued", "the latest are kept");
    is_damaged(&ask("c0").await, "training_file");

    // Labels of more than a megabyte.
    let wide: String = (0..6000).map(|i| format!("text {i},{i:0>200}\n")).collect();
    let wide = client.upload("wide.csv", format!("text,label\n{wide}")).await;
    let job = validated(&service, &json!({"training_file": wide}), &json!({})).await;
    assert_eq!((&job["status"], kept(&service).await), (&json!("queued"), 8), "{}", job["error"]);
    // What has faults is read again, to find them again.
    let faulty = client.upload("faulty.csv", format!("{},x\n", data::csv(30))).await;
    for _ in 0..2 {
        let job = validated(&service, &json!({"training_file": faulty}), &json!({})).await;
        assert_eq!((&job["error"]["code"], kept(&service).await), (&json!("invalid_training_file"), 8));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_careful_colleague_would_say_of_a_file_is_in_its_reports() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let languages = [
        "My card has not arrived yet and I would like to know where it is at the moment, please",
        "Meine Karte ist noch nicht angekommen, und ich möchte wissen, wo sie gerade ist, bitte",
    ];
    let row = |i: usize| {
        let label = if i.is_multiple_of(11) { "rare" } else { "common" };
        let text = languages[usize::from(i % 4 == 1)];
        format!("{i},\"{i} {}\",web,{label}\n", [text; 3].join(" "))
    };
    let file = format!("id,text,source,label\n{}", (0..44).map(row).collect::<String>());
    let id = client.upload("data.csv", file).await;
    let told = |report: &Value| -> Vec<String> {
        report["notes"].as_array().into_iter().flatten().map(|note| note["code"].as_str().unwrap().to_owned()).collect()
    };
    let uploaded = client.get(&format!("/v1/files/{id}")).await.good();
    let report = &uploaded["validation"]["text_classification"];
    let expected = ["constant_columns", "columns_not_read", "languages_mixed", "labels_imbalanced"];
    assert_eq!(told(report), expected, "{report}");
    assert_eq!(report["languages"], json!({"deu": 11, "eng": 33}));
    let method =
        json!({"type": "text_classification", "text_classification": {"hyperparameters": {"max_sequence_length": 32}}});
    let body = json!({"model": "tiny-bert", "training_file": id, "method": method, "dry_run": true});
    let found = client.post_json("/v1/fine_tuning/jobs", &body).await.good();
    assert_eq!(told(&found["validation"]["training"]), expected, "{found}");
    assert_eq!(told(&found["validation"]), ["likely_truncated"], "{found}");
    let said = found["validation"]["notes"][0]["message"].as_str().unwrap();
    assert!(said.contains("% of the training texts are likely longer than the"), "{said}");
}
