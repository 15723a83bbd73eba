//! Where the sequences of a packed batch lie.

use std::cell::OnceCell;

use tch::{Device, Kind, Tensor};

use super::Seen;
use crate::error::{EngineError, Result};

/// Sequences laid end to end: sequence `s` is tokens `offsets[s]..offsets[s + 1]`.
pub struct Sequences {
    /// Int32 `[S + 1]` on the CPU.
    pub offsets: Tensor,
    /// Tokens of the longest sequence, `L`.
    pub longest: i64,
    /// Int64 `[S]`: where each sequence's first token lies, on the model's device.
    pub first: Tensor,
    lengths: Vec<i64>,
    /// [`offsets`](Self::offsets) on another device.
    offsets_there: OnceCell<Tensor>,
    padding: OnceCell<Padding>,
    /// What [`mask`](Self::mask) made last; a model has one way to see besides seeing all.
    mask: OnceCell<(Seen, Tensor)>,
}

/// How to pad the packed tokens to `[S, L]` and back.
pub struct Padding {
    /// Int64 `[S L]`: the token at each padded place; padding reads the sequence's first token.
    pub places: Tensor,
    /// Bool `[S, 1, 1, L]`: which places are real.
    pub mask: Tensor,
    /// Int64 `[T]`: the padded place of each token.
    pub kept: Tensor,
}

impl Sequences {
    /// From the lengths of the sequences, in order.
    ///
    /// # Errors
    /// A sequence is empty, or all together have over 2³¹ tokens.
    pub fn from_lengths(lengths: Vec<i64>, device: Device) -> Result<Self> {
        let mut offsets = vec![0_i32];
        let mut end = 0_i64;
        for &length in &lengths {
            end += length;
            let offset = i32::try_from(end).ok().filter(|_| length > 0);
            offsets
                .push(offset.ok_or_else(|| EngineError::native("a packed batch has an empty or too long sequence"))?);
        }
        let first: Vec<i64> = offsets[..lengths.len()].iter().map(|&start| i64::from(start)).collect();
        Ok(Self {
            offsets: Tensor::f_from_slice(&offsets)?,
            longest: lengths.iter().copied().max().unwrap_or(0),
            first: Tensor::f_from_slice(&first)?.f_to_device(device)?,
            lengths,
            offsets_there: OnceCell::new(),
            padding: OnceCell::new(),
            mask: OnceCell::new(),
        })
    }

    /// The number of sequences, `S`.
    pub fn count(&self) -> i64 {
        self.lengths.len() as i64
    }

    /// Whether all sequences have one length: padded they are as they are.
    pub fn are_even(&self) -> bool {
        self.lengths.iter().all(|&length| length == self.longest)
    }

    /// [`offsets`](Self::offsets) on `device`, made once per batch.
    pub fn offsets_on(&self, device: Device) -> Result<Tensor> {
        if self.offsets_there.get().is_none() {
            let _ = self.offsets_there.set(self.offsets.f_to_device(device)?);
        }
        let there = self.offsets_there.get().map(Tensor::shallow_clone);
        there.ok_or_else(|| EngineError::native("offsets were not made"))
    }

    /// The indices for padded operators, made once per batch.
    pub fn padding(&self, device: Device) -> Result<&Padding> {
        if self.padding.get().is_none() {
            let padding = self.make_padding(device)?;
            let _ = self.padding.set(padding);
        }
        self.padding.get().ok_or_else(|| EngineError::native("padding was not made"))
    }

    /// Which keys each padded query attends to: bool `[S, 1, L, L]`, or `[S, 1, 1, L]` where it sees all. Queries of padding
    /// see every real key: a row without any would be NaN in some kernels, and its gradient with it.
    pub fn mask(&self, seen: Seen, device: Device) -> Result<Tensor> {
        let real = &self.padding(device)?.mask;
        if let Some((known, mask)) = self.mask.get()
            && *known == seen
        {
            return Ok(mask.shallow_clone());
        }
        let column = Tensor::f_arange(self.longest, (Kind::Int64, device))?;
        // How far before the query a key is.
        let before = column.f_unsqueeze(1)?.f_sub(&column.f_unsqueeze(0)?)?;
        let near = match seen {
            Seen::All => return Ok(real.shallow_clone()),
            Seen::Window(reach) => before.f_abs()?.f_le(reach)?,
            Seen::Causal => before.f_ge(0)?,
            Seen::CausalWindow(reach) => before.f_ge(0)?.f_logical_and(&before.f_le(reach)?)?,
        };
        let is_padding = real.f_logical_not()?.f_transpose(2, 3)?;
        let mask = near.f_logical_or(&is_padding)?.f_logical_and(real)?;
        let _ = self.mask.set((seen, mask.shallow_clone()));
        Ok(mask)
    }

    /// The mean of each sequence's rows of `x` `[T, D]` in float32: `[S, D]`.
    pub fn mean(&self, x: &Tensor) -> Result<Tensor> {
        self.reduce(x, "mean")
    }

    /// What `torch.segment_reduce` makes of each sequence's rows of `x` `[T, D]` in float32 by `"mean"`, `"max"` or `"sum"`:
    /// `[S, D]`.
    pub fn reduce(&self, x: &Tensor, how: &str) -> Result<Tensor> {
        let none = None::<&Tensor>;
        // What a reduction starts with counts in it.
        let initial = if how == "max" { f64::NEG_INFINITY } else { 0.0 };
        Ok(Tensor::f_segment_reduce(x, how, Some(&self.lengths(x.device())?), none, none, 0, false, initial)?)
    }

    /// Int64 `[S]`: the tokens of each sequence.
    pub fn lengths(&self, device: Device) -> Result<Tensor> {
        Ok(Tensor::f_from_slice(&self.lengths)?.f_to_device(device)?)
    }

    /// Int64 `[S]`: where each sequence's last token lies.
    pub fn last(&self, device: Device) -> Result<Tensor> {
        Ok(self.first.f_to_device(device)?.f_add(&self.lengths(device)?)?.f_sub_scalar(1)?)
    }

    /// Float32 `[T]`: the place of each token in its own sequence, from 1.
    pub fn places(&self, device: Device) -> Result<Tensor> {
        let places: Vec<f32> = self.lengths.iter().flat_map(|&length| (1..=length).map(|place| place as f32)).collect();
        Ok(Tensor::f_from_slice(&places)?.f_to_device(device)?)
    }

    fn make_padding(&self, device: Device) -> Result<Padding> {
        let (mut places, mut kept, mut real) = (Vec::new(), Vec::new(), Vec::new());
        let mut start = 0;
        for &length in &self.lengths {
            for column in 0..self.longest {
                let is_real = column < length;
                if is_real {
                    kept.push(places.len() as i64);
                }
                places.push(if is_real { start + column } else { start });
                real.push(is_real);
            }
            start += length;
        }
        let mask = Tensor::f_from_slice(&real)?.f_view([self.count(), 1, 1, self.longest])?;
        Ok(Padding {
            places: Tensor::f_from_slice(&places)?.f_to_device(device)?,
            mask: mask.f_to_device(device)?,
            kept: Tensor::f_from_slice(&kept)?.f_to_device(device)?,
        })
    }
}
