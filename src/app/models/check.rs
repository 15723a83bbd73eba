//! Whether a folder is a model that can be trained: the trainer is asked, so that what is imported is what it takes.
//!
//! It runs as it does for jobs, confined, on a copy of the folder whose weights are holes behind their headers: names,
//! shapes and types are all that it looks at.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use uuid::Uuid;

use super::folder::{Folder, TOKENIZER, open};
use crate::app::{App, trainer};
use crate::domain::error::{Error, Result};
use crate::domain::model::Checked;
use crate::private;
use crate::process::tree;

/// The longest line that it may print.
const LONGEST_LINE: usize = 1 << 20;

/// The longest header of a safetensors file, as the format's own library has it.
pub(super) const LONGEST_HEADER: u64 = 100_000_000;

/// What the trainer says of the model in `folder`, and the tokenizer that it built where there was none.
///
/// # Errors
/// The folder cannot be read, or the trainer does not answer.
pub(super) async fn check(app: &App, folder: &Folder) -> Result<(Checked, Option<File>)> {
    let premises =
        app.premises().await.map_err(|why| Error::unavailable(format!("no trainer can check the model: {why}")))?;
    let work = app.runs().join(Uuid::new_v4().simple().to_string());
    let outlined = outline(folder, &work.join("model")).map_err(|error| Error::invalid("directory", error.to_string()));
    let answered = match outlined {
        Ok(()) => trainer::ask(app, &premises, &work, &["check", "model"], LONGEST_LINE).await,
        Err(error) => Err(error),
    };
    let built = Path::new("model").join(TOKENIZER);
    // It stays open when its folder goes.
    let built = match work.join(&built).symlink_metadata() {
        Ok(_) if !folder.has(TOKENIZER) => tree::open_file(&work, &built).await.map(Some),
        _ => Ok(None),
    };
    if let Err(error) = fs::remove_dir_all(&work) {
        tracing::debug!(%error, "the folder of an import stays");
    }
    Ok((answered?, built?))
}

/// Copies the folder's files to `target`, weights without their values.
fn outline(folder: &Folder, target: &Path) -> io::Result<()> {
    private::make_folder(target, private::FOLDER)?;
    for (name, path) in &folder.taken {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{name} cannot be read: {error}"));
        let mut source = open(path).map_err(named)?;
        let copied = target.join(name);
        if let Some(folder) = copied.parent() {
            private::make_folder(folder, private::FOLDER)?;
        }
        let mut copy = File::create(copied)?;
        let copied = if name.ends_with(".safetensors") {
            outline_weights(&mut source, &mut copy)
        } else {
            io::copy(&mut source, &mut copy).map(drop)
        };
        copied.map_err(named)?;
    }
    Ok(())
}

/// The header of a safetensors file: its length in eight bytes (little-endian), and as many bytes of JSON. What follows
/// becomes a hole, so that the copy has the length of the original.
fn outline_weights(source: &mut File, copy: &mut File) -> io::Result<()> {
    let bytes = source.metadata()?.len();
    let mut length = [0; 8];
    let read = source.take(8).read(&mut length)?;
    copy.write_all(&length[..read])?;
    io::copy(&mut source.take(u64::from_le_bytes(length).min(LONGEST_HEADER)), copy)?;
    copy.set_len(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{Folder, outline};

    #[test]
    fn of_weights_the_header_alone_is_copied() {
        let top = tempfile::tempdir().unwrap();
        let (source, target) = (top.path().join("source"), top.path().join("target"));
        fs::create_dir(&source).unwrap();
        let header = br#"{"a":{"dtype":"U8","shape":[9],"data_offsets":[0,9]}}"#;
        let file = [&(header.len() as u64).to_le_bytes()[..], header, b"ninebytes"].concat();
        for (name, bytes) in
            [("model.safetensors", file.as_slice()), ("short.safetensors", b"abc"), ("config.json", b"{}")]
        {
            fs::write(source.join(name), bytes).unwrap();
        }
        outline(&Folder::read(&source).unwrap(), &target).unwrap();
        let expected = [&file[..file.len() - 9], &[0; 9]].concat();
        assert_eq!(fs::read(target.join("model.safetensors")).unwrap(), expected);
        assert_eq!(fs::read(target.join("short.safetensors")).unwrap(), b"abc");
        assert_eq!(fs::read(target.join("config.json")).unwrap(), b"{}");
    }
}
