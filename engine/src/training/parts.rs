//! The loop's own clock: which part of it is under way.

use std::time::Instant;

use crate::observer::{Observer, Part};

/// Tells an observer of parts as they end. It measures the host: what a GPU computes meanwhile is not waited for.
pub(super) struct Parts<'a> {
    observer: &'a dyn Observer,
    part: Part,
    since: Instant,
}

impl<'a> Parts<'a> {
    /// The first part begins.
    pub(super) fn new(observer: &'a dyn Observer) -> Self {
        Self { observer, part: Part::Between, since: Instant::now() }
    }

    /// Another part begins.
    pub(super) fn enter(&mut self, part: Part) {
        let now = Instant::now();
        self.observer.spent(self.part, now - self.since);
        (self.part, self.since) = (part, now);
    }
}
