//! What clients do meanwhile: upload, create jobs, pause, resume and cancel some, and try again when they are told to.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use finetuned::domain::hex::hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::random::Random;
use super::site::Site;
use super::support::client::Client;
use super::support::data;
use super::support::service::eventually;

/// Jobs at work at once.
const OUTSTANDING: usize = 6;

/// Hashes of what a job of some kind makes when nothing disturbs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bits {
    pub model: String,
    pub metrics: String,
    pub steps: usize,
}

/// The kinds of jobs, by name.
const KINDS: [(&str, &str, u64); 4] = [("a", "fp32", 1), ("b", "fp32", 2), ("c", "bf16", 3), ("d", "bf16", 4)];

/// Everything that was acknowledged to a client.
#[derive(Default)]
pub struct Acknowledged {
    /// File to hash of its bytes.
    pub files: BTreeMap<String, String>,
    /// Job to kind.
    pub jobs: BTreeMap<String, &'static str>,
}

pub struct Load {
    pub acknowledged: Arc<Mutex<Acknowledged>>,
    expected: BTreeMap<&'static str, Bits>,
    stop: Arc<AtomicBool>,
    task: Mutex<Option<JoinHandle<()>>>,
}

/// A job that one attempt has done. A machine that is busy with other things may take a lease away; then another is made.
async fn undisturbed(client: &Client, body: &Value) -> Value {
    for _ in 0..10 {
        let id = client.post_json("/v1/fine_tuning/jobs", body).await.good()["id"].as_str().unwrap().to_owned();
        let job = client.wait_for_end(&id).await;
        assert_eq!(job["status"], json!("succeeded"), "{job}");
        if job["attempts"].as_array().unwrap().len() == 1 {
            return job;
        }
    }
    panic!("in ten jobs none was left alone");
}

impl Load {
    /// Runs each kind of job once, undisturbed, and then many of them.
    pub async fn start(site: &Site, seed: u64) -> Self {
        let client = site.client.clone();
        let training = client.upload("data.csv", data::csv(80)).await;
        let validation = client.upload("validation.csv", data::csv(12)).await;
        let mut expected = BTreeMap::new();
        for (name, precision, seed) in KINDS {
            let job = undisturbed(&client, &body(&training, &validation, precision, seed)).await;
            expected.insert(name, bits(&client, &job).await);
        }
        let acknowledged = Arc::new(Mutex::new(Acknowledged::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let task = tokio::spawn({
            let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
            async move {
                Clients { client, acknowledged, stop, random: Random::new(seed ^ 0xC11E) }
                    .run(training, validation)
                    .await;
            }
        });
        Self { acknowledged, expected, stop, task: Mutex::new(Some(task)) }
    }

    pub fn expected(&self) -> BTreeMap<&'static str, Bits> {
        self.expected.clone()
    }

    /// No more jobs; what is under way goes on.
    pub async fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        let task = self.task.lock().unwrap().take();
        task.unwrap().await.unwrap();
    }
}

fn body(training: &str, validation: &str, precision: &str, seed: u64) -> Value {
    json!({
        "model": "tiny-bert", "training_file": training, "validation_file": validation, "seed": seed,
        "hyperparameters": {"n_epochs": 2, "batch_size": 8, "learning_rate": 5e-3, "checkpoint_interval": 4,
                            "eval_interval": 7, "precision": precision},
    })
}

/// The bits of a job that succeeded.
pub async fn bits(client: &Client, job: &Value) -> Bits {
    let name = job["fine_tuned_model"].as_str().unwrap().replace('/', "%2F");
    let weights = client.get(&format!("/v1/models/{name}/files/model.safetensors")).await;
    let rows = client.metrics(job["id"].as_str().unwrap()).await;
    let hash = |bytes: &[u8]| hex(&Sha256::digest(bytes));
    let steps = rows.as_array().unwrap().len();
    Bits { model: hash(&weights.bytes), metrics: hash(rows.to_string().as_bytes()), steps }
}

struct Clients {
    client: Client,
    acknowledged: Arc<Mutex<Acknowledged>>,
    stop: Arc<AtomicBool>,
    random: Random,
}

impl Clients {
    async fn run(mut self, training: String, validation: String) {
        let mut mine: Vec<String> = Vec::new();
        for number in 0_u64.. {
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(self.random.within(100, 700))).await;
            self.upload(number).await;
            let mut open = Vec::new();
            for id in mine {
                match self.client.try_job(&id).await {
                    Some(job) if !job["finished_at"].is_null() => {}
                    _ => open.push(id),
                }
            }
            mine = open;
            if mine.len() < OUTSTANDING {
                let (kind, precision, seed) = *self.random.pick(&KINDS);
                let body = body(&training, &validation, precision, seed);
                if let Some(id) = self.client.try_create(&body, &format!("chaos-{number}")).await {
                    self.acknowledged.lock().unwrap().jobs.insert(id.clone(), kind);
                    mine.push(id);
                }
            } else {
                let id = self.random.pick(&mine).clone();
                let what = *self.random.pick(&["pause", "resume", "resume", "resume", "cancel", "nothing", "nothing"]);
                if what != "nothing" {
                    self.client.try_post(&format!("/v1/fine_tuning/jobs/{id}/{what}")).await;
                }
            }
        }
    }

    async fn upload(&mut self, number: u64) {
        let bytes = format!("text,label\n{}\n", format!("text {number} {},card\n", self.random.next()).repeat(200))
            .into_bytes();
        let hash = hex(&Sha256::digest(&bytes));
        if let Some(id) = self.client.try_upload(&format!("{number}.csv"), bytes).await {
            self.acknowledged.lock().unwrap().files.insert(id, hash);
        }
    }
}

/// Resumes what is paused, so that every job can come to its end.
pub async fn resume_all(client: &Client, jobs: &[String]) {
    for id in jobs {
        eventually("an answer", 30, async || {
            let job = client.try_job(id).await?;
            if job["status"] == "paused" || job["phase"] == "pausing" {
                client.try_post(&format!("/v1/fine_tuning/jobs/{id}/resume")).await;
                return None;
            }
            Some(())
        })
        .await;
    }
}
