//! The folders of an archive that hold images, gathered before any image is read.

use std::collections::BTreeMap;

/// The most folders that are kept: classes, three times over where an archive has its splits, and then some.
pub(super) const MAX_FOLDERS: usize = 50_000;

/// A folder, or the archive itself.
#[derive(Debug, Default)]
pub(super) struct Folder {
    /// Images that lie in it, not deeper.
    pub(super) images: u64,
    /// Those that hold images, or have such below them.
    pub(super) folders: BTreeMap<String, Self>,
}

impl Folder {
    /// Images in it and below.
    pub(super) fn all_images(&self) -> u64 {
        let (mut images, mut left) = (0, vec![self]);
        while let Some(folder) = left.pop() {
            images += folder.images;
            left.extend(folder.folders.values());
        }
        images
    }

    /// Whether images lie in one of its folders directly.
    pub(super) fn has_classes(&self) -> bool {
        self.folders.values().any(|class| class.images > 0)
    }
}

/// The folders of an archive.
#[derive(Debug, Default)]
pub(super) struct Folders {
    pub(super) top: Folder,
    kept: usize,
}

impl Folders {
    /// Takes in an image in a folder; false where there are too many folders.
    pub(super) fn add(&mut self, path: &[&str]) -> bool {
        let mut at = &mut self.top;
        for part in path {
            if !at.folders.contains_key(*part) {
                if self.kept == MAX_FOLDERS {
                    return false;
                }
                self.kept += 1;
            }
            at = at.folders.entry((*part).to_owned()).or_default();
        }
        at.images += 1;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::{Folders, MAX_FOLDERS};

    #[test]
    fn images_are_counted_where_they_lie_and_folders_are_bounded() {
        let mut folders = Folders::default();
        for path in [&["pets", "cats"][..], &["pets", "cats"], &["pets"], &[]] {
            assert!(folders.add(path));
        }
        let pets = &folders.top.folders["pets"];
        assert_eq!((folders.top.images, pets.images, pets.folders["cats"].images), (1, 1, 2));
        assert_eq!((folders.top.all_images(), pets.all_images()), (4, 3));
        assert!(pets.has_classes() && folders.top.has_classes() && !pets.folders["cats"].has_classes());
        assert!((2..MAX_FOLDERS).all(|i| folders.add(&[&i.to_string()])));
        assert!(!folders.add(&["one more"]));
        assert!(folders.add(&["2"]), "those that are there go on");
    }
}
