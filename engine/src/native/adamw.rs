//! The norm of gradients, and AdamW over many parameters at once.

use std::ffi::{c_double, c_int};

use tch::Tensor;

use super::{Raw, check, owned, raw, raws};
use crate::error::Result;

unsafe extern "C" {
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
        halted: Raw,
        scalars: *const AdamWScalars,
        multi_tensor: c_int,
    ) -> c_int;
    fn ft_adamw_8bit(
        parameter: Raw,
        grad: Raw,
        moments: *mut Raw,
        low: Raw,
        weight_decay: c_double,
        norm: Raw,
        halted: Raw,
        scalars: *const AdamWScalars,
        by_operator: c_int,
    ) -> c_int;
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

/// The two moments of a parameter, updated in place.
#[derive(Clone, Copy)]
pub enum Moments<'a> {
    /// In float32, with as many elements as the parameter.
    Full(&'a Tensor, &'a Tensor),
    /// In eight bits (Dettmers et al. 2021, arXiv:2110.02861), the first and the second: of each the codes, uint8 in whole
    /// [blocks](BLOCK), and the scales of the blocks in float32.
    EightBit([&'a Tensor; 4]),
}

/// Values of an eight-bit moment that share a scale.
pub const BLOCK: i64 = 256;

/// One parameter as AdamW sees it. All tensors are contiguous.
pub struct AdamWItem<'a> {
    /// Float32 parameter, updated in place.
    pub parameter: &'a Tensor,
    /// Gradient in float32 or bfloat16, with as many elements.
    pub grad: &'a Tensor,
    pub moments: Moments<'a>,
    /// The bfloat16 copy of the parameter that the model computes with, rewritten in place.
    pub low: Option<&'a Tensor>,
    /// Decoupled weight decay of this parameter.
    pub weight_decay: f64,
}

/// The scalars of one AdamW update, laid out as in `native/adamw.h`; `step` counts from 1, `max_norm` 0 means no clipping.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct AdamWScalars {
    pub learning_rate: f64,
    pub beta1: f64,
    pub beta2: f64,
    pub eps: f64,
    pub step: i64,
    pub max_norm: f64,
}

/// What is known of all gradients together, where they lie: float32, 0-dimensional.
#[derive(Clone, Copy)]
pub struct Joint<'a> {
    /// Their L2 norm.
    pub norm: &'a Tensor,
    /// 1 where nothing shall be updated, else 0.
    pub halted: &'a Tensor,
}

/// One AdamW update of all items, with gradients clipped to `max_norm` by their joint norm.
pub fn adamw(items: &[AdamWItem<'_>], joint: Joint<'_>, scalars: AdamWScalars, kernel: OptimizerKernel) -> Result<()> {
    let mut full = Vec::with_capacity(items.len());
    for item in items {
        match item.moments {
            Moments::Full(first, second) => full.push((item, first, second)),
            Moments::EightBit(moments) => eight_bit(item, moments, joint, scalars, kernel)?,
        }
    }
    if full.is_empty() {
        return Ok(());
    }
    let column =
        |pick: &dyn Fn(&(&AdamWItem<'_>, &Tensor, &Tensor)) -> Raw| full.iter().map(pick).collect::<Vec<Raw>>();
    let mut parameters = column(&|(item, ..)| raw(item.parameter));
    let mut grads = column(&|(item, ..)| raw(item.grad));
    let mut moments1 = column(&|(_, first, _)| raw(first));
    let mut moments2 = column(&|(.., second)| raw(second));
    let mut lows = column(&|(item, ..)| low(item));
    let decay: Vec<f64> = full.iter().map(|(item, ..)| item.weight_decay).collect();
    // SAFETY: six columns of `full.len()` entries each, all tensors alive through `items`.
    check(unsafe {
        ft_adamw(
            parameters.as_mut_ptr(),
            grads.as_mut_ptr(),
            moments1.as_mut_ptr(),
            moments2.as_mut_ptr(),
            lows.as_mut_ptr(),
            decay.as_ptr(),
            full.len() as i64,
            raw(joint.norm),
            raw(joint.halted),
            &raw const scalars,
            c_int::from(kernel == OptimizerKernel::MultiTensor),
        )
    })
}

fn low(item: &AdamWItem<'_>) -> Raw {
    item.low.map_or(std::ptr::null_mut(), raw)
}

fn eight_bit(
    item: &AdamWItem<'_>,
    moments: [&Tensor; 4],
    joint: Joint<'_>,
    scalars: AdamWScalars,
    kernel: OptimizerKernel,
) -> Result<()> {
    let mut moments = moments.map(raw);
    // SAFETY: the tensors outlive the call, and `moments` has the four places that the shim reads.
    check(unsafe {
        ft_adamw_8bit(
            raw(item.parameter),
            raw(item.grad),
            moments.as_mut_ptr(),
            low(item),
            item.weight_decay,
            raw(joint.norm),
            raw(joint.halted),
            &raw const scalars,
            c_int::from(kernel == OptimizerKernel::MultiTensor),
        )
    })
}
