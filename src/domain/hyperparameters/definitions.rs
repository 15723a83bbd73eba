//! The list of hyperparameters.

use serde_json::Value;

use super::super::method::{METHODS, Method};
use super::augmentation::Augmentation;
use super::objects::{Adapter, EarlyStopping, Freeze, Refused};

/// Which values a hyperparameter takes.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// An integer within bounds, both included.
    Integer {
        min: i64,
        max: i64,
    },
    /// A finite number above (or from) `min`, up to (or below) `max`.
    Number {
        min: f64,
        min_included: bool,
        max: f64,
        max_included: bool,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// `"epoch"` or a number of steps from 1.
    Interval,
    Flag,
    /// A word or an object, checked by a function of its own; the text says what is allowed, `fields` which fields an
    /// object has, and their defaults.
    Object {
        check: fn(&Value) -> Result<(), Refused>,
        allowed: &'static str,
        fields: fn() -> Value,
    },
}

/// What holds where the client says nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DefaultValue {
    /// Nothing: another hyperparameter decides.
    Absent,
    Integer(i64),
    Number(f64),
    Word(&'static str),
    Flag(bool),
}

impl DefaultValue {
    /// As JSON; null where absent.
    pub fn value(self) -> Value {
        match self {
            Self::Absent => Value::Null,
            Self::Integer(value) => value.into(),
            Self::Number(value) => value.into(),
            Self::Word(value) => value.into(),
            Self::Flag(value) => value.into(),
        }
    }
}

/// One hyperparameter.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub rule: Rule,
    /// Whether `"auto"` is a value too.
    pub auto: bool,
    pub default: DefaultValue,
    /// What it means, in one line.
    pub doc: &'static str,
    /// Whether it decides what is computed. A run goes on only from checkpoints of runs that agree in these.
    pub shapes_training: bool,
    pub methods: &'static [Method],
}

impl Definition {
    /// Checks `value` against the rule.
    ///
    /// # Errors
    /// Why it is refused, and where in it.
    pub fn check(&self, value: &Value) -> Result<(), Refused> {
        let within = match self.rule {
            _ if self.auto && value == "auto" => true,
            Rule::Object { check, .. } => return check(value),
            Rule::Integer { min, max } => value.as_i64().is_some_and(|n| (min..=max).contains(&n)),
            Rule::Number { min, min_included, max, max_included } => value.as_f64().is_some_and(|n| {
                n.is_finite() && (n > min || (min_included && n == min)) && (n < max || (max_included && n == max))
            }),
            Rule::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Rule::Interval => value == "epoch" || value.as_i64().is_some_and(|n| (1..=MOST_STEPS).contains(&n)),
            Rule::Flag => value.is_boolean(),
        };
        if within { Ok(()) } else { Err((String::new(), String::new())) }
    }

    /// The rule in words.
    pub fn allowed(&self) -> String {
        let rule = match self.rule {
            Rule::Integer { min, max } => format!("an integer from {min} to {max}"),
            Rule::Number { min, min_included, max, max_included } => {
                let low = if min_included { "from" } else { "above" };
                let high = if max_included { "up to" } else { "below" };
                format!("a number {low} {min} and {high} {max}")
            }
            Rule::Word(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "),
            Rule::Interval => format!("\"epoch\" or an integer from 1 to {MOST_STEPS}"),
            Rule::Flag => "true or false".to_owned(),
            Rule::Object { allowed, .. } => allowed.to_owned(),
        };
        if self.auto { format!("\"auto\" or {rule}") } else { rule }
    }
}

const MOST_STEPS: i64 = 1_000_000_000;

const fn from_zero(max: f64, max_included: bool) -> Rule {
    Rule::Number { min: 0.0, min_included: true, max, max_included }
}

const fn above_zero(max: f64) -> Rule {
    Rule::Number { min: 0.0, min_included: false, max, max_included: true }
}

const CLASSIFIERS: &[Method] = &[Method::TextClassification, Method::ImageClassification];
const TEXTS: &[Method] = &[Method::TextClassification, Method::MaskedLm, Method::Embedding];

/// Every hyperparameter, in the order of the documentation.
pub const DEFINITIONS: &[Definition] = &[
    Definition {
        name: "n_epochs",
        rule: Rule::Integer { min: 1, max: 50 },
        auto: true,
        default: DefaultValue::Word("auto"),
        doc: "Passes over the training data.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "batch_size",
        rule: Rule::Integer { min: 1, max: 256 },
        auto: true,
        default: DefaultValue::Word("auto"),
        doc: "Examples per forward pass; a step sees this times gradient_accumulation_steps.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "learning_rate_multiplier",
        rule: above_zero(1000.0),
        auto: true,
        default: DefaultValue::Word("auto"),
        doc: "Scales the base rate of the model's family and size.",
        shapes_training: false,
        methods: &METHODS,
    },
    Definition {
        name: "learning_rate",
        rule: above_zero(1.0),
        auto: false,
        default: DefaultValue::Absent,
        doc: "The peak learning rate itself; excludes learning_rate_multiplier.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "lr_schedule",
        rule: Rule::Word(&["linear", "cosine", "constant"]),
        auto: false,
        default: DefaultValue::Word("linear"),
        doc: "How the learning rate falls after warm-up.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "warmup_ratio",
        rule: from_zero(1.0, true),
        auto: false,
        default: DefaultValue::Number(0.06),
        doc: "Share of all steps over which the learning rate rises from 0.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "weight_decay",
        rule: from_zero(1.0, true),
        auto: false,
        default: DefaultValue::Number(0.01),
        doc: "Decoupled weight decay of AdamW; biases and norms are exempt.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "max_grad_norm",
        rule: from_zero(1e6, true),
        auto: false,
        default: DefaultValue::Number(1.0),
        doc: "Gradients are scaled down to this L2 norm; 0 turns clipping off.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "gradient_accumulation_steps",
        rule: Rule::Integer { min: 1, max: 1024 },
        auto: false,
        default: DefaultValue::Integer(1),
        doc: "Batches per optimizer step; the loss is averaged over the examples of all of them.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "max_sequence_length",
        rule: Rule::Integer { min: 8, max: 1_048_576 },
        auto: true,
        default: DefaultValue::Word("auto"),
        doc: "Tokens kept of each text (auto: the model's limit); cut texts are counted and reported.",
        shapes_training: true,
        methods: TEXTS,
    },
    Definition {
        name: "precision",
        rule: Rule::Word(&["auto", "fp32", "bf16"]),
        auto: false,
        default: DefaultValue::Word("auto"),
        doc: "bf16 computes matrix products in bfloat16 over fp32 master weights; auto takes it where the device has it.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "eval_interval",
        rule: Rule::Interval,
        auto: false,
        default: DefaultValue::Word("epoch"),
        doc: "When the validation data is evaluated: each epoch or every so many steps.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "checkpoint_interval",
        rule: Rule::Interval,
        auto: false,
        default: DefaultValue::Word("epoch"),
        doc: "When a checkpoint is saved: each epoch or every so many steps.",
        shapes_training: false,
        methods: &METHODS,
    },
    Definition {
        name: "keep_checkpoints",
        rule: Rule::Integer { min: 1, max: 100 },
        auto: false,
        default: DefaultValue::Integer(3),
        doc: "How many of the latest checkpoints are kept; the best one is kept besides.",
        shapes_training: false,
        methods: &METHODS,
    },
    Definition {
        name: "early_stopping",
        rule: Rule::Object {
            check: EarlyStopping::check,
            fields: EarlyStopping::fields,
            allowed: "\"none\" or an object {metric, patience, min_delta}",
        },
        auto: false,
        default: DefaultValue::Word("none"),
        doc: "Stops when a metric of the validation data has not improved for so many evaluations, and takes the best model.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "freeze",
        rule: Rule::Object {
            check: Freeze::check,
            fields: Freeze::fields,
            allowed: "\"none\", \"backbone\" or an object {layers}",
        },
        auto: false,
        default: DefaultValue::Word("none"),
        doc: "What is not trained: all but the head, or the embeddings and so many of the first layers.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "layerwise_lr_decay",
        rule: above_zero(1.0),
        auto: false,
        default: DefaultValue::Number(1.0),
        doc: "Each layer's learning rate is that of the layer above times this; the head has the full one.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "adapter",
        rule: Rule::Object {
            check: Adapter::check,
            fields: Adapter::fields,
            allowed: "\"none\" or an object {type: \"lora\", r, alpha, dropout, target_modules, rslora}",
        },
        auto: false,
        default: DefaultValue::Word("none"),
        doc: "Trains low-rank adapters and the head in place of the model's own weights.",
        shapes_training: true,
        methods: &METHODS,
    },
    Definition {
        name: "problem_type",
        rule: Rule::Word(&["single_label_classification", "multi_label_classification", "regression"]),
        auto: true,
        default: DefaultValue::Word("auto"),
        doc: "What is predicted: one label, any number of labels, or a number (auto: several where the data has lists).",
        shapes_training: true,
        methods: &[Method::TextClassification],
    },
    Definition {
        name: "class_weights",
        rule: Rule::Word(&["none", "balanced"]),
        auto: false,
        default: DefaultValue::Word("none"),
        doc: "balanced weighs each class by examples / (classes × its examples).",
        shapes_training: true,
        methods: CLASSIFIERS,
    },
    Definition {
        name: "label_smoothing",
        rule: from_zero(1.0, false),
        auto: false,
        default: DefaultValue::Number(0.0),
        doc: "Share of the target probability spread over all classes.",
        shapes_training: true,
        methods: CLASSIFIERS,
    },
    Definition {
        name: "augmentation",
        rule: Rule::Object {
            check: Augmentation::check,
            fields: Augmentation::fields,
            allowed: "\"none\" or an object {random_resized_crop, horizontal_flip, vertical_flip, color_jitter, rand_augment, \
                      random_erasing, mixup, cutmix}",
        },
        auto: false,
        default: DefaultValue::Word("none"),
        doc: "How training images are varied; each variation depends on seed, epoch and image alone.",
        shapes_training: true,
        methods: &[Method::ImageClassification],
    },
    Definition {
        name: "token_dropout",
        rule: from_zero(1.0, false),
        auto: false,
        default: DefaultValue::Number(0.0),
        doc: "Augmentation: the probability with which each token of a training text is left out.",
        shapes_training: true,
        methods: &[Method::TextClassification, Method::Embedding],
    },
    Definition {
        name: "token_masking",
        rule: from_zero(1.0, false),
        auto: false,
        default: DefaultValue::Number(0.0),
        doc: "Augmentation: the probability with which each token of a training text becomes the mask token.",
        shapes_training: true,
        methods: &[Method::TextClassification, Method::Embedding],
    },
    Definition {
        name: "mlm_probability",
        rule: Rule::Number { min: 0.0, min_included: false, max: 1.0, max_included: false },
        auto: false,
        default: DefaultValue::Number(0.15),
        doc: "Share of the tokens that are to be guessed; of ten, eight are masked, one is replaced, one stays.",
        shapes_training: true,
        methods: &[Method::MaskedLm],
    },
    Definition {
        name: "whole_word_masking",
        rule: Rule::Flag,
        auto: false,
        default: DefaultValue::Flag(false),
        doc: "Whether all tokens of a word are guessed together.",
        shapes_training: true,
        methods: &[Method::MaskedLm],
    },
    Definition {
        name: "scale",
        rule: above_zero(1000.0),
        auto: false,
        default: DefaultValue::Number(20.0),
        doc: "What cosine similarities are multiplied by in the ranking loss: one over its temperature.",
        shapes_training: true,
        methods: &[Method::Embedding],
    },
];
