//! Objects of files and models, checked when they are read. What is missing or damaged is counted and logged here, and
//! told to whoever needs it together with what helps.

use std::path::Path;

use futures_util::{StreamExt, TryStreamExt};

use super::App;
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::file::{File, FilePurpose};
use crate::domain::model::{Model, ModelFile, ModelKind};
use crate::domain::upload::Part;
use crate::store::{Content, Opened, StoreError, Stored};
use crate::telemetry;

/// What an object holds, for whoever misses it.
#[derive(Clone, Copy)]
enum Holder<'a> {
    File(&'a File),
    Model(&'a Model, &'a ModelFile),
    Part(&'a Part),
}

/// A stored object.
#[derive(Clone, Copy)]
pub struct Object<'a> {
    key: &'a str,
    stored: Stored,
    holder: Holder<'a>,
    param: Option<&'a str>,
}

impl<'a> Object<'a> {
    /// The bytes of a file.
    pub fn of_file(file: &'a File) -> Self {
        let stored = Stored { bytes: file.bytes, sha256: file.sha256 };
        Self { key: &file.object_key, stored, holder: Holder::File(file), param: None }
    }

    /// One file of a model.
    pub fn of_model(model: &'a Model, file: &'a ModelFile) -> Self {
        let stored = Stored { bytes: file.bytes, sha256: file.sha256 };
        Self { key: &file.object_key, stored, holder: Holder::Model(model, file), param: Some("model") }
    }

    /// The bytes of a part of an upload.
    pub fn of_part(part: &'a Part) -> Self {
        let stored = Stored { bytes: part.bytes, sha256: part.sha256 };
        Self { key: &part.object_key, stored, holder: Holder::Part(part), param: Some("part_ids") }
    }

    /// The same, which this field of a request names.
    #[must_use]
    pub fn named_by(self, param: &'a str) -> Self {
        Self { param: Some(param), ..self }
    }

    /// Size and hash.
    pub fn stored(&self) -> Stored {
        self.stored
    }

    /// Puts it into the file `to`.
    ///
    /// # Errors
    /// It is damaged, the store is away, or the file cannot be written.
    pub async fn fetch(&self, app: &App, to: &Path) -> Result<()> {
        app.store.fetch(self.key, self.stored, to).await.map_err(|error| self.failed(error))
    }

    /// A file to read it from.
    ///
    /// # Errors
    /// It is damaged, the store is away, or a copy cannot be written.
    pub async fn open(&self, app: &App) -> Result<Opened> {
        app.store.open_file(self.key, self.stored, &app.runs()).await.map_err(|error| self.failed(error))
    }

    /// Its size alone is checked.
    ///
    /// # Errors
    /// It is missing or of another size, or the store is away.
    pub async fn check_size(&self, app: &App) -> Result<()> {
        app.store.check_size(self.key, self.stored).await.map_err(|error| self.failed(error))
    }

    /// All of it, which must be small.
    ///
    /// # Errors
    /// It is damaged, or the store is away.
    pub async fn read_all(&self, app: &App) -> Result<Vec<u8>> {
        let read = async { app.store.read(self.key, self.stored).await?.try_collect::<Vec<_>>().await };
        Ok(read.await.map_err(|error| self.failed(error))?.concat())
    }

    /// All of it as a stream, or `part` of it: start and length. What is damaged does not come to its end.
    ///
    /// # Errors
    /// It is missing, known to be damaged before anything is passed on, or the store is away.
    pub async fn stream(&self, app: &App, part: Option<(u64, u64)>) -> Result<Content> {
        let opened = async {
            let mut content = match part {
                None => app.store.read(self.key, self.stored).await?,
                Some((start, length)) => app.store.read_part(self.key, self.stored, start, length).await?,
            };
            // A small object is known to be right once its only chunk is here, and its fault can still be told.
            let first = content.try_next().await?;
            Ok((first, content))
        };
        let (first, rest) = opened.await.map_err(|error| self.failed(error))?;
        let named = self.named();
        let rest = rest.inspect_err(move |error| note(&named, error));
        Ok(futures_util::stream::iter(first.map(Ok)).chain(rest).boxed())
    }

    fn named(&self) -> String {
        match self.holder {
            Holder::File(file) => file.id.to_string(),
            Holder::Model(model, file) => format!("{} of model {}", file.path, model.id),
            Holder::Part(part) => part.id.to_string(),
        }
    }

    /// The error for whoever needs the object.
    fn failed(&self, error: StoreError) -> Error {
        note(&self.named(), &error);
        if !error.is_damage() {
            return error.into();
        }
        let fault = if matches!(error, StoreError::NotFound { .. }) { "missing" } else { "damaged" };
        let (code, message) = match self.holder {
            Holder::File(file) => {
                let remedy = if file.purpose == FilePurpose::FineTuneResults { "" } else { " Upload the file again." };
                ("file_damaged", format!("The stored bytes of {} are {fault}.{remedy}", file.id))
            }
            Holder::Part(part) => {
                ("file_damaged", format!("The stored bytes of {} are {fault}. Send it again.", part.id))
            }
            Holder::Model(model, file) => {
                let remedy = match model.kind {
                    ModelKind::Base => "The operator of this service can remove the model and import it again.",
                    ModelKind::FineTuned | ModelKind::Checkpoint => "Use another one, or train it again.",
                };
                ("model_damaged", format!("'{}' of the model '{}' is {fault}. {remedy}", file.path, model.name))
            }
        };
        let error = Error::new(ErrorKind::Damaged, message).code(code).source(error);
        match self.param {
            Some(param) => error.param(param),
            None => error,
        }
    }
}

fn note(named: &str, error: &StoreError) {
    let fault = match error {
        StoreError::NotFound { .. } => "missing",
        StoreError::Corrupt { .. } => "damaged",
        _ => return,
    };
    metrics::counter!(telemetry::DAMAGED_OBJECTS, "fault" => fault).increment(1);
    tracing::error!(object = named, %error, "a stored object cannot be used");
}
