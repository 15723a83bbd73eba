//! Checkpoints of a job.

use super::{App, jobs};
use crate::db::checkpoints;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::error::Result;
use crate::domain::id::{CheckpointId, ProjectId};
use crate::domain::job::JobKind;
use crate::domain::page::{Page, PageRequest};

/// One page of a job's checkpoints.
///
/// # Errors
/// The project has no such job.
pub async fn list(
    app: &App,
    project: ProjectId,
    job: &str,
    page: PageRequest<CheckpointId>,
) -> Result<Page<Checkpoint>> {
    let job = jobs::require(app, project, JobKind::Training, job).await?;
    checkpoints::list(app.db.pool(), job, page).await
}
