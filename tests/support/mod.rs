//! What the tests of the service share: a database each, a service over it, and a client that holds every answer
//! against openapi.yaml.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub mod client;
pub mod contract;
pub mod data;
pub mod database;
pub mod fleet;
pub mod logs;
pub mod proxy;
pub mod s3;
pub mod service;
