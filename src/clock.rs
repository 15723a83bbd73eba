//! The clock that leases are kept by on this side of the database.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since boot, which goes on while the machine sleeps and is the same in all processes (`clock_gettime(2)`).
pub fn boot_time() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
}
