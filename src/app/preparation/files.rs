//! The data files of a job: what is known of them from before, and opening those that are to be read.

use super::{Preparing, Refusal};
use crate::app::App;
use crate::app::objects::Object;
use crate::dataset::prepare::{Parts, Source};
use crate::dataset::{Bounds, Input, READER_VERSION};
use crate::db::{files, readings};
use crate::domain::error::{Error, Result};
use crate::domain::file::File;
use crate::domain::id::{FileId, ProjectId};
use crate::domain::job::{JobError, JobSpec, NotReady, ReadOptions};
use crate::domain::reading::{MOST_BYTES, Question, Reading};
use crate::domain::report::DataFormat;
use crate::store::{Opened, out_of_storage};

/// The files of a training.
pub(super) struct Files<'a> {
    files: Parts<DataFile<'a>>,
    /// What is asked of the training file.
    question: Question,
}

impl<'a> Files<'a> {
    /// The files that a job names.
    pub(super) async fn find(app: &'a App, project: ProjectId, spec: &JobSpec) -> Preparing<Self> {
        let [training, validation, test] = spec.files();
        let Some(training) = DataFile::find(app, project, spec, training).await? else {
            return Err(Error::internal("a job without training file").into());
        };
        let (problem, near) = (spec.hyperparameters.problem_type(), app.config.near_duplicate_percent);
        let question = Question::new(training.format(), spec.method, problem, &spec.dataset, near);
        let validation = DataFile::find(app, project, spec, validation).await?;
        let test = DataFile::find(app, project, spec, test).await?;
        Ok(Self { files: Parts { training, validation, test }, question })
    }

    /// Looks up what was found in them for other jobs.
    pub(super) async fn look_up(&mut self) -> Preparing<()> {
        let [of_validation, of_test] = self.compared();
        let Parts { training, validation, test } = &mut self.files;
        training.look_up(&self.question).await?;
        if let (Some(validation), Some(question)) = (validation.as_mut(), of_validation) {
            validation.look_up(&question).await?;
        }
        if let (Some(test), Some(question)) = (test.as_mut(), of_test) {
            test.look_up(&question).await?;
        }
        // A file is compared with the examples of those before it, which are not kept.
        let is_unknown = |file: &Option<DataFile<'_>>| file.as_ref().is_some_and(|file| file.known.is_none());
        if is_unknown(test)
            && let Some(file) = validation
        {
            file.known = None;
        }
        if is_unknown(validation) || is_unknown(test) {
            training.known = None;
        }
        Ok(())
    }

    /// What is asked of the validation and of the test file.
    fn compared(&self) -> [Option<Question>; 2] {
        let Parts { training, validation, test } = &self.files;
        let asked =
            |file: &DataFile<'_>, validation| self.question.compared(file.format(), training.sha256(), validation);
        let before = validation.as_ref().map(|file| (file.sha256(), file.format()));
        [validation.as_ref().map(|file| asked(file, None)), test.as_ref().map(|file| asked(file, before))]
    }

    /// What is known of each, or the file. Whatever is opened goes to `opened`, which keeps it there.
    pub(super) async fn sources(&self, bounds: &Bounds, opened: &mut Vec<Opened>) -> Preparing<Parts<Source>> {
        let Parts { training, validation, test } = &self.files;
        let training = training.source(bounds, opened).await?;
        let validation = match validation {
            Some(file) => Some(file.source(bounds, opened).await?),
            None => None,
        };
        let test = match test {
            Some(file) => Some(file.source(bounds, opened).await?),
            None => None,
        };
        Ok(Parts { training, validation, test })
    }

    /// Keeps what was found in those that were read.
    pub(super) async fn keep(&self, found: &Parts<Reading>) {
        let [of_validation, of_test] = self.compared();
        let Parts { training, validation, test } = &self.files;
        training.keep(&self.question, &found.training).await;
        let others = [(validation, of_validation, &found.validation), (test, of_test, &found.test)];
        for (file, question, reading) in others {
            if let (Some(file), Some(question), Some(reading)) = (file, question, reading) {
                file.keep(&question, reading).await;
            }
        }
    }
}

/// A data file of a job.
pub(super) struct DataFile<'a> {
    app: &'a App,
    /// The field of the request that names it.
    param: &'static str,
    file: File,
    options: ReadOptions,
    /// What was found in it before.
    known: Option<Reading>,
}

impl<'a> DataFile<'a> {
    /// The file that a field of a job names, if it names one; even if it was deleted since, as long as its bytes are there.
    pub(super) async fn find(
        app: &'a App,
        project: ProjectId,
        spec: &JobSpec,
        (param, id): (&'static str, Option<FileId>),
    ) -> Preparing<Option<Self>> {
        let Some(id) = id else { return Ok(None) };
        let file = files::find_for_job(app.db.pool(), project, id).await?;
        let file = file.ok_or_else(|| {
            let message = "The file was deleted before it was read.";
            NotReady::<Refusal>::from(JobError::new(format!("invalid_{param}"), message).param(param))
        })?;
        Ok(Some(Self { app, param, file, options: spec.dataset.read.clone(), known: None }))
    }

    /// How it is written.
    pub(super) fn format(&self) -> DataFormat {
        self.file.report.as_ref().map_or(DataFormat::Jsonl, |report| report.format)
    }

    /// How many rows it has, as far as its report tells.
    pub(super) fn rows(&self) -> u64 {
        self.file.report.as_ref().map_or(0, |report| report.rows)
    }

    fn sha256(&self) -> &[u8; 32] {
        &self.file.sha256
    }

    /// Looks up what was found when this was asked before, of this file or of the same bytes in another one. The file is not
    /// opened, but it must be there.
    pub(super) async fn look_up(&mut self, question: &Question) -> Preparing<()> {
        let key = question.key().map_err(Error::internal)?;
        let File { project, sha256, .. } = &self.file;
        self.known = readings::find(self.app.db.pool(), *project, sha256, &key, READER_VERSION).await?;
        if self.known.is_some() {
            self.object().check_size(self.app).await?;
        }
        Ok(())
    }

    /// What is known of it, or the file, which `opened` keeps there while it is read.
    pub(super) async fn source(&self, bounds: &Bounds, opened: &mut Vec<Opened>) -> Preparing<Source> {
        if let Some(reading) = &self.known {
            return Ok(Source::Known(Box::new(reading.clone())));
        }
        if self.app.store.opens_copies() {
            self.app.config.reserve.check(&self.app.runs(), self.file.bytes).map_err(out_of_storage)?;
        }
        let file = self.object().open(self.app).await?;
        let options = self.options.clone();
        let input = Input { options, bounds: bounds.clone(), ..Input::new(file.path(), self.format()) };
        opened.push(file);
        Ok(Source::File(input))
    }

    /// Keeps what was found if it was read, unless there are faults or it is large. Without it the next job reads the file
    /// again, so nothing depends on it.
    pub(super) async fn keep(&self, question: &Question, reading: &Reading) {
        if let Err(error) = self.try_to_keep(question, reading).await {
            tracing::warn!(file = %self.file.id, error = error.chain(), "what was found in a file cannot be kept");
        }
    }

    async fn try_to_keep(&self, question: &Question, reading: &Reading) -> Result<()> {
        let bytes = serde_json::to_vec(reading).map_err(Error::internal)?.len();
        if self.known.is_some() || !reading.report.faults.is_empty() || bytes > MOST_BYTES {
            return Ok(());
        }
        let key = question.key().map_err(Error::internal)?;
        let File { project, sha256, .. } = &self.file;
        readings::keep(self.app.db.pool(), *project, sha256, &key, READER_VERSION, reading).await
    }

    fn object(&self) -> Object<'_> {
        Object::of_file(&self.file).named_by(self.param)
    }
}
