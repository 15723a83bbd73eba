//! The trainer program as a process: its environment, its place among others, how it is signalled, and how those are
//! found that an earlier life of the service left behind.

mod account;
mod fence;
mod ids;
mod output;
mod premises;
mod readable;
pub mod tree;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;
use nix::sys::signal::{Signal, kill, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::process::{Child, ChildStdin, Command};

pub use output::Lines;
pub use premises::Premises;

use account::Account;
use ids::OwnId;
use output::Tail;

use crate::config::Config;
use crate::domain::attempt::ProcessEnd;

/// The trainer's jemalloc keeps freed memory for the next step and backs it with huge pages: large tensors come and go
/// every step, and giving their pages back to the system each time costs a fifth of the training time on a CPU. What is
/// freed may be split for requests of any size: by default a small one does not split a large piece, and where tensors of
/// many sizes come and go memory grows with every step.
const MALLOC: &str = "thp:always,dirty_decay_ms:-1,muzzy_decay_ms:-1,lg_extent_max_active_fit:30";
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

/// A session of its own, which its leader cannot leave: signals to the group reach it (`setsid(2)`).
fn lead_a_session() -> io::Result<()> {
    // SAFETY: an async-signal-safe call without arguments.
    if unsafe { libc::setsid() } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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

    /// One that has ended and is not reaped yet can be waited for; that is looked at, and left to its keeper
    /// (`waitid(2)`).
    fn leader_lives(&self) -> bool {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::Pid(self.id), look) == Ok(WaitStatus::StillAlive)
    }

    /// Whether its leader has ended.
    fn is_gone(&self) -> bool {
        self.reaped.load(Ordering::Acquire) || !self.leader_lives()
    }
}

/// A running process, its pipes aside. Dropped, it is killed.
pub struct Process {
    /// Its folder, and whose that is if it is not the service's own user's.
    folder: PathBuf,
    account: Option<Account>,
    // Before the child: once that is reaped, the group's id may be another's.
    rest: Rest,
    child: Child,
    pub group: Group,
    stderr: Tail,
}

/// All that a process may have started. Dropped, it is killed.
struct Rest {
    group: Group,
    id: Option<OwnId>,
}

impl Drop for Rest {
    fn drop(&mut self) {
        self.group.signal(Signal::SIGKILL);
    }
}

/// Starts `command` in `folder`, which becomes its own, confined as it is on these `premises` and as the leader of a session
/// and group of its own; it may print lines of up to `longest_line` bytes.
///
/// # Errors
/// The program cannot be started or confined.
pub fn spawn(
    mut command: Command,
    premises: &Premises,
    folder: &Path,
    longest_line: usize,
) -> io::Result<(Process, ChildStdin, Lines)> {
    command.current_dir(folder).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // A later life of the service finds the process by it.
    command.env(RUN_MARK, folder);
    // SAFETY: only async-signal-safe calls.
    unsafe {
        command.pre_exec(|| {
            lead_a_session()?;
            ignore_what_is_for_the_service();
            yield_to_others();
            Ok(())
        });
    }
    let (confinement, id) = premises.confine(folder)?;
    let account = confinement.account().cloned();
    confinement.apply(&mut command);
    let mut child = command.spawn()?;
    let pid = child.id().unwrap_or_default().cast_signed();
    let _ = fs::write(format!("/proc/{pid}/oom_score_adj"), OOM_SCORE);
    let group = Group { id: Pid::from_raw(pid), reaped: Arc::default(), killed: Arc::default() };
    let rest = Rest { group: group.clone(), id };
    let missing = || io::Error::other("a pipe of the trainer is missing");
    let stdin = child.stdin.take().ok_or_else(missing)?;
    let stdout = child.stdout.take().ok_or_else(missing)?;
    let stderr = child.stderr.take().ok_or_else(missing)?;
    let lines = Lines::of(stdout, longest_line, group.clone());
    let folder = folder.to_owned();
    Ok((Process { folder, account, rest, child, group, stderr: Tail::of(stderr) }, stdin, lines))
}

impl Process {
    /// Moves a file or a folder of the service's, on the same disk, into the process's own, whose it is from then on. Nothing
    /// is written where the process could have put a link.
    ///
    /// # Errors
    /// There is a folder of that name with something in it, or what is there cannot be handed over.
    pub fn hand_over(&self, from: &Path, name: impl AsRef<Path>) -> io::Result<()> {
        if let Some(account) = &self.account {
            account.give(from)?;
        }
        fs::rename(from, self.folder.join(name))
    }

    /// Moves what lies in `folder`, as [`hand_over`](Self::hand_over) does, and puts the process's own folder in its place.
    ///
    /// # Errors
    /// See there.
    pub fn take_over(&mut self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            self.hand_over(&entry.path(), entry.file_name())?;
        }
        // A folder may take the place of an empty one (`rename(2)`).
        fs::rename(&self.folder, folder)?;
        folder.clone_into(&mut self.folder);
        Ok(())
    }

    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        !self.group.is_gone()
    }

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
        if let Some(id) = self.rest.id.take() {
            let _ = tokio::task::spawn_blocking(move || id.clear()).await;
        }
        let end = ProcessEnd { exit_code: status.code(), signal: status.signal(), ..ProcessEnd::default() };
        (end, self.stderr.end().await)
    }
}

/// The variable in a trainer's environment that names its folder. It is in the process from its first instant, unlike
/// a note that is written afterwards, and says more than a process id, which may be another's by now.
pub const RUN_MARK: &str = "FINETUNED_RUN";

/// Kills trainers whose folders lie directly in `parent`: an earlier life left them running. They are known by their
/// environment (`proc_pid_environ(5)`), and those that have an id of their own by it, which their folders have too.
pub fn end_leftovers(parent: &Path) {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    for pid in pids.filter(|pid| folder_of(*pid).is_some_and(|folder| folder.parent() == Some(parent))) {
        tracing::warn!(pid, "ending a trainer left by an earlier process");
        let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        // Its own children have the mark as well, and no group of their own.
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let folders = fs::read_dir(parent).into_iter().flatten().flatten();
    for owner in folders.filter_map(|folder| Some(folder.metadata().ok()?.uid())) {
        ids::end_left(owner);
    }
}

fn folder_of(pid: i32) -> Option<PathBuf> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let folder = variables.find_map(|variable| variable.strip_prefix(RUN_MARK.as_bytes())?.strip_prefix(b"="))?;
    Some(PathBuf::from(OsStr::from_bytes(folder)))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;
    use std::time::Duration;

    use futures_util::StreamExt;
    use nix::sys::signal::Signal;
    use tokio::process::{ChildStdin, Command};
    use tokio::time::timeout;

    use super::{Lines, Premises, Process, ids, spawn};
    use crate::config::{self, Config};

    /// Much longer than anything here takes, and much shorter than the processes that are left behind sleep.
    const LONG: Duration = Duration::from_mins(1);

    /// Premises for scripts: their trainer only says what the machine has.
    struct Scripts {
        folder: tempfile::TempDir,
        premises: Premises,
    }

    struct Script {
        process: Process,
        lines: Lines,
        _stdin: ChildStdin,
    }

    impl Scripts {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            std::fs::set_permissions(folder.path(), Permissions::from_mode(0o711)).unwrap();
            let trainer = folder.path().join("trainer.sh");
            std::fs::write(&trainer, "#!/bin/sh\necho '{\"cuda\":0,\"cpu_bf16\":false}'\n").unwrap();
            std::fs::set_permissions(&trainer, Permissions::from_mode(0o755)).unwrap();
            let premises = Premises::find(&configuration(folder.path(), &trainer)).await.unwrap();
            Self { folder, premises }
        }

        fn start(&self, name: &str, script: &str) -> Script {
            let folder = self.folder.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            let mut command = Command::new("sh");
            command.arg("-c").arg(script).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            let (process, stdin, lines) = spawn(command, &self.premises, &folder, 4096).unwrap();
            Script { process, lines, _stdin: stdin }
        }
    }

    impl Script {
        async fn line(&mut self) -> String {
            timeout(LONG, self.lines.next()).await.unwrap().unwrap().unwrap()
        }

        async fn rest(&mut self) -> Vec<String> {
            let rest = (&mut self.lines).map(Result::unwrap).collect();
            timeout(LONG, rest).await.unwrap()
        }
    }

    fn configuration(folder: &Path, trainer: &Path) -> Config {
        let flags = [("state-dir", folder.join("state")), ("trainer", trainer.to_owned())];
        let flags = flags.map(|(name, path)| (name.to_owned(), path.to_str().unwrap().to_owned()));
        config::load(&flags.into_iter().collect()).unwrap()
    }

    fn is_root() -> bool {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root {
            println!("skipped: only root gives processes ids of their own");
        }
        is_root
    }

    #[tokio::test]
    async fn output_ends_with_its_process_whoever_else_holds_the_pipe() {
        let scripts = Scripts::new().await;
        let mut quiet = scripts.start("quiet", "setsid sleep 300 & echo told; exit 3");
        let mut loud = scripts.start("loud", "setsid sh -c 'while sleep 0.01; do echo more; done' & echo told");
        let (silence, mut noise) = tokio::join!(quiet.rest(), loud.rest());
        assert_eq!(silence, ["told"]);
        assert!(noise.iter().any(|line| line == "told"));
        noise.retain(|line| !["told", "more"].contains(&line.as_str()));
        assert!(noise.is_empty(), "{noise:?}");
        let (ended, words) = timeout(LONG, quiet.process.end()).await.unwrap();
        assert_eq!((ended.exit_code, words.as_str()), (Some(3), ""));
        assert_eq!(timeout(LONG, loud.process.end()).await.unwrap().0.exit_code, Some(0));
    }

    #[tokio::test]
    async fn all_that_a_process_printed_is_read_however_late() {
        let scripts = Scripts::new().await;
        let mut script = scripts.start("late", "setsid sleep 300 & seq 1000; echo last");
        assert_eq!(script.line().await, "1");
        // A reader that has other things to do first.
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(script.line().await, "2");
        tokio::time::sleep(Duration::from_secs(6)).await;
        let rest = script.rest().await;
        assert_eq!((rest.len(), rest.last().unwrap().as_str()), (999, "last"));
    }

    #[tokio::test]
    async fn neighbours_do_nothing_to_each_other() {
        if !is_root() {
            return;
        }
        let scripts = Scripts::new().await;
        let mut first = scripts.start("first", "id -u; read line");
        let uid = first.line().await;
        let tries = r#"got=$(id -u)
            try() { name=$1; shift; if "$@" >/dev/null 2>&1; then got="$got $name"; fi; }
            try own renice -n 19 -p $$
            try signal kill -0 PID
            try priority renice -n 19 -p PID
            try limit prlimit --pid PID --cpu=1000000
            try cores taskset -p ffffffff PID
            try folder ls /proc/PID/cwd/
            try environment cat /proc/PID/environ
            echo "$got""#;
        let pid = first.process.group.id.to_string();
        let mut second = scripts.start("second", &tries.replace("PID", &pid));
        let got = second.line().await;
        let (other, got) = got.split_once(' ').unwrap();
        assert_ne!(other, uid);
        assert_eq!(got, "own");
        first.process.group.signal(Signal::SIGKILL);
        assert_eq!(timeout(LONG, first.process.end()).await.unwrap().0.signal, Some(9));
        timeout(LONG, second.process.end()).await.unwrap();
    }

    #[tokio::test]
    async fn what_leaves_group_session_and_pipes_ends_with_its_process() {
        if !is_root() {
            return;
        }
        let scripts = Scripts::new().await;
        let leave = "cd /; setsid env -i sleep 300 </dev/null >/dev/null 2>&1 & id -u; ";
        let mut ended = scripts.start("ended", leave);
        let uid: u32 = ended.line().await.parse().unwrap();
        timeout(LONG, ended.process.end()).await.unwrap();
        assert!(!ids::at_work().unwrap().contains(&uid));

        let mut dropped = scripts.start("dropped", &format!("{leave} read line"));
        let uid: u32 = dropped.line().await.parse().unwrap();
        assert!(ids::at_work().unwrap().contains(&uid));
        drop(dropped);
        let gone = async {
            while ids::at_work().unwrap().contains(&uid) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(LONG, gone).await.unwrap();
    }
}
