//! Telling a trainer that ran out of memory from one that died otherwise.

use nix::libc;

use crate::domain::attempt::{Cause, ProcessEnd};

/// How often the kernel has killed a process of this machine for want of memory, in containers or not; None where it
/// does not say (`proc_vmstat(5)`, `oom_kill`).
pub(super) fn kernel_kills() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/vmstat").ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

/// What programs write when an allocation fails: Rust's runtime, the C++ library, libtorch.
const LAST_WORDS: [&str; 4] =
    ["memory allocation of", "std::bad_alloc", "can't allocate memory", "Cannot allocate memory"];

/// Why a trainer died without a word of its own. `kills` is what [`kernel_kills`] said before it started and says now.
pub(super) fn cause_of_death(process: ProcessEnd, stderr: &str, kills: (Option<u64>, Option<u64>)) -> Cause {
    let kernel_killed_someone = matches!(kills, (Some(before), Some(after)) if after > before);
    let ran_out = LAST_WORDS.iter().any(|words| stderr.contains(words));
    match process.signal {
        Some(libc::SIGKILL) if kernel_killed_someone => Cause::OutOfHostMemory,
        Some(libc::SIGABRT) | None if ran_out => Cause::OutOfHostMemory,
        Some(_) => Cause::Signal,
        None => Cause::Exit,
    }
}

#[cfg(test)]
mod tests {
    use super::{cause_of_death, kernel_kills};
    use crate::domain::attempt::{Cause, ProcessEnd};

    #[test]
    fn a_death_is_put_down_to_memory_only_with_evidence() {
        let died = |signal, exit_code| ProcessEnd { exit_code, signal, ..ProcessEnd::default() };
        let quiet = (Some(3), Some(3));
        for (end, stderr, kills, cause) in [
            (died(Some(9), None), "", quiet, Cause::Signal),
            (died(Some(9), None), "", (Some(3), Some(4)), Cause::OutOfHostMemory),
            (died(Some(9), None), "", (None, None), Cause::Signal),
            (died(Some(11), None), "", (Some(3), Some(4)), Cause::Signal),
            (died(Some(6), None), "memory allocation of 8 bytes failed", quiet, Cause::OutOfHostMemory),
            (died(Some(6), None), "terminate called", quiet, Cause::Signal),
            (died(None, Some(1)), "what(): std::bad_alloc", quiet, Cause::OutOfHostMemory),
            (died(None, Some(0)), "", quiet, Cause::Exit),
        ] {
            assert_eq!(cause_of_death(end, stderr, kills), cause, "{end:?} {stderr}");
        }
    }

    #[test]
    fn the_kernel_counts() {
        assert!(kernel_kills().is_some(), "this machine's kernel is of 2017 or later");
    }
}
