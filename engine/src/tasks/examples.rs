//! What the forward passes of a training say of its examples, kept beside the training on the host.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::{Dtype, SafeTensors};
use tch::{Kind, Tensor};

use super::loss::Loss;
use crate::data::examples::Targets;
use crate::error::{EngineError, Result};
use crate::weights::write_views;
use finetuned::domain::example::columns::{self, Column};
use finetuned::domain::example::{ExampleStatistics, Observation};
use finetuned::domain::report::Place;

/// What `logits` `[S, C]` (float32) say of the examples with these [`targets`](Loss::targets): float64 `[R, S]` without
/// gradient, on the same device. The rows are the losses, the predictions and, but for values, the margins
/// ([`Observation`] says what each is).
pub(super) fn observed(loss: &Loss, logits: &Tensor, targets: &Tensor) -> Result<Tensor> {
    let _guard = tch::no_grad_guard();
    let logits = logits.f_detach()?;
    let losses = loss.each(&logits, targets)?;
    let mut rows = if targets.kind() == Kind::Int64 {
        let own = targets.f_unsqueeze(1)?;
        let others = logits.f_scatter_value(1, &own, f64::NEG_INFINITY)?.f_amax([1], false)?;
        let margins = logits.f_gather(1, &own, false)?.f_squeeze_dim(1)?.f_sub(&others)?;
        vec![losses, logits.f_argmax(1, false)?, margins]
    } else if targets.dim() == 1 {
        vec![losses, logits.f_squeeze_dim(1)?]
    } else {
        let signs = targets.f_mul_scalar(2.0)?.f_sub_scalar(1.0)?;
        let (margins, labels) = logits.f_mul(&signs)?.f_min_dim(1, false)?;
        vec![losses, labels, margins]
    };
    for row in &mut rows {
        *row = row.f_to_kind(Kind::Double)?;
    }
    Ok(Tensor::f_stack(&rows, 0)?)
}

/// The statistics of a run's training examples, with where each stands and what it is labelled.
#[derive(Clone)]
pub struct ExampleTable {
    described: Arc<Vec<Column>>,
    statistics: Vec<ExampleStatistics>,
    have_labels: bool,
}

impl ExampleTable {
    /// Of examples of which no epoch is counted yet.
    pub(super) fn new(places: impl Iterator<Item = Place>, targets: &Targets) -> Self {
        let (mut lines, mut files) = (Vec::new(), Runs::default());
        for place in places {
            if let Some(member) = place.member {
                files.push(member.bytes());
            }
            lines.push(place.line);
        }
        let count = lines.len();
        let mut described = vec![Column::new(columns::LINE, Dtype::U64, lines.into_iter().map(u64::to_le_bytes))];
        if !files.ends.is_empty() {
            let names = files.values.into_iter().map(|byte| [byte]);
            described.push(Column::new(columns::FILES, Dtype::U8, names));
            described.push(Column::new(columns::FILE_ENDS, Dtype::U64, files.ends.into_iter().map(u64::to_le_bytes)));
        }
        let number = |&class: &usize| (class as u32).to_le_bytes();
        match targets {
            Targets::Classes(classes) => {
                described.push(Column::new(columns::LABEL, Dtype::U32, classes.iter().map(number)));
            }
            Targets::Sets(sets) => {
                let mut labels = Runs::default();
                for set in sets {
                    labels.push(set.iter().map(number));
                }
                let ends = labels.ends.into_iter().map(u64::to_le_bytes);
                described.push(Column::new(columns::LABELS, Dtype::U32, labels.values));
                described.push(Column::new(columns::LABEL_ENDS, Dtype::U64, ends));
            }
            Targets::Values(values) => {
                described.push(Column::new(columns::VALUE, Dtype::F64, values.iter().map(|value| value.to_le_bytes())));
            }
        }
        let have_labels = !matches!(targets, Targets::Values(_));
        Self { described: Arc::new(described), statistics: vec![ExampleStatistics::default(); count], have_labels }
    }

    /// Adds what one forward pass said of these examples: the values of [`Forward::seen`](super::Forward::seen), row by row.
    pub fn add(&mut self, examples: &[usize], seen: &[f64]) {
        let mut rows = seen.chunks(examples.len().max(1));
        let (Some(losses), Some(predictions)) = (rows.next(), rows.next()) else { return };
        let margins = rows.next();
        for ((at, &example), (&loss, &prediction)) in examples.iter().enumerate().zip(losses.iter().zip(predictions)) {
            let margin = margins.and_then(|margins| margins.get(at)).copied();
            self.statistics[example].add(Observation { loss, prediction: prediction as f32, margin });
        }
    }

    /// Writes all of it into the file `path`, whose folder exists.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let statistics = columns::columns(&self.statistics, self.have_labels);
        write_views(path, self.described.iter().chain(&statistics).map(|column| (column.name, column)))
    }

    /// Bytes that it takes in a file, about.
    pub fn bytes(&self) -> u64 {
        let described: u64 = self.described.iter().map(Column::bytes).sum();
        described + (self.statistics.len() * size_of::<ExampleStatistics>()) as u64
    }

    /// Takes the statistics over that a run on the same data wrote into the file `path`.
    ///
    /// # Errors
    /// The file cannot be read, or is of other examples.
    pub fn restore(&mut self, path: &Path) -> Result<()> {
        let bytes = fs::read(path).map_err(EngineError::io(path))?;
        let file =
            SafeTensors::deserialize(&bytes).map_err(|error| EngineError::checkpoint(path, error.to_string()))?;
        let column = |name| Some((name, file.tensor(name).ok()?.data().to_vec()));
        let columns: BTreeMap<&str, Vec<u8>> = columns::STATISTICS.into_iter().filter_map(column).collect();
        let read = columns::read(&columns).filter(|read| read.len() == self.statistics.len());
        self.statistics = read.ok_or_else(|| EngineError::checkpoint(path, "has the statistics of other examples"))?;
        Ok(())
    }
}

/// Runs of values laid end to end.
struct Runs<T> {
    values: Vec<T>,
    ends: Vec<u64>,
}

impl<T> Default for Runs<T> {
    fn default() -> Self {
        Self { values: Vec::new(), ends: Vec::new() }
    }
}

impl<T> Runs<T> {
    fn push(&mut self, run: impl Iterator<Item = T>) {
        self.values.extend(run);
        self.ends.push(self.values.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::path::Path;

    use tch::{Device, Kind, Tensor};

    use super::{ExampleTable, observed};
    use crate::data::examples::Targets;
    use crate::tasks::loss::Loss;
    use finetuned::domain::example::ExampleStatistics;
    use finetuned::domain::method::common::ClassWeights;
    use finetuned::domain::report::Place;

    fn places(count: usize) -> impl Iterator<Item = Place> {
        (0..count).map(|example| Place { line: example as u64 + 2, member: None })
    }

    /// The statistics of `targets` over epochs of logits, `[E, N, C]`, in batches of three that go round the examples.
    fn statistics(targets: &Targets, epochs: &Tensor) -> Vec<ExampleStatistics> {
        let (count, classes) = (epochs.size()[1] as usize, epochs.size()[2] as usize);
        // Weights and smoothing of the training's own loss do not count.
        let loss = Loss::new(ClassWeights::Balanced, 0.1, classes, targets, Device::Cpu).unwrap();
        let mut table = ExampleTable::new(places(count), targets);
        for epoch in 0..epochs.size()[0] {
            let order: Vec<usize> = (0..count).map(|at| (at + epoch as usize) % count).collect();
            for batch in order.chunks(3) {
                let at: Vec<i64> = batch.iter().map(|&example| example as i64).collect();
                let logits = epochs.get(epoch).index_select(0, &Tensor::from_slice(&at)).set_requires_grad(true);
                let chosen = loss.targets(targets, batch, Device::Cpu).unwrap();
                let seen = observed(&loss, &logits, &chosen).unwrap();
                assert!(!seen.requires_grad());
                table.add(batch, &Vec::<f64>::try_from(seen.reshape([-1])).unwrap());
            }
        }
        table.statistics
    }

    #[test]
    fn statistics_of_every_problem_are_those_of_pytorch() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/examples.safetensors");
        let golden: HashMap<String, Tensor> = Tensor::read_safetensors(path).unwrap().into_iter().collect();
        let values = |name: &str| Vec::<f64>::try_from(golden[name].to_kind(Kind::Double)).unwrap();
        let classes = values("single.targets").into_iter().map(|class| class as usize).collect();
        let rows = Vec::<Vec<f64>>::try_from(golden["several.targets"].to_kind(Kind::Double)).unwrap();
        let sets = rows.iter().map(|row| (0..row.len()).filter(|&label| row[label] > 0.0).collect()).collect();
        for (problem, targets) in [
            ("single", Targets::Classes(classes)),
            ("several", Targets::Sets(sets)),
            ("values", Targets::Values(values("values.targets"))),
        ] {
            let found = statistics(&targets, &golden[&format!("{problem}.logits")]);
            let of = |what: &str| values(&format!("{problem}.{what}"));
            let close = |what: &str, found: &[f64]| {
                let expected = of(what);
                assert_eq!(found.len(), expected.len());
                let difference = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(difference <= 1e-6, "{problem}.{what}: {difference:.2e}");
            };
            let each = |of: &dyn Fn(&ExampleStatistics) -> f64| found.iter().map(of).collect::<Vec<f64>>();
            close("mean_loss", &each(&|one| one.mean_loss().unwrap()));
            close("prediction", &each(&|one| one.prediction.into()));
            if problem == "values" {
                assert!(found.iter().all(|one| one.margin().is_none() && one.forgetting_events().is_none()));
                continue;
            }
            close("margin", &each(&|one| one.margin().unwrap()));
            close("correctness", &each(&|one| one.correctness().unwrap()));
            close("forgetting_events", &each(&|one| one.forgetting_events().unwrap().into()));
            assert!(of("forgetting_events").iter().any(|&events| events > 0.0), "{problem} has something to find");
        }
    }

    #[test]
    fn a_table_goes_on_from_its_file_and_from_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("examples.safetensors");
        for targets in [
            Targets::Classes(vec![0, 2, 1]),
            Targets::Sets(vec![vec![0, 2], vec![], vec![1]]),
            Targets::Values(vec![0.5, -1.0, 2.0]),
        ] {
            let table = || ExampleTable::new(places(3), &targets);
            let mut first = table();
            let rows = if first.have_labels { 3 } else { 2 };
            let seen: Vec<f64> = (0..2 * rows).map(|at| f64::from(at) * 0.1 - 0.2).collect();
            first.add(&[2, 0], &seen);
            first.write(&path).unwrap();
            let mut second = table();
            second.restore(&path).unwrap();
            assert_eq!(second.statistics, first.statistics);
            assert_eq!(second.statistics[1], ExampleStatistics::default());
            let mut other = ExampleTable::new(places(2), &targets);
            assert!(other.restore(&path).unwrap_err().to_string().contains("of other examples"));
        }
    }
}
