//! `finetuned check-data`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ArgMatches;

use crate::dataset::prepare::{self, Found, Inputs, Wanted};
use crate::dataset::{Input, detect_format};
use crate::domain::job::DatasetOptions;
use crate::domain::method::Method;
use crate::domain::report::ExamplesReport;

/// Labels shown, the most frequent first.
const SHOWN_LABELS: usize = 20;

pub(super) fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let input = |name: &str| {
        arguments
            .get_one::<PathBuf>(name)
            .map(|path| {
                let filename = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                let format = detect_format(path, &filename).with_context(|| path.display().to_string())?;
                anyhow::Ok(Input::new(path, format))
            })
            .transpose()
    };
    let text = |name: &str| arguments.get_one::<String>(name).cloned();
    let options =
        DatasetOptions { text_column: text("text-column"), label_column: text("label-column"), validation_split: None };
    let training = input("training")?.context("a training file is needed")?;
    let inputs = Inputs { training, validation: input("validation")?, test: None };
    let method = match arguments.get_one::<String>("method") {
        Some(word) => Method::parse(word).map_err(|error| anyhow::anyhow!(error.message))?,
        None => Method::TextClassification,
    };
    let Found { report, labels, .. } = prepare::prepare(&inputs, &Wanted { method, problem: None, options })?;
    show("training", &report.training);
    if let Some(validation) = &report.validation {
        show("validation", validation);
        println!("validation texts that are also training texts: {}", report.validation_overlap);
    } else {
        println!("held out for validation: {} examples", report.held_out);
    }
    match labels {
        Ok(_) => {
            println!("ready to train");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            eprintln!("{}: {}", error.code, error.message);
            Ok(ExitCode::FAILURE)
        }
    }
}

fn show(name: &str, report: &ExamplesReport) {
    let lengths = &report.text_lengths;
    println!(
        "{name}: {} examples, {} labels; texts of {} to {} characters, {:.1} on average",
        report.examples,
        report.label_count(),
        lengths.min,
        lengths.max,
        lengths.mean
    );
    let mut labels: Vec<(&String, &u64)> = report.labels.iter().collect();
    labels.sort_by_key(|(label, count)| (std::cmp::Reverse(**count), label.as_str()));
    for (label, count) in labels.iter().take(SHOWN_LABELS) {
        println!("  {count:8}  {label}");
    }
    if labels.len() > SHOWN_LABELS {
        println!("  and {} more labels", report.label_count() - SHOWN_LABELS as u64);
    }
    for fault in &report.faults.listed {
        let field = fault.field.as_deref().map(|field| format!(", {field}")).unwrap_or_default();
        let place = fault.member.clone().unwrap_or_else(|| format!("line {}", fault.line));
        println!("  {place}{field}: {}", fault.message);
    }
    if report.faults.count > report.faults.listed.len() as u64 {
        println!("  and {} more faults", report.faults.count - report.faults.listed.len() as u64);
    }
}
