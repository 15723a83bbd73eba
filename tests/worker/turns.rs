//! Whose job is next, who reads its files, and what is said where nobody runs it.

use std::time::Duration;

use finetuned::app::{App, keys, quotas, validation};
use finetuned::db;
use finetuned::db::queue;
use finetuned::domain::id::JobId;
use finetuned::domain::quota::Quota;
use finetuned::worker::upkeep::unattended;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::queue::{claim, worker};
use super::support::client::Client;
use super::support::data;
use super::support::fleet::Fleet;
use super::support::service::{Service, eventually};
use super::support::{self, database};

const LEASE: Duration = Duration::from_secs(30);

/// A client of a project, and a small file of it.
async fn project(service: &Service, name: &str) -> (Client, String) {
    let (_, secret) = keys::create(&service.app, name, "test").await.unwrap();
    let client = Client::new(&service.address, Some(secret.expose()));
    let file = client.upload("data.csv", data::csv(30)).await;
    (client, file)
}

async fn jobs((client, file): &(Client, String), count: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(client.create_job(file, json!({})).await.parse().unwrap());
    }
    ids
}

async fn status(app: &App, id: JobId) -> String {
    let status = sqlx::query_scalar("select status from jobs where id = $1").bind(id.0);
    status.fetch_one(app.db.pool()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_job_is_of_the_project_that_has_had_the_least() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let app = &service.app;
    let (many, few) = (project(&service, "many").await, project(&service, "few").await);
    let (first, second) = (jobs(&many, 4).await, jobs(&few, 2).await);
    while validation::run_once(app).await.unwrap() {}
    let holder = worker(app, 6).await;
    let mut order = Vec::new();
    for _ in 0..4 {
        order.push(claim(app, holder, LEASE).await.unwrap().job);
    }
    assert_eq!(
        order,
        [first[0], second[0], first[1], second[1]],
        "the fewest running, then whose turn was longest ago"
    );

    // Nothing runs any more: what counts is whose turn was longest ago.
    let third = jobs(&few, 1).await;
    while validation::run_once(app).await.unwrap() {}
    sqlx::query("update jobs set status = 'cancelled', finished_at = now(), lease_token = null, lease_until = null where status = 'running'")
        .execute(app.db.pool())
        .await
        .unwrap();
    assert_eq!(claim(app, holder, LEASE).await.unwrap().job, first[2]);
    assert_eq!(claim(app, holder, LEASE).await.unwrap().job, third[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_runs_no_more_jobs_than_it_may_however_many_workers_ask() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let app = service.app.clone();
    let limited = project(&service, "limited").await;
    jobs(&limited, 6).await;
    while validation::run_once(&app).await.unwrap() {}
    quotas::set(&app, "limited", &[(Quota::RunningJobs, Some(2))]).await.unwrap();
    let mut asking = Vec::new();
    for _ in 0..6 {
        let app = app.clone();
        asking.push(tokio::spawn(async move {
            let worker = worker(&app, 1).await;
            claim(&app, worker, LEASE).await.is_some()
        }));
    }
    let mut claimed = 0;
    for asked in asking {
        claimed += usize::from(asked.await.unwrap());
    }
    assert_eq!(claimed, 2);
    let other = project(&service, "other").await;
    let free = jobs(&other, 1).await;
    while validation::run_once(&app).await.unwrap() {}
    let idle = worker(&app, 1).await;
    assert_eq!(claim(&app, idle, LEASE).await.unwrap().job, free[0], "others are not held up");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_validated_in_turns_and_one_job_of_a_project_at_a_time() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let app = &service.app;
    let (many, few) = (project(&service, "many").await, project(&service, "few").await);
    let (first, second) = (jobs(&many, 5).await, jobs(&few, 1).await);
    assert!(validation::run_once(app).await.unwrap() && validation::run_once(app).await.unwrap());
    assert_eq!((status(app, first[0]).await, status(app, second[0]).await), ("queued".into(), "queued".into()));
    assert_eq!(status(app, first[1]).await, "validating_files");

    let held = db::validation::take(&app.db, LEASE).await.unwrap().unwrap();
    assert_eq!(held.job, first[1]);
    assert!(db::validation::take(&app.db, LEASE).await.unwrap().is_none(), "one at a time");
    let third = jobs(&few, 1).await;
    assert_eq!(db::validation::take(&app.db, LEASE).await.unwrap().unwrap().job, third[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_lost_a_validation_writes_nothing_and_only_readers_that_died_count() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let app = &service.app;
    let one = project(&service, "one").await;
    let id = jobs(&one, 1).await[0];
    let lapse = async || {
        sqlx::query("update jobs set run_after = now() - interval '1 second'").execute(app.db.pool()).await.unwrap();
    };
    let dead = db::validation::take(&app.db, LEASE).await.unwrap().unwrap();
    lapse().await;
    let heir = db::validation::take(&app.db, LEASE).await.unwrap().unwrap();
    assert_eq!((dead.tries, heir.tries, heir.job), (1, 2, id));
    assert!(!db::validation::renew(app.db.pool(), &dead, LEASE).await.unwrap());
    let mut tx = app.db.begin().await.unwrap();
    assert!(!db::validation::hold(tx.connection(), &dead).await.unwrap(), "too late to refuse it");
    drop(tx);
    assert!(db::validation::renew(app.db.pool(), &heir, LEASE).await.unwrap());

    // A process that is told to stop gives the job back.
    lapse().await;
    let stop = CancellationToken::new();
    stop.cancel();
    for _ in 0..10 {
        validation::run_until(app, &stop).await.unwrap();
        if status(app, id).await != "validating_files" {
            break;
        }
    }
    let tries: i32 = sqlx::query_scalar("select validation_tries from jobs").fetch_one(app.db.pool()).await.unwrap();
    assert!(tries <= 3, "stopping is no try: {tries}");
    while validation::run_once(app).await.unwrap() {}
    assert_eq!(status(app, id).await, "queued");

    let doomed = jobs(&one, 1).await[0];
    for tries in 1..=5 {
        assert_eq!(db::validation::take(&app.db, LEASE).await.unwrap().unwrap().tries, tries);
        lapse().await;
    }
    assert!(validation::run_once(app).await.unwrap());
    let job = one.0.job(&doomed.to_string()).await;
    assert_eq!((&job["status"], &job["error"]["code"]), (&json!("failed"), &json!("validation_failed")));
}

/// Rows enough that reading them takes longer than the lease below, even on a fast machine.
const MANY_ROWS: usize = 600_000;

/// Validates one job, and returns when its files are being read.
async fn read_one(app: &App) -> tokio::task::JoinHandle<bool> {
    let reader = app.clone();
    let reading = tokio::spawn(async move { validation::run_once(&reader).await.unwrap() });
    eventually("the reader to begin", 10, async || {
        let held = sqlx::query_scalar::<_, i64>("select count(validation_token) from jobs");
        (held.fetch_one(app.db.pool()).await.unwrap() == 1).then_some(())
    })
    .await;
    reading
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_take_longer_than_a_lease_are_read_once() {
    let service = Service::with(|config| config.lease = Duration::from_secs(1)).await;
    service.import_tiny_model().await;
    let app = service.app.clone();
    let file = service.client().upload("large.csv", data::csv(MANY_ROWS)).await;
    let id: JobId = service.client().create_job(&file, json!({})).await.parse().unwrap();
    let started = std::time::Instant::now();
    let reading = read_one(&app).await;
    let mut others = 0;
    while !reading.is_finished() {
        others += usize::from(db::validation::take(&app.db, LEASE).await.unwrap().is_some());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(reading.await.unwrap());
    assert!(started.elapsed() > app.config.lease, "the file was too small for this test to show anything");
    let tries: i32 = sqlx::query_scalar("select validation_tries from jobs").fetch_one(app.db.pool()).await.unwrap();
    assert_eq!((others, tries, status(&app, id).await), (0, 1, "queued".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_ends_when_the_job_is_cancelled() {
    let service = Service::with(|config| config.lease = Duration::from_secs(1)).await;
    service.import_tiny_model().await;
    let (app, client) = (service.app.clone(), service.client());
    let file = client.upload("large.csv", data::csv(MANY_ROWS)).await;
    let id = client.create_job(&file, json!({})).await;
    let reading = read_one(&app).await;
    assert!(!reading.is_finished(), "the file was too small for this test to show anything");
    client.post(&format!("/v1/fine_tuning/jobs/{id}/cancel")).await.good();
    assert!(reading.await.unwrap());
    assert_eq!(client.job(&id).await["status"], "cancelled");
    assert!(client.messages(&id).await.iter().all(|message| !message.contains("validated")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_no_worker_runs_says_so_once() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let app = &service.app;
    let id = jobs(&project(&service, "one").await, 1).await[0].to_string();
    while validation::run_once(app).await.unwrap() {}
    assert!(!unattended::run_once(app, Duration::from_mins(1)).await.unwrap());
    let told = async || {
        let all = sqlx::query_scalar::<_, i64>("select count(*) from events where message like '%no worker is there%'");
        all.fetch_one(app.db.pool()).await.unwrap()
    };
    assert_eq!(told().await, 0, "it has not waited for long");
    for _ in 0..3 {
        unattended::run_once(app, Duration::ZERO).await.unwrap();
        assert_eq!(told().await, 1, "{id}");
    }
    worker(app, 1).await;
    jobs(&project(&service, "other").await, 1).await;
    while validation::run_once(app).await.unwrap() {}
    unattended::run_once(app, Duration::ZERO).await.unwrap();
    assert_eq!(told().await, 1, "there is a worker now");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_without_a_worker_validates_and_rescues() {
    let folder = tempfile::tempdir().unwrap();
    let url = database::fresh().await;
    let objects = folder.path().join("objects").display().to_string();
    let settings = [("DATABASE_URL", url.clone()), ("FINETUNED_STORE_DIR", objects)];
    let fleet = Fleet::new(folder.path(), settings.map(|(name, value)| (name.to_owned(), value)).into());
    let key = fleet.set_up();
    let (_api, address) = fleet.start_api("api", "127.0.0.1:0").await;
    let client = Client::new(&address, Some(&key));
    let file = client.upload("data.csv", data::csv(30)).await;
    let id = client.create_job(&file, json!({})).await;
    client.wait_for(&id, &["queued"], 30).await;

    let db = db::Db::connect(&url, 2).await.unwrap();
    let config = support::service::configuration(folder.path(), &url);
    let app = App::new(db, config).unwrap();
    let gone = worker(&app, 1).await;
    queue::claim(&app.db, gone, "test", Duration::from_millis(100), 0).await.unwrap().unwrap();
    eventually("the job to be rescued", 30, async || {
        let job = client.job(&id).await;
        (job["status"] == "queued" && job["attempts"][0]["outcome"] == "lost").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_of_a_project_are_set_and_shown_on_the_command_line() {
    let folder = tempfile::tempdir().unwrap();
    let settings = [("DATABASE_URL", database::fresh().await), ("FINETUNED_QUOTA_FILES", "7".to_owned())];
    let fleet = Fleet::new(folder.path(), settings.map(|(name, value)| (name.to_owned(), value)).into());
    let run = |arguments: &[&str]| {
        let output = fleet.command("admin", arguments).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    assert!(run(&["keys", "create", "test", "--project", "acme"]).0);
    assert!(run(&["projects", "set-quota", "acme", "--stored-bytes", "5000", "--dry-runs", "0"]).0);
    let (_, listed, _) = run(&["projects", "list"]);
    for line in ["stored_bytes   0 of 5000  (its own)", "files          0 of 7\n", "dry_runs       no limit  (its own)"]
    {
        assert!(listed.starts_with("acme\n") && listed.contains(line), "{listed}");
    }
    assert!(run(&["projects", "set-quota", "acme", "--stored-bytes", "default"]).0);
    assert!(run(&["projects", "list"]).1.contains("0 of 1099511627776\n"));
    for (arguments, why) in [
        (&["projects", "set-quota", "acme"][..], "--stored-bytes"),
        (&["projects", "set-quota", "nobody", "--files", "1"], "there is no project nobody"),
        (&["projects", "set-quota", "acme", "--files", "-1"], "--files"),
        (&["projects", "set-quota", "acme", "--files", "many"], "expected a whole number, or default"),
    ] {
        let (good, _, told) = run(arguments);
        assert!(!good && told.contains(why), "{arguments:?}: {told}");
    }
}
