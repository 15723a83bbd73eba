//! A model as one tar stream (POSIX ustar), made while it is sent.

use bytes::Bytes;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};

use crate::app::App;
use crate::app::objects::Object;
use crate::domain::error::{Error, Result};
use crate::domain::model::{Model, ModelFile};
use crate::store::StoreError;

const BLOCK: u64 = 512;

/// Bytes of the archive of `files`: for each a block and its content in whole blocks, and two blocks at the end.
pub(super) fn size(files: &[ModelFile]) -> u64 {
    files.iter().map(|file| BLOCK + file.bytes.next_multiple_of(BLOCK)).sum::<u64>() + 2 * BLOCK
}

/// The archive of a model's `files`, each under `folder/`. A file that turns out to be damaged ends the stream with an
/// error before its last bytes, so that what came is shorter than it says.
pub(super) fn tar(
    app: App,
    folder: String,
    created: u64,
    model: Model,
    files: Vec<ModelFile>,
) -> impl Stream<Item = Result<Bytes>> {
    let end = Bytes::from(vec![0; 2 * BLOCK as usize]);
    stream::iter(files)
        .then(move |file| {
            let (app, model, folder) = (app.clone(), model.clone(), folder.clone());
            async move { entry(&app, &folder, created, &model, file).await }
        })
        .try_flatten()
        .chain(stream::iter([Ok(end)]))
}

async fn entry(
    app: &App,
    folder: &str,
    created: u64,
    model: &Model,
    file: ModelFile,
) -> Result<impl Stream<Item = Result<Bytes>> + use<>> {
    let mut header = tar::Header::new_ustar();
    header.set_path(format!("{folder}/{}", file.path)).map_err(Error::internal)?;
    header.set_size(file.bytes);
    header.set_mode(0o644);
    header.set_mtime(created);
    header.set_cksum();
    let header = Bytes::copy_from_slice(header.as_bytes());
    let padding = Bytes::from(vec![0; (file.bytes.next_multiple_of(BLOCK) - file.bytes) as usize]);
    let content = Object::of_model(model, &file).stream(app, None).await?.map_err(StoreError::into);
    Ok(stream::iter([Ok(header)]).chain(content).chain(stream::iter([Ok(padding)])))
}
