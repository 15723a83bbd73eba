//! What a model's `config.json` says that job creation needs to know.

use std::ops::RangeInclusive;
use std::path::Path;

use serde_json::{Map, Value};

use super::facts::MAX_CONFIG;
use super::folder::read_small;
use crate::domain::error::{Error, Result};
use crate::domain::model::{FAMILIES, Family, ModelFacts};

/// The numbers that are allowed: beyond any model that is built, and small enough for every product of them.
const WIDTH: RangeInclusive<u32> = 1..=65_536;
const INNER_WIDTH: RangeInclusive<u32> = 1..=262_144;
const LAYERS: RangeInclusive<u32> = 1..=1_000;
const POSITIONS: RangeInclusive<u32> = 8..=1_048_576;
const WORDS: RangeInclusive<u32> = 1..=4_194_304;
const PIXELS: RangeInclusive<u32> = 1..=4_096;
const STAGES: RangeInclusive<usize> = 1..=16;

/// Pixels of a side where a model does not care: what image processors make by default.
const USUAL_IMAGE_SIZE: u32 = 224;

/// The fields of `config.json`; each family reads its own. An error says which field is wrong, and what is allowed.
struct Fields(Map<String, Value>);

type Read<T> = std::result::Result<T, String>;

impl Fields {
    /// A whole number within `allowed`.
    fn number(&self, name: &str, allowed: RangeInclusive<u32>) -> Read<u32> {
        self.optional(name, allowed)?.ok_or_else(|| format!("config.json has no {name}"))
    }

    fn optional(&self, name: &str, allowed: RangeInclusive<u32>) -> Read<Option<u32>> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => within(value, &allowed).map(Some).ok_or_else(|| refused(name, value, &allowed)),
        }
    }

    /// One number for each stage.
    fn numbers(&self, name: &str, allowed: RangeInclusive<u32>) -> Read<Vec<u32>> {
        let value = self.0.get(name).ok_or_else(|| format!("config.json has no {name}"))?;
        let items = value.as_array().filter(|items| STAGES.contains(&items.len()));
        let items = items.ok_or_else(|| {
            format!("config.json has {name} that is no list of {} to {} numbers", STAGES.start(), STAGES.end())
        })?;
        items.iter().map(|item| within(item, &allowed).ok_or_else(|| refused(name, item, &allowed))).collect()
    }
}

fn within(value: &Value, allowed: &RangeInclusive<u32>) -> Option<u32> {
    value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|number| allowed.contains(number))
}

fn refused(name: &str, value: &Value, allowed: &RangeInclusive<u32>) -> String {
    const SHOWN: usize = 40;
    let given: String = value.to_string().chars().take(SHOWN).collect();
    format!("config.json has {name} {given}; a whole number from {} to {} is allowed", allowed.start(), allowed.end())
}

/// Reads the family and the facts of the model in `directory` from its `config.json` at `path`; its parameters are not
/// counted here.
///
/// # Errors
/// The file cannot be read or is malformed, the family is not built, or a field is missing or not within its bounds.
pub(super) fn read(directory: &Path, path: &Path) -> Result<(Family, ModelFacts)> {
    let text = read_small(path, MAX_CONFIG)
        .map_err(|error| unusable(directory, format!("config.json cannot be read: {error}")))?;
    let fields: Map<String, Value> =
        serde_json::from_slice(&text).map_err(|error| unusable(directory, format!("config.json: {error}")))?;
    let word = fields.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let family: Family = word.parse().map_err(|()| {
        let known = FAMILIES.map(Family::as_str).join(", ");
        unusable(directory, format!("config.json has model_type \"{word}\"; supported: {known}"))
    })?;
    let facts = facts(family, &Fields(fields)).map_err(|why| unusable(directory, why))?;
    Ok((family, facts))
}

/// The facts, or what is wrong.
fn facts(family: Family, config: &Fields) -> Read<ModelFacts> {
    match family {
        Family::Bert | Family::ModernBert | Family::Roberta | Family::XlmRoberta | Family::Mpnet => {
            let facts = encoder(config)?;
            let positions = config.number("max_position_embeddings", POSITIONS)?;
            let vocab_size = config.number("vocab_size", WORDS)?;
            // RoBERTa counts positions from the one after the padding's, and so does MPNet, whose padding is the second.
            let unused = match family {
                Family::Roberta | Family::XlmRoberta => {
                    config.optional("pad_token_id", 0..=positions - POSITIONS.start())?.unwrap_or(1) + 1
                }
                Family::Mpnet => 2,
                _ => 0,
            };
            Ok(ModelFacts { max_positions: positions.saturating_sub(unused), vocab_size, ..facts })
        }
        Family::DistilBert => {
            let facts = ModelFacts {
                hidden_size: config.number("dim", WIDTH)?,
                max_positions: config.number("max_position_embeddings", POSITIONS)?,
                layers: config.number("n_layers", LAYERS)?,
                intermediate_size: config.number("hidden_dim", INNER_WIDTH)?,
                vocab_size: config.number("vocab_size", WORDS)?,
                ..ModelFacts::default()
            };
            check_heads(config, "n_heads", "dim", facts.hidden_size)?;
            Ok(facts)
        }
        Family::Vit | Family::Deit => {
            let facts = encoder(config)?;
            let image_size = config.number("image_size", PIXELS)?;
            let patches = u64::from(image_size / config.number("patch_size", 1..=image_size)?);
            let of_token = 8 * u64::from(facts.hidden_size) + 2 * u64::from(facts.intermediate_size);
            let values_per_image = (patches * patches + 1) * u64::from(facts.layers) * of_token;
            Ok(ModelFacts { image_size, values_per_image, ..facts })
        }
        Family::ResNet => {
            let widths = config.numbers("hidden_sizes", WIDTH)?;
            let depths = config.numbers("depths", LAYERS)?;
            if widths.len() != depths.len() {
                let (stages, given) = (widths.len(), depths.len());
                return Err(format!("config.json has {given} depths for {stages} hidden_sizes"));
            }
            // Each block keeps what its convolutions, norms and activations give: about five times its output.
            let kept = widths.iter().zip(&depths).enumerate().map(|(stage, (&width, &depth))| {
                let side = u64::from(USUAL_IMAGE_SIZE / 4) >> stage;
                5 * side * side * u64::from(width) * u64::from(depth)
            });
            Ok(ModelFacts {
                values_per_image: kept.sum(),
                hidden_size: widths[widths.len() - 1],
                layers: depths.len() as u32,
                image_size: USUAL_IMAGE_SIZE,
                ..ModelFacts::default()
            })
        }
    }
}

fn encoder(config: &Fields) -> Read<ModelFacts> {
    let facts = ModelFacts {
        hidden_size: config.number("hidden_size", WIDTH)?,
        layers: config.number("num_hidden_layers", LAYERS)?,
        intermediate_size: config.number("intermediate_size", INNER_WIDTH)?,
        ..ModelFacts::default()
    };
    check_heads(config, "num_attention_heads", "hidden_size", facts.hidden_size)?;
    Ok(facts)
}

/// Attention shares the width out among its heads.
fn check_heads(config: &Fields, name: &str, width_name: &str, width: u32) -> Read<()> {
    let heads = config.number(name, WIDTH)?;
    if width.is_multiple_of(heads) {
        return Ok(());
    }
    Err(format!("config.json has {name} {heads}, which is no divisor of its {width_name} {width}"))
}

pub(super) fn unusable(directory: &Path, why: impl std::fmt::Display) -> Error {
    Error::invalid("directory", format!("{} is no usable model: {why}", directory.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, Value, json};

    use super::{FAMILIES, Family, ModelFacts, read};
    use crate::domain::estimate::{self, Device};
    use crate::domain::hyperparameters::{DataFacts, Requested, Subject, resolve};
    use crate::domain::method::{METHODS, ProblemType};
    use crate::domain::report::{Contents, DataReport, Lengths};

    fn facts(config: &Value) -> Result<(Family, ModelFacts), String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        read(folder.path(), &path).map_err(|error| error.message)
    }

    #[test]
    fn each_family_has_its_own_words() {
        let roberta = json!({"model_type": "roberta", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2,
            "num_attention_heads": 2, "intermediate_size": 16, "max_position_embeddings": 514, "pad_token_id": 1});
        assert_eq!(facts(&roberta).unwrap().1.max_positions, 512);
        let distil = json!({"model_type": "distilbert", "vocab_size": 9, "dim": 8, "n_layers": 2, "hidden_dim": 16,
            "n_heads": 2, "max_position_embeddings": 512});
        let (family, found) = facts(&distil).unwrap();
        assert_eq!((family, found.hidden_size, found.layers), (Family::DistilBert, 8, 2));
        let vit = json!({"model_type": "vit", "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 16,
            "num_attention_heads": 2, "image_size": 32, "patch_size": 8});
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

    #[test]
    fn heads_share_the_width() {
        for family in FAMILIES.into_iter().filter(|family| *family != Family::ResNet) {
            let of_distilbert = family == Family::DistilBert;
            let (name, width) = if of_distilbert { ("n_heads", "dim") } else { ("num_attention_heads", "hidden_size") };
            for (heads, told) in [
                (json!(3), format!("config.json has {name} 3, which is no divisor of its {width} 8")),
                (json!(0), format!("config.json has {name} 0; a whole number")),
                (json!(null), format!("config.json has no {name}")),
            ] {
                let mut config = whole(family);
                config[name] = heads;
                let error = facts(&config).unwrap_err();
                assert!(error.contains(&told), "{family}: {error}");
            }
        }
    }

    #[test]
    fn a_config_of_more_than_a_mebibyte_is_not_read() {
        let mut config = whole(Family::Bert);
        config["note"] = json!(" ".repeat(1 << 20));
        assert!(facts(&config).unwrap_err().contains("config.json cannot be read: it has more than 1048576 bytes"));
    }

    /// A config that is whole, whatever the family.
    fn whole(family: Family) -> Value {
        json!({"model_type": family.as_str(), "vocab_size": 99, "hidden_size": 8, "num_hidden_layers": 2,
            "intermediate_size": 16, "max_position_embeddings": 64, "pad_token_id": 1, "dim": 8, "n_layers": 2,
            "hidden_dim": 16, "image_size": 32, "patch_size": 8, "hidden_sizes": [8, 16], "depths": [1, 2],
            "num_attention_heads": 2, "n_heads": 2})
    }

    /// What a run of a model would need, by every method that it has and with the largest values that are taken.
    fn estimate_all(family: Family, facts: &ModelFacts) {
        let mut data = DataReport::default();
        data.training.examples = 1 << 32;
        let mut text_lengths = Lengths::default();
        text_lengths.add(1 << 20, 1);
        data.training.contents = Contents::Texts { text_lengths };
        data.test = Some(data.training.clone());
        for method in METHODS.into_iter().filter(|method| method.supports(family)) {
            for values in [json!({}), json!({"n_epochs": 50, "batch_size": 256, "keep_checkpoints": 100})] {
                let Value::Object(values) = values else { unreachable!() };
                let requested = Requested::parse(method, values, "h").unwrap();
                let subject = Subject { method, family, facts };
                let known = DataFacts { training_examples: 9000, problem: ProblemType::default() };
                let Ok(h) = resolve(&requested, subject, known, "h") else { continue };
                for device in [Device { is_gpu: false, has_bf16: false }, Device { is_gpu: true, has_bf16: true }] {
                    for labels in [0, 10_000] {
                        let run = estimate::estimate(facts, &h, &data, labels, device);
                        assert!(run.disk_bytes >= facts.parameters.min(1 << 48), "{facts:?}");
                        estimate::evaluation(facts, &h, &data, method, labels, device);
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_of_any_size_are_refused_by_name_or_can_be_reckoned_with() {
        let extremes = [
            json!(0),
            json!(1),
            json!(-1),
            json!(7),
            json!(1000),
            json!(4096),
            json!(65_536),
            json!(262_144),
            json!(1_048_576),
            json!(4_194_304),
            json!(u32::MAX),
            json!(u64::MAX),
            json!(1e300),
            json!(1.5),
            json!("8"),
            json!(true),
            json!([8]),
            json!({}),
        ];
        let (mut taken, mut refused) = (0, 0);
        for family in FAMILIES {
            let Value::Object(base) = whole(family) else { unreachable!() };
            assert!(facts(&whole(family)).is_ok(), "{family}");
            for name in base.keys().filter(|name| *name != "model_type") {
                for value in &extremes {
                    let is_list = base[name].is_array();
                    let value = if is_list { json!([value, value]) } else { value.clone() };
                    let config: Map<String, Value> =
                        base.clone().into_iter().chain([(name.clone(), value.clone())]).collect();
                    match facts(&Value::Object(config)) {
                        Ok((family, found)) => {
                            taken += 1;
                            estimate_all(family, &ModelFacts { parameters: 1 << 40, ..found });
                        }
                        Err(message) => {
                            refused += 1;
                            let named = message.contains(&format!("config.json has {name} "));
                            let of_another = ["has patch_size 8;", "heads 2, which is no divisor of its"];
                            let named = named || of_another.iter().any(|told| message.contains(told));
                            assert!(named, "{name} {value}: {message}");
                            assert!(message.len() < 400, "{message}");
                        }
                    }
                }
            }
        }
        assert!(taken > 100 && refused > 100, "{taken} {refused}");
        // All at their largest.
        let largest = json!({"vocab_size": 4_194_304, "hidden_size": 65_536, "num_hidden_layers": 1000,
            "intermediate_size": 262_144, "max_position_embeddings": 1_048_576, "dim": 65_536, "n_layers": 1000,
            "hidden_dim": 262_144, "image_size": 4096, "patch_size": 1, "hidden_sizes": vec![65_536; 16],
            "depths": vec![1000; 16]});
        let Value::Object(largest) = largest else { unreachable!() };
        for family in FAMILIES {
            let Value::Object(base) = whole(family) else { unreachable!() };
            let config: Map<String, Value> = base.into_iter().chain(largest.clone()).collect();
            let (family, found) = facts(&Value::Object(config)).unwrap();
            for parameters in [0, 1 << 40, u64::MAX] {
                estimate_all(family, &ModelFacts { parameters, ..found.clone() });
            }
        }
    }

    /// What was imported before there were bounds.
    #[test]
    fn an_estimate_of_any_facts_is_a_number() {
        let most = ModelFacts {
            hidden_size: u32::MAX,
            max_positions: u32::MAX,
            layers: u32::MAX,
            intermediate_size: u32::MAX,
            parameters: u64::MAX,
            vocab_size: u32::MAX,
            image_size: u32::MAX,
            values_per_image: u64::MAX,
        };
        for family in FAMILIES {
            estimate_all(family, &most);
            estimate_all(family, &ModelFacts { image_size: 0, ..most.clone() });
        }
    }
}
