//! The folder that a base model is imported from: which of its files belong to the model, and which are left where they
//! are. Of the folders in it those are looked into that sentence-transformers keeps the settings of its modules in. Whoever made the folder need not be who imports it, and what is imported all members of all projects can read:
//! no link leads the import to anything else.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::libc;

use super::stand_in::{HEAD, stand_in};

/// Endings of the files that belong to a model. Weights in pickles are never taken: reading them runs code.
const TAKEN: [&str; 6] = ["json", "jinja", "safetensors", "txt", "model", "md"];
/// Files without an ending that are taken as well: what a model may be used for goes with it.
const TERMS: [&str; 2] = ["LICENSE", "NOTICE"];

/// The tokenizer of a model of texts, which the trainer builds where it is missing and can be.
pub(super) const TOKENIZER: &str = "tokenizer.json";

/// The file of a module that is taken.
const SETTINGS: &str = "/config.json";

/// Why a file with such an ending is not taken.
const BROKEN: &str = "a link to nothing";
const OUTSIDE: &str = "a link to a place outside of the folder";
const SPECIAL: &str = "no regular file";

/// The files of a model's folder.
pub(super) struct Folder {
    /// Those that belong to the model, sorted, and where they really are.
    pub(super) taken: Vec<(String, PathBuf)>,
    /// The others; with a reason those whose names are right.
    left: Vec<(String, Option<&'static str>)>,
}

impl Folder {
    /// Looks at the folder's files; none is opened.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(super) fn read(directory: &Path) -> io::Result<Self> {
        let root = directory.canonicalize()?;
        let blobs = blobs_of(&root);
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for entry in fs::read_dir(&root)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.file_type()?.is_dir() {
                read_module(&entry.path(), &name, (&root, blobs.as_deref()), &mut taken, &mut left)?;
                continue;
            }
            let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
            if name.starts_with('.') || !TAKEN.contains(&ending) && !TERMS.contains(&name.as_str()) {
                left.push((name, None));
                continue;
            }
            match resolve(&entry.path(), &root, blobs.as_deref()) {
                Ok(path) => taken.push((name, path)),
                Err(why) => left.push((name, Some(why))),
            }
        }
        taken.sort();
        left.sort();
        Ok(Self { taken, left })
    }

    /// One of these files, by name.
    pub(super) fn of(mut taken: Vec<(String, PathBuf)>) -> Self {
        taken.sort();
        Self { taken, left: Vec::new() }
    }

    /// Where a file of this name really is, if it is taken.
    pub(super) fn path(&self, name: &str) -> Option<&Path> {
        self.taken.iter().find(|(taken, _)| taken == name).map(|(_, path)| path.as_path())
    }

    /// Whether a file of this name is taken.
    pub(super) fn has(&self, name: &str) -> bool {
        self.taken.iter().any(|(taken, _)| taken == name)
    }

    /// Checks that a file is there which every model needs, and that it has at most so many bytes.
    ///
    /// # Errors
    /// It is not there, or not to be taken.
    pub(super) fn needed(&self, name: &str, most: u64) -> Result<(), String> {
        let Some((_, path)) = self.taken.iter().find(|(taken, _)| taken == name) else {
            return Err(self.why_not(|left| left == name).unwrap_or_else(|| format!("it has no {name}")));
        };
        let bytes = open(path).and_then(|file| file.metadata()).map_err(|error| format!("{name}: {error}"))?.len();
        if bytes > most { Err(format!("{name} has more than {most} bytes")) } else { Ok(()) }
    }

    /// Checks that nothing which the trainer reads is left out.
    ///
    /// # Errors
    /// It is: why.
    pub(super) fn whole(&self) -> Result<(), String> {
        const READ: [&str; 4] = [TOKENIZER, "tokenizer_config.json", "modules.json", "preprocessor_config.json"];
        /// What a tokenizer is built from where there is none.
        const PARTS: [&str; 5] =
            ["special_tokens_map.json", "added_tokens.json", "vocab.txt", "vocab.json", "merges.txt"];
        let builds = !self.has(TOKENIZER);
        let is_read = |name: &str| {
            name.contains(".safetensors")
                || name.ends_with(SETTINGS)
                || READ.contains(&name)
                || builds && PARTS.contains(&name)
        };
        self.why_not(is_read).map_or(Ok(()), Err)
    }

    /// Checks that no file is something else in its place: what a download gives that did not succeed.
    ///
    /// # Errors
    /// One is, or cannot be read: which, and what to do.
    pub(super) fn genuine(&self) -> Result<(), String> {
        for (name, path) in &self.taken {
            let mut head = Vec::new();
            let read = open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
            read.map_err(|error| format!("{name} cannot be read: {error}"))?;
            if let Some(what) = stand_in(name, &head) {
                return Err(format!("{name} {what}"));
            }
        }
        Ok(())
    }

    /// The files that are left, as they are listed.
    pub(super) fn skipped(&self) -> Vec<String> {
        let listed = |(name, why): &(String, Option<&str>)| match why {
            Some(why) => format!("{name} ({why})"),
            None => name.clone(),
        };
        self.left.iter().map(listed).collect()
    }

    /// Why the first file that `is_meant` is not taken, though its name is right.
    fn why_not(&self, is_meant: impl Fn(&str) -> bool) -> Option<String> {
        let mut left = self.left.iter().filter(|(name, _)| is_meant(name));
        left.find_map(|(name, why)| why.map(|why| format!("{name} is {why}")))
    }
}

/// The settings of a module of sentence-transformers in a folder like `1_Pooling`. What else lies there, and every other
/// folder, is left.
fn read_module(
    folder: &Path,
    name: &str,
    (root, blobs): (&Path, Option<&Path>),
    taken: &mut Vec<(String, PathBuf)>,
    left: &mut Vec<(String, Option<&'static str>)>,
) -> io::Result<()> {
    if !is_module(name) {
        left.push((format!("{name}/"), None));
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let below = format!("{name}/{}", entry.file_name().to_string_lossy());
        if below.strip_prefix(name) != Some(SETTINGS) {
            left.push((below, None));
            continue;
        }
        match resolve(&entry.path(), root, blobs) {
            Ok(path) => taken.push((below, path)),
            Err(why) => left.push((below, Some(why))),
        }
    }
    Ok(())
}

/// Whether a folder is called as sentence-transformers calls those of modules: a number and a class.
fn is_module(name: &str) -> bool {
    name.split_once('_').is_some_and(|(number, class)| {
        let is_plain =
            |part: &str, fits: fn(char) -> bool| !part.is_empty() && part.len() <= 32 && part.chars().all(fits);
        is_plain(number, |c| c.is_ascii_digit()) && is_plain(class, |c| c.is_ascii_alphanumeric())
    })
}

/// Where an entry leads, if to a file that may be taken.
fn resolve(entry: &Path, root: &Path, blobs: Option<&Path>) -> Result<PathBuf, &'static str> {
    let path = entry.canonicalize().map_err(|_| BROKEN)?;
    if !path.starts_with(root) && !blobs.is_some_and(|blobs| path.starts_with(blobs)) {
        return Err(OUTSIDE);
    }
    if fs::metadata(&path).is_ok_and(|meta| meta.is_file()) { Ok(path) } else { Err(SPECIAL) }
}

/// The folder that the links of a model in Hugging Face's cache lead to: `models--ORG--NAME/blobs` beside
/// `models--ORG--NAME/snapshots/REVISION` (huggingface.co/docs/huggingface_hub/guides/manage-cache).
fn blobs_of(root: &Path) -> Option<PathBuf> {
    let snapshots = root.parent().filter(|folder| folder.ends_with("snapshots"))?;
    let repository = snapshots.parent()?;
    let is_model = repository.file_name()?.to_str()?.starts_with("models--");
    is_model.then(|| repository.join("blobs"))
}

/// Opens a file, and waits for nobody, whatever is in its place by now.
///
/// # Errors
/// It cannot be opened, or is no regular file.
pub(super) fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other(SPECIAL)) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::{Folder, open};

    #[test]
    fn only_links_within_the_folder_are_followed() {
        let top = tempfile::tempdir().unwrap();
        let (folder, secret) = (top.path().join("model"), top.path().join("secret.txt"));
        fs::create_dir(&folder).unwrap();
        fs::write(&secret, "secret").unwrap();
        fs::write(folder.join("real.json"), "{}").unwrap();
        symlink("real.json", folder.join("config.json")).unwrap();
        symlink("/etc/shadow", folder.join("shadow.txt")).unwrap();
        symlink("../secret.txt", folder.join("notes.md")).unwrap();
        symlink("nothing", folder.join("vocab.txt")).unwrap();
        symlink("/dev/zero", folder.join("model.safetensors")).unwrap();
        mkfifo(&folder.join("tokenizer.json"), Mode::S_IRWXU).unwrap();
        fs::write(folder.join("pytorch_model.bin"), "").unwrap();
        fs::write(folder.join("chat_template.jinja"), "{{ messages }}").unwrap();
        fs::write(folder.join("LICENSE"), "").unwrap();

        let found = Folder::read(&folder).unwrap();
        let names: Vec<&str> = found.taken.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["LICENSE", "chat_template.jinja", "config.json", "real.json"]);
        let needed = |name: &str| found.needed(name, 2);
        assert_eq!(needed("config.json"), Ok(()));
        assert_eq!(found.needed("config.json", 1).unwrap_err(), "config.json has more than 1 bytes");
        let outside = "is a link to a place outside of the folder";
        assert_eq!(needed("shadow.txt").unwrap_err(), format!("shadow.txt {outside}"));
        assert_eq!(found.whole().unwrap_err(), format!("model.safetensors {outside}"));
        assert_eq!(needed("tokenizer.json").unwrap_err(), "tokenizer.json is no regular file");
        assert_eq!(needed("vocab.txt").unwrap_err(), "vocab.txt is a link to nothing");
        assert_eq!(needed("added.json").unwrap_err(), "it has no added.json");
        let skipped = found.skipped();
        assert!(skipped.contains(&"notes.md (a link to a place outside of the folder)".to_owned()), "{skipped:?}");
        assert!(skipped.contains(&"pytorch_model.bin".to_owned()), "{skipped:?}");
    }

    #[test]
    fn the_links_of_the_hugging_face_cache_are_followed_to_its_blobs_alone() {
        let top = tempfile::tempdir().unwrap();
        let revision = |repository: &str| {
            let repository = top.path().join(repository);
            let revision = repository.join("snapshots/0123abc");
            fs::create_dir_all(&revision).unwrap();
            fs::create_dir_all(repository.join("blobs")).unwrap();
            fs::write(repository.join("blobs/4567"), "{}").unwrap();
            fs::write(repository.join("token.txt"), "secret").unwrap();
            symlink("../../blobs/4567", revision.join("config.json")).unwrap();
            symlink("../../token.txt", revision.join("token.txt")).unwrap();
            symlink("../../../models--a--b/blobs/4567", revision.join("other.json")).unwrap();
            revision
        };
        let names = |folder: &Path| -> Vec<String> {
            Folder::read(folder).unwrap().taken.into_iter().map(|(name, _)| name).collect()
        };
        assert_eq!(names(&revision("models--a--b")), ["config.json", "other.json"]);
        assert_eq!(names(&revision("models--c--d")), ["config.json"]);
        assert_eq!(names(&revision("elsewhere")), [""; 0]);
    }

    #[test]
    fn of_the_folders_of_modules_their_settings_are_taken() {
        let top = tempfile::tempdir().unwrap();
        let folder = top.path().join("model");
        for below in ["1_Pooling", "2_Normalize", "3_Dense", "onnx", "4_"] {
            fs::create_dir_all(folder.join(below)).unwrap();
            fs::write(folder.join(below).join("model.safetensors"), "").unwrap();
            fs::write(folder.join(below).join("config.json"), "{}").unwrap();
        }
        fs::remove_file(folder.join("1_Pooling/model.safetensors")).unwrap();
        fs::remove_dir_all(folder.join("2_Normalize")).unwrap();
        fs::create_dir(folder.join("2_Normalize")).unwrap();
        fs::create_dir(top.path().join("5_Other")).unwrap();
        fs::write(top.path().join("5_Other/config.json"), "secret").unwrap();
        symlink("../5_Other", folder.join("5_Other")).unwrap();
        fs::remove_file(folder.join("3_Dense/config.json")).unwrap();
        symlink("/etc/passwd", folder.join("3_Dense/config.json")).unwrap();

        let found = Folder::read(&folder).unwrap();
        let names: Vec<&str> = found.taken.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["1_Pooling/config.json"]);
        let outside = "a link to a place outside of the folder";
        let dense = format!("3_Dense/config.json ({outside})");
        assert_eq!(found.skipped(), [dense.as_str(), "3_Dense/model.safetensors", "4_/", "5_Other", "onnx/"]);
        assert_eq!(found.whole().unwrap_err(), format!("3_Dense/config.json is {outside}"));
    }

    #[test]
    fn nothing_but_a_file_is_opened() {
        let top = tempfile::tempdir().unwrap();
        let pipe = top.path().join("pipe");
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for path in [pipe.as_path(), Path::new("/dev/zero")] {
            assert_eq!(open(path).unwrap_err().to_string(), "no regular file", "{}", path.display());
        }
    }
}
