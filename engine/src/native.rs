//! The safe face of the C++ shim in `native/`: what libtorch has and tch does not bind, and our fused CPU kernels.

pub mod checkpoint;
pub mod decoder;
pub mod lora;
pub mod nf4;

use std::ffi::{CStr, c_char, c_double, c_int};

use tch::Tensor;

use crate::error::{EngineError, Result};

type Raw = *mut torch_sys::C_tensor;

unsafe extern "C" {
    fn ft_last_error() -> *const c_char;
    fn ft_kernel_isa() -> *const c_char;
    fn ft_set_threads(threads: c_int) -> c_int;
    fn ft_set_deterministic(on: c_int) -> c_int;
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
    fn ft_grad_norm(out: *mut Raw, grads: *mut Raw, count: i64, multi_tensor: c_int) -> c_int;
    fn ft_adamw(
        parameters: *mut Raw,
        grads: *mut Raw,
        moments1: *mut Raw,
        moments2: *mut Raw,
        lows: *mut Raw,
        weight_decay: *const c_double,
        count: i64,
        norm: Raw,
        max_norm: c_double,
        learning_rate: c_double,
        beta1: c_double,
        beta2: c_double,
        eps: c_double,
        step: i64,
        multi_tensor: c_int,
    ) -> c_int;
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

/// Makes libtorch choose deterministic algorithms where it has them.
pub fn set_deterministic(on: bool) -> Result<()> {
    // SAFETY: plain values.
    check(unsafe { ft_set_deterministic(c_int::from(on)) })
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

/// Which implementation of the optimizer's two operators to use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptimizerKernel {
    /// Our one-pass kernels on the CPU, libtorch's multi-tensor operators elsewhere.
    Auto,
    /// libtorch's multi-tensor operators everywhere.
    MultiTensor,
}

/// The L2 norm of all gradients together: a 0-dimensional float32 tensor on their device.
pub fn grad_norm(grads: &[&Tensor], kernel: OptimizerKernel) -> Result<Tensor> {
    let mut out = std::ptr::null_mut();
    let mut pointers = raws(grads);
    let multi = c_int::from(kernel == OptimizerKernel::MultiTensor);
    // SAFETY: `pointers` holds `grads.len()` valid tensors.
    check(unsafe { ft_grad_norm(&raw mut out, pointers.as_mut_ptr(), grads.len() as i64, multi) })?;
    Ok(owned(out))
}

/// One parameter as AdamW sees it. All tensors have the same number of elements and are contiguous.
pub struct AdamWItem<'a> {
    /// Float32 parameter, updated in place.
    pub parameter: &'a Tensor,
    /// Gradient in float32 or bfloat16.
    pub grad: &'a Tensor,
    /// First and second moment in float32, updated in place.
    pub moments: (&'a Tensor, &'a Tensor),
    /// The bfloat16 copy of the parameter that the model computes with, rewritten in place.
    pub low: Option<&'a Tensor>,
    /// Decoupled weight decay of this parameter.
    pub weight_decay: f64,
}

/// The scalars of one AdamW update; `step` counts from 1, `max_norm` 0 means no clipping.
#[derive(Clone, Copy, Debug)]
pub struct AdamWScalars {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub step: i64,
    pub max_norm: f64,
}

/// One AdamW update of all items, with gradients clipped to `max_norm` by their joint `norm`.
pub fn adamw(items: &[AdamWItem<'_>], norm: &Tensor, scalars: AdamWScalars, kernel: OptimizerKernel) -> Result<()> {
    let column = |pick: &dyn Fn(&AdamWItem<'_>) -> Raw| items.iter().map(pick).collect::<Vec<Raw>>();
    let mut parameters = column(&|item| raw(item.parameter));
    let mut grads = column(&|item| raw(item.grad));
    let mut moments1 = column(&|item| raw(item.moments.0));
    let mut moments2 = column(&|item| raw(item.moments.1));
    let mut lows = column(&|item| item.low.map_or(std::ptr::null_mut(), raw));
    let decay: Vec<f64> = items.iter().map(|item| item.weight_decay).collect();
    // SAFETY: six columns of `items.len()` entries each, all tensors alive through `items`.
    check(unsafe {
        ft_adamw(
            parameters.as_mut_ptr(),
            grads.as_mut_ptr(),
            moments1.as_mut_ptr(),
            moments2.as_mut_ptr(),
            lows.as_mut_ptr(),
            decay.as_ptr(),
            items.len() as i64,
            raw(norm),
            scalars.max_norm,
            scalars.learning_rate,
            scalars.beta1,
            scalars.beta2,
            scalars.eps,
            scalars.step,
            c_int::from(kernel == OptimizerKernel::MultiTensor),
        )
    })
}
