//! What a member of an archive may be called, and which class its name says. The rules are the same for zip and tar.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use crate::dataset::label::label;
use crate::domain::clip::clipped_to;

/// Files that systems leave behind in folders.
const LITTER: [&str; 3] = ["Thumbs.db", "desktop.ini", "__MACOSX"];

/// The longest name, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 1024;

/// The folders and the file that a name says, or None where it names something that is passed over.
///
/// # Errors
/// Why no archive made in good faith has such a name.
pub(super) fn parts(name: &[u8]) -> Result<Option<Vec<&str>>, String> {
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("its name is longer than {MAX_NAME_BYTES} bytes"));
    }
    let Ok(name) = std::str::from_utf8(name) else { return Err("its name is not valid UTF-8".to_owned()) };
    if name.chars().any(char::is_control) {
        return Err("its name holds a control character".to_owned());
    }
    if name.contains('\\') {
        return Err("its name holds a backslash; folders are separated by \"/\"".to_owned());
    }
    let drive = name.as_bytes().get(1) == Some(&b':') && name.starts_with(|c: char| c.is_ascii_alphabetic());
    if name.starts_with('/') || drive {
        return Err("its name is an absolute path".to_owned());
    }
    // `tar c .` begins every name with "./".
    let name = name.strip_prefix("./").unwrap_or(name);
    let is_folder = name.is_empty() || name.ends_with('/');
    let parts: Vec<&str> = name.trim_end_matches('/').split('/').collect();
    if parts.contains(&"..") {
        return Err("its name leads out of the archive (\"..\")".to_owned());
    }
    if is_folder || parts.iter().any(|part| part.starts_with('.') || LITTER.contains(part)) {
        return Ok(None);
    }
    if parts.iter().any(|part| part.is_empty()) {
        return Err("its name has an empty part (\"//\")".to_owned());
    }
    Ok(Some(parts))
}

/// A name as a report shows it, whatever bytes it has.
pub(super) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let name = &name[..name.len().min(4 * LONGEST)];
    let text: String = String::from_utf8_lossy(name).chars().flat_map(char::escape_debug).collect();
    clipped_to(&text, LONGEST).into_owned()
}

/// The folder above all classes, if there is one: archivers put the folder that was packed in front of its contents.
#[derive(Default)]
pub(super) struct Root {
    first: Option<String>,
    differs: bool,
    deepest: usize,
}

impl Root {
    /// Takes in the name of one file; names with faults do not count.
    pub(super) fn add(&mut self, name: &[u8]) {
        let Ok(Some(parts)) = parts(name) else { return };
        self.deepest = self.deepest.max(parts.len());
        let Some(&first) = parts.first() else { return };
        match &self.first {
            Some(other) => self.differs |= other != first,
            None => self.first = Some(first.to_owned()),
        }
    }

    /// Whether the first folder of every name is the root, not a class.
    fn is_there(&self) -> bool {
        !self.differs && self.deepest > 2
    }
}

/// The members of one archive as they come: their numbers, and that no name comes twice.
pub(super) struct Members {
    has_root: bool,
    seen: HashSet<[u8; 16]>,
}

impl Members {
    pub(super) fn new(root: &Root) -> Self {
        Self { has_root: root.is_there(), seen: HashSet::new() }
    }

    /// The label of a file, or None for a name that is passed over.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub(super) fn label(&mut self, name: &[u8]) -> Result<Option<String>, String> {
        let Some(parts) = parts(name)? else { return Ok(None) };
        // 128 bits of SHA-256, so that a million names take little room.
        let digest = Sha256::digest(parts.join("/").as_bytes());
        let mut short = [0; 16];
        short.copy_from_slice(&digest[..16]);
        if !self.seen.insert(short) {
            return Err("its name stands more than once in the archive".to_owned());
        }
        match &parts[usize::from(self.has_root)..] {
            [class, _] => match label(class) {
                Ok(label) => Ok(Some(label.text)),
                Err(message) => Err(format!("the name of its class folder {message}")),
            },
            [] | [_] => Err("lies in no class folder; expected class/image".to_owned()),
            _ => Err("lies too deep; expected class/image, or that below one folder for everything".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Members, Root, parts, shown};

    #[test]
    fn names_that_lead_elsewhere_are_faults() {
        for (name, why) in [
            (&b"../a/b.png"[..], "\"..\""),
            (b"a/../../b.png", "\"..\""),
            (b"a/..", "\"..\""),
            (b"/a/b.png", "absolute"),
            (b"C:/a/b.png", "absolute"),
            (b"a\\b.png", "backslash"),
            (b"a/b\0.png", "control"),
            (b"a/b\x1B[2J.png", "control"),
            (b"a/\xFF.png", "UTF-8"),
            (b"a//b.png", "empty part"),
        ] {
            let message = parts(name).unwrap_err();
            assert!(message.contains(why), "{name:?}: {message}");
        }
        assert!(parts(&[b'a'; 2000]).unwrap_err().contains("longer"));
    }

    #[test]
    fn litter_and_folders_are_passed_over() {
        for name in ["cats/", "./", "./cats/", "__MACOSX/cats/._1.jpg", "cats/.DS_Store", "cats/Thumbs.db", ".git/x"] {
            assert_eq!(parts(name.as_bytes()), Ok(None), "{name}");
        }
        assert_eq!(parts(b"./cats/1.jpg"), Ok(Some(vec!["cats", "1.jpg"])));
    }

    #[test]
    fn one_folder_above_all_classes_is_stripped() {
        let labels = |names: &[&str]| {
            let mut root = Root::default();
            for name in names {
                root.add(name.as_bytes());
            }
            let mut members = Members::new(&root);
            names.iter().map(|name| members.label(name.as_bytes())).collect::<Vec<_>>()
        };
        let ok = |label: &str| Ok(Some(label.to_owned()));
        assert_eq!(labels(&["cats/1", "dogs/1"]), [ok("cats"), ok("dogs")]);
        assert_eq!(labels(&["pets/cats/1", "pets/dogs/1"]), [ok("cats"), ok("dogs")]);
        assert_eq!(labels(&["cats/1", "cats/2"]), [ok("cats"), ok("cats")]);
        let mixed = labels(&["pets/cats/1", "dogs/1", "1", "dogs/1"]);
        assert!(mixed[0].as_ref().unwrap_err().contains("too deep"));
        assert_eq!(mixed[1], ok("dogs"));
        assert!(mixed[2].as_ref().unwrap_err().contains("no class folder"));
        assert!(mixed[3].as_ref().unwrap_err().contains("more than once"));
        assert!(labels(&["pets/cats/1", "pets/readme"])[1].is_err());
        assert!(labels(&[" /1"])[0].as_ref().unwrap_err().contains("class folder is empty"));
    }

    #[test]
    fn a_name_is_shown_printable_and_short() {
        assert_eq!(shown(b"a\n\xFF"), "a\\n\u{FFFD}");
        assert_eq!(shown(&[b'a'; 5000]).chars().count(), 201);
    }
}
