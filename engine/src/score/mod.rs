//! What an evaluation gives: scores by name, the details of a report, and a line for each example.

pub mod bootstrap;
pub mod lines;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::error::{EngineError, Result};
use finetuned::domain::checkpoint::Metrics;
use finetuned::domain::metric::{LOSS, Metric, Split};

/// A whole evaluation.
pub struct Evaluation<'a> {
    pub examples: u64,
    /// The loss and the scores of the task.
    pub scores: BTreeMap<Metric, f64>,
    /// What a report holds besides: scores per class, the confusion matrix, intervals.
    pub details: Map<String, Value>,
    pub lines: Lines<'a>,
}

/// One object per example, in the order of the file: made when it is written, for it takes many times the memory of what
/// it is made from.
pub struct Lines<'a>(Box<dyn Fn(usize) -> Value + 'a>);

impl<'a> Lines<'a> {
    /// Of the example with the number that `make` is given.
    pub fn new(make: impl Fn(usize) -> Value + 'a) -> Self {
        Self(Box::new(make))
    }

    /// The line of an example.
    pub fn of(&self, example: usize) -> Value {
        (self.0)(example)
    }
}

impl<'a> Evaluation<'a> {
    /// An evaluation with the mean loss, scores and lines alone.
    pub fn new(examples: usize, loss: f64, scores: Vec<(Metric, f64)>, lines: Lines<'a>) -> Self {
        let scores = [(LOSS, loss)].into_iter().chain(scores).collect();
        Self { examples: examples as u64, scores, details: Map::new(), lines }
    }

    /// The scores as metrics of the validation data.
    pub fn metrics(&self) -> Metrics {
        self.scores.iter().map(|(metric, value)| (metric.on(Split::Validation), *value)).collect()
    }

    /// The number of examples and the scores.
    pub fn summary(&self) -> Map<String, Value> {
        let mut summary = Map::from_iter([("examples".to_owned(), json!(self.examples))]);
        summary.extend(self.scores.iter().map(|(metric, value)| (metric.name().to_owned(), json!(value))));
        summary
    }

    /// The summary with the details.
    pub fn report(&self) -> Map<String, Value> {
        let mut report = self.summary();
        report.extend(self.details.clone());
        report
    }

    /// Writes `{prefix}report.json` and `{prefix}predictions.jsonl` into `directory`.
    pub fn write(&self, directory: &Path, prefix: &str) -> Result<()> {
        write_report(&directory.join(format!("{prefix}report.json")), &self.report())?;
        let path = directory.join(format!("{prefix}predictions.jsonl"));
        self.write_lines(&path).map_err(EngineError::io(&path))
    }

    /// Writes the lines of all examples.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_lines(&self, path: &Path) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        for example in 0..self.examples as usize {
            serde_json::to_writer(&mut file, &self.lines.of(example))?;
            file.write_all(b"\n")?;
        }
        file.flush()
    }
}

/// Writes a report.
///
/// # Errors
/// The file cannot be written.
pub fn write_report(path: &Path, report: &Map<String, Value>) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(report).unwrap_or_default();
    text.push(b'\n');
    std::fs::write(path, text).map_err(EngineError::io(path))
}

/// The place of the largest value; of equal ones the first.
pub fn argmax(values: &[f32]) -> usize {
    let best = values.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.map_or(0, |(index, _)| index)
}

/// How many values are larger than the one at `index`.
pub fn rank(values: &[f32], index: usize) -> usize {
    values.iter().filter(|&&value| value > values[index]).count()
}

/// Softmax of logits, in float64.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let powers: Vec<f64> = logits.iter().map(|&logit| f64::from(logit - most).exp()).collect();
    let total: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / total).collect()
}

/// Bins of the calibration error.
const BINS: usize = 10;

/// The expected calibration error (Guo et al. 2017, arXiv:1706.04599) over ten bins of equal width: how far the
/// confidence of predictions is from their accuracy, on average. `predictions` are (confidence, right).
pub fn calibration_error(predictions: &[(f64, bool)]) -> f64 {
    let mut bins = [(0.0, 0.0); BINS];
    for &(confidence, right) in predictions {
        let bin = &mut bins[((confidence * BINS as f64).ceil() as usize).clamp(1, BINS) - 1];
        bin.0 += confidence;
        bin.1 += f64::from(u8::from(right));
    }
    bins.iter().map(|(confidence, right)| (confidence - right).abs()).sum::<f64>() / predictions.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::{argmax, calibration_error, rank, softmax};

    #[test]
    fn the_first_of_equal_logits_wins() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, f32::NEG_INFINITY]), 1);
        assert_eq!((rank(&[1.0, 3.0, 2.0], 0), rank(&[1.0, 3.0, 2.0], 1)), (2, 0));
    }

    #[test]
    fn probabilities_add_up_however_large_the_logits() {
        let probabilities = softmax(&[1000.0, 1000.0, -1000.0]);
        assert_eq!(probabilities, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn calibration_is_the_gap_between_confidence_and_accuracy() {
        // Ten sure predictions of which nine are right, and ten of 0.6 of which three are.
        let mut predictions = vec![(1.0, true); 9];
        predictions.push((1.0, false));
        predictions.extend((0..10).map(|i| (0.6, i < 3)));
        assert!((calibration_error(&predictions) - (0.1 * 0.5 + 0.3 * 0.5)).abs() < 1e-12);
        assert_eq!(calibration_error(&[]), 0.0);
    }
}
