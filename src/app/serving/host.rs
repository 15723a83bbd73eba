//! The keeper of one model at work: prepares its folder, starts its process, hands it one request after the other, and
//! ends it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::pool::{Pool, Question};
use super::served::{Failure, Served};
use crate::app::{App, models};
use crate::domain::error::{Error, Result};
use crate::domain::model::{Model, ModelFile};
use crate::domain::serving::Refusal;
use crate::private;

/// How long a model may take to start, fetching and all.
pub(super) const START: Duration = Duration::from_mins(2);

/// How long one request may take once it is its turn.
pub(super) const REQUEST: Duration = Duration::from_mins(1);

/// What a host works with.
pub(super) struct Host {
    pub(super) app: App,
    pub(super) pool: Pool,
    /// Tells this life of the model from its others.
    pub(super) number: u64,
    pub(super) model: Model,
    pub(super) files: Vec<ModelFile>,
    pub(super) questions: mpsc::Receiver<Question>,
    pub(super) stop: CancellationToken,
}

impl Host {
    /// Serves until it is stopped, idle for too long, or broken. `places` bounds how many processes there are.
    pub(super) async fn run(mut self, places: Arc<Semaphore>) {
        let folder = self.app.served().join(format!("{}-{}", self.model.id.0.simple(), self.number));
        let started = tokio::select! {
            started = tokio::time::timeout(START, self.start(places, &folder)) => {
                started.unwrap_or_else(|_| Err(Failure::Broken(format!("not ready within {} s", START.as_secs()))))
            }
            () = self.stop.cancelled() => Err(Failure::Broken("stopped".to_owned())),
        };
        match started {
            Ok((served, place)) => {
                let served = self.serve(served).await;
                self.pool.remove(self.number);
                served.end().await;
                remove(&folder).await;
                drop(place);
            }
            Err(failure) => {
                self.pool.remove(self.number);
                tracing::warn!(model = %self.model.id, ?failure, "a model could not be started");
                self.questions.close();
                while let Some(question) = self.questions.recv().await {
                    question.answer(Err(failure.clone()));
                }
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
        let prepared = self.prepare(folder).await.map_err(|error| Failure::Broken(error.chain()))?;
        let served = Served::start(&self.app, folder, prepared).await?;
        tracing::info!(model = %self.model.id, "serving a model");
        Ok((served, place))
    }

    /// Fetches the model; the tokens that its training kept of each text.
    async fn prepare(&self, folder: &Path) -> Result<Option<u32>> {
        let directory = folder.join("model");
        private::make_folder(&directory, private::FOLDER).map_err(Error::internal)?;
        models::fetch(&self.app.store, &self.files, &directory).await?;
        models::trained_length(&self.app, &self.model).await
    }

    /// Answers questions, and returns the process when it shall end.
    async fn serve(&mut self, mut served: Served) -> Served {
        loop {
            let question = tokio::select! {
                () = self.stop.cancelled() => return served,
                () = served.gone() => {
                    tracing::warn!(model = %self.model.id, "a serving process ended by itself");
                    return served;
                }
                next = tokio::time::timeout(self.app.config.serving_idle, self.questions.recv()) => match next {
                    Ok(Some(question)) => question,
                    Ok(None) => return served,
                    Err(_) if self.pool.retire(self.number) => {
                        tracing::info!(model = %self.model.id, "a model without requests is put away");
                        return served;
                    }
                    // A question came at the last moment.
                    Err(_) => continue,
                },
            };
            if question.is_forgotten() {
                continue;
            }
            let (asked, answer) = question.take();
            let answered = tokio::select! {
                answered = tokio::time::timeout(REQUEST, served.ask(asked)) => {
                    answered.unwrap_or_else(|_| Err(Failure::Broken(format!("no answer in {} s", REQUEST.as_secs()))))
                }
                () = self.stop.cancelled() => Err(Failure::Broken("stopped".to_owned())),
            };
            let is_broken = matches!(answered, Err(Failure::Broken(_)));
            if is_broken {
                tracing::warn!(model = %self.model.id, answer = ?answered.as_ref().err(), "a serving process is ended");
                // Before the answer, so that whoever asks again at once finds a new process.
                self.pool.remove(self.number);
            }
            answer.send(answered);
            if is_broken {
                return served;
            }
        }
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
        Failure::Broken(why) => Error::unavailable(why),
    }
}
