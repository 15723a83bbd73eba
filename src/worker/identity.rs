//! Who a worker is, and what its earlier life left behind.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{Signal, killpg};
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

    /// Kills trainers that an earlier life of this worker left running, and removes their folders.
    pub fn end_leftovers(&self, runs: &Path) {
        for entry in fs::read_dir(runs).into_iter().flatten().flatten() {
            let folder = entry.path();
            if let Some(process) = ProcessMark::read(&folder)
                && process.is_alive()
            {
                tracing::warn!(pid = process.pid, "ending a trainer left by an earlier worker");
                let _ = killpg(Pid::from_raw(process.pid), Signal::SIGKILL);
            }
            let _ = fs::remove_dir_all(&folder);
        }
    }
}

/// Which process a run's folder belongs to: its id, and when it started, since ids are used again.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct ProcessMark {
    pid: i32,
    started: u64,
}

const MARK: &str = "process.json";

impl ProcessMark {
    /// Of a running process.
    pub(super) fn of(pid: i32) -> Option<Self> {
        Some(Self { pid, started: start_time(pid)? })
    }

    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        fs::write(folder.join(MARK), serde_json::to_vec(self)?)
    }

    fn read(folder: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(folder.join(MARK)).ok()?).ok()
    }

    fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }
}

/// When a process started, in clock ticks since boot: field 22 of /proc/PID/stat (proc(5)).
fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Identity, IdentityError, ProcessMark};

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
    fn a_leftover_process_is_ended_but_not_another_with_its_id() {
        use std::os::unix::process::CommandExt;
        let state = tempfile::tempdir().unwrap();
        let runs = state.path().join("runs");
        let sleeper = || std::process::Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let (mut left, mut other) = (sleeper(), sleeper());
        for (name, child, shift) in [("left", &left, 0), ("other", &other, 1)] {
            std::fs::create_dir_all(runs.join(name)).unwrap();
            let mut mark = ProcessMark::of(child.id().cast_signed()).unwrap();
            mark.started += shift;
            mark.write(&runs.join(name)).unwrap();
        }
        Identity::take(state.path()).unwrap().end_leftovers(&runs);
        assert!(!left.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
        assert_eq!(std::fs::read_dir(&runs).unwrap().count(), 0);
    }
}
