//! Claims, leases and fences, on the queue itself.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use finetuned::app::{App, validation};
use finetuned::db::attempts::{self, End};
use finetuned::db::moves;
use finetuned::db::queue::{self, Claim};
use finetuned::db::workers;
use finetuned::domain::attempt::{Cause, ProcessEnd};
use finetuned::domain::estimate::{Device, Machine};
use finetuned::domain::id::{JobId, WorkerId};
use finetuned::domain::job::{JobError, Move};
use finetuned::worker::upkeep::rescue;
use serde_json::json;

use super::support::data;
use super::support::service::Service;

const LEASE: Duration = Duration::from_secs(30);

async fn queued_jobs(service: &Service, count: usize) -> Vec<JobId> {
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.create_job(&file, json!({})).await.parse().unwrap());
    }
    while validation::run_once(&service.app).await.unwrap() {}
    ids
}

pub async fn worker(app: &App, slots: i32) -> WorkerId {
    let id = WorkerId::new();
    let mut tx = app.db.begin().await.unwrap();
    let device = Device { is_gpu: false, has_bf16: true };
    let machine = Machine { device, memory: None, free_disk: None, disk: None };
    workers::register(tx.connection(), id, "test", slots, &machine).await.unwrap();
    tx.commit().await.unwrap();
    id
}

pub async fn claim(app: &App, worker: WorkerId, lease: Duration) -> Option<Claim> {
    queue::claim(&app.db, worker, "test", lease, 0).await.unwrap().map(|(claim, _)| claim)
}

/// Whether the claim still holds its job.
async fn holds(app: &App, claim: &Claim) -> bool {
    let mut tx = app.db.begin().await.unwrap();
    queue::hold(tx.connection(), claim).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_claimed_in_order_and_as_far_as_slots_go() {
    let service = Service::api().await;
    let ids = queued_jobs(&service, 3).await;
    let app = &service.app;
    let (one, two) = (worker(app, 1).await, worker(app, 2).await);
    let first = claim(app, one, LEASE).await.unwrap();
    assert_eq!((first.job, first.attempt, first.slot), (ids[0], 1, 0));
    assert!(claim(app, one, LEASE).await.is_none(), "its one slot is taken");
    assert_eq!(claim(app, two, LEASE).await.unwrap().job, ids[1]);
    let third = claim(app, two, LEASE).await.unwrap();
    assert_eq!((third.job, third.slot), (ids[2], 1));
    assert!(claim(app, two, LEASE).await.is_none());
    queue::free_slot(app.db.pool(), two, &third).await.unwrap();
    assert!(claim(app, two, LEASE).await.is_none(), "a free slot, but no job");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_job_is_claimed_once_however_many_try() {
    let service = Service::api().await;
    let ids = queued_jobs(&service, 4).await;
    let mut tasks = Vec::new();
    for _ in 0..16 {
        let app = service.app.clone();
        tasks.push(tokio::spawn(async move {
            let worker = worker(&app, 1).await;
            claim(&app, worker, LEASE).await
        }));
    }
    let mut claimed = Vec::new();
    for task in tasks {
        claimed.extend(task.await.unwrap().map(|claim| claim.job));
    }
    claimed.sort();
    assert_eq!(claimed, ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_ended_is_given_away_and_its_holder_can_change_nothing() {
    let service = Service::api().await;
    queued_jobs(&service, 1).await;
    let app = &service.app;
    let (zombie, heir) = (worker(app, 1).await, worker(app, 1).await);
    let old = claim(app, zombie, LEASE).await.unwrap();
    assert!(holds(app, &old).await);
    assert!(!rescue::run_once(app, None).await.unwrap(), "nobody takes what is held");
    assert!(queue::renew(app.db.pool(), &old, Duration::from_millis(10)).await.unwrap().is_some());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(queue::renew(app.db.pool(), &old, LEASE).await.unwrap(), None, "too late");
    assert!(rescue::run_once(app, None).await.unwrap());
    let new = claim(app, heir, LEASE).await.unwrap();
    assert_eq!((new.job, new.attempt), (old.job, 2));
    assert_ne!(new.token, old.token);
    assert!(!holds(app, &old).await && holds(app, &new).await);

    let job = service.client().job(&new.job.to_string()).await;
    let attempt = &job["attempts"][0];
    assert_eq!(
        (&attempt["outcome"], &attempt["detail"]),
        (&json!("lost"), &json!("its worker stopped renewing the lease"))
    );
    assert_eq!(job["attempts"][1]["outcome"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn crashes_that_are_learned_of_late_use_up_their_budget() {
    let service = Service::api().await;
    queued_jobs(&service, 1).await;
    let app = &service.app;
    let worker = worker(app, 2).await;
    let lose = async || {
        let lost = claim(app, worker, Duration::from_millis(10)).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(rescue::run_once(app, None).await.unwrap());
        lost
    };
    let process = ProcessEnd { signal: Some(9), ..ProcessEnd::default() };
    let died = End { cause: Some(Cause::OutOfHostMemory), detail: "it died", process, stderr_tail: None };
    for _ in 0..3 {
        let lost = lose().await;
        attempts::end(app.db.pool(), lost.job, lost.attempt, &died).await.unwrap();
        // What is known is not forgotten again.
        let again = End { cause: Some(Cause::LeaseLost), detail: "it was lost", ..died };
        attempts::end(app.db.pool(), lost.job, lost.attempt, &again).await.unwrap();
    }
    let last = lose().await;
    let job = service.client().job(&last.job.to_string()).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("out_of_memory")), "{job}");
    let outcomes: Vec<_> = job["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, ["crashed", "crashed", "crashed", "lost"]);
    assert!(job["error"]["message"].as_str().unwrap().contains("in attempt 3 it died"), "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_takes_the_lease_away() {
    let service = Service::api().await;
    let ids = queued_jobs(&service, 1).await;
    let app = &service.app;
    let worker = worker(app, 1).await;
    let held = claim(app, worker, LEASE).await.unwrap();
    service.client().post(&format!("/v1/fine_tuning/jobs/{}/cancel", ids[0])).await.good();
    assert!(!holds(app, &held).await);
    assert!(claim(app, worker, LEASE).await.is_none(), "the slot is taken until the trainer is gone");
    let slot: Option<uuid::Uuid> =
        sqlx::query_scalar("select job_id from slots").fetch_one(app.db.pool()).await.unwrap();
    assert_eq!(slot, Some(ids[0].0));
    assert!(!rescue::run_once(app, None).await.unwrap(), "a cancelled job is not rescued");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_worker_gives_back_what_its_earlier_life_had() {
    let service = Service::api().await;
    queued_jobs(&service, 2).await;
    let app = &service.app;
    let (mine, other) = (worker(app, 1).await, worker(app, 1).await);
    let left = claim(app, mine, LEASE).await.unwrap();
    let others = claim(app, other, LEASE).await.unwrap();
    assert!(rescue::run_once(app, Some(mine)).await.unwrap());
    assert!(!rescue::run_once(app, Some(mine)).await.unwrap());
    assert!(!holds(app, &left).await && holds(app, &others).await);
    assert_eq!(claim(app, mine, LEASE).await.unwrap().job, left.job, "its slot is free again");
}

/// Workers that sometimes sleep past their lease, and a reaper that races them: no job ends twice, none is lost.
#[tokio::test(flavor = "multi_thread")]
async fn zombies_and_a_reaper_lose_nothing_and_do_nothing_twice() {
    const JOBS: usize = 12;
    let service = Service::api().await;
    let ids = queued_jobs(&service, JOBS).await;
    let app = service.app.clone();
    let reaper = {
        let app = app.clone();
        tokio::spawn(async move {
            loop {
                while rescue::run_once(&app, None).await.unwrap() {}
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };
    let mut tasks = Vec::new();
    let all_ended = std::sync::Arc::new(AtomicUsize::new(0));
    for number in 0..4_u64 {
        let (app, all_ended) = (app.clone(), all_ended.clone());
        tasks.push(tokio::spawn(async move {
            let worker = worker(&app, 1).await;
            let (mut ended, mut refused) = (0, 0);
            let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
            for round in 0_u64.. {
                let Some(held) = claim(&app, worker, Duration::from_millis(120)).await else {
                    if all_ended.load(Ordering::Acquire) >= JOBS || tokio::time::Instant::now() > deadline {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(25)).await;
                    continue;
                };
                let sleeps = finetuned::domain::random::mix_all(&[number, round]).is_multiple_of(3);
                tokio::time::sleep(Duration::from_millis(if sleeps { 250 } else { 5 })).await;
                let mut tx = app.db.begin().await.unwrap();
                if queue::hold(tx.connection(), &held).await.unwrap() {
                    moves::make(tx.connection(), held.job, &Move::Fail(&JobError::new("test", "ended"))).await.unwrap();
                    tx.commit().await.unwrap();
                    ended += 1;
                    all_ended.fetch_add(1, Ordering::AcqRel);
                } else {
                    refused += 1;
                }
                queue::free_slot(app.db.pool(), worker, &held).await.unwrap();
            }
            (ended, refused)
        }));
    }
    let (mut ended, mut refused) = (0, 0);
    for task in tasks {
        let (e, r) = task.await.unwrap();
        ended += e;
        refused += r;
    }
    reaper.abort();
    assert_eq!(ended, JOBS, "every job ended once");
    assert!(refused > 0, "some worker came too late, or this test shows nothing");
    for id in ids {
        let job = service.client().job(&id.to_string()).await;
        assert_eq!(job["error"]["code"], "test");
        let lost = job["attempts"].as_array().unwrap().iter().filter(|a| a["outcome"] == "lost").count();
        assert_eq!(job["attempts"].as_array().unwrap().len(), lost + 1);
    }
    let taken: i64 = sqlx::query_scalar("select count(*) from slots where job_id is not null")
        .fetch_one(app.db.pool())
        .await
        .unwrap();
    assert_eq!(taken, 0);
}
