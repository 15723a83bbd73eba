//! Attempts: each time a worker takes a job, how it ended, and why.

use std::fmt;
use std::str::FromStr;

use super::Timestamp;

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Succeeded,
    /// The job itself is at fault; trying again would not help.
    Failed,
    /// The trainer died, hung, or ran out of memory.
    Crashed,
    /// The worker or something it needs went away.
    Lost,
    /// The worker shut down in an orderly way and gave the job back.
    ShutDown,
    /// The job's owner paused it.
    Paused,
    Cancelled,
}

impl Outcome {
    const ALL: [Self; 7] =
        [Self::Succeeded, Self::Failed, Self::Crashed, Self::Lost, Self::ShutDown, Self::Paused, Self::Cancelled];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::Lost => "lost",
            Self::ShutDown => "shut_down",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether its job is still to be done.
    pub fn leaves_work(self) -> bool {
        matches!(self, Self::Crashed | Self::Lost | Self::ShutDown)
    }

    /// How many attempts may end like this one after the other, none of them getting as far as a new checkpoint,
    /// before the job fails; None where none counts.
    pub fn budget(self) -> Option<u32> {
        match self {
            Self::Crashed => Some(3),
            Self::Lost => Some(20),
            Self::Succeeded | Self::Failed | Self::ShutDown | Self::Paused | Self::Cancelled => None,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Outcome {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|outcome| outcome.as_str() == text).ok_or(())
    }
}

/// What ended an attempt that did not succeed. Each belongs to one outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The trainer reported an error of the job's own.
    JobError,
    /// A signal killed the trainer.
    Signal,
    /// The trainer ended without a word.
    Exit,
    /// libtorch failed, or the trainer could not read or write its files.
    EngineError,
    /// The machine's memory did not suffice.
    OutOfHostMemory,
    /// The GPU's memory did not suffice.
    OutOfDeviceMemory,
    /// The trainer made no progress.
    Stalled,
    /// What the run needs could not be put together.
    NotPrepared,
    /// What the trainer made could not be stored.
    NotStored,
    /// The disk is full.
    OutOfStorage,
    /// The database or the object store did not answer.
    Unavailable,
    /// The lease was not renewed in time.
    LeaseLost,
    /// The worker was started anew.
    WorkerRestarted,
    WorkerShutDown,
    PauseRequested,
    CancelRequested,
}

impl Cause {
    const ALL: [Self; 16] = [
        Self::JobError,
        Self::Signal,
        Self::Exit,
        Self::EngineError,
        Self::OutOfHostMemory,
        Self::OutOfDeviceMemory,
        Self::Stalled,
        Self::NotPrepared,
        Self::NotStored,
        Self::OutOfStorage,
        Self::Unavailable,
        Self::LeaseLost,
        Self::WorkerRestarted,
        Self::WorkerShutDown,
        Self::PauseRequested,
        Self::CancelRequested,
    ];

    /// The word on the wire and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JobError => "job_error",
            Self::Signal => "signal",
            Self::Exit => "exit",
            Self::EngineError => "engine_error",
            Self::OutOfHostMemory => "out_of_host_memory",
            Self::OutOfDeviceMemory => "out_of_device_memory",
            Self::Stalled => "stalled",
            Self::NotPrepared => "not_prepared",
            Self::NotStored => "not_stored",
            Self::OutOfStorage => "out_of_storage",
            Self::Unavailable => "unavailable",
            Self::LeaseLost => "lease_lost",
            Self::WorkerRestarted => "worker_restarted",
            Self::WorkerShutDown => "worker_shut_down",
            Self::PauseRequested => "pause_requested",
            Self::CancelRequested => "cancel_requested",
        }
    }

    /// How an attempt that this ended is counted.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::JobError => Outcome::Failed,
            Self::Signal
            | Self::Exit
            | Self::EngineError
            | Self::OutOfHostMemory
            | Self::OutOfDeviceMemory
            | Self::Stalled
            | Self::NotPrepared
            | Self::NotStored
            | Self::OutOfStorage => Outcome::Crashed,
            Self::Unavailable | Self::LeaseLost | Self::WorkerRestarted => Outcome::Lost,
            Self::WorkerShutDown => Outcome::ShutDown,
            Self::PauseRequested => Outcome::Paused,
            Self::CancelRequested => Outcome::Cancelled,
        }
    }

    /// The code of a job that fails because attempts ended like this too often.
    pub fn job_error_code(self) -> &'static str {
        match self {
            Self::OutOfHostMemory | Self::OutOfDeviceMemory => "out_of_memory",
            Self::Stalled => "training_stalled",
            Self::OutOfStorage => "out_of_storage",
            Self::EngineError => "engine_error",
            _ if self.outcome() == Outcome::Lost => "worker_lost",
            _ => "training_crashed",
        }
    }
}

impl FromStr for Cause {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text).ok_or(())
    }
}

/// How the trainer process ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessEnd {
    pub exit_code: Option<i32>,
    pub signal: Option<i32>,
    /// Most resident memory it had, in bytes.
    pub peak_memory: Option<u64>,
    /// Most GPU memory its tensors held, in bytes.
    pub peak_device_memory: Option<u64>,
}

/// One attempt at a job.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// 1 for the first.
    pub number: u32,
    /// The name of the worker's machine.
    pub worker: String,
    pub started_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub outcome: Option<Outcome>,
    /// The word of a [`Cause`].
    pub cause: Option<String>,
    /// What happened, in a sentence.
    pub detail: Option<String>,
    pub process: ProcessEnd,
    /// The step it went on from; 0 is the beginning.
    pub start_step: u64,
    /// The device it trained on.
    pub device: Option<String>,
    /// The end of what the trainer wrote to its standard error.
    pub stderr_tail: Option<String>,
}
