//! The trainer as a child process: how it is started, spoken to and stopped.

use std::collections::VecDeque;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use nix::libc;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec};

use super::identity::RUN_MARK;
use crate::config::Config;
use crate::domain::attempt::ProcessEnd;
use crate::domain::run::{Devices, TrainerCommand, TrainerMessage};

/// The longest line a trainer may print.
const LONGEST_LINE: usize = 4 << 20;
/// How much of a trainer's standard error is kept: its end.
const STDERR_TAIL: usize = 8 << 10;
/// The trainer's jemalloc keeps freed memory for the next step and backs it with huge pages: large tensors come and go
/// every step, and giving their pages back to the system each time costs a fifth of the training time on a CPU.
const MALLOC: &str = "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1";
/// oneDNN keeps what it compiled for each shape, and packed batches have many shapes: more than this takes a gigabyte
/// and saves no time.
const ONEDNN_PRIMITIVES: &str = "128";

fn command(config: &Config) -> Command {
    let mut command = Command::new(&config.trainer);
    // The trainer reads files of strangers: it sees no secret of ours.
    command.env_clear().env("LC_ALL", "C.UTF-8").env("RUST_BACKTRACE", "1");
    command.env("MALLOC_CONF", MALLOC).env("ONEDNN_PRIMITIVE_CACHE_CAPACITY", ONEDNN_PRIMITIVES);
    command.env("CUBLAS_WORKSPACE_CONFIG", ":4096:8");
    for (name, value) in [("PATH", &config.search_path), ("CUDA_VISIBLE_DEVICES", &config.cuda_visible_devices)] {
        if let Some(value) = value {
            command.env(name, value);
        }
    }
    if let Some(libtorch) = &config.libtorch {
        command.env("LD_LIBRARY_PATH", libtorch);
    }
    if config.trainer_threads > 0 {
        command.env("OMP_NUM_THREADS", config.trainer_threads.to_string());
    }
    command
}

/// Asks the trainer what the machine offers.
///
/// # Errors
/// It does not run; the text says why.
pub(super) async fn devices(config: &Config) -> Result<Devices, String> {
    let asked = command(config).arg("devices").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_mins(1), asked)
        .await
        .map_err(|_| "it does not answer".to_owned())?
        .map_err(|error| format!("{}: {error}", config.trainer.display()))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{}: {}: {}", config.trainer.display(), output.status, stderr.trim()));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("{}: {error}", config.trainer.display()))
}

/// Training yields to everything else on the machine: the API answers while it runs, and when memory runs out it is
/// the trainer that the kernel kills, not the service (`proc_pid_oom_score_adj(5)`).
fn yield_to_others() {
    // SAFETY: async-signal-safe calls with constant arguments; the descriptor is closed again.
    unsafe {
        libc::setpriority(libc::PRIO_PROCESS, 0, 10);
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file >= 0 {
            libc::write(file, c"500".as_ptr().cast(), 3);
            libc::close(file);
        }
    }
}

/// Signals a process group until its leader is reaped, never after, when the id may be another's.
#[derive(Clone)]
pub(super) struct Group {
    id: Pid,
    reaped: Arc<AtomicBool>,
}

impl Group {
    pub(super) fn signal(&self, signal: Signal) {
        if !self.reaped.load(Ordering::Acquire) {
            let _ = killpg(self.id, signal);
        }
    }
}

/// Sends commands to a trainer; one that is gone does not mind. Its standard input ends with the last of these.
#[derive(Clone)]
pub(super) struct Commands(mpsc::UnboundedSender<TrainerCommand>);

impl Commands {
    fn to(mut stdin: ChildStdin) -> Self {
        let (sender, mut commands) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                let mut line = serde_json::to_vec(&command).unwrap_or_default();
                line.push(b'\n');
                if stdin.write_all(&line).await.is_err() {
                    return;
                }
            }
        });
        Self(sender)
    }

    pub(super) fn send(&self, command: TrainerCommand) {
        let _ = self.0.send(command);
    }
}

/// A running trainer.
pub(super) struct Trainer {
    child: Child,
    pub(super) group: Group,
    pub(super) commands: Commands,
    lines: FramedRead<ChildStdout, LinesCodec>,
    stderr: JoinHandle<String>,
}

/// What a trainer printed.
pub(super) enum Output {
    Message(TrainerMessage),
    /// A line that is no message, cut short.
    Noise(String),
}

impl Trainer {
    /// Starts a trainer on the spec in `folder`, on the GPU of its slot if there are GPUs.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn start(config: &Config, folder: &Path, gpu: Option<&str>) -> std::io::Result<Self> {
        let mut command = command(config);
        command.arg("run").arg("spec.json").current_dir(folder).process_group(0).kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A later life of this worker finds the trainer by it.
        command.env(RUN_MARK, folder);
        if let Some(gpu) = gpu {
            command.env("CUDA_VISIBLE_DEVICES", gpu);
        }
        // SAFETY: only async-signal-safe calls, on memory of their own.
        unsafe {
            command.pre_exec(|| {
                yield_to_others();
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        let pid = child.id().unwrap_or_default().cast_signed();
        let missing = || std::io::Error::other("a pipe of the trainer is missing");
        let stdout = child.stdout.take().ok_or_else(missing)?;
        let stderr = child.stderr.take().ok_or_else(missing)?;
        Ok(Self {
            group: Group { id: Pid::from_raw(pid), reaped: Arc::default() },
            commands: Commands::to(child.stdin.take().ok_or_else(missing)?),
            lines: FramedRead::new(stdout, LinesCodec::new_with_max_length(LONGEST_LINE)),
            stderr: tokio::spawn(keep_tail(stderr)),
            child,
        })
    }

    /// The next thing it prints; None once it prints no more. Safe to drop and call again.
    pub(super) async fn output(&mut self) -> Option<Output> {
        let line = match self.lines.next().await? {
            Ok(line) => line,
            Err(error) => return Some(Output::Noise(error.to_string())),
        };
        Some(match serde_json::from_str(&line) {
            Ok(message) => Output::Message(message),
            Err(_) => Output::Noise(line.chars().take(200).collect()),
        })
    }

    /// Most resident memory so far, in bytes.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.group.id)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
    }

    /// Waits for its end, ends what it may have started itself, and returns how it ended and its last words.
    pub(super) async fn end(mut self) -> (ProcessEnd, String) {
        let status = self.child.wait().await.unwrap_or_else(|_| ExitStatus::from_raw(0));
        // The leader is reaped, so its id could be taken, but not while members of its group live.
        let _ = killpg(self.group.id, Signal::SIGKILL);
        self.group.reaped.store(true, Ordering::Release);
        let tail = tokio::time::timeout(Duration::from_secs(2), self.stderr).await;
        let tail = tail.ok().and_then(Result::ok).unwrap_or_default();
        (ProcessEnd { exit_code: status.code(), signal: status.signal(), ..ProcessEnd::default() }, tail)
    }
}

async fn keep_tail(stderr: impl tokio::io::AsyncRead + Unpin) -> String {
    let mut lines = BufReader::new(stderr).split(b'\n');
    let (mut tail, mut bytes) = (VecDeque::new(), 0);
    while let Ok(Some(mut line)) = lines.next_segment().await {
        line.truncate(STDERR_TAIL);
        let line = String::from_utf8_lossy(&line).into_owned();
        tracing::debug!(line, "trainer");
        bytes += line.len() + 1;
        tail.push_back(line);
        while bytes > STDERR_TAIL && tail.len() > 1 {
            bytes -= tail.pop_front().map_or(0, |line| line.len() + 1);
        }
    }
    tail.into_iter().collect::<Vec<_>>().join("\n").replace('\0', "")
}
