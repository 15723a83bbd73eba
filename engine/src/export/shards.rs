//! The weights of a model directory: one file, or shards with an index.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::files::write_json;
use crate::error::Result;
use crate::weights::{Described, Tensors, write_listed};

/// Bytes of one file of a model, as Transformers' `save_pretrained` shares them out.
pub const SHARD_BYTES: u64 = 5_000_000_000;

/// Writes a model into `directory` as `model.safetensors`, or, where that had more than `most` bytes, as shards with an
/// index, as Transformers does.
///
/// # Errors
/// A tensor cannot be made, or a file cannot be written.
pub fn write_model(directory: &Path, tensors: &impl Tensors, most: u64) -> Result<()> {
    let mut shards: Vec<(u64, Vec<Described>)> = vec![(0, Vec::new())];
    for described in tensors.list() {
        let bytes = described.bytes();
        match shards.last_mut() {
            Some((used, shard)) if shard.is_empty() || *used + bytes <= most => {
                *used += bytes;
                shard.push(described);
            }
            _ => shards.push((bytes, vec![described])),
        }
    }
    let (count, total) = (shards.len(), shards.iter().map(|(bytes, _)| bytes).sum::<u64>());
    let mut places = BTreeMap::new();
    for (number, (_, shard)) in shards.into_iter().enumerate() {
        let file = match count {
            1 => "model.safetensors".to_owned(),
            _ => format!("model-{:05}-of-{count:05}.safetensors", number + 1),
        };
        places.extend(shard.iter().map(|described| (described.name.clone(), file.clone())));
        write_listed(&directory.join(file), tensors, shard)?;
    }
    if count > 1 {
        let index = json!({"metadata": {"total_size": total}, "weight_map": places});
        write_json(&directory.join("model.safetensors.index.json"), &index)?;
    }
    Ok(())
}
