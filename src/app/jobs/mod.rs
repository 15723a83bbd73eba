//! Jobs: creating, reading, and the moves their owners make.

mod create;
mod evaluation;
mod moved;
mod moves;
mod request;

pub use create::{CreateJob, DryRun, create, dry_run};
pub(in crate::app) use evaluation::read_report;
pub use evaluation::{Evaluation, Part, evaluation};
pub use moved::{Move, told};
pub(in crate::app) use moves::cancel_any;
pub use moves::{cancel, pause, resume};
pub use request::RequestIdentity;
pub(in crate::app) use request::{check_metadata, data_file, find_repeated, insert, seed_or_random};

use super::App;
use crate::db::jobs::{self, Filter};
use crate::db::{events, metrics};
use crate::domain::checkpoint::MetricRow;
use crate::domain::clip::clipped;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::event::Event;
use crate::domain::id::{EventId, JobId, ProjectId};
use crate::domain::job::{Job, JobKind};
use crate::domain::page::{Page, PageRequest};

/// A project's job.
///
/// # Errors
/// There is none of that id.
pub async fn get(app: &App, project: ProjectId, id: &str) -> Result<Job> {
    let parsed = id.parse().map_err(|_| not_found(id))?;
    let mut connection = app.db.connection().await?;
    jobs::find(&mut connection, project, JobKind::Training, parsed).await?.ok_or_else(|| not_found(id))
}

/// No such fine-tuning job.
pub fn not_found(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("Could not find fine tune: {}", clipped(id)))
        .param("fine_tune_id")
        .code("fine_tune_not_found")
}

/// The id of a project's job.
///
/// # Errors
/// There is none of that id.
pub async fn require(app: &App, project: ProjectId, id: &str) -> Result<JobId> {
    let parsed = id.parse().map_err(|_| not_found(id))?;
    if jobs::exists(app.db.pool(), project, JobKind::Training, parsed).await? { Ok(parsed) } else { Err(not_found(id)) }
}

/// One page of a project's jobs, without the reports on their files.
pub async fn list(app: &App, project: ProjectId, filter: &Filter, page: PageRequest<JobId>) -> Result<Page<Job>> {
    let mut connection = app.db.connection().await?;
    jobs::list(&mut connection, project, JobKind::Training, filter, page).await
}

/// One page of a job's events.
///
/// # Errors
/// The project has no such job.
pub async fn list_events(app: &App, project: ProjectId, id: &str, page: PageRequest<EventId>) -> Result<Page<Event>> {
    let job = require(app, project, id).await?;
    events::list(app.db.pool(), job, page).await
}

/// One page of a job's metrics by step.
///
/// # Errors
/// The project has no such job.
pub async fn list_metrics(app: &App, project: ProjectId, id: &str, page: PageRequest<u64>) -> Result<Page<MetricRow>> {
    let job = require(app, project, id).await?;
    metrics::list(app.db.pool(), job, page).await
}
