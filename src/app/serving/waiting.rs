//! Requests that wait for a model, and whose turn it is: the projects take turns, whichever models they ask, and none can
//! fill the room while others want in.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::served::Failure;
use crate::domain::error::Result;
use crate::domain::id::{ModelId, ProjectId};
use crate::domain::model::{Model, ModelFile};
use crate::domain::serving::{Asked, Input, Prediction};

/// Bytes of input that wait at once.
const ROOM: usize = 64 << 20;
/// What a request counts for at least.
const LEAST: usize = 1 << 20;
/// How many projects are remembered that have nothing waiting.
const REMEMBERED: usize = 1024;

/// What becomes of a request: an error without a process, or what the process made of it.
pub(super) type Answer = Result<std::result::Result<Vec<Prediction>, Failure>>;

/// A model that can be put to work.
pub(super) struct Servable {
    pub(super) model: Model,
    pub(super) files: Vec<ModelFile>,
}

/// A request on its way to a process.
pub(super) struct Question {
    pub(super) project: ProjectId,
    pub(super) servable: Arc<Servable>,
    pub(super) asked: Asked,
    pub(super) answer: oneshot::Sender<Answer>,
}

impl Question {
    pub(super) fn model(&self) -> ModelId {
        self.servable.model.id
    }

    fn weight(&self) -> usize {
        let bytes = |input: &Input| match input {
            Input::One(text) => text.len(),
            Input::Pair(text, pair) => text.len() + pair.len(),
        };
        self.asked.input.iter().map(bytes).sum::<usize>().max(LEAST)
    }
}

/// The requests that no process has taken yet, in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting {
    questions: Vec<Question>,
    /// When each project last had a turn, counted up.
    turns: HashMap<ProjectId, u64>,
    last_turn: u64,
}

impl Waiting {
    /// Takes a request in, and returns those for which there is no room now: the latest of the project that has the most,
    /// which may be this one.
    pub(super) fn push(&mut self, question: Question) -> Vec<Question> {
        self.forget();
        self.questions.push(question);
        let mut displaced = Vec::new();
        while self.questions.iter().map(Question::weight).sum::<usize>() > ROOM {
            let mut held: HashMap<ProjectId, usize> = HashMap::new();
            for question in &self.questions {
                *held.entry(question.project).or_default() += question.weight();
            }
            let latest = self.questions.iter().enumerate().max_by_key(|(place, one)| (held[&one.project], *place));
            let Some((place, _)) = latest else { break };
            displaced.push(self.questions.remove(place));
        }
        displaced
    }

    /// Drops the requests whose clients are gone.
    pub(super) fn forget(&mut self) {
        self.questions.retain(|question| !question.answer.is_closed());
    }

    /// Takes the next request for a model out.
    pub(super) fn take(&mut self, model: ModelId) -> Option<Question> {
        let place = self.next(|question| question.model() == model)?;
        let question = self.questions.remove(place);
        self.last_turn += 1;
        self.turns.insert(question.project, self.last_turn);
        if self.turns.len() > REMEMBERED {
            let waits = |project: &ProjectId| self.questions.iter().any(|question| question.project == *project);
            self.turns.retain(|project, _| waits(project));
        }
        Some(question)
    }

    /// The next model that is asked for, of those that `may` be put to work.
    pub(super) fn next_model(&self, may: impl Fn(ModelId) -> bool) -> Option<&Arc<Servable>> {
        let place = self.next(|question| may(question.model()))?;
        Some(&self.questions[place].servable)
    }

    /// Whether a model is asked for.
    pub(super) fn wants(&self, model: ModelId) -> bool {
        self.questions.iter().any(|question| question.model() == model)
    }

    /// Takes out all requests that `which` is true of.
    pub(super) fn take_all(&mut self, which: impl Fn(&Question) -> bool) -> Vec<Question> {
        self.questions.extract_if(.., |question| which(question)).collect()
    }

    /// The first request of the project whose turn was longest ago.
    fn next(&self, which: impl Fn(&Question) -> bool) -> Option<usize> {
        let turn = |question: &Question| self.turns.get(&question.project).copied().unwrap_or(0);
        let found = self.questions.iter().enumerate().filter(|(_, question)| which(question));
        found.min_by_key(|(place, question)| (turn(question), *place)).map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::oneshot;

    use super::{Answer, Question, Servable, Waiting};
    use crate::domain::Timestamp;
    use crate::domain::id::{ModelId, ProjectId};
    use crate::domain::model::{Family, Model, ModelFacts, ModelKind};
    use crate::domain::serving::{Asked, Input};

    fn servable() -> Arc<Servable> {
        let model = Model {
            id: ModelId::new(),
            project: None,
            name: "a".to_owned(),
            kind: ModelKind::Base,
            family: Family::Bert,
            facts: ModelFacts::default(),
            job: None,
            created_at: Timestamp::now_utc(),
        };
        Arc::new(Servable { model, files: Vec::new() })
    }

    fn ask(
        project: ProjectId,
        servable: &Arc<Servable>,
        id: u64,
        bytes: usize,
    ) -> (Question, oneshot::Receiver<Answer>) {
        let (answer, receiver) = oneshot::channel();
        let asked = Asked { id, input: vec![Input::One("x".repeat(bytes))], top_k: 1 };
        (Question { project, servable: Arc::clone(servable), asked, answer }, receiver)
    }

    #[test]
    fn projects_take_turns_whoever_came_first() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (greedy, modest) = (ProjectId::new(), ProjectId::new());
        let mut clients = Vec::new();
        for (id, project) in [greedy, greedy, greedy, modest, modest].into_iter().enumerate() {
            let (question, client) = ask(project, &model, id as u64, 1);
            assert!(waiting.push(question).is_empty());
            clients.push(client);
        }
        let order: Vec<u64> = std::iter::from_fn(|| Some(waiting.take(model.model.id)?.asked.id)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2]);
        assert!(!waiting.wants(model.model.id));
    }

    #[test]
    fn the_next_model_is_that_of_the_project_whose_turn_was_longest_ago() {
        let (one, other, mut waiting) = (servable(), servable(), Waiting::default());
        let (greedy, modest) = (ProjectId::new(), ProjectId::new());
        let (first, _client) = ask(greedy, &one, 0, 1);
        waiting.push(first);
        waiting.take(one.model.id).unwrap();
        let (second, _client) = ask(greedy, &one, 1, 1);
        let (third, _other_client) = ask(modest, &other, 2, 1);
        waiting.push(second);
        waiting.push(third);
        assert_eq!(waiting.next_model(|_| true).unwrap().model.id, other.model.id);
        assert_eq!(waiting.next_model(|model| model != other.model.id).unwrap().model.id, one.model.id);
    }

    #[test]
    fn a_full_room_makes_way_for_whoever_has_less_in_it() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (greedy, modest) = (ProjectId::new(), ProjectId::new());
        let mut clients = Vec::new();
        let mut push = |waiting: &mut Waiting, project, id, bytes| {
            let (question, client) = ask(project, &model, id, bytes);
            clients.push(client);
            waiting.push(question).into_iter().map(|question| question.asked.id).collect::<Vec<_>>()
        };
        for id in 0..64 {
            assert!(push(&mut waiting, greedy, id, 1).is_empty());
        }
        assert_eq!(push(&mut waiting, greedy, 64, 1), [64], "its own room is full");
        assert_eq!(push(&mut waiting, modest, 65, 3 << 20), [63, 62, 61], "the latest of the others make way");
        assert_eq!(waiting.take(model.model.id).unwrap().asked.id, 0);
    }

    #[test]
    fn a_request_whose_client_is_gone_takes_no_turn() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (gone, client) = ask(ProjectId::new(), &model, 0, 1);
        let (stays, _client) = ask(ProjectId::new(), &model, 1, 1);
        waiting.push(gone);
        waiting.push(stays);
        drop(client);
        waiting.forget();
        assert_eq!(waiting.take(model.model.id).unwrap().asked.id, 1);
    }
}
