//! The server as a process: starting it, finding the one that runs, stopping it.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sqlx::{Connection, PgConnection};

use super::system::Owner;
use super::{EmbeddedError, io_error};

/// How long the server may take to accept connections: recovery after a crash reads its log first.
const START: Duration = Duration::from_mins(1);
/// How long it may take to stop before it is told to drop everything, and then before it is killed.
const STOP: Duration = Duration::from_secs(20);
/// How long one connection may take. A server that hangs is connected to by the kernel, and never says a word.
const CONNECT: Duration = Duration::from_secs(5);

/// How long to wait before trying again.
const AGAIN: Duration = Duration::from_millis(200);
/// What the server says where parts of an earlier one are left: its process, dead but not yet noticed by whoever inherited
/// it, or its last backends.
const LEFT_OVER: [&str; 2] = ["\"postmaster.pid\" already exists", "shared memory block"];

/// How the server is started.
pub(super) struct Program {
    pub(super) owner: Owner,
    pub(super) binaries: PathBuf,
    pub(super) data: PathBuf,
    pub(super) socket: PathBuf,
    pub(super) log: PathBuf,
}

/// The server, as it was come by.
pub(super) enum Process {
    Child(Child),
    /// Left running by an earlier service.
    Adopted(Pid),
}

impl Program {
    /// Starts the server and waits until it takes connections. Where an earlier one that was killed is still in the way,
    /// tries again.
    pub(super) async fn start(&self, url: &str) -> Result<Child, EmbeddedError> {
        let deadline = Instant::now() + START;
        loop {
            let mut child = self.spawn()?;
            let left = deadline.saturating_duration_since(Instant::now());
            if wait_ready(url, left, || matches!(child.try_wait(), Ok(None))).await {
                return Ok(child);
            }
            let _ = child.kill();
            let _ = child.wait();
            let output = tail(&self.log);
            let last = output.lines().rev().take(4).collect::<String>();
            if Instant::now() > deadline || !LEFT_OVER.iter().any(|sign| last.contains(sign)) {
                return Err(EmbeddedError::Failed { program: "postgres", output });
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        tail(&self.log)
    }

    pub(super) fn spawn(&self) -> Result<Child, EmbeddedError> {
        let open_log = || {
            let mut options = OpenOptions::new();
            // The folder is the server's: a link there is not followed.
            let options = options.create(true).append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
            let opened = options.open(&self.log);
            opened.map_err(io_error(self.log.display().to_string()))
        };
        let mut command = self.owner.command(&self.binaries.join("postgres"));
        command.arg("-D").arg(&self.data).arg("-k").arg(&self.socket);
        // The log of changes stays well below what is kept free on the disk.
        for setting in [
            "listen_addresses=",
            "max_connections=200",
            "shared_buffers=64MB",
            "fsync=on",
            "synchronous_commit=on",
            "max_wal_size=256MB",
        ] {
            command.args(["-c", setting]);
        }
        // A group of its own: Ctrl-C in our terminal is for us to handle, in order.
        command.process_group(0).stdout(open_log()?).stderr(open_log()?);
        command.spawn().map_err(io_error("postgres"))
    }
}

/// The process that `postmaster.pid` names, if it is a server on this data folder and alive.
pub(super) fn running_server(data: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    let pid: i32 = text.lines().next()?.trim().parse().ok()?;
    let command = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = command.split(|&byte| byte == 0);
    words.any(|word| word == data.as_os_str().as_encoded_bytes()).then(|| Pid::from_raw(pid))
}

/// Whether the server `pid` was told to stop by someone else, takes no more connections and waits for those there are to
/// end, which may be never (a smart shutdown; the status in `postmaster.pid`, `LOCK_FILE_LINE_PM_STATUS`).
pub(super) fn is_stopping(data: &Path, pid: Pid) -> bool {
    let text = fs::read_to_string(data.join("postmaster.pid")).unwrap_or_default();
    let mut lines = text.lines().map(str::trim);
    lines.next() == Some(&pid.to_string()) && lines.nth(6) == Some("stopping")
}

pub(super) async fn wait_ready(url: &str, limit: Duration, mut alive: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline && alive() {
        let connect = async {
            let _ = PgConnection::connect(url).await?.close().await;
            Ok::<(), sqlx::Error>(())
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if matches!(tokio::time::timeout(left.min(CONNECT), connect).await, Ok(Ok(()))) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}

/// Stops a server that is our child.
pub(super) async fn stop_child(mut child: Child) {
    let pid = Pid::from_raw(child.id().cast_signed());
    stop(pid, || matches!(child.try_wait(), Ok(None))).await;
}

/// Stops a server that is not our child; false if it cannot be ended.
pub(super) async fn stop_process(pid: Pid) -> bool {
    stop(pid, || is_alive(pid)).await
}

/// Tells a server to stop, ever more firmly, as long as it runs; false if it runs in the end.
async fn stop(pid: Pid, mut runs: impl FnMut() -> bool) -> bool {
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGKILL] {
        let _ = kill(pid, signal);
        // One that was halted (SIGSTOP) heeds only SIGKILL until it goes on.
        let _ = kill(pid, Signal::SIGCONT);
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if !runs() {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tracing::warn!(%pid, %signal, "the private PostgreSQL was told to stop and runs on");
    }
    tracing::error!(%pid, "the private PostgreSQL cannot be ended");
    false
}

/// Whether a process still runs; one that waits for its parent to notice its end does not.
pub(super) fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// The last lines of a log.
fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
