//! Weights of a checkpoint that holds an adapter alone: those of its base model, with what the adapter adds.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tch::{Kind, Tensor};

use super::{Stored, Weights};
use crate::error::{EngineError, Result};
use finetuned::domain::hyperparameters::{Lora, LoraWord, Quantization, TargetModules, lora_scaling};
use finetuned::domain::model::{ADAPTER_CONFIG, ADAPTER_FOLDER, ADAPTER_WEIGHTS, BASE_FOLDER};

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

/// The part of `adapter_config.json` that says how much an adapter counts, and for which layers it is.
#[derive(Deserialize)]
struct Config {
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    fan_in_fan_out: bool,
    #[serde(default)]
    lora_dropout: f64,
    #[serde(default, deserialize_with = "known")]
    target_modules: Option<TargetModules>,
    base_model_name_or_path: Option<String>,
}

/// Whether the weights in `directory` are an adapter's and, in a folder of their own, its base model's.
pub(super) fn is_adapted(directory: &Path) -> bool {
    directory.join(BASE_FOLDER).is_dir() && has_adapter(directory)
}

fn has_adapter(directory: &Path) -> bool {
    directory.join(ADAPTER_FOLDER).join(ADAPTER_WEIGHTS).is_file()
}

/// Where the weights lie that the model in `directory` has, its adapter aside: with those, other models can be opened that
/// have them too ([`Weights::open_upon`]).
pub fn ground_of(directory: &Path) -> PathBuf {
    if is_adapted(directory) { directory.join(BASE_FOLDER) } else { directory.to_owned() }
}

impl Weights {
    /// The weights in `ground`, and upon them the adapter in `directory`, if there is one.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_upon(ground: &Path, directory: &Path, prefix: &str) -> Result<Self> {
        let rename = |_: &BTreeSet<String>, name: &str| name.to_owned();
        if has_adapter(directory) {
            Self::open_adapted(ground, directory, prefix, &rename)
        } else {
            Self::open_any(ground, prefix, &rename)
        }
    }

    /// The weights in `ground` with the adapter in `directory`, as [`open_renamed`](Self::open_renamed) opens them.
    pub(super) fn open_adapted(
        ground: &Path,
        directory: &Path,
        prefix: &str,
        rename: &dyn Fn(&BTreeSet<String>, &str) -> String,
    ) -> Result<Self> {
        let mut base = Self::open_any(ground, prefix, rename)?;
        let folder = directory.join(ADAPTER_FOLDER);
        let (scaling, is_transposed) = described(&folder.join(ADAPTER_CONFIG))?;
        let mut adapter = Self::open_file(&folder.join(ADAPTER_WEIGHTS))?;
        adapter.rename(|name| name.strip_prefix(ADAPTED_PREFIX).unwrap_or(name).to_owned());
        adapter.called(prefix, rename);
        let files = base.files.len();
        base.files.append(&mut adapter.files);
        base.adapter = Some(files);
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

    /// These weights without the adapter that was trained last, whose matrices are tensors of their own, to go on from.
    ///
    /// # Errors
    /// There is none.
    pub fn with_adapter_apart(mut self) -> Result<Self> {
        let Some(last) = self.adapter.filter(|_| !self.deltas.is_empty()) else {
            return Err(EngineError::model("the model has no adapter that could go on"));
        };
        for (matrix, deltas) in &mut self.deltas {
            let module = matrix.strip_suffix(".weight").unwrap_or(matrix);
            if let Some(Delta { a, b, .. }) = deltas.pop_if(|delta| delta.a.file == last) {
                self.stored.insert(format!("{module}.lora_A.weight"), a);
                self.stored.insert(format!("{module}.lora_B.weight"), b);
            }
        }
        self.deltas.retain(|_, deltas| !deltas.is_empty());
        Ok(self)
    }

    /// Whether the tensor called `name` is as it was before the adapter that was trained last.
    pub fn is_of_base(&self, name: &str) -> bool {
        let is_last = |file| Some(file) == self.adapter;
        self.stored.get(name).is_some_and(|stored| !is_last(stored.file))
            && !self.deltas.get(name).into_iter().flatten().any(|delta| is_last(delta.a.file))
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
    let config = read(path)?;
    Ok((lora_scaling(config.r, config.lora_alpha, config.use_rslora), config.fan_in_fan_out))
}

fn read(path: &Path) -> Result<Config> {
    let text = fs::read(path).map_err(EngineError::io(path))?;
    serde_json::from_slice(&text).map_err(|error| EngineError::model(format!("{ADAPTER_CONFIG}: {error}")))
}

/// An adapter that lies upon its base model in a folder, and what that is called.
pub struct Upon {
    /// None where its layers are chosen in a way that is not built.
    pub lora: Option<Lora>,
    pub base: Option<String>,
}

/// The adapter of the model in `directory`; None where its weights are its own.
///
/// # Errors
/// What describes it cannot be read.
pub fn adapter_upon(directory: &Path) -> Result<Option<Upon>> {
    if is_adapted(directory) { adapter_in(directory) } else { Ok(None) }
}

/// The adapter in `directory`, wherever its base model is; None where there is none.
///
/// # Errors
/// What describes it cannot be read.
pub fn adapter_in(directory: &Path) -> Result<Option<Upon>> {
    if !has_adapter(directory) {
        return Ok(None);
    }
    let config = read(&directory.join(ADAPTER_FOLDER).join(ADAPTER_CONFIG))?;
    let lora = config.target_modules.map(|target_modules| Lora {
        kind: LoraWord::Lora,
        r: config.r,
        alpha: config.lora_alpha,
        dropout: config.lora_dropout,
        target_modules: Some(target_modules),
        rslora: config.use_rslora,
        quantization: Quantization::None,
        continued: false,
    });
    Ok(Some(Upon { lora, base: config.base_model_name_or_path }))
}

/// Modules by their names, or all; None of a pattern.
fn known<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Option<TargetModules>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}
