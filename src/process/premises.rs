//! What a trainer finds on this machine, as whom it runs there, and behind which fence: worked out once, by asking the
//! trainer itself.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::libc;
use tokio::process::Command;

use super::account::{Account, Taken, Users};
use super::command;
use super::fence::{self, Fence, has_gpu};
use super::ids::OwnId;
use super::readable::{Programs, own_folders};
use crate::config::Config;
use crate::domain::run::Devices;

/// How long the trainer may take to answer.
const ANSWER: Duration = Duration::from_mins(1);

/// Where trainers run.
pub struct Premises {
    pub devices: Devices,
    users: Users,
    is_fenced: bool,
    programs: Programs,
}

/// What a trainer gives up before it starts.
pub(super) struct Confinement {
    account: Option<Account>,
    fence: Option<Fence>,
}

impl Premises {
    /// Asks the trainer what the machine offers, as the user and behind the fence that runs will have. Where the usual
    /// user or the fence keeps it from working, runs do without, and the log says so.
    ///
    /// # Errors
    /// The trainer does not run, or not as the user that the settings name; or it would reach what is the service's. The
    /// text says why.
    pub async fn find(config: &Config) -> Result<Self, String> {
        let chosen = Users::choose(config)?;
        let taken = chosen.take().map_err(|error| {
            format!("there is no user id for a trainer: {error}; FINETUNED_TRAINER_USER can name a user for all")
        })?;
        let account = taken.account.as_ref();
        let (users, devices) = match (chosen, account) {
            (users, Some(account)) if config.trainer_user.is_none() => usual(config, users, account).await?,
            (users, Some(account)) => {
                let devices = ask(config, Some(account), None).await;
                (users, devices.map_err(|error| format!("as the user {}: {error}", account.name))?)
            }
            (users, None) => (users, ask(config, None, None).await?),
        };
        if matches!(users, Users::Own) && nix::unistd::geteuid().is_root() {
            tracing::warn!(
                "trainers run as root; make a user finetuned-trainer, or name one with FINETUNED_TRAINER_USER"
            );
        }
        let named = devices.folders.iter().chain(&config.libtorch).chain([&config.trainer]);
        let programs = Programs::of(named, &own_folders(config));
        let mut place = Self { devices, users, is_fenced: true, programs };
        place.try_fence(config, &taken).await?;
        tracing::info!(user = place.users.name(), landlock = place.is_fenced, "how trainers are confined");
        Ok(place)
    }

    /// Whether the trainer finds the same behind the fence: what it needs may lie where nobody thought of.
    ///
    /// # Errors
    /// Nothing but the fence stands before the service's folders, and it does not keep the trainer out of them.
    async fn try_fence(&mut self, config: &Config, taken: &Taken) -> Result<(), String> {
        let is_alone = matches!(self.users, Users::Own);
        let why = match Fence::around(None, &self.programs.paths) {
            Ok(None) => "this kernel has no Landlock".to_owned(),
            Err(error) => error.to_string(),
            Ok(Some(fence)) => {
                if is_alone {
                    own_folders(config).iter().try_for_each(|own| closed(own))?;
                }
                let account = taken.account.as_ref().filter(|_| !is_alone);
                let why = match ask(config, account, Some(fence)).await {
                    Ok(devices) if devices == self.devices => return Ok(()),
                    Ok(devices) => format!("the trainer finds {devices:?} behind it, and {:?} without", self.devices),
                    Err(error) => error,
                };
                if let (true, Some((folder, own))) = (is_alone, self.programs.narrowed.first()) {
                    let (folder, own) = (folder.display(), own.display());
                    return Err(format!(
                        "the trainer needs more of {folder} than its libraries, but {own} of the service lies in it; \
                         keep them apart ({why})"
                    ));
                }
                why
            }
        };
        tracing::warn!(why, "trainers run without a fence");
        self.is_fenced = false;
        Ok(())
    }

    /// Makes a run's folder the trainer's, and works out what it gives up. If it has an id of its own, that is to be held
    /// while it may live.
    ///
    /// # Errors
    /// No id can be had, the folder cannot be handed over, or the kernel refuses the fence.
    pub(super) fn confine(&self, folder: &Path) -> io::Result<(Confinement, Option<OwnId>)> {
        let Taken { account, id } = self.users.take()?;
        if let Some(account) = &account {
            account.give(folder)?;
        }
        let fence = if self.is_fenced { Fence::around(Some(folder), &self.programs.paths)? } else { None };
        Ok((Confinement { account, fence }, id))
    }
}

/// Refuses a folder of the service's that trainers would read.
fn closed(own: &Path) -> Result<(), String> {
    let Some(system) = fence::leaves_open(own) else { return Ok(()) };
    Err(format!("{} of the service lies in {system}, which trainers must read; it has to be elsewhere", own.display()))
}

/// The usual users, if the trainer works as one of them, which `account` is, as it does as the service's own.
async fn usual(config: &Config, users: Users, account: &Account) -> Result<(Users, Devices), String> {
    let asked = ask(config, Some(account), None).await;
    let why = match &asked {
        Ok(devices) if devices.cuda > 0 || !has_gpu() => return asked.map(|devices| (users, devices)),
        Ok(_) => "it finds no GPU".to_owned(),
        Err(error) => error.clone(),
    };
    let own = ask(config, None, None).await?;
    if asked.is_ok_and(|devices| devices.cuda == own.cuda) {
        return Ok((users, own));
    }
    tracing::warn!(user = users.name(), why, "the trainer does not work as another user");
    Ok((Users::Own, own))
}

async fn ask(config: &Config, account: Option<&Account>, fence: Option<Fence>) -> Result<Devices, String> {
    let mut command = command(config, 1);
    command.arg("devices").current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    Confinement { account: account.cloned(), fence }.apply(&mut command);
    let said = |what: &dyn std::fmt::Display| format!("{}: {what}", config.trainer.display());
    let output = tokio::time::timeout(ANSWER, command.output())
        .await
        .map_err(|_| "it does not answer".to_owned())?
        .map_err(|error| said(&error))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(said(&format_args!("{}: {}", output.status, stderr.trim())));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| said(&error))
}

impl Confinement {
    /// Whom it will run as; None is the service's own user.
    pub(super) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    /// Has the program that `command` starts give up everything before its first instruction.
    pub(super) fn apply(self, command: &mut Command) {
        // SAFETY: only async-signal-safe calls, on memory of their own.
        unsafe {
            command.pre_exec(move || self.enter());
        }
    }

    fn enter(&self) -> io::Result<()> {
        if let Some(account) = &self.account {
            account.enter()?;
        }
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // A core would hold what strangers sent.
        // SAFETY: system calls with values and pointers that are valid for the call.
        let given_up = unsafe {
            libc::setrlimit(libc::RLIMIT_CORE, &raw const none) == 0
                && libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
        };
        if !given_up {
            return Err(io::Error::last_os_error());
        }
        drop_capabilities()?;
        self.fence.as_ref().map_or(Ok(()), Fence::enter)
    }
}

/// Gives up what root may do beyond other users, where the trainer runs as root: with `CAP_PERFMON` it would read the
/// environment of any process from behind the fence. With `no_new_privs` a program that is executed gets none back
/// (`capabilities(7)`).
fn drop_capabilities() -> io::Result<()> {
    /// `_LINUX_CAPABILITY_VERSION_3`: two sets of 32 capabilities each, effective, permitted and inheritable.
    const VERSION: u32 = 0x2008_0522;
    let (header, none) = ([VERSION, 0_u32], [0_u32; 6]);
    // SAFETY: a system call that reads the header (version and process, 0 for this one) and the six sets.
    let dropped = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()) };
    if dropped == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
