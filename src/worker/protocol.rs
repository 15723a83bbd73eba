//! What a trainer may say. It reads files of strangers and may have been taken over by them: whatever it says must cost
//! the service, the database and the log no more than an honest run of the job.

use std::path::Path;

use crate::domain::checkpoint::Metrics;
use crate::domain::clip::clipped_to;
use crate::domain::job::{JobError, Prepared};
use crate::domain::run::{Started, TrainerMessage};

/// Metrics of one message, and bytes of a metric's name: a trainer has about ten, of thirty bytes at most.
const MOST_METRICS: usize = 64;
const LONGEST_NAME: usize = 64;
/// Bytes of a path that the kernel takes (`PATH_MAX`).
const LONGEST_PATH: usize = 4096;
/// Phases of a run besides the two that an evaluation brings with it.
const MOST_PHASES: u64 = 20;
/// Characters of a notice or an error's message, and of an error's code and the field that it names.
pub(super) const LONGEST_MESSAGE: usize = 4_000;
const LONGEST_WORD: usize = 100;

/// Where a run stands, by what its trainer has said.
pub(super) struct Protocol {
    /// More steps than the run can have.
    most_steps: u64,
    phases: u64,
    standing: Option<Standing>,
}

/// Where a run stands that has started.
struct Standing {
    total_steps: u64,
    step: u64,
    evaluated: Option<u64>,
    saved: u64,
    /// Messages of steps.
    steps: u64,
}

impl Protocol {
    /// For a run that was prepared like this.
    pub(super) fn new(prepared: Option<&Prepared>) -> Self {
        // The prediction is right but for how the data is split. Jobs of before there were predictions have none.
        let predicted = prepared.and_then(|prepared| prepared.estimate.as_ref()).map(|estimate| estimate.total_steps);
        let most_steps = predicted.map_or(1 << 40, |steps| steps.saturating_mul(2).saturating_add(1_000));
        Self { most_steps, phases: 0, standing: None }
    }

    /// Takes note of a message.
    ///
    /// # Errors
    /// No honest trainer says this now; the text says what is wrong with it.
    pub(super) fn check(&mut self, message: &TrainerMessage) -> Result<(), String> {
        match message {
            TrainerMessage::Started(started) => self.start(started),
            TrainerMessage::Phase { .. } => {
                self.phases += 1;
                let steps = self.standing.as_ref().map_or(0, |standing| standing.steps);
                let most = MOST_PHASES + 2 * steps;
                require(self.phases <= most, || format!("more than {most} phases in {steps} steps"))
            }
            TrainerMessage::Step(step) => {
                require(step.seconds.is_finite() && step.seconds >= 0.0, || {
                    format!("step {} took {} seconds", step.step, step.seconds)
                })?;
                named(&step.metrics)?;
                self.standing()?.step(step.step)
            }
            TrainerMessage::Evaluated { step, metrics } => {
                named(metrics)?;
                self.standing()?.evaluated(*step)
            }
            TrainerMessage::Checkpoint { step, directory, metrics } => {
                named(metrics)?;
                short(directory)?;
                self.standing()?.saved(*step)
            }
            TrainerMessage::Notice { .. }
            | TrainerMessage::Alive
            | TrainerMessage::Finished(_)
            | TrainerMessage::Stopped { .. }
            | TrainerMessage::Failed { .. } => Ok(()),
        }
    }

    fn start(&mut self, started: &Started) -> Result<(), String> {
        let Started { step, total_steps, .. } = *started;
        require(self.standing.is_none(), || "it started twice".to_owned())?;
        require(total_steps <= self.most_steps, || {
            format!("{total_steps} steps, where the job cannot have more than {}", self.most_steps)
        })?;
        require(step <= total_steps, || format!("a start at step {step} of {total_steps}"))?;
        self.standing = Some(Standing { total_steps, step, evaluated: None, saved: step, steps: 0 });
        Ok(())
    }

    fn standing(&mut self) -> Result<&mut Standing, String> {
        self.standing.as_mut().ok_or_else(|| "a step before it started".to_owned())
    }
}

impl Standing {
    fn step(&mut self, step: u64) -> Result<(), String> {
        let Self { total_steps, step: last, .. } = *self;
        require(step > last, || format!("step {step} after step {last}"))?;
        require(step <= total_steps, || format!("step {step} of {total_steps}"))?;
        self.step = step;
        self.steps += 1;
        Ok(())
    }

    fn evaluated(&mut self, step: u64) -> Result<(), String> {
        let last = self.step;
        require(step == last, || format!("an evaluation of step {step} at step {last}"))?;
        require(self.evaluated != Some(step), || format!("two evaluations of step {step}"))?;
        self.evaluated = Some(step);
        Ok(())
    }

    fn saved(&mut self, step: u64) -> Result<(), String> {
        let Self { step: last, saved, .. } = *self;
        require(step > saved, || format!("a checkpoint of step {step} after that of step {saved}"))?;
        require(step <= last, || format!("a checkpoint of step {step} at step {last}"))?;
        self.saved = step;
        Ok(())
    }
}

fn require(holds: bool, fault: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(fault()) }
}

fn named(metrics: &Metrics) -> Result<(), String> {
    let count = metrics.len();
    require(count <= MOST_METRICS, || format!("{count} metrics at once, where {MOST_METRICS} are allowed"))?;
    let longest = metrics.keys().map(String::len).max().unwrap_or_default();
    require(longest <= LONGEST_NAME, || {
        format!("a metric whose name has {longest} bytes, where {LONGEST_NAME} are allowed")
    })
}

fn short(directory: &Path) -> Result<(), String> {
    let bytes = directory.as_os_str().len();
    require(bytes <= LONGEST_PATH, || format!("a path of {bytes} bytes"))
}

/// An error of the trainer as it is kept.
pub(super) fn shortened(error: &JobError) -> JobError {
    let cut = |text: &str, most| clipped_to(text, most).into_owned();
    JobError {
        code: cut(&error.code, LONGEST_WORD),
        message: cut(&error.message, LONGEST_MESSAGE),
        param: error.param.as_deref().map(|param| cut(param, LONGEST_WORD)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{LONGEST_MESSAGE, LONGEST_NAME, LONGEST_PATH, MOST_METRICS, MOST_PHASES, Protocol, shortened};
    use crate::domain::job::JobError;

    const MESSAGES_V1: &str = include_str!("../../tests/fixtures/trainer_messages_v1.jsonl");

    /// A run of 40 steps that goes on from step 10.
    fn started() -> Value {
        json!({"type": "started", "device": "cpu", "precision": "fp32", "step": 10, "total_steps": 40,
               "training_examples": 90, "validation_examples": 10, "truncated": 0, "mean_tokens": 5.0, "parameters": 7})
    }

    fn step(step: u64) -> Value {
        json!({"type": "step", "step": step, "epoch": 0.5, "seconds": 0.1, "metrics": {"train_loss": 1.0}})
    }

    fn evaluated(step: u64) -> Value {
        json!({"type": "evaluated", "step": step, "metrics": {"full_valid_loss": 1.0}})
    }

    fn checkpoint(step: u64) -> Value {
        json!({"type": "checkpoint", "step": step, "directory": "checkpoints/x", "metrics": {}})
    }

    fn with(mut message: Value, field: &str, value: Value) -> Value {
        message[field] = value;
        message
    }

    fn many_metrics(count: usize) -> Value {
        (0..count).map(|number| (number.to_string(), json!(1.0))).collect::<serde_json::Map<_, _>>().into()
    }

    /// What is wrong with the last of these messages; nothing is with those before it.
    fn fault(messages: &[Value]) -> Option<String> {
        let mut protocol = Protocol::new(None);
        protocol.most_steps = 1_000;
        let mut last = Ok(());
        for message in messages {
            last.unwrap();
            last = protocol.check(&serde_json::from_value(message.clone()).unwrap());
        }
        last.err()
    }

    #[test]
    fn what_honest_trainers_say_passes() {
        let phase = json!({"type": "phase", "phase": "evaluating"});
        let (metrics, name) = (many_metrics(MOST_METRICS), "x".repeat(LONGEST_NAME));
        let messages = [
            phase.clone(),
            started(),
            evaluated(10),
            step(11),
            phase.clone(),
            evaluated(11),
            phase,
            with(step(12), "metrics", metrics),
            checkpoint(11),
            with(step(13), "metrics", json!({name: 1.0})),
            with(step(14), "seconds", json!(1e300)),
            checkpoint(14),
            step(40),
            checkpoint(40),
            json!({"type": "finished", "step": 40, "trained_tokens": 1, "evaluation": {}}),
        ];
        assert_eq!(fault(&messages), None);
        let failed = json!({"type": "failed", "error": {"code": "x", "message": "y", "param": null}});
        assert_eq!(fault(&[failed]), None, "a trainer may fail before it starts");
        let mut protocol = Protocol::new(None);
        for line in MESSAGES_V1.lines().filter(|line| !line.contains("evaluated") && !line.contains("checkpoint")) {
            protocol.check(&serde_json::from_str(line).unwrap()).unwrap();
        }
    }

    #[test]
    fn what_no_honest_trainer_says_is_a_fault_that_names_it() {
        let (path, name) = ("x".repeat(LONGEST_PATH + 1), "x".repeat(LONGEST_NAME + 1));
        for (messages, expected) in [
            (vec![step(1)], "a step before it started"),
            (vec![checkpoint(1)], "before it started"),
            (vec![started(), started()], "it started twice"),
            (
                vec![with(started(), "total_steps", json!(1_001))],
                "1001 steps, where the job cannot have more than 1000",
            ),
            (vec![with(started(), "step", json!(41))], "a start at step 41 of 40"),
            (vec![started(), step(10)], "step 10 after step 10"),
            (vec![started(), step(12), step(11)], "step 11 after step 12"),
            (vec![started(), step(41)], "step 41 of 40"),
            (vec![started(), with(step(11), "seconds", json!(-1.0))], "step 11 took -1 seconds"),
            (vec![started(), with(step(11), "metrics", many_metrics(MOST_METRICS + 1))], "65 metrics at once"),
            (vec![started(), with(step(11), "metrics", json!({name: 1.0}))], "whose name has 65 bytes"),
            (vec![started(), evaluated(11)], "an evaluation of step 11 at step 10"),
            (vec![started(), evaluated(10), evaluated(10)], "two evaluations of step 10"),
            (vec![started(), checkpoint(10)], "a checkpoint of step 10 after that of step 10"),
            (vec![started(), step(11), checkpoint(11), checkpoint(11)], "step 11 after that of step 11"),
            (vec![started(), step(11), checkpoint(12)], "a checkpoint of step 12 at step 11"),
            (vec![started(), step(11), with(checkpoint(11), "directory", json!(path))], "a path of 4097 bytes"),
        ] {
            let told = fault(&messages).unwrap_or_else(|| panic!("{messages:?} passed"));
            assert!(told.contains(expected), "{told}");
        }
        let phases = vec![json!({"type": "phase", "phase": "training"}); MOST_PHASES as usize + 1];
        assert_eq!(fault(&phases).unwrap(), "more than 20 phases in 0 steps");
    }

    #[test]
    fn an_error_of_any_length_is_kept_short() {
        let long = "ä".repeat(1 << 20);
        let kept = shortened(&JobError::new(&*long, &*long).param(&*long));
        assert_eq!(kept.message.chars().count(), LONGEST_MESSAGE + 1);
        assert!(kept.code.len() < 300 && kept.param.unwrap().len() < 300);
        let short = JobError::new("non_finite_loss", "too large");
        assert_eq!(shortened(&short), short);
    }
}
