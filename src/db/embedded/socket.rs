//! Where the server's socket lies: in the server's own folder, or, where that path is too long for a socket's address, in
//! a folder with a random name that is made for it and noted in the server's own.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;
use nix::unistd::mkdtemp;

use super::system::Owner;
use super::{EmbeddedError, io_error};

/// The longest path of a socket's folder: the whole name must fit the 107 bytes of a unix socket address (`unix(7)`).
const LONGEST: usize = 90;
/// Where the path of a folder elsewhere is noted.
const NOTE: &str = "socket-folder";
/// Where a folder is made if the runtime folder does not do.
const TEMPORARY: &str = "/tmp";

/// The folder of the socket of the server in `folder`, if there is one.
pub(super) fn find(folder: &Path) -> Option<PathBuf> {
    let inside = folder.join("socket");
    if fits(&inside) {
        return Some(inside);
    }
    let noted = read_own(&folder.join(NOTE)).ok()?;
    Some(PathBuf::from(noted)).filter(|path| path.is_absolute() && fits(path))
}

/// The same, made if need be; `runtime` is the folder for such things on this machine.
///
/// # Errors
/// No folder can be made.
pub(super) fn prepare(folder: &Path, runtime: &Path, owner: &Owner) -> Result<PathBuf, EmbeddedError> {
    let what = |path: &Path| io_error(path.display().to_string());
    if let Some(path) = find(folder) {
        if path.starts_with(folder) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(what(&path))?;
            owner.give(&path)?;
            return Ok(path);
        }
        if is_owners(&path, owner) {
            return Ok(path);
        }
        tracing::warn!(folder = %path.display(), "the folder of the private PostgreSQL's socket is not ours any more; another one is made");
    }
    let path = make(runtime).or_else(|_| make(Path::new(TEMPORARY))).map_err(what(Path::new(TEMPORARY)))?;
    owner.give(&path)?;
    note(folder, &path).map_err(what(folder))?;
    Ok(path)
}

/// Removes a folder that was made elsewhere, once the server is gone.
pub(super) fn clear(folder: &Path) {
    if let Some(path) = find(folder).filter(|path| !path.starts_with(folder)) {
        let _ = fs::remove_dir(path);
        let _ = fs::remove_file(folder.join(NOTE));
    }
}

fn fits(path: &Path) -> bool {
    path.as_os_str().len() <= LONGEST
}

/// A new folder that nobody could have made before (`mkdtemp(3)`).
fn make(parent: &Path) -> io::Result<PathBuf> {
    let template = parent.join("finetuned-XXXXXX");
    if !fits(&template) {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    Ok(mkdtemp(&template)?)
}

/// Whether a folder is the owner's alone, and no link to one: others can write where it lies.
fn is_owners(path: &Path, owner: &Owner) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == owner.uid().as_raw() && meta.mode() & 0o7777 == 0o700)
}

fn note(folder: &Path, path: &Path) -> io::Result<()> {
    let scratch = folder.join(format!("{NOTE}.new"));
    let _ = fs::remove_file(&scratch);
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(&scratch)?;
    file.write_all(path.as_os_str().as_bytes())?;
    file.sync_all()?;
    fs::rename(&scratch, folder.join(NOTE))
}

/// A small file in the server's folder, which is the server's: a link there is not followed, since we may be root.
pub(super) fn read_own(path: &Path) -> io::Result<String> {
    let file = File::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    Ok(io::read_to_string(io::Read::take(file, 4096))?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
    use std::path::{Path, PathBuf};

    use super::{NOTE, clear, find, prepare};
    use crate::db::embedded::system::Owner;

    /// A folder whose path is too long for a socket, and one to make folders in.
    fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let top = tempfile::tempdir().unwrap();
        let (deep, runtime) = (top.path().join("a".repeat(90)), top.path().join("run"));
        fs::create_dir(&deep).unwrap();
        fs::create_dir(&runtime).unwrap();
        (top, deep, runtime)
    }

    fn prepared(deep: &Path, runtime: &Path) -> PathBuf {
        let path = prepare(deep, runtime, &Owner::choose().unwrap()).unwrap();
        assert_eq!(find(deep).as_ref(), Some(&path), "other commands find it");
        let meta = fs::symlink_metadata(&path).unwrap();
        assert!(meta.is_dir() && meta.mode() & 0o777 == 0o700);
        path
    }

    #[test]
    fn a_long_path_gets_a_folder_elsewhere_that_is_kept_until_it_is_cleared() {
        let (_top, deep, runtime) = folders();
        let path = prepared(&deep, &runtime);
        assert_eq!(path.parent(), Some(&*runtime));
        assert_eq!(prepared(&deep, &runtime), path);
        clear(&deep);
        assert!(!path.exists() && find(&deep).is_none());

        let missing = prepared(&deep, Path::new("/nowhere"));
        assert_eq!(missing.parent(), Some(Path::new("/tmp")));
        clear(&deep);
    }

    #[test]
    fn what_others_planted_is_not_followed_and_not_used() {
        let (top, deep, runtime) = folders();
        let victim = top.path().join("victim");
        fs::create_dir(&victim).unwrap();
        fs::set_permissions(&victim, Permissions::from_mode(0o700)).unwrap();
        let before = fs::metadata(&victim).unwrap();

        // In place of the folder, once it is gone: a link, a folder that others may enter, one of another user.
        for planted in ["link", "open", "foreign"] {
            let path = prepared(&deep, &runtime);
            fs::remove_dir(&path).unwrap();
            match planted {
                "link" => symlink(&victim, &path).unwrap(),
                "open" => {
                    fs::create_dir(&path).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
                }
                _ if nix::unistd::geteuid().is_root() => {
                    fs::create_dir(&path).unwrap();
                    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
                    chown(&path, Some(12_345), None).unwrap();
                }
                _ => continue,
            }
            assert_ne!(prepared(&deep, &runtime), path, "{planted}");
        }
        let after = fs::metadata(&victim).unwrap();
        assert_eq!((after.uid(), after.mode()), (before.uid(), before.mode()));

        // A note that is a link to a file of someone else says nothing.
        let other = top.path().join("other");
        fs::write(&other, "/etc").unwrap();
        fs::remove_file(deep.join(NOTE)).unwrap();
        symlink(&other, deep.join(NOTE)).unwrap();
        assert!(find(&deep).is_none());
        prepared(&deep, &runtime);
        assert_eq!(fs::read(&other).unwrap(), b"/etc");
    }
}
