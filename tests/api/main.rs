//! The HTTP API, resource by resource, over a real database.

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

mod bad_requests;
mod connections;
mod contract;
mod damage;
mod files;
mod graders;
mod headers;
mod jobs;
mod memory;
mod models;
mod observing;
mod pages;
mod quotas;
mod readings;
mod reads;
mod shell;
mod uploads;
