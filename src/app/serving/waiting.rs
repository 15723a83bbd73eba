//! Requests that wait for a model, and whose turn it is: the projects share the time, whichever models they ask, and none
//! can fill the room while others want in.
//!
//! Time is shared by start-time fair queueing (Goyal, Vin and Cheng 1996): next is the project whose account of seconds
//! is the lowest. What a slice costs is known when it is done, and is charged then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::question::{Ground, Question, Servable};
use crate::domain::id::ProjectId;

/// Bytes of input that wait at once.
const ROOM: usize = 64 << 20;
/// How many accounts are kept before those are looked through that no longer matter.
const REMEMBERED: usize = 1024;
/// How far a project may be behind the others: what it asks of one model must not wait for all the time that it has
/// waited for another.
const CREDIT: Duration = Duration::from_secs(3);

/// The requests that no process has in its hands, in the order in which they came.
#[derive(Default)]
pub(super) struct Waiting {
    questions: Vec<Question>,
    accounts: HashMap<ProjectId, Account>,
    /// The virtual time: where the account stood of whoever had the last turn.
    now: Duration,
    last_came: u64,
}

/// What a project has had.
#[derive(Default)]
struct Account {
    /// The virtual time at which its next slice starts.
    start: Duration,
    /// Slices of it that processes are at.
    in_hand: usize,
}

impl Waiting {
    /// Takes a request in, and returns those for which there is no room now: the latest of the project that has the most,
    /// which may be this one.
    pub(super) fn push(&mut self, mut question: Question) -> Vec<Question> {
        self.forget();
        let is_new = !self.questions.iter().any(|other| other.project == question.project);
        let account = self.accounts.entry(question.project).or_default();
        if is_new && account.in_hand == 0 {
            // Whoever was away has saved nothing up.
            account.start = account.start.max(self.now);
        }
        self.last_came += 1;
        question.came = self.last_came;
        self.questions.push(question);
        if self.accounts.len() > REMEMBERED {
            let (questions, now) = (&self.questions, self.now);
            let waits = |project: &ProjectId| questions.iter().any(|question| question.project == *project);
            self.accounts.retain(|project, account| account.start > now || account.in_hand > 0 || waits(project));
        }
        self.displace()
    }

    /// Takes in what is left of a request, at the place that it had, and returns those for which there is no room now.
    pub(super) fn put_back(&mut self, question: Question) -> Vec<Question> {
        let place = self.questions.partition_point(|other| other.came < question.came);
        self.questions.insert(place, question);
        self.forget();
        self.displace()
    }

    fn displace(&mut self) -> Vec<Question> {
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
        self.questions.retain(|question| !question.is_abandoned());
    }

    /// Takes the next request for a model upon these weights out, for a slice of it. What that took is to be told to [`Self::charge`].
    pub(super) fn take(&mut self, ground: Ground) -> Option<Question> {
        let place = self.next(|question| question.ground() == ground)?;
        let question = self.questions.remove(place);
        let account = self.accounts.entry(question.project).or_default();
        account.start = account.start.max(self.now.saturating_sub(CREDIT));
        account.in_hand += 1;
        self.now = self.now.max(account.start);
        Some(question)
    }

    /// Charges a project for a slice.
    pub(super) fn charge(&mut self, project: ProjectId, took: Duration) {
        if let Some(account) = self.accounts.get_mut(&project) {
            account.start += took;
            account.in_hand = account.in_hand.saturating_sub(1);
        }
    }

    /// The next model that is asked for, of those upon weights that `may` be put to work.
    pub(super) fn next_model(&self, may: impl Fn(Ground) -> bool) -> Option<&Arc<Servable>> {
        let place = self.next(|question| may(question.ground()))?;
        Some(&self.questions[place].servable)
    }

    /// Whether a model upon these weights is asked for.
    pub(super) fn wants(&self, ground: Ground) -> bool {
        self.questions.iter().any(|question| question.ground() == ground)
    }

    /// Takes out all requests that `which` is true of.
    pub(super) fn take_all(&mut self, which: impl Fn(&Question) -> bool) -> Vec<Question> {
        self.questions.extract_if(.., |question| which(question)).collect()
    }

    /// The first request of the project that has had the least.
    fn next(&self, which: impl Fn(&Question) -> bool) -> Option<usize> {
        let start =
            |question: &Question| self.accounts.get(&question.project).map_or(self.now, |account| account.start);
        let found = self.questions.iter().enumerate().filter(|(_, question)| which(question));
        found.min_by_key(|(place, question)| (start(question), *place)).map(|(place, _)| place)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::classification::tests::{ask, servable, step};
    use super::super::question::Heard;
    use super::{Ground, Question, Waiting};
    use crate::domain::id::ProjectId;

    /// The id of the request that has the next turn, which takes so many seconds and is the whole of it.
    fn turn(waiting: &mut Waiting, model: Ground, seconds: u64) -> Option<u64> {
        let question = waiting.take(model)?;
        waiting.charge(question.project, Duration::from_secs(seconds));
        Some(question.id)
    }

    /// One slice of the next request, which takes a second; what is left of the request.
    fn slice(waiting: &mut Waiting, model: Ground) -> (u64, Option<Question>) {
        let mut question = waiting.take(model).unwrap();
        let (id, (_, heard)) = (question.id, step(&mut question));
        waiting.charge(question.project, Duration::from_secs(1));
        (id, (heard == Heard::Slice).then_some(question))
    }

    fn ids(questions: Vec<Question>) -> Vec<u64> {
        questions.into_iter().map(|question| question.id).collect()
    }

    #[test]
    fn projects_take_turns_whoever_came_first() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (greedy, modest) = (ProjectId::new(), ProjectId::new());
        let mut clients = Vec::new();
        for (id, project) in [greedy, greedy, greedy, modest, modest].into_iter().enumerate() {
            let (question, client) = ask(project, &model, id as u64, &[1]);
            assert!(waiting.push(question).is_empty());
            clients.push(client);
        }
        let order: Vec<u64> = std::iter::from_fn(|| turn(&mut waiting, model.ground, 1)).collect();
        assert_eq!(order, [0, 3, 1, 4, 2]);
        assert!(!waiting.wants(model.ground));
    }

    #[test]
    fn projects_are_charged_for_the_time_and_not_for_the_requests() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (slow, quick) = (ProjectId::new(), ProjectId::new());
        let mut clients = Vec::new();
        for (project, ids) in [(slow, 0..2), (quick, 10..18)] {
            for id in ids {
                let (question, client) = ask(project, &model, id, &[1]);
                waiting.push(question);
                clients.push(client);
            }
        }
        let mut order = Vec::new();
        while let Some(question) = waiting.take(model.ground) {
            waiting.charge(question.project, Duration::from_secs(if question.project == slow { 4 } else { 1 }));
            order.push(question.id);
        }
        assert_eq!(order, [0, 10, 11, 12, 13, 1, 14, 15, 16, 17]);
    }

    #[test]
    fn a_project_that_comes_anew_has_saved_nothing_up() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (early, late) = (ProjectId::new(), ProjectId::new());
        let mut clients = Vec::new();
        let mut push = |waiting: &mut Waiting, project, id| {
            let (question, client) = ask(project, &model, id, &[1]);
            waiting.push(question);
            clients.push(client);
        };
        // It was here before, a hundred seconds ago.
        push(&mut waiting, late, 1000);
        turn(&mut waiting, model.ground, 1);
        for id in 0..100 {
            push(&mut waiting, early, id);
            turn(&mut waiting, model.ground, 1);
        }
        for (project, id) in [(early, 200), (early, 201), (late, 300), (late, 301), (late, 302)] {
            push(&mut waiting, project, id);
        }
        let order: Vec<u64> = std::iter::from_fn(|| turn(&mut waiting, model.ground, 1)).collect();
        assert_eq!(order, [300, 200, 301, 201, 302]);
    }

    #[test]
    fn waiting_for_one_model_gives_little_credit_with_another() {
        let (one, other, mut waiting) = (servable(), servable(), Waiting::default());
        let (busy, waits) = (ProjectId::new(), ProjectId::new());
        let mut clients = Vec::new();
        let mut push = |waiting: &mut Waiting, project, model, id| {
            let (question, client) = ask(project, model, id, &[1]);
            waiting.push(question);
            clients.push(client);
        };
        push(&mut waiting, waits, &other, 1000);
        for id in 0..100 {
            push(&mut waiting, busy, &one, id);
            turn(&mut waiting, one.ground, 1);
        }
        push(&mut waiting, busy, &one, 200);
        for id in 300..320 {
            push(&mut waiting, waits, &one, id);
        }
        let order: Vec<u64> = std::iter::from_fn(|| turn(&mut waiting, one.ground, 1)).take(5).collect();
        assert_eq!(order, [300, 301, 302, 303, 200]);
    }

    #[test]
    fn the_next_model_is_that_of_the_project_that_has_had_the_least() {
        let (one, other, mut waiting) = (servable(), servable(), Waiting::default());
        let (greedy, modest) = (ProjectId::new(), ProjectId::new());
        let (first, _client) = ask(greedy, &one, 0, &[1]);
        waiting.push(first);
        turn(&mut waiting, one.ground, 1);
        let (second, _client) = ask(greedy, &one, 1, &[1]);
        let (third, _other_client) = ask(modest, &other, 2, &[1]);
        waiting.push(second);
        waiting.push(third);
        assert_eq!(waiting.next_model(|_| true).unwrap().model.id, other.model.id);
        assert_eq!(waiting.next_model(|ground| ground != other.ground).unwrap().model.id, one.model.id);
    }

    #[test]
    fn what_is_left_of_a_request_comes_after_others_and_before_younger_ones_of_its_project() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (greedy, modest) = (ProjectId::new(), ProjectId::new());
        let (long, _client) = ask(greedy, &model, 0, &[1; 64]);
        let (younger, _other_client) = ask(greedy, &model, 1, &[1]);
        let (others, _third_client) = ask(modest, &model, 2, &[1]);
        for question in [long, younger, others] {
            waiting.push(question);
        }
        let mut order = Vec::new();
        while waiting.wants(model.ground) {
            let (id, rest) = slice(&mut waiting, model.ground);
            order.push(id);
            if let Some(rest) = rest {
                assert!(waiting.put_back(rest).is_empty());
            }
        }
        assert_eq!(order, [0, 2, 0, 1]);
    }

    #[test]
    fn a_full_room_makes_way_for_whoever_has_less_in_it() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (greedy, modest) = (ProjectId::new(), ProjectId::new());
        let mut clients = Vec::new();
        let mut push = |waiting: &mut Waiting, project, id, bytes| {
            let (question, client) = ask(project, &model, id, &[bytes]);
            clients.push(client);
            ids(waiting.push(question))
        };
        for id in 0..64 {
            assert!(push(&mut waiting, greedy, id, 1).is_empty());
        }
        assert_eq!(push(&mut waiting, greedy, 64, 1), [64], "its own room is full");
        assert_eq!(push(&mut waiting, modest, 65, 3 << 20), [63, 62, 61], "the latest of the others make way");
        assert_eq!(waiting.take(model.ground).unwrap().id, 0);
    }

    #[test]
    fn a_request_under_way_takes_the_room_of_what_is_left_and_is_displaced_after_younger_ones() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (greedy, modest) = (ProjectId::new(), ProjectId::new());
        let mut clients = Vec::new();
        let mut push = |waiting: &mut Waiting, project, id, bytes: &[usize]| {
            let (question, client) = ask(project, &model, id, bytes);
            clients.push(client);
            ids(waiting.push(question))
        };
        push(&mut waiting, greedy, 0, &[4 << 20; 2]);
        for id in 1..=56 {
            assert!(push(&mut waiting, greedy, id, &[1]).is_empty());
        }
        let (id, rest) = slice(&mut waiting, model.ground);
        assert_eq!(id, 0);
        // While it was away, others have taken its place.
        for id in 57..=61 {
            assert!(push(&mut waiting, greedy, id, &[1]).is_empty());
        }
        assert_eq!(ids(waiting.put_back(rest.unwrap())), [61], "half of it is left, which is four others");
        assert_eq!(push(&mut waiting, modest, 62, &[1]), [60]);
        assert_eq!(turn(&mut waiting, model.ground, 1), Some(62));
        assert_eq!(turn(&mut waiting, model.ground, 1), Some(0));
    }

    #[test]
    fn a_request_whose_client_is_gone_takes_no_turn() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (gone, client) = ask(ProjectId::new(), &model, 0, &[1]);
        let (stays, _client) = ask(ProjectId::new(), &model, 1, &[1]);
        waiting.push(gone);
        waiting.push(stays);
        drop(client);
        waiting.forget();
        assert_eq!(waiting.take(model.ground).unwrap().id, 1);
    }

    #[test]
    fn a_request_whose_client_goes_between_slices_does_not_go_on() {
        let (model, mut waiting) = (servable(), Waiting::default());
        let (long, client) = ask(ProjectId::new(), &model, 0, &[1; 64]);
        waiting.push(long);
        let (_, rest) = slice(&mut waiting, model.ground);
        drop(client);
        assert!(waiting.put_back(rest.unwrap()).is_empty());
        assert!(!waiting.wants(model.ground));
    }
}
