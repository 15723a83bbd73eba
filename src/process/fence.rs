//! What a trainer can reach of the machine where the kernel has Landlock (`landlock(7)`): it reads libraries, devices and
//! its own folder, writes into its own folder alone, has no TCP, and signals and looks into no process but its own.

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, Scope,
    path_beneath_rules,
};
use nix::libc;

use super::readable::true_name;

/// The newest version whose rights are used; an older kernel gets those that it knows.
const VERSION: ABI = ABI::V6;

/// What every program needs to read. Of `/proc`, what belongs to processes outside the fence is closed by the fence itself.
const SYSTEM: [&str; 15] = [
    "/bin",
    "/etc/group",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/localtime",
    "/etc/nsswitch.conf",
    "/etc/passwd",
    "/lib",
    "/lib32",
    "/lib64",
    "/proc",
    "/sbin",
    "/sys",
    "/usr",
];
/// Devices without memory.
const DEVICES: [&str; 5] = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];
/// What the devices of accelerators are called: NVIDIA's, AMD's, those of Windows' subsystem.
const ACCELERATORS: [&str; 4] = ["nvidia", "kfd", "dri", "dxg"];
/// Memory that CUDA shares between its processes.
const SHARED_MEMORY: &str = "/dev/shm";

/// A fence that is ready to be entered.
pub(super) struct Fence(OwnedFd);

impl Fence {
    /// The fence around a trainer that works in `folder` and whose programs and libraries are `readable`; None where the
    /// kernel has none.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub(super) fn around(folder: Option<&Path>, readable: &[PathBuf]) -> io::Result<Option<Self>> {
        Self::build(folder, readable).map_err(io::Error::other)
    }

    fn build(folder: Option<&Path>, readable: &[PathBuf]) -> Result<Option<Self>, RulesetError> {
        let read = AccessFs::from_read(VERSION);
        let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        // No program, no link and no device is made there.
        let own: BitFlags<AccessFs> = AccessFs::ReadFile
            | AccessFs::ReadDir
            | AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::MakeReg
            | AccessFs::MakeDir
            | AccessFs::RemoveFile
            | AccessFs::RemoveDir
            | AccessFs::Refer;
        let accelerators = accelerators();
        let shared = shared_memory(&accelerators);
        let ruleset = Ruleset::default()
            .handle_access(AccessFs::from_all(VERSION))?
            .handle_access(AccessNet::from_all(VERSION))?
            .scope(Scope::from_all(VERSION))?
            .create()?
            .add_rules(path_beneath_rules(SYSTEM, read))?
            .add_rules(path_beneath_rules(readable, read))?
            .add_rules(path_beneath_rules(DEVICES, device))?
            .add_rules(path_beneath_rules(accelerators, device))?
            .add_rules(path_beneath_rules(shared, own))?
            .add_rules(path_beneath_rules(folder, own))?;
        Ok(Option::<OwnedFd>::from(ruleset).map(Self))
    }

    /// Puts this process behind the fence, for good. Only an async-signal-safe call; the process must have given up new
    /// privileges before.
    pub(super) fn enter(&self) -> io::Result<()> {
        // SAFETY: a system call with plain values, and a descriptor that is open.
        let entered = unsafe { libc::syscall(libc::SYS_landlock_restrict_self, self.0.as_raw_fd(), 0) };
        if entered == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }
}

/// The part of the system that is open behind every fence and that `folder` lies in, if there is one.
pub(super) fn leaves_open(folder: &Path) -> Option<&'static str> {
    let mut open = SYSTEM.into_iter().chain(shared_memory(&accelerators()));
    open.find(|system| folder.starts_with(true_name(Path::new(system))))
}

fn shared_memory(accelerators: &[PathBuf]) -> Option<&'static str> {
    (!accelerators.is_empty()).then_some(SHARED_MEMORY)
}

/// The devices of accelerators that this machine has.
fn accelerators() -> Vec<PathBuf> {
    let devices = fs::read_dir("/dev").into_iter().flatten().flatten();
    let is_one = |name: &str| ACCELERATORS.iter().any(|prefix| name.starts_with(prefix));
    devices.filter(|entry| entry.file_name().to_str().is_some_and(is_one)).map(|entry| entry.path()).collect()
}

/// Whether this machine has an accelerator of NVIDIA's, whether or not it can be used.
pub(super) fn has_gpu() -> bool {
    Path::new("/dev/nvidiactl").exists()
}
