//! Numbers on their way from a device to the host.

use std::ffi::{c_int, c_void};

use tch::Tensor;

use super::{Raw, check, owned, raw};
use crate::error::Result;

type Event = *mut c_void;

unsafe extern "C" {
    fn ft_readback(out: *mut Raw, event: *mut Event, values: Raw) -> c_int;
    fn ft_wait(event: Event) -> c_int;
    fn ft_drop_event(event: Event);
}

/// A copy that a device makes once it has computed what is copied, while the host goes on.
pub struct Readback {
    host: Tensor,
    /// Null where the copy is there already.
    event: Event,
}

impl Readback {
    /// Begins to copy `values`.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn begin(values: &Tensor) -> Result<Self> {
        let (mut host, mut event) = (std::ptr::null_mut(), std::ptr::null_mut());
        // SAFETY: `values` outlives the call; both places are written only on success.
        check(unsafe { ft_readback(&raw mut host, &raw mut event, raw(values)) })?;
        Ok(Self { host: owned(host), event })
    }

    /// The values on the host, once they are there.
    ///
    /// # Errors
    /// What the device was told before the copy has failed.
    pub fn wait(self) -> Result<Tensor> {
        if !self.event.is_null() {
            // SAFETY: an event of the shim's, which is dropped with `self`.
            check(unsafe { ft_wait(self.event) })?;
        }
        Ok(self.host.shallow_clone())
    }
}

impl Drop for Readback {
    fn drop(&mut self) {
        // SAFETY: null, or an event of the shim's that nobody else has.
        unsafe { ft_drop_event(self.event) };
    }
}
