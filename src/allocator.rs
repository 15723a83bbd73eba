//! How the service's memory goes back to the system.

/// Blocks of this many bytes and more are mappings of their own, which are gone once they are freed.
#[cfg(target_env = "gnu")]
const MAPPED: std::ffi::c_int = 256 << 10;

/// Has large blocks given back at once (`mallopt(3)`). glibc otherwise takes the size of those that were freed for usual,
/// puts the next ones into its heaps, one for each thread, and keeps hundreds of megabytes after a rush of large requests.
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: plain values, before other threads are there.
    unsafe {
        nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, MAPPED);
        nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, MAPPED);
    }
}
