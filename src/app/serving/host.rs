//! The keeper of one process at work: prepares its folder, starts its process, hands it one slice of a request after
//! the other, and ends it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::beside::Beside;
use super::pool::{Next, Work};
use super::question::{Heard, Question, Slice};
use super::served::{Failure, REQUEST, START, Served};
use super::slices::SliceSize;
use crate::app::models;
use crate::domain::error::{Error, Result};
use crate::domain::serving;
use crate::private;

/// A process at work.
struct Worker {
    served: Served,
    folder: PathBuf,
    /// The models that it answers for beside the first.
    beside: Beside,
    size: SliceSize,
}

/// Puts a model to work, in a task of its own.
pub(super) fn start(work: Work) {
    tokio::spawn(work.run());
}

impl Work {
    /// Serves until it is stopped, idle for too long, gives way, or is broken.
    async fn run(self) {
        let folder = self.app.served().join(format!("{}-{}", self.servable.model.id.0.simple(), self.number));
        let started = tokio::select! {
            started = tokio::time::timeout(START, self.start(&folder)) => {
                started.unwrap_or_else(|_| Err(Failure::Broken(format!("not ready within {} s", START.as_secs()))))
            }
            () = self.stop.cancelled() => Err(Failure::Broken("stopped".to_owned())),
        };
        match started {
            Ok((served, place)) => {
                self.pool.ready(self.number);
                let (beside, size) = (Beside::default(), SliceSize::default());
                let Worker { served, folder, .. } = self.serve(Worker { served, folder, beside, size }).await;
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

    async fn start(&self, folder: &Path) -> std::result::Result<(Served, OwnedSemaphorePermit), Failure> {
        // The process before may still be ending.
        let place =
            Arc::clone(&self.places).acquire_owned().await.map_err(|error| Failure::Broken(error.to_string()))?;
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
    async fn serve(&self, mut worker: Worker) -> Worker {
        loop {
            let is_broken = match self.pool.next(&self.app, self.number) {
                Next::End => return worker,
                Next::Answer(question) => self.answer(&mut worker, *question).await,
                Next::Wait(until) => tokio::select! {
                    () = self.stop.cancelled() => return worker,
                    () = worker.served.gone() => {
                        tracing::warn!(model = %self.servable.model.id, "a serving process ended by itself");
                        self.pool.remove(&self.app, self.number);
                        true
                    }
                    () = self.wake.notified() => false,
                    () = tokio::time::sleep_until(until) => false,
                },
            };
            if is_broken {
                return worker;
            }
        }
    }

    /// Has the next slice of a question answered, and what is left of it wait again; true if the process is of no use
    /// after it.
    async fn answer(&self, worker: &mut Worker, mut question: Question) -> bool {
        let Slice { question: asked, bytes } = question.next(&worker.size);
        let started = Instant::now();
        let heard = tokio::select! {
            heard = self.exchange(worker, &mut question, asked) => heard,
            () = self.stop.cancelled() => Err(Failure::Broken("stopped".to_owned())),
        };
        let took = started.elapsed();
        if let Some(bytes) = bytes {
            worker.size.learn(bytes, took);
        }
        self.pool.charge(question.project, took);
        match heard {
            Ok(Heard::All) => false,
            Ok(Heard::Slice | Heard::Part) => {
                self.pool.put_back(question);
                false
            }
            Err(failure) => {
                let is_broken = matches!(failure, Failure::Broken(_));
                if is_broken {
                    tracing::warn!(model = %self.servable.model.id, ?failure, "a serving process is ended");
                    // Before the answer, so that whoever asks again at once finds a new process.
                    self.pool.remove(&self.app, self.number);
                }
                question.fail(failure.into());
                is_broken
            }
        }
    }

    /// Asks a process a slice of a question, and hears its answers to the last one. It may take its time between two of them.
    async fn exchange(
        &self,
        worker: &mut Worker,
        question: &mut Question,
        asked: serving::Question,
    ) -> std::result::Result<Heard, Failure> {
        let late = |time: Duration| move |_| Failure::Broken(format!("no answer in {} s", time.as_secs()));
        let Worker { served, folder, beside, .. } = worker;
        let model = if question.model() == self.servable.model.id {
            None
        } else {
            let admitted = beside.admit(&self.app, (&mut *served, &*folder), &question.servable);
            Some(tokio::time::timeout(START, admitted).await.map_err(late(START))??)
        };
        served.ask(model, asked).await?;
        loop {
            let answered = tokio::time::timeout(REQUEST, served.hear()).await;
            match question.hear(answered.map_err(late(REQUEST))??)? {
                Heard::Part => {}
                heard => return Ok(heard),
            }
        }
    }
}

async fn remove(folder: &PathBuf) {
    if let Err(error) = tokio::fs::remove_dir_all(folder).await {
        tracing::debug!(%error, "the folder of a model at work stays");
    }
}
