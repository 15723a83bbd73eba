//! What happens when things die: workers, trainers, services, and the jobs they had.

#[path = "../support/mod.rs"]
mod support;

mod embedded;
mod moves;
mod process;
mod queue;
mod recovery;
mod sdk;
