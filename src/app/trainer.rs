//! Questions to the trainer program that it answers with one line, in a process that ends with it.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;

use super::App;
use crate::domain::error::{Error, Result};
use crate::process::{self, Premises};

/// How long the trainer may take.
const ANSWER: Duration = Duration::from_mins(5);

/// What the trainer, called with `arguments` in the folder `work`, answers on a line of at most `longest` bytes. It runs as it does for
/// jobs, confined.
///
/// # Errors
/// It does not answer.
pub(super) async fn ask<T: DeserializeOwned + Send + 'static>(
    app: &App,
    premises: &Premises,
    work: &Path,
    arguments: &[&str],
    longest: usize,
) -> Result<T> {
    let mut command = process::command(&app.config, 1);
    command.args(arguments);
    let (child, stdin, mut lines) =
        process::spawn(command, premises, work, longest).map_err(|error| Error::unavailable(error.to_string()))?;
    drop(stdin);
    let line = tokio::time::timeout(ANSWER, lines.next()).await;
    child.group.signal(Signal::SIGKILL);
    let (end, words) = child.end().await;
    let answer = line.ok().flatten().and_then(std::result::Result::ok);
    let read = tokio::task::spawn_blocking(move || answer.and_then(|line| serde_json::from_str(&line).ok()));
    read.await.map_err(Error::internal)?.ok_or_else(|| {
        let what = arguments.join(" ");
        Error::unavailable(format!("the trainer did not answer to '{what}' ({end:?}): {}", words.trim()))
    })
}
