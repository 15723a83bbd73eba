//! The one place where a job gets another status: checked against where it stands, told by an event, and announced to other
//! processes, in the caller's transaction.

use std::time::Duration;

use sqlx::PgConnection;
use sqlx::postgres::types::PgInterval;
use uuid::Uuid;

use super::hints::hint;
use super::{events, interval, known, signed, storable_json, to_json};
use crate::domain::error::{Error, Result};
use crate::domain::event::{EventKind, NewEvent};
use crate::domain::id::JobId;
use crate::domain::job::{JobKind, JobStatus, Move, Moved, Phase, Step};

/// What became of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// The job made it.
    Moved(Moved),
    /// Nothing had to be done.
    Already(JobStatus),
    /// Nothing leads there from this status.
    Impossible(JobStatus),
    /// There is no such job.
    Gone,
}

/// Makes a job move, and records the event. Whoever asks has a right to it: has locked the job as the holder of its lease or
/// of its validation, or is its owner.
pub async fn apply(db: &mut PgConnection, job: JobId, made: &Move<'_>) -> Result<Applied> {
    let Some(stands) = lock(db, job).await? else { return Ok(Applied::Gone) };
    let step = made.from(stands.status, stands.pausing);
    let (status, attempt) = match step {
        Step::Already => return Ok(Applied::Already(stands.status)),
        Step::Impossible => return Ok(Applied::Impossible(stands.status)),
        Step::Ask { pause } => {
            ask(db, job, pause).await?;
            (stands.status, stands.attempt)
        }
        Step::To(status) => (status, set(db, job, status, made).await?),
    };
    events::insert(&mut *db, job, &[made.event(stands.kind, step, attempt)]).await?;
    hint(&mut *db, Some(job)).await?;
    Ok(Applied::Moved(Moved { job, kind: stands.kind, status, attempt, word: made.word(step) }))
}

/// The same for whoever knows where the job stands.
///
/// # Errors
/// It does not stand where the move can be made.
pub async fn make(db: &mut PgConnection, job: JobId, made: &Move<'_>) -> Result<Moved> {
    match apply(db, job, made).await? {
        Applied::Moved(moved) => Ok(moved),
        other => Err(Error::internal(format!("a job does not stand where it was thought to: {other:?}"))),
    }
}

/// Records that a job was inserted, with the events that say so: the first of them is that of its first status.
pub async fn created(db: &mut PgConnection, job: JobId, kind: JobKind, mut told: Vec<NewEvent>) -> Result<Moved> {
    let status = JobStatus::ValidatingFiles;
    if let Some(first) = told.first_mut() {
        first.kind = EventKind::Moved(status);
    }
    events::insert(&mut *db, job, &told).await?;
    hint(&mut *db, Some(job)).await?;
    Ok(Moved { job, kind, status, attempt: 0, word: "created" })
}

struct Stands {
    status: JobStatus,
    kind: JobKind,
    pausing: bool,
    attempt: u32,
}

/// Where the job stands, locked until the transaction ends.
async fn lock(db: &mut PgConnection, job: JobId) -> Result<Option<Stands>> {
    let row =
        sqlx::query!("select status, kind, pause_requested, attempt from jobs where id = $1 for no key update", job.0)
            .fetch_optional(db)
            .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Stands {
        status: known("job status", &row.status)?,
        kind: known("kind of job", &row.kind)?,
        pausing: row.pause_requested,
        attempt: row.attempt.unsigned_abs(),
    }))
}

async fn ask(db: &mut PgConnection, job: JobId, pause: bool) -> Result<()> {
    sqlx::query!("update jobs set pause_requested = $2 where id = $1", job.0, pause).execute(db).await?;
    Ok(())
}

/// What a move writes besides the status; what is None of the first group stays as it is.
#[derive(Default)]
struct Columns {
    run_after: Option<PgInterval>,
    prepared: Option<serde_json::Value>,
    needed_memory: Option<i64>,
    needed_disk: Option<i64>,
    report: Option<serde_json::Value>,

    error: Option<serde_json::Value>,
    model: Option<Uuid>,
    result_file: Option<Uuid>,
    report_file: Option<Uuid>,
    trained_tokens: Option<i64>,
    evaluation: Option<serde_json::Value>,

    worker: Option<Uuid>,
    token: Option<Uuid>,
    lease: Option<PgInterval>,
}

impl Columns {
    fn of(made: &Move<'_>) -> Result<Self> {
        let again = |delay| Self { run_after: Some(interval(delay)), ..Self::default() };
        Ok(match made {
            Move::Queue(prepared) => {
                let estimate = prepared.estimate.as_ref();
                Self {
                    prepared: Some(to_json(prepared)?),
                    needed_memory: estimate.and_then(|estimate| estimate.peak_memory_bytes).map(signed),
                    needed_disk: estimate.map(|estimate| signed(estimate.disk_bytes)),
                    ..again(Duration::ZERO)
                }
            }
            Move::Refuse { error, report } => {
                Self { error: Some(to_json(error)?), report: report.map(to_json).transpose()?, ..Self::default() }
            }
            Move::Start(grant) => Self {
                worker: Some(grant.worker.0),
                token: Some(grant.token.0),
                lease: Some(interval(grant.lease)),
                ..Self::default()
            },
            Move::PutBack { delay, .. } => again(*delay),
            Move::Resume => again(Duration::ZERO),
            Move::Succeed(success) => Self {
                model: success.model.map(|id| id.0),
                result_file: Some(success.result_file.0),
                report_file: success.report_file.map(|id| id.0),
                trained_tokens: Some(signed(success.trained_tokens)),
                evaluation: Some(storable_json(success.evaluation.clone())),
                ..Self::default()
            },
            Move::Fail(error) => Self { error: Some(to_json(error)?), ..Self::default() },
            Move::Cancel | Move::Pause => Self::default(),
        })
    }
}

/// Gives the job its status, with everything that belongs to that and nothing of the one before. Returns the number of its
/// latest attempt.
async fn set(db: &mut PgConnection, job: JobId, status: JobStatus, made: &Move<'_>) -> Result<u32> {
    let columns = Columns::of(made)?;
    let starts = status == JobStatus::Running;
    let row = sqlx::query!(
        r#"
        update jobs
        set status = $2,
            finished_at = case when $3 then now() end,
            run_after = coalesce(now() + $4, run_after),
            prepared = coalesce($5, prepared),
            needed_memory = coalesce($6, needed_memory), needed_disk = coalesce($7, needed_disk),
            report = coalesce($8, report),
            error = $9, fine_tuned_model_id = $10, result_file_id = $11, report_file_id = $12, trained_tokens = $13,
            evaluation = $14,
            worker_id = $15, lease_token = $16, lease_until = clock_timestamp() + $17,
            attempt = attempt + case when $18 then 1 else 0 end,
            step = case when $18 then 0 else step end, total_steps = case when $18 then 0 else total_steps end,
            phase = case when $18 then $19 end, estimated_finish = null,
            pause_requested = false, validation_token = null
        where id = $1
        returning attempt
        "#,
        job.0,
        status.as_str(),
        status.is_terminal(),
        columns.run_after,
        columns.prepared,
        columns.needed_memory,
        columns.needed_disk,
        columns.report,
        columns.error,
        columns.model,
        columns.result_file,
        columns.report_file,
        columns.trained_tokens,
        columns.evaluation,
        columns.worker,
        columns.token,
        columns.lease,
        starts,
        Phase::Loading.as_str()
    )
    .fetch_one(db)
    .await?;
    Ok(row.attempt.unsigned_abs())
}
