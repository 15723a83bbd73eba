//! Who a worker is, and what its earlier life left behind.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::domain::id::WorkerId;

/// Why a process cannot be the worker of a state directory.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("another worker runs with this state directory")]
    Taken,
    #[error("the worker's identity: {0}")]
    Io(#[from] io::Error),
}

/// A worker's identity, held exclusively.
pub struct Identity {
    pub id: WorkerId,
    /// The machine's name, for people.
    pub host: String,
    _lock: Flock<File>,
}

impl Identity {
    /// Takes the identity kept in a state directory, making it the first time.
    ///
    /// # Errors
    /// Another process holds it, or the folder cannot be written.
    pub fn take(state_dir: &Path) -> Result<Self, IdentityError> {
        let lock = File::options().create(true).append(true).open(state_dir.join("worker.lock"))?;
        let lock = Flock::lock(lock, FlockArg::LockExclusiveNonblock).map_err(|_| IdentityError::Taken)?;
        let path = state_dir.join("worker-id");
        let id = if let Some(id) = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok()) {
            id
        } else {
            let id = WorkerId::new();
            fs::write(&path, id.to_string())?;
            id
        };
        let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        Ok(Self { id, host, _lock: lock })
    }

    /// Kills trainers that an earlier life of this worker left running, and removes what it left in `runs`.
    pub fn end_leftovers(&self, runs: &Path) {
        for pid in processes_of(runs) {
            tracing::warn!(pid, "ending a trainer left by an earlier worker");
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            // Its own children have the mark as well, and no group of their own.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let entries = fs::read_dir(runs).into_iter().flatten().flatten();
        for entry in entries.filter(|entry| is_ours(&entry.file_name())) {
            let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
        }
    }
}

/// Whether a name in the folder of runs is one that we give: 32 hexadecimal digits, and the attempt's number for a run.
fn is_ours(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let (id, attempt) = name.split_once('-').unwrap_or((name, "1"));
    id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()) && attempt.parse::<u32>().is_ok()
}

/// The variable in a trainer's environment that names the folder of its run. It is in the process from its first
/// instant, unlike a note that is written afterwards, and says more than a process id, which may be another's by now.
pub(super) const RUN_MARK: &str = "FINETUNED_RUN";

/// The trainers whose runs have their folders in `runs` (`proc_pid_environ(5)`).
fn processes_of(runs: &Path) -> Vec<i32> {
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid| run_of(*pid).is_some_and(|folder| folder.starts_with(runs)))
        .collect()
}

fn run_of(pid: i32) -> Option<PathBuf> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|&byte| byte == 0);
    let folder = variables.find_map(|variable| variable.strip_prefix(RUN_MARK.as_bytes())?.strip_prefix(b"="))?;
    Some(PathBuf::from(OsStr::from_bytes(folder)))
}

#[cfg(test)]
mod tests {
    use super::{Identity, IdentityError, RUN_MARK};

    #[test]
    fn an_identity_is_kept_and_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::take(folder.path()).unwrap();
        assert!(matches!(Identity::take(folder.path()), Err(IdentityError::Taken)));
        let id = first.id;
        drop(first);
        assert_eq!(Identity::take(folder.path()).unwrap().id, id);
    }

    #[test]
    fn a_leftover_process_is_ended_and_none_of_another_worker() {
        use std::os::unix::process::CommandExt;
        let state = tempfile::tempdir().unwrap();
        let (runs, others) = (state.path().join("runs"), state.path().join("others"));
        let sleeper = |mark: &std::path::Path| {
            std::fs::create_dir_all(mark).unwrap();
            let mut command = std::process::Command::new("sleep");
            command.arg("60").env(RUN_MARK, mark).process_group(0).spawn().unwrap()
        };
        let run = "0123456789abcdef0123456789abcdef-2";
        let (mut left, mut other) = (sleeper(&runs.join(run)), sleeper(&others.join(run)));
        std::fs::write(runs.join("notes.txt"), "not ours").unwrap();
        Identity::take(state.path()).unwrap().end_leftovers(&runs);
        assert!(!left.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        assert!(!runs.join(run).exists() && runs.join("notes.txt").exists());
    }
}
