//! `finetuned serve`.

use std::fs;
use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::context::Context;
use crate::api::{self, ApiState, ConnectionLimits};
use crate::app::App;
use crate::app::keys::{self, DEFAULT_PROJECT};
use crate::app::serving;
use crate::config::Config;
use crate::domain::project::ApiKey;
use crate::{telemetry, worker};

/// How long open requests may take once the service stops.
const REQUEST_GRACE: Duration = Duration::from_secs(10);

/// Returns how many jobs its worker did not get done.
pub(super) async fn run(config: Config, with_worker: bool) -> anyhow::Result<usize> {
    let shutdown = shutdown_on_signal()?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let identity = || worker::Identity::take(&config.state_dir);
    let mut context = Context::open_service(config.clone()).await?;
    let (app, is_private) = (context.app.clone(), context.is_private());
    let work = async { serve(app, is_private, listener, with_worker.then(identity).transpose()?, shutdown).await };
    let served = Box::pin(context.during(work)).await;
    context.close().await;
    served
}

async fn serve(
    app: App,
    is_private: bool,
    listener: TcpListener,
    identity: Option<worker::Identity>,
    shutdown: CancellationToken,
) -> anyhow::Result<usize> {
    clear_scratch(&app);
    serving::clear(&app);
    let prometheus = telemetry::init_metrics();
    if is_private {
        make_bootstrap_key(&app).await?;
    }
    greet(&app, listener.local_addr()?).await?;
    let worker = tokio::spawn(Box::pin(work(app.clone(), identity, shutdown.clone())));
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
    Ok(worker.await?)
}

/// Runs jobs, or without an identity does what is to be done for those that other workers run. Returns how many jobs it
/// did not get done.
async fn work(app: App, identity: Option<worker::Identity>, shutdown: CancellationToken) -> usize {
    let Some(identity) = identity else {
        worker::keep_up(app, shutdown).await;
        return 0;
    };
    worker::run(app, identity, shutdown).await.unwrap_or_else(|error| {
        tracing::error!(error = error.chain(), "the worker ended");
        0
    })
}

/// Cancelled by the first SIGINT, SIGTERM or SIGHUP; a second SIGINT or SIGTERM ends the process at once. SIGHUP does not:
/// a terminal that closes sends several. Where SIGHUP is ignored, as under `nohup`, it stays so.
pub(super) fn shutdown_on_signal() -> anyhow::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut hangup = if ignores_hangup(&status) { None } else { Some(signal(SignalKind::hangup())?) };
    let cancelled = token.clone();
    tokio::spawn(async move {
        loop {
            let is_hangup = tokio::select! {
                _ = interrupt.recv() => false,
                _ = terminate.recv() => false,
                () = hung_up(&mut hangup) => true,
            };
            if cancelled.is_cancelled() {
                if is_hangup {
                    continue;
                }
                telemetry::flush_logs();
                std::process::exit(130);
            }
            tracing::info!("stopping: running jobs save a checkpoint first; once more to stop at once");
            cancelled.cancel();
        }
    });
    Ok(token)
}

/// Waits for the next SIGHUP, or for ever.
async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => {
            hangup.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether a process with this status ignores SIGHUP, which is signal 1 (`proc_pid_status(5)`, `SigIgn`).
fn ignores_hangup(status: &str) -> bool {
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

/// Uploads that an earlier service did not finish.
fn clear_scratch(app: &App) {
    for entry in fs::read_dir(app.scratch()).into_iter().flatten().flatten() {
        let _ = fs::remove_file(entry.path());
    }
}

/// Makes the key that a service with a private database starts with. It is kept in a file that only its owner can read,
/// so that the next start can show it again; without the file it is not shown.
async fn make_bootstrap_key(app: &App) -> anyhow::Result<()> {
    keys::forget_bootstrap(app).await;
    if known_keys(app).await?.is_empty() {
        let path = keys::bootstrap_file(app);
        let (_, secret) =
            keys::create(app, DEFAULT_PROJECT, "bootstrap").await.map_err(|error| anyhow::anyhow!(error.chain()))?;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all(secret.expose().as_bytes())?;
        file.sync_all()?;
    }
    Ok(())
}

async fn known_keys(app: &App) -> anyhow::Result<Vec<ApiKey>> {
    keys::list(app).await.map_err(|error| anyhow::anyhow!(error.chain()))
}

/// Says where the service is and how to get in: on standard output what to paste into a shell, in the log the same for
/// whoever finds only that. The key itself is for a terminal alone.
async fn greet(app: &App, address: SocketAddr) -> anyhow::Result<()> {
    let path = keys::bootstrap_file(app);
    let key = fs::read_to_string(&path).ok();
    tracing::info!(%address, "listening");
    if key.is_some() {
        tracing::info!(key_file = %path.display(), "the first API key is in a file that its owner alone can read");
    } else if known_keys(app).await?.iter().all(|key| key.revoked_at.is_some()) {
        tracing::warn!("there is no API key; make one with 'finetuned keys create NAME'");
    }
    let mut out = std::io::stdout();
    let key = match key {
        Some(key) if out.is_terminal() => format!("export OPENAI_API_KEY={key}\n"),
        Some(_) => {
            format!("export OPENAI_API_KEY=\"$(cat '{}')\"\n", path.display().to_string().replace('\'', r"'\''"))
        }
        None if out.is_terminal() => "export OPENAI_API_KEY=…  # finetuned keys create NAME\n".to_owned(),
        None => String::new(),
    };
    // A service goes on even if nobody listens to its greeting.
    let _ = out.write_all(format!("export OPENAI_BASE_URL=http://{address}/v1\n{key}").as_bytes());
    let _ = out.flush();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::ignores_hangup;

    #[test]
    fn a_process_under_nohup_is_told_from_others() {
        let status = |mask: &str| format!("Name:\tfinetuned\nSigBlk:\t0000000000000001\nSigIgn:\t{mask}\n");
        assert!(ignores_hangup(&status("0000000000001001")));
        assert!(!ignores_hangup(&status("0000000000001000")));
        assert!(!ignores_hangup(""));
    }
}
