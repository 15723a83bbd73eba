//! What systems and programs leave behind in folders. The names are those of github/gitignore's lists for macOS, Windows
//! and Linux and of npm's `junk`, as far as no class would be called so, and what NAS boxes and viewers of images add.

/// Files and folders; what lies in such a folder is litter, too. File systems that ignore letter case spell them anyhow.
const NAMES: [&str; 53] = [
    // macOS and its network volumes
    ".AppleDB",
    ".AppleDesktop",
    ".AppleDouble",
    ".DS_Store",
    ".DocumentRevisions-V100",
    ".LSOverride",
    ".Spotlight-V100",
    ".TemporaryItems",
    ".Trashes",
    ".VolumeIcon.icns",
    ".apdisk",
    ".com.apple.timemachine.donotpresent",
    ".fseventsd",
    ".localized",
    "Icon\r",
    "Network Trash Folder",
    "Temporary Items",
    "__MACOSX",
    // Windows
    "$RECYCLE.BIN",
    "System Volume Information",
    "Thumbs.db",
    "Thumbs.db:encryptable",
    "desktop.ini",
    "ehthumbs.db",
    "ehthumbs_vista.db",
    // Linux and its desktops
    ".Trash",
    ".directory",
    ".thumbnails",
    ".xvpics",
    "lost+found",
    // Synology, QNAP, NetApp
    "#recycle",
    "#snapshot",
    ".@__qini",
    ".@__thumb",
    ".@upload_cache",
    ".snapshot",
    "@Recently-Snapshot",
    "@Recycle",
    "@SynoEAStream",
    "@SynoResource",
    "@eaDir",
    "@tmp",
    // Programs for images
    ".picasa.ini",
    ".picasaoriginals",
    "Picasa.ini",
    "ZbThumbnail.info",
    // Programs for files
    ".dropbox",
    ".dropbox.cache",
    ".git",
    ".hg",
    ".ipynb_checkpoints",
    ".svn",
    "__pycache__",
];

/// What the names of files begin with: resource forks, deleted files that are in use, locks of office programs.
const STARTS: [&str; 4] = ["._", ".fuse_hidden", ".nfs0", "~$"];

/// What the names of files end in: backups of editors, swap files of vim, attributes that Synology keeps.
const ENDS: [&str; 5] = ["~", ".swp", ".swo", "@synoeastream", "@synoresource"];

/// Whether a file is litter, by its folders and its name.
pub(super) fn is_litter(parts: &[&str]) -> bool {
    if parts.iter().any(|part| NAMES.iter().any(|name| name.eq_ignore_ascii_case(part)) || is_bin(part)) {
        return true;
    }
    let Some(name) = parts.last().map(|name| name.to_ascii_lowercase()) else { return false };
    STARTS.iter().any(|start| name.starts_with(start)) || ENDS.iter().any(|end| name.ends_with(end))
}

/// A user's bin at the top of a volume, such as `.Trash-1000` (the FreeDesktop.org Trash specification).
fn is_bin(part: &str) -> bool {
    part.strip_prefix(".Trash-").is_some_and(|user| user.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::is_litter;

    #[test]
    fn what_systems_leave_behind_is_litter_in_any_letter_case() {
        for name in [
            "cats/Thumbs.db",
            "cats/thumbs.db",
            "cats/THUMBS.DB",
            "Desktop.ini",
            "cats/ehthumbs_vista.db",
            "cats/Picasa.ini",
            "__macosx/cats/1.jpg",
            "cats/._1.jpg",
            "cats/Icon\r",
            "@eaDir/cats/1.jpg",
            "cats/@eadir/1.jpg/SYNOPHOTO_THUMB_XL.jpg",
            "#recycle/1.jpg",
            "$Recycle.Bin/S-1-5-21/1.jpg",
            ".@__thumb/default1.jpg",
            ".Trash-1000/files/1.jpg",
            "cats/.ipynb_checkpoints/1-checkpoint.jpg",
            "cats/1.jpg~",
            "cats/~$labels.xlsx",
        ] {
            assert!(is_litter(&name.split('/').collect::<Vec<_>>()), "{name}");
        }
    }

    #[test]
    fn what_only_looks_alike_is_none() {
        for name in ["thumbs/1.jpg", "cats/.1.jpg", ".cats/1.jpg", "cats~/1.jpg", ".Trash-cans/1.jpg", "icon/1.jpg"] {
            assert!(!is_litter(&name.split('/').collect::<Vec<_>>()), "{name}");
        }
    }
}
