//! Whom trainers run as where the service is root: they read files of strangers, and root may do anything.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::lchown;
use std::path::Path;

use nix::libc;
use nix::unistd::{User, geteuid, getgrouplist};

use super::ids::OwnId;
use crate::config::Config;

/// The user that is taken where there is one, and no setting names another.
const USUAL: &str = "finetuned-trainer";
/// Processes and threads that a user of all trainers may have: enough for any number of runs, too few for a machine to
/// choke on.
const MOST_OF_ALL: libc::rlim_t = 16_384;
/// The same for a user of one trainer.
const MOST_OF_ONE: libc::rlim_t = 4_096;

/// Whom trainers run as.
#[derive(Clone, Debug)]
pub(super) enum Users {
    /// The service's own user.
    Own,
    /// A user of the machine, the same for all trainers.
    Shared(Account),
    /// Each as a user id that nothing else on the machine has.
    Apart,
}

/// A user for one process.
#[derive(Default)]
pub(super) struct Taken {
    /// None is the service's own.
    pub(super) account: Option<Account>,
    /// Held while the process may live.
    pub(super) id: Option<OwnId>,
}

/// A user other than the service's own.
#[derive(Clone, Debug)]
pub(super) struct Account {
    pub(super) name: String,
    uid: libc::uid_t,
    gid: libc::gid_t,
    groups: Vec<libc::gid_t>,
    most_processes: libc::rlim_t,
}

impl Users {
    /// The user that the settings name, or a usual one; without either, each trainer of a service that is root has its own.
    ///
    /// # Errors
    /// There is no such user, or only root could run something as that one.
    pub(super) fn choose(config: &Config) -> Result<Self, String> {
        let own = geteuid();
        let find = |name: &str| User::from_name(name).ok().flatten();
        let Some(name) = &config.trainer_user else {
            let usual = find(USUAL).filter(|_| own.is_root());
            return Ok(match usual {
                Some(user) => Self::Shared(Account::of(user)),
                None if own.is_root() => Self::Apart,
                None => Self::Own,
            });
        };
        let user = find(name).ok_or_else(|| format!("FINETUNED_TRAINER_USER: there is no user {name}"))?;
        match user.uid {
            uid if uid == own => Ok(Self::Own),
            _ if own.is_root() => Ok(Self::Shared(Account::of(user))),
            _ => Err(format!("FINETUNED_TRAINER_USER: only root could run trainers as {name}")),
        }
    }

    /// How people call them.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Own => "the service's own",
            Self::Shared(account) => &account.name,
            Self::Apart => "an id of its own for each",
        }
    }

    /// A user for a process that is about to start.
    ///
    /// # Errors
    /// No id is free, or none can be held.
    pub(super) fn take(&self) -> io::Result<Taken> {
        Ok(match self {
            Self::Own => Taken::default(),
            Self::Shared(account) => Taken { account: Some(account.clone()), id: None },
            Self::Apart => {
                let id = OwnId::take()?;
                Taken { account: Some(Account::without_name(id.uid)), id: Some(id) }
            }
        })
    }
}

impl Account {
    fn of(user: User) -> Self {
        let listed = CString::new(user.name.as_str()).ok().and_then(|name| getgrouplist(&name, user.gid).ok());
        let groups = listed.unwrap_or_default().into_iter().map(libc::gid_t::from).collect();
        let (uid, gid) = (user.uid.as_raw(), user.gid.as_raw());
        Self { uid, gid, groups, name: user.name, most_processes: MOST_OF_ALL }
    }

    fn without_name(uid: libc::uid_t) -> Self {
        Self { uid, gid: uid, groups: Vec::new(), name: uid.to_string(), most_processes: MOST_OF_ONE }
    }

    /// Makes the account the owner of a file, or of a folder and everything in it. Nobody else can have put anything there
    /// yet.
    ///
    /// # Errors
    /// An owner cannot be set.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        lchown(path, Some(self.uid), Some(self.gid))?;
        if fs::symlink_metadata(path)?.is_dir() {
            for entry in fs::read_dir(path)? {
                self.give(&entry?.path())?;
            }
        }
        Ok(())
    }

    /// Turns this process into the account's, for good. Only async-signal-safe calls.
    pub(super) fn enter(&self) -> io::Result<()> {
        let processes = libc::rlimit { rlim_cur: self.most_processes, rlim_max: self.most_processes };
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
