//! finetuned: a self-hosted fine-tuning API.
//!
//! The modules are floors; each imports only from those below it. ARCHITECTURE.md has the table, and
//! `tests/architecture.rs` holds the sources to it.

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
pub mod gather;
pub mod gguf;
pub mod limits;
pub mod private;
pub mod process;
pub mod store;
pub mod telemetry;
pub mod worker;
