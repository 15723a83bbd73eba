//! What `finetuned check-data` found, for people.

use std::fmt::{Result, Write};

use serde_json::{Value, json};

use crate::dataset::prepare::{Found, Wanted};
use crate::domain::event::{Level, NewEvent};
use crate::domain::job::DatasetOptions;
use crate::domain::report::{Counts, DataReport, ExamplesReport, ImageStatistics, Lines, Part};

/// Labels shown, the most frequent first, and of more than these the rarest.
const MOST_FREQUENT: usize = 20;
const RAREST: usize = 5;

/// What is in the files, and what is `told` of them that needs nothing done.
pub(super) fn report(lines: &mut String, report: &DataReport, told: &[NewEvent]) -> Result {
    file(lines, Part::Training, &report.training)?;
    if let Some(validation) = &report.validation {
        file(lines, Part::Validation, validation)?;
        writeln!(lines, "validation examples that are also training examples: {}", report.validation_overlap)?;
    } else {
        writeln!(lines, "held out for validation: {} examples", report.held_out)?;
    }
    if let Some(test) = &report.test {
        file(lines, Part::Test, test)?;
    }
    for told in told.iter().filter(|told| told.level == Level::Info) {
        writeln!(lines, "note: {}", told.message)?;
    }
    Ok(())
}

/// What to do with the files.
pub(super) fn advice(lines: &mut String, found: &Found, told: &[NewEvent], wanted: &Wanted) -> Result {
    let warnings = told.iter().filter(|told| told.level != Level::Info);
    let mut steps: Vec<String> = warnings.map(|told| told.message.clone()).collect();
    match &found.labels {
        Ok(_) => {
            lines.push_str("ready to train\n");
            steps.push(format!("Upload what is to be used, and create a job with {}.", job(wanted)));
        }
        Err(error) => {
            steps.insert(0, error.message.clone());
            steps.push("Check again.".to_owned());
        }
    }
    lines.push_str("what to do:\n");
    steps.iter().enumerate().try_for_each(|(number, step)| writeln!(lines, "  {}. {step}", number + 1))
}

/// What a job must say to be read as it was here, besides model and files.
fn job(wanted: &Wanted) -> Value {
    let word = wanted.method.as_str();
    let hyperparameters = wanted.problem.map(|problem| json!({"hyperparameters": {"problem_type": problem}}));
    let mut method = json!({"type": word});
    if let Some(hyperparameters) = hyperparameters {
        method[word] = hyperparameters;
    }
    let mut job = json!({"method": method});
    if wanted.options != DatasetOptions::default() {
        job["dataset"] = json!(wanted.options);
    }
    job
}

fn file(lines: &mut String, part: Part, report: &ExamplesReport) -> Result {
    let content = if let Some(ImageStatistics { widths, heights, .. }) = report.images() {
        format!("images of {}×{} to {}×{} pixels", widths.min, heights.min, widths.max, heights.max)
    } else {
        let lengths = report.text_lengths();
        format!("texts of {} to {} characters, {:.1} on average", lengths.min, lengths.max, lengths.mean)
    };
    writeln!(lines, "{}: {} examples, {} labels; {content}", part.name(), report.examples, report.label_count())?;
    labels(lines, report)?;
    talk(lines, report)?;
    if !report.text_lengths().histogram.is_empty() {
        let bounds = report.text_lengths().histogram.iter().map(|(bound, count)| format!("{count} of up to {bound}"));
        writeln!(lines, "  characters: {}", bounds.collect::<Vec<_>>().join(", "))?;
    }
    if !report.languages.is_empty() {
        let told = report.languages.iter().map(|(code, count)| format!("{count} {code}")).collect::<Vec<_>>();
        writeln!(lines, "  likely languages of texts looked at (ISO 639-3): {}", told.join(", "))?;
    }
    if let Some(counts) = &report.counts {
        rows(lines, counts)?;
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

/// What conversations and preferences have besides texts.
fn talk(lines: &mut String, report: &ExamplesReport) -> Result {
    if let Some(chats) = report.chats().filter(|chats| chats.turns.texts() > 0) {
        let roles: Vec<String> = chats.messages.iter().map(|(role, count)| format!("{count} {role}")).collect();
        let (turns, learned) = (&chats.turns, chats.learned_messages);
        writeln!(
            lines,
            "  messages: {} to {} a conversation; {}; {learned} learned",
            turns.min,
            turns.max,
            roles.join(", ")
        )?;
        if chats.with_tools + chats.tool_calls > 0 {
            writeln!(lines, "  tools: in {} conversations, {} calls", chats.with_tools, chats.tool_calls)?;
        }
    }
    if let Some(preferences) = report.preferences() {
        let (preferred, other) = (&preferences.preferred_lengths, &preferences.non_preferred_lengths);
        let means = format!("{:.1} characters on average, {:.1} where not preferred", preferred.mean, other.mean);
        writeln!(lines, "  preferred: {means}")?;
    }
    Ok(())
}

fn labels(lines: &mut String, report: &ExamplesReport) -> Result {
    let mut labels: Vec<(&String, &u64)> = report.labels().iter().collect();
    labels.sort_by_key(|(label, count)| (std::cmp::Reverse(**count), label.as_str()));
    for (label, count) in labels.iter().take(MOST_FREQUENT) {
        writeln!(lines, "  {count:8}  {label}")?;
    }
    let rest = labels.get(MOST_FREQUENT..).unwrap_or_default();
    let rarest = &rest[rest.len().saturating_sub(RAREST)..];
    if !rarest.is_empty() {
        let more = report.label_count() - (MOST_FREQUENT + rarest.len()) as u64;
        if more > 0 {
            writeln!(lines, "  and {more} more labels; the rarest of those that are listed:")?;
        }
        for (label, count) in rarest {
            writeln!(lines, "  {count:8}  {label}")?;
        }
    }
    Ok(())
}

fn rows(lines: &mut String, counts: &Counts) -> Result {
    let mut parts = vec![format!("{} rows", counts.rows)];
    if let Some(Lines { lines, header, blank, continued }) = counts.lines {
        let named = [(header, "header"), (blank, "blank"), (continued, "continued")];
        parts.insert(0, format!("{lines} lines"));
        parts.extend(named.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}")));
    }
    parts.push(format!("{} faulty", counts.faulty));
    parts.extend(counts.skipped.iter().map(|(what, count)| format!("{count} skipped ({what})")));
    writeln!(lines, "  {}", parts.join(", "))
}
