//! `finetuned serve`.

use std::fs;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::api::{self, ApiState, ConnectionLimits};
use crate::app::App;
use crate::app::keys::{self, DEFAULT_PROJECT};
use crate::app::serving;
use crate::config::Config;
use crate::{telemetry, worker};

/// How long open requests may take once the service stops.
const REQUEST_GRACE: Duration = Duration::from_secs(10);

pub(super) async fn run(config: Config, with_worker: bool) -> anyhow::Result<()> {
    let shutdown = shutdown_on_signal()?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let identity = || worker::Identity::take(&config.state_dir);
    let mut context = Context::open_service(config.clone()).await?;
    let (app, is_private) = (context.app.clone(), context.is_private());
    let work = async { serve(app, is_private, listener, with_worker.then(identity).transpose()?, shutdown).await };
    let served = context.during(work).await;
    context.close().await;
    served
}

async fn serve(
    app: App,
    is_private: bool,
    listener: TcpListener,
    identity: Option<worker::Identity>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    clear_scratch(&app);
    serving::clear(&app);
    let prometheus = telemetry::init_metrics();
    let key = if is_private { bootstrap_key(&app).await? } else { None };
    greet(&listener, key.as_deref())?;
    let worker = identity.map(|identity| {
        let (app, shutdown) = (app.clone(), shutdown.clone());
        tokio::spawn(async move {
            if let Err(error) = worker::run(app, identity, shutdown).await {
                tracing::error!(error = error.chain(), "the worker ended");
            }
        })
    });
    let router = api::router(ApiState::new(app.clone(), prometheus));
    let stopping = shutdown.clone();
    let limits = ConnectionLimits::new(&app.config);
    let server = api::serve(listener, router, limits, async move { stopping.cancelled().await });
    let late = async {
        shutdown.cancelled().await;
        tokio::time::sleep(REQUEST_GRACE).await;
    };
    tokio::select! {
        () = server => {}
        () = late => tracing::warn!("requests were still open and were cut off"),
    }
    app.serving.close().await;
    if let Some(worker) = worker {
        worker.await?;
    }
    Ok(())
}

/// Cancelled by the first SIGINT or SIGTERM; the second ends the process at once.
pub(super) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let cancelled = token.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if cancelled.is_cancelled() {
                std::process::exit(130);
            }
            tracing::info!("stopping: running jobs save a checkpoint first; once more to stop at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}

/// Uploads that an earlier service did not finish.
fn clear_scratch(app: &App) {
    for entry in fs::read_dir(app.scratch()).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

fn bootstrap_file(app: &App) -> PathBuf {
    app.config.state_dir.join("bootstrap-key")
}

/// The key that a service with a private database starts with. It is kept in a file that only its owner can read, so
/// that the next start can show it again; without the file it is not shown.
async fn bootstrap_key(app: &App) -> anyhow::Result<Option<String>> {
    let path = bootstrap_file(app);
    let known = keys::list(app).await.map_err(|error| anyhow::anyhow!(error.chain()))?;
    if known.is_empty() {
        let (_, secret) =
            keys::create(app, DEFAULT_PROJECT, "bootstrap").await.map_err(|error| anyhow::anyhow!(error.chain()))?;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(secret.expose().as_bytes())?;
        file.sync_all()?;
    }
    Ok(fs::read_to_string(&path).ok())
}

/// Prints what to paste to use the service. The key is for the terminal alone, not for logs.
fn greet(listener: &TcpListener, key: Option<&str>) -> anyhow::Result<()> {
    let address = listener.local_addr()?;
    let mut out = std::io::stdout();
    writeln!(out, "export OPENAI_BASE_URL=http://{address}/v1")?;
    match key {
        Some(key) if out.is_terminal() => writeln!(out, "export OPENAI_API_KEY={key}")?,
        _ if out.is_terminal() => writeln!(out, "export OPENAI_API_KEY=…  # finetuned keys create")?,
        _ => {}
    }
    out.flush()?;
    Ok(())
}
