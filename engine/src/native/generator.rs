//! What libtorch's generators of random numbers are at.

use std::ffi::c_int;
use std::ptr::null_mut;

use tch::Tensor;

use super::{Raw, check, owned, raw};
use crate::error::Result;

unsafe extern "C" {
    fn ft_generator_state(out: *mut Raw, like: Raw) -> c_int;
    fn ft_set_generator_state(like: Raw, state: Raw) -> c_int;
}

/// Where the default generator of the device of `like` is: what it draws from here on is drawn again after [`restore`].
pub fn state(like: &Tensor) -> Result<Tensor> {
    let mut out = null_mut();
    // SAFETY: the tensor outlives the call; `out` is written only on success.
    check(unsafe { ft_generator_state(&raw mut out, raw(like)) })?;
    Ok(owned(out))
}

/// Goes back to a [`state`] of the same device.
pub fn restore(like: &Tensor, state: &Tensor) -> Result<()> {
    // SAFETY: the tensors outlive the call.
    check(unsafe { ft_set_generator_state(raw(like), raw(state)) })
}
