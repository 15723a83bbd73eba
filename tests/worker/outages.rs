//! What happens when the database is away: refused, cut off, or silent.

use std::time::Duration;

use finetuned::failpoint::Failpoints;
use finetuned::worker::upkeep::rescue;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::support::data;
use super::support::database;
use super::support::fleet::trainers_in;
use super::support::proxy::Proxy;
use super::support::service::{Service, eventually};

/// A service whose database lies behind a proxy, with a worker whose steps take a while, and a running job.
async fn running(steps: u32) -> (Service, Proxy, String) {
    let (url, _, proxy) = database::behind_proxy().await;
    running_over(&url, proxy, LONG, steps).await
}

/// A lease that outlasts an outage of some seconds, and one that a test can wait for.
const LONG: Duration = Duration::from_mins(1);
const SHORT: Duration = Duration::from_secs(12);

async fn running_over(url: &str, proxy: Proxy, lease: Duration, steps: u32) -> (Service, Proxy, String) {
    let mut service = Service::over(url, |config| config.lease = lease).await;
    service.import_tiny_model().await;
    service.app.failpoints = Failpoints::parse("trainer.step=slow").unwrap();
    service.start_worker();
    let file = service.client().upload("data.csv", data::csv(100)).await;
    let (batch_size, steps_per_epoch) = if steps > 500 { (1, 90) } else { (8, 12) };
    let hyperparameters = json!({"n_epochs": steps / steps_per_epoch + 1, "batch_size": batch_size,
                                 "precision": "fp32", "checkpoint_interval": 5});
    let id = service.client().create_job(&file, hyperparameters).await;
    eventually("a checkpoint", 60, async || {
        let checkpoints = service.client().get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
        (!checkpoints["data"].as_array().unwrap().is_empty()).then_some(())
    })
    .await;
    (service, proxy, id)
}

/// The job ended well in its first attempt, and nothing of its metrics is missing.
async fn ended_undisturbed(service: &Service, id: &str) {
    let job = eventually("the end", 300, async || {
        // While connections are cut, some requests are told to come again.
        let answer = service.client().get(&format!("/v1/fine_tuning/jobs/{id}")).await;
        (answer.status == 200).then(|| answer.json()).filter(|job| !job["finished_at"].is_null())
    })
    .await;
    assert_eq!(job["status"], "succeeded", "{job}");
    assert_eq!(job["attempts"].as_array().unwrap().len(), 1, "{job}");
    let rows = service.client().get(&format!("/v1/fine_tuning/jobs/{id}/metrics?limit=10000")).await.good();
    let steps: Vec<u64> = rows["data"].as_array().unwrap().iter().map(|row| row["step"].as_u64().unwrap()).collect();
    assert!(steps.iter().copied().eq(1..=steps.len() as u64), "{steps:?}");
    let checkpoints = service.client().get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
    let latest = checkpoints["data"][0]["step_number"].as_u64().unwrap();
    assert!(latest + 5 > steps.len() as u64, "the latest checkpoint was stored in the end: {latest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_database_is_away_requests_are_told_to_come_again_and_training_goes_on() {
    let (service, proxy, id) = running(40).await;
    proxy.refuse();
    let answer = service.client().get(&format!("/v1/fine_tuning/jobs/{id}")).await;
    assert_eq!((answer.error().0, answer.header("retry-after").is_some()), (503, true));
    assert_eq!(service.client().get("/readyz").await.error().0, 503);
    assert_eq!(service.client().get("/healthz").await.status, 200);
    tokio::time::sleep(Duration::from_secs(5)).await;
    proxy.pass();
    eventually("readiness", 10, async || (service.client().get("/readyz").await.status == 200).then_some(())).await;
    ended_undisturbed(&service, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_goes_silent_holds_nothing_up_once_it_is_back() {
    let (service, proxy, id) = running(60).await;
    proxy.stall();
    tokio::time::sleep(Duration::from_secs(5)).await;
    proxy.pass();
    // The connections that were silent stay so, and none of them is waited for.
    eventually("readiness", 15, async || (service.client().get("/readyz").await.status == 200).then_some(())).await;
    for _ in 0..20 {
        service.client().job(&id).await;
    }
    ended_undisturbed(&service, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_again_and_again_cost_no_attempt() {
    // FINETUNED_TEST_FLAPPING_SECONDS makes it longer, by hand; then the network is also away for a while, one fifth of
    // the time.
    let seconds: u64 = std::env::var("FINETUNED_TEST_FLAPPING_SECONDS").map_or(5, |text| text.parse().unwrap());
    let (service, proxy, id) = running(u32::try_from(5 * seconds).unwrap().max(60)).await;
    let end = std::time::Instant::now() + Duration::from_secs(seconds);
    let mut cuts = 0;
    while std::time::Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(200)).await;
        proxy.drop_all();
        cuts += 1;
        if seconds > 5 && cuts % 40 == 0 {
            proxy.refuse();
            tokio::time::sleep(Duration::from_secs(2)).await;
            proxy.pass();
        }
    }
    println!("connections were cut {cuts} times in {seconds} s");
    ended_undisturbed(&service, &id).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_cut_off_for_longer_than_its_lease_stops_and_goes_on_later() {
    let (url, _, proxy) = database::behind_proxy().await;
    let (service, proxy, id) = running_over(&url, proxy, SHORT, 120).await;
    proxy.stall();
    let runs = service.app.runs();
    // Two thirds of twelve seconds.
    eventually("the trainer to be ended", 11, async || trainers_in(&runs).is_empty().then_some(())).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    proxy.pass();
    proxy.drop_all();
    let job = service.client().wait_for_end(&id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let attempts = job["attempts"].as_array().unwrap();
    assert_eq!((attempts.len(), &attempts[0]["cause"]), (2, &json!("lease_lost")), "{job}");
    assert!(attempts[1]["start_step"].as_u64().unwrap() >= 5);
}

/// A machine that is short of memory: its worker renews no lease any more, and the kernel kills the trainer. The job goes
/// on elsewhere as if the worker were lost, and what really happened is recorded once the worker can tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_died_before_its_worker_lost_the_lease_counts_as_a_crash() {
    let (url, direct, proxy) = database::behind_proxy().await;
    let elsewhere = Service::over(&direct, |_| {}).await;
    let (service, proxy, id) = running_over(&url, proxy, SHORT, 120).await;
    // Short leases are lost where the machine is busy: it is the attempt at work now that is looked at.
    let number: i32 =
        sqlx::query_scalar("select max(attempt) from attempts").fetch_one(elsewhere.app.db.pool()).await.unwrap();
    let trainer = eventually("a trainer", 60, async || trainers_in(&service.app.runs()).first().copied()).await;
    proxy.stall();
    kill(Pid::from_raw(trainer), Signal::SIGKILL).unwrap();
    eventually("the lease to run out", 60, async || {
        rescue::run_once(&elsewhere.app, None).await.unwrap().then_some(())
    })
    .await;
    let first = async || -> (String, String, Option<i32>) {
        sqlx::query_as("select outcome, cause, signal from attempts where attempt = $1")
            .bind(number)
            .fetch_one(elsewhere.app.db.pool())
            .await
            .unwrap()
    };
    assert_eq!(first().await, ("lost".to_owned(), "lease_lost".to_owned(), None));
    proxy.pass();
    proxy.drop_all();
    eventually("the worker to tell", 60, async || (first().await.0 != "lost").then_some(())).await;
    assert_eq!(first().await, ("crashed".to_owned(), "signal".to_owned(), Some(9)));
    let job = service.client().wait_for_end(&id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_that_is_used_up_keeps_no_worker_from_its_lease() {
    let (url, _, proxy) = database::behind_proxy().await;
    let (service, _proxy, id) = running_over(&url, proxy, SHORT, 40).await;
    let mut held = Vec::new();
    while let Ok(Ok(connection)) = tokio::time::timeout(Duration::from_secs(1), service.app.db.connection()).await {
        held.push(connection);
    }
    assert_eq!(held.len(), 8, "every connection of the pool");
    let answer = service.client().get(&format!("/v1/fine_tuning/jobs/{id}")).await;
    assert_eq!(answer.error().0, 503);
    // Longer than the lease.
    tokio::time::sleep(Duration::from_secs(14)).await;
    drop(held);
    ended_undisturbed(&service, &id).await;
}

/// Transactions that PostgreSQL gave up in favour of others are done again, and others are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_lost_a_deadlock_is_done_again() {
    let service = Service::api().await;
    for (code, fails, tries) in [("40P01", 2, 3), ("40001", 4, 5), ("40P01", 9, 5), ("23505", 1, 1)] {
        let tried = std::sync::atomic::AtomicU32::new(0);
        let outcome = finetuned::db::retrying(|| async {
            let number = tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            if number < fails {
                let raise = format!("do $$ begin raise exception 'no' using errcode = '{code}'; end $$");
                sqlx::query(sqlx::AssertSqlSafe(raise)).execute(service.app.db.pool()).await?;
            }
            Ok(())
        })
        .await;
        assert_eq!((tried.into_inner(), outcome.is_ok()), (tries, tries > fails), "{code} {fails}");
    }
}
