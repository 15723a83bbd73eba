//! What is trained, and how fast: freezing, layer-wise learning rates, adapters. All of it is decided by names.

use crate::error::{EngineError, Result};
use finetuned::domain::hyperparameters::{Freeze, Hyperparameters, Lora, NoneWord, Quantization, TargetModules};

/// Where a parameter stands in the model, from the input up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    Embeddings,
    Layer(u32),
    /// Above the layers, but part of the backbone: a pooler, a last norm.
    Top,
    Head,
}

/// What the names of a model's parameters tell of where they stand.
#[derive(Clone, Copy, Debug, Default)]
pub struct Anatomy {
    /// Name of the backbone, which every parameter of it starts with.
    pub backbone: &'static str,
    /// Names of the tables of embeddings, below the backbone's.
    pub embeddings: &'static [&'static str],
    /// Names of layers above the backbone that are the base model's own, and no new head.
    pub outputs: &'static [&'static str],
    /// Layers of the backbone, whose names have their numbers.
    pub layers: u32,
    /// The last parts of the names of layers that get adapters where nothing else is asked for.
    pub adapted: &'static [&'static str],
    /// Whether these are stored transposed: `[in, out]`, what PEFT calls `fan_in_fan_out`.
    pub is_transposed: bool,
}

/// What is trained of a model.
#[derive(Clone, Debug)]
pub struct Policy {
    anatomy: Anatomy,
    freeze: Freeze,
    rate_decay: f64,
    lora: Option<Lora>,
    targets: Targets,
    /// Whether nothing at all is trained.
    is_idle: bool,
}

/// The layers that get adapters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// All linear ones of the backbone.
    AllLinear,
    /// By the last parts of their names.
    Named(Vec<String>),
}

impl Targets {
    /// Those of an adapter; where it names none, the usual ones of the model.
    fn of(lora: Option<&Lora>, anatomy: &Anatomy) -> Self {
        match lora.and_then(|lora| lora.target_modules.as_ref()) {
            Some(TargetModules::All(_)) => Self::AllLinear,
            Some(TargetModules::Named(names)) => Self::Named(names.clone()),
            None => Self::Named(anatomy.adapted.iter().map(|&name| name.to_owned()).collect()),
        }
    }

    fn has(&self, module: &str) -> bool {
        match self {
            Self::AllLinear => true,
            Self::Named(names) => names.iter().any(|name| ends_with_name(module, name)),
        }
    }
}

/// All parameters, equally fast.
pub static EVERYTHING: Policy = Policy::uniform(false);

/// No parameter: what a model at work needs.
pub static NOTHING: Policy = Policy::uniform(true);

impl Policy {
    const fn uniform(is_idle: bool) -> Self {
        Self {
            anatomy: Anatomy {
                backbone: "",
                embeddings: &[],
                outputs: &[],
                layers: 0,
                adapted: &[],
                is_transposed: false,
            },
            freeze: Freeze::Off(NoneWord::None),
            rate_decay: 1.0,
            lora: None,
            targets: Targets::Named(Vec::new()),
            is_idle,
        }
    }

    /// As `h` asks, for a model of this anatomy.
    pub fn new(h: &Hyperparameters, anatomy: &Anatomy) -> Self {
        let lora = h.tuning.adapter.lora().cloned();
        let targets = Targets::of(lora.as_ref(), anatomy);
        Self {
            anatomy: *anatomy,
            freeze: h.tuning.freeze,
            rate_decay: h.tuning.layerwise_lr_decay,
            lora,
            targets,
            is_idle: false,
        }
    }

    /// Of a model at work, which has this adapter beside its layers.
    pub fn at_work(lora: Lora, anatomy: &Anatomy) -> Self {
        let lora = Lora { continued: true, dropout: 0.0, ..lora };
        let targets = Targets::of(Some(&lora), anatomy);
        Self { anatomy: *anatomy, lora: Some(lora), targets, ..NOTHING.clone() }
    }

    /// The same for a run that only looks at the model.
    #[must_use]
    pub fn idle(self) -> Self {
        Self { is_idle: true, ..self }
    }

    /// Whether the weights that adapters stand beside are quantised.
    pub fn quantizes(&self) -> bool {
        self.lora.as_ref().is_some_and(|lora| lora.quantization == Quantization::Nf4) && !self.is_idle
    }

    /// Whether the parameter called `name` is trained, and what its learning rate is multiplied by.
    pub fn of(&self, name: &str) -> (bool, f64) {
        let depth = self.depth(name);
        // As for ELECTRA (Clark et al. 2020): the head has the full rate, each layer the next one's times the decay.
        let below_head = match depth {
            Depth::Head | Depth::Top => 0,
            Depth::Layer(layer) => self.anatomy.layers.saturating_sub(layer),
            Depth::Embeddings => self.anatomy.layers + 1,
        };
        let rate = self.rate_decay.powi(below_head.cast_signed());
        if self.is_idle {
            return (false, rate);
        }
        if self.lora.is_some() {
            return (depth == Depth::Head || name.contains(".lora_"), rate);
        }
        let trained = match self.freeze {
            Freeze::Off(_) => true,
            Freeze::Backbone(_) => depth == Depth::Head,
            Freeze::Layers(frozen) => match depth {
                Depth::Embeddings => false,
                Depth::Layer(layer) => layer >= frozen.layers,
                Depth::Top | Depth::Head => true,
            },
        };
        (trained, rate)
    }

    fn depth(&self, name: &str) -> Depth {
        let Some(inside) = name.strip_prefix(self.anatomy.backbone).and_then(|rest| rest.strip_prefix('.')) else {
            let is_own = name.split('.').next().is_some_and(|first| self.anatomy.outputs.contains(&first));
            return if is_own { Depth::Top } else { Depth::Head };
        };
        if let Some(layer) = inside.split('.').find_map(|part| part.parse().ok()) {
            Depth::Layer(layer)
        } else if inside.split('.').next().is_some_and(|first| self.anatomy.embeddings.contains(&first)) {
            Depth::Embeddings
        } else {
            Depth::Top
        }
    }

    /// The adapter that the layer called `module` gets: layers of the backbone alone.
    pub fn adapter_of(&self, module: &str) -> Option<&Lora> {
        let is_own = self.depth(module) != Depth::Head && module.starts_with(self.anatomy.backbone);
        self.lora.as_ref().filter(|_| is_own && self.targets.has(module))
    }

    /// Checks that every target is the name of one of `modules`.
    pub(crate) fn check_adapters<'a>(&self, modules: impl Iterator<Item = &'a str>) -> Result<()> {
        if self.lora.is_none() {
            return Ok(());
        }
        let Targets::Named(targets) = &self.targets else { return Ok(()) };
        if targets.is_empty() {
            let message = "this model has no layers that take adapters".to_owned();
            return Err(EngineError::Hyperparameter { name: "adapter", message });
        }
        let modules: Vec<&str> = modules.collect();
        match targets.iter().find(|target| !modules.iter().any(|module| ends_with_name(module, target))) {
            None => Ok(()),
            Some(target) => Err(EngineError::Hyperparameter {
                name: "adapter.target_modules",
                message: format!("the model has no linear layer called \"{target}\""),
            }),
        }
    }

    /// Whether layers that get adapters are stored transposed.
    pub fn is_transposed(&self) -> bool {
        self.anatomy.is_transposed
    }

    /// What the backbone is called.
    pub fn backbone(&self) -> &'static str {
        self.anatomy.backbone
    }

    /// The layers that adapters go to.
    pub fn targets(&self) -> &Targets {
        &self.targets
    }

    /// The adapters that are asked for.
    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }
}

/// Whether `name` is the last part of the module's name, or its last parts.
fn ends_with_name(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::{Anatomy, EVERYTHING, NOTHING, Policy, Targets};
    use finetuned::domain::hyperparameters::{Adapter, Freeze, FrozenLayers};

    fn policy(freeze: Freeze, rate_decay: f64) -> Policy {
        let anatomy = Anatomy {
            backbone: "bert",
            embeddings: &["embeddings"],
            layers: 2,
            adapted: &["query"],
            ..Anatomy::default()
        };
        Policy { anatomy, freeze, rate_decay, ..EVERYTHING.clone() }
    }

    const NAMES: [&str; 5] = [
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.0.output.dense.weight",
        "bert.encoder.layer.1.output.dense.weight",
        "bert.pooler.dense.weight",
        "classifier.weight",
    ];

    #[test]
    fn layers_are_frozen_from_below() {
        let trained = |freeze| NAMES.map(|name| policy(freeze, 1.0).of(name).0);
        assert_eq!(trained(Freeze::default()), [true; 5]);
        assert_eq!(trained(Freeze::Layers(FrozenLayers { layers: 1 })), [false, false, true, true, true]);
        let backbone = serde_json::from_str("\"backbone\"").unwrap();
        assert_eq!(trained(backbone), [false, false, false, false, true]);
    }

    #[test]
    fn a_run_that_only_looks_trains_nothing() {
        assert_eq!(NAMES.map(|name| policy(Freeze::default(), 1.0).idle().of(name).0), [false; 5]);
        assert_eq!(NAMES.map(|name| NOTHING.of(name).0), [false; 5]);
    }

    #[test]
    fn rates_fall_from_the_head_down() {
        assert_eq!(NAMES.map(|name| policy(Freeze::default(), 0.5).of(name).1), [0.125, 0.25, 0.5, 1.0, 1.0]);
    }

    #[test]
    fn adapters_go_where_they_are_wanted_and_freeze_the_rest() {
        let adapter: Adapter = serde_json::from_str("{\"type\": \"lora\"}").unwrap();
        let lora = adapter.lora().cloned();
        let targets = Targets::Named(vec!["query".to_owned(), "output.dense".to_owned()]);
        let policy = Policy { lora, targets, ..policy(Freeze::default(), 1.0) };
        for (module, wanted) in [
            ("bert.encoder.layer.0.attention.self.query", true),
            ("bert.encoder.layer.0.attention.output.dense", true),
            ("bert.encoder.layer.0.intermediate.dense", false),
            ("bert.encoder.layer.0.attention.self.subquery", false),
            ("classifier.query", false),
        ] {
            assert_eq!(policy.adapter_of(module).is_some(), wanted, "{module}");
        }
        assert_eq!(NAMES.map(|name| policy.of(name).0), [false, false, false, false, true]);
        assert!(policy.of("bert.encoder.layer.0.attention.self.query.lora_A.weight").0);
        let error = policy.check_adapters(std::iter::once("a.query")).unwrap_err();
        assert!(error.to_string().contains("output.dense"), "{error}");
        // Where there are no targets nothing would be adapted, in silence.
        let error =
            Policy { targets: Targets::Named(Vec::new()), ..policy.clone() }.check_adapters(std::iter::once("a.query"));
        assert!(error.unwrap_err().to_string().contains("no layers that take adapters"));
        // Part of a name is none.
        let policy = Policy { targets: Targets::Named(vec!["query".to_owned(), "uery".to_owned()]), ..policy };
        let error = policy.check_adapters(std::iter::once("a.query")).unwrap_err();
        assert!(error.to_string().contains("\"uery\""), "{error}");
    }
}
