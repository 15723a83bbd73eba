//! What requests may make the service hold. The service is a process of its own, whose peak the system keeps.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use reqwest::Method;

use super::support::client::Client;
use super::support::database;
use super::support::fleet::{Fleet, Member};

const MIB: usize = 1 << 20;

/// The most memory that the process ever had, in bytes.
fn peak(member: &Member) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{}/status", member.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

/// A service without worker, with a client.
async fn service(folder: &tempfile::TempDir) -> (Member, Client) {
    let url = database::fresh().await;
    let fleet = Fleet::new(folder.path(), BTreeMap::from([("DATABASE_URL".to_owned(), url)]));
    let key = fleet.set_up();
    let (member, address) = fleet.start_api("api", "127.0.0.1:0").await;
    (member, Client::new(&address, Some(&key)))
}

/// JSON that becomes eighty times as large where it is held as values.
#[tokio::test(flavor = "multi_thread")]
async fn large_bodies_of_small_values_are_not_held_as_values() {
    const BODY: usize = 15 * MIB;
    let folder = tempfile::tempdir().unwrap();
    let (member, client) = service(&folder).await;
    let small = "{\"a\":0},".repeat(BODY / 8);
    let list = format!("[{small}0]");
    let bodies = [
        ("/v1/classifications", small.clone(), 400),
        ("/v1/classifications", list.clone(), 400),
        ("/v1/classifications", format!("{{\"model\":\"tiny-bert\",\"input\":{list}}}"), 400),
        ("/v1/classifications", format!("{{\"model\":\"gpt-17\",\"input\":\"{}\"}}", "a".repeat(BODY)), 404),
        ("/v1/fine_tuning/jobs", small, 413),
        ("/v1/evaluations", format!("{{\"model\":\"m\",\"method\":{}0]}}", "[".repeat(MIB / 2)), 400),
    ];
    let row = format!("{{\"text\":\"a\",\"label\":\"b\",\"other\":{list}}}\n");
    let before = peak(&member);
    for (path, body, status) in bodies {
        let body = bytes::Bytes::from(body);
        let answers = join_all((0..8).map(|_| {
            let request = client.request(Method::POST, path).body(body.clone());
            client.send(request)
        }));
        for answer in answers.await {
            // One that waited for room for too long may come again.
            assert!(answer.status == status || answer.header("retry-after").is_some(), "{path}: {answer:?}");
        }
    }
    let uploads = join_all((0..4).map(|_| client.upload_as("fine-tune", "data.jsonl", row.clone())));
    for answer in uploads.await {
        assert_eq!(answer.good()["validation"]["rows"], 1);
    }
    let grown = peak(&member) - before;
    assert!(grown < 600 * MIB, "memory grew by {} MiB", grown / MIB);
}
