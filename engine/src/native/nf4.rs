//! Matrices in 4-bit `NormalFloat`: `QLoRA`'s frozen weights (Dettmers et al. 2023, arXiv:2305.14314).

use std::ffi::{c_double, c_int};
use std::ptr::null_mut;

use tch::{Device, Kind, Tensor};

use super::{Raw, check, owned, raw};
use crate::error::Result;

unsafe extern "C" {
    fn ft_nf4_quantize(out: *mut Raw, offset: *mut c_double, matrix: Raw) -> c_int;
    fn ft_nf4_dense(
        out: *mut Raw,
        pieces: *const Raw,
        offsets: *const c_double,
        rows: *const i64,
        count: i64,
        columns: i64,
        low: c_int,
    ) -> c_int;
}

/// A matrix as bitsandbytes stores it with `bnb_4bit_quant_type="nf4"` and double quantisation: half a byte a value, a scale of a
/// byte for 64 values, and a scale of those for 256 of them. Parts that lie one below the other are quantised each by itself.
pub struct Nf4 {
    /// Of each part the packed values, the codes of the scales, and the scales of those.
    pieces: Vec<Tensor>,
    offsets: Vec<f64>,
    rows: Vec<i64>,
    columns: i64,
}

impl Nf4 {
    /// Quantises the parts of a matrix, float32 `[rows, columns]` each and on the CPU, and moves it to `device`.
    pub fn quantize(parts: &[Tensor], device: Device) -> Result<Self> {
        let columns = parts.first().and_then(|part| part.size().get(1).copied()).unwrap_or_default();
        let mut quantized = Self { pieces: Vec::new(), offsets: Vec::new(), rows: Vec::new(), columns };
        for part in parts {
            let (mut out, mut offset) = ([null_mut(); 3], 0.0);
            // SAFETY: the tensor outlives the call, and `out` has the three places the shim writes.
            check(unsafe { ft_nf4_quantize(out.as_mut_ptr(), &raw mut offset, raw(part)) })?;
            for piece in out.map(owned) {
                quantized.pieces.push(piece.f_to_device(device)?);
            }
            quantized.offsets.push(offset);
            quantized.rows.push(part.size()[0]);
        }
        Ok(quantized)
    }

    /// One of pieces that are there: packed values, codes and scales.
    pub fn from_pieces([packed, codes, scales]: [Tensor; 3], offset: f64, [rows, columns]: [i64; 2]) -> Self {
        Self { pieces: vec![packed, codes, scales], offsets: vec![offset], rows: vec![rows], columns }
    }

    /// The matrix `[rows, columns]` in float32 or bfloat16.
    pub fn dense(&self, kind: Kind) -> Result<Tensor> {
        let mut out = null_mut();
        let Parts { pieces, offsets, rows, count, columns } = self.parts();
        let low = c_int::from(kind != Kind::Float);
        // SAFETY: the lists have `count` entries, or three times as many, and their tensors outlive the call.
        check(unsafe {
            ft_nf4_dense(&raw mut out, pieces.as_ptr(), offsets.as_ptr(), rows.as_ptr(), count, columns, low)
        })?;
        Ok(owned(out))
    }

    /// Of each part the packed values (uint8, two a byte), the codes of the scales (uint8), and the scales of those (float32).
    pub fn pieces(&self) -> &[Tensor] {
        &self.pieces
    }

    /// As the shim takes it.
    pub(super) fn parts(&self) -> Parts<'_> {
        Parts {
            pieces: self.pieces.iter().map(raw).collect(),
            offsets: &self.offsets,
            rows: &self.rows,
            count: self.rows.len() as i64,
            columns: self.columns,
        }
    }
}

/// The parts of a matrix, as the shim takes them.
#[derive(Default)]
pub(super) struct Parts<'a> {
    /// Three for each part.
    pub(super) pieces: Vec<Raw>,
    pub(super) offsets: &'a [f64],
    pub(super) rows: &'a [i64],
    pub(super) count: i64,
    pub(super) columns: i64,
}
