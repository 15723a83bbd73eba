//! Activation checkpointing (Chen et al. 2016, arXiv:1604.06174): layers that backward computes again.

use std::cell::Cell;
use std::rc::Rc;

use tch::Tensor;

use super::Mode;
use crate::error::Result;
use crate::native::checkpoint::checkpoint;
use crate::native::generator;

/// What `layer` makes of the residual stream `[T, D]` in float32, and of what is still to be added to it. Where the pass wants it
/// of layer number `number`, nothing is kept of what it computes but what goes into it, and backward computes it again, with
/// the same dropout and so with the same values.
pub fn checkpointed(
    number: usize,
    layer: impl Fn(Tensor, Option<Tensor>, &Mode) -> Result<(Tensor, Option<Tensor>)> + 'static,
    (sum, pending): (Tensor, Option<Tensor>),
    mode: &Mode,
) -> Result<(Tensor, Option<Tensor>)> {
    if !mode.computes_again(number) {
        return layer(sum, pending, mode);
    }
    let (before, drawn) = (mode.clone(), Rc::new(Cell::new(0)));
    let state = generator::state(&sum)?;
    let told = Rc::clone(&drawn);
    let again = move |sum, pending| {
        let own = before.clone();
        // Nothing draws after backward has begun, so it need not be put back.
        generator::restore(&sum, &state)?;
        let out = layer(sum, pending, &own)?;
        told.set(own.next_key());
        Ok(out)
    };
    let out = checkpoint(Box::new(again), &sum, pending.as_ref())?;
    mode.draw_from(drawn.get());
    Ok(out)
}
