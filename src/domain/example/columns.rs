//! The file of the statistics of examples: safetensors, each column one-dimensional, with a value for each example in the
//! order of the data.

use std::borrow::Cow;
use std::collections::BTreeMap;

use safetensors::tensor::{Dtype, View};

use super::{ExampleStatistics, LabelStatistics};

/// Where a finished model and a checkpoint keep it.
pub const MODEL_FILE: &str = "evaluation/training_examples.safetensors";
pub const CHECKPOINT_FILE: &str = "training/training_examples.safetensors";

/// U64: the line in the data file.
pub const LINE: &str = "line";
/// U8: the names of members of an archive, end to end, and U64: where each ends.
pub const FILES: &str = "files";
pub const FILE_ENDS: &str = "file_ends";
/// U32: the number of the one label.
pub const LABEL: &str = "label";
/// U32: the numbers of several labels, end to end, and U64: where those of each example end.
pub const LABELS: &str = "labels";
pub const LABEL_ENDS: &str = "label_ends";
/// F64: the value to be predicted.
pub const VALUE: &str = "value";

const EPOCHS: &str = "epochs";
const LOSS: &str = "loss_sum";
const PREDICTION: &str = "prediction";
const MARGIN: &str = "margin_sum";
const CORRECT: &str = "correct";
const FORGETTING: &str = "forgetting_events";
const WAS_CORRECT: &str = "was_correct";
/// The columns of the statistics themselves; the latter four where the examples have labels.
pub const STATISTICS: [&str; 7] = [EPOCHS, LOSS, PREDICTION, MARGIN, CORRECT, FORGETTING, WAS_CORRECT];

/// A column of the file.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: &'static str,
    dtype: Dtype,
    shape: [usize; 1],
    bytes: Vec<u8>,
}

impl Column {
    /// Of values in little-endian bytes.
    pub fn new<const WIDTH: usize>(
        name: &'static str,
        dtype: Dtype,
        values: impl IntoIterator<Item = [u8; WIDTH]>,
    ) -> Self {
        let bytes: Vec<u8> = values.into_iter().flatten().collect();
        Self { name, dtype, shape: [bytes.len() / WIDTH.max(1)], bytes }
    }

    /// How many bytes it has.
    pub fn bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl View for &Column {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(&self.bytes)
    }

    fn data_len(&self) -> usize {
        self.bytes.len()
    }
}

/// The columns of the statistics of all examples.
pub fn columns(all: &[ExampleStatistics], have_labels: bool) -> Vec<Column> {
    let mut columns = vec![
        Column::new(EPOCHS, Dtype::U32, all.iter().map(|one| one.epochs.to_le_bytes())),
        Column::new(LOSS, Dtype::F64, all.iter().map(|one| one.loss.to_le_bytes())),
        Column::new(PREDICTION, Dtype::F32, all.iter().map(|one| one.prediction.to_le_bytes())),
    ];
    if have_labels {
        let labels = || all.iter().map(|one| one.labels.unwrap_or_default());
        columns.extend([
            Column::new(MARGIN, Dtype::F64, labels().map(|labels| labels.margin.to_le_bytes())),
            Column::new(CORRECT, Dtype::U32, labels().map(|labels| labels.correct.to_le_bytes())),
            Column::new(FORGETTING, Dtype::U32, labels().map(|labels| labels.forgetting_events.to_le_bytes())),
            Column::new(WAS_CORRECT, Dtype::U8, labels().map(|labels| [labels.was_correct.into()])),
        ]);
    }
    columns
}

/// The statistics of some examples in their bytes of the columns [`STATISTICS`], as far as the file has them; None where one
/// is missing or too short.
pub fn read(columns: &BTreeMap<&str, Vec<u8>>) -> Option<Vec<ExampleStatistics>> {
    let of = |name| columns.get(name).map(Vec::as_slice);
    let (epochs, losses, predictions) = (values(of(EPOCHS)?), values(of(LOSS)?), values(of(PREDICTION)?));
    let count = epochs.len();
    if losses.len() != count || predictions.len() != count {
        return None;
    }
    let of_all = epochs.iter().zip(losses).zip(predictions).map(|((&epochs, &loss), &prediction)| ExampleStatistics {
        epochs: u32::from_le_bytes(epochs),
        loss: f64::from_le_bytes(loss),
        prediction: f32::from_le_bytes(prediction),
        labels: None,
    });
    let mut all: Vec<ExampleStatistics> = of_all.collect();
    let Some(margins) = of(MARGIN).map(values) else { return Some(all) };
    let (correct, forgetting, was_correct) = (values(of(CORRECT)?), values(of(FORGETTING)?), of(WAS_CORRECT)?);
    if [margins.len(), correct.len(), forgetting.len(), was_correct.len()] != [count; 4] {
        return None;
    }
    let of_labels = margins.iter().zip(correct).zip(forgetting.iter().zip(was_correct));
    for (one, ((&margin, &correct), (&forgetting, &was_correct))) in all.iter_mut().zip(of_labels) {
        let labels = LabelStatistics {
            margin: f64::from_le_bytes(margin),
            correct: u32::from_le_bytes(correct),
            forgetting_events: u32::from_le_bytes(forgetting),
            was_correct: was_correct != 0,
        };
        one.labels = Some(labels).filter(|_| one.epochs > 0);
    }
    Some(all)
}

/// Values of a column.
pub fn values<const WIDTH: usize>(bytes: &[u8]) -> &[[u8; WIDTH]] {
    bytes.as_chunks().0
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{ExampleStatistics, Observation};
    use super::{Column, columns, read};

    fn seen(passes: &[(f64, Option<f64>)]) -> ExampleStatistics {
        let mut example = ExampleStatistics::default();
        for &(loss, margin) in passes {
            example.add(Observation { loss, prediction: 1.0, margin });
        }
        example
    }

    #[test]
    fn what_is_written_in_columns_reads_back() {
        let bytes = |columns: Vec<Column>| columns.into_iter().map(|column| (column.name, column.bytes)).collect();
        let labelled = [
            ExampleStatistics::default(),
            seen(&[(1.0, Some(0.25)), (1.0, Some(-1.0))]),
            seen(&[(f64::MAX, Some(1e-9))]),
        ];
        assert_eq!(read(&bytes(columns(&labelled, true))).unwrap(), labelled);
        let values = [seen(&[(0.1, None), (0.2, None)])];
        assert_eq!(read(&bytes(columns(&values, false))).unwrap(), values);
        let mut short: BTreeMap<&str, Vec<u8>> = bytes(columns(&labelled, true));
        short.get_mut("margin_sum").unwrap().pop();
        assert_eq!(read(&short), None);
    }
}
