//! The result file of a training: its metrics by step.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use super::{Done, result_file};
use crate::app::App;
use crate::db::metrics;
use crate::db::queue::Claim;
use crate::domain::checkpoint::Metrics;
use crate::domain::error::{Error, Result, is_storage_full};
use crate::domain::file::File;
use crate::domain::job::Job;
use crate::store::out_of_storage;

/// The job's metrics as OpenAI's result file: its five columns first, ours behind them.
pub(super) async fn store(app: &App, claim: &Claim, job: &Job, done: &Done<'_>) -> Result<File> {
    let recorded = metrics::all(app.db.pool(), job.id).await?;
    let mut rows: BTreeMap<u64, Metrics> = recorded.into_iter().map(|row| (row.step, row.values)).collect();
    for row in &done.rows {
        rows.entry(row.step).or_default().extend(row.values.clone());
    }
    let text = results_csv(&rows);
    let file = nameless(app, &text)
        .map_err(|error| if is_storage_full(&error) { out_of_storage(error) } else { Error::internal(error) })?;
    result_file(app, claim, job, file, "step_metrics.csv").await
}

/// A file of ours without a name: in the run's folder the trainer may have put anything in its place.
fn nameless(app: &App, text: &str) -> std::io::Result<std::fs::File> {
    let path = app.scratch().join(uuid::Uuid::new_v4().simple().to_string());
    let mut file = std::fs::File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file)
}

/// Column of the result file and the metric in it.
const COLUMNS: [(&str, &str); 8] = [
    ("train_loss", "train_loss"),
    ("train_accuracy", "train_accuracy"),
    ("valid_loss", "full_valid_loss"),
    ("valid_mean_token_accuracy", "full_valid_accuracy"),
    ("valid_macro_f1", "full_valid_macro_f1"),
    ("learning_rate", "learning_rate"),
    ("grad_norm", "grad_norm"),
    ("trained_tokens", "trained_tokens"),
];

fn results_csv(rows: &BTreeMap<u64, Metrics>) -> String {
    let mut text = String::from("step");
    for (column, _) in COLUMNS {
        text.push(',');
        text.push_str(column);
    }
    text.push('\n');
    for (step, values) in rows {
        text.push_str(&step.to_string());
        for (_, metric) in COLUMNS {
            text.push(',');
            if let Some(value) = values.get(metric) {
                text.push_str(&value.to_string());
            }
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::results_csv;

    #[test]
    fn openais_columns_come_first_and_empty_means_not_measured() {
        let row = |step: u64, pairs: &[(&str, f64)]| {
            (step, pairs.iter().map(|&(name, value)| (name.to_owned(), value)).collect())
        };
        let rows = std::collections::BTreeMap::from([
            row(1, &[("train_loss", 1.5), ("train_accuracy", 0.0), ("learning_rate", 1e-5)]),
            row(2, &[("train_loss", 0.5), ("full_valid_loss", 0.25), ("trained_tokens", 1234.0)]),
        ]);
        assert_eq!(
            results_csv(&rows),
            "step,train_loss,train_accuracy,valid_loss,valid_mean_token_accuracy,valid_macro_f1,learning_rate,\
             grad_norm,trained_tokens\n\
             1,1.5,0,,,,0.00001,,\n\
             2,0.5,,0.25,,,,,1234\n"
        );
    }
}
