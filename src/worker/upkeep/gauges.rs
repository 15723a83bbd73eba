//! The gauges that show the whole service, and what is free on this machine.

use std::time::Duration;

use crate::app::App;
use crate::config::StoreLocation;
use crate::db::jobs::{self, Count};
use crate::db::workers;
use crate::disk::free_bytes;
use crate::domain::Timestamp;
use crate::domain::error::Result;
use crate::domain::job::{JobKind, JobStatus};
use crate::telemetry;

/// How long after its time an end is seen at the latest: a row shows when its transaction began, and none lasts that long.
const SETTLED: Duration = Duration::from_mins(10);

/// Jobs that ended, counted up to a time. What has ended stays so, and there may be millions: each is counted once.
#[derive(Debug)]
pub(super) struct Ended {
    counts: Vec<Count>,
    before: Timestamp,
}

impl Default for Ended {
    fn default() -> Self {
        Self { counts: Vec::new(), before: Timestamp::UNIX_EPOCH }
    }
}

/// Sets the gauges; false, for there is never more to do.
///
/// # Errors
/// The database is away.
pub(super) async fn run_once(app: &App, ended: &mut Ended) -> Result<bool> {
    let db = app.db.pool();
    let (mut counts, now) = jobs::count_open(db).await?;
    if now - SETTLED > ended.before {
        let settled = jobs::count_ended(db, ended.before, now - SETTLED).await?;
        (ended.counts, ended.before) = (sum(ended.counts.iter().copied().chain(settled)), now - SETTLED);
    }
    counts.extend(jobs::count_ended(db, ended.before, now + SETTLED).await?);
    counts.extend(&ended.counts);
    for (kind, status, count) in sum(counts) {
        let labels = [("kind", kind.as_str()), ("status", status.as_str())];
        metrics::gauge!(telemetry::JOBS, &labels).set(count as f64);
    }
    let waits = jobs::longest_waits(db).await?;
    for status in [JobStatus::ValidatingFiles, JobStatus::Queued] {
        let seconds = waits.iter().find(|(waiting, _)| *waiting == status).map_or(0.0, |(_, seconds)| *seconds);
        metrics::gauge!(telemetry::LONGEST_WAIT, "status" => status.as_str()).set(seconds);
    }
    metrics::gauge!(telemetry::WORKERS).set(workers::machines(db).await?.len() as f64);
    let config = &app.config;
    let store = if let StoreLocation::Folder(folder) = &config.store { Some(folder) } else { None };
    for (place, path) in [("state", Some(&config.state_dir)), ("store", store), ("runs", Some(&config.runs_dir))] {
        if let Some(bytes) = path.and_then(|path| free_bytes(path)) {
            metrics::gauge!(telemetry::DISK_FREE, "place" => place).set(bytes as f64);
        }
    }
    Ok(false)
}

/// A count for each kind and status.
fn sum(counts: impl IntoIterator<Item = Count>) -> Vec<Count> {
    let all = JobKind::ALL.into_iter().flat_map(|kind| JobStatus::ALL.map(|status| (kind, status, 0)));
    let mut sums: Vec<Count> = all.collect();
    for (kind, status, count) in counts {
        for sum in sums.iter_mut().filter(|sum| (sum.0, sum.1) == (kind, status)) {
            sum.2 += count;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::sum;
    use crate::domain::job::{JobKind, JobStatus};

    #[test]
    fn counts_of_one_kind_and_status_add_up_and_the_others_are_none() {
        let failed = (JobKind::Training, JobStatus::Failed);
        let sums = sum([(failed.0, failed.1, 2), (failed.0, failed.1, 3), (JobKind::Evaluation, failed.1, 1)]);
        assert_eq!(sums.len(), JobKind::ALL.len() * JobStatus::ALL.len());
        let count = |kind, status| sums.iter().find(|sum| (sum.0, sum.1) == (kind, status)).unwrap().2;
        assert_eq!(count(failed.0, failed.1), 5);
        assert_eq!(count(JobKind::Evaluation, JobStatus::Failed), 1);
        assert_eq!(count(JobKind::Training, JobStatus::Succeeded), 0);
    }
}
