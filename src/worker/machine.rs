//! What this machine offers to runs: read anew from time to time, and shown to everyone in the database.

use std::path::Path;
use std::time::Duration;

use super::Worker;
use crate::db::{self, workers};
use crate::domain::estimate::{Device, Machine};
use crate::domain::run::Devices;

/// How often it is read and shown.
const PAUSE: Duration = Duration::from_secs(10);
/// How long showing it may take.
const WRITE: Duration = Duration::from_secs(5);

/// What one of `slots` slots can have.
pub(super) fn read(devices: &Devices, slots: u32, runs: &Path) -> Machine {
    let is_gpu = devices.cuda > 0;
    let memory = if is_gpu { devices.cuda_memory } else { host_memory().map(|bytes| bytes / u64::from(slots.max(1))) };
    let disk = nix::sys::statvfs::statvfs(runs).ok();
    Machine {
        device: Device { is_gpu, has_bf16: is_gpu || devices.cpu_bf16 },
        memory,
        free_disk: disk.map(|disk| disk.blocks_available() * disk.fragment_size()),
    }
}

/// Bytes of memory that this machine has, or that the container it is in may use (cgroup v2, `memory.max`).
fn host_memory() -> Option<u64> {
    let meminfo = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib: u64 =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?.trim().split(' ').next()?.parse().ok()?;
    let limit = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    Some(limit.map_or(kib << 10, |limit: u64| limit.min(kib << 10)))
}

impl Worker {
    /// Shows what the machine offers until the worker shuts down.
    pub(super) async fn show_machine(self, slots: u32) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
            let machine = read(&self.place.devices, slots, &self.app.runs());
            let seen = db::within(WRITE, workers::seen(self.app.db.pool(), self.identity.id, &machine)).await;
            if let Err(error) = seen {
                tracing::debug!(error = error.chain(), "cannot show what this machine offers");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::read;
    use crate::domain::run::Devices;

    #[test]
    fn slots_share_the_machine_and_have_a_gpu_each() {
        let here = std::path::Path::new("/");
        let cpu = Devices { cpu_bf16: true, ..Devices::default() };
        let (one, two) = (read(&cpu, 1, here), read(&cpu, 2, here));
        assert!(one.memory.unwrap() > 1 << 20 && one.memory.unwrap() / 2 == two.memory.unwrap());
        assert!(one.free_disk.is_some() && one.device.has_bf16 && !one.device.is_gpu);
        let gpus = Devices { cuda: 8, cuda_memory: Some(80 << 30), ..Devices::default() };
        assert_eq!(read(&gpus, 8, here).memory, Some(80 << 30));
    }
}
