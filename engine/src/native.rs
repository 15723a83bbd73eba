//! The safe face of the C++ shim in `native/`: what libtorch has and tch does not bind, and our fused CPU kernels.

pub mod adamw;
pub mod checkpoint;
pub mod decoder;
pub mod generator;
pub mod lora;
pub mod nf4;
pub mod packed;
pub mod profile;
pub mod readback;

use std::ffi::{CStr, c_char, c_double, c_int};

use tch::Tensor;

use crate::error::{EngineError, Result};

type Raw = *mut torch_sys::C_tensor;

unsafe extern "C" {
    fn ft_last_error() -> *const c_char;
    fn ft_kernel_isa() -> *const c_char;
    fn ft_set_threads(threads: c_int) -> c_int;
    fn ft_set_arithmetic(deterministic: c_int, tf32: c_int) -> c_int;
    fn ft_leave(status: c_int) -> !;
    fn ft_on_quit(handler: extern "C" fn()) -> c_int;
    fn ft_device_memory(index: c_int, total: *mut i64) -> c_int;
    fn ft_peak_device_memory(peak: *mut i64) -> c_int;
    fn ft_clear_grads(tensors: *mut Raw, count: i64) -> c_int;
    fn ft_dropout(out: *mut Raw, x: Raw, p: c_double, key: i64) -> c_int;
    fn ft_dropout_add_norm(
        out: *mut Raw,
        x: Raw,
        residual: Raw,
        weight: Raw,
        bias: Raw,
        eps: c_double,
        p: c_double,
        key: i64,
    ) -> c_int;
    fn ft_attention(out: *mut Raw, qkv: Raw, offsets: Raw, longest: i64, heads: i64, p: c_double, key: i64) -> c_int;
}

fn check(status: c_int) -> Result<()> {
    if status == 0 {
        return Ok(());
    }
    // SAFETY: the shim returns a NUL-terminated string that lives until this thread's next failing call.
    let text = unsafe { CStr::from_ptr(ft_last_error()) };
    Err(EngineError::native(text.to_string_lossy()))
}

fn raw(tensor: &Tensor) -> Raw {
    tensor.as_ptr().cast_mut()
}

fn raws(tensors: &[&Tensor]) -> Vec<Raw> {
    tensors.iter().map(|tensor| raw(tensor)).collect()
}

/// Takes ownership of a tensor that the shim allocated.
fn owned(pointer: Raw) -> Tensor {
    // SAFETY: every caller passes a pointer the shim has just made with `new Tensor` and keeps nowhere else.
    unsafe { Tensor::from_ptr(pointer) }
}

/// The instruction set of the CPU kernels in use: `v4` (AVX-512), `v3` (AVX2) or `baseline`.
pub fn kernel_isa() -> &'static str {
    // SAFETY: a string constant of the shim.
    unsafe { CStr::from_ptr(ft_kernel_isa()) }.to_str().unwrap_or("unknown")
}

/// Sets the number of threads of one operator, and flushes denormal numbers to zero on this thread.
pub fn set_threads(threads: usize) -> Result<()> {
    let threads = c_int::try_from(threads).unwrap_or(c_int::MAX);
    // SAFETY: plain values.
    check(unsafe { ft_set_threads(threads) })
}

/// How libtorch counts from here on, in the whole process: with algorithms that give the same bits each time alone, so that an
/// operator without one fails; and with TF32 or float32 in products of float32.
pub fn set_arithmetic(deterministic: bool, tf32: bool) -> Result<()> {
    // SAFETY: plain values.
    check(unsafe { ft_set_arithmetic(c_int::from(deterministic), c_int::from(tf32)) })
}

/// Ends the process at once, whatever its other threads are at: nothing is torn down under their hands.
pub fn leave(status: i32) -> ! {
    // SAFETY: a plain value.
    unsafe { ft_leave(status) }
}

/// Calls `handler` on this thread when the process is sent SIGQUIT, and ends the process after it.
pub fn on_quit(handler: extern "C" fn()) -> Result<()> {
    // SAFETY: the handler is a function, which lives as long as the process.
    check(unsafe { ft_on_quit(handler) })
}

/// Bytes of memory of an accelerator.
pub fn device_memory(index: usize) -> Result<u64> {
    let mut total = 0_i64;
    // SAFETY: the pointer is valid for the call.
    check(unsafe { ft_device_memory(c_int::try_from(index).unwrap_or(c_int::MAX), &raw mut total) })?;
    Ok(total.unsigned_abs())
}

/// Most bytes of accelerator memory that tensors held so far.
pub fn peak_device_memory() -> Result<u64> {
    let mut peak = 0_i64;
    // SAFETY: the pointer is valid for the call.
    check(unsafe { ft_peak_device_memory(&raw mut peak) })?;
    Ok(peak.unsigned_abs())
}

/// Drops the gradients of leaf tensors.
pub fn clear_grads(tensors: &[&Tensor]) -> Result<()> {
    let mut pointers = raws(tensors);
    // SAFETY: `pointers` holds `tensors.len()` valid tensors.
    check(unsafe { ft_clear_grads(pointers.as_mut_ptr(), tensors.len() as i64) })
}

/// Inverted dropout on the CPU with a mask drawn from `key` (Threefry2x32-20), not from libtorch's generator.
pub fn dropout(x: &Tensor, p: f64, key: u64) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: the tensors outlive the call; `out` is written only on success.
    check(unsafe { ft_dropout(&raw mut out, raw(x), p, key.cast_signed()) })?;
    Ok(owned(out))
}

/// `layer_norm(residual + dropout(x)) * weight + bias`, for `x` `[rows, width]` in float32 or bfloat16 and the rest
/// in float32. Returns the float32 result and, where `x` is bfloat16, the same in bfloat16.
pub fn dropout_add_norm(
    x: &Tensor,
    residual: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    p: f64,
    key: u64,
) -> Result<(Tensor, Option<Tensor>)> {
    let mut out = [std::ptr::null_mut(); 2];
    // SAFETY: the tensors outlive the call; `out` has the two places the shim writes.
    check(unsafe {
        ft_dropout_add_norm(out.as_mut_ptr(), raw(x), raw(residual), raw(weight), raw(bias), eps, p, key.cast_signed())
    })?;
    Ok((owned(out[0]), (!out[1].is_null()).then(|| owned(out[1]))))
}

/// Bidirectional softmax attention within each packed sequence: `qkv` `[tokens, 3 * heads * head_size]` to
/// `[tokens, heads * head_size]`. `offsets` is int32 `[sequences + 1]` on the CPU.
pub fn attention(qkv: &Tensor, offsets: &Tensor, longest: i64, heads: i64, p: f64, key: u64) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    // SAFETY: the tensors outlive the call; `out` is written only on success.
    check(unsafe { ft_attention(&raw mut out, raw(qkv), raw(offsets), longest, heads, p, key.cast_signed()) })?;
    Ok(owned(out))
}
