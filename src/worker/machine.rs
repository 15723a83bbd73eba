//! What this machine offers to runs: read anew from time to time, and shown to everyone in the database.

use std::path::Path;
use std::time::Duration;

use super::Worker;
use crate::config::Config;
use crate::db::{self, workers};
use crate::domain::estimate::{Device, Machine};
use crate::domain::run::Devices;
use crate::limits;

/// How often it is read and shown.
const PAUSE: Duration = Duration::from_secs(10);
/// How long showing it may take.
const WRITE: Duration = Duration::from_secs(5);

/// What one of `slots` slots can have.
pub(super) fn read(devices: &Devices, slots: u32, config: &Config) -> Machine {
    let is_gpu = devices.cuda > 0;
    let host = || limits::memory(Path::new(limits::ROOT), config.allocation);
    let share = u64::from(sharing(devices, slots));
    let memory = if is_gpu {
        devices.cuda_memory.map(|bytes| bytes / share)
    } else {
        host().map(|bytes| bytes / u64::from(slots.max(1)))
    };
    let (free_disk, disk) = (config.reserve.usable(&config.runs_dir), config.reserve.capacity(&config.runs_dir));
    Machine { device: Device { is_gpu, has_bf16: is_gpu || devices.cpu_bf16 }, memory, free_disk, disk }
}

/// How many jobs run at once.
pub(super) fn slots(devices: &Devices, config: &Config) -> u32 {
    let gpus = u32::try_from(devices.cuda).unwrap_or(u32::MAX);
    config.slots.unwrap_or_else(|| gpus.saturating_mul(config.slots_per_gpu).max(1))
}

/// How many of so many slots share one GPU at most; 1 where there is none.
pub(super) fn sharing(devices: &Devices, slots: u32) -> u32 {
    match u32::try_from(devices.cuda) {
        Ok(0) | Err(_) => 1,
        Ok(gpus) => slots.div_ceil(gpus).max(1),
    }
}

/// CPU threads of a run in one of `slots` slots: the cores are shared, for runs that have more threads than there are
/// cores wait for each other at every operator.
pub(super) fn threads(slots: u32, config: &Config) -> usize {
    match config.trainer_threads {
        0 => (limits::cores(config.allocation) / usize::try_from(slots).unwrap_or(usize::MAX).max(1)).max(1),
        given => given,
    }
}

/// The part of the memory that a trainer which waits touches ahead, and how many bytes that are at most: what a small run needs.
const TOUCHED_PART: u64 = 32;
const MOST_TOUCHED: u64 = 512 << 20;

/// Bytes that a trainer which waits touches ahead.
pub(super) fn touched(config: &Config) -> u64 {
    let memory = limits::memory(Path::new(limits::ROOT), config.allocation);
    memory.map_or(0, |bytes| (bytes / TOUCHED_PART).min(MOST_TOUCHED))
}

impl Worker {
    /// Shows what the machine offers until the worker shuts down.
    pub(super) async fn show_machine(self, slots: u32) {
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
            let machine = read(&self.premises.devices, slots, &self.app.config);
            let seen = db::within(WRITE, workers::seen(self.app.db.pool(), self.identity.id, &machine)).await;
            if let Err(error) = seen {
                tracing::debug!(error = error.chain(), "cannot show what this machine offers");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{read, sharing, slots, threads};
    use crate::config::{self, Config};
    use crate::domain::run::Devices;

    fn config(flags: &[(&str, &str)]) -> Config {
        config::load(&flags.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()).unwrap()
    }

    #[test]
    fn slots_share_the_machine_and_have_a_gpu_each() {
        let here = &config(&[("runs-dir", "/")]);
        let cpu = Devices { cpu_bf16: true, ..Devices::default() };
        let (one, two) = (read(&cpu, 1, here), read(&cpu, 2, here));
        assert!(one.memory.unwrap() > 1 << 20 && one.memory.unwrap() / 2 == two.memory.unwrap());
        assert!(one.free_disk.is_some() && one.device.has_bf16 && !one.device.is_gpu);
        let gpus = Devices { cuda: 8, cuda_memory: Some(80 << 30), ..Devices::default() };
        assert_eq!(read(&gpus, 8, here).memory, Some(80 << 30));
        // Slots that share one have a part of it each.
        assert_eq!(read(&gpus, 16, here).memory, Some(40 << 30));
        assert_eq!((sharing(&gpus, 4), sharing(&gpus, 9), sharing(&cpu, 4)), (1, 2, 1));
    }

    #[test]
    fn there_are_as_many_slots_as_asked_for_or_as_gpus_have() {
        let (cpu, gpus) = (Devices::default(), Devices { cuda: 2, ..Devices::default() });
        for (flags, expected) in [
            (&[][..], [1, 2]),
            (&[("slots-per-gpu", "3")], [1, 6]),
            (&[("slots-per-gpu", "3"), ("slots", "4")], [4, 4]),
        ] {
            let config = config(flags);
            assert_eq!([slots(&cpu, &config), slots(&gpus, &config)], expected);
        }
    }

    #[test]
    fn slots_share_the_cores_unless_a_number_is_given() {
        let all = threads(1, &config(&[]));
        assert_eq!(all, crate::limits::cores(config(&[]).allocation));
        for (slots, expected) in [(0, all), (2, (all / 2).max(1)), (u32::MAX, 1)] {
            assert_eq!(threads(slots, &config(&[])), expected);
        }
        assert_eq!(threads(4, &config(&[("trainer-threads", "3")])), 3);
    }
}
