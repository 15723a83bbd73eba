//! Counting what operators take.

use std::ffi::{CStr, c_char, c_int};

use super::check;
use crate::error::Result;

unsafe extern "C" {
    fn ft_profile_begin() -> c_int;
    fn ft_profile_text() -> *const c_char;
}

/// What all calls of an operator took by themselves, without what they called.
#[derive(Clone, Debug, PartialEq)]
pub struct Operator {
    pub name: String,
    pub seconds: f64,
    pub calls: u64,
}

/// Counts from here on, on all threads, until the process ends.
pub fn begin() -> Result<()> {
    // SAFETY: no arguments.
    check(unsafe { ft_profile_begin() })
}

/// What was counted so far, the longest first. One thread at a time asks.
pub fn operators() -> Vec<Operator> {
    // SAFETY: the shim's string lives until the next call.
    let text = unsafe { CStr::from_ptr(ft_profile_text()) }.to_string_lossy().into_owned();
    let parse = |line: &str| {
        let mut fields = line.splitn(3, '\t');
        let (seconds, calls) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Operator { name: fields.next()?.to_owned(), seconds, calls })
    };
    text.lines().filter_map(parse).collect()
}
