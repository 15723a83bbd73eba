//! The moves of jobs: from where to where, and what is told of each. [`crate::db::moves::apply`] makes them.

use std::time::Duration;

use serde_json::json;

use super::super::event::{EventKind, NewEvent};
use super::super::id::{FileId, JobId, LeaseToken, ModelId, WorkerId};
use super::super::report::DataReport;
use super::{JobError, JobKind, JobStatus, Prepared};

/// What somebody makes a job do.
#[derive(Clone, Copy, Debug)]
pub enum Move<'a> {
    /// Its files passed: it may be claimed.
    Queue(&'a Prepared),
    /// Its files did not pass, or nobody could read them.
    Refuse {
        error: &'a JobError,
        report: Option<&'a DataReport>,
    },
    /// A worker takes it for its next attempt.
    Start(Grant),
    /// The attempt ended before the job did. It may be claimed again after `delay`, or rests where its owner asked for that.
    PutBack {
        delay: Duration,
        why: Why<'a>,
    },
    Succeed(Success<'a>),
    Fail(&'a JobError),
    /// Its owner ends it.
    Cancel,
    /// Its owner lets it rest; one that runs saves a checkpoint first.
    Pause,
    /// Its owner lets it go on.
    Resume,
}

/// The lease that an attempt runs under.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    pub worker: WorkerId,
    pub token: LeaseToken,
    pub lease: Duration,
}

/// Why an attempt ended before its job did.
#[derive(Clone, Copy, Debug)]
pub enum Why<'a> {
    /// The job's owner asked for a pause.
    Asked,
    /// The worker shut down.
    ShutDown,
    /// Something went wrong with attempt `number`.
    Ended { number: u32, detail: &'a str },
}

/// What a job that succeeded has to show.
#[derive(Clone, Copy, Debug)]
pub struct Success<'a> {
    /// Of a training.
    pub model: Option<ModelId>,
    pub result_file: FileId,
    /// Of an evaluation.
    pub report_file: Option<FileId>,
    pub trained_tokens: u64,
    pub evaluation: &'a serde_json::Value,
}

/// What a move means for a job that stands somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It gets this status.
    To(JobStatus),
    /// It goes on running, and is asked to pause, or no longer asked to.
    Ask { pause: bool },
    /// It is so already.
    Already,
    /// Nothing leads there from where it is.
    Impossible,
}

impl Move<'_> {
    /// What it means for a job with this status, which may be asked to pause.
    pub fn from(&self, status: JobStatus, pausing: bool) -> Step {
        use JobStatus::{Cancelled, Failed, Paused, Queued, Running, Succeeded, ValidatingFiles};
        let to = match (self, status) {
            (Self::Pause, Running) if !pausing => return Step::Ask { pause: true },
            (Self::Resume, Running) if pausing => return Step::Ask { pause: false },
            (Self::Pause, Running) | (Self::Resume, ValidatingFiles | Queued | Running) => return Step::Already,
            (Self::PutBack { .. }, _) if pausing => Paused,
            (Self::Queue(_) | Self::PutBack { .. } | Self::Resume, _) => Queued,
            (Self::Start(_), _) => Running,
            (Self::Succeed(_), _) => Succeeded,
            (Self::Fail(_) | Self::Refuse { .. }, _) => Failed,
            (Self::Cancel, _) => Cancelled,
            (Self::Pause, _) => Paused,
        };
        match (self, status) {
            (Self::Cancel | Self::Pause, at) if at == to => Step::Already,
            (_, at) if at.may_become(to) => Step::To(to),
            _ => Step::Impossible,
        }
    }

    /// What is told of it, once it is made by this step. `attempt` is the latest one's number.
    pub fn event(&self, kind: JobKind, step: Step, attempt: u32) -> NewEvent {
        let noun = kind.noun();
        let event = match self {
            Self::Queue(_) => NewEvent::info("Files validated, moving job to queued state"),
            Self::Refuse { error, .. } | Self::Fail(error) => {
                let data = json!({"error_code": error.code, "error_param": error.param});
                NewEvent::error(error.message.clone()).data(data)
            }
            Self::Start(_) if attempt <= 1 => NewEvent::info(format!("{noun} started")),
            Self::Start(_) => NewEvent::info(format!("Attempt {attempt} started")),
            Self::PutBack { why, .. } => why.event(noun, step == Step::To(JobStatus::Paused)),
            Self::Succeed(_) => NewEvent::info(kind.completed()),
            Self::Cancel => NewEvent::info(format!("{noun} cancelled")),
            Self::Pause if step == (Step::Ask { pause: true }) => {
                NewEvent::info("Pausing after the current step; a checkpoint is saved first")
            }
            Self::Pause => NewEvent::info(format!("{noun} paused")),
            Self::Resume => NewEvent::info(format!("{noun} resumed")),
        };
        match step {
            Step::To(status) => NewEvent { kind: EventKind::Moved(status), ..event },
            _ => event,
        }
    }

    /// What logs call it, once it is made by this step.
    pub fn word(&self, step: Step) -> &'static str {
        match (self, step) {
            (Self::PutBack { .. }, Step::To(JobStatus::Queued)) => "put back",
            (Self::Pause, Step::Ask { .. }) => "pausing",
            (Self::Resume, _) => "resumed",
            (_, Step::To(status)) => status.as_str(),
            _ => "unchanged",
        }
    }
}

impl Why<'_> {
    fn event(self, noun: &str, rests: bool) -> NewEvent {
        match self {
            Self::Ended { number, detail } => {
                let next = if rests { "paused" } else { "queued again and will go on" };
                NewEvent::warn(format!("Attempt {number} ended early: {detail}. The job is {next}."))
            }
            _ if rests => NewEvent::info(format!("{noun} paused")),
            Self::Asked => NewEvent::info("The job is queued again and will go on"),
            Self::ShutDown => NewEvent::info("The worker shut down; the job is queued again and will go on"),
        }
    }
}

/// A move that a job has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    pub job: JobId,
    pub kind: JobKind,
    /// The status that it has now.
    pub status: JobStatus,
    /// The number of its latest attempt; 0 before the first.
    pub attempt: u32,
    /// What logs call the move.
    pub word: &'static str,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{JobError, JobKind, JobStatus, Move, Step, Why};

    const PUT_BACK: Move<'_> = Move::PutBack { delay: Duration::ZERO, why: Why::ShutDown };

    #[test]
    fn a_move_leads_nowhere_that_the_status_does_not() {
        let error = JobError::new("test", "ended");
        let refuse = Move::Refuse { error: &error, report: None };
        for made in [refuse, PUT_BACK, Move::Fail(&error), Move::Cancel, Move::Pause, Move::Resume] {
            for from in JobStatus::ALL {
                for pausing in [false, true] {
                    let step = made.from(from, pausing);
                    if let Step::To(to) = step {
                        assert!(from.may_become(to), "{made:?}: {from} to {to}");
                    }
                    let asks = matches!(step, Step::Ask { .. });
                    assert!(!asks || from == JobStatus::Running, "{made:?} from {from}");
                }
            }
        }
    }

    #[test]
    fn an_owners_moves_may_be_repeated() {
        use JobStatus::{Cancelled, Failed, Paused, Queued, Running, Succeeded, ValidatingFiles};
        assert_eq!(Move::Cancel.from(Cancelled, false), Step::Already);
        assert_eq!(Move::Cancel.from(Succeeded, false), Step::Impossible);
        assert_eq!(Move::Pause.from(Queued, false), Step::To(Paused));
        assert_eq!(Move::Pause.from(Paused, false), Step::Already);
        assert_eq!(Move::Pause.from(Running, false), Step::Ask { pause: true });
        assert_eq!(Move::Pause.from(Running, true), Step::Already);
        assert_eq!(Move::Pause.from(ValidatingFiles, false), Step::Impossible);
        assert_eq!(Move::Resume.from(Paused, false), Step::To(Queued));
        assert_eq!(Move::Resume.from(Running, true), Step::Ask { pause: false });
        for waiting in [ValidatingFiles, Queued, Running] {
            assert_eq!(Move::Resume.from(waiting, false), Step::Already);
        }
        assert_eq!(Move::Resume.from(Failed, false), Step::Impossible);
    }

    #[test]
    fn what_is_put_back_rests_where_its_owner_asked_for_that() {
        for (pausing, to, word, message) in [
            (false, JobStatus::Queued, "put back", "The worker shut down; the job is queued again and will go on"),
            (true, JobStatus::Paused, "paused", "Fine-tuning job paused"),
        ] {
            let step = PUT_BACK.from(JobStatus::Running, pausing);
            assert_eq!((step, PUT_BACK.word(step)), (Step::To(to), word));
            assert_eq!(PUT_BACK.event(JobKind::Training, step, 1).message, message);
        }
    }
}
