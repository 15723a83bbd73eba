//! What a trainer may read beside what every program reads: its own program and libraries, and nothing of the service's,
//! though these may lie together.

use std::fs;
use std::path::{Path, PathBuf};

use crate::config::{Config, StoreLocation};

/// The folders that are the service's alone, by their true names.
pub(super) fn own_folders(config: &Config) -> Vec<PathBuf> {
    let store = match &config.store {
        StoreLocation::Folder(folder) => Some(folder),
        StoreLocation::S3 { .. } => None,
    };
    [&config.state_dir, &config.runs_dir].into_iter().chain(store).map(|folder| true_name(folder)).collect()
}

/// The programs and libraries of a trainer.
pub(super) struct Programs {
    /// What it may read: files, and folders with all that is in them.
    pub(super) paths: Vec<PathBuf>,
    /// Folders that it named and of which it may read no more than the libraries, each with what of the service's lies in it.
    pub(super) narrowed: Vec<(PathBuf, PathBuf)>,
}

impl Programs {
    /// The files and folders of `named`, but for what would open one of the folders in `own`.
    pub(super) fn of<'a>(named: impl IntoIterator<Item = &'a PathBuf>, own: &[PathBuf]) -> Self {
        let (mut paths, mut narrowed) = (Vec::new(), Vec::new());
        for path in named {
            let path = true_name(path);
            if let Some(inside) = own.iter().find(|folder| folder.starts_with(&path)) {
                paths.extend(libraries_in(&path));
                narrowed.push((path, inside.clone()));
            } else if is_library(&path) {
                // Named alone since it lies beside the program; others that lie there may be loaded later.
                paths.extend(path.parent().map(libraries_in).unwrap_or_default());
                paths.push(path);
            } else {
                paths.push(path);
            }
        }
        Self { paths, narrowed }
    }
}

/// The path without links; as it is if there is nothing.
pub(super) fn true_name(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

fn libraries_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_library(path)).collect()
}

/// Whether it is a file with a name like `libtorch.so` or `libgomp.so.1`. A link is none: what it leads to is what counts.
fn is_library(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let is_named = path.extension().is_some_and(|ending| ending == "so") || name.contains(".so.");
    is_named && fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::Programs;

    #[test]
    fn of_a_folder_that_holds_the_services_own_only_libraries_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path().canonicalize().unwrap();
        for made in ["program", "libtorch.so", "libgomp.so.1", "notes.txt", "lib/liba.so", "lib/data", "state/key"] {
            fs::create_dir_all(top.join(made).parent().unwrap()).unwrap();
            fs::write(top.join(made), "").unwrap();
        }
        symlink(top.join("state/key"), top.join("liblink.so")).unwrap();
        symlink(&top, top.join("again")).unwrap();
        let read = |named: &[&str]| {
            let named: Vec<_> = named.iter().map(|name| top.join(name)).collect();
            let Programs { mut paths, narrowed } = Programs::of(&named, &[top.join("state")]);
            paths.sort();
            paths.dedup();
            let paths: Vec<_> = paths.iter().map(|path| path.strip_prefix(&top).unwrap().to_owned()).collect();
            let paths = paths.iter().map(|path| path.to_str().unwrap()).collect::<Vec<_>>().join(" ");
            (paths, narrowed)
        };
        assert_eq!(read(&["program", "lib"]), ("lib program".to_owned(), vec![]));
        let held = vec![(top.clone(), top.join("state"))];
        assert_eq!(read(&["program", ""]), ("libgomp.so.1 libtorch.so program".to_owned(), held.clone()));
        assert_eq!(read(&["again"]), ("libgomp.so.1 libtorch.so".to_owned(), held));
        assert_eq!(read(&["libtorch.so"]), ("libgomp.so.1 libtorch.so".to_owned(), vec![]));
        let state = vec![(top.join("state"), top.join("state"))];
        assert_eq!(read(&["state"]), (String::new(), state), "nor if it is the very folder");
    }
}
