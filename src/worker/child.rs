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
    at_work: OneMore,
}

/// Where a trainer runs: with so many CPU threads, in a folder, on the GPU of its slot if there are GPUs.
pub(super) struct Place<'a> {
    pub config: &'a Config,
    pub premises: &'a Premises,
    pub threads: usize,
    pub folder: &'a Path,
    pub gpu: Option<&'a str>,
    /// How many trainers share that GPU.
    pub sharing: u32,
}

/// What a trainer printed.
pub(super) enum Output {
    Message(TrainerMessage),
    /// A line that is no message, cut short.
    Noise(String),
}

impl Trainer {
    /// Starts a trainer on the spec in its folder.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn start(place: &Place<'_>) -> std::io::Result<Self> {
        Self::spawn(place, &["run", "spec.json"], "training")
    }

    /// Starts a trainer that [begins](Self::begin) when it is told to, and has touched so many bytes of memory by then.
    ///
    /// # Errors
    /// The program cannot be started.
    pub(super) fn wait(place: &Place<'_>, touched: u64) -> std::io::Result<Self> {
        Self::spawn(place, &["wait", "spec.json", &touched.to_string()], "waiting")
    }

    fn spawn(place: &Place<'_>, arguments: &[&str], work: &'static str) -> std::io::Result<Self> {
        let mut command = process::command(place.config, place.threads);
        command.args(arguments);
        if let Some(gpu) = place.gpu {
            command.env("CUDA_VISIBLE_DEVICES", gpu);
            if place.sharing > 1 {
                // Beyond its part a run is out of memory, not its neighbours.
                let part = 1.0 / f64::from(place.sharing);
                command.env("PYTORCH_CUDA_ALLOC_CONF", format!("per_process_memory_fraction:{part:.4}"));
            }
        }
        let (process, stdin, lines) = process::spawn(command, place.premises, place.folder, LONGEST_LINE)?;
        Ok(Self { process, commands: Commands::to(stdin), lines, at_work: OneMore::of(telemetry::PROCESSES, work) })
    }

    /// Has one that waits begin with what lies in `folder`, which becomes its own.
    ///
    /// # Errors
    /// The folder cannot be handed over.
    pub(super) fn begin(&mut self, folder: &Path) -> std::io::Result<()> {
        self.process.take_over(folder)?;
        self.commands.send(TrainerCommand::Start);
        self.at_work = OneMore::of(telemetry::PROCESSES, "training");
        Ok(())
    }

    /// Whether it has not ended.
    pub(super) fn is_alive(&self) -> bool {
        self.process.is_alive()
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
        let Self { process, commands, lines, at_work: _at_work } = self;
        let ended = process.end().await;
        drop((commands, lines));
        ended
    }
}
