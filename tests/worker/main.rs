//! What happens when things die: workers, trainers, services, and the jobs they had.

#![allow(
    clippy::type_complexity,
    clippy::assigning_clones,
    clippy::format_push_string,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::format_collect,
    clippy::float_cmp,
    clippy::too_many_lines,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are shared by module"
)]

#[path = "../support/mod.rs"]
mod support;

mod adapted;
mod bases;
mod completions;
mod damage;
mod embedded;
mod evaluations;
mod exact_resume;
mod examples;
mod fleet;
mod graders;
mod isolation;
mod language;
mod machines;
mod moves;
mod observing;
mod outages;
mod pausing;
mod preview;
mod process;
mod protocol;
mod queue;
mod recovery;
mod reserve;
mod retention;
mod saving_memory;
mod sdk;
mod serving;
mod spares;
mod stores;
mod tasks;
mod turns;
mod upgrade;
mod watchdog;
