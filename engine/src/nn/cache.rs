//! What a decoder keeps of the tokens that it has read.

use tch::Tensor;

use crate::error::{EngineError, Result};

/// Keys and values of one sequence, layer by layer: all that a next token needs of those before it.
#[derive(Default)]
pub struct KvCache {
    /// Each `[K, room, D]`, of which the first `length` places hold something.
    layers: Vec<(Tensor, Tensor)>,
    length: i64,
}

/// Room grows by so many tokens.
const ROOM: i64 = 256;

impl KvCache {
    /// The number of tokens in it.
    pub fn length(&self) -> i64 {
        self.length
    }

    /// Bytes that it holds.
    pub fn bytes(&self) -> usize {
        let of = |tensor: &Tensor| tensor.numel() * tensor.kind().elt_size_in_bytes();
        self.layers.iter().map(|(keys, values)| of(keys) + of(values)).sum()
    }

    /// A copy of its first `tokens`, to go on from there in another way.
    ///
    /// # Errors
    /// libtorch fails.
    pub fn beginning(&self, tokens: i64) -> Result<Self> {
        let copy = |tensor: &Tensor| with_room(tensor, Some(&tensor.f_narrow(1, 0, tokens)?), tokens);
        let layers = self.layers.iter().map(|(keys, values)| Ok((copy(keys)?, copy(values)?)));
        Ok(Self { layers: layers.collect::<Result<_>>()?, length: tokens })
    }

    /// Adds keys and values `[K, T, D]` of tokens that follow to layer number `layer`, and gives all that it has, `[K, L, D]`.
    /// They count once [`advance`](Self::advance) is called.
    pub(crate) fn extend(&mut self, layer: usize, keys: &Tensor, values: &Tensor) -> Result<(Tensor, Tensor)> {
        let tokens = keys.size()[1];
        let needed = self.length + tokens;
        if layer == self.layers.len() {
            self.layers.push((with_room(keys, None, needed)?, with_room(values, None, needed)?));
        }
        let (all_keys, all_values) =
            self.layers.get_mut(layer).ok_or_else(|| EngineError::native("a layer was left out"))?;
        for (all, new) in [(&mut *all_keys, keys), (&mut *all_values, values)] {
            if all.size()[1] < needed {
                *all = with_room(new, Some(&all.f_narrow(1, 0, self.length)?), needed)?;
            }
            all.f_narrow(1, self.length, tokens)?.f_copy_(new)?;
        }
        Ok((all_keys.f_narrow(1, 0, needed)?, all_values.f_narrow(1, 0, needed)?))
    }

    /// Counts tokens that every layer has.
    pub(crate) fn advance(&mut self, tokens: i64) {
        self.length += tokens;
    }
}

/// Room for `needed` tokens and some more, of the shape and type of `like` `[K, .., D]`, with what there is at its beginning.
fn with_room(like: &Tensor, before: Option<&Tensor>, needed: i64) -> Result<Tensor> {
    let [heads, _, size] = like.size()[..] else { return Err(EngineError::native("keys must be [K, T, D]")) };
    let room = (needed + ROOM - 1) / ROOM * ROOM;
    let tensor = Tensor::f_zeros([heads, room, size], (like.kind(), like.device()))?;
    if let Some(before) = before {
        tensor.f_narrow(1, 0, before.size()[1])?.f_copy_(before)?;
    }
    Ok(tensor)
}
