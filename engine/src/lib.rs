//! The training engine: the only floor that knows libtorch.
//!
//! Read in this order: [`run`] is a run from spec to model, [`training`] the loop, [`tasks`] what a task adds to it,
//! [`models`] and [`nn`] the networks, [`params`] and [`optim`] what is trained and how, [`checkpoint`] and [`export`]
//! what is written, [`native`] the C++ beside it. [`serving`] is a finished model at work.

pub mod check;
pub mod checkpoint;
pub mod data;
pub mod device;
pub mod error;
mod evaluation;
pub mod export;
pub mod fingerprint;
pub mod generate;
mod grading;
pub mod models;
pub mod native;
pub mod nn;
pub mod observer;
pub mod optim;
pub mod params;
pub mod policy;
pub mod preview;
pub mod profile;
pub mod run;
pub mod score;
pub mod serving;
mod started;
pub mod tasks;
pub mod text;
pub mod training;
pub mod vision;
pub mod weights;
