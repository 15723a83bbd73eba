//! A model as one tar stream (POSIX ustar), made while it is sent.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use crate::domain::model::ModelFile;
use crate::store::Store;

const BLOCK: u64 = 512;

/// The archive of `files`, each under `folder/`.
pub(super) fn tar(
    store: Store,
    folder: String,
    created: u64,
    files: Vec<ModelFile>,
) -> impl Stream<Item = io::Result<Bytes>> {
    let end = Bytes::from(vec![0; 2 * BLOCK as usize]);
    stream::iter(files)
        .then(move |file| {
            let (store, folder) = (store.clone(), folder.clone());
            async move { entry(&store, &folder, created, file).await }
        })
        .try_flatten()
        .chain(stream::iter([Ok(end)]))
}

async fn entry(
    store: &Store,
    folder: &str,
    created: u64,
    file: ModelFile,
) -> io::Result<impl Stream<Item = io::Result<Bytes>> + use<>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(format!("{folder}/{}", file.path))?;
    header.set_size(file.bytes);
    header.set_mode(0o644);
    header.set_mtime(created);
    header.set_cksum();
    let header = Bytes::copy_from_slice(header.as_bytes());
    let padding = Bytes::from(vec![0; (file.bytes.next_multiple_of(BLOCK) - file.bytes) as usize]);
    let content = store.read(&file.object_key, 0, file.bytes).await.map_err(io::Error::other)?;
    Ok(stream::iter([Ok(header)]).chain(content).chain(stream::iter([Ok(padding)])))
}
