//! Weights of a checkpoint that holds an adapter alone: those of its base model, with what the adapter adds.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde::Deserialize;
use tch::{Kind, Tensor};

use super::{Stored, Weights};
use crate::error::{EngineError, Result};
use finetuned::domain::hyperparameters::lora_scaling;
use finetuned::domain::model::{ADAPTER_CONFIG, ADAPTER_FOLDER, BASE_FOLDER};

/// PEFT's name for the weights of an adapter.
pub const ADAPTER_WEIGHTS: &str = "adapter_model.safetensors";
/// What PEFT puts before the names of the model that is adapted.
pub const ADAPTED_PREFIX: &str = "base_model.model.";

/// What an adapter adds to a matrix: `scaling · B A` (Hu et al. 2021, arXiv:2106.09685).
#[derive(Clone)]
pub(super) struct Delta {
    /// `[r, in]`.
    a: Stored,
    /// `[out, r]`.
    b: Stored,
    scaling: f64,
    /// Whether the matrix is `[in, out]`.
    is_transposed: bool,
}

/// The part of `adapter_config.json` that says how much an adapter counts.
#[derive(Deserialize)]
struct Config {
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
}

/// Whether the weights in `directory` are an adapter's and, in a folder of their own, its base model's.
pub(super) fn is_adapted(directory: &Path) -> bool {
    directory.join(BASE_FOLDER).is_dir() && directory.join(ADAPTER_FOLDER).join(ADAPTER_WEIGHTS).is_file()
}

impl Weights {
    /// The weights in `directory`, as [`open_renamed`](Self::open_renamed) opens them.
    pub(super) fn open_adapted(
        directory: &Path,
        prefix: &str,
        rename: &dyn Fn(&BTreeSet<String>, &str) -> String,
    ) -> Result<Self> {
        let mut base = Self::open_any(&directory.join(BASE_FOLDER), prefix, rename)?;
        let folder = directory.join(ADAPTER_FOLDER);
        let (scaling, is_transposed) = described(&folder.join(ADAPTER_CONFIG))?;
        let mut adapter = Self::open_file(&folder.join(ADAPTER_WEIGHTS))?;
        adapter.rename(|name| name.strip_prefix(ADAPTED_PREFIX).unwrap_or(name).to_owned());
        adapter.called(prefix, rename);
        let files = base.files.len();
        base.files.append(&mut adapter.files);
        let place = |stored: &Stored| Stored { file: stored.file + files, is_added: true, ..stored.clone() };
        for (name, stored) in &adapter.stored {
            if let Some(module) = name.strip_suffix(".lora_A.weight") {
                let b = adapter.find(&format!("{module}.lora_B.weight"))?;
                let matrix = format!("{module}.weight");
                base.find(&matrix)?;
                base.deltas.entry(matrix).or_default().push(Delta {
                    a: place(stored),
                    b: place(b),
                    scaling,
                    is_transposed,
                });
            } else if !name.ends_with(".lora_B.weight") {
                base.deltas.remove(name);
                base.stored.insert(name.clone(), place(stored));
            }
        }
        Ok(base)
    }

    /// Adds to the tensor called `name` what adapters add to it.
    pub(super) fn adapted(&self, name: &str, mut tensor: Tensor) -> Result<Tensor> {
        for Delta { a, b, scaling, is_transposed } in self.deltas.get(name).into_iter().flatten() {
            let product =
                self.read(name, b, Kind::Float)?.f_matmul(&self.read(name, a, Kind::Float)?)?.f_mul_scalar(*scaling)?;
            tensor = tensor.f_add(&if *is_transposed { product.f_transpose(0, 1)? } else { product })?;
        }
        Ok(tensor)
    }
}

/// How much an adapter counts, and whether the matrices that it is for are transposed.
fn described(path: &Path) -> Result<(f64, bool)> {
    let text = fs::read(path).map_err(EngineError::io(path))?;
    let config: Config =
        serde_json::from_slice(&text).map_err(|error| EngineError::model(format!("{ADAPTER_CONFIG}: {error}")))?;
    Ok((lora_scaling(config.r, config.lora_alpha, config.use_rslora), config.fan_in_fan_out))
}
