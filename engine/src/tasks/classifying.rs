//! Evaluations of classifiers and regressions from their logits, whatever the logits come from.

use serde_json::{Map, Value, json};

use crate::data::examples::Targets;
use crate::score::classes::ConfusionMatrix;
use crate::score::labels::LabelCounts;
use crate::score::regression::RegressionScores;
use crate::score::{Evaluation, argmax, bootstrap, calibration_error, rank, softmax};

/// What a model said of each example, in the order of the file.
pub(super) struct Outputs<'a> {
    pub labels: &'a [String],
    pub targets: &'a Targets,
    /// Where each example stands: its line, or the name of its file in an archive.
    pub places: &'a dyn Fn(usize) -> (&'static str, Value),
    /// One row per example, before softmax.
    pub logits: &'a [Vec<f32>],
    pub losses: &'a [f32],
}

/// Scores them; with `intervals`, says how sure the main scores are.
pub(super) fn evaluate(outputs: &Outputs<'_>, intervals: bool) -> Evaluation {
    let examples = outputs.losses.len();
    let total: f64 = outputs.losses.iter().map(|&loss| f64::from(loss)).sum();
    let mut evaluation = Evaluation { examples: examples as u64, ..Evaluation::default() };
    evaluation.scores.insert("loss".to_owned(), total / examples.max(1) as f64);
    match outputs.targets {
        Targets::Classes(classes) => single_label(outputs, classes, intervals, &mut evaluation),
        Targets::Sets(sets) => multi_label(outputs, sets, intervals, &mut evaluation),
        Targets::Values(values) => regression(outputs, values, intervals, &mut evaluation),
    }
    evaluation
}

fn set(evaluation: &mut Evaluation, scores: &[(&str, f64)]) {
    evaluation.scores.extend(scores.iter().map(|&(name, value)| (name.to_owned(), value)));
}

/// Adds the interval of a score, by name.
fn interval(intervals: &mut Map<String, Value>, name: &str, examples: usize, score: impl Fn(&[usize]) -> f64) {
    if let Some(bounds) = bootstrap::interval(examples, score) {
        intervals.insert(name.to_owned(), json!(bounds));
    }
}

fn single_label(outputs: &Outputs<'_>, truth: &[usize], intervals: bool, evaluation: &mut Evaluation) {
    let labels = outputs.labels;
    let predicted: Vec<usize> = outputs.logits.iter().map(|logits| argmax(logits)).collect();
    let probabilities: Vec<Vec<f64>> = outputs.logits.iter().map(|logits| softmax(logits)).collect();
    let pairs = || truth.iter().copied().zip(predicted.iter().copied());
    let matrix = ConfusionMatrix::new(labels.len(), pairs());
    set(
        evaluation,
        &[
            ("accuracy", matrix.accuracy()),
            ("macro_f1", matrix.macro_f1()),
            ("weighted_f1", matrix.weighted_f1()),
            ("mcc", matrix.mcc()),
        ],
    );
    if labels.len() > 5 {
        let near = outputs.logits.iter().zip(truth).filter(|(logits, class)| rank(logits, **class) < 5).count();
        set(evaluation, &[("top_5_accuracy", near as f64 / truth.len().max(1) as f64)]);
    }
    let sure: Vec<(f64, bool)> =
        probabilities.iter().zip(pairs()).map(|(p, (truth, predicted))| (p[predicted], truth == predicted)).collect();
    let details = &mut evaluation.details;
    details.insert("calibration_error".to_owned(), json!(calibration_error(&sure)));
    if intervals {
        let mut bounds = Map::new();
        interval(&mut bounds, "accuracy", truth.len(), |chosen| {
            chosen.iter().filter(|&&i| truth[i] == predicted[i]).count() as f64 / chosen.len() as f64
        });
        interval(&mut bounds, "macro_f1", truth.len(), |chosen| {
            ConfusionMatrix::new(labels.len(), chosen.iter().map(|&i| (truth[i], predicted[i]))).macro_f1()
        });
        details.insert("confidence_intervals".to_owned(), Value::Object(bounds));
    }
    let scores: Map<String, Value> =
        labels.iter().cloned().zip(matrix.classes().into_iter().map(|score| json!(score))).collect();
    details.insert("classes".to_owned(), Value::Object(scores));
    details.insert("labels".to_owned(), json!(labels));
    details.insert("confusion_matrix".to_owned(), json!(matrix));
    for (i, (truth, predicted)) in pairs().enumerate() {
        let (what, place) = (outputs.places)(i);
        evaluation.predictions.push(json!({
            what: place, "label": labels[truth], "prediction": labels[predicted],
            "probability": probabilities[i][predicted], "loss": outputs.losses[i], "logits": outputs.logits[i],
        }));
    }
}

fn multi_label(outputs: &Outputs<'_>, sets: &[Vec<usize>], intervals: bool, evaluation: &mut Evaluation) {
    let labels = outputs.labels;
    let truth: Vec<Vec<bool>> =
        sets.iter().map(|set| (0..labels.len()).map(|class| set.contains(&class)).collect()).collect();
    // A probability of one half.
    let predicted: Vec<Vec<bool>> =
        outputs.logits.iter().map(|logits| logits.iter().map(|&logit| logit > 0.0).collect()).collect();
    let pair = |i: usize| (&truth[i][..], &predicted[i][..]);
    let counts = LabelCounts::new(labels.len(), (0..truth.len()).map(pair));
    set(
        evaluation,
        &[("accuracy", counts.accuracy()), ("micro_f1", counts.micro_f1()), ("macro_f1", counts.macro_f1())],
    );
    let details = &mut evaluation.details;
    if intervals {
        let mut bounds = Map::new();
        for (name, score) in [
            ("accuracy", LabelCounts::accuracy as fn(&LabelCounts) -> f64),
            ("micro_f1", LabelCounts::micro_f1),
            ("macro_f1", LabelCounts::macro_f1),
        ] {
            interval(&mut bounds, name, truth.len(), |chosen| {
                score(&LabelCounts::new(labels.len(), chosen.iter().map(|&i| pair(i))))
            });
        }
        details.insert("confidence_intervals".to_owned(), Value::Object(bounds));
    }
    let scores: Map<String, Value> =
        labels.iter().cloned().zip(counts.labels().into_iter().map(|score| json!(score))).collect();
    details.insert("classes".to_owned(), Value::Object(scores));
    details.insert("labels".to_owned(), json!(labels));
    let names = |flags: &[bool]| -> Vec<&String> {
        labels.iter().zip(flags).filter(|(_, flag)| **flag).map(|(label, _)| label).collect()
    };
    for i in 0..truth.len() {
        let (what, place) = (outputs.places)(i);
        evaluation.predictions.push(json!({
            what: place, "labels": names(&truth[i]), "predictions": names(&predicted[i]),
            "loss": outputs.losses[i], "logits": outputs.logits[i],
        }));
    }
}

fn regression(outputs: &Outputs<'_>, values: &[f64], intervals: bool, evaluation: &mut Evaluation) {
    let predicted = |i: usize| f64::from(outputs.logits[i].first().copied().unwrap_or_default());
    let pairs: Vec<(f64, f64)> = values.iter().enumerate().map(|(i, &value)| (value, predicted(i))).collect();
    let scores = RegressionScores::new(&pairs);
    set(evaluation, &[("mse", scores.mse), ("mae", scores.mae), ("pearson", scores.pearson)]);
    if intervals {
        let mut bounds = Map::new();
        let of = |chosen: &[usize]| RegressionScores::new(&chosen.iter().map(|&i| pairs[i]).collect::<Vec<_>>());
        interval(&mut bounds, "mse", pairs.len(), |chosen| of(chosen).mse);
        interval(&mut bounds, "pearson", pairs.len(), |chosen| of(chosen).pearson);
        evaluation.details.insert("confidence_intervals".to_owned(), Value::Object(bounds));
    }
    for (i, &(value, predicted)) in pairs.iter().enumerate() {
        let (what, place) = (outputs.places)(i);
        evaluation.predictions.push(json!({
            what: place, "value": value, "prediction": predicted, "loss": outputs.losses[i],
        }));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Outputs, evaluate};
    use crate::data::examples::Targets;

    fn scored(targets: &Targets, logits: &[Vec<f32>]) -> crate::score::Evaluation {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let losses = vec![0.5; logits.len()];
        let places = |i: usize| ("line", json!(i + 1));
        evaluate(&Outputs { labels: &labels, targets, places: &places, logits, losses: &losses }, true)
    }

    #[test]
    fn each_problem_has_its_scores_and_a_line_per_example() {
        let logits = [vec![2.0, 1.0, 0.0], vec![0.0, 1.0, -1.0]];
        let single = scored(&Targets::Classes(vec![0, 2]), &logits);
        assert_eq!((single.scores["accuracy"], single.scores["loss"]), (0.5, 0.5));
        assert_eq!(single.predictions[1]["prediction"], "b");
        assert_eq!(single.report()["confusion_matrix"], json!([[1, 0, 0], [0, 0, 0], [0, 1, 0]]));
        assert!(single.report()["confidence_intervals"]["accuracy"].is_array());
        let many = scored(&Targets::Sets(vec![vec![0, 1], vec![]]), &logits);
        assert_eq!((many.scores["accuracy"], many.predictions[1]["predictions"].clone()), (0.5, json!(["b"])));
        let values = scored(&Targets::Values(vec![2.0, 1.0]), &logits);
        assert_eq!((values.scores["mse"], values.predictions[1]["value"].clone()), (0.5, Value::from(1.0)));
    }
}
