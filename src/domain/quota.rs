//! What a project may have at once, so that none takes what all need.

use super::error::{Error, ErrorKind, Result};

/// A kind of thing that is limited for each project.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quota {
    /// Bytes of files and models.
    StoredBytes,
    Files,
    /// Jobs and evaluations that have not started: being validated, queued or paused.
    QueuedJobs,
    RunningJobs,
    /// Evaluations that have not ended.
    Evaluations,
    /// Dry runs that one process of the service makes.
    DryRuns,
}

impl Quota {
    pub const ALL: [Self; 6] =
        [Self::StoredBytes, Self::Files, Self::QueuedJobs, Self::RunningJobs, Self::Evaluations, Self::DryRuns];

    /// What errors and the command line call it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StoredBytes => "stored_bytes",
            Self::Files => "files",
            Self::QueuedJobs => "queued_jobs",
            Self::RunningJobs => "running_jobs",
            Self::Evaluations => "evaluations",
            Self::DryRuns => "dry_runs",
        }
    }

    /// What is counted, and what makes room, for people.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::StoredBytes => ("stored bytes", "Delete files or models to make room."),
            Self::Files => ("files", "Delete files to make room."),
            Self::QueuedJobs => ("jobs that wait", "Create more when some of them have started, or cancel some."),
            Self::RunningJobs => ("running jobs", "More start when these have ended."),
            Self::Evaluations => ("evaluations at once", "Try again when one of them has ended."),
            Self::DryRuns => ("dry runs at once", "Try again when one of them has ended."),
        }
    }

    /// Whether there is room again before long, without anybody's doing.
    fn passes_by_itself(self) -> bool {
        matches!(self, Self::Evaluations | Self::DryRuns)
    }
}

/// A value for each quota: the limits in force, what is used, or (`Option<u64>`) what is set for one project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quotas<T = u64> {
    pub stored_bytes: T,
    pub files: T,
    pub queued_jobs: T,
    pub running_jobs: T,
    pub evaluations: T,
    pub dry_runs: T,
}

impl<T: Copy> Quotas<T> {
    pub fn get(&self, quota: Quota) -> T {
        match quota {
            Quota::StoredBytes => self.stored_bytes,
            Quota::Files => self.files,
            Quota::QueuedJobs => self.queued_jobs,
            Quota::RunningJobs => self.running_jobs,
            Quota::Evaluations => self.evaluations,
            Quota::DryRuns => self.dry_runs,
        }
    }

    /// Another value for each.
    pub fn map<U>(self, mut change: impl FnMut(Quota, T) -> U) -> Quotas<U> {
        Quotas {
            stored_bytes: change(Quota::StoredBytes, self.stored_bytes),
            files: change(Quota::Files, self.files),
            queued_jobs: change(Quota::QueuedJobs, self.queued_jobs),
            running_jobs: change(Quota::RunningJobs, self.running_jobs),
            evaluations: change(Quota::Evaluations, self.evaluations),
            dry_runs: change(Quota::DryRuns, self.dry_runs),
        }
    }
}

impl Quotas<Option<u64>> {
    /// The limits in force: the project's own, else those for every project.
    pub fn or(self, general: &Quotas) -> Quotas {
        self.map(|quota, own| own.unwrap_or_else(|| general.get(quota)))
    }
}

impl Quotas {
    /// Whether `more` may be added where there are `held`; a limit of 0 is none.
    ///
    /// # Errors
    /// They may not: `QuotaExceeded`, or `TooManyAtOnce` where waiting a little helps.
    pub fn check(&self, quota: Quota, held: u64, more: u64) -> Result<()> {
        let limit = self.get(quota);
        if limit == 0 || held.saturating_add(more) <= limit {
            return Ok(());
        }
        let (what, remedy) = quota.words();
        let message = format!(
            "The project's quota of {what} is used up: {held} of {limit}, and {more} more do not fit. {remedy}"
        );
        let (kind, code) = if quota.passes_by_itself() {
            (ErrorKind::TooManyAtOnce, "too_many_at_once")
        } else {
            (ErrorKind::QuotaExceeded, "quota_exceeded")
        };
        Err(Error::new(kind, message).param(quota.as_str()).code(code))
    }
}

#[cfg(test)]
mod tests {
    use super::{Quota, Quotas};
    use crate::domain::error::ErrorKind;

    #[test]
    fn a_project_has_its_own_limits_or_everyones() {
        let general = Quotas { files: 3, dry_runs: 1, ..Quotas::default() };
        let own = Quotas { files: Some(5), ..Quotas::default() }.or(&general);
        assert_eq!((own.files, own.dry_runs, own.stored_bytes), (5, 1, 0));
        assert!(own.check(Quota::Files, 4, 1).is_ok() && own.check(Quota::StoredBytes, u64::MAX, 1).is_ok());
        let error = own.check(Quota::Files, 5, 1).unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::QuotaExceeded, Some("files")));
        assert!(error.message.contains("5 of 5"), "{}", error.message);
        assert_eq!(own.check(Quota::DryRuns, 1, 1).unwrap_err().kind, ErrorKind::TooManyAtOnce);
    }

    #[test]
    fn every_quota_has_a_place_of_its_own() {
        let mut count = 0;
        let numbered = Quotas::<u64>::default().map(|_, _| {
            count += 1;
            count
        });
        let values: Vec<u64> = Quota::ALL.iter().map(|quota| numbered.get(*quota)).collect();
        assert_eq!(values, [1, 2, 3, 4, 5, 6]);
    }
}
