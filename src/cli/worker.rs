//! `finetuned worker`.

use super::context::Context;
use super::serve::shutdown_on_signal;
use crate::config::Config;
use crate::worker::{self, Identity};

/// Returns how many jobs it did not get done.
pub(super) async fn run(config: Config) -> anyhow::Result<usize> {
    let shutdown = shutdown_on_signal()?;
    let state_dir = config.state_dir.clone();
    let context = Context::open_worker(config).await?;
    let worked = match Identity::take(&state_dir) {
        Ok(identity) => {
            worker::run(context.app.clone(), identity, shutdown).await.map_err(|error| anyhow::anyhow!(error.chain()))
        }
        Err(error) => Err(error.into()),
    };
    context.close().await;
    worked
}
