//! What a service in the test's own process logs, as JSON. Tests that share a process share the lines, so they look for
//! ids of their own.

use std::io::Write;
use std::sync::Mutex;

use serde_json::Value;

static WRITTEN: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Sink;

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        WRITTEN.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Starts keeping the lines that a service writes with its default filter.
pub fn capture() {
    let builder = tracing_subscriber::fmt().with_env_filter("info,sqlx=warn").with_writer(|| Sink);
    let _ = builder.json().try_init();
}

/// The lines in which `text` stands.
pub fn lines_with(text: &str) -> Vec<Value> {
    let written = WRITTEN.lock().unwrap();
    let lines = std::str::from_utf8(&written).unwrap().lines().filter(|line| line.contains(text));
    lines.map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The length in bytes of the longest line in which `text` stands; 0 if there is none.
pub fn longest_with(text: &str) -> usize {
    let written = WRITTEN.lock().unwrap();
    let lines = std::str::from_utf8(&written).unwrap().lines().filter(|line| line.contains(text));
    lines.map(str::len).max().unwrap_or(0)
}
