//! finetuned: a self-hosted fine-tuning API.
//!
//! The modules are floors; each imports only from those below it, and `tests/architecture.rs` holds them to it:
//!
//! | floor | module | what |
//! |---|---|---|
//! | 0 | [`domain`] | words and rules without I/O |
//! | 0 | [`private`], [`disk`], [`allocator`] | files and folders of the service's own user, room on disks, memory |
//! | 1 | [`clock`], [`failpoint`], [`config`], [`telemetry`], [`auth`] | time, places to die in tests, settings, logs and metrics, keys |
//! | 1 | [`db`], [`store`] | PostgreSQL (the only place that says sqlx) and the object store |
//! | 1 | [`process`], [`limits`] | the trainer program as a process, what the machine lets us use |
//! | 2 | [`dataset`] | bytes to examples |
//! | 3 | the crate `finetuned-engine` | training (the only place that says tch) |
//! | 4 | [`app`] | operations, with their transactions |
//! | 5 | [`worker`] | claims, supervision, upkeep |
//! | 5 | [`api`] | HTTP (the only place that says axum) |
//! | 6 | [`cli`] | the commands |

pub mod allocator;
pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod clock;
pub mod config;
pub mod dataset;
pub mod db;
pub mod disk;
pub mod domain;
pub mod failpoint;
pub mod limits;
pub mod private;
pub mod process;
pub mod store;
pub mod telemetry;
pub mod worker;
