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
use crate::domain::metric::{self, GRAD_NORM, LEARNING_RATE, TRAINED_TOKENS};
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

/// Columns of the result file and the metric in each: OpenAI's first, then those that every file of ours has, then what
/// this run measured besides.
fn columns(rows: &BTreeMap<u64, Metrics>) -> Vec<(String, String)> {
    let is_measured = |name: &str| rows.values().any(|values| values.contains_key(name));
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for (metric, split) in metric::by_split() {
        let ((column, always), name) = (metric.column(split), metric.on(split));
        if always {
            first.push((column, name));
        } else if is_measured(&name) {
            others.push((column, name));
        }
    }
    let of_steps = [LEARNING_RATE, GRAD_NORM, TRAINED_TOKENS].map(|name| (name.to_owned(), name.to_owned()));
    first.into_iter().chain(of_steps).chain(others).collect()
}

fn results_csv(rows: &BTreeMap<u64, Metrics>) -> String {
    let columns = columns(rows);
    let mut text = String::from("step");
    for (column, _) in &columns {
        text.push(',');
        text.push_str(column);
    }
    text.push('\n');
    for (step, values) in rows {
        text.push_str(&step.to_string());
        for (_, metric) in &columns {
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
        let regression = std::collections::BTreeMap::from([row(3, &[("full_valid_mse", 0.5), ("unknown", 1.0)])]);
        let text = results_csv(&regression);
        assert!(text.contains("trained_tokens,valid_mse\n3,") && text.ends_with(",0.5\n"), "{text}");
    }
}
