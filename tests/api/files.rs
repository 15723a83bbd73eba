//! `/v1/files`.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{IF_NONE_MATCH, RANGE};
use reqwest::multipart::{Form, Part};
use serde_json::json;

use super::support::client::Client;
use super::support::data;
use super::support::service::{Service, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_can_be_read_listed_and_deleted() {
    let service = Service::api().await;
    let client = service.client();
    let bytes = data::csv(30);
    let file = client.upload_as("fine-tune", "data.csv", bytes.clone()).await.good();
    assert_eq!(file["bytes"], bytes.len());
    assert_eq!(
        (&file["status"], &file["purpose"], &file["filename"]),
        (&json!("processed"), &json!("fine-tune"), &json!("data.csv"))
    );
    let report = &file["validation"]["text_classification"];
    assert_eq!(report["labels"], json!({"card": 10, "rate": 10, "top up": 10}));
    let id = file["id"].as_str().unwrap();
    assert_eq!(client.get(&format!("/v1/files/{id}")).await.good(), file);
    let content = client.get(&format!("/v1/files/{id}/content")).await;
    assert_eq!(content.bytes, bytes.as_bytes());
    assert_eq!(content.header("content-length").unwrap(), bytes.len().to_string());
    let mut listed = file.clone();
    listed["validation"] = json!(null);
    assert_eq!(client.get("/v1/files").await.good()["data"], json!([listed]));

    let deleted = client.delete(&format!("/v1/files/{id}")).await.good();
    assert_eq!(deleted, json!({"id": id, "object": "file", "deleted": true}));
    for answer in [
        client.get(&format!("/v1/files/{id}")).await,
        client.get(&format!("/v1/files/{id}/content")).await,
        client.delete(&format!("/v1/files/{id}")).await,
    ] {
        let (status, param, _, message) = answer.error();
        assert_eq!((status, param.as_deref()), (404, Some("id")));
        assert_eq!(message, format!("No such File object: {id}"));
    }
    assert_eq!(client.get("/v1/files").await.good()["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_files_bytes_are_swept() {
    let service = Service::api().await;
    let id = service.client().upload("data.csv", data::csv(12)).await;
    let objects = || std::fs::read_dir(service.objects().join("files")).map_or(0, Iterator::count);
    assert_eq!(objects(), 1);
    service.client().delete(&format!("/v1/files/{id}")).await.good();
    finetuned::worker::upkeep::sweep::run_once(&service.app).await.unwrap();
    assert_eq!(objects(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_parts_of_the_form_may_come_in_any_order() {
    let service = Service::api().await;
    let file = || Part::bytes(data::jsonl(12).into_bytes()).file_name("data.jsonl");
    let file_first = Form::new().part("file", file()).text("purpose", "fine-tune");
    let answer = service.client().send_form(file_first).await.good();
    assert_eq!(answer["validation"]["format"], "jsonl");
    // From a stream, without a length, as the SDK for Node sends it.
    let chunks = futures_util::stream::iter(
        data::jsonl(12).into_bytes().chunks(100).map(<[u8]>::to_vec).map(Ok::<_, std::io::Error>).collect::<Vec<_>>(),
    );
    let stream = Part::stream(reqwest::Body::wrap_stream(chunks)).file_name("data.jsonl");
    let answer = service.client().send_form(Form::new().part("file", stream).text("purpose", "fine-tune")).await.good();
    assert_eq!(answer["validation"]["rows"], 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_pages_in_either_order_and_by_purpose() {
    let service = Service::api().await;
    let client = service.client();
    let mut ids = Vec::new();
    for i in 0..5 {
        let purpose = if i == 2 { "user_data" } else { "fine-tune" };
        let file = client.upload_as(purpose, "data.csv", data::csv(12)).await.good();
        ids.push(file["id"].as_str().unwrap().to_owned());
    }
    let page = async |query: &str| {
        let list = client.get(&format!("/v1/files?{query}")).await.good();
        let found: Vec<String> =
            list["data"].as_array().unwrap().iter().map(|file| file["id"].as_str().unwrap().to_owned()).collect();
        assert_eq!(list["first_id"].as_str(), found.first().map(String::as_str));
        assert_eq!(list["last_id"].as_str(), found.last().map(String::as_str));
        (found, list["has_more"].as_bool().unwrap())
    };
    let newest_first: Vec<String> = ids.iter().rev().cloned().collect();
    assert_eq!(page("").await, (newest_first.clone(), false));
    assert_eq!(page("order=asc&limit=2").await, (ids[..2].to_vec(), true));
    assert_eq!(page(&format!("order=asc&limit=3&after={}", ids[1])).await, (ids[2..].to_vec(), false));
    assert_eq!(page(&format!("limit=2&after={}", ids[3])).await, (newest_first[2..4].to_vec(), true));
    assert_eq!(page("purpose=user_data").await, (vec![ids[2].clone()], false));
    assert_eq!(page(&format!("after={}", ids[0])).await, (Vec::new(), false));
}

#[tokio::test(flavor = "multi_thread")]
async fn downloads_understand_ranges_and_etags() {
    let service = Service::api().await;
    let client = service.client();
    let bytes = data::csv(12).into_bytes();
    let id = client.upload("data.csv", bytes.clone()).await;
    let path = format!("/v1/files/{id}/content");
    let part = client.send(client.request(Method::GET, &path).header(RANGE, "bytes=5-9")).await;
    assert_eq!((part.status, &part.bytes[..]), (206, &bytes[5..10]));
    assert_eq!(part.header("content-range").unwrap(), format!("bytes 5-9/{}", bytes.len()));
    let beyond = client.send(client.request(Method::GET, &path).header(RANGE, "bytes=999999-")).await;
    assert_eq!(beyond.error().0, 416);
    assert_eq!(beyond.header("content-range").unwrap(), format!("bytes */{}", bytes.len()));
    let etag = part.header("etag").unwrap().to_owned();
    let unchanged = client.send(client.request(Method::GET, &path).header(IF_NONE_MATCH, &etag)).await;
    assert_eq!((unchanged.status, unchanged.bytes.len()), (304, 0));
    let weak = client.request(Method::GET, &path).header(IF_NONE_MATCH, format!("\"x\", W/{etag}"));
    assert_eq!(client.send(weak).await.status, 304);
    for (given, status) in [
        (etag.clone(), 200),
        ("*".to_owned(), 200),
        (format!("\"x\", {etag}"), 200),
        ("\"x\"".to_owned(), 412),
        (format!("W/{etag}"), 412),
        (String::new(), 412),
    ] {
        let answer = client.send(client.request(Method::GET, &path).header("if-match", &given)).await;
        assert_eq!(answer.status, status, "{given}");
        if status == 412 {
            assert_eq!(answer.error().1.as_deref(), Some("if-match"));
        }
    }
    let stale = client.request(Method::GET, &path).header(RANGE, "bytes=0-1").header("if-range", "\"other\"");
    assert_eq!(client.send(stale).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_can_expire() {
    let service = Service::api().await;
    let client = service.client();
    let form = |seconds: &str| {
        Form::new()
            .text("purpose", "fine-tune")
            .text("expires_after[anchor]", "created_at")
            .text("expires_after[seconds]", seconds.to_owned())
            .part("file", Part::bytes(data::csv(12).into_bytes()).file_name("data.csv"))
    };
    let file = client.send_form(form("3600")).await.good();
    assert_eq!(file["expires_at"].as_i64().unwrap() - file["created_at"].as_i64().unwrap(), 3600);
    let id = file["id"].as_str().unwrap();
    sqlx::query("update files set expires_at = now() - interval '1 second'")
        .execute(service.app.db.pool())
        .await
        .unwrap();
    assert_eq!(client.get(&format!("/v1/files/{id}")).await.error().0, 404);
    assert_eq!(client.get("/v1/files").await.good()["data"], json!([]));
    finetuned::worker::upkeep::sweep::run_once(&service.app).await.unwrap();
    assert!(!service.objects().join("files").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_faults_says_so_by_line() {
    let service = Service::api().await;
    let text = "{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": \"b\"\n";
    let file = service.client().upload_as("fine-tune", "bad.jsonl", text).await.good();
    assert_eq!(file["status"], "error");
    assert!(file["status_details"].as_str().unwrap().starts_with("line 2: is not valid JSON"), "{file}");
    assert_eq!(file["validation"]["faults"]["listed"][0]["line"], 2);
    let listed = &service.client().get("/v1/files").await.good()["data"][0];
    assert_eq!((&listed["status"], &listed["status_details"]), (&file["status"], &file["status_details"]));
    // Other purposes are kept as they are.
    let other = service.client().upload_as("user_data", "bad.jsonl", text).await.good();
    assert_eq!((&other["status"], &other["validation"]), (&json!("processed"), &json!(null)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_lists_the_most_frequent_labels_and_counts_the_others() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let rows: String = (0..1200).map(|i| format!("text {i},label {i:04}\n")).collect();
    let file =
        client.upload_as("fine-tune", "many.csv", format!("text,label\n{rows}once more,label 1199\n")).await.good();
    let report = &file["validation"]["text_classification"];
    assert_eq!(report["labels"].as_object().unwrap().len(), 1000);
    assert_eq!(
        (&report["labels"]["label 1199"], &report["other_labels"]),
        (&json!(2), &json!({"labels": 200, "examples": 200}))
    );
    assert_eq!(client.get(&format!("/v1/files/{}", file["id"].as_str().unwrap())).await.good(), file);
    // A job knows all of them.
    let body = json!({"model": "tiny-bert", "training_file": file["id"], "dry_run": true});
    let dry_run = client.post_json("/v1/fine_tuning/jobs", &body).await.good();
    assert_eq!((&dry_run["error"], dry_run["labels"].as_array().unwrap().len()), (&json!(null), 1200));
    assert_eq!(dry_run["validation"]["training"]["other_labels"]["labels"], 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_do_not_see_each_others_files() {
    let service = Service::api().await;
    let id = service.client().upload("data.csv", data::csv(12)).await;
    let stranger = service.stranger().await;
    assert_eq!(stranger.get("/v1/files").await.good()["data"], json!([]));
    for answer in [
        stranger.get(&format!("/v1/files/{id}")).await,
        stranger.get(&format!("/v1/files/{id}/content")).await,
        stranger.delete(&format!("/v1/files/{id}")).await,
    ] {
        assert_eq!(answer.error().0, 404);
    }
    service.client().get(&format!("/v1/files/{id}")).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_breaks_off_leaves_nothing() {
    use tokio::io::AsyncWriteExt;
    let service = Service::api().await;
    let scratch = || std::fs::read_dir(service.app.scratch()).unwrap().count();
    let mut stream = tokio::net::TcpStream::connect(&service.address).await.unwrap();
    let head = format!(
        "POST /v1/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: multipart/form-data; boundary=b\r\n\
         Content-Length: 100000\r\n\r\n--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\nsome bytes",
        service.key
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    eventually("the upload to begin", 5, async || (scratch() == 1).then_some(())).await;
    drop(stream);
    eventually("its bytes to be gone", 5, async || (scratch() == 0).then_some(())).await;
    assert_eq!(service.client().get("/v1/files").await.good()["data"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_is_never_held_in_memory() {
    const SIZE: usize = 256 << 20;
    let service = Service::api().await;
    let resident = || {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
    };
    let before = resident();
    let peak = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let watcher = {
        let peak = peak.clone();
        tokio::spawn(async move {
            loop {
                peak.fetch_max(resident(), std::sync::atomic::Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
    };
    let row = b"{\"text\": \"where is my new card\", \"label\": \"card\"}\n".repeat(2000);
    let count = SIZE / row.len();
    let chunk = bytes::Bytes::from(row);
    let chunks = futures_util::stream::iter((0..count).map(move |_| Ok::<_, std::io::Error>(chunk.clone())));
    let part = Part::stream(reqwest::Body::wrap_stream(chunks)).file_name("large.jsonl");
    let client: Client = service.client();
    let file = client.send_form(Form::new().text("purpose", "fine-tune").part("file", part)).await.good();
    watcher.abort();
    assert_eq!(file["validation"]["rows"], count * 2000);
    let grown = peak.load(std::sync::atomic::Ordering::Relaxed).saturating_sub(before);
    assert!(grown < 64 << 20, "memory grew by {} MiB", grown >> 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_in_the_place_of_a_file_is_none() {
    let service = Service::api().await;
    let form = Form::new().text("purpose", "fine-tune").text("file", "/home/me/data.csv");
    let (status, param, _, message) = service.client().send_form(form).await.error();
    assert_eq!((status, param.as_deref()), (400, Some("file")));
    assert!(message.contains("-F file=@"), "{message}");
}
