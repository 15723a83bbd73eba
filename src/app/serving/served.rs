//! A model at work: the process that serves it, spoken to in JSON lines.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;

use crate::app::App;
use crate::domain::error::{Error, ErrorKind};
use crate::domain::serving::{Answered, Asked, Opened, Question, Refusal, Reply, ServingSpec, VERSION};
use crate::process::{self, Lines, Process};
use crate::telemetry::{self, OneMore};

/// The longest line it may print: the labels of all inputs of a request, however long.
const LONGEST_LINE: usize = 64 << 20;

/// A line of up to so many bytes is read where it comes.
const SHORT: usize = 64 << 10;

/// How long a process may take to be gone once it is killed.
const END: Duration = Duration::from_secs(10);

/// Why a request has no answer.
#[derive(Clone, Debug)]
pub(super) enum Failure {
    /// The request, or its model, is at fault.
    Refused(Refusal),
    /// The model's files are missing or damaged.
    Damaged(&'static str, String),
    /// The process could not answer: for the log.
    Broken(String),
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(Refusal { param, message }) => Self::invalid(param.unwrap_or_default(), message),
            Failure::Damaged(code, message) => Self::new(ErrorKind::Damaged, message).code(code).param("model"),
            Failure::Broken(why) => Self::unavailable(why),
        }
    }
}

/// How long a model may take to start, fetching and all.
pub(super) const START: Duration = Duration::from_mins(2);

/// How long a process may take to its next answer.
pub(super) const REQUEST: Duration = Duration::from_mins(1);

/// A running process.
pub(super) struct Served {
    process: Process,
    stdin: ChildStdin,
    lines: Lines,
    asked: u64,
    _at_work: OneMore,
}

impl Served {
    /// Starts a process on the model in `folder`, which lies in its `model`, and waits until it is ready. It computes on
    /// the CPU, with one thread unless the setting says more, so that trainings keep their pace.
    ///
    /// # Errors
    /// It does not start, or cannot use the model.
    pub(super) async fn start(app: &App, folder: &Path, max_tokens: Option<u32>) -> Result<Self, Failure> {
        let (config, premises) = (&app.config, app.premises().await.map_err(broken)?);
        let threads = config.trainer_threads.max(1);
        let spec = ServingSpec { version: VERSION, model: PathBuf::from("model"), max_tokens, threads };
        let text = serde_json::to_vec_pretty(&spec).map_err(broken)?;
        tokio::fs::write(folder.join("spec.json"), text).await.map_err(broken)?;
        let mut command = process::serving_command(config, threads);
        command.args(["serve", "spec.json", "cpu"]);
        let (process, stdin, lines) = process::spawn(command, &premises, folder, LONGEST_LINE).map_err(broken)?;
        let at_work = OneMore::of(telemetry::PROCESSES, "serving");
        let mut served = Self { process, stdin, lines, asked: 0, _at_work: at_work };
        match served.line().await.and_then(|line| serde_json::from_str(&line).map_err(broken)) {
            Ok(Opened::Ready) => Ok(served),
            Ok(Opened::Failed(error)) => {
                served.end().await;
                let Some(param) = error.param else { return Err(Failure::Broken(error.message)) };
                Err(Failure::Refused(Refusal { param: Some(param), message: error.message }))
            }
            Err(failure) => Err(failure.with_last_words(&served.end().await)),
        }
    }

    /// Asks a question, whose answers [`hear`](Self::hear) gives, of a model that was loaded, or of the one that it was started
    /// with. After a [`Failure::Broken`] the process is of no use.
    ///
    /// # Errors
    /// The process is gone.
    pub(super) async fn ask(&mut self, model: Option<String>, question: Question) -> Result<(), Failure> {
        self.asked += 1;
        let asked = Asked { id: self.asked, model, question };
        // Megabytes, perhaps: not on a thread that serves others.
        let line = tokio::task::spawn_blocking(move || {
            let mut line = serde_json::to_vec(&asked)?;
            line.push(b'\n');
            Ok::<_, serde_json::Error>(line)
        });
        let line = line.await.map_err(broken)?.map_err(broken)?;
        self.stdin.write_all(&line).await.map_err(broken)
    }

    /// The next answer to the last question.
    ///
    /// # Errors
    /// The process is gone, or says something else.
    pub(super) async fn hear(&mut self) -> Result<Answered, Failure> {
        let line = self.line().await?;
        let reply: Reply = if line.len() <= SHORT {
            serde_json::from_str(&line).map_err(broken)?
        } else {
            tokio::task::spawn_blocking(move || serde_json::from_str(&line)).await.map_err(broken)?.map_err(broken)?
        };
        if reply.id == self.asked {
            Ok(reply.answer)
        } else {
            Err(Failure::Broken("an answer to another request".to_owned()))
        }
    }

    /// Moves a folder into the process's own, whose it is from then on. Its name there must be new.
    ///
    /// # Errors
    /// The folder cannot be moved.
    pub(super) fn hand_over(&self, folder: &Path, name: &str) -> Result<(), Failure> {
        self.process.hand_over(folder, name).map_err(broken)
    }

    /// Waits until it prints something unasked, which is the end: nothing is expected of it.
    pub(super) async fn gone(&mut self) {
        let _ = self.lines.next().await;
    }

    async fn line(&mut self) -> Result<String, Failure> {
        match self.lines.next().await {
            Some(line) => line.map_err(broken),
            None => Err(Failure::Broken("the process ended".to_owned())),
        }
    }

    /// Ends it, since nothing of it is worth waiting for, and returns its last words.
    pub(super) async fn end(self) -> String {
        self.process.group.signal(Signal::SIGKILL);
        let ended = tokio::time::timeout(END, self.process.end()).await;
        ended.map(|(_, words)| words).unwrap_or_default()
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::Broken(error.to_string())
}

impl Failure {
    /// Why a model could not be prepared.
    pub(super) fn of(error: Error) -> Self {
        match error.code {
            Some(code) if error.kind == ErrorKind::Damaged => Self::Damaged(code, error.message),
            _ => Self::Broken(error.chain()),
        }
    }

    fn with_last_words(self, words: &str) -> Self {
        match self {
            Self::Broken(why) => Self::Broken(format!("{why}: {}", words.trim())),
            told => told,
        }
    }
}
