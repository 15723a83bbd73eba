//! Inputs to classify, as many at once as a process does in a second or so.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::oneshot;

use super::busy;
use super::question::{Heard, Inquiry, Slice, unexpected};
use super::served::Failure;
use super::slices::SliceSize;
use crate::domain::error::{Error, Result};
use crate::domain::serving::{Answered, Classify, Input, Prediction, Question, Refusal};

/// What is left to classify.
pub(super) struct Classification {
    input: Vec<Input>,
    top_k: usize,
    /// Inputs of the slice that a process has in its hands.
    in_hand: usize,
    /// What the model says of those before.
    predictions: Vec<Prediction>,
    /// How many they are, for whoever waits.
    progress: Arc<AtomicUsize>,
    /// None once the answer is on its way.
    answer: Option<oneshot::Sender<Result<Vec<Prediction>>>>,
}

/// The end at which the answer to a [`Classification`] comes out. Once it is dropped, nobody wants the answer any more.
pub(super) struct Pending {
    receiver: oneshot::Receiver<Result<Vec<Prediction>>>,
    progress: Arc<AtomicUsize>,
}

impl Classification {
    pub(super) fn new(input: Vec<Input>, top_k: usize) -> (Self, Pending) {
        let (answer, receiver) = oneshot::channel();
        let progress = Arc::<AtomicUsize>::default();
        let pending = Pending { receiver, progress: Arc::clone(&progress) };
        (Self { input, top_k, in_hand: 0, predictions: Vec::new(), progress, answer: Some(answer) }, pending)
    }

    fn send(&mut self, answer: Result<Vec<Prediction>>) {
        if let Some(sender) = self.answer.take() {
            let _ = sender.send(answer);
        }
    }
}

impl Inquiry for Classification {
    fn bytes(&self) -> usize {
        self.input.iter().map(Input::bytes).sum()
    }

    fn is_abandoned(&self) -> bool {
        self.answer.as_ref().is_none_or(oneshot::Sender::is_closed)
    }

    fn next(&mut self, size: &SliceSize) -> Slice {
        let input: Vec<Input> = self.input.drain(..size.count(&self.input)).collect();
        self.in_hand = input.len();
        let bytes = Some(input.iter().map(Input::bytes).sum());
        Slice { question: Question::Classify(Classify { input, top_k: self.top_k }), bytes }
    }

    fn hear(&mut self, answered: Answered) -> Result<Heard, Failure> {
        let is_fit = |output: &[Prediction]| output.iter().all(|one| one.is_as_asked(self.top_k));
        match answered {
            Answered::Output(output) if output.len() == self.in_hand && is_fit(&output) => {
                self.predictions.extend(output);
                if !self.input.is_empty() {
                    self.progress.store(self.predictions.len(), Ordering::Relaxed);
                    return Ok(Heard::Slice);
                }
                let all = std::mem::take(&mut self.predictions);
                self.send(Ok(all));
                Ok(Heard::All)
            }
            Answered::Error(Refusal { param: None, message }) => Err(Failure::Broken(message)),
            Answered::Error(refusal) => Err(Failure::Refused(refusal.after(self.predictions.len()))),
            other => Err(unexpected(&other)),
        }
    }

    fn fail(&mut self, error: Error) {
        self.send(Err(error));
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
                Ok(Ok(answer)) => return answer,
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

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::question::{Heard, Question, Servable};
    use super::super::served::Failure;
    use super::super::slices::SliceSize;
    use super::{Classification, Pending};
    use crate::domain::Timestamp;
    use crate::domain::error::{Error, ErrorKind};
    use crate::domain::id::{ModelId, ProjectId};
    use crate::domain::model::{Model, ModelFacts, ModelKind};
    use crate::domain::serving::{self, Answered, Classify, Input, Prediction, Refusal};

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
        Arc::new(Servable::new(model, Vec::new()))
    }

    /// A request of texts of these lengths.
    pub(in crate::app::serving) fn ask(
        project: ProjectId,
        servable: &Arc<Servable>,
        id: u64,
        bytes: &[usize],
    ) -> (Question, Pending) {
        let input = bytes.iter().map(|&bytes| Input::One("x".repeat(bytes))).collect();
        let (inquiry, pending) = Classification::new(input, 1);
        let mut question = Question::new(project, Arc::clone(servable), Box::new(inquiry));
        question.id = id;
        (question, pending)
    }

    /// Has the next slice answered, the length of each text being its tokens.
    pub(in crate::app::serving) fn step(question: &mut Question) -> (usize, Heard) {
        let serving::Question::Classify(Classify { input, top_k: 1 }) = question.next(&SliceSize::default()).question
        else {
            panic!("another question")
        };
        let tokens = input.iter().map(|input| input.bytes() as u64);
        let predictions = tokens.map(|tokens| Prediction { tokens, ..Prediction::default() }).collect();
        (input.len(), question.hear(Answered::Output(predictions)).unwrap())
    }

    #[tokio::test]
    async fn slice_by_slice_every_input_is_answered_in_its_place() {
        let bytes: Vec<usize> = (1..=100).collect();
        let (mut question, pending) = ask(ProjectId::new(), &servable(), 0, &bytes);
        let mut slices = 1;
        while step(&mut question).1 == Heard::Slice {
            slices += 1;
        }
        assert_eq!(slices, 4);
        let predictions = pending.answer(Duration::from_secs(1)).await.unwrap();
        let found: Vec<usize> = predictions.iter().map(|prediction| prediction.tokens as usize).collect();
        assert_eq!(found, bytes);
    }

    #[tokio::test]
    async fn a_refused_input_is_named_by_its_place_in_the_request() {
        let (mut question, pending) = ask(ProjectId::new(), &servable(), 0, &[1; 100]);
        step(&mut question);
        question.next(&SliceSize::default());
        let refusal = Refusal { param: Some("input[3]".into()), message: "input[3] is bad.".into() };
        let failure = question.hear(Answered::Error(refusal)).unwrap_err();
        question.fail(Error::from(failure));
        let error = pending.answer(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!((error.kind, error.param.as_deref()), (ErrorKind::Invalid, Some("input[35]")));
        assert_eq!(error.message, "input[35] is bad.");
    }

    #[tokio::test]
    async fn an_answer_that_was_not_asked_for_breaks_the_request() {
        for answered in [
            Answered::Output(vec![Prediction::default()]),
            Answered::Output(vec![
                Prediction { predicted: Some(vec![String::new(); 101]), ..Prediction::default() };
                2
            ]),
            Answered::Paused,
            Answered::Error(Refusal { param: None, message: "no".into() }),
        ] {
            let (mut question, pending) = ask(ProjectId::new(), &servable(), 0, &[1; 2]);
            question.next(&SliceSize::default());
            let failure = question.hear(answered).unwrap_err();
            assert!(matches!(failure, Failure::Broken(_)), "{failure:?}");
            question.fail(Error::from(failure));
            let error = pending.answer(Duration::from_secs(1)).await.unwrap_err();
            assert_eq!((error.kind, error.param), (ErrorKind::Unavailable, None));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_is_waited_for_as_long_as_it_gets_on() {
        let patience = Duration::from_mins(1);
        let (mut question, pending) = ask(ProjectId::new(), &servable(), 0, &[1; 256]);
        let waiting = tokio::spawn(pending.answer(patience));
        for _ in 0..4 {
            tokio::time::sleep(patience * 3 / 4).await;
            step(&mut question);
        }
        assert!(!waiting.is_finished());
        tokio::time::sleep(patience * 3).await;
        assert!(waiting.await.unwrap().unwrap_err().message.contains("in time"));
        assert!(question.is_abandoned(), "so that it is dropped");
    }
}
