//! Jobs of all kinds: creating, reading, and the moves their owners make.

mod create;
mod evaluation;
mod example_table;
mod examples;
mod moved;
mod moves;
mod preview;
mod request;

pub use create::{CreateJob, DryRun, create, dry_run};
pub(in crate::app) use evaluation::read_report;
pub use evaluation::{Evaluations, Report, evaluation};
pub use examples::{Example, ExamplesRequest, Target, examples};
pub use moved::told;
pub use moves::{cancel, pause, resume};
pub use preview::{JobPreview, preview};
pub use request::RequestIdentity;
pub(in crate::app) use request::{check_metadata, data_file, find_repeated, insert, seed_or_random};

use std::collections::HashMap;

use super::App;
use crate::db::job_pages::{self, Filter};
use crate::db::jobs::JobKey;
use crate::db::{events, jobs, metrics};
use crate::domain::checkpoint::MetricRow;
use crate::domain::error::Result;
use crate::domain::event::Event;
use crate::domain::id::{EventId, JobId, ProjectId};
use crate::domain::job::{Job, JobKind};
use crate::domain::page::{Page, PageRequest};

/// A project's job.
///
/// # Errors
/// There is none of that id.
pub async fn get(app: &App, project: ProjectId, kind: JobKind, id: &str) -> Result<Job> {
    let mut connection = app.db.connection().await?;
    jobs::find(&mut connection, project, kind, kind.job(id)?).await?.ok_or_else(|| kind.not_found(id))
}

/// Those of these jobs that there are.
pub async fn get_all(app: &App, keys: &[JobKey]) -> Result<HashMap<JobKey, Job>> {
    jobs::find_all(&mut *app.db.connection().await?, keys).await
}

/// The id of a project's job.
///
/// # Errors
/// There is none of that id.
pub async fn require(app: &App, project: ProjectId, kind: JobKind, id: &str) -> Result<JobId> {
    let job = kind.job(id)?;
    if jobs::exists(app.db.pool(), project, kind, job).await? { Ok(job) } else { Err(kind.not_found(id)) }
}

/// One page of a project's jobs of that kind, without the reports on their files.
pub async fn list(
    app: &App,
    project: ProjectId,
    kind: JobKind,
    filter: &Filter,
    page: PageRequest<JobId>,
) -> Result<Page<Job>> {
    let mut connection = app.db.connection().await?;
    job_pages::list(&mut connection, project, kind, filter, page).await
}

/// One page of a job's events.
///
/// # Errors
/// The project has no such job.
pub async fn list_events(
    app: &App,
    project: ProjectId,
    kind: JobKind,
    id: &str,
    page: PageRequest<EventId>,
) -> Result<Page<Event>> {
    let job = require(app, project, kind, id).await?;
    events::list(app.db.pool(), job, page).await
}

/// One page of a job's metrics by step.
///
/// # Errors
/// The project has no such job.
pub async fn list_metrics(app: &App, project: ProjectId, id: &str, page: PageRequest<u64>) -> Result<Page<MetricRow>> {
    let job = require(app, project, JobKind::Training, id).await?;
    metrics::list(app.db.pool(), job, page).await
}
