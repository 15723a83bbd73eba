//! `/v1/uploads`.

use md5::{Digest, Md5};
use reqwest::multipart::{Form, Part};
use serde_json::{Value, json};

use super::support::client::{Answer, Client};
use super::support::data;
use super::support::service::Service;

async fn begin(client: &Client, bytes: usize) -> String {
    let body = json!({"filename": "data.csv", "purpose": "fine-tune", "bytes": bytes, "mime_type": "text/csv"});
    client.post_json("/v1/uploads", &body).await.good()["id"].as_str().unwrap().to_owned()
}

async fn send(client: &Client, upload: &str, bytes: &[u8]) -> Answer {
    let form = Form::new().part("data", Part::bytes(bytes.to_vec()).file_name("blob"));
    client.send_form_to(&format!("/v1/uploads/{upload}/parts"), form).await
}

async fn part(client: &Client, upload: &str, bytes: &[u8]) -> String {
    send(client, upload, bytes).await.good()["id"].as_str().unwrap().to_owned()
}

async fn complete(client: &Client, upload: &str, body: Value) -> Answer {
    client.post_json(&format!("/v1/uploads/{upload}/complete"), &body).await
}

fn objects(service: &Service, folder: &str) -> usize {
    fn files(folder: &std::path::Path) -> usize {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { 1 }).sum()
    }
    files(&service.objects().join(folder))
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_make_a_file_in_the_order_that_is_named() {
    let service = Service::api().await;
    let client = service.client();
    let bytes = data::csv(30).into_bytes();
    let id = begin(&client, bytes.len()).await;
    let (head, rest) = bytes.split_at(100);
    // The last one first; and the first one twice, of which one is thrown away.
    let (last, _, first) = tokio::join!(part(&client, &id, rest), part(&client, &id, head), part(&client, &id, head));
    let listed = client.get(&format!("/v1/uploads/{id}/parts")).await.good();
    assert_eq!(listed["data"].as_array().unwrap().len(), 3);
    let sizes: u64 = listed["data"].as_array().unwrap().iter().map(|part| part["bytes"].as_u64().unwrap()).sum();
    assert_eq!(sizes as usize, bytes.len() + head.len());
    let shown = client.get(&format!("/v1/uploads/{id}")).await.good();
    assert_eq!((&shown["status"], &shown["file"]), (&json!("pending"), &json!(null)));

    let hash: [u8; 16] = Md5::digest(&bytes).into();
    let md5: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    let body = json!({"part_ids": [first, last], "md5": md5});
    let done = complete(&client, &id, body.clone()).await.good();
    assert_eq!(done["status"], "completed");
    let file = &done["file"];
    assert_eq!(
        (&file["status"], &file["filename"], &file["bytes"]),
        (&json!("processed"), &json!("data.csv"), &json!(bytes.len()))
    );
    assert!(file["validation"]["text_classification"].is_object(), "{file}");
    let content = client.get(&format!("/v1/files/{}/content", file["id"].as_str().unwrap())).await;
    assert_eq!(content.bytes, bytes);
    // The answer may have been lost.
    assert_eq!(complete(&client, &id, body).await.good(), done);
    assert_eq!(client.get("/v1/files").await.good()["data"].as_array().unwrap().len(), 1);

    let (status, _, code, message) = send(&client, &id, b"late").await.error();
    assert_eq!((status, code.as_deref()), (400, Some("invalid_state")), "{message}");
    assert!(message.contains("completed"), "{message}");
    assert_eq!(client.post(&format!("/v1/uploads/{id}/cancel")).await.status, 400);
    assert_eq!(objects(&service, "uploads"), 3);
    finetuned::worker::upkeep::sweep::run_once(&service.app).await.unwrap();
    assert_eq!((objects(&service, "uploads"), objects(&service, "files")), (0, 1));
    assert_eq!(client.get(&format!("/v1/uploads/{id}")).await.good()["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_not_what_was_announced_stays_open() {
    let service = Service::api().await;
    let client = service.client();
    let id = begin(&client, 12).await;
    let (one, two) = (part(&client, &id, b"text,label\n").await, part(&client, &id, b"a").await);
    let other = begin(&client, 1).await;
    let foreign = part(&client, &other, b"a").await;
    let wrong_md5 = "0".repeat(32);
    for (body, param, words) in [
        (json!({}), "part_ids", "Missing"),
        (json!({"part_ids": []}), "part_ids", "1 to 10000"),
        (json!({"part_ids": [one]}), "part_ids", "11 bytes together, and 12 were announced"),
        (json!({"part_ids": [one, one]}), "part_ids[1]", "named twice"),
        (json!({"part_ids": [one, foreign]}), "part_ids[1]", "no part of"),
        (json!({"part_ids": [one, "part_x"]}), "part_ids[1]", "no id"),
        (json!({"part_ids": [one, two], "md5": "abc"}), "md5", "32 hexadecimal digits"),
        (json!({"part_ids": [one, two], "md5": wrong_md5}), "md5", "not the one that was given"),
        (json!({"part_ids": [one, two], "size": 1}), "size", "Unrecognized"),
    ] {
        let (status, found, _, message) = complete(&client, &id, body.clone()).await.error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{body} {message}");
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(client.get("/v1/files").await.good()["data"], json!([]));
    assert_eq!(objects(&service, "files"), 0);
    assert_eq!(complete(&client, &id, json!({"part_ids": [one, two]})).await.good()["status"], "completed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_completed_once_however_often_it_is_asked_for_at_once() {
    let service = Service::api().await;
    let client = service.client();
    let bytes = data::csv(30).into_bytes();
    let id = begin(&client, bytes.len()).await;
    let only = part(&client, &id, &bytes).await;
    let body = json!({"part_ids": [only]});
    let all = futures_util::future::join_all((0..8).map(|_| complete(&client, &id, body.clone()))).await;
    let files: std::collections::HashSet<String> =
        all.iter().map(|answer| answer.good()["file"]["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!((files.len(), objects(&service, "files")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelled_and_expired_uploads_take_nothing_and_leave_nothing() {
    let service = Service::api().await;
    let client = service.client();
    let (cancelled, expired) = (begin(&client, 4).await, begin(&client, 4).await);
    for id in [&cancelled, &expired] {
        part(&client, id, b"data").await;
    }
    for _ in 0..2 {
        let shown = client.post(&format!("/v1/uploads/{cancelled}/cancel")).await.good();
        assert_eq!(shown["status"], "cancelled");
    }
    let later = "update uploads set expires_at = now() - interval '1 second' where status = 'pending'";
    sqlx::query(later).execute(service.app.db.pool()).await.unwrap();
    for (id, status) in [(&cancelled, "cancelled"), (&expired, "expired")] {
        assert_eq!(client.get(&format!("/v1/uploads/{id}")).await.good()["status"], status);
        let (code, _, _, message) = send(&client, id, b"more").await.error();
        assert_eq!(code, 400);
        assert!(message.contains(status), "{message}");
        let answer = complete(&client, id, json!({"part_ids": ["part_00000000000000000000000000000000"]})).await;
        assert_eq!((answer.status, answer.header("x-should-retry")), (400, Some("false")));
    }
    assert_eq!(client.post(&format!("/v1/uploads/{expired}/cancel")).await.status, 400);
    while finetuned::worker::upkeep::sweep::run_once(&service.app).await.unwrap() {}
    assert_eq!(objects(&service, "uploads"), 0);
    assert_eq!(client.get(&format!("/v1/uploads/{expired}/parts")).await.good()["data"], json!([]));
    assert_eq!(client.get(&format!("/v1/uploads/{expired}")).await.good()["status"], "expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_an_upload_is_named() {
    let service = Service::with(|config| config.max_upload_bytes = 1000).await;
    let client = service.client();
    let good = json!({"filename": "data.csv", "purpose": "fine-tune", "bytes": 10, "mime_type": "text/csv"});
    let with = |name: &str, value: Value| {
        let mut body = good.clone();
        body[name] = value;
        body
    };
    for (body, param) in [
        (with("filename", json!(null)), "filename"),
        (with("filename", json!("")), "filename"),
        (with("purpose", json!("fine-tune-results")), "purpose"),
        (with("bytes", json!(0)), "bytes"),
        (with("bytes", json!(1001)), "bytes"),
        (with("bytes", json!(-1)), "bytes"),
        (with("mime_type", json!(null)), "mime_type"),
        (with("expires_after", json!({"anchor": "now", "seconds": 3600})), "expires_after.anchor"),
        (with("expires_after", json!({"anchor": "created_at", "seconds": 1})), "expires_after[seconds]"),
        (with("name", json!("x")), "name"),
    ] {
        let (status, found, _, message) = client.post_json("/v1/uploads", &body).await.error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{body} {message}");
    }
    let id = begin(&client, 10).await;
    let to = format!("/v1/uploads/{id}/parts");
    for (form, param) in [
        (Form::new().part("file", Part::bytes(b"x".to_vec())), "file"),
        (Form::new().part("data", Part::bytes(Vec::new()).file_name("blob")), "data"),
    ] {
        let (status, found, _, message) = client.send_form_to(&to, form).await.error();
        assert_eq!((status, found.as_deref()), (400, Some(param)), "{message}");
    }
    let (status, _, code, message) = send(&client, &id, &vec![0; (64 << 20) + 1]).await.error();
    assert_eq!((status, code.as_deref()), (413, Some("file_too_large")), "{message}");
    assert_eq!(objects(&service, "uploads"), 0);
    let stranger = service.stranger().await;
    let path = format!("/v1/uploads/{id}");
    assert_eq!(stranger.get(&path).await.status, 404);
    assert_eq!(stranger.get(&format!("{path}/parts")).await.status, 404);
    assert_eq!(send(&stranger, &id, b"x").await.status, 404);
    assert_eq!(stranger.post(&format!("{path}/cancel")).await.status, 404);
    assert_eq!(complete(&stranger, &id, json!({"part_ids": ["part_x"]})).await.status, 400);
    assert_eq!(client.get(&path).await.good()["status"], "pending");
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_on_their_way_count_against_quotas() {
    let service = Service::with(|config| {
        config.quotas.stored_bytes = 100;
        config.quotas.files = 2;
    })
    .await;
    let client = service.client();
    let body = |bytes: u64| json!({"filename": "a", "purpose": "user_data", "bytes": bytes, "mime_type": "a/b"});
    let (status, _, _, message) = client.post_json("/v1/uploads", &body(101)).await.error();
    assert_eq!(status, 429, "{message}");
    let id = begin(&client, 60).await;
    let first = part(&client, &id, &[b'x'; 60]).await;
    assert_eq!(send(&client, &id, &[b'x'; 41]).await.status, 429);
    let (status, ..) = client.upload_as("user_data", "b.txt", vec![b'x'; 41]).await.error();
    assert_eq!(status, 429);
    let other = client.upload_as("user_data", "b.txt", vec![b'x'; 40]).await;
    assert_eq!(other.status, 200);
    assert_eq!(client.post_json("/v1/uploads", &body(1)).await.status, 429, "two files at most");
    // The file takes the place of its parts.
    assert_eq!(complete(&client, &id, json!({"part_ids": [first]})).await.good()["status"], "completed");
}
