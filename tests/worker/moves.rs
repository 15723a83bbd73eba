//! The moves of a job in the database are those of the code, and a finished job stays finished.

use finetuned::domain::job::JobStatus;
use serde_json::json;

use super::support::data;
use super::support::service::{Service, eventually};

/// Puts a job into a status by force, with the columns that the schema wants for it.
async fn place(service: &Service, id: uuid::Uuid, status: JobStatus) {
    let mut connection = service.app.db.connection().await.unwrap();
    sqlx::query("alter table jobs disable trigger guard_job_move").execute(&mut *connection).await.unwrap();
    set(&mut connection, id, status).await.unwrap();
    sqlx::query("alter table jobs enable trigger guard_job_move").execute(&mut *connection).await.unwrap();
}

async fn set(connection: &mut sqlx::PgConnection, id: uuid::Uuid, status: JobStatus) -> Result<(), sqlx::Error> {
    sqlx::query(
        r"
        update jobs set status = $2,
            prepared = '{}',
            lease_token = case when $2 = 'running' then gen_random_uuid() end,
            lease_until = case when $2 = 'running' then now() end,
            finished_at = case when $2 in ('succeeded', 'failed', 'cancelled') then now() end,
            fine_tuned_model_id = case when $2 = 'succeeded' then base_model_id end,
            error = case when $2 = 'failed' then '{}'::jsonb end
        where id = $1
        ",
    )
    .bind(id)
    .bind(status.as_str())
    .execute(connection)
    .await
    .map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_allows_the_moves_of_the_code_and_no_others() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let id = client.create_job(&file, json!({})).await;
    let id = uuid::Uuid::parse_str(id.trim_start_matches("ftjob-")).unwrap();
    for from in JobStatus::ALL {
        for to in JobStatus::ALL {
            if from == to {
                continue;
            }
            place(&service, id, from).await;
            let mut connection = service.app.db.connection().await.unwrap();
            let moved = set(&mut connection, id, to).await;
            assert_eq!(moved.is_ok(), from.may_become(to), "{from} to {to}: {moved:?}");
            if let Err(error) = moved {
                assert_eq!(error.as_database_error().unwrap().constraint(), Some("job_move"), "{from} to {to}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schema_refuses_halves_of_a_state() {
    let service = Service::api().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    client.create_job(&file, json!({})).await;
    for half in [
        "set lease_token = gen_random_uuid()",
        "set lease_token = gen_random_uuid(), lease_until = now()",
        "set finished_at = now()",
        "set status = 'queued'",
        "set status = 'failed', finished_at = now()",
        "set status = 'cancelled'",
        "set fine_tuned_model_id = base_model_id",
        "set status = 'nothing'",
    ] {
        let result =
            sqlx::query(sqlx::AssertSqlSafe(format!("update jobs {half}"))).execute(service.app.db.pool()).await;
        assert!(result.is_err(), "{half}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_move_is_an_event_of_its_kind_in_the_order_of_the_moves() {
    let service = Service::with_worker().await;
    service.import_tiny_model().await;
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let kinds = async |id: &str| -> Vec<String> {
        let id = uuid::Uuid::parse_str(id.rsplit('-').next().unwrap()).unwrap();
        let kinds = "select kind from events where job_id = $1 and kind not in ('message', 'metrics') order by seq";
        sqlx::query_scalar(kinds).bind(id).fetch_all(service.app.db.pool()).await.unwrap()
    };
    let id = client.create_job(&file, json!({"n_epochs": 1})).await;
    let model = client.wait_for_end(&id).await["fine_tuned_model"].as_str().unwrap().to_owned();
    let begins = ["job.validating_files", "job.queued", "job.running"];
    assert_eq!(kinds(&id).await, [&begins[..], &["checkpoint.created", "job.succeeded"]].concat());

    let body = json!({"model": model, "test_file": file});
    let id = client.post_json("/v1/evaluations", &body).await.good()["id"].as_str().unwrap().to_owned();
    let ended =
        async || (client.get(&format!("/v1/evaluations/{id}")).await.good()["finished_at"].is_i64()).then_some(());
    eventually("the evaluation to end", 60, ended).await;
    assert_eq!(kinds(&id).await, [&begins[..], &["job.succeeded"]].concat());

    // OpenAI's clients know two types.
    let events = client.get(&format!("/v1/evaluations/{id}/events?limit=100")).await.good();
    assert!(events["data"].as_array().unwrap().iter().all(|event| event["type"] == "message"), "{events}");
}
