//! Who a worker is, and what its earlier life left behind.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use nix::fcntl::Flock;

use crate::domain::id::WorkerId;
use crate::{private, process};

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
        let lock = private::lock(&state_dir.join("worker.lock"))?.ok_or(IdentityError::Taken)?;
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
        process::end_leftovers(runs);
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

#[cfg(test)]
mod tests {
    use super::{Identity, IdentityError};
    use crate::process::RUN_MARK;

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
