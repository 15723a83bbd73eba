//! Adapters in PEFT's layout, as `PeftModel.from_pretrained` reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tch::Tensor;

use super::files::write_json;
use crate::error::{EngineError, Result};
use crate::policy::{Policy, Targets};
use crate::weights::{self, ADAPTED_PREFIX};
use finetuned::domain::model::{ADAPTER_CONFIG, ADAPTER_FOLDER, ADAPTER_WEIGHTS};

/// What an adapter's folder holds besides its weights.
#[derive(Clone)]
pub struct AdapterFiles {
    /// `adapter_config.json`.
    config: Value,
    /// The name of a module in Transformers for the one that it has in files, where those differ.
    module_name: Option<fn(&str) -> String>,
}

impl AdapterFiles {
    /// For the adapters that `policy` asks for, if it does; `task` is PEFT's `task_type`.
    pub fn new(policy: &Policy, base_model: &str, task: Option<&str>) -> Option<Self> {
        let lora = policy.lora()?;
        let config = json!({
            "peft_type": "LORA",
            "task_type": task,
            "base_model_name_or_path": base_model,
            "r": lora.r,
            "lora_alpha": lora.alpha,
            "lora_dropout": lora.dropout,
            "use_rslora": lora.rslora,
            "target_modules": match policy.targets() {
                Targets::Named(names) => json!(names),
                // Named once it is known which there are.
                Targets::AllLinear => Value::Null,
            },
            "bias": "none",
            "fan_in_fan_out": policy.is_transposed(),
            "inference_mode": true,
            "init_lora_weights": true,
        });
        Some(Self { config, module_name: None })
    }

    /// For a family whose modules Transformers calls otherwise than its files do: PEFT goes by the modules.
    #[must_use]
    pub fn with_module_names(self, module_name: Option<fn(&str) -> String>) -> Self {
        Self { module_name, ..self }
    }

    /// Writes the adapter into its folder below `directory`; `adapted` also has the head that was trained with it.
    pub(super) fn write(&self, directory: &Path, adapted: &BTreeMap<String, Tensor>) -> Result<()> {
        let folder = directory.join(ADAPTER_FOLDER);
        fs::create_dir_all(&folder).map_err(EngineError::io(&folder))?;
        let heads: BTreeSet<&str> =
            adapted.keys().filter(|name| !name.contains(".lora_")).filter_map(|name| name.split('.').next()).collect();
        let mut config = self.config.clone();
        config["modules_to_save"] = if heads.is_empty() { Value::Null } else { json!(heads) };
        let name = |name: &str| self.module_name.map_or_else(|| name.to_owned(), |rename| rename(name));
        if self.module_name.is_some() {
            let modules: BTreeSet<String> = adapted.keys().filter_map(|key| below_layer(&name(key))).collect();
            config["target_modules"] = json!(modules);
        } else if config["target_modules"].is_null() {
            let modules: BTreeSet<&str> = adapted.keys().filter_map(|key| last_part(key)).collect();
            config["target_modules"] = json!(modules);
        }
        write_json(&folder.join(ADAPTER_CONFIG), &config)?;
        let named =
            adapted.iter().map(|(key, tensor)| (format!("{ADAPTED_PREFIX}{}", name(key)), tensor.shallow_clone()));
        weights::write(&folder.join(ADAPTER_WEIGHTS), &named.collect::<BTreeMap<_, _>>())
    }
}

/// The name of an adapted module within its layer, which is the same in all layers: `attention.q_proj`.
fn below_layer(name: &str) -> Option<String> {
    let (module, _) = name.split_once(".lora_")?;
    let mut parts = module.split('.').skip_while(|part| part.parse::<u32>().is_err());
    parts.next()?;
    Some(parts.collect::<Vec<_>>().join("."))
}

/// The last part of an adapted module's name: `q_proj`.
fn last_part(name: &str) -> Option<&str> {
    name.split_once(".lora_")?.0.rsplit('.').next()
}

#[cfg(test)]
mod tests {
    use super::{below_layer, last_part};

    #[test]
    fn modules_go_by_their_names_within_a_layer() {
        let name = "vit.layers.11.attention.q_proj.lora_A.weight";
        assert_eq!(below_layer(name).as_deref(), Some("attention.q_proj"));
        assert_eq!((below_layer("classifier.weight"), last_part("classifier.weight")), (None, None));
        assert_eq!(last_part(name), Some("q_proj"));
    }
}
