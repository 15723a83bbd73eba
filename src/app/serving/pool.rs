//! Which models are at work: at most so many at once. While others wait, each has its turn, and then gives way.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::question::{Ground, Inquiry, Question, Servable};
use super::served::Failure;
use super::waiting::Waiting;
use super::{busy, check_classifier};
use crate::app::App;
use crate::app::models::served_from;

use crate::domain::error::{Error, Result};
use crate::domain::id::ProjectId;
use crate::domain::model::Model;

/// How long a model works before it gives way to one that is waited for. Starting another takes about as long.
const TURN: Duration = Duration::from_secs(3);
/// How long it may be without requests in its turn: as long as a client takes from one to the next.
const LINGER: Duration = Duration::from_millis(250);
/// How soon a model looks again that would give way if another one did not.
const AGAIN: Duration = Duration::from_millis(20);

/// How long a stopping service waits for its processes to be gone.
const CLOSE: Duration = Duration::from_secs(5);

/// The models at work.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// One for each process that there may be; held until its process is gone.
    places: Arc<Semaphore>,
    most: usize,
    start: fn(Work),
}

/// What a model is put to work with.
pub(super) struct Work {
    pub(super) app: App,
    pub(super) pool: Pool,
    /// Tells this life of the model from its others.
    pub(super) number: u64,
    pub(super) servable: Arc<Servable>,
    /// Told when there may be something else to do.
    pub(super) wake: Arc<Notify>,
    pub(super) stop: CancellationToken,
    /// How many processes there may be; one is held until the model's is gone.
    pub(super) places: Arc<Semaphore>,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    waiting: Waiting,
    last_number: u64,
    is_closed: bool,
}

/// A model at work, or about to be.
struct Entry {
    number: u64,
    servable: Arc<Servable>,
    /// Since when it answers; None while it starts.
    ready: Option<Instant>,
    /// Whether a slice of a request is in its hands.
    is_busy: bool,
    /// When it last had one.
    used: Instant,
    /// Something changed that its host must know.
    wake: Arc<Notify>,
    stop: CancellationToken,
}

/// What a host is to do.
pub(super) enum Next {
    Answer(Box<Question>),
    /// Nothing, until then or until something changes.
    Wait(Instant),
    /// End: nobody asks any more, or others are waited for.
    End,
}

impl Entry {
    fn ground(&self) -> Ground {
        self.servable.ground
    }
}

impl State {
    fn entry(&mut self, number: u64) -> Option<&mut Entry> {
        self.entries.iter_mut().find(|entry| entry.number == number)
    }

    fn is_at_work(&self, ground: Ground) -> bool {
        self.entries.iter().any(|entry| entry.ground() == ground)
    }

    /// The model that is to be put to work next.
    fn wanted(&self) -> Option<&Arc<Servable>> {
        self.waiting.next_model(|ground| !self.is_at_work(ground))
    }

    /// The model at work that gives way first: one without requests, then the one that was used longest ago.
    fn gives_way(&self, now: Instant) -> Option<u64> {
        let may = |entry: &&Entry| {
            let has_had_turn = entry.ready.is_some_and(|ready| now >= ready + TURN);
            let is_idle = now >= entry.used + LINGER && !self.waiting.wants(entry.ground());
            entry.ready.is_some() && !entry.is_busy && (has_had_turn || is_idle)
        };
        let first = self.entries.iter().filter(may);
        first.min_by_key(|entry| (self.waiting.wants(entry.ground()), entry.used)).map(|entry| entry.number)
    }
}

impl Pool {
    /// For at most `most` processes at once, each kept by what `start` starts.
    pub(super) fn new(most: usize, start: fn(Work)) -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), places: Arc::new(Semaphore::new(most)), most, start }))
    }

    /// Nothing is left half done under the lock, so a panic there spoils nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a request to `model` in the queue, which starts its process if there is none as soon as it is the project's turn.
    ///
    /// # Errors
    /// The model cannot be put to work, or too many requests wait already.
    pub(super) async fn ask(
        &self,
        app: &App,
        project: ProjectId,
        model: &Model,
        inquiry: Box<dyn Inquiry>,
    ) -> Result<()> {
        let known = {
            let state = self.state();
            let mut servables = state.entries.iter().map(|entry| &entry.servable);
            servables.find(|servable| servable.model.id == model.id).cloned()
        };
        let servable = match known {
            Some(servable) => servable,
            None => Arc::new(servable(app, model).await?),
        };
        self.queue(app, Question::new(project, servable, inquiry))
    }

    fn queue(&self, app: &App, question: Question) -> Result<()> {
        let mut state = self.state();
        if state.is_closed {
            return Err(stopping());
        }
        refuse(state.waiting.push(question));
        self.fill(app, &mut state);
        for entry in &state.entries {
            entry.wake.notify_one();
        }
        Ok(())
    }

    /// Puts models to work that are waited for, as far as there are places.
    fn fill(&self, app: &App, state: &mut State) {
        while state.entries.len() < self.0.most && !state.is_closed {
            let Some(servable) = state.wanted().cloned() else { return };
            self.start(app, state, servable);
        }
    }

    fn start(&self, app: &App, state: &mut State, servable: Arc<Servable>) {
        state.last_number += 1;
        let number = state.last_number;
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let work = Work {
            app: app.clone(),
            pool: self.clone(),
            number,
            servable: Arc::clone(&servable),
            wake: Arc::clone(&wake),
            stop: stop.clone(),
            places: Arc::clone(&self.0.places),
        };
        state.entries.push(Entry { number, servable, ready: None, is_busy: false, used: Instant::now(), wake, stop });
        (self.0.start)(work);
    }

    /// A model can answer from now on.
    pub(super) fn ready(&self, number: u64) {
        if let Some(entry) = self.state().entry(number) {
            entry.ready = Some(Instant::now());
        }
    }

    /// What a model that has nothing in its hands is to do. On [`Next::End`] it is out of the pool.
    pub(super) fn next(&self, app: &App, number: u64) -> Next {
        let now = Instant::now();
        let mut state = self.state();
        state.waiting.forget();
        let Some(entry) = state.entry(number) else { return Next::End };
        if std::mem::take(&mut entry.is_busy) {
            entry.used = now;
        }
        let (model, ground) = (entry.servable.model.id, entry.ground());
        let (used, ready) = (entry.used, entry.ready.unwrap_or(now));
        let wanted = state.wanted().cloned();
        let others_wait = wanted.is_some();
        let idle = used + app.config.serving_idle;
        let successor = wanted.filter(|_| state.gives_way(now) == Some(number));
        if successor.is_some() || (now >= idle && !state.waiting.wants(ground)) {
            tracing::info!(%model, gives_way = successor.is_some(), "a model is put away");
            state.entries.retain(|entry| entry.number != number);
            if let Some(servable) = successor {
                // Chosen before it was put away, which may be asked for still and would have a turn again.
                self.start(app, &mut state, servable);
            }
            self.fill(app, &mut state);
            return Next::End;
        }
        if let Some(question) = state.waiting.take(ground) {
            if let Some(entry) = state.entry(number) {
                (entry.is_busy, entry.used) = (true, now);
            }
            return Next::Answer(Box::new(question));
        }
        Next::Wait(if others_wait { (used + LINGER).min(ready + TURN).max(now + AGAIN) } else { idle })
    }

    /// Charges a project for the time that a slice of its request took.
    pub(super) fn charge(&self, project: ProjectId, took: Duration) {
        self.state().waiting.charge(project, took);
    }

    /// Has what is left of a request wait for its next turn.
    pub(super) fn put_back(&self, question: Question) {
        let mut state = self.state();
        if state.is_closed {
            question.fail(stopping());
        } else {
            refuse(state.waiting.put_back(question));
        }
    }

    /// Takes a model that is ending out of the pool; whoever still waits for it has it started again.
    pub(super) fn remove(&self, app: &App, number: u64) {
        self.remove_from(app, &mut self.state(), number);
    }

    fn remove_from(&self, app: &App, state: &mut State, number: u64) {
        state.entries.retain(|entry| entry.number != number);
        self.fill(app, state);
    }

    /// Takes a model that could not be started out of the pool, and tells everyone who waits for it. Who asks another one upon
    /// the same weights has that started.
    pub(super) fn fail(&self, app: &App, number: u64, failure: &Failure) {
        let mut state = self.state();
        let Some(model) = state.entry(number).map(|entry| entry.servable.model.id) else { return };
        for question in state.waiting.take_all(|question| question.model() == model) {
            question.fail(failure.clone().into());
        }
        self.remove_from(app, &mut state, number);
    }

    /// Ends all processes, and waits until they are gone. No more are started.
    pub async fn close(&self) {
        let (entries, waiting) = {
            let mut state = self.state();
            state.is_closed = true;
            (std::mem::take(&mut state.entries), state.waiting.take_all(|_| true))
        };
        for question in waiting {
            question.fail(stopping());
        }
        for entry in entries {
            entry.stop.cancel();
        }
        let all = u32::try_from(self.0.most).unwrap_or(u32::MAX);
        if tokio::time::timeout(CLOSE, self.0.places.acquire_many(all)).await.is_err() {
            tracing::warn!("serving processes were still there and are left behind");
        }
    }
}

/// Answers requests for which there is no room.
fn refuse(questions: Vec<Question>) {
    for question in questions {
        question.fail(busy("Too many requests wait for models already."));
    }
}

fn stopping() -> Error {
    Error::unavailable("the service is stopping")
}

/// What is needed to put a model to work.
async fn servable(app: &App, model: &Model) -> Result<Servable> {
    if !tokio::fs::try_exists(&app.config.trainer).await.unwrap_or(false) {
        return Err(busy("There is no trainer program where this service runs, so no model can be tried."));
    }
    let files = served_from(app, model).await?;
    if !model.facts.backbone.is_language_model() {
        check_classifier(app, model, &files).await?;
    }
    Ok(Servable::new(model.clone(), files))
}
