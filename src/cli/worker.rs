//! `finetuned worker`.

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::serve::shutdown_on_signal;
use crate::api::{self, ApiState, ConnectionLimits};
use crate::config::Config;
use crate::telemetry;
use crate::worker::{self, Identity};

/// Returns how many jobs it did not get done.
pub(super) async fn run(config: Config) -> anyhow::Result<usize> {
    let shutdown = shutdown_on_signal()?;
    let state_dir = config.state_dir.clone();
    let listener = match config.worker_metrics {
        Some(address) => Some(TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?),
        None => None,
    };
    let context = Context::open_worker(config).await?;
    if let Some(listener) = listener {
        show_metrics(&context, listener, shutdown.clone())?;
    }
    let worked = match Identity::take(&state_dir) {
        Ok(identity) => {
            worker::run(context.app.clone(), identity, shutdown).await.map_err(|error| anyhow::anyhow!(error.chain()))
        }
        Err(error) => Err(error.into()),
    };
    context.close().await;
    worked
}

/// Answers questions about health and metrics until `shutdown`.
fn show_metrics(context: &Context, listener: TcpListener, shutdown: CancellationToken) -> anyhow::Result<()> {
    tracing::info!(address = %listener.local_addr()?, "listening");
    let limits = ConnectionLimits::new(&context.app.config);
    let router = api::operations_router(ApiState::new(context.app.clone(), telemetry::init_metrics()));
    tokio::spawn(api::serve(listener, router, limits, shutdown.cancelled_owned()));
    Ok(())
}
