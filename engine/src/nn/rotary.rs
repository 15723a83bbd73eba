//! Rotary position embeddings (Su et al. 2021, arXiv:2104.09864), the halves of a head turned against each other as in
//! Transformers' `rotate_half`.

use tch::{Device, Kind, Tensor};

use super::Heads;
use crate::error::Result;

/// How fast each pair of a head's dimensions turns.
pub struct Rotary {
    /// Float32 `[size / 2]`: radians per position.
    frequencies: Tensor,
    /// What cosines and sines are multiplied by.
    magnitude: f64,
}

/// The angles of a packed batch, for all layers that turn alike.
pub struct Rotation {
    /// Float32 `[T, 1, size / 2]`.
    cos: Tensor,
    sin: Tensor,
}

impl Rotary {
    /// For heads of `size` dimensions, an even number: pair `i` turns by `theta^(-2i / size)` each position.
    pub fn new(size: i64, theta: f64, device: Device) -> Result<Self> {
        let exponents = Tensor::f_arange_start_step(0, size, 2, (Kind::Float, device))?.f_div_scalar(size)?;
        Ok(Self { frequencies: Tensor::f_pow_scalar(theta, &exponents)?.f_reciprocal()?, magnitude: 1.0 })
    }

    /// For heads whose pairs turn by these frequencies, with cosines and sines times `magnitude`.
    pub fn of(frequencies: &[f32], magnitude: f64, device: Device) -> Result<Self> {
        Ok(Self { frequencies: Tensor::f_from_slice(frequencies)?.f_to_device(device)?, magnitude })
    }

    /// The angles at `positions` (int64 `[T]`).
    pub fn at(&self, positions: &Tensor) -> Result<Rotation> {
        let angles = positions.f_to_kind(Kind::Float)?.f_view([-1, 1, 1])?.f_mul(&self.frequencies)?;
        let (cos, sin) = (angles.f_cos()?, angles.f_sin()?);
        if self.magnitude == 1.0 {
            return Ok(Rotation { cos, sin });
        }
        Ok(Rotation { cos: cos.f_mul_scalar(self.magnitude)?, sin: sin.f_mul_scalar(self.magnitude)? })
    }
}

impl Rotation {
    /// Cosines and sines, float32 `[T, 1, size / 2]`.
    pub fn angles(&self) -> (&Tensor, &Tensor) {
        (&self.cos, &self.sin)
    }

    /// Turns queries and keys of `qkv` `[T, W]` (query, key, value; see [`Heads::widths`]), in float32 whatever its type.
    pub fn apply(&self, qkv: &Tensor, heads: Heads) -> Result<Tensor> {
        let [query, key, value] = heads.widths();
        let turned = [qkv.size()[0], heads.query + heads.key_value, heads.size];
        let halves = qkv.f_narrow(1, 0, query + key)?.f_view(turned)?.f_to_kind(Kind::Float)?.f_chunk(2, -1)?;
        let (a, b) = (&halves[0], &halves[1]);
        let first = a.f_mul(&self.cos)?.f_sub(&b.f_mul(&self.sin)?)?;
        let second = b.f_mul(&self.cos)?.f_add(&a.f_mul(&self.sin)?)?;
        let turned = Tensor::f_cat(&[first, second], -1)?.f_to_kind(qkv.kind())?;
        let turned = turned.f_view([-1, query + key])?;
        Ok(Tensor::f_cat(&[turned, qkv.f_narrow(1, query + key, value)?], 1)?)
    }
}
