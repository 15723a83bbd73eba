//! What a trainer finds on this machine, as whom it runs there, and behind which fence: worked out once, by asking the
//! trainer itself.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::libc;
use tokio::process::Command;

use super::account::Account;
use super::command;
use super::fence::{Fence, has_gpu};
use crate::config::Config;
use crate::domain::run::Devices;

/// How long the trainer may take to answer.
const ANSWER: Duration = Duration::from_mins(1);

/// Where trainers run.
pub struct Place {
    pub devices: Devices,
    account: Option<Account>,
    is_fenced: bool,
    readable: Vec<PathBuf>,
}

/// What a trainer gives up before it starts.
pub(super) struct Confinement {
    account: Option<Account>,
    fence: Option<Fence>,
}

impl Place {
    /// Asks the trainer what the machine offers, as the user and behind the fence that runs will have. Where the usual
    /// user or the fence keeps it from working, runs do without, and the log says so.
    ///
    /// # Errors
    /// The trainer does not run, or not as the user that the settings name; the text says why.
    pub async fn find(config: &Config) -> Result<Self, String> {
        let chosen = Account::choose(config)?;
        let (account, devices) = match chosen {
            Some(account) if config.trainer_user.is_some() => {
                let devices = ask(config, Some(&account), None).await;
                let devices = devices.map_err(|error| format!("as the user {}: {error}", account.name))?;
                (Some(account), devices)
            }
            Some(account) => usual(config, account).await?,
            None => (None, ask(config, None, None).await?),
        };
        if account.is_none() && nix::unistd::geteuid().is_root() {
            tracing::warn!(
                "trainers run as root; make a user finetuned-trainer, or name one with FINETUNED_TRAINER_USER"
            );
        }
        let libtorch = config.libtorch.iter().chain([&config.trainer]);
        let readable: Vec<PathBuf> = devices.folders.iter().chain(libtorch).cloned().collect();
        let mut place = Self { devices, account, is_fenced: true, readable };
        place.try_fence(config).await;
        let user = place.account.as_ref().map_or("the service's own", |account| &*account.name);
        tracing::info!(user, landlock = place.is_fenced, "how trainers are confined");
        Ok(place)
    }

    /// Whether the trainer finds the same behind the fence: what it needs may lie where nobody thought of.
    async fn try_fence(&mut self, config: &Config) {
        let fence = Fence::around(None, &self.readable).map_err(|error| error.to_string());
        let fenced = match fence {
            Ok(Some(fence)) => ask(config, self.account.as_ref(), Some(fence)).await,
            Ok(None) => Err("this kernel has no Landlock".to_owned()),
            Err(error) => Err(error),
        };
        let why = match fenced {
            Ok(devices) if devices == self.devices => return,
            Ok(devices) => format!("the trainer finds {devices:?} behind it, and {:?} without", self.devices),
            Err(error) => error,
        };
        tracing::warn!(why, "trainers run without a fence");
        self.is_fenced = false;
    }

    /// Makes a run's folder the trainer's, and works out what it gives up.
    ///
    /// # Errors
    /// The folder cannot be handed over, or the kernel refuses the fence.
    pub(super) fn confine(&self, folder: &Path) -> io::Result<Confinement> {
        if let Some(account) = &self.account {
            account.give(folder)?;
        }
        let fence = if self.is_fenced { Fence::around(Some(folder), &self.readable)? } else { None };
        Ok(Confinement { account: self.account.clone(), fence })
    }
}

/// The usual user, if the trainer works as that one as it does as the service's own.
async fn usual(config: &Config, account: Account) -> Result<(Option<Account>, Devices), String> {
    let asked = ask(config, Some(&account), None).await;
    let why = match &asked {
        Ok(devices) if devices.cuda > 0 || !has_gpu() => return asked.map(|devices| (Some(account), devices)),
        Ok(_) => "it finds no GPU".to_owned(),
        Err(error) => error.clone(),
    };
    let own = ask(config, None, None).await?;
    if asked.is_ok_and(|devices| devices.cuda == own.cuda) {
        return Ok((Some(account), own));
    }
    tracing::warn!(user = account.name, why, "the trainer does not work as another user");
    Ok((None, own))
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
        match &self.fence {
            _ if !given_up => Err(io::Error::last_os_error()),
            Some(fence) => fence.enter(),
            None => Ok(()),
        }
    }
}
