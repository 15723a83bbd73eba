//! Which files of a directory hold a model's weights.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::error::{EngineError, Result};
use finetuned::domain::model::without_mark;

/// `model.safetensors.index.json`: which shard holds which tensor.
#[derive(serde::Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// The files that hold the weights of a model.
///
/// # Errors
/// There are none, or one that the index names is not there.
pub(super) fn weight_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let single = directory.join("model.safetensors");
    if single.is_file() {
        return Ok(vec![single]);
    }
    let index = directory.join("model.safetensors.index.json");
    let text = std::fs::read_to_string(&index)
        .map_err(|_| EngineError::model("the model has no weights in .safetensors files: model.safetensors, or model.safetensors.index.json and what it \
             names. Pickles are never read; Transformers saves without them"))?;
    let index: ShardIndex = serde_json::from_slice(without_mark(text.as_bytes()))
        .map_err(|error| EngineError::model(format!("model.safetensors.index.json: {error}")))?;
    let shards: BTreeSet<String> = index.weight_map.into_values().collect();
    if let Some(gone) = shards.iter().find(|shard| !directory.join(shard).is_file()) {
        let message =
            format!("model.safetensors.index.json names the shard {gone}, which is not there; fetch it again");
        return Err(EngineError::model(message));
    }
    if let Some(odd) = shards.iter().find(|shard| shard.contains('/') || !shard.ends_with(".safetensors")) {
        return Err(EngineError::model(format!("model.safetensors.index.json names the shard {odd:?}")));
    }
    Ok(shards.into_iter().map(|shard| directory.join(shard)).collect())
}
