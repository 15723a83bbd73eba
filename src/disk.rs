//! Room on disks, and how much of it is left alone so that the database always has some.

use std::io;
use std::path::Path;

use nix::sys::statvfs::{Statvfs, statvfs};

/// Bytes that may still be written on the file system of `path`, which need not exist yet; None where it cannot be said.
pub fn free_bytes(path: &Path) -> Option<u64> {
    at(path).map(|disk| disk.blocks_available() * disk.fragment_size())
}

fn at(path: &Path) -> Option<Statvfs> {
    let here = |folder: &Path| if folder.as_os_str().is_empty() { statvfs(".") } else { statvfs(folder) };
    path.ancestors().find_map(|folder| here(folder).ok())
}

/// Bytes that stay free on every disk that is written to; 0 turns it off. Uploads and new runs keep all of it free. What
/// runs at work save may use half, so that nobody can make them fail by uploading; the other half is the database's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve(pub u64);

impl Reserve {
    /// Whether `more` bytes can be written on the file system of `path`.
    ///
    /// # Errors
    /// The reserve would be used; the kind is [`io::ErrorKind::StorageFull`], as if the disk were full.
    pub fn check(self, path: &Path, more: u64) -> io::Result<()> {
        let wanted = self.0.saturating_add(more);
        match free_bytes(path) {
            Some(free) if self.0 > 0 && free < wanted => {
                let message = format!("{free} bytes are free, {more} are asked for, and {} stay free", self.0);
                Err(io::Error::new(io::ErrorKind::StorageFull, message))
            }
            _ => Ok(()),
        }
    }

    /// Bytes that may be written on the file system of `path` before the reserve begins.
    pub fn usable(self, path: &Path) -> Option<u64> {
        free_bytes(path).map(|free| free.saturating_sub(self.0))
    }

    /// The same if nothing else were there.
    pub fn capacity(self, path: &Path) -> Option<u64> {
        at(path).map(|disk| (disk.blocks() * disk.fragment_size()).saturating_sub(self.0))
    }

    /// What runs at work leave free.
    #[must_use]
    pub fn of_runs(self) -> Self {
        Self(self.0 / 2)
    }

    /// Whether so little of it is left on the file system of `path` that runs must end: a quarter.
    pub fn is_eaten(self, path: &Path) -> bool {
        free_bytes(path).is_some_and(|free| free < self.0 / 4)
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::path::Path;

    use super::{Reserve, free_bytes};

    #[test]
    fn the_reserve_is_as_good_as_written() {
        let here = Path::new("/nowhere/at/all");
        let free = free_bytes(here).unwrap();
        assert!(Reserve(1).check(here, 0).is_ok() && Reserve(1).usable(here).is_some());
        let kind = |reserve: Reserve, more| reserve.check(here, more).unwrap_err().kind();
        assert_eq!(kind(Reserve(free * 2), 0), ErrorKind::StorageFull);
        assert_eq!(kind(Reserve(1), free * 2), ErrorKind::StorageFull);
        assert_eq!(Reserve(free * 2).usable(here), Some(0));
        assert!(Reserve(1).capacity(here) >= Reserve(1).usable(here));
        assert!(Reserve(free * 8).is_eaten(here) && !Reserve(1).is_eaten(here));
        assert!(Reserve(0).check(here, u64::MAX).is_ok(), "turned off");
        assert!(free_bytes(Path::new("relative/and/missing")).is_some());
    }
}
