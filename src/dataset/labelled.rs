//! Labelled texts, and pairs of texts: the data of text classification and regression.

use std::io;

use serde_json::Value;

use super::columns::{self, LABEL_COLUMNS, LABELS_COLUMN, PAIR_COLUMN, TEXT_COLUMN, no_text};
use super::entries::{Entries, Entry, Ledger, Step, further, good};
use super::kind::{Kind, OnExample, check_labels, held_out_of_each_label};
use super::label::{self, Label};
use super::row::{MISSING, Row, kind, listed};
use super::split::held_out_of;
use super::tally::Tally;
use super::{Input, MAX_LABELS, rows};
use crate::domain::job::ReadOptions;
use crate::domain::method::ProblemType;
use crate::domain::report::{Contents, DataFormat, ExamplesReport, Fault, UploadKind, Values};

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

/// The columns of a file, as its first row has them.
struct Names {
    text: String,
    pair: Option<String>,
    label: String,
}

/// What a file asks for, where the job does not say: several labels where the first row has a list of them, else one.
///
/// # Errors
/// The file cannot be read.
pub fn problem_type(input: &Input) -> io::Result<ProblemType> {
    let label = input.options.label_column.as_deref().unwrap_or(LABELS_COLUMN);
    let is_list = |row: &Row| matches!(row.get(label).as_deref(), Some(Value::Array(_)));
    let lists = rows::first(input)?.as_ref().is_some_and(is_list);
    Ok(if lists { ProblemType::MultiLabelClassification } else { ProblemType::SingleLabelClassification })
}

/// Texts with labels or values.
pub struct LabelledTexts(pub ProblemType);

impl Kind for LabelledTexts {
    fn fits(&self, format: DataFormat, there: &[&str]) -> Result<(), String> {
        rows::fit(format)?;
        let find = |problem| find(&ReadOptions::default(), there, problem).map_err(|(_, message)| message);
        let one = find(ProblemType::SingleLabelClassification);
        one.or_else(|why| find(ProblemType::MultiLabelClassification).map_err(|_| why)).map(drop)
    }

    fn report(&self, input: &Input, on_example: &mut OnExample<'_>) -> io::Result<ExamplesReport> {
        let (mut tally, mut values, mut ledger) = (Tally::new(on_example), Values::default(), Ledger::default());
        for example in good(read(input, self.0)?, &mut ledger) {
            let example = example?;
            let whole = example.pair.as_ref().map(|pair| format!("{}\u{1f}{pair}", example.text));
            let texts = std::iter::once(example.text.as_str()).chain(example.pair.as_deref());
            tally.add(example.line, whole.as_deref().unwrap_or(&example.text), example.labels(), texts);
            if let Target::Value(value) = example.target {
                values.add(value, tally.examples());
            }
        }
        Ok(tally.report(ledger, |labels, text_lengths| match self.0 {
            ProblemType::Regression => Contents::Valued { values, text_lengths },
            _ => Contents::Labelled { labels, text_lengths },
        }))
    }

    fn upload_kind(&self) -> Option<UploadKind> {
        Some(UploadKind::LabelledTexts)
    }

    fn inspect(&self, input: &Input, there: &[&str]) -> io::Result<Option<ExamplesReport>> {
        let has = |name: &str| there.contains(&name);
        if !has(TEXT_COLUMN) || !(LABEL_COLUMNS.into_iter().any(has) || has(LABELS_COLUMN)) {
            return Ok(None);
        }
        Self(problem_type(input)?).report(input, &mut |_, _| {}).map(Some)
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
    let (mut names, options) = (None, input.options.clone());
    Ok(further(rows::read(input)?, move |row| {
        if names.is_none() {
            match find_in(&options, &row, problem) {
                Ok(found) => names = Some(found),
                Err(step) => return Ok(step),
            }
        }
        Ok(names.as_ref().map_or(Step::PassOver, |names| Step::To(example(&row, names, problem))))
    }))
}

fn find(options: &ReadOptions, there: &[&str], problem: ProblemType) -> Result<Names, (&'static str, String)> {
    let text = columns::text(options);
    if !there.contains(&text) {
        return Err(("text", no_text(text, there)));
    }
    let usual: &[&str] =
        if problem == ProblemType::MultiLabelClassification { &[LABELS_COLUMN] } else { &LABEL_COLUMNS };
    let label = match options.label_column.as_deref() {
        Some(name) => there.contains(&name).then_some(name),
        None => usual.iter().copied().find(|name| there.contains(name)),
    };
    let Some(label) = label else {
        let wanted = options.label_column.as_ref().map_or_else(|| listed(usual), |name| format!("\"{name}\""));
        let found = listed(there);
        let message = format!("there is no label column ({wanted}); found {found}; name it in dataset.label_column");
        return Err(("label", message));
    };
    let pair = there.contains(&PAIR_COLUMN).then(|| PAIR_COLUMN.to_owned());
    Ok(Names { text: text.to_owned(), pair, label: label.to_owned() })
}

/// The names that the first row has, or what becomes of a row that does not say them.
fn find_in(options: &ReadOptions, row: &Row, problem: ProblemType) -> Result<Names, Step<Example>> {
    let there = row.names();
    // A JSON object may lack in its first row what others have; a CSV header speaks for all rows.
    let line = if row.has_header() { 1 } else { row.line };
    let names = find(options, &there, problem).map_err(|(field, message)| {
        let fault = Fault::new(line, Some(field), message);
        if row.has_header() { Step::End(fault) } else { Step::faulty(fault) }
    })?;
    let twice = |name: &&String| there.iter().filter(|other| *other == name).count() > 1;
    let wanted = [Some(&names.text), names.pair.as_ref(), Some(&names.label)];
    let doubled = wanted.into_iter().flatten().find(twice).cloned();
    let fault = |name: String| Fault::new(line, Some(&name), "stands more than once in the header");
    doubled.map_or(Ok(names), |name| Err(Step::End(fault(name))))
}

/// The example that a row is, or what is wrong with its parts.
fn example(row: &Row, names: &Names, problem: ProblemType) -> Entry<Example> {
    let text = row.text(&names.text);
    let pair = names.pair.as_ref().map(|name| row.text(name)).transpose();
    let target = target(row, &names.label, problem);
    match (text, pair, target) {
        (Ok(text), Ok(pair), Ok(target)) => Entry::Good(Example { line: row.line, text, pair, target }),
        (text, pair, target) => {
            let parts = [("text", text.err()), (PAIR_COLUMN, pair.err()), ("label", target.err())];
            Entry::Faulty(parts.into_iter().filter_map(|(field, why)| Some(row.fault(field, why?))).collect())
        }
    }
}

fn target(row: &Row, name: &str, problem: ProblemType) -> Result<Target, String> {
    let value = row.get(name).ok_or(MISSING)?;
    match problem {
        ProblemType::SingleLabelClassification => label(&value).map(|label| Target::Class(label.text)),
        ProblemType::MultiLabelClassification => {
            let Value::Array(list) = &*value else {
                return Err(format!("must be a list of labels, not {}", kind(&value)));
            };
            if list.len() > MAX_LABELS {
                return Err(format!("has more than {MAX_LABELS} labels"));
            }
            let mut labels = list.iter().map(|item| Ok(label(item)?.text)).collect::<Result<Vec<_>, String>>()?;
            labels.sort();
            labels.dedup();
            Ok(Target::Classes(labels))
        }
        ProblemType::Regression => {
            let number = match &*value {
                Value::Number(number) => number.as_f64(),
                Value::String(text) if row.has_header() => text.trim().parse().ok(),
                other => return Err(format!("must be a number, not {}", kind(other))),
            };
            // In float32, as the model computes.
            number
                .filter(|number| (*number as f32).is_finite())
                .map(Target::Value)
                .ok_or_else(|| "is no number".to_owned())
        }
    }
}

/// The label that a value is.
///
/// # Errors
/// It is none.
pub(super) fn label(value: &Value) -> Result<Label, String> {
    match value {
        Value::String(text) => label::label(text),
        Value::Number(number) if number.is_i64() || number.is_u64() => label::label(&number.to_string()),
        Value::Bool(flag) => label::label(&flag.to_string()),
        other => Err(format!("must be a string, an integer or a boolean, not {}", kind(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::{Example, Input, Target, problem_type, read};
    use crate::dataset::entries::{Ledger, good};
    use crate::domain::job::ReadOptions;
    use crate::domain::method::ProblemType;
    use crate::domain::report::DataFormat;

    const SINGLE: ProblemType = ProblemType::SingleLabelClassification;

    fn read_bytes(bytes: &[u8], format: DataFormat, options: ReadOptions) -> (Vec<Example>, Vec<String>) {
        read_as(SINGLE, bytes, format, options)
    }

    fn read_as(
        problem: ProblemType,
        bytes: &[u8],
        format: DataFormat,
        options: ReadOptions,
    ) -> (Vec<Example>, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut ledger = Ledger::default();
        let entries = read(&Input { options, ..Input::new(file.path(), format) }, problem).unwrap();
        let examples = good(entries, &mut ledger).map(Result::unwrap).collect();
        let faults = ledger
            .faults
            .listed
            .into_iter()
            .map(|fault| format!("{} {} {}", fault.line, fault.field.unwrap_or_default(), fault.message))
            .collect();
        (examples, faults)
    }

    fn example(line: u64, text: &str, label: &str) -> Example {
        Example { line, text: text.to_owned(), pair: None, target: Target::Class(label.to_owned()) }
    }

    #[test]
    fn jsonl_rows_become_examples() {
        let bytes = b"{\"text\": \"a\", \"label\": \"x\"}\n\n{\"label\": 3, \"text\": \"b\", \"id\": 7}\n";
        let (examples, faults) = read_bytes(bytes, DataFormat::Jsonl, ReadOptions::default());
        assert_eq!(examples, [example(1, "a", "x"), example(3, "b", "3")]);
        assert!(faults.is_empty());
    }

    #[test]
    fn csv_rows_may_span_lines_and_keep_their_first_line_number() {
        let bytes = b"\xEF\xBB\xBFid,text,category\r\n1,\"two\nlines, one row\",x\r\n2,\"a \"\"quote\"\"\",y\r\n";
        let (examples, faults) = read_bytes(bytes, DataFormat::Csv, ReadOptions::default());
        assert_eq!(examples, [example(2, "two\nlines, one row", "x"), example(4, "a \"quote\"", "y")]);
        assert!(faults.is_empty());
    }

    #[test]
    fn columns_can_be_named() {
        let (text_column, label_column) = (Some("body".to_owned()), Some("topic".to_owned()));
        let columns = ReadOptions { text_column, label_column, ..ReadOptions::default() };
        let (examples, _) = read_bytes(b"topic,body,label\nx,hello,no\n", DataFormat::Csv, columns.clone());
        assert_eq!(examples, [example(2, "hello", "x")]);
        let (_, faults) = read_bytes(b"topic,text\nx,hello\n", DataFormat::Csv, columns);
        assert_eq!(
            faults,
            ["1 text there is no text column \"body\"; found \"topic\", \"text\"; name it in dataset.text_column"]
        );
    }

    #[test]
    fn every_fault_is_reported_with_line_and_field() {
        let bytes = b"{\"text\": \"a\", \"label\": \"x\"}\n{\"text\": 5}\n[1]\n{\"text\": \"a\",\n{\"text\": \" \", \"label\": {}}\n\xFF\n";
        let (examples, faults) = read_bytes(bytes, DataFormat::Jsonl, ReadOptions::default());
        assert_eq!(examples.len(), 1);
        assert_eq!(
            faults,
            [
                "2 text must be a string, not a number",
                "2 label is missing",
                "3  expected a JSON object, found an array",
                "4  is not valid JSON (column 13: EOF while parsing a value)",
                "5 text is empty",
                "5 label must be a string, an integer or a boolean, not an object",
                "6  is not valid UTF-8",
            ]
        );
        let (_, faults) = read_bytes(b"text,label\na\nb,,c\nd,\n\xFF,x\n", DataFormat::Csv, ReadOptions::default());
        assert_eq!(
            faults,
            [
                "2  has 1 fields where the header has 2",
                "3  has 3 fields where the header has 2",
                "4 label is empty",
                "5  is not valid UTF-8",
            ]
        );
    }

    #[test]
    fn a_missing_label_column_is_one_fault_that_lists_what_is_there() {
        let (_, faults) = read_bytes(b"text,intent\na,b\nc,d\n", DataFormat::Csv, ReadOptions::default());
        assert_eq!(
            faults,
            ["1 label there is no label column (\"label\", \"category\", \"class\"); found \"text\", \"intent\"; \
                 name it in dataset.label_column"]
        );
    }

    #[test]
    fn what_stands_twice_is_a_fault() {
        let (_, faults) = read_bytes(
            b"{\"text\": \"a\", \"text\": \"b\", \"label\": \"x\"}\n",
            DataFormat::Jsonl,
            ReadOptions::default(),
        );
        assert_eq!(faults, ["1  has a duplicate key \"text\""]);
        let (_, faults) = read_bytes(b"text,label,text\na,b,c\n", DataFormat::Csv, ReadOptions::default());
        assert_eq!(faults, ["1 text stands more than once in the header"]);
    }

    #[test]
    fn an_endless_row_is_cut_off_without_being_held() {
        let mut bytes = b"text,label\nok,x\n\"".to_vec();
        bytes.resize(bytes.len() + crate::dataset::MAX_LINE_BYTES + (1 << 20), b'a');
        let (examples, faults) = read_bytes(&bytes, DataFormat::Csv, ReadOptions::default());
        assert_eq!((examples.len(), faults), (1, vec!["3  is longer than 16 MiB".to_owned()]));
    }

    #[test]
    fn deep_nesting_is_a_fault_and_no_crash() {
        let bytes = format!("{{\"text\": {}{}}}\n", "[".repeat(100_000), "]".repeat(100_000));
        let (_, faults) = read_bytes(bytes.as_bytes(), DataFormat::Jsonl, ReadOptions::default());
        assert!(faults[0].contains("recursion limit"), "{faults:?}");
    }

    #[test]
    fn a_row_may_have_a_second_text_several_labels_or_a_value() {
        let pair = b"{\"text\":\"a\",\"text_pair\":\"b\",\"label\":1}\n{\"text\":\"a\",\"label\":1}\n";
        let (examples, faults) = read_bytes(pair, DataFormat::Jsonl, ReadOptions::default());
        assert_eq!((examples[0].pair.as_deref(), examples.len()), (Some("b"), 1));
        assert_eq!(faults, ["2 text_pair is missing"]);
        let many = b"{\"text\":\"a\",\"labels\":[\"y\",\"x\",\"y\"]}\n{\"text\":\"b\",\"labels\":[]}\n{\"text\":\"c\",\"labels\":\"x\"}\n";
        let (examples, faults) =
            read_as(ProblemType::MultiLabelClassification, many, DataFormat::Jsonl, ReadOptions::default());
        assert_eq!((examples[0].labels(), examples[1].labels().len()), (&["x".to_owned(), "y".to_owned()][..], 0));
        assert_eq!(faults, ["3 label must be a list of labels, not a string"]);
        let values = b"text,label\na,1.5\nb,x\nc,1e99\n";
        let (examples, faults) = read_as(ProblemType::Regression, values, DataFormat::Csv, ReadOptions::default());
        assert_eq!(examples[0].target, Target::Value(1.5));
        assert_eq!(faults, ["3 label is no number", "4 label is no number"]);
    }

    #[test]
    fn a_list_in_the_first_row_asks_for_several_labels() {
        for (bytes, expected) in [
            (&b"{\"text\":\"a\",\"labels\":[]}\n"[..], ProblemType::MultiLabelClassification),
            (b"{\"text\":\"a\",\"label\":\"x\"}\n", SINGLE),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            assert_eq!(problem_type(&Input::new(file.path(), DataFormat::Jsonl)).unwrap(), expected);
        }
    }
}
