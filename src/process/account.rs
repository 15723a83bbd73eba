//! Whom trainers run as where the service is root: they read files of strangers, and root may do anything.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, lchown};
use std::path::Path;

use nix::libc;
use nix::unistd::{User, geteuid, getgrouplist};

use crate::config::Config;

/// The user that is taken where there is one, and no setting names another.
const USUAL: &str = "finetuned-trainer";
/// The user that is taken otherwise.
const NOBODY: &str = "nobody";
/// Processes and threads that the user may have in all: enough for any number of runs, too few for a machine to choke on.
const MOST_PROCESSES: libc::rlim_t = 16_384;

/// A user other than the service's own.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
}

impl Account {
    /// The user that the settings name, or a usual one; None is the service's own.
    ///
    /// # Errors
    /// There is no such user, or only root could run something as that one.
    pub(super) fn choose(config: &Config) -> Result<Option<Self>, String> {
        let find = |name: &str| User::from_name(name).ok().flatten();
        let (own, Some(name)) = (geteuid(), &config.trainer_user) else {
            if !geteuid().is_root() {
                return Ok(None);
            }
            // The private PostgreSQL may be that user's, and with it everything.
            let has_database = |user: &User| {
                fs::metadata(config.state_dir.join("postgres")).is_ok_and(|meta| meta.uid() == user.uid.as_raw())
            };
            let usual = find(USUAL).or_else(|| find(NOBODY).filter(|user| !has_database(user)));
            return Ok(usual.map(Self::of));
        };
        let user = find(name).ok_or_else(|| format!("FINETUNED_TRAINER_USER: there is no user {name}"))?;
        match user.uid {
            uid if uid == own => Ok(None),
            _ if own.is_root() => Ok(Some(Self::of(user))),
            _ => Err(format!("FINETUNED_TRAINER_USER: only root could run trainers as {name}")),
        }
    }

    fn of(user: User) -> Self {
        let listed = CString::new(user.name.as_str()).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
        let groups = listed.unwrap_or_default().into_iter().map(libc::gid_t::from).collect();
        Self { uid: user.uid.as_raw(), gid: user.gid.as_raw(), groups, name: user.name }
    }

    /// Makes the account the owner of a folder and of everything in it. Nobody else can have put anything there yet.
    ///
    /// # Errors
    /// An owner cannot be set.
    pub(super) fn give(&self, folder: &Path) -> io::Result<()> {
        lchown(folder, Some(self.uid), Some(self.gid))?;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                self.give(&entry.path())?;
            } else {
                lchown(entry.path(), Some(self.uid), Some(self.gid))?;
            }
        }
        Ok(())
    }

    /// Turns this process into the account's, for good. Only async-signal-safe calls.
    pub(super) fn enter(&self) -> io::Result<()> {
        let processes = libc::rlimit { rlim_cur: MOST_PROCESSES, rlim_max: MOST_PROCESSES };
        // SAFETY: system calls with values and pointers that are valid for the call.
        let entered = unsafe {
            libc::setrlimit(libc::RLIMIT_NPROC, &raw const processes) == 0
                && libc::setgroups(self.groups.len(), self.groups.as_ptr()) == 0
                && libc::setresgid(self.gid, self.gid, self.gid) == 0
                && libc::setresuid(self.uid, self.uid, self.uid) == 0
        };
        if entered { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}
