//! Evaluations of classifiers and regressions from what a model said, whatever it was said of.

use serde_json::{Map, Value, json};

use super::outputs::{Listed, Outputs, Said};
use crate::data::examples::Targets;
use crate::observer::Observer;
use crate::score::{Evaluation, Lines, bootstrap, calibration_error};
use finetuned::domain::estimate::{LISTED_LOGITS, MOST_LISTED_LABELS};
use finetuned::domain::metric::classes::{self, ClassCounts, ClassScore, confusion_entries, confusion_matrix};
use finetuned::domain::metric::labels::{self, LabelCounts, LabelSets};
use finetuned::domain::metric::regression::{self, RegressionScores};
use finetuned::domain::metric::{LOSS, Metric, Score, scores};
use finetuned::domain::report::Place;

/// The most labels whose confusion matrix is reported whole; of more, only what is not 0 is.
const MOST_MATRIX_LABELS: usize = 256;

/// The most entries of a larger matrix that a report has.
const MOST_ENTRIES: usize = 50_000;

/// Where an example stands in its file.
pub(super) type Places<'a> = Box<dyn Fn(usize) -> Place + 'a>;

/// The key and value of a line that say where its example stands: its line, or the name of its file in an archive.
fn place_of(places: &Places<'_>, example: usize) -> (&'static str, Value) {
    let Place { line, member } = places(example);
    member.map_or(("line", json!(line)), |member| ("file", json!(member)))
}

/// Scores the outputs; with an `observer` that is told of progress, says how sure the main scores are. None if it wants the
/// run to stop.
pub(super) fn evaluate<'a>(
    outputs: Outputs<'a>,
    places: Places<'a>,
    intervals: Option<&dyn Observer>,
) -> Option<Evaluation<'a>> {
    let Outputs { labels, targets, losses, said, listed } = outputs;
    let examples = losses.len();
    let total: f64 = losses.iter().map(|&loss| f64::from(loss)).sum();
    let loss = total / examples.max(1) as f64;
    let mut details = Map::new();
    let (scores, lines) = match (said, targets) {
        (Said::Class { predicted, probabilities, near }, Targets::Classes(truth)) => {
            let said = Predicted { labels, truth, classes: predicted, probabilities };
            let scores = said.scores(near, intervals, &mut details)?;
            (scores, said.lines(losses, listed, places))
        }
        (Said::Labels(sets), Targets::Sets(truth)) => {
            let scores = scores_of_sets(labels, truth, &sets, intervals, &mut details)?;
            (scores, lines_of_sets(labels, truth, sets, losses, listed, places))
        }
        (Said::Value(predicted), Targets::Values(truth)) => {
            let pairs: Vec<(f64, f64)> =
                truth.iter().copied().zip(predicted.iter().map(|&value| f64::from(value))).collect();
            let scores = scores_of_values(&pairs, intervals, &mut details)?;
            let lines = Lines::new(move |i| {
                let ((what, place), (value, predicted)) = (place_of(&places, i), pairs[i]);
                json!({what: place, "value": value, "prediction": predicted, LOSS.name(): losses[i]})
            });
            (scores, lines)
        }
        // Outputs are made for their targets.
        _ => (Vec::new(), Lines::new(|_| Value::Null)),
    };
    Some(Evaluation { details, ..Evaluation::new(examples, loss, scores, lines) })
}

type Scores = Vec<(Metric, f64)>;

/// Adds the intervals of those scores of a table that have some; `recount` counts a sample in `counts`. None if the run
/// shall stop.
fn intervals<C>(
    details: &mut Map<String, Value>,
    table: &[Score<C>],
    counts: &mut C,
    examples: usize,
    observer: &dyn Observer,
    mut recount: impl FnMut(&mut C, &[usize]),
) -> Option<()> {
    let sure = || table.iter().filter(|score| score.interval);
    let found = bootstrap::intervals(examples, |chosen| {
        observer.alive();
        observer.stop().is_none().then(|| {
            recount(counts, chosen);
            sure().map(|score| (score.of)(counts).unwrap_or_default()).collect()
        })
    });
    let bounds = match found {
        None if examples > 0 => return None,
        found => sure().zip(found.into_iter().flatten()),
    };
    let bounds: Map<String, Value> =
        bounds.map(|(score, bounds)| (score.metric.name().to_owned(), json!(bounds))).collect();
    details.insert("confidence_intervals".to_owned(), Value::Object(bounds));
    Some(())
}

/// Adds the labels, and the scores of each.
fn add_classes(details: &mut Map<String, Value>, labels: &[String], scores: impl Iterator<Item = ClassScore>) {
    let scores: Map<String, Value> = labels.iter().cloned().zip(scores.map(|score| json!(score))).collect();
    details.insert("classes".to_owned(), Value::Object(scores));
    details.insert("labels".to_owned(), json!(labels));
}

/// Adds to a line all logits, or the labels with the largest ones.
fn add_logits(line: &mut Value, listed: &Listed, labels: &[String], example: usize) {
    if let Some(logits) = listed.all(example) {
        line["logits"] = json!(logits);
    } else {
        let logits = listed.likeliest(example).map(|(class, logit)| json!({"label": labels[class], "logit": logit}));
        line["top_logits"] = Value::Array(logits.collect());
    }
}

/// One class predicted of each example.
struct Predicted<'a> {
    labels: &'a [String],
    truth: &'a [usize],
    classes: Vec<u32>,
    probabilities: Vec<f64>,
}

impl<'a> Predicted<'a> {
    fn pair(&self, example: usize) -> (usize, usize) {
        (self.truth[example], self.classes[example] as usize)
    }

    fn scores(&self, near: u64, observer: Option<&dyn Observer>, details: &mut Map<String, Value>) -> Option<Scores> {
        let (classes, examples) = (self.labels.len(), self.truth.len());
        let pairs = || (0..examples).map(|example| self.pair(example));
        let mut counts = ClassCounts::new(classes, pairs(), near);
        let scores = scores(&classes::SCORES, &counts);
        let right = pairs().map(|(truth, predicted)| truth == predicted);
        let sure: Vec<(f64, bool)> = self.probabilities.iter().copied().zip(right).collect();
        details.insert("calibration_error".to_owned(), json!(calibration_error(&sure)));
        add_classes(details, self.labels, counts.classes());
        if classes <= MOST_MATRIX_LABELS {
            details.insert("confusion_matrix".to_owned(), json!(confusion_matrix(classes, pairs())));
        } else {
            let (entries, rest) = confusion_entries(pairs(), MOST_ENTRIES);
            details.insert("confusion_entries".to_owned(), json!(entries));
            details.insert("confusion_rest".to_owned(), json!(rest));
        }
        if let Some(observer) = observer {
            intervals(details, &classes::SCORES, &mut counts, examples, observer, |counts, chosen| {
                counts.recount(chosen.iter().map(|&example| self.pair(example)));
            })?;
        }
        Some(scores)
    }

    fn lines(self, losses: Vec<f32>, listed: Listed, places: Places<'a>) -> Lines<'a> {
        Lines::new(move |i| {
            let ((what, place), (truth, predicted)) = (place_of(&places, i), self.pair(i));
            let mut line = json!({
                what: place, "label": self.labels[truth], "prediction": self.labels[predicted],
                "probability": self.probabilities[i], LOSS.name(): losses[i],
            });
            add_logits(&mut line, &listed, self.labels, i);
            line
        })
    }
}

fn scores_of_sets(
    names: &[String],
    truth: &[Vec<usize>],
    predicted: &LabelSets,
    observer: Option<&dyn Observer>,
    details: &mut Map<String, Value>,
) -> Option<Scores> {
    let mut counts = LabelCounts::new(names.len());
    counts.recount(0..truth.len(), truth, predicted);
    let scores = scores(&labels::SCORES, &counts);
    add_classes(details, names, counts.labels());
    if let Some(observer) = observer {
        intervals(details, &labels::SCORES, &mut counts, truth.len(), observer, |counts, chosen| {
            counts.recount(chosen.iter().copied(), truth, predicted);
        })?;
    }
    Some(scores)
}

fn lines_of_sets<'a>(
    labels: &'a [String],
    truth: &'a [Vec<usize>],
    predicted: LabelSets,
    losses: Vec<f32>,
    listed: Listed,
    places: Places<'a>,
) -> Lines<'a> {
    Lines::new(move |i| {
        let mut said: Vec<usize> = predicted.of(i).take(MOST_LISTED_LABELS + 1).collect();
        if said.len() > MOST_LISTED_LABELS {
            said = listed.likeliest(i).map(|(label, _)| label).take(LISTED_LOGITS).collect();
        }
        let names = |numbers: &[usize]| -> Vec<&String> { numbers.iter().map(|&label| &labels[label]).collect() };
        let (what, place) = place_of(&places, i);
        let (own, said) = (names(&truth[i]), names(&said));
        let mut line = json!({what: place, "labels": own, "predictions": said, LOSS.name(): losses[i]});
        add_logits(&mut line, &listed, labels, i);
        line
    })
}

fn scores_of_values(
    pairs: &[(f64, f64)],
    observer: Option<&dyn Observer>,
    details: &mut Map<String, Value>,
) -> Option<Scores> {
    let mut counts = RegressionScores::new(pairs);
    let scores = scores(&regression::SCORES, &counts);
    if let Some(observer) = observer {
        let mut drawn = Vec::with_capacity(pairs.len());
        intervals(details, &regression::SCORES, &mut counts, pairs.len(), observer, |counts, chosen| {
            drawn.clear();
            drawn.extend(chosen.iter().map(|&i| pairs[i]));
            *counts = RegressionScores::new(&drawn);
        })?;
    }
    Some(scores)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};
    use tch::{Device, Kind, Tensor};

    use super::{MOST_MATRIX_LABELS, evaluate};
    use crate::data::examples::Targets;
    use crate::observer::Observer;
    use crate::score::Evaluation;
    use crate::tasks::outputs::Outputs;
    use finetuned::domain::metric::regression::MSE;
    use finetuned::domain::metric::{ACCURACY, LOSS};
    use finetuned::domain::random::mix_all;
    use finetuned::domain::report::Place;
    use finetuned::domain::run::{TrainerCommand, TrainerMessage};

    /// Hears nothing, and says to stop if it is told to.
    struct Quiet(Option<TrainerCommand>);

    impl Observer for Quiet {
        fn report(&self, _: TrainerMessage) {}

        fn stop(&self) -> Option<TrainerCommand> {
            self.0
        }
    }

    fn line(example: usize) -> Place {
        Place { line: example as u64 + 1, member: None }
    }

    fn names(count: usize) -> Vec<String> {
        (0..count).map(|label| format!("l{label}")).collect()
    }

    fn outputs<'a>(labels: &'a [String], targets: &'a Targets, logits: &[Vec<f32>]) -> Outputs<'a> {
        let mut outputs = Outputs::new(labels, targets, logits.len());
        // In batches of two, the last ones first, as texts by their length may come.
        for batch in (0..logits.len()).rev().collect::<Vec<_>>().chunks(2) {
            let rows: Vec<f32> = batch.iter().flat_map(|&index| logits[index].clone()).collect();
            let rows = Tensor::from_slice(&rows).view([batch.len() as i64, -1]);
            outputs.add(batch, &rows, &Tensor::full([batch.len() as i64], 0.5, (Kind::Float, Device::Cpu))).unwrap();
        }
        outputs
    }

    fn scored<'a>(labels: &'a [String], targets: &'a Targets, logits: &[Vec<f32>]) -> Evaluation<'a> {
        evaluate(outputs(labels, targets, logits), Box::new(line), Some(&Quiet(None))).unwrap()
    }

    #[test]
    fn each_problem_has_its_scores_and_a_line_per_example() {
        let labels = ["a", "b", "c"].map(str::to_owned);
        let logits = [vec![2.0, 1.0, 0.0], vec![0.0, 1.0, -1.0]];
        let targets = Targets::Classes(vec![0, 2]);
        let single = scored(&labels, &targets, &logits);
        assert_eq!((single.scores[&ACCURACY], single.scores[&LOSS]), (0.5, 0.5));
        assert_eq!(
            (&single.lines.of(1)["prediction"], &single.lines.of(1)["logits"]),
            (&json!("b"), &json!([0.0, 1.0, -1.0]))
        );
        assert_eq!(single.report()["confusion_matrix"], json!([[1, 0, 0], [0, 0, 0], [0, 1, 0]]));
        assert!(single.report()["confidence_intervals"]["accuracy"].is_array());
        let targets = Targets::Sets(vec![vec![0, 1], vec![]]);
        let many = scored(&labels, &targets, &logits);
        assert_eq!((many.scores[&ACCURACY], many.lines.of(1)["predictions"].clone()), (0.5, json!(["b"])));
        let (targets, first) = (Targets::Values(vec![2.0, 1.0]), logits.map(|row| row[..1].to_vec()));
        let values = scored(&[], &targets, &first);
        assert_eq!((values.scores[&MSE], values.lines.of(1)["value"].clone()), (0.5, Value::from(1.0)));
        let stopping = Quiet(Some(TrainerCommand::Stop { checkpoint: false }));
        let targets = Targets::Classes(vec![0, 2]);
        let told = outputs(&labels, &targets, &[vec![0.0; 3], vec![0.0; 3]]);
        assert!(evaluate(told, Box::new(line), Some(&stopping)).is_none());
    }

    #[test]
    fn intervals_are_those_of_a_matrix_for_each_sample() {
        let (classes, examples) = (7, 60);
        let labels = names(classes);
        let truth: Vec<usize> = (0..examples).map(|i| i * i % 5).collect();
        let logits: Vec<Vec<f32>> = (0..examples)
            .map(|i| {
                (0..classes)
                    .map(|class| {
                        (mix_all(&[i as u64, class as u64]) % 9) as f32 + f32::from(u8::from(class == truth[i])) * 4.0
                    })
                    .collect()
            })
            .collect();
        let said: Vec<usize> = logits.iter().map(|row| crate::score::argmax(row)).collect();
        let macro_f1 = |chosen: &[usize]| {
            let count = |holds: &dyn Fn(usize) -> bool| chosen.iter().filter(|&&i| holds(i)).count() as f64;
            let scores: Vec<f64> = (0..classes)
                .filter_map(|class| {
                    let both = count(&|i| truth[i] == class) + count(&|i| said[i] == class);
                    (both > 0.0).then(|| 2.0 * count(&|i| truth[i] == class && said[i] == class) / both)
                })
                .collect();
            scores.iter().sum::<f64>() / scores.len() as f64
        };
        let mut samples: Vec<f64> = (0..1000_u64)
            .map(|sample| {
                let chosen: Vec<usize> =
                    (0..examples).map(|i| (mix_all(&[sample, i as u64]) % examples as u64) as usize).collect();
                macro_f1(&chosen)
            })
            .collect();
        samples.sort_by(f64::total_cmp);
        let targets = Targets::Classes(truth.clone());
        let report = scored(&labels, &targets, &logits).report();
        assert_eq!(report["confidence_intervals"]["macro_f1"], json!([samples[25], samples[974]]));
    }

    #[test]
    fn of_many_labels_the_likeliest_are_listed() {
        let labels = names(MOST_MATRIX_LABELS + 1);
        let row = |best: usize| -> Vec<f32> {
            (0..labels.len()).map(|class| -((class as f32 - best as f32).abs())).collect()
        };
        let targets = Targets::Classes(vec![3, 200, 200]);
        let single = scored(&labels, &targets, &[row(3), row(199), row(199)]);
        assert_eq!(single.report()["confusion_entries"], json!([[3, 3, 1], [200, 199, 2]]));
        assert_eq!(
            (single.report()["confusion_rest"].clone(), single.report().get("confusion_matrix")),
            (json!(0), None)
        );
        let line = single.lines.of(1);
        assert!(line.get("logits").is_none());
        assert_eq!(line["top_logits"].as_array().unwrap().len(), 20);
        // Of equal ones the first comes first.
        assert_eq!(line["top_logits"][1], json!({"label": "l198", "logit": -1.0}));
        let targets = Targets::Sets(vec![vec![1], vec![0, 2]]);
        let all = |logit: f32| row(0).iter().map(|value| value + logit).collect::<Vec<f32>>();
        let many = scored(&labels, &targets, &[all(2.0), all(1000.0)]);
        assert_eq!(many.lines.of(0)["predictions"], json!(["l0", "l1"]));
        assert_eq!(many.lines.of(1)["predictions"].as_array().unwrap().len(), 20);
    }

    /// With a matrix of the classes for each sample it took 800 MB at once, and the logits as much.
    #[test]
    fn ten_thousand_labels_take_little_memory() {
        let peak = || -> u64 {
            let status = std::fs::read_to_string("/proc/self/status").unwrap();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() >> 10
        };
        let (labels, examples) = (names(10_000), 4000);
        let targets = Targets::Classes((0..examples).map(|i| i * 7 % 10_000).collect());
        let before = peak();
        let mut outputs = Outputs::new(&labels, &targets, examples);
        let batch = Tensor::randn([20, 10_000], (Kind::Float, Device::Cpu));
        for start in (0..examples).step_by(500) {
            let indices: Vec<usize> = (start..start + 20).collect();
            outputs.add(&indices, &batch, &batch.mean_dim(1, false, Kind::Float)).unwrap();
        }
        let found = evaluate(outputs, Box::new(line), Some(&Quiet(None))).unwrap();
        assert_eq!(found.report()["classes"].as_object().unwrap().len(), 10_000);
        let folder = tempfile::tempdir().unwrap();
        found.write(folder.path(), "").unwrap();
        let grown = peak() - before;
        assert!(grown < 300, "{grown} MiB");
    }
}
