//! Hyperparameters that are more than a number or a word: adapters, freezing, early stopping.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::domain::metric::{LOSS, Metric};
use crate::domain::told::told;

/// Why a value is refused: the path below the hyperparameter (empty for the value itself), and what is wrong.
pub(super) type Refused = (String, String);

/// The word for "nothing of it".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoneWord {
    None,
}

/// The word for the adapter that the base model has already.
pub(super) const CONTINUE: &str = "continue";

/// Which weights are trained beside those of the base model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Adapter {
    Off(NoneWord),
    Lora(Lora),
}

impl Default for Adapter {
    fn default() -> Self {
        Self::Off(NoneWord::None)
    }
}

impl Adapter {
    /// Low-rank adapters, if asked for.
    pub fn lora(&self) -> Option<&Lora> {
        match self {
            Self::Off(_) => None,
            Self::Lora(lora) => Some(lora),
        }
    }

    /// Whether the adapter that the base model has goes on.
    pub fn is_continued(&self) -> bool {
        self.lora().is_some_and(|lora| lora.continued)
    }

    pub(in crate::domain) fn fields() -> Value {
        fields_of::<Lora>(json!({"type": "lora"}))
    }

    /// Checks a value as a client sent it, who may ask for the base model's own adapter to go on.
    pub(in crate::domain) fn check_or_continue(value: &Value) -> Result<(), Refused> {
        if value == CONTINUE { Ok(()) } else { Self::check(value) }
    }

    /// Checks a value as a client sent it.
    pub(super) fn check(value: &Value) -> Result<(), Refused> {
        if value == "none" {
            return Ok(());
        }
        let lora: Lora = read(value)?;
        if lora.continued {
            return Err((
                "continued".to_owned(),
                format!("is not asked for by itself; write \"{CONTINUE}\" for the whole"),
            ));
        }
        within("r", lora.r, 1..=1024)?;
        above_zero("alpha", lora.alpha, 65_536.0)?;
        below_one("dropout", lora.dropout)?;
        match &lora.target_modules {
            Some(TargetModules::Named(modules))
                if modules.is_empty() || modules.iter().any(|name| name.trim().is_empty()) =>
            {
                Err(("target_modules".to_owned(), "must name at least one module".to_owned()))
            }
            _ => Ok(()),
        }
    }
}

/// LoRA (Hu et al. 2021, arXiv:2106.09685) as PEFT has it: `W x + scaling · B A dropout(x)`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lora {
    #[serde(rename = "type")]
    pub kind: LoraWord,
    /// The rank.
    #[serde(default = "eight")]
    pub r: u32,
    /// `scaling` is alpha / r, or alpha / √r with `rslora`.
    #[serde(default = "sixteen")]
    pub alpha: f64,
    #[serde(default)]
    pub dropout: f64,
    /// The linear layers that get an adapter; none means query and value of encoders, and all of decoders.
    #[serde(default)]
    pub target_modules: Option<TargetModules>,
    /// Rank-stabilised scaling (Kalajdzievski 2023, arXiv:2312.03732).
    #[serde(default)]
    pub rslora: bool,
    /// How the weights are kept that it stands beside.
    #[serde(default, skip_serializing_if = "Quantization::is_none")]
    pub quantization: Quantization,
    /// Whether it starts as the one that the base model has, and takes its place.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub continued: bool,
}

/// How frozen weights with adapters are kept while the adapters are trained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantization {
    /// In the compute type.
    #[default]
    None,
    /// In 4-bit `NormalFloat` with scales that are quantised again: `QLoRA` (Dettmers et al. 2023, arXiv:2305.14314).
    Nf4,
}

impl Quantization {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde calls")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Which layers get an adapter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    All(AllLinear),
    /// By the last parts of their names.
    Named(Vec<String>),
}

/// PEFT's word for all linear layers but the one that guesses words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllLinear {
    AllLinear,
}

/// The one kind of adapter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LoraWord {
    Lora,
}

fn eight() -> u32 {
    8
}
fn sixteen() -> f64 {
    16.0
}

impl Lora {
    /// Adapters of all linear layers, as language models are usually tuned.
    pub fn of_all_layers() -> Self {
        let target_modules = Some(TargetModules::All(AllLinear::AllLinear));
        Self {
            kind: LoraWord::Lora,
            r: 16,
            alpha: 32.0,
            dropout: 0.0,
            target_modules,
            rslora: false,
            quantization: Quantization::None,
            continued: false,
        }
    }

    /// What the product of the two matrices is multiplied by.
    pub fn scaling(&self) -> f64 {
        lora_scaling(self.r, self.alpha, self.rslora)
    }
}

/// What the product of an adapter's two matrices is multiplied by.
pub fn lora_scaling(r: u32, alpha: f64, rslora: bool) -> f64 {
    let r = f64::from(r);
    alpha / if rslora { r.sqrt() } else { r }
}

/// What stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Freeze {
    Off(NoneWord),
    Backbone(BackboneWord),
    Layers(FrozenLayers),
}

/// Everything but the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackboneWord {
    Backbone,
}

/// The embeddings and so many layers above them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrozenLayers {
    pub layers: u32,
}

impl Default for Freeze {
    fn default() -> Self {
        Self::Off(NoneWord::None)
    }
}

impl Freeze {
    /// Whether the head alone is trained.
    pub fn is_backbone(self) -> bool {
        matches!(self, Self::Backbone(_))
    }

    pub(super) fn fields() -> Value {
        json!({})
    }

    pub(super) fn check(value: &Value) -> Result<(), Refused> {
        if value == "none" || value == "backbone" {
            return Ok(());
        }
        let frozen: FrozenLayers = read(value)?;
        within("layers", frozen.layers, 1..=1000)
    }
}

/// When to stop before the last epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum EarlyStopping {
    Off(NoneWord),
    On(Patience),
}

/// Stops once `metric` has not improved by more than `min_delta` for `patience` evaluations in a row; the model is then
/// the one of the best evaluation (Transformers' `EarlyStoppingCallback` with `load_best_model_at_end`).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Patience {
    /// A metric of the validation data without its prefix: `loss`, `accuracy`, …
    #[serde(default = "by_loss")]
    pub metric: Metric,
    #[serde(default = "three")]
    pub patience: u32,
    #[serde(default)]
    pub min_delta: f64,
}

fn by_loss() -> Metric {
    LOSS
}
fn three() -> u32 {
    3
}

impl Default for EarlyStopping {
    fn default() -> Self {
        Self::Off(NoneWord::None)
    }
}

impl EarlyStopping {
    /// The rule, if there is one.
    pub fn patience(&self) -> Option<&Patience> {
        match self {
            Self::Off(_) => None,
            Self::On(patience) => Some(patience),
        }
    }

    pub(super) fn fields() -> Value {
        fields_of::<Patience>(json!({}))
    }

    pub(super) fn check(value: &Value) -> Result<(), Refused> {
        if value == "none" {
            return Ok(());
        }
        let rule: Patience = read(value)?;
        within("patience", rule.patience, 1..=1000)?;
        if rule.min_delta.is_finite() && rule.min_delta >= 0.0 {
            Ok(())
        } else {
            Err(("min_delta".to_owned(), "must be a number from 0".to_owned()))
        }
    }
}

/// All fields that an object of type `T` has where only those in `given` are set.
fn fields_of<T: DeserializeOwned + Serialize>(given: Value) -> Value {
    serde_json::from_value::<T>(given).and_then(serde_json::to_value).unwrap_or_default()
}

pub(super) fn read<T: DeserializeOwned>(value: &Value) -> Result<T, Refused> {
    if !value.is_object() {
        return Err((String::new(), "is neither one of its words nor an object".to_owned()));
    }
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        (if path == "." { String::new() } else { path }, told(&error.into_inner().to_string()))
    })
}

fn within(name: &str, value: u32, allowed: std::ops::RangeInclusive<u32>) -> Result<(), Refused> {
    if allowed.contains(&value) {
        return Ok(());
    }
    Err((name.to_owned(), format!("must be an integer from {} to {}", allowed.start(), allowed.end())))
}

fn above_zero(name: &str, value: f64, most: f64) -> Result<(), Refused> {
    if value > 0.0 && value <= most {
        return Ok(());
    }
    Err((name.to_owned(), format!("must be a number above 0 and up to {most}")))
}

fn below_one(name: &str, value: f64) -> Result<(), Refused> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err((name.to_owned(), "must be a number from 0 and below 1".to_owned()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{Adapter, EarlyStopping, Freeze, LOSS};

    #[test]
    fn objects_have_defaults_and_words_mean_nothing_of_it() {
        let adapter: Adapter = serde_json::from_value(json!({"type": "lora", "r": 4})).unwrap();
        let lora = adapter.lora().unwrap();
        assert_eq!((lora.r, lora.alpha, lora.dropout, lora.scaling()), (4, 16.0, 0.0, 4.0));
        assert_eq!(serde_json::from_value::<Adapter>(json!("none")).unwrap(), Adapter::default());
        assert!(serde_json::from_value::<Freeze>(json!("backbone")).unwrap().is_backbone());
        assert_eq!(serde_json::to_value(Freeze::default()).unwrap(), json!("none"));
        let rule: EarlyStopping = serde_json::from_value(json!({})).unwrap();
        assert_eq!(rule.patience().unwrap().metric, LOSS);
    }

    #[test]
    fn what_is_wrong_is_named_by_its_path() {
        for (checked, path, hint) in [
            (Adapter::check(&json!("lora")), "", "neither"),
            (Adapter::check(&json!({"r": 4})), "", "type"),
            (Adapter::check(&json!({"type": "dora"})), "type", "dora"),
            (Adapter::check(&json!({"type": "lora", "r": 0})), "r", "1 to 1024"),
            (Adapter::check(&json!({"type": "lora", "alpha": -1})), "alpha", "above 0"),
            (Adapter::check(&json!({"type": "lora", "dropout": 1})), "dropout", "below 1"),
            (Adapter::check(&json!({"type": "lora", "target_modules": []})), "target_modules", "at least one"),
            (Adapter::check(&json!({"type": "lora", "rank": 4})), "rank", "unknown field"),
            (Freeze::check(&json!({"layers": 0})), "layers", "1 to 1000"),
            (Freeze::check(&json!(true)), "", "neither"),
            (EarlyStopping::check(&json!({"metric": "bleu"})), "metric", "accuracy"),
            (EarlyStopping::check(&json!({"patience": 0})), "patience", "1 to 1000"),
            (EarlyStopping::check(&json!({"min_delta": -1})), "min_delta", "from 0"),
        ] {
            let (at, message) = checked.unwrap_err();
            assert_eq!(at, path);
            assert!(message.contains(hint), "{message}");
        }
        assert!(Adapter::check(&json!({"type": "lora"})).is_ok() && Freeze::check(&json!({"layers": 2})).is_ok());
    }
}
