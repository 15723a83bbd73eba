//! The HTTP API, resource by resource, over a real database.

#[path = "../support/mod.rs"]
mod support;

mod bad_requests;
mod contract;
mod files;
mod headers;
mod jobs;
mod models;
