//! What people get wrong, and what they are told. Each row is one request or one file.

use finetuned::app::validation;
use reqwest::Method;
use reqwest::header::CONTENT_TYPE;
use serde_json::{Value, json};

use super::support::client::Answer;
use super::support::data;
use super::support::service::Service;

/// The largest upload in these tests.
const MAX_FILE: usize = 200 << 20;

struct Expected {
    status: u16,
    param: Option<&'static str>,
    code: Option<&'static str>,
    message: &'static str,
}

fn expect(status: u16, param: Option<&'static str>, code: Option<&'static str>, message: &'static str) -> Expected {
    Expected { status, param, code, message }
}

#[track_caller]
fn check(what: &str, answer: &Answer, expected: &Expected) {
    let (status, param, code, message) = answer.error();
    assert_eq!(
        (status, param.as_deref(), code.as_deref()),
        (expected.status, expected.param, expected.code),
        "{what}: {message}"
    );
    assert!(message.contains(expected.message), "{what}: {message}");
}

/// Requests for jobs: what is changed in a good request, and the answer.
fn job_requests() -> Vec<(&'static str, Value, Expected)> {
    let hyper = |values: Value| json!({"hyperparameters": values});
    let own = |values: Value| json!({"method": {"type": "text_classification", "text_classification": {"hyperparameters": values}}});
    let invalid = |param, message| expect(400, Some(param), None, message);
    let unknown = |param, message| expect(400, Some(param), Some("unknown_parameter"), message);
    let missing = |param| expect(400, Some(param), Some("missing_required_parameter"), "Missing required parameter");
    let file = |param, message| expect(400, Some(param), Some("invalid_file"), message);
    vec![
        ("no model", json!({"model": null}), missing("model")),
        ("no training file", json!({"training_file": null}), missing("training_file")),
        ("model of a wrong type", json!({"model": 3}), invalid("model", "expected a string")),
        (
            "unknown model",
            json!({"model": "gpt-17"}),
            expect(404, Some("model"), Some("model_not_found"), "'gpt-17' does not exist"),
        ),
        ("unknown field", json!({"trainig_file": "x"}), unknown("trainig_file", "Unrecognized request argument")),
        (
            "unknown field of dataset",
            json!({"dataset": {"columns": 1}}),
            unknown("columns", "Unrecognized request argument"),
        ),
        ("unknown training file", json!({"training_file": "file-abc"}), file("training_file", "names no file")),
        (
            "training file that is no id",
            json!({"training_file": "../../etc/passwd"}),
            file("training_file", "names no file"),
        ),
        ("unknown validation file", json!({"validation_file": "file-abc"}), file("validation_file", "names no file")),
        ("unknown test file", json!({"test_file": "file-abc"}), file("test_file", "names no file")),
        (
            "unknown method",
            json!({"method": {"type": "magic"}}),
            invalid("method.type", "Supported: text_classification"),
        ),
        (
            "OpenAI's method that is not built",
            json!({"method": {"type": "dpo", "dpo": {}}}),
            invalid("method.type", "'dpo'"),
        ),
        ("method without type", json!({"method": {}}), invalid("method.type", "Missing required parameter")),
        (
            "another method's object",
            json!({"method": {"type": "text_classification", "dpo": {}}}),
            invalid("method.dpo", "does not belong"),
        ),
        ("unknown hyperparameter", hyper(json!({"epochs": 3})), invalid("hyperparameters.epochs", "Known: n_epochs")),
        ("no epochs", hyper(json!({"n_epochs": 0})), invalid("hyperparameters.n_epochs", "1 to 50")),
        ("too many epochs", hyper(json!({"n_epochs": 51})), invalid("hyperparameters.n_epochs", "1 to 50")),
        ("half an epoch", hyper(json!({"n_epochs": 0.5})), invalid("hyperparameters.n_epochs", "integer")),
        ("epochs as text", hyper(json!({"n_epochs": "three"})), invalid("hyperparameters.n_epochs", "\"auto\" or")),
        (
            "batch out of range",
            own(json!({"batch_size": 257})),
            invalid("method.text_classification.hyperparameters.batch_size", "1 to 256"),
        ),
        (
            "negative batch",
            own(json!({"batch_size": -1})),
            invalid("method.text_classification.hyperparameters.batch_size", "1 to 256"),
        ),
        (
            "rate of zero",
            own(json!({"learning_rate": 0})),
            invalid("method.text_classification.hyperparameters.learning_rate", "above 0"),
        ),
        (
            "rate and multiplier",
            own(json!({"learning_rate": 1e-4, "learning_rate_multiplier": 2})),
            invalid("method.text_classification.hyperparameters.learning_rate", "exclude each other"),
        ),
        (
            "unknown schedule",
            hyper(json!({"lr_schedule": "polynomial"})),
            invalid("hyperparameters.lr_schedule", "\"linear\""),
        ),
        ("unknown precision", hyper(json!({"precision": "fp8"})), invalid("hyperparameters.precision", "\"fp32\"")),
        (
            "unknown interval",
            hyper(json!({"eval_interval": "step"})),
            invalid("hyperparameters.eval_interval", "\"epoch\" or"),
        ),
        (
            "interval of zero",
            hyper(json!({"checkpoint_interval": 0})),
            invalid("hyperparameters.checkpoint_interval", "from 1"),
        ),
        (
            "smoothing of one",
            hyper(json!({"label_smoothing": 1.0})),
            invalid("hyperparameters.label_smoothing", "below 1"),
        ),
        (
            "longer than the model",
            hyper(json!({"max_sequence_length": 65})),
            invalid("hyperparameters.max_sequence_length", "at most 64"),
        ),
        ("hyperparameters as a list", json!({"hyperparameters": [1]}), invalid("hyperparameters", "expected a map")),
        (
            "hyperparameters twice",
            json!({"hyperparameters": {"n_epochs": 1}, "method": {"type": "text_classification", "text_classification": {"hyperparameters": {"n_epochs": 1}}}}),
            invalid("hyperparameters", "one place"),
        ),
        ("empty suffix", json!({"suffix": ""}), invalid("suffix", "1 to 64")),
        ("suffix with a colon", json!({"suffix": "a:b"}), invalid("suffix", "letters, digits")),
        ("long suffix", json!({"suffix": "a".repeat(65)}), invalid("suffix", "1 to 64")),
        ("negative seed", json!({"seed": -1}), invalid("seed", "0 to 2147483647")),
        ("huge seed", json!({"seed": 1_u64 << 40}), invalid("seed", "0 to 2147483647")),
        ("seed as text", json!({"seed": "seven"}), invalid("seed", "expected a whole number")),
        (
            "17 pairs of metadata",
            json!({"metadata": (0..17).map(|i| (i.to_string(), json!("v"))).collect::<serde_json::Map<_, _>>()}),
            invalid("metadata", "at most 16"),
        ),
        ("long key of metadata", json!({"metadata": {"k".repeat(65): "v"}}), invalid("metadata", "1 to 64")),
        ("long value of metadata", json!({"metadata": {"k": "v".repeat(513)}}), invalid("metadata.k", "at most 512")),
        ("NUL in metadata", json!({"metadata": {"k": "a\0b"}}), invalid("metadata.k", "NUL")),
        ("number in metadata", json!({"metadata": {"k": 1}}), invalid("metadata.k", "expected a string")),
        (
            "split of more than half",
            json!({"dataset": {"validation_split": 0.6}}),
            invalid("dataset.validation_split", "0 to 0.5"),
        ),
        ("an integration", json!({"integrations": [{"type": "wandb"}]}), invalid("integrations", "not supported")),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_job_requests_name_what_is_wrong() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let training = client.upload("data.csv", data::csv(30)).await;
    let rows = job_requests();
    assert!(rows.len() >= 40, "{}", rows.len());
    for (what, change, expected) in rows {
        let mut body = json!({"model": "tiny-bert", "training_file": training});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        check(what, &client.post_json("/v1/fine_tuning/jobs", &body).await, &expected);
    }
    assert_eq!(client.get("/v1/fine_tuning/jobs").await.good()["data"], json!([]), "none of them made a job");

    let results = client.upload_as("user_data", "data.csv", data::csv(12)).await.good();
    let body = json!({"model": "tiny-bert", "training_file": results["id"]});
    let wrong_purpose = expect(400, Some("training_file"), Some("invalid_file"), "needs purpose 'fine-tune'");
    check("wrong purpose", &client.post_json("/v1/fine_tuning/jobs", &body).await, &wrong_purpose);
    let stranger = service.stranger().await;
    let body = json!({"model": "tiny-bert", "training_file": training});
    let foreign = expect(400, Some("training_file"), Some("invalid_file"), "names no file of this project");
    check("another project's file", &stranger.post_json("/v1/fine_tuning/jobs", &body).await, &foreign);
    client.get("/readyz").await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_no_json_object_are_refused() {
    let service = Service::api().await;
    let client = service.client();
    let large = format!("{{\"model\": \"{}\"}}", "x".repeat(2 << 20));
    let deep = format!("{{\"hyperparameters\": {{\"a\": {}", "[".repeat(200_000));
    let rows: [(&str, Vec<u8>, Expected); 9] = [
        ("fields in order", b" [\"tiny-bert\", \"file-1\"]".to_vec(), expect(400, None, None, "not a list")),
        ("no body", Vec::new(), expect(400, None, Some("invalid_json"), "not valid JSON (line 1, column 0)")),
        ("half a body", b"{\"model\": ".to_vec(), expect(400, None, Some("invalid_json"), "not valid JSON")),
        ("a list", b"[]".to_vec(), expect(400, None, None, "must be a JSON object")),
        ("a form", b"model=m&training_file=f".to_vec(), expect(400, None, Some("invalid_json"), "not valid JSON")),
        ("something behind", b"{} {}".to_vec(), expect(400, None, Some("invalid_json"), "behind its JSON value")),
        ("invalid UTF-8", b"{\"model\": \"\xFF\"}".to_vec(), expect(400, None, Some("invalid_json"), "not valid JSON")),
        ("two megabytes", large.into_bytes(), expect(413, None, Some("body_too_large"), "larger than the allowed")),
        ("deep nesting", deep.into_bytes(), expect(400, None, Some("invalid_json"), "not valid JSON")),
    ];
    for (what, body, expected) in rows {
        let request = client.request(Method::POST, "/v1/fine_tuning/jobs").header(CONTENT_TYPE, "application/json");
        check(what, &client.send(request.body(body)).await, &expected);
    }
    client.get("/readyz").await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_classifications_name_what_is_wrong() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let many = Value::from(vec!["a"; 257]);
    let missing = |param| expect(400, Some(param), Some("missing_required_parameter"), "Missing required parameter");
    let invalid = |param, message| expect(400, Some(param), None, message);
    for (what, change, expected) in [
        ("no model", json!({"model": null}), missing("model")),
        ("no input", json!({"input": null}), missing("input")),
        (
            "unknown model",
            json!({"model": "gpt-17"}),
            expect(404, Some("model"), Some("model_not_found"), "'gpt-17' does not exist"),
        ),
        ("a model without head", json!({}), invalid("model", "it has no classification head")),
        ("unknown field", json!({"k": 1}), expect(400, Some("k"), Some("unknown_parameter"), "Unrecognized")),
        ("an object", json!({"input": {}}), invalid("input", "a text, or a list of texts")),
        ("no inputs", json!({"input": []}), invalid("input", "has 0 items; 1 to 256")),
        ("too many inputs", json!({"input": many}), invalid("input", "has 257 items; 1 to 256")),
        ("an empty text", json!({"input": ["a", "b", "c", ""]}), invalid("input[3]", "is empty")),
        ("half a pair", json!({"input": [["a"]]}), invalid("input[0]", "a pair of texts")),
        ("a number", json!({"input": ["a", 1]}), invalid("input[1]", "a text or a pair")),
        ("no labels", json!({"top_k": 0}), invalid("top_k", "1 to 100")),
        ("less than no labels", json!({"top_k": -1}), invalid("top_k", "expected a whole number from 0")),
        ("too many labels", json!({"top_k": 101}), invalid("top_k", "1 to 100")),
    ] {
        let mut body = json!({"model": "tiny-bert", "input": "a"});
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        check(what, &client.post_json("/v1/classifications", &body).await, &expected);
    }
    // Bodies may be larger than elsewhere, since images are.
    let body = json!({"model": "tiny-bert", "input": "a ".repeat(2 << 20)});
    let expected = invalid("model", "it has no classification head");
    check("four megabytes", &client.post_json("/v1/classifications", &body).await, &expected);
    let body = json!({"model": "tiny-bert", "input": "a".repeat(16 << 20)});
    let expected = expect(413, None, Some("body_too_large"), "larger than the allowed 16777216 bytes");
    check("too much", &client.post_json("/v1/classifications", &body).await, &expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_uploads_are_refused_and_leave_nothing() {
    let service = Service::with(|config| config.max_file_bytes = 1000).await;
    let client = service.client();
    let part = |name: &str, value: &str| format!("--b\r\nContent-Disposition: form-data; {name}\r\n\r\n{value}\r\n");
    let file = |bytes: &str| part("name=\"file\"; filename=\"a.csv\"", bytes);
    let purpose = |word: &str| part("name=\"purpose\"", word);
    let end = "--b--\r\n";
    let multipart = "multipart/form-data; boundary=b";
    let bad_form = || expect(400, None, Some("invalid_multipart"), "malformed or ended");
    let missing = |param| expect(400, Some(param), Some("missing_required_parameter"), "Missing required parameter");
    let rows: Vec<(&str, &str, String, Expected)> = vec![
        (
            "not a form",
            "application/json",
            "{}".into(),
            expect(400, None, Some("invalid_multipart"), "multipart/form-data"),
        ),
        ("no boundary", "multipart/form-data", String::new(), expect(400, None, Some("invalid_multipart"), "boundary")),
        ("empty form", multipart, end.into(), missing("file")),
        ("empty body", multipart, String::new(), bad_form()),
        ("truncated in the file", multipart, file("text,label").trim_end().into(), bad_form()),
        ("truncated behind a part", multipart, purpose("fine-tune"), bad_form()),
        ("another boundary", multipart, format!("{}{end}", file("a").replace("--b", "--c")), missing("file")),
        ("no file", multipart, format!("{}{end}", purpose("fine-tune")), missing("file")),
        ("no purpose", multipart, format!("{}{end}", file("text,label\na,b\n")), missing("purpose")),
        (
            "unknown purpose",
            multipart,
            format!("{}{}{end}", purpose("training"), file("a")),
            expect(400, Some("purpose"), None, "Allowed: assistants"),
        ),
        (
            "purpose of ours",
            multipart,
            format!("{}{}{end}", purpose("fine-tune-results"), file("a")),
            expect(400, Some("purpose"), None, "Allowed: assistants"),
        ),
        (
            "unknown part",
            multipart,
            format!("{}{}{end}", part("name=\"colour\"", "red"), file("a")),
            expect(400, Some("colour"), Some("unknown_parameter"), "Unrecognized"),
        ),
        (
            "two files",
            multipart,
            format!("{}{}{}{end}", purpose("batch"), file("a"), file("b")),
            expect(400, Some("file"), None, "more than once"),
        ),
        (
            "two purposes",
            multipart,
            format!("{}{}{}{end}", purpose("batch"), purpose("batch"), file("a")),
            expect(400, Some("purpose"), None, "more than once"),
        ),
        (
            "no part in sight",
            multipart,
            "x".repeat(400_000),
            expect(400, None, Some("invalid_multipart"), "65536 bytes in front of a part"),
        ),
        (
            "empty file",
            multipart,
            format!("{}{}{end}", purpose("fine-tune"), file("")),
            expect(400, Some("file"), Some("empty_file"), "is empty"),
        ),
        (
            "endless purpose",
            multipart,
            format!("{}{end}", purpose(&"x".repeat(5000))),
            expect(400, Some("purpose"), None, "longer than 1024 bytes"),
        ),
        (
            "expiry too soon",
            multipart,
            format!(
                "{}{}{}{}{end}",
                purpose("batch"),
                part("name=\"expires_after[anchor]\"", "created_at"),
                part("name=\"expires_after[seconds]\"", "3599"),
                file("a")
            ),
            expect(400, Some("expires_after[seconds]"), None, "3600 to 2592000"),
        ),
        (
            "expiry that is no number",
            multipart,
            format!(
                "{}{}{}{}{end}",
                purpose("batch"),
                part("name=\"expires_after[anchor]\"", "created_at"),
                part("name=\"expires_after[seconds]\"", "soon"),
                file("a")
            ),
            expect(400, Some("expires_after[seconds]"), None, "must be an integer"),
        ),
        (
            "expiry without anchor",
            multipart,
            format!("{}{}{}{end}", purpose("batch"), part("name=\"expires_after[seconds]\"", "3600"), file("a")),
            missing("expires_after[anchor]"),
        ),
        (
            "unknown anchor",
            multipart,
            format!("{}{}{}{end}", purpose("batch"), part("name=\"expires_after[anchor]\"", "now"), file("a")),
            expect(400, Some("expires_after[anchor]"), None, "Allowed: created_at"),
        ),
        (
            "over the limit",
            multipart,
            format!("{}{}{end}", purpose("batch"), file(&"x".repeat(1001))),
            expect(413, Some("file"), Some("file_too_large"), "larger than the allowed 1000 bytes"),
        ),
    ];
    for (what, content_type, body, expected) in rows {
        let request = client.request(Method::POST, "/v1/files").header(CONTENT_TYPE, content_type).body(body);
        check(what, &client.send(request).await, &expected);
    }
    // Announced before a byte of it is sent.
    let huge = client.request(Method::POST, "/v1/files").header(CONTENT_TYPE, multipart).body(vec![b'x'; 4 << 20]);
    check("announced", &client.send(huge).await, &expect(413, Some("file"), Some("file_too_large"), "1000 bytes"));
    assert_eq!(client.get("/v1/files").await.good()["data"], json!([]));
    assert_eq!(std::fs::read_dir(service.app.scratch()).unwrap().count(), 0);
    assert!(!service.objects().join("files").exists());
    client.upload("good.csv", data::csv(12)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_do_not_exist_are_not_found() {
    let service = Service::api().await;
    let client = service.client();
    let job = "ftjob-00000000000000000000000000000000";
    let no_job = || expect(404, Some("fine_tune_id"), Some("fine_tune_not_found"), "Could not find fine tune");
    let no_model = || expect(404, Some("model"), Some("model_not_found"), "does not exist");
    for id in [job, "ftjob-1", "'; drop table jobs; --", "%00", "file-00000000000000000000000000000000"] {
        for part in ["", "/events", "/checkpoints", "/metrics"] {
            check(id, &client.get(&format!("/v1/fine_tuning/jobs/{id}{part}")).await, &no_job());
        }
        check(id, &client.post(&format!("/v1/fine_tuning/jobs/{id}/cancel")).await, &no_job());
        check(id, &client.get(&format!("/v1/files/{id}")).await, &expect(404, Some("id"), None, "No such File object"));
        check(id, &client.get(&format!("/v1/models/{id}")).await, &no_model());
        check(id, &client.get(&format!("/v1/models/{id}/archive")).await, &no_model());
    }
    assert_eq!(client.get("/v1/files/%FF").await.error().0, 400);
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_pages_name_the_parameter() {
    let service = Service::api().await;
    let client = service.client();
    for (path, param) in [
        ("/v1/files?limit=0", "limit"),
        ("/v1/files?limit=10001", "limit"),
        ("/v1/files?limit=many", "limit"),
        ("/v1/files?order=up", "order"),
        ("/v1/files?after=ftjob-00000000000000000000000000000000", "after"),
        ("/v1/files?purpose=nothing", "purpose"),
        ("/v1/fine_tuning/jobs?limit=101", "limit"),
        ("/v1/fine_tuning/jobs?limit=-1", "limit"),
        ("/v1/fine_tuning/jobs?after=x", "after"),
    ] {
        let (status, at, _, _) = client.get(path).await.error();
        assert_eq!((status, at.as_deref()), (400, Some(param)), "{path}");
    }
    client.get("/v1/files?limit=").await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn query_parameters_are_honoured_or_refused() {
    let service = Service::api().await;
    let client = service.client();
    let (job, evaluation) = ("ftjob-00000000000000000000000000000000", "eval-00000000000000000000000000000000");
    for (path, param, what) in [
        ("/v1/files?unknown=1".to_owned(), "unknown", "Allowed: after, limit, order, purpose."),
        ("/v1/files?limit=1&limit=2".to_owned(), "limit", "more than once"),
        ("/v1/fine_tuning/jobs?state=queued".to_owned(), "state", "Allowed: after, limit, order, status"),
        ("/v1/fine_tuning/jobs?status=done".to_owned(), "status", "Allowed: validating_files"),
        ("/v1/fine_tuning/jobs?metadata=all".to_owned(), "metadata", "metadata=null"),
        ("/v1/fine_tuning/jobs?order=up".to_owned(), "order", "asc, desc"),
        ("/v1/evaluations?before=x".to_owned(), "before", "Unrecognized"),
        ("/v1/models?limit=1".to_owned(), "limit", "takes none"),
        (format!("/v1/fine_tuning/jobs/{job}?expand=1"), "expand", "takes none"),
        (format!("/v1/fine_tuning/jobs/{job}/events?status=queued"), "status", "Allowed: after, limit, order."),
        (format!("/v1/evaluations/{evaluation}/events?model=m"), "model", "Allowed: after, limit, order."),
    ] {
        let (status, at, _, message) = client.get(&path).await.error();
        assert_eq!((status, at.as_deref()), (400, Some(param)), "{path}: {message}");
        assert!(message.contains(what), "{path}: {message}");
    }
    let answer = client.post(&format!("/v1/fine_tuning/jobs/{job}/cancel?force=true")).await;
    assert_eq!((answer.error().0, answer.error().1.as_deref()), (400, Some("force")));
    // Probes may have parameters of their own.
    client.get("/healthz?time=1").await.good();
}

/// Files that can be read but not trained on: the job fails before it is queued, and says where.
#[tokio::test(flavor = "multi_thread")]
async fn bad_data_fails_the_job_by_line() {
    let service = Service::with(|config| config.max_file_bytes = MAX_FILE as u64).await;
    service.import_tiny_model().await;
    let client = service.client();
    let good = client.upload("good.csv", data::csv(30)).await;
    let with = |extra: &str| format!("{}{extra}", data::csv(30));
    let one_class: String = (0..20).map(|i| format!("text {i},same\n")).collect();
    let training: Vec<(&str, &str, String, &str, &str)> = vec![
        (
            "no label column",
            "a.csv",
            "text,intent\na,b\nc,d\n".into(),
            "invalid_training_file",
            "line 1, label: there is no label column",
        ),
        (
            "no text column",
            "a.csv",
            "query,label\na,b\nc,d\n".into(),
            "invalid_training_file",
            "line 1, text: there is no text column \"text\"; found \"query\", \"label\"; name it in dataset.text_column",
        ),
        ("missing label", "a.csv", with("where is it,\n"), "invalid_training_file", "line 32, label: is empty"),
        ("missing text", "a.csv", with(",card\n"), "invalid_training_file", "line 32, text: is empty"),
        (
            "label too long",
            "a.csv",
            with(&format!("x,{}\n", "y".repeat(300))),
            "invalid_training_file",
            "line 32, label: is longer than 256",
        ),
        (
            "missing keys",
            "a.jsonl",
            format!("{}{{\"text\": \"a\"}}\n{{\"label\": \"a\"}}\n", data::jsonl(12)),
            "invalid_training_file",
            "line 13, label: is missing; line 14, text: is missing",
        ),
        (
            "wrong types",
            "a.jsonl",
            format!("{}{{\"text\": 1, \"label\": [1]}}\n", data::jsonl(12)),
            "invalid_training_file",
            "line 13, text: must be a string, not a number",
        ),
        (
            "chat instead of labels",
            "a.jsonl",
            "{\"messages\": []}\n".repeat(12),
            "invalid_training_file",
            "there is no text column",
        ),
        ("nine examples", "a.csv", data::csv(9), "invalid_n_examples", "has 9 example(s), but must have at least 10"),
        (
            "one class",
            "a.csv",
            format!("text,label\n{one_class}"),
            "invalid_training_file",
            "has the one label \"same\"",
        ),
    ];
    for (what, name, text, code, message) in training {
        let file = client.upload(name, text).await;
        let id = client.create_job(&file, json!({})).await;
        while validation::run_once(&service.app).await.unwrap() {}
        let job = client.job(&id).await;
        assert_eq!(job["status"], "failed", "{what}");
        assert_eq!((&job["error"]["code"], &job["error"]["param"]), (&json!(code), &json!("training_file")), "{what}");
        assert!(job["error"]["message"].as_str().unwrap().contains(message), "{what}: {}", job["error"]["message"]);
        assert!(job["finished_at"].is_i64() && job["validation"].is_object(), "{what}");
        let events = client.get(&format!("/v1/fine_tuning/jobs/{id}/events")).await.good();
        assert_eq!(
            (&events["data"][0]["level"], &events["data"][0]["data"]["error_code"]),
            (&json!("error"), &json!(code))
        );
    }
    let validation_files = [
        (
            "unseen label",
            "text,label\na,card\nb,refund\n",
            "line 3, label: the label \"refund\" does not occur in the training file",
        ),
        ("no rows that fit", "text,label\na,b,c\n", "line 2: has 3 fields where the header has 2"),
        ("another header", "sentence,label\na,card\n", "line 1, text: there is no text column"),
    ];
    for (what, text, message) in validation_files {
        for param in ["validation_file", "test_file"] {
            let file = client.upload("v.csv", text).await;
            let body = json!({"model": "tiny-bert", "training_file": good, param: file});
            let answer = client.post_json("/v1/fine_tuning/jobs", &body).await;
            let error = if answer.status == 200 {
                while validation::run_once(&service.app).await.unwrap() {}
                client.job(answer.good()["id"].as_str().unwrap()).await["error"].clone()
            } else {
                answer.json()["error"].clone()
            };
            assert_eq!(error["param"], param, "{what}");
            assert!(error["message"].as_str().unwrap().contains(message), "{what}: {error}");
        }
    }
}

/// Files that cannot be read as data at all: kept, marked, and refused where a job names them.
#[tokio::test(flavor = "multi_thread")]
async fn unreadable_files_are_marked_and_refused() {
    let service = Service::with(|config| config.max_file_bytes = MAX_FILE as u64).await;
    service.import_tiny_model().await;
    let client = service.client();
    let long_line = [
        data::jsonl(12).into_bytes(),
        b"{\"text\": \"".to_vec(),
        vec![b'a'; 100 << 20],
        b"\", \"label\": \"x\"}\n".to_vec(),
    ]
    .concat();
    let long_row = [b"text,label\n\"".to_vec(), vec![b'a'; 100 << 20]].concat();
    let deep = format!("{{\"text\": {}\n", "[".repeat(100_000));
    let rows: Vec<(&str, &str, Vec<u8>, &str)> = vec![
        ("only white space", "a.jsonl", b" \n\n".to_vec(), "line 1: the file holds no data"),
        ("only a header", "a.csv", b"text,label\n".to_vec(), "line 1: the file holds no data"),
        (
            "JSON that is cut off",
            "a.jsonl",
            b"{\"text\": \"a\", \"label\": \"b\"}\n{\"text\": \"a\", \"la".to_vec(),
            "line 2: is not valid JSON",
        ),
        ("a JSON list", "a.jsonl", b"[[\"text\", \"a\"]]\n".to_vec(), "line 1: expected a JSON object, found an array"),
        ("CSV called JSONL", "a.jsonl", data::csv(12).into_bytes(), "line 1: is not valid JSON"),
        (
            "invalid UTF-8 in JSON",
            "a.jsonl",
            b"{\"text\": \"\xFF\", \"label\": \"b\"}\n".to_vec(),
            "line 1: is not valid UTF-8",
        ),
        ("invalid UTF-8 in CSV", "a.csv", b"text,label\nok,x\n\xC3\x28,x\n".to_vec(), "line 3: is not valid UTF-8"),
        (
            "UTF-16",
            "a.csv",
            [vec![0xFF, 0xFE], "text,label\na,b\n".encode_utf16().flat_map(u16::to_le_bytes).collect()].concat(),
            "line 1: is text in UTF-16; save it as UTF-8",
        ),
        (
            "a zip archive",
            "a.csv",
            b"PK\x03\x04\x14\x00\x00\x00\x08\x00\xFF\xFE".to_vec(),
            "line 1: the zip archive ends early",
        ),
        (
            "rows of other lengths",
            "a.csv",
            b"text,label\na\nb,c,d\n".to_vec(),
            "line 2: has 1 fields where the header has 2",
        ),
        ("a line of 100 MB", "a.jsonl", long_line, "line 13: is longer than 16 MiB"),
        ("a row without end", "a.csv", long_row, "line 2: is longer than 16 MiB"),
        ("deep nesting", "a.jsonl", deep.into_bytes(), "line 1: is not valid JSON"),
    ];
    for (what, name, bytes, message) in rows {
        let file = client.upload_as("fine-tune", name, bytes).await.good();
        assert_eq!(file["status"], "error", "{what}");
        let body = json!({"model": "tiny-bert", "training_file": file["id"]});
        let expected = expect(400, Some("training_file"), Some("invalid_file"), "cannot be used");
        let answer = client.post_json("/v1/fine_tuning/jobs", &body).await;
        check(what, &answer, &expected);
        assert!(answer.error().3.contains(message), "{what}: {}", answer.error().3);
    }
    client.get("/readyz").await.good();
}
