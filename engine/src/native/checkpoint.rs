//! Layers that backward computes again.

use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr::{null, null_mut};

use tch::Tensor;

use super::{Raw, check, owned, raw};
use crate::error::Result;

type Call = extern "C" fn(*mut c_void, *mut Raw, Raw, Raw) -> *const c_char;

unsafe extern "C" {
    fn ft_checkpoint(
        out: *mut Raw,
        sum: Raw,
        pending: Raw,
        call: Call,
        state: *mut c_void,
        drop: extern "C" fn(*mut c_void),
    ) -> c_int;
}

/// A layer: what the residual stream is after it, and what is still to be added to that, from the same before it.
pub type Layer = dyn Fn(Tensor, Option<Tensor>) -> Result<(Tensor, Option<Tensor>)>;

struct State {
    layer: Box<Layer>,
    /// What went wrong last.
    error: RefCell<CString>,
}

/// What `layer` makes of `sum` and `pending`. Of all that it computes nothing is kept but these two, and backward computes it
/// again: it must give the same values every time. Backward may do so on another thread, while this one waits for it.
pub fn checkpoint(layer: Box<Layer>, sum: &Tensor, pending: Option<&Tensor>) -> Result<(Tensor, Option<Tensor>)> {
    let state = Box::new(State { layer, error: RefCell::default() });
    let mut out = [null_mut(); 2];
    // SAFETY: the tensors outlive the call, `out` has the two places the shim writes, and the shim drops the state once.
    check(unsafe {
        ft_checkpoint(
            out.as_mut_ptr(),
            raw(sum),
            pending.map_or(null_mut(), raw),
            call,
            Box::into_raw(state).cast(),
            forget,
        )
    })?;
    let [sum, pending] = out;
    Ok((owned(sum), (!pending.is_null()).then(|| owned(pending))))
}

extern "C" fn call(state: *mut c_void, out: *mut Raw, sum: Raw, pending: Raw) -> *const c_char {
    // SAFETY: the state is the one that `checkpoint` made, which lives until the shim drops it.
    let state = unsafe { &*state.cast::<State>() };
    // SAFETY: the shim's tensors live during the call; of them new handles are made.
    let tensor = |pointer: Raw| unsafe { Tensor::clone_from_ptr(pointer) };
    let run = || (state.layer)(tensor(sum), (!pending.is_null()).then(|| tensor(pending)));
    let error = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok((sum, pending))) => {
            for (place, tensor) in [Some(sum), pending].into_iter().flatten().enumerate() {
                // SAFETY: `out` has two places, and the shim deletes what it is given.
                unsafe { *out.add(place) = into_raw(tensor) };
            }
            return null();
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "a layer panicked".to_owned(),
    };
    *state.error.borrow_mut() = CString::new(error.replace('\0', " ")).unwrap_or_default();
    state.error.borrow().as_ptr()
}

/// Gives a tensor away: its handle is deleted by whoever gets it.
fn into_raw(tensor: Tensor) -> Raw {
    let pointer = raw(&tensor);
    std::mem::forget(tensor);
    pointer
}

extern "C" fn forget(state: *mut c_void) {
    // SAFETY: the state is the one that `checkpoint` made, and the shim drops it once.
    drop(unsafe { Box::from_raw(state.cast::<State>()) });
}
