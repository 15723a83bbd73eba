//! Files that a trainer made, taken as those of a stranger: what it read may have taken it over, and it may still be at
//! work. No link is followed out of the run's folder, and only plain files are read.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;

use crate::domain::error::{Error, Result};

/// More files or folders than a model or checkpoint ever has.
const MOST_FILES: usize = 128;
const DEEPEST: usize = 4;

/// A file that is open, and its path below the folder it was found in.
pub struct OpenFile {
    pub path: String,
    pub file: File,
}

/// Opens all files below `directory`, which the trainer named, in the run's folder.
///
/// # Errors
/// It lies elsewhere, is not there, or holds what no trainer makes.
pub async fn open_all(run: &Path, directory: &Path) -> Result<Vec<OpenFile>> {
    let (run, directory) = (run.to_owned(), directory.to_owned());
    blocking(move || {
        let mut found = Vec::new();
        walk(&enter(&run, &directory)?, "", DEEPEST, &mut found)?;
        Ok(found)
    })
    .await
}

/// Opens one file in the run's folder.
///
/// # Errors
/// It lies elsewhere, is not there, or is no plain file.
pub async fn open_file(run: &Path, path: &Path) -> Result<File> {
    let (run, path) = (run.to_owned(), path.to_owned());
    blocking(move || {
        let (folder, name) = split(&path)?;
        let file = File::from(open_in(&enter(&run, folder)?, name, OFlag::empty())?);
        if file.metadata()?.is_file() { Ok(file) } else { Err(refused(&path, "is no plain file")) }
    })
    .await
}

/// Removes `directory` in the run's folder.
///
/// # Errors
/// It lies elsewhere, or cannot be removed.
pub async fn remove(run: &Path, directory: &Path) -> Result<()> {
    let (run, directory) = (run.to_owned(), directory.to_owned());
    blocking(move || {
        let (folder, name) = split(&directory)?;
        let folder = enter(&run, folder)?;
        fs::remove_dir_all(path_of(&folder).join(name))
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)?.map_err(Error::internal)
}

fn refused(path: &Path, why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{} {why}", path.display()))
}

fn split(path: &Path) -> io::Result<(&Path, &str)> {
    let name = path.file_name().and_then(|name| name.to_str());
    path.parent().zip(name).ok_or_else(|| refused(path, "has no name"))
}

/// Opens the folder `below`, a plain path from `run` downwards, one name after the other.
fn enter(run: &Path, below: &Path) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut folder = open(run, flags, Mode::empty())?;
    for part in below.components() {
        let name = match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        };
        folder =
            open_in(&folder, name.ok_or_else(|| refused(below, "leads out of the run's folder"))?, OFlag::O_DIRECTORY)?;
    }
    Ok(folder)
}

fn open_in(folder: &OwnedFd, name: &str, more: OFlag) -> io::Result<OwnedFd> {
    // A pipe or a device that lies there does not keep us waiting.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC | more;
    Ok(openat(folder.as_fd(), name, flags, Mode::empty())?)
}

/// A path that means an open folder, wherever it is by now (`proc_pid_fd(5)`).
fn path_of(folder: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd()))
}

fn walk(folder: &OwnedFd, prefix: &str, depth: usize, found: &mut Vec<OpenFile>) -> io::Result<()> {
    for entry in fs::read_dir(path_of(folder))? {
        let name = entry?.file_name();
        let shown = Path::new(&name);
        let name = name.to_str().filter(|name| !name.contains(char::is_control));
        let name = name.ok_or_else(|| refused(shown, "is no name for a file"))?;
        let path = format!("{prefix}{name}");
        let file = File::from(open_in(folder, name, OFlag::empty())?);
        let meta = file.metadata()?;
        if meta.is_dir() && depth > 1 {
            walk(&file.into(), &format!("{path}/"), depth - 1, found)?;
        } else if !meta.is_file() || found.len() == MOST_FILES {
            return Err(refused(shown, "is nothing that a trainer makes"));
        } else {
            found.push(OpenFile { path, file });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Read;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::{open_all, open_file, remove};

    /// A run's folder beside a secret.
    fn run() -> (tempfile::TempDir, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().join("run");
        fs::create_dir_all(run.join("checkpoints/step-1/training")).unwrap();
        fs::write(run.join("checkpoints/step-1/config.json"), "{}").unwrap();
        fs::write(run.join("checkpoints/step-1/training/state.json"), "[]").unwrap();
        fs::create_dir(folder.path().join("secrets")).unwrap();
        fs::write(folder.path().join("secrets/key"), "sk-ft-1").unwrap();
        (folder, run)
    }

    #[tokio::test]
    async fn what_a_trainer_made_is_found_with_its_folders() {
        let (_folder, run) = run();
        let mut found = open_all(&run, Path::new("checkpoints/step-1")).await.unwrap();
        found.sort_by(|a, b| a.path.cmp(&b.path));
        let paths: Vec<&str> = found.iter().map(|one| one.path.as_str()).collect();
        assert_eq!(paths, ["config.json", "training/state.json"]);
        let mut text = String::new();
        open_file(&run, Path::new("checkpoints/step-1/config.json")).await.unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "{}");
        remove(&run, Path::new("checkpoints/step-1")).await.unwrap();
        assert!(run.join("checkpoints").exists() && !run.join("checkpoints/step-1").exists());
    }

    #[tokio::test]
    async fn nothing_leads_out_of_the_runs_folder() {
        let (folder, run) = run();
        let secrets = folder.path().join("secrets");
        symlink(&secrets, run.join("checkpoints/step-2")).unwrap();
        symlink(&secrets, run.join("link")).unwrap();
        symlink("/dev/zero", run.join("zero")).unwrap();
        for directory in ["..", "../secrets", "checkpoints/step-2", "link", "./..", "checkpoints/../../secrets"] {
            assert!(open_all(&run, Path::new(directory)).await.is_err(), "{directory}");
        }
        assert!(open_all(&run, &secrets).await.is_err());
        for file in ["../secrets/key", "link/key", "zero", "checkpoints", "missing"] {
            assert!(open_file(&run, Path::new(file)).await.is_err(), "{file}");
        }
        for directory in ["../secrets", "link/key", "checkpoints/../../secrets", ".."] {
            assert!(remove(&run, Path::new(directory)).await.is_err(), "{directory}");
        }
        assert!(remove(&run, &secrets).await.is_err());
        // Of a link only the link goes.
        let _ = remove(&run, Path::new("checkpoints/step-2")).await;
        assert_eq!(fs::read_to_string(secrets.join("key")).unwrap(), "sk-ft-1");
    }

    #[tokio::test]
    async fn what_no_trainer_makes_is_refused() {
        type Make<'a> = &'a dyn Fn(&Path);
        let odd: [(&str, Make<'_>); 5] = [
            ("a link to a file", &|at| symlink("/etc/passwd", at.join("model.safetensors")).unwrap()),
            ("a pipe", &|at| nix::unistd::mkfifo(&at.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap()),
            ("a name of two lines", &|at| fs::write(at.join("a\nb"), "").unwrap()),
            ("too many files", &|at| (0..200).for_each(|i| fs::write(at.join(i.to_string()), "").unwrap())),
            ("folders without end", &|at| fs::create_dir_all(at.join("a/b/c/d/e")).unwrap()),
        ];
        for (what, make) in odd {
            let (_folder, run) = run();
            make(&run.join("checkpoints/step-1"));
            let error = open_all(&run, Path::new("checkpoints/step-1")).await.err();
            assert!(error.is_some(), "{what}");
        }
    }
}
