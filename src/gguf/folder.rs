//! Model folders of Hugging Face: their JSON files, and their weights without a copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;

use memmap2::Mmap;
use safetensors::SafeTensors;
use safetensors::tensor::Dtype;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::types::TensorType;

/// `model.safetensors.index.json`: which shard holds which tensor.
#[derive(Deserialize)]
struct ShardIndex {
    weight_map: BTreeMap<String, String>,
}

/// The tensors of a folder.
pub(super) struct Weights {
    files: Vec<Mmap>,
    tensors: BTreeMap<String, Place>,
}

/// Where a tensor lies.
struct Place {
    file: usize,
    start: usize,
    end: usize,
    dtype: Dtype,
    shape: Vec<u64>,
}

/// A tensor of a folder, its values row by row.
pub(super) struct Weight<'a> {
    /// Sizes, the slowest first.
    pub(super) shape: &'a [u64],
    pub(super) kind: TensorType,
    pub(super) bytes: &'a [u8],
}

/// The content of a JSON file; None if there is no such file.
///
/// # Errors
/// It cannot be read or is something else.
pub(super) fn json<T: DeserializeOwned>(directory: &Path, name: &str) -> Result<Option<T>, String> {
    let Some(text) = text(directory, name)? else { return Ok(None) };
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    serde_json::from_str(text).map(Some).map_err(|error| format!("{name}: {error}"))
}

/// The content of a text file; None if there is no such file.
pub(super) fn text(directory: &Path, name: &str) -> Result<Option<String>, String> {
    match fs::read_to_string(directory.join(name)) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("{name} cannot be read: {error}")),
    }
}

impl Weights {
    /// Opens `model.safetensors`, or the shards that `model.safetensors.index.json` names.
    ///
    /// # Errors
    /// None of them is there, or one is damaged.
    pub(super) fn open(directory: &Path) -> Result<Self, String> {
        let mut weights = Self { files: Vec::new(), tensors: BTreeMap::new() };
        if directory.join("model.safetensors").is_file() {
            weights.add(directory, "model.safetensors")?;
            return Ok(weights);
        }
        let index: Option<ShardIndex> = json(directory, "model.safetensors.index.json")?;
        let index = index.ok_or("the model has neither model.safetensors nor model.safetensors.index.json")?;
        for shard in index.weight_map.into_values().collect::<BTreeSet<_>>() {
            if shard.contains('/') || !shard.ends_with(".safetensors") {
                return Err(format!("model.safetensors.index.json names the shard {shard:?}"));
            }
            weights.add(directory, &shard)?;
        }
        Ok(weights)
    }

    fn add(&mut self, directory: &Path, name: &str) -> Result<(), String> {
        let file = File::open(directory.join(name)).map_err(|error| format!("{name} cannot be read: {error}"))?;
        // SAFETY: files of models are written once, and neither changed nor cut short afterwards.
        let map = unsafe { Mmap::map(&file) }.map_err(|error| format!("{name} cannot be read: {error}"))?;
        let (head, metadata) = SafeTensors::read_metadata(&map).map_err(|error| format!("{name}: {error}"))?;
        let first = size_of::<u64>() + head;
        for (tensor, info) in metadata.tensors() {
            let (start, end) = (first + info.data_offsets.0, first + info.data_offsets.1);
            let shape = info.shape.iter().map(|&size| size as u64).collect();
            let place = Place { file: self.files.len(), start, end, dtype: info.dtype, shape };
            if self.tensors.insert(tensor.clone(), place).is_some() {
                return Err(format!("two files of the model have the tensor {tensor}"));
            }
        }
        self.files.push(map);
        Ok(())
    }

    /// The names of all tensors.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor.
    pub(super) fn shape(&self, name: &str) -> Option<&[u64]> {
        self.tensors.get(name).map(|place| place.shape.as_slice())
    }

    /// A tensor.
    ///
    /// # Errors
    /// It is not there, or is stored in a type that is not exported.
    pub(super) fn get(&self, name: &str) -> Result<Weight<'_>, String> {
        let place = self.tensors.get(name).ok_or_else(|| format!("the model does not have the tensor {name}"))?;
        let kind = match place.dtype {
            Dtype::F32 => TensorType::F32,
            Dtype::F16 => TensorType::F16,
            Dtype::BF16 => TensorType::Bf16,
            other => {
                return Err(format!("the tensor {name} is stored as {other}; F32, F16 and BF16 are exported"));
            }
        };
        let file = self.files.get(place.file).map_or(&[][..], |file| file);
        let bytes = file.get(place.start..place.end).unwrap_or_default();
        Ok(Weight { shape: &place.shape, kind, bytes })
    }
}
