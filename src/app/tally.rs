//! What this process does for each project at the moment, counted.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::error::Error;
use crate::domain::id::ProjectId;

/// A sum for each project that has something under way.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Mutex<HashMap<ProjectId, u64>>>);

/// A part of the sum, until it is dropped.
#[derive(Debug)]
pub struct Share {
    tally: Tally,
    project: ProjectId,
    amount: u64,
}

impl Tally {
    fn sums(&self) -> MutexGuard<'_, HashMap<ProjectId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The sum of a project.
    pub fn of(&self, project: ProjectId) -> u64 {
        self.sums().get(&project).copied().unwrap_or(0)
    }

    /// A share of a project that is nothing yet.
    pub fn share(&self, project: ProjectId) -> Share {
        Share { tally: self.clone(), project, amount: 0 }
    }
}

impl Share {
    /// How much it is.
    pub fn amount(&self) -> u64 {
        self.amount
    }

    /// Adds `more` to it if `allowed` says so of the project's sum without that.
    ///
    /// # Errors
    /// Those of `allowed`.
    pub fn grow(&mut self, more: u64, allowed: impl FnOnce(u64) -> Result<(), Error>) -> Result<(), Error> {
        let mut sums = self.tally.sums();
        allowed(sums.get(&self.project).copied().unwrap_or(0))?;
        *sums.entry(self.project).or_default() += more;
        self.amount += more;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut sums = self.tally.sums();
        if let Some(sum) = sums.get_mut(&self.project) {
            *sum = sum.saturating_sub(self.amount);
            if *sum == 0 {
                sums.remove(&self.project);
            }
        }
    }
}

/// Places for something that is done for a few requests of a project at a time; others wait, other projects' do not.
#[derive(Clone)]
pub struct Places {
    each: usize,
    projects: Arc<Mutex<HashMap<ProjectId, Weak<Semaphore>>>>,
}

impl Places {
    /// So many for each project.
    pub fn new(each: usize) -> Self {
        Self { each, projects: Arc::default() }
    }

    /// Waits for one, which is free again when the permit is dropped.
    ///
    /// # Errors
    /// Never: a project's places are not closed.
    pub async fn enter(&self, project: ProjectId) -> Result<OwnedSemaphorePermit, Error> {
        let places = {
            let mut projects = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
            let found = projects.get(&project).and_then(Weak::upgrade);
            found.unwrap_or_else(|| {
                projects.retain(|_, places| places.strong_count() > 0);
                let places = Arc::new(Semaphore::new(self.each));
                projects.insert(project, Arc::downgrade(&places));
                places
            })
        };
        places.acquire_owned().await.map_err(Error::internal)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::{Places, Tally};
    use crate::domain::error::Error;
    use crate::domain::id::ProjectId;

    #[test]
    fn a_share_counts_until_it_is_dropped() {
        let (tally, one, other) = (Tally::default(), ProjectId::new(), ProjectId::new());
        let at_most = |most| move |sum| if sum < most { Ok(()) } else { Err(Error::unavailable("full")) };
        let (mut first, mut second) = (tally.share(one), tally.share(other));
        first.grow(2, at_most(3)).unwrap();
        first.grow(3, at_most(3)).unwrap();
        assert!(first.grow(1, at_most(3)).is_err() && tally.share(one).grow(1, at_most(3)).is_err());
        second.grow(1, at_most(3)).unwrap();
        assert_eq!((tally.of(one), tally.of(other)), (5, 1));
        drop(first);
        assert_eq!((tally.of(one), tally.of(other)), (0, 1));
    }

    #[tokio::test]
    async fn a_project_waits_for_its_own_places_alone() {
        let (places, one, other) = (Places::new(2), ProjectId::new(), ProjectId::new());
        let held = [places.enter(one).await.unwrap(), places.enter(one).await.unwrap()];
        assert!(places.enter(one).now_or_never().is_none());
        assert!(places.enter(other).now_or_never().is_some());
        drop(held);
        assert!(places.enter(one).now_or_never().is_some());
    }
}
