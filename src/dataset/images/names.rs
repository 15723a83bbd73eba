//! What the name of a member of an archive says: the folders and the file. The rules are the same for zip and tar.

use super::litter::is_litter;
use crate::domain::clip::clipped_to;

/// The longest name, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 1024;

/// What a name names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Named<'a> {
    Folder,
    /// Something that a system left behind.
    Litter,
    /// The folders and the file, from above to below.
    File(Vec<&'a str>),
}

/// Takes a name apart.
///
/// # Errors
/// Why no archive made in good faith has such a name.
pub(super) fn named(name: &str) -> Result<Named<'_>, String> {
    if name.len() > MAX_NAME_BYTES {
        return Err(format!("its name is longer than {MAX_NAME_BYTES} bytes"));
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
    // Before characters are looked at: macOS calls the icon of a folder "Icon\r".
    if is_litter(&parts) {
        return Ok(if is_folder { Named::Folder } else { Named::Litter });
    }
    if name.chars().any(char::is_control) {
        return Err("its name holds a control character".to_owned());
    }
    if name.contains('\\') {
        return Err("its name holds a backslash; folders are separated by \"/\"".to_owned());
    }
    if is_folder {
        return Ok(Named::Folder);
    }
    if parts.iter().any(|part| part.is_empty()) {
        return Err("its name has an empty part (\"//\")".to_owned());
    }
    Ok(Named::File(parts))
}

/// What the name of a file ends in, behind its last dot and in small letters; None where nothing short and plain does.
pub(super) fn ending(file: &str) -> Option<String> {
    const LONGEST: usize = 10;
    let (stem, ending) = file.rsplit_once('.')?;
    let is_plain = (1..=LONGEST).contains(&ending.len()) && ending.bytes().all(|byte| byte.is_ascii_alphanumeric());
    (!stem.is_empty() && is_plain).then(|| ending.to_ascii_lowercase())
}

/// A name as a report shows it, whatever bytes it has.
pub(super) fn shown(name: &[u8]) -> String {
    const LONGEST: usize = 200;
    let name = &name[..name.len().min(4 * LONGEST)];
    let text: String = String::from_utf8_lossy(name).chars().flat_map(char::escape_debug).collect();
    clipped_to(&text, LONGEST).into_owned()
}

#[cfg(test)]
mod tests {
    use super::{Named, ending, named, shown};

    #[test]
    fn names_that_lead_elsewhere_are_faults() {
        for (name, why) in [
            ("../a/b.png", "\"..\""),
            ("a/../../b.png", "\"..\""),
            ("a/..", "\"..\""),
            ("__MACOSX/../b.png", "\"..\""),
            ("/a/b.png", "absolute"),
            ("C:/a/b.png", "absolute"),
            ("a\\b.png", "backslash"),
            ("a/b\0.png", "control"),
            ("a/b\x1B[2J.png", "control"),
            ("a//b.png", "empty part"),
        ] {
            let message = named(name).unwrap_err();
            assert!(message.contains(why), "{name:?}: {message}");
        }
        assert!(named(&"a".repeat(2000)).unwrap_err().contains("longer"));
    }

    #[test]
    fn litter_and_folders_are_told_from_files() {
        for name in ["cats/", "./", "./cats/", "", "__MACOSX/"] {
            assert_eq!(named(name), Ok(Named::Folder), "{name}");
        }
        for name in ["__MACOSX/cats/._1.jpg", "cats/.DS_Store", "cats/Icon\r", ".git/x"] {
            assert_eq!(named(name), Ok(Named::Litter), "{name}");
        }
        assert_eq!(named("./cats/1.jpg"), Ok(Named::File(vec!["cats", "1.jpg"])));
        assert_eq!(named(".cats/.1.jpg"), Ok(Named::File(vec![".cats", ".1.jpg"])));
    }

    #[test]
    fn an_ending_is_short_and_plain() {
        let ending = |file| ending(file).unwrap_or_default();
        assert_eq!((ending("a.b.TXT"), ending("a.jpeg")), ("txt".to_owned(), "jpeg".to_owned()));
        for file in ["a", "a.", ".gitkeep", "a.b c", "a.näh", "a.12345678901"] {
            assert_eq!(ending(file), "", "{file}");
        }
    }

    #[test]
    fn a_name_is_shown_printable_and_short() {
        assert_eq!(shown(b"a\n\xFF"), "a\\n\u{FFFD}");
        assert_eq!(shown(&[b'a'; 5000]).chars().count(), 201);
    }
}
