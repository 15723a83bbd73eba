//! Files and folders that are for the service's own user alone.

use std::fs::{self, DirBuilder, File, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Uid, User, geteuid};

/// A folder that only its owner can enter.
pub const FOLDER: u32 = 0o700;
/// A folder that others may pass through to what they are named, and can neither list nor change.
pub const PASSABLE_FOLDER: u32 = 0o711;
/// A file that only its owner can read.
pub const FILE: u32 = 0o600;
/// What nobody but the owner shall have on a folder: to read and to write.
const READ_OR_WRITE_OF_OTHERS: u32 = 0o066;

/// Whatever this process makes from now on is its user's alone, unless a mode is set afterwards (`umask(2)`), and no
/// other process of that user reads its memory, environment or open files (`PR_SET_DUMPABLE(2const)`).
pub fn by_default() {
    umask(Mode::from_bits_truncate(0o077));
    // SAFETY: a system call with plain values.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
}

/// Makes a folder of this mode, and with it those above it that are missing. One that is there stays as it is.
///
/// # Errors
/// It cannot be made.
pub fn make_folder(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        make_folder(parent, mode)?;
    }
    match DirBuilder::new().mode(FOLDER).create(path) {
        // Another process was faster.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => return Ok(()),
        made => made?,
    }
    // The umask does not count.
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Takes reading and writing of a folder from everyone but its owner, and lets others pass if `passable`. A folder of
/// another user stays as it is.
///
/// # Errors
/// It is one that all users share (with a sticky bit, as `/tmp`), or its mode cannot be set.
pub fn close_folder(path: &Path, passable: bool) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    if meta.mode() & libc::S_ISVTX != 0 {
        let message = format!("{} is shared by all users; name a folder of the service's own", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
    }
    let passing = if passable { PASSABLE_FOLDER } else { FOLDER };
    set_mode(path, &meta, meta.mode() & 0o7777 & !READ_OR_WRITE_OF_OTHERS | passing)
}

/// Takes everything on a file or folder from everyone but its owner, if it is there and ours: versions before this one
/// made them readable. What lies below a closed folder is out of reach whatever its mode is.
///
/// # Errors
/// Its mode cannot be set.
pub fn close(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(meta) if meta.is_symlink() => Ok(()),
        Ok(meta) => set_mode(path, &meta, meta.mode() & if meta.is_dir() { FOLDER } else { FILE }),
    }
}

fn set_mode(path: &Path, meta: &fs::Metadata, mode: u32) -> io::Result<()> {
    if meta.uid() != geteuid().as_raw() || meta.mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

/// Holds the lock file at `path`, made if need be; None if another process holds it.
///
/// # Errors
/// It cannot be made, or is no file of ours: then others could hold it as well.
pub fn lock(path: &Path) -> io::Result<Option<Flock<File>>> {
    let mut options = File::options();
    let opened = options.create(true).append(true).mode(FILE).custom_flags(libc::O_NOFOLLOW).open(path);
    let file = match opened {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Err(not_ours(path).unwrap_or(error)),
        opened => opened?,
    };
    if let Some(error) = not_ours(path) {
        return Err(error);
    }
    file.set_permissions(Permissions::from_mode(FILE))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, error)) => Err(error.into()),
    }
}

/// The error for what belongs to somebody else; None if it is ours.
fn not_ours(path: &Path) -> Option<io::Error> {
    let owner = fs::symlink_metadata(path).ok()?.uid();
    if owner == geteuid().as_raw() {
        return None;
    }
    let named = User::from_uid(Uid::from_raw(owner)).ok().flatten().map(|user| user.name);
    let name = named.unwrap_or_else(|| owner.to_string());
    let message = format!("it belongs to the user {name}: run this as that user");
    Some(io::Error::new(io::ErrorKind::PermissionDenied, message))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};

    use super::{FILE, FOLDER, close, close_folder, lock, make_folder};

    fn mode(path: &std::path::Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn a_lock_file_is_ours_alone_and_held_by_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        // As earlier versions made them.
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        let held = lock(&path).unwrap().unwrap();
        assert_eq!(mode(&path), FILE);
        assert!(lock(&path).unwrap().is_none());
        drop(held);
        assert!(lock(&path).unwrap().is_some());

        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(lock(&link).is_err(), "a link is not followed");
        if nix::unistd::geteuid().is_root() {
            chown(&path, Some(65534), None).unwrap();
            let error = lock(&path).unwrap_err().to_string();
            assert!(error.contains("belongs to the user") && error.contains("run this as that user"), "{error}");
        }
    }

    #[test]
    fn folders_are_closed_whatever_the_umask_and_others_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (made, shared) = (folder.path().join("a/b"), folder.path().join("shared"));
        make_folder(&made, 0o711).unwrap();
        assert_eq!((mode(&made), mode(&folder.path().join("a"))), (0o711, 0o711));
        for (passable, before, after) in [(false, 0o755, 0o711), (false, 0o770, 0o710), (true, 0o700, 0o711)] {
            fs::set_permissions(&made, Permissions::from_mode(before)).unwrap();
            close_folder(&made, passable).unwrap();
            assert_eq!(mode(&made), after, "{before:o}");
        }
        close(&made).unwrap();
        assert_eq!(mode(&made), FOLDER);
        close(&folder.path().join("missing")).unwrap();

        make_folder(&shared, 0o700).unwrap();
        fs::set_permissions(&shared, Permissions::from_mode(0o1777)).unwrap();
        assert!(close_folder(&shared, false).unwrap_err().to_string().contains("shared by all users"));
        assert_eq!(mode(&shared), 0o1777);
        if nix::unistd::geteuid().is_root() {
            fs::set_permissions(&made, Permissions::from_mode(0o755)).unwrap();
            chown(&made, Some(65534), None).unwrap();
            close(&made).unwrap();
            close_folder(&made, false).unwrap();
            assert_eq!(mode(&made), 0o755);
        }
    }
}
