//! The words of the service: values and rules without I/O, async or any framework.

pub mod attempt;
pub mod backbone;
pub mod calls;
pub mod chat;
pub mod checkpoint;
pub mod clip;
pub mod error;
pub mod estimate;
pub mod event;
pub mod example;
pub mod file;
pub mod grading;
pub mod head;
pub mod hex;
pub mod hyperparameters;
pub mod id;
pub mod job;
pub mod method;
pub mod metric;
pub mod model;
pub mod page;
pub mod preview;
pub mod project;
pub mod quota;
pub mod random;
pub mod reading;
pub mod report;
pub mod run;
pub mod serving;
pub mod split;
pub mod told;
pub mod upload;

/// A point in time, with the offset UTC; the API shows it in unix seconds.
pub type Timestamp = time::OffsetDateTime;
