//! Reads that share their queries with others see what was so when they came, not before.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use finetuned::app::keys;
use finetuned::config::Config;
use futures_util::future::join_all;
use serde_json::json;

use super::support::client::Client;
use super::support::service::{Service, eventually};
use super::support::{data, database};

/// Two processes over one database.
async fn two_services() -> (Service, Service) {
    let url = database::fresh().await;
    let free = |config: &mut Config| config.rate_limit = 0;
    (Service::over(&url, free).await, Service::over(&url, free).await)
}

/// Clients that ask for a path without end until they are stopped, and how often they were answered.
struct Load {
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn start(clients: &[Client], path: &str) -> Self {
        let (stop, answers) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let ask = |client: &Client| {
            let (client, path, stop, answers) = (client.clone(), path.to_owned(), stop.clone(), answers.clone());
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    client.get(&path).await.good();
                    answers.fetch_add(1, Ordering::SeqCst);
                }
            })
        };
        Self { clients: clients.iter().map(ask).collect(), stop, answers }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::SeqCst);
        join_all(self.clients).await.into_iter().for_each(Result::unwrap);
        assert!(self.answers.load(Ordering::SeqCst) > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_at_once_among_many_requests_in_every_process() {
    let (here, there) = two_services().await;
    let (id, secret) = keys::create(&here.app, "acme", "laptop").await.unwrap();
    let clients = [&here, &there].map(|service| Client::new(&service.address, Some(secret.expose())));
    let others = [&here, &there].map(|service| Client::new(&service.address, Some(&here.key)));
    let load = Load::start(&[&others[..], &others[..], &others[..]].concat(), "/v1/models");
    let (revoked, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let asking = (0..24).map(|number| {
        let (client, revoked, refused) = (clients[number % 2].clone(), &revoked, &refused);
        async move {
            loop {
                let was_revoked = revoked.load(Ordering::SeqCst);
                let answer = client.get("/v1/models").await;
                if was_revoked {
                    assert_eq!(answer.status, 401, "the key was revoked before this was asked");
                    refused.fetch_add(1, Ordering::SeqCst);
                    return;
                }
            }
        }
    });
    let revoking = async {
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        assert!(keys::revoke(&there.app, id).await.unwrap());
        revoked.store(true, Ordering::SeqCst);
    };
    tokio::join!(join_all(asking), revoking);
    assert_eq!(refused.load(Ordering::SeqCst), 24);
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_is_read_among_many_readers_in_every_process() {
    let (here, there) = two_services().await;
    here.import_tiny_model().await;
    let (client, elsewhere) = (here.client(), here.client().at(&there.address));
    let file = client.upload("data.csv", data::csv(30)).await;
    let busy = client.create_job(&file, json!({"n_epochs": 1})).await;
    let path = |job: &str| format!("/v1/fine_tuning/jobs/{job}");
    let readers: Vec<Client> =
        (0..8).map(|number| if number % 2 == 0 { &client } else { &elsewhere }.clone()).collect();
    let load = Load::start(&readers, &path(&busy));
    for _ in 0..8 {
        let job = client.create_job(&file, json!({"n_epochs": 1})).await;
        for reader in [&client, &elsewhere] {
            assert_eq!(reader.get(&path(&job)).await.good()["status"], "validating_files");
        }
        elsewhere.post(&format!("{}/cancel", path(&job))).await.good();
        for reader in [&client, &elsewhere] {
            assert_eq!(reader.get(&path(&job)).await.good()["status"], "cancelled");
        }
        let file = elsewhere.upload("data.csv", data::csv(30)).await;
        client.get(&format!("/v1/files/{file}")).await.good();
        client.delete(&format!("/v1/files/{file}")).await.good();
        assert_eq!(elsewhere.get(&format!("/v1/files/{file}")).await.status, 404);
    }
    load.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_at_once_gets_its_own_and_nobody_another_projects() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let (client, stranger) = (service.client(), service.stranger().await);
    let file = client.upload("data.csv", data::csv(30)).await;
    let mut jobs = Vec::new();
    for _ in 0..40 {
        jobs.push(client.create_job(&file, json!({"n_epochs": 1})).await);
    }
    for _ in 0..3 {
        let (client, stranger) = (&client, &stranger);
        let asked = jobs.iter().map(|job| async move {
            let path = format!("/v1/fine_tuning/jobs/{job}");
            let nobody = client.with_key(Some("sk-ft-none"));
            let evaluation = format!("/v1/evaluations/{}", job.replace("ftjob-", "eval-"));
            let (own, of_another, without, other_kind) =
                tokio::join!(client.get(&path), stranger.get(&path), nobody.get(&path), client.get(&evaluation));
            assert_eq!(own.good()["id"], **job);
            assert_eq!((of_another.status, without.status, other_kind.status), (404, 401, 404));
        });
        join_all(asked).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn that_a_key_is_used_is_noted() {
    let service = Service::api().await;
    let noted = || async {
        let all = keys::list(&service.app).await.unwrap();
        all.into_iter().find(|key| key.name == "test" && key.project == "acme").and_then(|key| key.last_used_at)
    };
    assert!(noted().await.is_none());
    service.client().get("/v1/models").await.good();
    let first = eventually("the use of a key is noted", 5, async || noted().await).await;
    service.client().get("/v1/models").await.good();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(noted().await, Some(first), "once a minute is enough");
}
