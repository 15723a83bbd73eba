//! Reconcilers: each looks at what is, and brings it to what should be. They take no input, may run in any number of
//! processes at once, and lose nothing when they die.

mod gauges;
pub mod orphans;
pub mod rescue;
pub mod sweep;
pub mod unattended;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::{App, validation};
use crate::db;
use crate::domain::error::Result;
use gauges::Ended;

/// How many jobs a process validates at once, each of another project: one that takes long holds nobody else's up.
const VALIDATIONS: usize = 2;

/// Runs all reconcilers until `shutdown`.
pub(super) async fn run(app: App, shutdown: CancellationToken) {
    let repeat = |name, seconds, limit| Repeat {
        name,
        pause: Duration::from_secs(seconds),
        limit: Duration::from_secs(limit),
        app: app.clone(),
        hints: app.hints.any(),
        shutdown: shutdown.clone(),
    };
    let mut tasks = JoinSet::new();
    for _ in 0..VALIDATIONS {
        let stop = shutdown.clone();
        let once = move |app: App| {
            let stop = stop.clone();
            async move { validation::run_until(&app, &stop).await }
        };
        tasks.spawn(repeat("validation", 1, 3600).run(once));
    }
    tasks.spawn(repeat("rescue", 2, 30).run(|app| async move { rescue::run_once(&app, None).await }));
    tasks.spawn(repeat("abandoned", 5, 30).run(|app| async move { rescue::end_abandoned(&app).await }));
    tasks.spawn(
        repeat("unattended", 10, 30).run(|app| async move { unattended::run_once(&app, unattended::PATIENCE).await }),
    );
    tasks.spawn(repeat("sweep", 30, 600).run(|app| async move { sweep::run_once(&app).await }));
    // No hint says anything about objects, and looking at all of them is work.
    let by_clock = Repeat { hints: watch::channel(0).1, ..repeat("orphans", 6 * 3600, 3600) };
    tasks.spawn(by_clock.run(|app| async move { orphans::run_once(&app, orphans::AGE).await }));
    let ended = Arc::<Mutex<Ended>>::default();
    let gauges = move |app: App| {
        let ended = ended.clone();
        async move { gauges::run_once(&app, &mut *ended.lock().await).await }
    };
    tasks.spawn(repeat("gauges", 5, 30).run(gauges));
    while tasks.join_next().await.is_some() {}
}

struct Repeat {
    name: &'static str,
    pause: Duration,
    /// How long it may take once.
    limit: Duration,
    app: App,
    hints: watch::Receiver<u64>,
    shutdown: CancellationToken,
}

impl Repeat {
    /// Calls `once` again and again: at once while there is more to do, else after a pause or a hint.
    async fn run<F: Future<Output = Result<bool>>>(mut self, once: impl Fn(App) -> F) {
        while !self.shutdown.is_cancelled() {
            match db::within(self.limit, once(self.app.clone())).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => tracing::warn!(reconciler = self.name, error = error.chain(), "trying again later"),
            }
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                Ok(()) = self.hints.changed() => {}
                () = tokio::time::sleep(self.pause) => {}
            }
        }
    }
}
