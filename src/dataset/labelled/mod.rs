//! Labelled texts, and pairs of texts: the data of text classification and regression.

mod cells;
mod schema;
mod targets;
#[cfg(test)]
mod tests;

use std::io;

use self::schema::{Schema, answer, settle};
use self::targets::target;
use super::columns::PAIR_COLUMN;
use super::entries::{BLOCK_ROWS, Entries, Entry, Ledger, Step, good, settled};
use super::kind::{Kind, OnExample, check_labels, held_out_of_each_label};
use super::row::Row;
use super::split::held_out_of;
use super::tally::Tally;
use super::{Input, rows, spelling};
use crate::domain::job::{LabelSeparator, ReadOptions};
use crate::domain::method::ProblemType;
use crate::domain::report::{Contents, DataFormat, ExamplesReport, Fault, Sightings, UploadKind, Values};

/// What is to be predicted of a text.
#[derive(Clone, Debug, PartialEq)]
pub enum Target {
    Class(String),
    /// Sorted, none twice, perhaps none at all.
    Classes(Vec<String>),
    Value(f64),
}

/// One labelled text, and the line it stands on.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    pub line: u64,
    pub text: String,
    /// The second text of a pair.
    pub pair: Option<String>,
    pub target: Target,
    /// Whether a label stands otherwise in the file: with white space around it, or in another Unicode form.
    pub is_tidied: bool,
}

impl Example {
    /// The labels that it has.
    pub fn labels(&self) -> &[String] {
        match &self.target {
            Target::Class(label) => std::slice::from_ref(label),
            Target::Classes(labels) => labels,
            Target::Value(_) => &[],
        }
    }
}

/// What a file asks for, where the job does not say: several labels where most of its first rows have a list of them, else
/// one.
///
/// # Errors
/// The file cannot be read. The inner error says that it may be meant in two ways.
pub fn problem_type(input: &Input) -> io::Result<Result<ProblemType, Fault>> {
    let mut ledger = Ledger::default();
    let (mut first, mut bytes) = (Vec::new(), 0);
    for row in good(rows::read(input)?, &mut ledger).take(BLOCK_ROWS) {
        let row = row?;
        bytes += row.weight();
        first.push(row);
        if bytes >= super::entries::BLOCK_BYTES {
            break;
        }
    }
    Ok(schema::problem(&input.options, &first.iter().collect::<Vec<_>>()))
}

/// Texts with labels or values.
pub struct LabelledTexts(pub ProblemType);

impl Kind for LabelledTexts {
    fn fits(&self, format: DataFormat, there: &[&str]) -> Result<(), String> {
        rows::fit(format)?;
        schema::fit(&ReadOptions::default(), there)
    }

    fn report(&self, input: &Input, on_example: &mut OnExample<'_>) -> io::Result<ExamplesReport> {
        let (mut tally, mut values, mut ledger) = (Tally::new(on_example), Values::default(), Ledger::default());
        let mut tidied = Sightings::default();
        for example in good(read(input, self.0)?, &mut ledger) {
            let example = example?;
            let whole = example.pair.as_ref().map(|pair| format!("{}\u{1f}{pair}", example.text));
            let texts = std::iter::once(example.text.as_str()).chain(example.pair.as_deref());
            tally.add(example.line, whole.as_deref().unwrap_or(&example.text), example.labels(), texts);
            if let Target::Value(value) = example.target {
                values.add(value, tally.examples());
            }
            if example.is_tidied {
                tidied.add(example.line);
            }
        }
        let mut report = tally.report(ledger, |labels, text_lengths| match self.0 {
            ProblemType::Regression => Contents::Valued { values, text_lengths },
            _ => Contents::Labelled { labels, text_lengths },
        });
        report.notes.extend(spelling::tidied(&tidied));
        report.notes.extend(spelling::notes(&report, self.0));
        Ok(report)
    }

    fn upload_kind(&self) -> Option<UploadKind> {
        Some(UploadKind::LabelledTexts)
    }

    fn inspect(&self, input: &Input, there: &[&str]) -> io::Result<Option<ExamplesReport>> {
        if schema::fit(&input.options, there).is_err() {
            return Ok(None);
        }
        match problem_type(input)? {
            Ok(problem) => Self(problem).report(input, &mut |_, _| {}).map(Some),
            Err(fault) => Ok(Some(ExamplesReport::of_fault(fault))),
        }
    }

    fn check_training(&self, report: &ExamplesReport) -> Result<(), String> {
        match self.0 {
            ProblemType::SingleLabelClassification => check_labels(report),
            ProblemType::MultiLabelClassification if report.labels().is_empty() => {
                Err("No example of the training file has a label.".to_owned())
            }
            ProblemType::MultiLabelClassification | ProblemType::Regression => Ok(()),
        }
    }

    fn held_out(&self, report: &ExamplesReport, fraction: f64) -> u64 {
        match self.0 {
            ProblemType::SingleLabelClassification => held_out_of_each_label(report, fraction),
            ProblemType::MultiLabelClassification | ProblemType::Regression => held_out_of(report.examples, fraction),
        }
    }
}

/// The labelled texts of a file.
///
/// # Errors
/// The file cannot be opened.
pub fn read(input: &Input, problem: ProblemType) -> io::Result<Entries<Example>> {
    let (options, separator) = (input.options.clone(), input.options.label_separator);
    let settle = move |rows: &[&Row]| settle(&options, rows, problem);
    Ok(settled(rows::read(input)?, Row::weight, settle, move |schema, row| {
        let skipped = if schema.has_answers { answer(&row) } else { None };
        Ok(match skipped {
            Some(what) => Step::To(Entry::Skipped(what.into())),
            None => Step::To(example(&row, schema, separator)),
        })
    }))
}

/// The example that a row is, or what is wrong with its parts.
fn example(row: &Row, schema: &Schema, separator: Option<LabelSeparator>) -> Entry<Example> {
    const ODD: &str = "is here, but not in most rows; give it in every row or in none";
    let text = row.text(&schema.text);
    let pair = match &schema.pair {
        Some(name) => row.text(name).map(Some),
        None if row.has_header() || row.get(PAIR_COLUMN).is_none() => Ok(None),
        None => Err(ODD.to_owned()),
    };
    let target = target(row, &schema.label, &schema.form, separator);
    match (text, pair, target) {
        (Ok(text), Ok(pair), Ok((target, is_tidied))) => {
            Entry::Good(Example { line: row.line, text, pair, target, is_tidied })
        }
        (text, pair, target) => {
            let parts = [("text", text.err()), (PAIR_COLUMN, pair.err()), ("label", target.err())];
            Entry::Faulty(parts.into_iter().filter_map(|(field, why)| Some(row.fault(field, why?))).collect())
        }
    }
}
