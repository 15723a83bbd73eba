//! Memory of what a batch leaves behind until backward has used it.

use super::super::hyperparameters::{Freeze, Hyperparameters};
use super::super::method::language;
use super::super::model::ModelFacts;
use super::tokens::Tokens;
use super::{Device, MOST};

/// Bytes of what a batch leaves behind until backward has used it. Below the lowest layer that is trained nothing is.
pub(super) fn activations(model: &ModelFacts, h: &Hyperparameters, tokens: Tokens, bf16: bool, device: Device) -> u64 {
    let whole = if model.image_size > 0 {
        f64::from(h.course.batch_size) * model.values_per_image as f64 * if bf16 { 3.0 } else { 4.0 }
    } else {
        largest_batch(tokens, h) * kept_bytes(model, h, bf16, device)
    };
    let open = match h.tuning.freeze {
        Freeze::Off(_) => 1.0,
        // One layer at a time, as in an evaluation.
        Freeze::Backbone(_) => 1.0 / f64::from(model.layers.max(1)),
        Freeze::Layers(frozen) => 1.0 - f64::from(frozen.layers) / f64::from(model.layers.max(frozen.layers).max(1)),
    };
    (whole * open).min(MOST) as u64
}

/// Tokens of the largest batch, which is hardly more than three deviations above the mean one.
fn largest_batch(tokens: Tokens, h: &Hyperparameters) -> f64 {
    let batch = f64::from(h.course.batch_size);
    (batch * tokens.mean + 3.0 * batch.sqrt() * tokens.deviation).min(batch * tokens.most)
}

/// Bytes of a token that are kept of all layers until backward has used them. Of layers that are computed again it is the
/// residual stream and what is added to it, and once, what one of them computes.
fn kept_bytes(model: &ModelFacts, h: &Hyperparameters, bf16: bool, device: Device) -> f64 {
    // On the CPU adapters make the inputs of their layers again: two norms, and what the gate lets through.
    let makes_again = model.backbone.is_language_model()
        && !device.is_gpu
        && h.tuning.adapter.lora().is_some_and(|lora| lora.dropout == 0.0);
    let remade = if makes_again {
        let values = 2.0 * f64::from(model.hidden_size) + f64::from(model.intermediate_size);
        f64::from(model.layers) * values * if bf16 { 2.0 } else { 4.0 }
    } else {
        0.0
    };
    let whole = activation_bytes(model, bf16) - remade;
    let layers = f64::from(model.layers.max(1));
    let again = f64::from(language::computed_again(&h.own)).min(layers);
    let input = f64::from(model.hidden_size) * if bf16 { 6.0 } else { 8.0 };
    again * input + ((layers - again) / layers * whole).max(whole / layers)
}

/// Bytes that a token's activations take until backward has used them: per layer the query, key, value and attention
/// output, the inner part twice, the inputs of both products in the compute type, and the sums before both norms in
/// float32.
pub(super) fn activation_bytes(model: &ModelFacts, bf16: bool) -> f64 {
    let (width, inner) = (f64::from(model.hidden_size), f64::from(model.intermediate_size));
    let compute = if bf16 { 2.0 } else { 4.0 };
    // A decoder has a gate beside what it lets through, and fewer keys and values.
    let (widths, inners) = if model.backbone.is_language_model() { (5.0, 3.0) } else { (6.0, 2.0) };
    f64::from(model.layers) * (compute * (widths * width + inners * inner) + 4.0 * 2.0 * width)
}
