//! What must hold, watched while everything goes wrong and looked at in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use finetuned::db::Db;
use finetuned::domain::hex::hex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::task::JoinHandle;

use super::load::{self, Bits, Load};
use super::site::Site;

/// What was seen and found.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    pub jobs: usize,
    pub by_status: BTreeMap<String, usize>,
    pub attempts: BTreeMap<String, usize>,
    pub resumes: usize,
    pub lost_leases: usize,
    pub uploads: usize,
    pub samples: u64,
    pub violations: Vec<String>,
}

#[derive(Default)]
struct Seen {
    terminal: BTreeMap<uuid::Uuid, (String, Option<uuid::Uuid>)>,
    samples: u64,
    violations: BTreeSet<String>,
}

pub struct Checker {
    expected: BTreeMap<&'static str, Bits>,
    seen: Arc<Mutex<Seen>>,
    stop: StopFlag,
    tasks: Vec<JoinHandle<()>>,
}

/// Ends the watching when it goes away, so that a test that fails early does not wait for it.
struct StopFlag(Arc<AtomicBool>);

impl Drop for StopFlag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Checker {
    pub fn start(site: &Site, expected: BTreeMap<&'static str, Bits>) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let stop = Arc::new(AtomicBool::new(false));
        let states: Vec<PathBuf> = (0..site.workers).map(|index| site.state(index)).collect();
        let processes = {
            let (seen, stop) = (seen.clone(), stop.clone());
            tokio::task::spawn_blocking(move || watch_processes(&states, &seen, &stop))
        };
        let rows = tokio::spawn(watch_rows(site.db.clone(), seen.clone(), stop.clone()));
        Self { expected, seen, stop: StopFlag(stop), tasks: vec![processes, rows] }
    }

    /// Waits until all jobs have ended, stops everything, and looks at what is left.
    pub async fn finish(self, site: &Site, load: &Load) -> Checked {
        let (jobs, files) = {
            let acknowledged = load.acknowledged.lock().unwrap();
            (acknowledged.jobs.clone(), acknowledged.files.clone())
        };
        let mut checked = Checked { jobs: jobs.len(), uploads: files.len(), ..Checked::default() };
        let ids: Vec<String> = jobs.keys().cloned().collect();
        load::resume_all(&site.client, &ids).await;
        for (id, kind) in &jobs {
            self.job(site, id, kind, &mut checked).await;
        }
        for (id, hash) in &files {
            let answer = site.client.get(&format!("/v1/files/{id}/content")).await;
            if answer.status != 200 || hex(&Sha256::digest(&answer.bytes)) != *hash {
                checked
                    .violations
                    .push(format!("I5: the upload {id} cannot be read as it was sent ({})", answer.status));
            }
        }
        overlaps(&site.db, &mut checked).await;
        self.stop.0.store(true, Ordering::Release);
        for task in self.tasks {
            task.await.unwrap();
        }
        let open = async || -> i64 {
            sqlx::query_scalar("select count(*) from attempts where ended_at is null")
                .fetch_one(site.db.pool())
                .await
                .unwrap()
        };
        let deadline = std::time::Instant::now() + Duration::from_secs(30);
        while open().await > 0 && std::time::Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        if open().await > 0 {
            checked.violations.push(format!("I6: {} attempts have no end", open().await));
        }
        let taken: i64 = sqlx::query_scalar("select count(*) from slots where job_id is not null")
            .fetch_one(site.db.pool())
            .await
            .unwrap();
        if taken > 0 {
            checked.violations.push(format!("I6: {taken} slots are still taken"));
        }
        site.db.close().await;
        checked.violations.extend(site.stop().into_iter().map(|left| format!("I6: left over: {left}")));
        let seen = self.seen.lock().unwrap();
        checked.samples = seen.samples;
        checked.violations.extend(seen.violations.iter().cloned());
        checked
    }

    async fn job(&self, site: &Site, id: &str, kind: &'static str, checked: &mut Checked) {
        let deadline = std::time::Instant::now() + Duration::from_mins(3);
        let job = loop {
            let job = site.client.job(id).await;
            if !job["finished_at"].is_null() {
                break job;
            }
            if std::time::Instant::now() > deadline {
                checked.violations.push(format!("I6: the job {id} has not ended: {job}"));
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        };
        let status = job["status"].as_str().unwrap().to_owned();
        for attempt in job["attempts"].as_array().unwrap() {
            let cause = attempt["cause"].as_str().unwrap_or_else(|| attempt["outcome"].as_str().unwrap_or("open"));
            *checked.attempts.entry(cause.to_owned()).or_default() += 1;
            checked.resumes += usize::from(attempt["start_step"].as_u64().unwrap() > 0);
            checked.lost_leases += usize::from(cause == "lease_lost");
        }
        if status == "succeeded" {
            let found = load::bits(&site.client, &job).await;
            if found != self.expected[kind] {
                checked
                    .violations
                    .push(format!("I3: the job {id} of kind {kind} made {found:?}, not {:?}", self.expected[kind]));
            }
        } else if status == "failed" && !budget_is_spent(&job) {
            checked.violations.push(format!("I6: the job {id} failed before its budget was spent: {job}"));
        }
        *checked.by_status.entry(status).or_default() += 1;
    }
}

/// A job may fail here only because its attempts used up a budget.
fn budget_is_spent(job: &Value) -> bool {
    let count = |outcome: &str| job["attempts"].as_array().unwrap().iter().filter(|a| a["outcome"] == outcome).count();
    count("crashed") >= 3 || count("lost") >= 20
}

/// Attempts of one job that overlap in the database's time.
async fn overlaps(db: &Db, checked: &mut Checked) {
    let rows: Vec<(uuid::Uuid, i32)> = sqlx::query_as(
        "select a.job_id, a.attempt from attempts a join attempts b on b.job_id = a.job_id and b.attempt = a.attempt + 1 \
         where a.ended_at is null or a.ended_at > b.started_at",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    let succeeded: Vec<uuid::Uuid> = sqlx::query_scalar(
        "select job_id from attempts where outcome = 'succeeded' group by job_id having count(*) > 1",
    )
    .fetch_all(db.pool())
    .await
    .unwrap();
    checked
        .violations
        .extend(rows.iter().map(|(job, attempt)| format!("I1: attempts {attempt} and after of {job} overlap")));
    checked.violations.extend(succeeded.iter().map(|job| format!("I1: two attempts of {job} succeeded")));
}

/// Samples the machine's processes: which trainers of which jobs live.
fn watch_processes(states: &[PathBuf], seen: &Mutex<Seen>, stop: &AtomicBool) {
    while !stop.load(Ordering::Acquire) {
        let mut of_job: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for state in states {
            let runs = state.join("runs");
            let mut here = BTreeSet::new();
            for pid in super::support::fleet::trainers_of(state) {
                let Ok(folder) = std::fs::read_link(format!("/proc/{pid}/cwd")) else { continue };
                let Some(run) = folder.strip_prefix(&runs).ok().and_then(|run| run.to_str()) else { continue };
                let run = run.trim_end_matches(" (deleted)").to_owned();
                let job = run.split('-').next().unwrap().to_owned();
                of_job.entry(job).or_default().insert(format!("{} of {}", run, state.display()));
                here.insert(run);
            }
            if here.len() > 2 {
                let violation = format!("I4: {} has the runs {here:?} in its two slots", state.display());
                seen.lock().unwrap().violations.insert(violation);
            }
        }
        let mut seen = seen.lock().unwrap();
        for (job, runs) in of_job.into_iter().filter(|(_, runs)| runs.len() > 1) {
            seen.violations.insert(format!("I1: the job {job} has two trainers at once: {runs:?}"));
        }
        seen.samples += 1;
        drop(seen);
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Samples the database: terminal statuses stay, slots are not given twice.
async fn watch_rows(db: Db, seen: Arc<Mutex<Seen>>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Acquire) {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let jobs: Result<Vec<(uuid::Uuid, String, Option<uuid::Uuid>)>, _> = sqlx::query_as(
            "select id, status, fine_tuned_model_id from jobs where status in ('succeeded', 'failed', 'cancelled')",
        )
        .fetch_all(db.pool())
        .await;
        let twice: Result<Vec<uuid::Uuid>, _> = sqlx::query_scalar(
            "select job_id from slots s where job_id is not null \
             group by job_id having count(*) > 1",
        )
        .fetch_all(db.pool())
        .await;
        // The database is one of the things that are killed.
        let (Ok(jobs), Ok(twice)) = (jobs, twice) else { continue };
        let mut seen = seen.lock().unwrap();
        let there: BTreeSet<uuid::Uuid> = jobs.iter().map(|(id, ..)| *id).collect();
        for (id, status, model) in jobs {
            let now = (status, model);
            let before = seen.terminal.entry(id).or_insert_with(|| now.clone()).clone();
            if before != now {
                seen.violations.insert(format!("I2: the job {id} was {before:?} and is {now:?}"));
            }
        }
        let gone: Vec<uuid::Uuid> = seen.terminal.keys().filter(|id| !there.contains(id)).copied().collect();
        for id in gone {
            seen.violations.insert(format!("I2: the job {id} had ended and has not any more"));
        }
        for id in twice {
            seen.violations.insert(format!("I4: the job {id} has two slots"));
        }
    }
}
