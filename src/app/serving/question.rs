//! A request on its way: a process is handed it in slices, so that between them others can have their turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::busy;
use super::served::Failure;
use crate::domain::error::{Error, Result};
use crate::domain::id::{ModelId, ProjectId};
use crate::domain::model::{Model, ModelFile};
use crate::domain::serving::{Asked, Input, Prediction};

/// What a request counts for at least, in bytes.
const LEAST: usize = 1 << 20;

/// The most inputs of a slice.
const SLICE_INPUTS: usize = 32;
/// Bytes of a process's first slice: a few long texts, which the largest models read in less than a minute.
const FIRST_SLICE: usize = 8 << 10;
const SMALLEST_SLICE: usize = 1 << 10;
const LARGEST_SLICE: usize = 4 << 20;

/// A slice that took longer is followed by smaller ones; a full one that was quicker, by larger ones.
const SLOW: Duration = Duration::from_secs(2);
const QUICK: Duration = Duration::from_millis(500);

/// What becomes of a request: an error without a process, or what the process made of it.
pub(super) type Answer = Result<std::result::Result<Vec<Prediction>, Failure>>;

/// A model that can be put to work.
pub(super) struct Servable {
    pub(super) model: Model,
    pub(super) files: Vec<ModelFile>,
}

/// A request, or what is left of it.
pub(super) struct Question {
    pub(super) project: ProjectId,
    pub(super) servable: Arc<Servable>,
    /// What no process was asked yet.
    pub(super) asked: Asked,
    pub(super) answer: oneshot::Sender<Answer>,
    /// Its number in the order in which requests came, given by the queue.
    pub(super) came: u64,
    /// What the model says of the inputs before those that are left.
    predictions: Vec<Prediction>,
    /// How many they are, for whoever waits.
    progress: Arc<AtomicUsize>,
}

/// The end at which the answer to a [`Question`] comes out. Once it is dropped, nobody wants the answer any more.
pub(super) struct Pending {
    receiver: oneshot::Receiver<Answer>,
    progress: Arc<AtomicUsize>,
}

impl Question {
    pub(super) fn new(project: ProjectId, servable: Arc<Servable>, asked: Asked) -> (Self, Pending) {
        let (answer, receiver) = oneshot::channel();
        let progress = Arc::<AtomicUsize>::default();
        let pending = Pending { receiver, progress: Arc::clone(&progress) };
        (Self { project, servable, asked, answer, came: 0, predictions: Vec::new(), progress }, pending)
    }

    pub(super) fn model(&self) -> ModelId {
        self.servable.model.id
    }

    /// Bytes of room that it takes.
    pub(super) fn weight(&self) -> usize {
        self.asked.input.iter().map(Input::bytes).sum::<usize>().max(LEAST)
    }

    /// Takes the next slice out.
    pub(super) fn cut(&mut self, size: &SliceSize) -> Asked {
        let count = size.count(&self.asked.input);
        let input = self.asked.input.drain(..count).collect();
        Asked { id: self.asked.id, input, top_k: self.asked.top_k }
    }

    /// Takes in what a process made of a slice, and returns the request if it goes on; else its answer is sent.
    pub(super) fn go_on(mut self, slice: std::result::Result<Vec<Prediction>, Failure>) -> Option<Self> {
        let before = self.predictions.len();
        let outcome = match slice {
            Ok(predictions) => {
                self.predictions.extend(predictions);
                if !self.asked.input.is_empty() {
                    self.progress.store(self.predictions.len(), Ordering::Relaxed);
                    return Some(self);
                }
                Ok(self.predictions)
            }
            Err(Failure::Refused(refusal)) => Err(Failure::Refused(refusal.after(before))),
            Err(failure) => Err(failure),
        };
        let _ = self.answer.send(Ok(outcome));
        None
    }
}

impl Pending {
    /// Waits for the answer, as long as the request gets on: in each `patience` at least one slice must be done.
    ///
    /// # Errors
    /// The request is refused, it did not get on, or no process could answer it.
    pub(super) async fn answer(mut self, patience: Duration) -> Result<Vec<Prediction>> {
        let mut before = 0;
        loop {
            match tokio::time::timeout(patience, &mut self.receiver).await {
                Ok(Ok(answer)) => return answer?.map_err(Error::from),
                Ok(Err(_)) => return Err(Error::unavailable("the serving process ended before it answered")),
                Err(_) => {
                    let done = self.progress.load(Ordering::Relaxed);
                    if done == before {
                        return Err(busy("The model did not come to this request in time."));
                    }
                    before = done;
                }
            }
        }
    }
}

/// How much of a request a process is handed at once: what it does in a second or so. It is found by trying, since a
/// large model takes a hundred times as long for the same text as a small one.
pub(super) struct SliceSize {
    bytes: usize,
}

impl Default for SliceSize {
    fn default() -> Self {
        Self { bytes: FIRST_SLICE }
    }
}

impl SliceSize {
    /// How many of the inputs come next; at least one, if there is one.
    fn count(&self, inputs: &[Input]) -> usize {
        let mut bytes = 0;
        let fitting = inputs.iter().take(SLICE_INPUTS).take_while(|input| {
            bytes += input.bytes();
            bytes <= self.bytes
        });
        fitting.count().max(1).min(inputs.len())
    }

    /// Learns from a slice of so many bytes.
    pub(super) fn learn(&mut self, bytes: usize, took: Duration) {
        if took > SLOW {
            self.bytes = (self.bytes.min(bytes) / 2).max(SMALLEST_SLICE);
        } else if took < QUICK && bytes > self.bytes / 2 {
            self.bytes = (self.bytes * 2).min(LARGEST_SLICE);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::served::Failure;
    use super::{FIRST_SLICE, LARGEST_SLICE, Pending, Question, SLICE_INPUTS, SMALLEST_SLICE, Servable, SliceSize};
    use crate::domain::Timestamp;
    use crate::domain::error::ErrorKind;
    use crate::domain::id::{ModelId, ProjectId};
    use crate::domain::model::{Model, ModelFacts, ModelKind};
    use crate::domain::serving::{Asked, Input, Prediction, Refusal};

    pub(in crate::app::serving) fn servable() -> Arc<Servable> {
        let model = Model {
            id: ModelId::new(),
            project: None,
            name: "a".to_owned(),
            kind: ModelKind::Base,
            family: "bert".to_owned(),
            facts: ModelFacts::default(),
            job: None,
            created_at: Timestamp::now_utc(),
        };
        Arc::new(Servable { model, files: Vec::new() })
    }

    /// A request of texts of these lengths.
    pub(in crate::app::serving) fn ask(
        project: ProjectId,
        servable: &Arc<Servable>,
        id: u64,
        bytes: &[usize],
    ) -> (Question, Pending) {
        let input = bytes.iter().map(|&bytes| Input::One("x".repeat(bytes))).collect();
        Question::new(project, Arc::clone(servable), Asked { id, input, top_k: 1 })
    }

    /// What a process makes of a slice: the length of each text, as tokens.
    pub(in crate::app::serving) fn predict(slice: &Asked) -> Vec<Prediction> {
        let tokens = slice.input.iter().map(|input| input.bytes() as u64);
        tokens.map(|tokens| Prediction { tokens, ..Prediction::default() }).collect()
    }

    #[test]
    fn a_slice_has_few_inputs_and_few_bytes_but_at_least_one() {
        let count = |bytes: &[usize]| {
            let inputs: Vec<Input> = bytes.iter().map(|&bytes| Input::One("x".repeat(bytes))).collect();
            SliceSize::default().count(&inputs)
        };
        assert_eq!(count(&[1; 256]), SLICE_INPUTS);
        assert_eq!(count(&[1, 2, 3]), 3);
        assert_eq!(count(&[FIRST_SLICE / 2; 5]), 2);
        assert_eq!(count(&[FIRST_SLICE + 1, 1]), 1);
        assert_eq!(count(&[1, FIRST_SLICE, 1]), 1);
        assert_eq!(count(&[]), 0);
        let pair = Input::Pair("x".repeat(FIRST_SLICE / 2), "x".repeat(FIRST_SLICE / 2));
        assert_eq!(SliceSize::default().count(&[pair.clone(), pair]), 1);
    }

    #[test]
    fn slices_shrink_where_they_take_long_and_grow_where_they_do_not() {
        let mut size = SliceSize::default();
        size.learn(FIRST_SLICE, Duration::from_secs(1));
        assert_eq!(size.bytes, FIRST_SLICE, "about as long as it should");
        size.learn(FIRST_SLICE / 4, Duration::from_millis(1));
        assert_eq!(size.bytes, FIRST_SLICE, "a small request tells nothing of large ones");
        size.learn(FIRST_SLICE, Duration::from_millis(1));
        assert_eq!(size.bytes, 2 * FIRST_SLICE);
        size.learn(FIRST_SLICE / 2, Duration::from_secs(3));
        assert_eq!(size.bytes, FIRST_SLICE / 4);
        for _ in 0..20 {
            size.learn(LARGEST_SLICE, Duration::from_millis(1));
        }
        assert_eq!(size.bytes, LARGEST_SLICE);
        for _ in 0..20 {
            size.learn(LARGEST_SLICE, Duration::from_secs(3));
        }
        assert_eq!(size.bytes, SMALLEST_SLICE);
    }

    #[tokio::test]
    async fn slice_by_slice_every_input_is_answered_in_its_place() {
        let bytes: Vec<usize> = (1..=100).collect();
        let (mut question, pending) = ask(ProjectId::new(), &servable(), 7, &bytes);
        let mut slices = 0;
        loop {
            let slice = question.cut(&SliceSize::default());
            assert_eq!((slice.id, slice.top_k), (7, 1));
            slices += 1;
            let Some(rest) = question.go_on(Ok(predict(&slice))) else { break };
            question = rest;
        }
        assert_eq!(slices, 4);
        let predictions = pending.answer(Duration::from_secs(1)).await.unwrap();
        let found: Vec<usize> = predictions.iter().map(|prediction| prediction.tokens as usize).collect();
        assert_eq!(found, bytes);
    }

    #[tokio::test]
    async fn a_failed_slice_fails_the_request_and_a_refused_input_is_named_by_its_place_in_it() {
        for (failure, kind, param) in [
            (
                Failure::Refused(Refusal { param: Some("input[3]".into()), message: "input[3] is bad.".into() }),
                ErrorKind::Invalid,
                Some("input[35]"),
            ),
            (Failure::Broken("no answer".into()), ErrorKind::Unavailable, None),
        ] {
            let (mut question, pending) = ask(ProjectId::new(), &servable(), 0, &[1; 100]);
            let slice = question.cut(&SliceSize::default());
            let mut question = question.go_on(Ok(predict(&slice))).unwrap();
            question.cut(&SliceSize::default());
            assert!(question.go_on(Err(failure)).is_none());
            let error = pending.answer(Duration::from_secs(1)).await.unwrap_err();
            assert_eq!((error.kind, error.param.as_deref()), (kind, param));
            assert!(param.is_none() || error.message == "input[35] is bad.", "{}", error.message);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_waited_for_as_long_as_it_gets_on() {
        let patience = Duration::from_mins(1);
        let (mut question, pending) = ask(ProjectId::new(), &servable(), 0, &[1; 256]);
        let waiting = tokio::spawn(pending.answer(patience));
        for _ in 0..4 {
            tokio::time::sleep(patience * 3 / 4).await;
            let slice = question.cut(&SliceSize::default());
            question = question.go_on(Ok(predict(&slice))).unwrap();
        }
        assert!(!waiting.is_finished());
        tokio::time::sleep(patience * 3).await;
        assert!(waiting.await.unwrap().unwrap_err().message.contains("in time"));
        assert!(question.answer.is_closed(), "so that it is dropped");
    }
}
