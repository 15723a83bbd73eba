//! What a model's `config.json` says that job creation needs to know.

use std::path::Path;

use serde::Deserialize;

use super::import::unusable;
use crate::domain::error::{Error, Result};
use crate::domain::model::{FAMILIES, Family, ModelFacts};

/// The fields of `config.json` that some family has; each reads its own.
#[derive(Deserialize)]
struct ConfigFile {
    model_type: Option<String>,
    vocab_size: Option<u32>,
    hidden_size: Option<u32>,
    max_position_embeddings: Option<u32>,
    num_hidden_layers: Option<u32>,
    intermediate_size: Option<u32>,
    pad_token_id: Option<u32>,
    dim: Option<u32>,
    n_layers: Option<u32>,
    hidden_dim: Option<u32>,
    image_size: Option<u32>,
    patch_size: Option<u32>,
    hidden_sizes: Option<Vec<u32>>,
    depths: Option<Vec<u32>>,
}

/// Pixels of a side where a model does not care: what image processors make by default.
const USUAL_IMAGE_SIZE: u32 = 224;

/// Reads the family and the facts of the model in `directory`; its parameters are not counted here.
///
/// # Errors
/// The file is missing or malformed, the family is not built, or a field is missing.
pub(super) fn read(directory: &Path) -> Result<(Family, ModelFacts)> {
    let text = std::fs::read(directory.join("config.json"))
        .map_err(|error| unusable(directory, format!("config.json cannot be read: {error}")))?;
    let config: ConfigFile =
        serde_json::from_slice(&text).map_err(|error| unusable(directory, format!("config.json: {error}")))?;
    let word = config.model_type.as_deref().unwrap_or_default();
    let family: Family = word.parse().map_err(|()| {
        let known = FAMILIES.map(Family::as_str).join(", ");
        unusable(directory, format!("config.json has model_type \"{word}\"; supported: {known}"))
    })?;
    let facts = facts(family, &config).map_err(|field| missing(directory, field))?;
    Ok((family, facts))
}

fn missing(directory: &Path, field: &str) -> Error {
    unusable(directory, format!("config.json has no {field}"))
}

/// The facts, or the field that is missing.
fn facts(family: Family, config: &ConfigFile) -> std::result::Result<ModelFacts, &'static str> {
    match family {
        Family::Bert | Family::ModernBert | Family::Roberta | Family::XlmRoberta | Family::Mpnet => {
            let facts = encoder(config)?;
            let positions = config.max_position_embeddings.ok_or("max_position_embeddings")?;
            // RoBERTa counts positions from the one after the padding's, and so does MPNet, whose padding is the second.
            let unused = match family {
                Family::Roberta | Family::XlmRoberta => config.pad_token_id.unwrap_or(1) + 1,
                Family::Mpnet => 2,
                _ => 0,
            };
            Ok(ModelFacts {
                max_positions: positions.saturating_sub(unused),
                vocab_size: config.vocab_size.ok_or("vocab_size")?,
                ..facts
            })
        }
        Family::DistilBert => Ok(ModelFacts {
            hidden_size: config.dim.ok_or("dim")?,
            max_positions: config.max_position_embeddings.ok_or("max_position_embeddings")?,
            layers: config.n_layers.ok_or("n_layers")?,
            intermediate_size: config.hidden_dim.ok_or("hidden_dim")?,
            vocab_size: config.vocab_size.ok_or("vocab_size")?,
            ..ModelFacts::default()
        }),
        Family::Vit | Family::Deit => {
            let facts = encoder(config)?;
            let image_size = config.image_size.ok_or("image_size")?;
            let patches = u64::from(image_size / config.patch_size.ok_or("patch_size")?.max(1));
            let of_token = 8 * u64::from(facts.hidden_size) + 2 * u64::from(facts.intermediate_size);
            let values_per_image = (patches * patches + 1) * u64::from(facts.layers) * of_token;
            Ok(ModelFacts { image_size, values_per_image, ..facts })
        }
        Family::ResNet => {
            let widths = config.hidden_sizes.as_ref().ok_or("hidden_sizes")?;
            let depths = config.depths.as_ref().ok_or("depths")?;
            // Each block keeps what its convolutions, norms and activations give: about five times its output.
            let kept = widths.iter().zip(depths).enumerate().map(|(stage, (&width, &depth))| {
                let side = u64::from(USUAL_IMAGE_SIZE / 4) >> stage.min(16);
                5 * side * side * u64::from(width) * u64::from(depth)
            });
            Ok(ModelFacts {
                hidden_size: *widths.last().ok_or("hidden_sizes")?,
                layers: depths.len() as u32,
                image_size: USUAL_IMAGE_SIZE,
                values_per_image: kept.sum(),
                ..ModelFacts::default()
            })
        }
    }
}

fn encoder(config: &ConfigFile) -> std::result::Result<ModelFacts, &'static str> {
    Ok(ModelFacts {
        hidden_size: config.hidden_size.ok_or("hidden_size")?,
        layers: config.num_hidden_layers.ok_or("num_hidden_layers")?,
        intermediate_size: config.intermediate_size.ok_or("intermediate_size")?,
        ..ModelFacts::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Family, ModelFacts, read};

    fn facts(config: &Value) -> Result<(Family, ModelFacts), String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        read(folder.path()).map_err(|error| error.message)
    }

    #[test]
    fn each_family_has_its_own_words() {
        let roberta = json!({"model_type": "roberta", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2,
            "intermediate_size": 16, "max_position_embeddings": 514, "pad_token_id": 1});
        assert_eq!(facts(&roberta).unwrap().1.max_positions, 512);
        let distil = json!({"model_type": "distilbert", "vocab_size": 9, "dim": 8, "n_layers": 2, "hidden_dim": 16,
            "max_position_embeddings": 512});
        let (family, found) = facts(&distil).unwrap();
        assert_eq!((family, found.hidden_size, found.layers), (Family::DistilBert, 8, 2));
        let vit = json!({"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 16,
            "image_size": 32, "patch_size": 8});
        assert_eq!(facts(&vit).unwrap().1.values_per_image, 17 * 2 * 96);
        let resnet = json!({"model_type": "resnet", "hidden_sizes": [256, 512, 1024, 2048], "depths": [3, 4, 6, 3]});
        let (_, found) = facts(&resnet).unwrap();
        assert_eq!((found.hidden_size, found.layers, found.max_positions), (2048, 4, 0));
    }

    #[test]
    fn what_is_missing_or_not_built_is_named() {
        assert!(
            facts(&json!({"model_type": "t5"})).unwrap_err().contains("model_type \"t5\"; supported: bert, roberta")
        );
        assert!(facts(&json!({"model_type": "vit", "hidden_size": 8})).unwrap_err().contains("no num_hidden_layers"));
        assert!(facts(&json!({"model_type": "resnet"})).unwrap_err().contains("no hidden_sizes"));
    }
}
