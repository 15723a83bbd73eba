//! A request on its way: a process is handed it in slices, so that between them others can have their turn.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::served::Failure;
use super::slices::SliceSize;
use crate::domain::error::Error;
use crate::domain::id::{ModelId, ProjectId};
use crate::domain::model::{Model, ModelFile, ground};
use crate::domain::serving::{self, Answered};

/// What a request counts for at least, in bytes.
const LEAST: usize = 1 << 20;

/// A model that can be put to work.
pub(super) struct Servable {
    pub(super) model: Model,
    pub(super) files: Vec<ModelFile>,
    pub(super) ground: Ground,
}

/// Tells whether models can be served by one process: they can where it is the same, since they have weights in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ground([u8; 32]);

impl Servable {
    pub(super) fn new(model: Model, files: Vec<ModelFile>) -> Self {
        let ground = Ground::of(&model, &files);
        Self { model, files, ground }
    }
}

impl Ground {
    /// Language models are asked by turns, so that they share what they can; of classifiers each has a process of its own.
    fn of(model: &Model, files: &[ModelFile]) -> Self {
        let mut hash = Sha256::new();
        if model.facts.backbone.is_language_model() {
            let mut common = ground(files);
            common.sort_by(|one, other| one.path.cmp(&other.path));
            for file in common {
                hash.update(format!("{}\0{}\0", file.path, file.object_key));
            }
        } else {
            hash.update(model.id.0);
        }
        Self(hash.finalize().into())
    }
}

/// A request, or what is left of it.
pub(super) struct Question {
    pub(super) project: ProjectId,
    pub(super) servable: Arc<Servable>,
    /// Its number in the order in which requests came, given by the queue.
    pub(super) came: u64,
    inquiry: Box<dyn Inquiry>,
    /// What tests tell requests apart by.
    #[cfg(test)]
    pub(super) id: u64,
}

/// What is wanted of a model, and the way back to whoever wants it.
pub(super) trait Inquiry: Send {
    /// Bytes of what was not asked yet.
    fn bytes(&self) -> usize;

    /// Whether nobody wants the answer any more.
    fn is_abandoned(&self) -> bool;

    /// The next slice, of which there is one.
    fn next(&mut self, size: &SliceSize) -> Slice;

    /// Takes in what the process says of the slice.
    ///
    /// # Errors
    /// The request has failed.
    fn hear(&mut self, answered: Answered) -> Result<Heard, Failure>;

    /// Tells whoever waits that there is no answer, or no more of it.
    fn fail(&mut self, error: Error);
}

/// A part of a request that a process does at once.
pub(super) struct Slice {
    pub(super) question: serving::Question,
    /// How large it is, where its size was chosen.
    pub(super) bytes: Option<usize>,
}

/// How a request stands after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// The slice has further answers.
    Part,
    /// The next slice is due.
    Slice,
    /// All was answered.
    All,
}

impl Question {
    pub(super) fn new(project: ProjectId, servable: Arc<Servable>, inquiry: Box<dyn Inquiry>) -> Self {
        Self {
            project,
            servable,
            came: 0,
            inquiry,
            #[cfg(test)]
            id: 0,
        }
    }

    pub(super) fn model(&self) -> ModelId {
        self.servable.model.id
    }

    pub(super) fn ground(&self) -> Ground {
        self.servable.ground
    }

    /// Bytes of room that it takes.
    pub(super) fn weight(&self) -> usize {
        self.inquiry.bytes().max(LEAST)
    }

    /// See [`Inquiry::is_abandoned`].
    pub(super) fn is_abandoned(&self) -> bool {
        self.inquiry.is_abandoned()
    }

    /// See [`Inquiry::next`].
    pub(super) fn next(&mut self, size: &SliceSize) -> Slice {
        self.inquiry.next(size)
    }

    /// See [`Inquiry::hear`].
    pub(super) fn hear(&mut self, answered: Answered) -> Result<Heard, Failure> {
        self.inquiry.hear(answered)
    }

    /// See [`Inquiry::fail`].
    pub(super) fn fail(mut self, error: Error) {
        self.inquiry.fail(error);
    }
}

/// What is said of an answer that no well-made process gives.
pub(super) fn unexpected(answered: &Answered) -> Failure {
    Failure::Broken(format!("an answer to something else: {answered:?}").chars().take(SHOWN).collect())
}

/// What the log shows of it, in characters.
const SHOWN: usize = 200;
