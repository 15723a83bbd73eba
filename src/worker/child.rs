//! The trainer of a run as a child process: how it is started and spoken to.

use std::path::Path;

use futures_util::StreamExt;
use tokio::io::AsyncWriteExt;
use tokio::process::ChildStdin;
use tokio::sync::mpsc;

use crate::config::Config;
use crate::domain::attempt::ProcessEnd;
use crate::domain::clip::clipped_to;
use crate::domain::run::{TrainerCommand, TrainerMessage};
use crate::process::{self, Lines, Premises, Process};
use crate::telemetry::{self, OneMore};

/// The longest line a trainer may print.
const LONGEST_LINE: usize = 4 << 20;

/// Sends commands to a trainer; one that is gone does not mind. Its standard input ends with the last of these.
#[derive(Clone)]
pub(super) struct Commands(mpsc::UnboundedSender<TrainerCommand>);

impl Commands {
    fn to(mut stdin: ChildStdin) -> Self {
        let (sender, mut commands) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(command) = commands.recv().await {
                let mut line = serde_json::to_vec(&command).unwrap_or_default();
                line.push(b'\n');
                if stdin.write_all(&line).await.is_err() {
                    return;
                }
            }
        });
        Self(sender)
    }

    pub(super) fn send(&self, command: TrainerCommand) {
        let _ = self.0.send(command);
    }
}

/// A running trainer.
pub(super) struct Trainer {
    process: Process,
    pub(super) commands: Commands,
    lines: Lines,
    _at_work: OneMore,
}

/// What a trainer printed.
pub(super) enum Output {
    Message(TrainerMessage),
    /// A line that is no message, cut short.
    Noise(String),
}

impl Trainer {
    /// Starts a trainer of so many CPU threads on the spec in `folder`, on the GPU of its slot if there are GPUs.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn start(
        config: &Config,
        premises: &Premises,
        threads: usize,
        folder: &Path,
        gpu: Option<&str>,
    ) -> std::io::Result<Self> {
        let mut command = process::command(config, threads);
        command.arg("run").arg("spec.json");
        if let Some(gpu) = gpu {
            command.env("CUDA_VISIBLE_DEVICES", gpu);
        }
        let (process, stdin, lines) = process::spawn(command, premises, folder, LONGEST_LINE)?;
        let at_work = OneMore::of(telemetry::PROCESSES, "training");
        Ok(Self { process, commands: Commands::to(stdin), lines, _at_work: at_work })
    }

    /// What it and its children are signalled by.
    pub(super) fn group(&self) -> &process::Group {
        &self.process.group
    }

    /// The next thing it prints; None once it prints no more. Safe to drop and call again.
    pub(super) async fn output(&mut self) -> Option<Output> {
        let line = match self.lines.next().await? {
            Ok(line) => line,
            Err(error) => return Some(Output::Noise(error.to_string())),
        };
        Some(match serde_json::from_str(&line) {
            Ok(message) => Output::Message(message),
            Err(_) => Output::Noise(clipped_to(&line, 200).into_owned()),
        })
    }

    /// Most resident memory so far, in bytes.
    pub(super) fn peak_memory(&self) -> Option<u64> {
        self.process.peak_memory()
    }

    /// Waits for its end and returns how it ended and its last words.
    pub(super) async fn end(self) -> (ProcessEnd, String) {
        let Self { process, commands, lines, _at_work } = self;
        let ended = process.end().await;
        drop((commands, lines));
        ended
    }
}
