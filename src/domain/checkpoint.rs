//! Checkpoints: a job's model as it was after a step.

use std::collections::BTreeMap;

use super::Timestamp;
use super::id::{CheckpointId, JobId};

/// Measurements by name, as in OpenAI's `metrics` objects.
pub type Metrics = BTreeMap<String, f64>;

/// A checkpoint.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub id: CheckpointId,
    pub job: JobId,
    pub step: u64,
    /// The name under which its model can be downloaded and fine-tuned further.
    pub model: String,
    pub metrics: Metrics,
    pub created_at: Timestamp,
}

/// A row of a job's metrics: everything measured at one step.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricRow {
    pub step: u64,
    pub values: Metrics,
}
