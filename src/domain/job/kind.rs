//! Kinds of jobs: all go through the same queue, and what is told of each differs here alone.

use std::str::FromStr;

use super::super::clip::clipped;
use super::super::error::{Error, ErrorKind};
use super::super::hyperparameters::Definition;
use super::super::id::{EvaluationId, JobId, parse};
use super::super::quota::Quota;
use super::super::report::DataReport;

/// What a job is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// It trains a model.
    Training,
    /// It scores a model on a file.
    Evaluation,
}

/// What is known of a kind.
struct About {
    word: &'static str,
    id_prefix: &'static str,
    param: &'static str,
    noun: &'static str,
    /// What errors call one that is not there.
    missing: (&'static str, &'static str),
    created: &'static str,
    completed: &'static str,
    /// What people call the file that it is about, at the start of a sentence, and how many examples that has.
    file: (&'static str, fn(&DataReport) -> u64),
    /// Whether it trains a model, with all hyperparameters of its method, and stores it.
    trains: bool,
    /// What one of it counts against, besides the quotas of all jobs.
    quota: Option<Quota>,
}

impl JobKind {
    /// All kinds.
    pub const ALL: [Self; 2] = [Self::Training, Self::Evaluation];

    const fn about(self) -> &'static About {
        match self {
            Self::Training => &About {
                word: "training",
                id_prefix: JobId::PREFIX,
                param: "fine_tune_id",
                noun: "Fine-tuning job",
                missing: ("fine tune", "fine_tune_not_found"),
                created: "Created fine-tuning job",
                completed: "The job has successfully completed",
                file: ("Training file", |report| report.training.examples),
                trains: true,
                quota: None,
            },
            Self::Evaluation => &About {
                word: "evaluation",
                id_prefix: EvaluationId::PREFIX,
                param: "evaluation_id",
                noun: "Evaluation",
                missing: ("evaluation", "evaluation_not_found"),
                created: "Created evaluation",
                completed: "The evaluation has successfully completed",
                file: ("Test file", |report| report.test.as_ref().map_or(0, |test| test.examples)),
                trains: false,
                quota: Some(Quota::Evaluations),
            },
        }
    }

    /// The word in the database, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        self.about().word
    }

    /// The id by which clients know the job.
    pub fn public_id(self, id: JobId) -> String {
        format!("{}{}", self.about().id_prefix, id.0.simple())
    }

    /// The job of this kind that clients know by `id`.
    ///
    /// # Errors
    /// No job of this kind has such an id.
    pub fn job(self, id: &str) -> Result<JobId, Error> {
        parse(self.about().id_prefix, id).map(JobId).map_err(|_| self.not_found(id))
    }

    /// There is no job of this kind with this id.
    pub fn not_found(self, id: &str) -> Error {
        let (noun, code) = self.about().missing;
        Error::new(ErrorKind::NotFound, format!("Could not find {noun}: {}", clipped(id)))
            .param(self.param())
            .code(code)
    }

    /// What errors call its id.
    pub fn param(self) -> &'static str {
        self.about().param
    }

    /// What people call it at the start of a sentence.
    pub fn noun(self) -> &'static str {
        self.about().noun
    }

    /// What is told of it when it is created.
    pub fn created(self) -> &'static str {
        self.about().created
    }

    /// What people call the file that a job of this kind is about, at the start of a sentence, and its examples.
    pub fn file(self, report: &DataReport) -> (&'static str, u64) {
        let (name, examples) = self.about().file;
        (name, examples(report))
    }

    /// Whether it trains a model, and stores it.
    pub fn trains(self) -> bool {
        self.about().trains
    }

    /// What one of it counts against, besides the quotas of all jobs.
    pub fn quota(self) -> Option<Quota> {
        self.about().quota
    }

    /// Whether a job of this kind has this hyperparameter of its method.
    pub fn takes(self, definition: &Definition) -> bool {
        self.trains() || definition.evaluates
    }

    /// What is told of it when it has succeeded.
    pub fn completed(self) -> &'static str {
        self.about().completed
    }
}

impl FromStr for JobKind {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word).ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::{JobId, JobKind};

    #[test]
    fn each_kind_has_words_and_ids_of_its_own() {
        let id = JobId::new();
        for kind in JobKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(kind.job(&kind.public_id(id)).unwrap(), id);
        }
        let error = JobKind::Evaluation.job(&JobKind::Training.public_id(id)).unwrap_err();
        assert!(error.message.starts_with("Could not find evaluation: ftjob-"), "{}", error.message);
        assert_eq!(error.param.as_deref(), Some("evaluation_id"));
    }
}
