//! The trainer program as a process: its environment, its place among others, how it is signalled, and how those are
//! found that an earlier life of the service left behind.

mod account;
mod fence;
mod place;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio_util::codec::{FramedRead, LinesCodec};

pub use place::Place;

use crate::config::Config;
use crate::domain::attempt::ProcessEnd;

/// How much of a trainer's standard error is kept: its end.
const STDERR_TAIL: usize = 8 << 10;
/// The trainer's jemalloc keeps freed memory for the next step and backs it with huge pages: large tensors come and go
/// every step, and giving their pages back to the system each time costs a fifth of the training time on a CPU.
const MALLOC: &str = "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1";
/// That of a model which answers gives back within seconds what a large request took: it lives on for long.
const MALLOC_OF_SERVING: &str = "background_thread:true,dirty_decay_ms:1000,muzzy_decay_ms:0";
/// oneDNN keeps what it compiled for each shape, and packed batches have many shapes: more than this takes a gigabyte
/// and saves no time.
const ONEDNN_PRIMITIVES: &str = "128";

/// How often a thread of libgomp looks for the next operator before it sleeps (`GOMP_SPINCOUNT`): some ten microseconds,
/// which bridges the gap between two operators. With the default, some milliseconds, two runs on the same cores mostly
/// wait for each other's threads to stop waiting.
const SPINS: &str = "1000";

/// The trainer program with the environment that it needs to compute with so many threads, and nothing else.
pub fn command(config: &Config, threads: usize) -> Command {
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
    command.env("GOMP_SPINCOUNT", SPINS);
    // OpenMP's threads, and the tokenizer's own.
    command.env("OMP_NUM_THREADS", threads.to_string()).env("RAYON_NUM_THREADS", threads.to_string());
    command
}

/// The same for a model that answers.
pub fn serving_command(config: &Config, threads: usize) -> Command {
    let mut command = command(config, threads);
    command.env("MALLOC_CONF", MALLOC_OF_SERVING);
    command
}

/// Signals by which machines and terminals stop whole groups of processes. When systemd, Slurm or a shell sends them to
/// the service, its trainers must save their work first: they are told to by the service, and end when their input does.
const FOR_THE_SERVICE: [libc::c_int; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP];

/// Ignored signals stay ignored in the program that is executed (`execve(2)`), from its first instant.
fn ignore_what_is_for_the_service() {
    for signal in FOR_THE_SERVICE {
        // SAFETY: an async-signal-safe call with constant arguments.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

/// It yields to everything else on the machine: the API answers while it runs.
fn yield_to_others() {
    // SAFETY: an async-signal-safe call with constant arguments.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

/// When memory runs out it is the trainer that the kernel kills, not the service (`proc_pid_oom_score_adj(5)`).
const OOM_SCORE: &str = "500";

/// Signals a process group until its leader is reaped, never after, when the id may be another's.
#[derive(Clone)]
pub struct Group {
    id: Pid,
    reaped: Arc<AtomicBool>,
    killed: Arc<AtomicBool>,
}

impl Group {
    /// Sends a signal to all of its processes.
    pub fn signal(&self, signal: Signal) {
        if self.reaped.load(Ordering::Acquire) {
            return;
        }
        if signal == Signal::SIGKILL && self.leader_lives() {
            self.killed.store(true, Ordering::Release);
        }
        let _ = killpg(self.id, signal);
    }

    /// Whether it was killed from here; a leader that had died before was not.
    pub fn was_killed(&self) -> bool {
        self.killed.load(Ordering::Acquire)
    }

    /// One that has died and is not reaped yet is a zombie (`proc_pid_stat(5)`).
    fn leader_lives(&self) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.id)).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    }
}

/// What a process prints, by line.
pub type Lines = FramedRead<ChildStdout, LinesCodec>;

/// A running process, its pipes aside. Dropped, it is killed.
pub struct Process {
    child: Child,
    pub group: Group,
    stderr: JoinHandle<String>,
}

/// Starts `command` in `folder`, which becomes its own, confined as it is at this `place` and as the leader of its own
/// group; it may print lines of up to `longest_line` bytes.
///
/// # Errors
/// The program cannot be started or confined.
pub fn spawn(
    mut command: Command,
    place: &Place,
    folder: &Path,
    longest_line: usize,
) -> std::io::Result<(Process, ChildStdin, Lines)> {
    command.current_dir(folder).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A later life of the service finds the process by it.
    command.env(RUN_MARK, folder);
    // SAFETY: only an async-signal-safe call.
    unsafe {
        command.pre_exec(|| {
            ignore_what_is_for_the_service();
            yield_to_others();
            Ok(())
        });
    }
    place.confine(folder)?.apply(&mut command);
    let mut child = command.spawn()?;
    let pid = child.id().unwrap_or_default().cast_signed();
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE);
    let missing = || std::io::Error::other("a pipe of the trainer is missing");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let group = Group { id: Pid::from_raw(pid), reaped: Arc::default(), killed: Arc::default() };
    let process = Process { child, group, stderr: tokio::spawn(keep_tail(stderr)) };
    Ok((process, stdin, FramedRead::new(stdout, LinesCodec::new_with_max_length(longest_line))))
}

impl Process {
    /// Most resident memory so far, in bytes.
    pub fn peak_memory(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.group.id)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
    }

    /// Waits for its end, ends what it may have started itself, and returns how it ended and its last words.
    pub async fn end(mut self) -> (ProcessEnd, String) {
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

/// The variable in a trainer's environment that names its folder. It is in the process from its first instant, unlike
/// a note that is written afterwards, and says more than a process id, which may be another's by now.
pub const RUN_MARK: &str = "FINETUNED_RUN";

/// Kills trainers whose folders lie directly in `parent` (`proc_pid_environ(5)`): an earlier life left them running.
pub fn end_leftovers(parent: &Path) {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in pids.filter(|pid| folder_of(*pid).is_some_and(|folder| folder.parent() == Some(parent))) {
        tracing::warn!(pid, "ending a trainer left by an earlier process");
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        // Its own children have the mark as well, and no group of their own.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn folder_of(pid: i32) -> Option<PathBuf> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let folder = variables.find_map(|variable| variable.strip_prefix(RUN_MARK.as_bytes())?.strip_prefix(b"="))?;
    Some(PathBuf::from(OsStr::from_bytes(folder)))
}
