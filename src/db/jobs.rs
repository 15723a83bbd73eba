//! Jobs as their owners see them. What workers do with them is in `queue`.

use std::collections::BTreeMap;

use sqlx::types::Json;
use sqlx::{PgConnection, PgExecutor};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{attempts, from_json, known, pages, to_json, unsigned};
use crate::domain::error::{Error, Result};
use crate::domain::grading::Grading;
use crate::domain::hyperparameters::Requested;
use crate::domain::id::{FileId, JobId, ModelId, ProjectId};
use crate::domain::job::{
    Baseline, DatasetOptions, Job, JobError, JobKind, JobSpec, JobStatus, Phase, Prepared, Progress,
};
use crate::domain::page::{Order, Page, PageRequest};
use crate::domain::report::DataReport;

struct Row {
    id: Uuid,
    project_id: Uuid,
    kind: String,
    created_at: OffsetDateTime,
    status: String,
    model: String,
    base_model_id: Uuid,
    grading: Option<Json<Grading>>,
    baseline: Option<String>,
    baseline_model_id: Option<Uuid>,
    training_file_id: Option<Uuid>,
    validation_file_id: Option<Uuid>,
    test_file_id: Option<Uuid>,
    method: String,
    hyperparameters: serde_json::Value,
    dataset: Json<DatasetOptions>,
    suffix: Option<String>,
    seed: i64,
    name_tag: String,
    metadata: Option<Json<BTreeMap<String, String>>>,
    prepared: Option<Json<Prepared>>,
    report: Option<Json<DataReport>>,
    phase: Option<String>,
    pause_requested: bool,
    step: i64,
    total_steps: i64,
    estimated_finish: Option<OffsetDateTime>,
    error: Option<Json<JobError>>,
    fine_tuned_model: Option<String>,
    result_file_id: Option<Uuid>,
    report_file_id: Option<Uuid>,
    trained_tokens: Option<i64>,
    evaluation: Option<serde_json::Value>,
    finished_at: Option<OffsetDateTime>,
    /// Of the columns of any length.
    bytes: i32,
}

impl TryFrom<Row> for Job {
    type Error = Error;

    fn try_from(row: Row) -> Result<Self> {
        let phase: Option<Phase> = row.phase.map(|word| from_json(word.into())).transpose()?;
        let phase = phase.map(|phase| if row.pause_requested { Phase::Pausing } else { phase });
        let progress = phase.map(|phase| Progress {
            phase,
            step: unsigned(row.step),
            total_steps: unsigned(row.total_steps),
            estimated_finish: row.estimated_finish,
        });
        Ok(Self {
            id: JobId(row.id),
            project: ProjectId(row.project_id),
            created_at: row.created_at,
            status: known("job status", &row.status)?,
            spec: JobSpec {
                kind: known("kind of job", &row.kind)?,
                model: row.model,
                base_model: ModelId(row.base_model_id),
                training_file: row.training_file_id.map(FileId),
                validation_file: row.validation_file_id.map(FileId),
                test_file: row.test_file_id.map(FileId),
                method: from_json(row.method.into())?,
                hyperparameters: Requested::from_stored(from_json(row.hyperparameters)?),
                dataset: row.dataset.0,
                suffix: row.suffix,
                seed: row.seed,
                metadata: row.metadata.map(|Json(metadata)| metadata),
                grading: row.grading.map(|Json(grading)| grading),
                baseline: row
                    .baseline
                    .zip(row.baseline_model_id)
                    .map(|(name, model)| Baseline { name, model: ModelId(model) }),
            },
            name_tag: row.name_tag,
            report: row.report.map(|Json(report)| report),
            prepared: row.prepared.map(|Json(prepared)| prepared),
            progress,
            error: row.error.map(|Json(error)| error),
            fine_tuned_model: row.fine_tuned_model,
            result_file: row.result_file_id.map(FileId),
            report_file: row.report_file_id.map(FileId),
            trained_tokens: row.trained_tokens.map(unsigned),
            evaluation: row.evaluation,
            finished_at: row.finished_at,
            attempts: Vec::new(),
        })
    }
}

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

/// Which jobs a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub metadata: MetadataFilter,
    pub status: Option<JobStatus>,
    /// The model that a job starts from.
    pub model: Option<String>,
}

/// Which jobs a list shows, by their metadata.
#[derive(Clone, Debug, Default)]
pub enum MetadataFilter {
    #[default]
    All,
    /// Jobs without metadata.
    None,
    /// Jobs with all of these pairs.
    Has(BTreeMap<String, String>),
}

/// The columns of a [`Row`], and where they come from.
macro_rules! select {
    ($prepared:literal, $report:literal, [$($rest:literal),*], $($argument:expr),* $(,)?) => {
        sqlx::query_as!(
            Row,
            r#"
            select j.id, j.project_id, j.kind, j.created_at, j.status, j.model, j.base_model_id, j.training_file_id,
                   j.validation_file_id, j.test_file_id, j.method, j.hyperparameters,
                   j.dataset as "dataset: Json<DatasetOptions>", j.suffix, j.seed, j.name_tag,
                   j.grading as "grading: Json<Grading>", j.baseline, j.baseline_model_id,
                   j.metadata as "metadata: Json<BTreeMap<String, String>>",
                   j.phase, j.pause_requested, j.step, j.total_steps, j.estimated_finish,
                   j.error as "error: Json<JobError>", m.name as "fine_tuned_model?", j.result_file_id,
                   j.report_file_id, j.trained_tokens, j.evaluation, j.finished_at,
                   octet_length(j.hyperparameters::text) + octet_length(j.dataset::text)
                       + coalesce(octet_length(j.grading::text), 0)
                       + coalesce(octet_length((j.prepared -> 'hyperparameters')::text), 0)
                       + coalesce(octet_length(j.evaluation::text), 0) as "bytes!",
            "# + $prepared + r#" as "prepared: Json<Prepared>", "# + $report + r#" as "report: Json<DataReport>"
            from jobs j left join models m on m.id = j.fine_tuned_model_id
            "# $(+ $rest)*,
            $($argument),*
        )
    };
}

/// A page of a list, in one order.
macro_rules! select_page {
    ($behind:literal, $order:literal, $($argument:expr),* $(,)?) => {
        select!(
            "(j.prepared - 'labels' - 'report')",
            "null::jsonb",
            [
                "where j.project_id = $1 and j.kind = $2 and ($3::uuid is null or j.id ",
                $behind,
                r#" $3)
                and (not $4 or j.metadata is null)
                and ($5::jsonb is null or j.metadata @> $5)
                and ($6::text is null or j.status = $6)
                and ($7::text is null or j.model = $7)
                order by j.id "#,
                $order,
                " limit $8"
            ],
            $($argument),*
        )
    };
}

/// One job, by what an argument may narrow.
macro_rules! select_one {
    ($prepared:literal, $($argument:expr),* $(,)?) => {
        select!(
            $prepared,
            "j.report",
            [r#"
            where j.id = $1 and ($2::uuid is null or j.project_id = $2)
              and ($3::text is null or j.kind = $3)
            "#],
            $($argument),*
        )
    };
}

/// A project's job of that kind with its attempts, without its labels: they may be megabytes, and are shown nowhere.
pub async fn find(db: &mut PgConnection, project: ProjectId, kind: JobKind, id: JobId) -> Result<Option<Job>> {
    let kind = Some(kind.as_str());
    let row = select_one!("(j.prepared - 'labels')", id.0, Some(project.0), kind).fetch_optional(&mut *db).await?;
    with_attempts(db, row.map(Job::try_from).transpose()?).await
}

/// A job of any project, for the worker that holds it.
pub async fn find_any(db: &mut PgConnection, id: JobId) -> Result<Option<Job>> {
    let (project, kind) = (None::<Uuid>, None::<&str>);
    let row = select_one!("j.prepared", id.0, project, kind).fetch_optional(&mut *db).await?;
    with_attempts(db, row.map(Job::try_from).transpose()?).await
}

async fn with_attempts(db: &mut PgConnection, job: Option<Job>) -> Result<Option<Job>> {
    let Some(mut job) = job else { return Ok(None) };
    job.attempts = attempts::of_jobs(db, &[job.id]).await?.remove(&job.id).unwrap_or_default();
    Ok(Some(job))
}

/// One page of a project's jobs of that kind with their attempts, without the reports on their files.
pub async fn list(
    db: &mut PgConnection,
    project: ProjectId,
    kind: JobKind,
    filter: &Filter,
    page: PageRequest<JobId>,
) -> Result<Page<Job>> {
    let (without, has) = match &filter.metadata {
        MetadataFilter::All => (false, None),
        MetadataFilter::None => (true, None),
        MetadataFilter::Has(pairs) => (false, Some(to_json(pairs)?)),
    };
    let (kind, after) = (kind.as_str(), page.after.map(|id| id.0));
    let (status, model) = (filter.status.map(JobStatus::as_str), filter.model.as_deref());
    let bytes = |row: &Row| i64::from(row.bytes);
    // Each order is a query of its own, since each goes along the index.
    let mut jobs = match page.order {
        Order::Ascending => {
            let rows = select_page!(">", "asc", project.0, kind, after, without, has, status, model, page.rows());
            pages::collect(rows.fetch(&mut *db), page.limit, bytes, Job::try_from).await?
        }
        Order::Descending => {
            let rows = select_page!("<", "desc", project.0, kind, after, without, has, status, model, page.rows());
            pages::collect(rows.fetch(&mut *db), page.limit, bytes, Job::try_from).await?
        }
    };
    let ids: Vec<JobId> = jobs.items.iter().map(|job| job.id).collect();
    let mut attempts = attempts::of_jobs(db, &ids).await?;
    for job in &mut jobs.items {
        job.attempts = attempts.remove(&job.id).unwrap_or_default();
    }
    Ok(jobs)
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

/// The number of jobs of each kind in each status, over all projects.
pub async fn count(db: impl PgExecutor<'_>) -> Result<Vec<(JobKind, JobStatus, u64)>> {
    let rows =
        sqlx::query!(r#"select kind, status, count(*) as "count!" from jobs group by 1, 2"#).fetch_all(db).await?;
    rows.into_iter()
        .map(|row| {
            let status = known("job status", &row.status)?;
            Ok((known("kind of job", &row.kind)?, status, unsigned(row.count)))
        })
        .collect()
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
