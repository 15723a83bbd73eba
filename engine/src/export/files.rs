//! Files of a directory: hashes, and making them durable.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::{EngineError, Result};
use finetuned::domain::hex::hex;

/// Writes pretty JSON with a final newline.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|error| EngineError::native(error.to_string()))?;
    text.push(b'\n');
    fs::write(path, text).map_err(EngineError::io(path))
}

/// The files below `directory`, as relative paths with forward slashes, sorted.
fn files_below(directory: &Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    let mut folders = vec![(directory.to_owned(), String::new())];
    while let Some((folder, prefix)) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(EngineError::io(&folder))? {
            let entry = entry.map_err(EngineError::io(&folder))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if entry.path().is_dir() {
                folders.push((entry.path(), format!("{name}/")));
            } else {
                found.push(name);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Size and hash of a file, as manifests have them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileHash {
    pub bytes: u64,
    pub sha256: String,
}

/// Sizes and hashes of the files below `directory`, by relative path.
pub fn hashes_below(directory: &Path) -> Result<BTreeMap<String, FileHash>> {
    files_below(directory)?.into_iter().map(|file| Ok((file.clone(), hash_file(&directory.join(file))?))).collect()
}

/// Size and hash of a file.
pub fn hash_file(path: &Path) -> Result<FileHash> {
    let mut file = File::open(path).map_err(EngineError::io(path))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let read = file.read(&mut buffer).map_err(EngineError::io(path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
        bytes += read as u64;
    }
    Ok(FileHash { bytes, sha256: hex(&hasher.finalize()) })
}

/// Makes the files and folders below `directory` durable.
pub fn sync_tree(directory: &Path) -> Result<()> {
    for file in files_below(directory)? {
        let path = directory.join(&file);
        File::open(&path).and_then(|file| file.sync_all()).map_err(EngineError::io(&path))?;
        if let Some(parent) = path.parent() {
            sync_directory(parent)?;
        }
    }
    sync_directory(directory)
}

/// Makes the entries of a directory durable.
pub fn sync_directory(directory: &Path) -> Result<()> {
    File::open(directory).and_then(|folder| folder.sync_all()).map_err(EngineError::io(directory))
}
