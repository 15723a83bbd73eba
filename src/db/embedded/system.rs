//! What a private PostgreSQL needs of the machine: its programs, and a user who is not root to run them.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown, lchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::unistd::{Uid, User, geteuid};

use super::{EmbeddedError, io_error};

/// Who runs the server: ourselves, or another user where we are root.
pub(super) struct Owner(Option<User>);

impl Owner {
    pub(super) fn choose() -> Result<Self, EmbeddedError> {
        if !geteuid().is_root() {
            return Ok(Self(None));
        }
        let find = |name| User::from_name(name).ok().flatten();
        find("postgres").or_else(|| find("nobody")).map(|user| Self(Some(user))).ok_or(EmbeddedError::NoUser)
    }

    pub(super) fn uid(&self) -> Uid {
        self.0.as_ref().map_or_else(geteuid, |user| user.uid)
    }

    /// Makes the owner that of a file or folder where others may have planted a link, which is not followed.
    pub(super) fn give(&self, path: &Path) -> Result<(), EmbeddedError> {
        self.change_owner(path, |uid, gid| lchown(path, Some(uid), Some(gid)))
    }

    /// The same for a folder in one of ours; an operator may have put a link there.
    pub(super) fn give_folder(&self, path: &Path) -> Result<(), EmbeddedError> {
        self.change_owner(path, |uid, gid| chown(path, Some(uid), Some(gid)))
    }

    fn change_owner(&self, path: &Path, change: impl Fn(u32, u32) -> io::Result<()>) -> Result<(), EmbeddedError> {
        let Some(user) = &self.0 else { return Ok(()) };
        change(user.uid.as_raw(), user.gid.as_raw()).map_err(io_error(format!("chown {}", path.display())))
    }

    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").current_dir("/").stdin(Stdio::null());
        if let Some(user) = &self.0 {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command
    }

    /// Checks that the owner can enter every folder above `path`.
    pub(super) fn check_reach(&self, path: &Path) -> Result<(), EmbeddedError> {
        let Some(user) = &self.0 else { return Ok(()) };
        for folder in path.ancestors().skip(1) {
            let Ok(meta) = fs::metadata(folder) else { continue };
            let owned = meta.uid() == user.uid.as_raw() && meta.mode() & 0o100 != 0;
            if !owned && meta.mode() & 0o001 == 0 {
                return Err(EmbeddedError::Unreachable { user: user.name.clone(), blocked: folder.to_owned() });
            }
        }
        Ok(())
    }
}

/// The folder with `initdb` and `postgres`: the one given, the newest of Debian's, or one on the PATH.
pub(super) fn find_binaries(given: Option<&Path>, search_path: Option<&OsStr>) -> Option<PathBuf> {
    let has_both = |folder: &PathBuf| folder.join("postgres").is_file() && folder.join("initdb").is_file();
    if let Some(given) = given {
        return Some(given.to_owned()).filter(has_both);
    }
    let version =
        |folder: &Path| folder.parent().and_then(|p| p.file_name()?.to_str()?.parse::<u32>().ok()).unwrap_or_default();
    let mut packaged: Vec<PathBuf> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(has_both)
        .collect();
    packaged.sort_by_key(|folder| version(folder));
    packaged.pop().or_else(|| std::env::split_paths(search_path?).find(has_both))
}

/// The first number of the server's version.
pub(super) fn major_version(owner: &Owner, binaries: &Path) -> Result<String, EmbeddedError> {
    let output =
        owner.command(&binaries.join("postgres")).arg("--version").output().map_err(io_error("postgres --version"))?;
    // "postgres (PostgreSQL) 15.18 (Debian …)"
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    let major = version.and_then(|version| version.split('.').next());
    major.map(str::to_owned).ok_or(EmbeddedError::Failed { program: "postgres --version", output: text })
}
