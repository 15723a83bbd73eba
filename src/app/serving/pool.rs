//! Which models are at work: at most so many at once, the least recently used one giving way.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::host::{self, Host};
use super::served::Failure;
use super::{busy, check_classifier};
use crate::app::App;
use crate::db::models;
use crate::domain::error::{Error, Result};
use crate::domain::id::ModelId;
use crate::domain::model::{Model, ModelFile, TRAINING_STATE_FOLDER};
use crate::domain::serving::{Asked, Input, Prediction};

/// How many requests wait for a model, the one in its hands included.
const QUEUE: usize = 16;

/// How long a stopping service waits for its processes to be gone.
const CLOSE: Duration = Duration::from_secs(5);

type Answer = std::result::Result<Vec<Prediction>, Failure>;

/// The models at work.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    /// One for each process that there may be; held until its process is gone.
    places: Arc<Semaphore>,
    most: usize,
}

#[derive(Default)]
struct State {
    entries: Vec<Entry>,
    last_number: u64,
    is_closed: bool,
}

/// A model that takes requests.
struct Entry {
    number: u64,
    model: ModelId,
    questions: mpsc::Sender<Question>,
    /// Requests that are not answered yet.
    open: Arc<AtomicUsize>,
    used: Instant,
    stop: CancellationToken,
}

/// A request on its way to a process. It counts as open until it is dropped.
pub(super) struct Question {
    asked: Asked,
    answer: Answering,
}

/// Where the answer to a request goes.
pub(super) struct Answering {
    sender: oneshot::Sender<Answer>,
    _open: Open,
}

struct Open(Arc<AtomicUsize>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Question {
    /// Whether nobody waits for the answer any more.
    pub(super) fn is_forgotten(&self) -> bool {
        self.answer.sender.is_closed()
    }

    pub(super) fn take(self) -> (Asked, Answering) {
        (self.asked, self.answer)
    }

    pub(super) fn answer(self, answer: Answer) {
        self.answer.send(answer);
    }
}

impl Answering {
    pub(super) fn send(self, answer: Answer) {
        let Self { sender, _open: open } = self;
        // Whoever is told finds the model idle.
        drop(open);
        let _ = sender.send(answer);
    }
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.open.load(Ordering::Acquire) == 0
    }

    /// Queues a request, or says why not.
    fn ask(&mut self, asked: Asked) -> Result<oneshot::Receiver<Answer>> {
        let (sender, receiver) = oneshot::channel();
        self.open.fetch_add(1, Ordering::AcqRel);
        let answer = Answering { sender, _open: Open(Arc::clone(&self.open)) };
        self.used = Instant::now();
        match self.questions.try_send(Question { asked, answer }) {
            Ok(()) => Ok(receiver),
            Err(mpsc::error::TrySendError::Full(_)) => Err(busy("The model has too many requests waiting already.")),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(Error::unavailable("a serving process is just ending")),
        }
    }
}

impl Pool {
    /// For at most `most` processes at once.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Inner { state: Mutex::default(), places: Arc::new(Semaphore::new(most)), most }))
    }

    /// Nothing is left half done under the lock, so a panic there spoils nothing.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `model` says of the inputs, starting its process if there is none.
    ///
    /// # Errors
    /// The model is no classifier, an input is refused, all processes are busy, or this one failed.
    pub(super) async fn ask(
        &self,
        app: &App,
        model: &Model,
        input: Vec<Input>,
        top_k: usize,
    ) -> Result<Vec<Prediction>> {
        let asked = Asked { id: 0, input, top_k };
        let queued = {
            let mut state = self.state();
            match state.entries.iter_mut().find(|entry| entry.model == model.id) {
                Some(entry) => Ok(entry.ask(asked)?),
                None => Err(asked),
            }
        };
        let receiver = match queued {
            Ok(receiver) => receiver,
            Err(asked) => {
                if !tokio::fs::try_exists(&app.config.trainer).await.unwrap_or(false) {
                    return Err(busy("There is no trainer program where this service runs, so no model can be tried."));
                }
                let mut files = models::files(app.db.pool(), model.id).await?;
                files.retain(|file| !file.path.starts_with(TRAINING_STATE_FOLDER));
                check_classifier(app, model, &files).await?;
                self.start_and_ask(app, model, files, asked)?
            }
        };
        match tokio::time::timeout(host::START + host::REQUEST, receiver).await {
            Ok(Ok(answer)) => answer.map_err(host::error_of),
            Ok(Err(_)) => Err(Error::unavailable("the serving process ended before it answered")),
            Err(_) => Err(busy("The model did not come to this request in time.")),
        }
    }

    /// Queues a request with a model that was not at work a moment ago.
    fn start_and_ask(
        &self,
        app: &App,
        model: &Model,
        files: Vec<ModelFile>,
        asked: Asked,
    ) -> Result<oneshot::Receiver<Answer>> {
        let mut state = self.state();
        if state.is_closed {
            return Err(Error::unavailable("the service is stopping"));
        }
        // Another request may have started it meanwhile.
        if let Some(entry) = state.entries.iter_mut().find(|entry| entry.model == model.id) {
            return entry.ask(asked);
        }
        if state.entries.len() >= self.0.most {
            let idle = state.entries.iter().enumerate().filter(|(_, entry)| entry.is_idle());
            let Some((oldest, _)) = idle.min_by_key(|(_, entry)| entry.used) else {
                return Err(busy("Other models are busy with requests. Please try again shortly."));
            };
            state.entries.swap_remove(oldest).stop.cancel();
        }
        state.last_number += 1;
        let number = state.last_number;
        let (questions, receiver) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let mut entry = Entry {
            number,
            model: model.id,
            questions,
            open: Arc::default(),
            used: Instant::now(),
            stop: stop.clone(),
        };
        let answer = entry.ask(asked)?;
        state.entries.push(entry);
        drop(state);
        let host = Host {
            app: app.clone(),
            pool: self.clone(),
            number,
            model: model.clone(),
            files,
            questions: receiver,
            stop,
        };
        tokio::spawn(host.run(Arc::clone(&self.0.places)));
        Ok(answer)
    }

    /// Takes a model that is ending out of the pool: no more requests come to it.
    pub(super) fn remove(&self, number: u64) {
        self.state().entries.retain(|entry| entry.number != number);
    }

    /// The same if it is idle; false if a request came.
    pub(super) fn retire(&self, number: u64) -> bool {
        let mut state = self.state();
        let is_idle = state.entries.iter().all(|entry| entry.number != number || entry.is_idle());
        if is_idle {
            state.entries.retain(|entry| entry.number != number);
        }
        is_idle
    }

    /// Ends all processes, and waits until they are gone. No more are started.
    pub async fn close(&self) {
        let entries = {
            let mut state = self.state();
            state.is_closed = true;
            std::mem::take(&mut state.entries)
        };
        for entry in entries {
            entry.stop.cancel();
        }
        let all = u32::try_from(self.0.most).unwrap_or(u32::MAX);
        if tokio::time::timeout(CLOSE, self.0.places.acquire_many(all)).await.is_err() {
            tracing::warn!("serving processes were still there and are left behind");
        }
    }
}
