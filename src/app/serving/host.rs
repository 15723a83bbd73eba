//! The keeper of one model at work: prepares its folder, starts its process, hands it one slice of a request after
//! the other, and ends it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::pool::{Next, Pool};
use super::question::{Question, Servable, SliceSize};
use super::served::{Failure, Served};
use crate::app::{App, models};
use crate::domain::error::{Error, ErrorKind, Result};
use crate::domain::serving::{Input, Refusal};
use crate::private;

/// How long a model may take to start, fetching and all.
pub(super) const START: Duration = Duration::from_mins(2);

/// How long one slice of a request may take once it is its turn.
pub(super) const REQUEST: Duration = Duration::from_mins(1);

/// What a host works with.
pub(super) struct Host {
    pub(super) app: App,
    pub(super) pool: Pool,
    /// Tells this life of the model from its others.
    pub(super) number: u64,
    pub(super) servable: Arc<Servable>,
    /// Told when there may be something else to do.
    pub(super) wake: Arc<Notify>,
    pub(super) stop: CancellationToken,
}

impl Host {
    /// Serves until it is stopped, idle for too long, gives way, or is broken. `places` bounds how many processes there are.
    pub(super) async fn run(self, places: Arc<Semaphore>) {
        let folder = self.app.served().join(format!("{}-{}", self.servable.model.id.0.simple(), self.number));
        let started = tokio::select! {
            started = tokio::time::timeout(START, self.start(places, &folder)) => {
                started.unwrap_or_else(|_| Err(Failure::Broken(format!("not ready within {} s", START.as_secs()))))
            }
            () = self.stop.cancelled() => Err(Failure::Broken("stopped".to_owned())),
        };
        match started {
            Ok((served, place)) => {
                self.pool.ready(self.number);
                let served = self.serve(served).await;
                served.end().await;
                remove(&folder).await;
                drop(place);
            }
            Err(failure) => {
                tracing::warn!(model = %self.servable.model.id, ?failure, "a model could not be started");
                self.pool.fail(&self.app, self.number, &failure);
                remove(&folder).await;
            }
        }
    }

    async fn start(
        &self,
        places: Arc<Semaphore>,
        folder: &Path,
    ) -> std::result::Result<(Served, OwnedSemaphorePermit), Failure> {
        // The process before may still be ending.
        let place = places.acquire_owned().await.map_err(|error| Failure::Broken(error.to_string()))?;
        let prepared = self.prepare(folder).await.map_err(Failure::of)?;
        let served = Served::start(&self.app, folder, prepared).await?;
        tracing::info!(model = %self.servable.model.id, "serving a model");
        Ok((served, place))
    }

    /// Fetches the model; the tokens that its training kept of each text.
    async fn prepare(&self, folder: &Path) -> Result<Option<u32>> {
        let directory = folder.join("model");
        private::make_folder(&directory, private::FOLDER).map_err(Error::internal)?;
        models::fetch(&self.app, &self.servable.model, &self.servable.files, &directory).await?;
        models::trained_length(&self.app, &self.servable.model).await
    }

    /// Answers questions, and returns the process when it shall end; the pool does not know it any more then.
    async fn serve(&self, mut served: Served) -> Served {
        let mut size = SliceSize::default();
        loop {
            let is_broken = match self.pool.next(&self.app, self.number) {
                Next::End => return served,
                Next::Answer(question) => self.answer(&mut served, &mut size, *question).await,
                Next::Wait(until) => tokio::select! {
                    () = self.stop.cancelled() => return served,
                    () = served.gone() => {
                        tracing::warn!(model = %self.servable.model.id, "a serving process ended by itself");
                        self.pool.remove(&self.app, self.number);
                        true
                    }
                    () = self.wake.notified() => false,
                    () = tokio::time::sleep_until(until) => false,
                },
            };
            if is_broken {
                return served;
            }
        }
    }

    /// Has the next slice of a question answered, and what is left of it wait again; true if the process is of no use
    /// after it.
    async fn answer(&self, served: &mut Served, size: &mut SliceSize, mut question: Question) -> bool {
        let (asked, started) = (question.cut(size), Instant::now());
        let bytes: usize = asked.input.iter().map(Input::bytes).sum();
        let answered = tokio::select! {
            answered = tokio::time::timeout(REQUEST, served.ask(asked)) => {
                answered.unwrap_or_else(|_| Err(Failure::Broken(format!("no answer in {} s", REQUEST.as_secs()))))
            }
            () = self.stop.cancelled() => Err(Failure::Broken("stopped".to_owned())),
        };
        let took = started.elapsed();
        size.learn(bytes, took);
        self.pool.charge(question.project, took);
        let is_broken = matches!(answered, Err(Failure::Broken(_)));
        if is_broken {
            let answer = answered.as_ref().err();
            tracing::warn!(model = %self.servable.model.id, ?answer, "a serving process is ended");
            // Before the answer, so that whoever asks again at once finds a new process.
            self.pool.remove(&self.app, self.number);
        }
        if let Some(rest) = question.go_on(answered) {
            self.pool.put_back(rest);
        }
        is_broken
    }
}

async fn remove(folder: &PathBuf) {
    if let Err(error) = tokio::fs::remove_dir_all(folder).await {
        tracing::debug!(%error, "the folder of a model at work stays");
    }
}

/// The error of a request whose process failed it.
pub(super) fn error_of(failure: Failure) -> Error {
    match failure {
        Failure::Refused(Refusal { param, message }) => Error::invalid(param.unwrap_or_default(), message),
        Failure::Damaged(code, message) => Error::new(ErrorKind::Damaged, message).code(code).param("model"),
        Failure::Broken(why) => Error::unavailable(why),
    }
}
