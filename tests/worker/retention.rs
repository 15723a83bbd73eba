//! What stays of a job that has ended.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use finetuned::config::Config;
use finetuned::db::checkpoints;
use finetuned::domain::id::JobId;
use finetuned::domain::metric::classes::MACRO_F1;
use finetuned::domain::metric::{ACCURACY, LOSS};
use finetuned::domain::model::TRAINING_STATE_FOLDER;
use finetuned::worker::upkeep::sweep;
use serde_json::json;

use super::support::data;
use super::support::service::{Service, eventually};

/// The parts of a job's objects, each named once: `model`, `step-4`, the endings of files of their own.
async fn parts(service: &Service) -> BTreeSet<String> {
    let listed = service.app.store.list("jobs/").await.unwrap();
    let part = |key: &str| {
        let rest = key.splitn(4, '/').nth(3).unwrap();
        let (first, below) = rest.split_once('/').unwrap_or((rest.rsplit('.').next().unwrap(), ""));
        if below.starts_with(TRAINING_STATE_FOLDER) { format!("{first} state") } else { first.to_owned() }
    };
    listed.into_iter().map(|object| part(&object.key)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_leaves_its_model_its_metrics_and_the_checkpoints_that_it_was_asked_to_keep() {
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(40)).await;
    let id = client.create_job(&file, json!({"n_epochs": 5, "batch_size": 8, "keep_checkpoints": 2})).await;
    let model = client.wait_for_end(&id).await["fine_tuned_model"].as_str().unwrap().to_owned();
    let kept = eventually("the training states and the run's folder to go", 60, async || {
        let parts = parts(&service).await;
        let runs = std::fs::read_dir(service.app.runs()).unwrap().count();
        // The two latest, and the best, which may be one of them.
        let steps = parts.iter().filter(|part| part.starts_with("step-")).count();
        (runs == 0 && steps <= 3 && parts.iter().all(|part| !part.ends_with(" state"))).then_some(parts)
    })
    .await;
    let rest: Vec<&String> = kept.iter().filter(|part| !part.starts_with("step-")).collect();
    assert_eq!(rest, ["csv", "model"]);

    // What was dropped while the job ran goes. The rest stays while there is no limit, and what is younger than it too.
    while sweep::run_once(&service.app).await.unwrap() {}
    let kept = parts(&service).await;
    let steps = kept.iter().filter(|part| part.starts_with("step-")).count();
    assert!((2..=3).contains(&steps), "{kept:?}");
    let mut app = service.app.clone();
    for (retention, left) in [(Duration::from_hours(1), steps), (Duration::ZERO, 0)] {
        app.config = Arc::new(Config { checkpoint_retention: Some(retention), ..(*service.app.config).clone() });
        while sweep::run_once(&app).await.unwrap() {}
        let listed = client.get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
        assert_eq!(listed["data"].as_array().unwrap().len(), left, "{retention:?}");
    }
    let parts = parts(&service).await;
    assert_eq!(parts.iter().collect::<Vec<_>>(), ["csv", "model"]);
    client.get(&format!("/v1/models/{}/files", model.replace('/', "%2F"))).await.good();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_best_checkpoint_is_the_best_by_the_objective() {
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(40)).await;
    let h = json!({"n_epochs": 5, "batch_size": 20, "keep_checkpoints": 100});
    let id = client.create_job(&file, h).await;
    assert_eq!(client.wait_for_end(&id).await["status"], "succeeded");
    let job: JobId = id.parse().unwrap();
    // By step; the second has no macro F1.
    let measured = [
        json!({"full_valid_loss": 0.5, "full_valid_accuracy": 0.9, "full_valid_macro_f1": 0.1}),
        json!({"full_valid_loss": 0.1, "full_valid_accuracy": 0.5}),
        json!({"full_valid_loss": 0.4, "full_valid_accuracy": 0.9, "full_valid_macro_f1": 0.2}),
        json!({"full_valid_loss": 0.9, "full_valid_accuracy": 0.2, "full_valid_macro_f1": 0.8}),
        json!({"full_valid_loss": 0.8, "full_valid_accuracy": 0.3, "full_valid_macro_f1": 0.3}),
    ];
    for (objective, best) in [(ACCURACY, 2), (LOSS, 1), (MACRO_F1, 3)] {
        // Rolled back, so that each has all checkpoints.
        let mut tx = service.app.db.begin().await.unwrap();
        let all = "select id from checkpoints where job_id = $1 order by step";
        let all: Vec<uuid::Uuid> = sqlx::query_scalar(all).bind(job.0).fetch_all(tx.connection()).await.unwrap();
        assert_eq!(all.len(), measured.len());
        for (checkpoint, metrics) in all.iter().zip(&measured) {
            let set = sqlx::query("update checkpoints set metrics = $2 where id = $1").bind(checkpoint).bind(metrics);
            set.execute(tx.connection()).await.unwrap();
        }
        checkpoints::retain(tx.connection(), job, 1, objective).await.unwrap();
        let left = "select id from checkpoints where job_id = $1 and dropped_at is null order by step";
        let left: Vec<uuid::Uuid> = sqlx::query_scalar(left).bind(job.0).fetch_all(tx.connection()).await.unwrap();
        assert_eq!(left, [all[best], all[4]], "{objective:?}");
    }
}
