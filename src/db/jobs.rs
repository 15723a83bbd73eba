//! Jobs as their owners see them. What workers do with them is in `queue`.

use std::collections::{BTreeMap, HashMap};

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use uuid::Uuid;

use super::job_rows::{Row, select};
use super::{attempts, known, to_json, unsigned};
use crate::domain::Timestamp;
use crate::domain::error::Result;
use crate::domain::grading::Grading;
use crate::domain::id::{JobId, ProjectId};
use crate::domain::job::{DatasetOptions, Job, JobError, JobKind, JobSpec, JobStatus, Prepared};
use crate::domain::report::DataReport;

/// A job to insert, with what only the database keeps.
pub struct NewJob<'a> {
    pub id: JobId,
    pub project: ProjectId,
    pub spec: &'a JobSpec,
    pub name_tag: &'a str,
    pub request_hash: [u8; 32],
    pub idempotency_key: Option<&'a str>,
}

/// Inserts a job, which begins with its files being checked; false if the project has a job with the same idempotency key
/// already.
pub async fn insert(db: &mut PgConnection, job: &NewJob<'_>) -> Result<bool> {
    let spec = job.spec;
    let done = sqlx::query!(
        r#"
        insert into jobs (id, project_id, kind, model, base_model_id, training_file_id, validation_file_id,
                          test_file_id, method, hyperparameters, dataset, suffix, seed, name_tag, metadata,
                          request_hash, idempotency_key, grading, baseline, baseline_model_id)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
        on conflict (project_id, idempotency_key) do nothing
        "#,
        job.id.0,
        job.project.0,
        spec.kind.as_str(),
        spec.model,
        spec.base_model.0,
        spec.training_file.map(|id| id.0),
        spec.validation_file.map(|id| id.0),
        spec.test_file.map(|id| id.0),
        spec.method.as_str(),
        to_json(spec.hyperparameters.as_map())?,
        to_json(&spec.dataset)?,
        spec.suffix,
        spec.seed,
        job.name_tag,
        spec.metadata.as_ref().map(to_json).transpose()?,
        &job.request_hash[..],
        job.idempotency_key,
        spec.grading.as_ref().map(to_json).transpose()?,
        spec.baseline.as_ref().map(|baseline| baseline.name.as_str()),
        spec.baseline.as_ref().map(|baseline| baseline.model.0)
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected() > 0)
}

/// What a caller knows of a job: whose it is, of which kind, and its id.
pub type JobKey = (ProjectId, JobKind, JobId);

/// Those of these jobs that there are, with their attempts, without their labels: they may be megabytes, and are shown nowhere.
pub async fn find_all(db: &mut PgConnection, keys: &[JobKey]) -> Result<HashMap<JobKey, Job>> {
    let projects: Vec<Uuid> = keys.iter().map(|(project, ..)| project.0).collect();
    let kinds: Vec<String> = keys.iter().map(|(_, kind, _)| kind.as_str().to_owned()).collect();
    let ids: Vec<Uuid> = keys.iter().map(|(.., id)| id.0).collect();
    let rows = select!(
        "0",
        "(j.prepared - 'labels')",
        "j.report",
        [r#"
        unnest($1::uuid[], $2::text[], $3::uuid[]) as asked (project_id, kind, id)
        join jobs j on j.id = asked.id and j.project_id = asked.project_id and j.kind = asked.kind
        left join models m on m.id = j.fine_tuned_model_id
        "#],
        &projects,
        &kinds,
        &ids
    );
    let mut jobs = rows.fetch_all(&mut *db).await?.into_iter().map(Job::try_from).collect::<Result<Vec<_>>>()?;
    add_attempts(db, &mut jobs).await?;
    Ok(jobs.into_iter().map(|job| ((job.project, job.spec.kind, job.id), job)).collect())
}

/// The same for one of them.
pub async fn find(db: &mut PgConnection, project: ProjectId, kind: JobKind, id: JobId) -> Result<Option<Job>> {
    let key = (project, kind, id);
    Ok(find_all(db, &[key]).await?.remove(&key))
}

/// A job of any project, with its labels, for the worker that holds it.
pub async fn find_any(db: &mut PgConnection, id: JobId) -> Result<Option<Job>> {
    let row = select!(
        "0",
        "j.prepared",
        "j.report",
        ["jobs j left join models m on m.id = j.fine_tuned_model_id where j.id = $1"],
        id.0
    );
    let mut jobs: Vec<Job> = row.fetch_optional(&mut *db).await?.map(Job::try_from).transpose()?.into_iter().collect();
    add_attempts(db, &mut jobs).await?;
    Ok(jobs.pop())
}

/// Adds their attempts to jobs.
pub(super) async fn add_attempts(db: &mut PgConnection, jobs: &mut [Job]) -> Result<()> {
    if jobs.is_empty() {
        return Ok(());
    }
    let ids: Vec<JobId> = jobs.iter().map(|job| job.id).collect();
    let mut attempts = attempts::of_jobs(db, &ids).await?;
    for job in jobs {
        job.attempts = attempts.remove(&job.id).unwrap_or_default();
    }
    Ok(())
}

/// Whether a project has this job of that kind.
pub async fn exists(db: impl PgExecutor<'_>, project: ProjectId, kind: JobKind, id: JobId) -> Result<bool> {
    let row = sqlx::query!(
        "select id from jobs where id = $1 and project_id = $2 and kind = $3",
        id.0,
        project.0,
        kind.as_str()
    )
    .fetch_optional(db)
    .await?;
    Ok(row.is_some())
}

/// The names of those labels of a job, by number.
pub async fn label_names(db: impl PgExecutor<'_>, id: JobId, numbers: &[u32]) -> Result<BTreeMap<u32, String>> {
    let numbers: Vec<i64> = numbers.iter().map(|&number| number.into()).collect();
    let rows = sqlx::query!(
        r#"
        select l.place - 1 as "number!", l.name as "name!"
        from jobs j, jsonb_array_elements_text(j.prepared -> 'labels') with ordinality as l (name, place)
        where j.id = $1 and l.place - 1 = any($2)
        "#,
        id.0,
        &numbers
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (unsigned(row.number) as u32, row.name)).collect())
}

/// What the log and the metrics tell of a job.
pub struct Summary {
    /// The name of its project.
    pub project: String,
    /// The latest attempt; 0 before the first.
    pub attempt: u32,
    /// Seconds since it could be claimed.
    pub waited: f64,
    /// Seconds from its creation to its end, or to now.
    pub age: f64,
    /// The code of the error that it failed with.
    pub error_code: Option<String>,
}

/// The summary of a job, if it exists.
pub async fn summary(db: impl PgExecutor<'_>, id: JobId) -> Result<Option<Summary>> {
    let row = sqlx::query!(
        r#"
        select p.name, j.attempt, j.error ->> 'code' as code,
               extract(epoch from now() - j.run_after)::float8 as "waited!",
               extract(epoch from coalesce(j.finished_at, now()) - j.created_at)::float8 as "age!"
        from jobs j join projects p on p.id = j.project_id where j.id = $1
        "#,
        id.0
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Summary {
        project: row.name,
        attempt: row.attempt.unsigned_abs(),
        waited: row.waited.max(0.0),
        age: row.age,
        error_code: row.code,
    }))
}

/// Jobs of one kind in one status.
pub type Count = (JobKind, JobStatus, u64);

/// The number of jobs of each kind in each status that have not ended, over all projects; and what time it is.
pub async fn count_open(db: impl PgExecutor<'_>) -> Result<(Vec<Count>, Timestamp)> {
    let rows = sqlx::query!(
        r#"
        select clock.now as "now!", counted.kind as "kind?", counted.status as "status?", counted.jobs as "jobs?"
        from (select now()) clock left join (
            select kind, status, count(*) as jobs from jobs
            where status in ('validating_files', 'queued', 'running', 'paused') group by 1, 2
        ) counted on true
        "#
    )
    .fetch_all(db)
    .await?;
    let now = rows.first().map_or(Timestamp::UNIX_EPOCH, |row| row.now);
    let counts = rows.into_iter().filter_map(|row| Some((row.kind?, row.status?, row.jobs?)));
    Ok((counts.map(counted).collect::<Result<_>>()?, now))
}

/// The same of those that ended between these times, the latter not included.
pub async fn count_ended(db: impl PgExecutor<'_>, from: Timestamp, before: Timestamp) -> Result<Vec<Count>> {
    let rows = sqlx::query!(
        r#"
        select kind, status, count(*) as "jobs!" from jobs
        where finished_at is not null and finished_at >= $1 and finished_at < $2
        group by 1, 2
        "#,
        from,
        before
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(|row| counted((row.kind, row.status, row.jobs))).collect()
}

fn counted((kind, status, jobs): (String, String, i64)) -> Result<Count> {
    Ok((known("kind of job", &kind)?, known("job status", &status)?, unsigned(jobs)))
}

/// How long the first of the jobs that wait for their validation, or for a slot, has waited, in seconds.
pub async fn longest_waits(db: impl PgExecutor<'_>) -> Result<Vec<(JobStatus, f64)>> {
    let rows = sqlx::query!(
        r#"
        select status,
               extract(epoch from now() - min(case status when 'queued' then run_after else created_at end))::float8
                   as "seconds!"
        from jobs where status in ('validating_files', 'queued') group by status
        "#
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let status = known("job status", &row.status)?;
            Ok((status, row.seconds.max(0.0)))
        })
        .collect()
}
