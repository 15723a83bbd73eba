//! Grading what a language model writes: each example of the test data is answered as the chat endpoint answers it, and every
//! grader looks at the answer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::data::reader::Examples;
use crate::device::ComputeDevice;
use crate::error::{EngineError, Result};
use crate::observer::Observer;
use crate::serving::Server;
use finetuned::dataset::chats::{self, Question as Example};
use finetuned::domain::grading::{Grader, Grading, Ready, SamplingParams};
use finetuned::domain::run::{DataFile, RunSpec, TrainerMessage};
use finetuned::domain::serving::{Answered, Finish, Generate, Prompt, PromptTokens, Question, Sampling};

/// The name of what is graded, in summaries and reports.
const GRADERS: &str = "graders";

/// What all answers are worth.
#[derive(Default)]
pub(crate) struct Grades {
    examples: u64,
    tokens: u64,
    /// Answers that were ended by the most tokens that they may have, and examples without an answer.
    cut: u64,
    unanswered: u64,
    tallies: Vec<(String, Tally)>,
}

/// What one grader said.
#[derive(Default)]
struct Tally {
    sum: f64,
    graded: u64,
    passed: u64,
    failed: u64,
    errored: u64,
}

/// An answer.
struct Answer {
    text: String,
    tokens: usize,
    finish: Finish,
}

/// Has the model answer all examples of the test data and writes a line for each to `lines`; None if told to stop on the way.
///
/// # Errors
/// The model or the data cannot be used, or `lines` cannot be written.
pub(crate) fn grade(
    spec: &RunSpec,
    grading: &Grading,
    test: &DataFile,
    lines: &Path,
    device: ComputeDevice,
    observer: &dyn Observer,
) -> Result<Option<Grades>> {
    let _guard = tch::no_grad_guard();
    let ready = |grader| Ready::new(grader).map_err(|(field, why)| EngineError::native(format!("{field} {why}")));
    let graders: Vec<Ready<'_>> = grading.graders.iter().map(ready).collect::<Result<_>>()?;
    let mut server = Server::language_model(&spec.model, device, spec.hyperparameters.precision)?;
    let mut grades = Grades::new(&grading.graders);
    let mut file = BufWriter::new(File::create(lines).map_err(EngineError::io(lines))?);
    for example in Examples::open(test, "test_file", observer, chats::questions)? {
        let example = example?;
        let sampling = sampling(&grading.sampling_params, example.line);
        let answer = match answer(&mut server, &example, sampling, &grading.sampling_params, observer) {
            Err(EngineError::Stopped) => return Ok(None),
            answer => answer?,
        };
        let line = grades.line(&graders, &example, answer);
        let written = serde_json::to_writer(&mut file, &line).map_err(std::io::Error::from);
        written.and_then(|()| file.write_all(b"\n")).map_err(EngineError::io(lines))?;
    }
    file.flush().map_err(EngineError::io(lines))?;
    grades.warn(observer);
    Ok(Some(grades))
}

/// How an example is answered. Each draws otherwise, and the same in every run.
fn sampling(params: &SamplingParams, line: u64) -> Sampling {
    let seed = params.seed.cast_unsigned().wrapping_add(line);
    Sampling { temperature: params.temperature, top_p: params.top_p, seed, ..Sampling::GREEDY }
}

/// The model's answer, or why it has none.
fn answer(
    server: &mut Server,
    example: &Example,
    sampling: Sampling,
    params: &SamplingParams,
    observer: &dyn Observer,
) -> Result<std::result::Result<Answer, String>> {
    let PromptTokens { ids, longest } = match read(server, &example.prompt)? {
        Ok(tokens) => tokens,
        Err(why) => return Ok(Err(why)),
    };
    let left = longest.saturating_sub(ids.len());
    if ids.is_empty() || left == 0 {
        let tokens = ids.len();
        return Ok(Err(format!(
            "the prompt has {tokens} tokens; the model takes 1 to {} of one",
            longest.saturating_sub(1)
        )));
    }
    let most = params.max_completion_tokens.min(left);
    let mut asked = Generate { prompt: ids, written: Vec::new(), sampling, stop: params.stop.clone(), most };
    let mut text = String::new();
    loop {
        if observer.stop().is_some() {
            return Err(EngineError::Stopped);
        }
        let mut pieces = Vec::new();
        let last = server.ask(&Question::Generate(Box::new(asked.clone())), &mut |answered| {
            observer.alive();
            if let Answered::Piece(piece) = answered {
                pieces.push(piece);
            }
        })?;
        for piece in pieces {
            text.push_str(&piece.text);
            asked.written.extend(piece.token.map(|token| token.id));
        }
        match last {
            Answered::Paused => {}
            Answered::Ended(finish) => return Ok(Ok(Answer { text, tokens: asked.written.len(), finish })),
            Answered::Error(refusal) => return Err(EngineError::model(refusal.message)),
            _ => return Err(EngineError::native("a text neither went on nor ended")),
        }
    }
}

/// A prompt as the model reads it, or why it does not.
fn read(server: &mut Server, prompt: &Prompt) -> Result<std::result::Result<PromptTokens, String>> {
    match server.ask(&Question::Read(prompt.clone()), &mut |_| {})? {
        Answered::Tokens(tokens) => Ok(Ok(tokens)),
        Answered::Error(refusal) => Ok(Err(refusal.message)),
        _ => Err(EngineError::native("a prompt was not read")),
    }
}

impl Grades {
    fn new(graders: &[Grader]) -> Self {
        let tallies = graders.iter().map(|grader| (grader.name.clone(), Tally::default())).collect();
        Self { tallies, ..Self::default() }
    }

    /// Takes an answer in, and makes the line of its example.
    fn line(
        &mut self,
        graders: &[Ready<'_>],
        example: &Example,
        answer: std::result::Result<Answer, String>,
    ) -> Map<String, Value> {
        self.examples += 1;
        let mut line = Map::from_iter([("line".to_owned(), json!(example.line))]);
        let Answer { text, tokens, finish } = match answer {
            Ok(answer) => answer,
            Err(why) => {
                self.unanswered += 1;
                self.tallies.iter_mut().for_each(|(_, tally)| tally.errored += 1);
                line.insert("error".to_owned(), json!(why));
                return line;
            }
        };
        self.tokens += tokens as u64;
        self.cut += u64::from(finish == Finish::Length);
        let (mut scores, mut errors) = (BTreeMap::new(), BTreeMap::new());
        for (ready, (name, tally)) in graders.iter().zip(&mut self.tallies) {
            match ready.score(&example.item, &text) {
                Ok(score) => {
                    tally.add(score, ready.grader.check.passes(score));
                    scores.insert(&*name, score);
                }
                Err(why) => {
                    tally.errored += 1;
                    errors.insert(&*name, why);
                }
            }
        }
        line.extend([
            ("output_text".to_owned(), json!(text)),
            ("completion_tokens".to_owned(), json!(tokens)),
            ("finish_reason".to_owned(), json!(finish)),
            (GRADERS.to_owned(), json!(scores)),
        ]);
        if !errors.is_empty() {
            line.insert("grader_errors".to_owned(), json!(errors));
        }
        line
    }

    /// The mean score of each grader.
    pub(crate) fn summary(&self) -> (String, Value) {
        let means = self.tallies.iter().map(|(name, tally)| (name.clone(), json!(tally.mean())));
        (GRADERS.to_owned(), Value::Object(means.collect()))
    }

    /// What a report says of them.
    pub(crate) fn report(&self) -> [(String, Value); 2] {
        let tallies = self.tallies.iter().map(|(name, tally)| (name.clone(), tally.report()));
        let answers = json!({
            "examples": self.examples,
            "completion_tokens": self.tokens,
            "cut": self.cut,
            "errored": self.unanswered,
        });
        [(GRADERS.to_owned(), Value::Object(tallies.collect())), ("answers".to_owned(), answers)]
    }

    /// Tells what was not graded, or not as a whole.
    fn warn(&self, observer: &dyn Observer) {
        let warn = |message| observer.report(TrainerMessage::Notice { warning: true, message });
        if self.unanswered > 0 {
            warn(format!("{} of {} examples have no answer; their lines say why", self.unanswered, self.examples));
        }
        if self.cut > 0 {
            warn(format!(
                "{} of {} answers were cut at the most tokens that they may have; a larger max_completion_tokens lets them end",
                self.cut, self.examples
            ));
        }
        for (name, tally) in self.tallies.iter().filter(|(_, tally)| tally.errored > self.unanswered) {
            let count = tally.errored - self.unanswered;
            warn(format!(
                "The grader '{name}' could not grade {count} of {} answers; their lines say why",
                self.examples
            ));
        }
    }
}

impl Tally {
    fn add(&mut self, score: f64, passes: Option<bool>) {
        self.sum += score;
        self.graded += 1;
        self.passed += u64::from(passes == Some(true));
        self.failed += u64::from(passes == Some(false));
    }

    /// None where nothing was graded.
    fn mean(&self) -> Option<f64> {
        (self.graded > 0).then(|| self.sum / self.graded as f64)
    }

    fn report(&self) -> Value {
        json!({"score": self.mean(), "passed": self.passed, "failed": self.failed, "errored": self.errored})
    }
}
