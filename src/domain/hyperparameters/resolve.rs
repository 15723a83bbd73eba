//! From requested to effective hyperparameters: every "auto" replaced by the value that will be used.

use serde_json::{Map, Value};

use super::super::error::{Error, Result};
use super::super::method::language::{self, ExportForm};
use super::super::method::{Method, ProblemType};
use super::super::metric;
use super::super::model::ModelFacts;
use super::objects::{Adapter, CONTINUE, Freeze, Lora, TargetModules};
use super::settings::Hyperparameters;
use super::{Requested, clipped, definitions};

/// What is trained, and how.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub method: Method,
    pub facts: &'a ModelFacts,
}

/// What "auto" depends on besides the model.
#[derive(Clone, Copy, Debug)]
pub struct DataFacts {
    pub training_examples: u64,
    /// What the data asks for, once it was read.
    pub problem: ProblemType,
}

/// Replaces every "auto" and default. `path` is where the hyperparameters stand in the request.
///
/// # Errors
/// A value does not fit the model; the error names the JSON path.
pub fn resolve(requested: &Requested, subject: Subject<'_>, data: DataFacts, path: &str) -> Result<Hyperparameters> {
    let usual = &subject.method.card().usual;
    let batch_size = auto_batch_size(data.training_examples, usual.batch_size);
    let mut values: Map<String, Value> =
        definitions(subject.method).map(|d| (d.name.to_owned(), requested.value(d))).collect();
    let set_auto = |values: &mut Map<String, Value>, name: &str, value: Value| {
        if values.get(name).is_none_or(|old| old == "auto" || old.is_null()) {
            values.insert(name.to_owned(), value);
        }
    };
    set_auto(&mut values, "batch_size", batch_size.into());
    let step = number(&values, "batch_size") * number(&values, "gradient_accumulation_steps");
    set_auto(&mut values, "n_epochs", auto_epochs(data.training_examples, step, usual.epochs).into());
    set_auto(&mut values, "max_sequence_length", auto_length(subject).into());
    set_auto(&mut values, "problem_type", data.problem.as_str().into());
    if values.get("adapter").is_some_and(|adapter| adapter == CONTINUE) {
        let own = subject.facts.adapter.as_ref().map(|lora| Adapter::Lora(Lora { continued: true, ..lora.clone() }));
        let adapter = own.ok_or_else(|| {
            let message = "Invalid value for 'adapter': \"continue\". The model has no adapter of its own: those have one that \
                           were imported as adapters, checkpoints of runs that trained one, and models with the export \
                           \"adapter\".";
            Error::invalid(format!("{path}.adapter"), message)
        })?;
        values.insert("adapter".to_owned(), serde_json::to_value(adapter).map_err(Error::internal)?);
    }
    if usual.adapts {
        let is_whole = values.get("freeze").is_some_and(|freeze| freeze != "none");
        let adapter = if is_whole { Adapter::default() } else { Adapter::Lora(Lora::of_all_layers()) };
        set_auto(&mut values, "adapter", serde_json::to_value(adapter).map_err(Error::internal)?);
    }
    let base_rate = base_learning_rate(subject, &values);
    if values.get("learning_rate").is_none_or(Value::is_null) {
        set_auto(&mut values, "learning_rate_multiplier", 1.0.into());
        let rate = base_rate * number(&values, "learning_rate_multiplier");
        values.insert("learning_rate".to_owned(), rate.into());
    } else {
        let multiplier = rounded(number(&values, "learning_rate") / base_rate);
        values.insert("learning_rate_multiplier".to_owned(), multiplier.into());
    }
    let mut resolved: Hyperparameters = serde_json::from_value(Value::Object(values)).map_err(Error::internal)?;
    resolved.own = (subject.method.card().settle)(resolved.own)?;
    match misfit(&resolved, subject) {
        None => Ok(resolved),
        Some((name, why)) => {
            Err(Error::invalid(format!("{path}.{name}"), format!("Invalid value for '{name}': {why}")))
        }
    }
}

/// What the model takes of a text, or what it says itself where the method keeps to that.
fn auto_length(subject: Subject<'_>) -> u32 {
    let (own, most) = (subject.facts.max_seq_length, subject.facts.max_positions);
    let card = subject.method.card();
    if card.has_length && own > 0 { own.min(most) } else { most.min(card.usual.longest) }
}

/// The first layer that an adapter names and the model does not have.
fn unknown_layer(lora: &Lora, layers: &[String]) -> Option<String> {
    let Some(TargetModules::Named(names)) = &lora.target_modules else { return None };
    let is_known = |name: &str| name.rsplit('.').next().is_some_and(|last| layers.iter().any(|layer| layer == last));
    let unknown = names.iter().find(|name| !layers.is_empty() && !is_known(name))?;
    Some(format!("\"{}\". The model's linear layers are called {}.", clipped(unknown), layers.join(", ")))
}

/// The first value that does not fit the model or the task, and why.
fn misfit(h: &Hyperparameters, subject: Subject<'_>) -> Option<(&'static str, String)> {
    let model = subject.facts;
    if !model.backbone.is_vision() && h.course.max_sequence_length > model.max_positions {
        let why = format!("{}. The model takes at most {} tokens.", h.course.max_sequence_length, model.max_positions);
        return Some(("max_sequence_length", why));
    }
    if let Freeze::Layers(frozen) = h.tuning.freeze
        && model.layers > 0
        && frozen.layers > model.layers
    {
        return Some(("freeze.layers", format!("{}. The model has {} layers.", frozen.layers, model.layers)));
    }
    if h.tuning.freeze.is_backbone() && !subject.method.is_classification() {
        return Some(("freeze", format!("\"backbone\". {} trains the backbone itself.", subject.method)));
    }
    if h.tuning.adapter.lora().is_none()
        && language::kept(&h.own).is_some_and(|kept| kept.export == ExportForm::Adapter)
    {
        return Some(("export", "\"adapter\". The whole model is trained, so there is no adapter to keep.".to_owned()));
    }
    if let Some(lora) = h.tuning.adapter.lora() {
        if let Some(why) = unknown_layer(lora, &model.linear_layers) {
            return Some(("adapter.target_modules", why));
        }
        if !model.backbone.takes_adapters() {
            return Some(("adapter", "LoRA is not built for models whose layers are convolutions.".to_owned()));
        }
        if h.tuning.freeze != Freeze::default() {
            return Some((
                "freeze",
                "an adapter freezes the whole base model already; leave one of them out.".to_owned(),
            ));
        }
    }
    if let Some(rule) = h.course.early_stopping.patience() {
        let known = subject.method.metrics(h.problem_type());
        if !known.contains(&rule.metric) {
            let why = format!("\"{}\". Measured here: {}.", rule.metric.name(), metric::names(&known));
            return Some(("early_stopping.metric", why));
        }
    }
    None
}

fn number(values: &Map<String, Value>, name: &str) -> f64 {
    values.get(name).and_then(Value::as_f64).unwrap_or(1.0)
}

/// A number without what a division leaves behind its twelfth digit: 1.5, not 1.4999999999999998.
fn rounded(number: f64) -> f64 {
    format!("{number:.11e}").parse().unwrap_or(number)
}

/// The peak rate at which a model fine-tunes well. Adapters take ten times as much as the whole of it, a head alone twenty
/// times.
fn base_learning_rate(subject: Subject<'_>, values: &Map<String, Value>) -> f64 {
    let usual = subject.method.card().usual.rate;
    let whole = usual * subject.facts.backbone.usual_learning_rate(subject.facts.hidden_size);
    let given = |name: &str| values.get(name).is_some_and(|value| value != "none");
    if values.get("freeze").is_some_and(|freeze| freeze == "backbone") {
        (20.0 * whole).min(1e-2)
    } else if given("adapter") {
        (10.0 * whole).min(5e-3)
    } else {
        whole
    }
}

/// About 300 batches an epoch, within what is usual.
fn auto_batch_size(examples: u64, (least, most): (u64, u64)) -> u64 {
    (examples / 300).next_power_of_two().clamp(least, most)
}

/// Enough epochs for about 1,000 steps, within what is usual.
fn auto_epochs(examples: u64, examples_per_step: f64, (least, most): (u64, u64)) -> u64 {
    let steps_per_epoch = (examples as f64 / examples_per_step).ceil().max(1.0);
    ((1000.0 / steps_per_epoch).ceil() as u64).clamp(least, most)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{DataFacts, Hyperparameters, ProblemType, Subject, resolve};
    use crate::domain::error::Result;
    use crate::domain::hyperparameters::Requested;
    use crate::domain::hyperparameters::{Interval, LrSchedule, Precision};
    use crate::domain::method::Method;
    use crate::domain::model::ModelFacts;

    fn resolved(values: Value, hidden_size: u32, training_examples: u64) -> Result<Hyperparameters> {
        let Value::Object(values) = values else { panic!("an object") };
        let requested = Requested::parse(Method::TextClassification, values, "h")?;
        let facts = ModelFacts { hidden_size, max_positions: 512, layers: 6, ..ModelFacts::default() };
        let subject = Subject { method: Method::TextClassification, facts: &facts };
        let problem = ProblemType::SingleLabelClassification;
        resolve(&requested, subject, DataFacts { training_examples, problem }, "h")
    }

    #[test]
    fn embeddings_are_of_as_many_tokens_as_the_model_says_and_takes() {
        let length = |method: Method, own: u32, values: Value| {
            let Value::Object(values) = values else { panic!("an object") };
            let facts = ModelFacts { max_positions: 512, max_seq_length: own, layers: 6, ..ModelFacts::default() };
            let requested = Requested::parse(method, values, "h").unwrap();
            let data = DataFacts { training_examples: 100, problem: ProblemType::default() };
            resolve(&requested, Subject { method, facts: &facts }, data, "h").unwrap().course.max_sequence_length
        };
        assert_eq!(length(Method::Embedding, 32, json!({})), 32);
        assert_eq!(length(Method::Embedding, 0, json!({})), 512);
        assert_eq!(length(Method::Embedding, 8192, json!({})), 512);
        assert_eq!(length(Method::Embedding, 32, json!({"max_sequence_length": 64})), 64);
        assert_eq!(length(Method::TextClassification, 32, json!({})), 512);
    }

    #[test]
    fn auto_depends_on_the_data_and_the_width_of_the_model() {
        let large = resolved(json!({}), 768, 10_000).unwrap();
        assert_eq!((large.course.n_epochs, large.course.batch_size, large.course.max_sequence_length), (4, 32, 512));
        assert_eq!(large.optimizer.learning_rate, 5e-5);
        let small = resolved(json!({}), 384, 100).unwrap();
        assert_eq!((small.course.n_epochs, small.course.batch_size), (20, 8));
        assert_eq!(small.optimizer.learning_rate, 2e-4);
    }

    #[test]
    fn values_given_are_used_and_the_rest_follows_from_them() {
        let h = resolved(json!({"learning_rate": 3e-4, "batch_size": 4, "eval_interval": 7}), 384, 100).unwrap();
        assert_eq!(h.optimizer.learning_rate, 3e-4);
        assert_eq!(h.optimizer.learning_rate_multiplier, 1.5);
        assert_eq!(
            (h.course.batch_size, h.course.eval_interval, h.course.checkpoint_interval),
            (4, Interval::Steps(7), Interval::Epoch)
        );
        assert_eq!((h.optimizer.lr_schedule, h.precision), (LrSchedule::Linear, Precision::Auto));
        let doubled = resolved(json!({"learning_rate_multiplier": 2}), 768, 100).unwrap();
        assert_eq!(doubled.optimizer.learning_rate, 1e-4);
    }

    #[test]
    fn a_length_beyond_the_model_is_refused() {
        let error = resolved(json!({"max_sequence_length": 513}), 384, 100).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("h.max_sequence_length"));
        assert!(error.message.contains("at most 512"), "{}", error.message);
    }

    #[test]
    fn what_does_not_fit_the_model_or_the_task_is_refused_by_name() {
        for (values, param, hint) in [
            (json!({"freeze": {"layers": 7}}), "h.freeze.layers", "has 6 layers"),
            (json!({"freeze": "backbone", "adapter": {"type": "lora"}}), "h.freeze", "leave one of them out"),
            (json!({"early_stopping": {"metric": "perplexity"}}), "h.early_stopping.metric", "macro_f1"),
            (json!({"early_stopping": {"metric": "pearson"}}), "h.early_stopping.metric", "macro_f1"),
            (
                json!({"problem_type": "regression", "early_stopping": {"metric": "mcc"}}),
                "h.early_stopping.metric",
                "mse",
            ),
        ] {
            let error = resolved(values, 384, 100).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param));
            assert!(error.message.contains(hint), "{}", error.message);
        }
    }

    #[test]
    fn adapters_and_heads_alone_learn_faster() {
        let rate = |values| resolved(values, 768, 1000).unwrap().optimizer.learning_rate;
        assert_eq!(rate(json!({"adapter": {"type": "lora"}})), 5e-4);
        assert_eq!(rate(json!({"freeze": "backbone"})), 1e-3);
    }

    #[test]
    fn resolved_values_survive_storage() {
        let h = resolved(json!({"checkpoint_interval": 3}), 384, 1000).unwrap();
        let text = serde_json::to_string(&h).unwrap();
        assert_eq!(serde_json::from_str::<Hyperparameters>(&text).unwrap(), h);
    }

    #[test]
    fn intervals_fall_on_multiples() {
        assert!(Interval::Epoch.is_due(20, 10) && !Interval::Epoch.is_due(21, 10));
        assert!(Interval::Steps(3).is_due(9, 10) && !Interval::Steps(3).is_due(10, 10));
    }
}
