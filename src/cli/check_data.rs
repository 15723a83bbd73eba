//! `finetuned check-data`.

use std::fmt::Write;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::ArgMatches;

use super::output::{answer, remark};
use crate::dataset::images::IMAGE_COLUMN;
use crate::dataset::prepare::{self, Found, Parts, Source, Wanted};
use crate::dataset::{Input, detect_format, rows};
use crate::domain::backbone::Backbone;
use crate::domain::job::{DatasetOptions, ReadOptions};
use crate::domain::method::Method;
use crate::domain::report::{DataFormat, ExamplesReport, ImageStatistics};

/// Labels shown, the most frequent first.
const SHOWN_LABELS: usize = 20;

pub(super) fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let text = |name: &str| arguments.get_one::<String>(name).cloned();
    let read =
        ReadOptions { text_column: text("text-column"), label_column: text("label-column"), ..ReadOptions::default() };
    let options = DatasetOptions { read, ..DatasetOptions::default() };
    let training = input(arguments, "training")?.context("a training file is needed")?;
    let method = match text("method") {
        Some(word) => Method::parse(&word).map_err(|error| anyhow::anyhow!(error.message))?,
        None => likely_method(&training)?,
    };
    let path = training.path.display().to_string();
    let sources = Parts {
        training: Source::File(training),
        validation: input(arguments, "validation")?.map(Source::File),
        test: input(arguments, "test")?.map(Source::File),
    };
    let found = prepare::prepare(sources, &Wanted { method, problem: None, options });
    let Found { report, labels, .. } = found.context(path)?;
    let mut lines = format!("method: {method}\n");
    show(&mut lines, "training", &report.training)?;
    if let Some(validation) = &report.validation {
        show(&mut lines, "validation", validation)?;
        writeln!(lines, "validation examples that are also training examples: {}", report.validation_overlap)?;
    } else {
        writeln!(lines, "held out for validation: {} examples", report.held_out)?;
    }
    if let Some(test) = &report.test {
        show(&mut lines, "test", test)?;
    }
    if labels.is_ok() {
        lines.push_str("ready to train\n");
    }
    answer(&lines)?;
    match labels {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            remark(&format!("{}: {}", error.code, error.message));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// The file that an argument names, if it is given.
fn input(arguments: &ArgMatches, name: &str) -> anyhow::Result<Option<Input>> {
    let Some(path) = arguments.get_one::<PathBuf>(name) else { return Ok(None) };
    let named = || format!("the {name} file {}", path.display());
    // Looked at before it is opened: a pipe would be waited for.
    if !fs::metadata(path).with_context(named)?.is_file() {
        bail!("{} is no file", named());
    }
    File::open(path).with_context(named)?;
    let filename = path.file_name().unwrap_or_default().to_string_lossy();
    let format = detect_format(path, &filename).with_context(named)?;
    Ok(Some(Input::new(path, format)))
}

/// Archives hold images, and so do rows with an image; anything else is texts with labels unless it is said.
fn likely_method(training: &Input) -> anyhow::Result<Method> {
    let has_images = match training.format {
        DataFormat::Zip | DataFormat::Tar => true,
        DataFormat::Jsonl | DataFormat::Json | DataFormat::Parquet => {
            let first = rows::first(training).with_context(|| training.path.display().to_string())?;
            first.is_some_and(|row| row.get(IMAGE_COLUMN).is_some())
        }
        DataFormat::Csv | DataFormat::Text | DataFormat::Unknown => false,
    };
    Ok(Method::default_for(if has_images { Backbone::VisionTransformer } else { Backbone::TextTransformer }))
}

fn show(lines: &mut String, name: &str, report: &ExamplesReport) -> std::fmt::Result {
    let content = if let Some(ImageStatistics { widths, heights, .. }) = report.images() {
        format!("images of {}×{} to {}×{} pixels", widths.min, heights.min, widths.max, heights.max)
    } else {
        let lengths = report.text_lengths();
        format!("texts of {} to {} characters, {:.1} on average", lengths.min, lengths.max, lengths.mean)
    };
    writeln!(lines, "{name}: {} examples, {} labels; {content}", report.examples, report.label_count())?;
    let mut labels: Vec<(&String, &u64)> = report.labels().iter().collect();
    labels.sort_by_key(|(label, count)| (std::cmp::Reverse(**count), label.as_str()));
    for (label, count) in labels.iter().take(SHOWN_LABELS) {
        writeln!(lines, "  {count:8}  {label}")?;
    }
    if labels.len() > SHOWN_LABELS {
        writeln!(lines, "  and {} more labels", report.label_count() - SHOWN_LABELS as u64)?;
    }
    for fault in &report.faults.listed {
        let field = fault.field.as_deref().map(|field| format!(", {field}")).unwrap_or_default();
        let place = fault.member.clone().unwrap_or_else(|| format!("line {}", fault.line));
        writeln!(lines, "  {place}{field}: {}", fault.message)?;
    }
    if report.faults.count > report.faults.listed.len() as u64 {
        writeln!(lines, "  and {} more faults", report.faults.count - report.faults.listed.len() as u64)?;
    }
    Ok(())
}
