//! Labelled texts, and pairs of texts: the data of text classification and regression.

mod cells;
mod schema;
mod targets;

use std::io;

use self::schema::{Schema, answer, settle};
use self::targets::target;
use super::columns::PAIR_COLUMN;
use super::entries::{Entries, Entry, Ledger, Step, good, settle_first, settled};
use super::kind::{Kind, Watch, check_labels};
use super::row::Row;
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
    settle_first(rows::read(input)?, Row::weight, |first| schema::problem(&input.options, first))
}

/// Texts with labels or values.
pub struct LabelledTexts(pub ProblemType);

impl Kind for LabelledTexts {
    fn fits(&self, format: DataFormat, there: &[&str]) -> Result<(), String> {
        rows::fit(format)?;
        schema::fit(&ReadOptions::default(), there)
    }

    fn report(&self, input: &Input, watch: &mut dyn Watch) -> io::Result<ExamplesReport> {
        let (mut tally, mut values, mut ledger) = (Tally::new(watch), Values::default(), Ledger::default());
        let mut tidied = Sightings::default();
        for example in good(read(input, self.0)?, &mut ledger) {
            let example = example?;
            let texts: Vec<&str> = std::iter::once(example.text.as_str()).chain(example.pair.as_deref()).collect();
            let value = match example.target {
                Target::Value(value) => Some(value),
                Target::Class(_) | Target::Classes(_) => None,
            };
            tally.add(example.line, &texts, None, example.labels(), value);
            if let Some(value) = value {
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
            Ok(problem) => Self(problem).report(input, &mut ()).map(Some),
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

    fn is_stratified(&self) -> bool {
        self.0 == ProblemType::SingleLabelClassification
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

#[cfg(test)]
mod tests {
    use super::{Example, Input, Target, problem_type, read};
    use crate::dataset::entries::{Ledger, good};
    use crate::domain::job::{LabelSeparator, ReadOptions};
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
        let target = Target::Class(label.to_owned());
        Example { line, text: text.to_owned(), pair: None, target, is_tidied: false }
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
            ["1 text there is no text column \"body\"; found \"topic\", \"text\"; name it in dataset.text_column \
                 (the first line must name the columns)"]
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
                 name it in dataset.label_column (the first line must name the columns)"]
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
        assert_eq!(
            faults,
            [
                "3 label must be a list of labels, not a string; write [\"a\", \"b\"], or name what stands between labels in \
             dataset.label_separator"
            ]
        );
        let values = b"text,label\na,1.5\nb,x\nc,1e99\n";
        let (examples, faults) = read_as(ProblemType::Regression, values, DataFormat::Csv, ReadOptions::default());
        assert_eq!(examples[0].target, Target::Value(1.5));
        assert_eq!(faults, ["3 label is no number: \"x\"", "4 label is no number: \"1e99\""]);
    }

    #[test]
    fn a_list_in_the_first_row_asks_for_several_labels() {
        for (bytes, expected) in [
            (&b"{\"text\":\"a\",\"labels\":[]}\n"[..], ProblemType::MultiLabelClassification),
            (b"{\"text\":\"a\",\"label\":\"x\"}\n", SINGLE),
        ] {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            assert_eq!(problem_type(&Input::new(file.path(), DataFormat::Jsonl)).unwrap(), Ok(expected));
        }
    }

    /// The labels of each example, joined, and the faults; the problem is the file's own.
    fn labels(text: &str, format: DataFormat, options: &ReadOptions) -> (Vec<String>, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let input = Input { options: options.clone(), ..Input::new(file.path(), format) };
        match problem_type(&input).unwrap() {
            Ok(problem) => {
                let (examples, faults) = read_as(problem, text.as_bytes(), format, options.clone());
                let kind = if problem == SINGLE { "" } else { "*" };
                (examples.iter().map(|example| format!("{kind}{}", example.labels().join("+"))).collect(), faults)
            }
            Err(fault) => (Vec::new(), vec![format!("{} {} {}", fault.line, fault.field.unwrap(), fault.message)]),
        }
    }

    fn csv(rows: &[&str], options: &ReadOptions) -> (Vec<String>, Vec<String>) {
        let quoted: Vec<String> = rows.iter().map(|row| format!("t,\"{}\"", row.replace('"', "\"\""))).collect();
        labels(&format!("text,label\n{}\n", quoted.join("\n")), DataFormat::Csv, options)
    }

    fn jsonl(rows: &[&str], options: &ReadOptions) -> (Vec<String>, Vec<String>) {
        let rows: Vec<String> = rows.iter().map(|row| format!("{{\"text\":\"t\",{row}}}")).collect();
        labels(&rows.join("\n"), DataFormat::Jsonl, options)
    }

    #[test]
    fn lists_in_cells_are_several_labels() {
        let usual = ReadOptions::default();
        for cells in [["['a', 'b']", "[]", "['c']"], ["[\"a\",\"b\"]", "[]", "[\"c\"]"]] {
            assert_eq!(csv(&cells, &usual), (vec!["*a+b".to_owned(), "*".to_owned(), "*c".to_owned()], vec![]));
        }
        let studio = ["a", "{\"choices\":[\"a\",\"b\"]}", "c"];
        assert_eq!(csv(&studio, &usual).0, ["*a", "*a+b", "*c"]);
        assert_eq!(jsonl(&["\"label\":\"a\"", "\"label\":{\"choices\":[\"b\",\"a\"]}"], &usual).0, ["*a", "*a+b"]);
        let separated = ReadOptions { label_separator: Some(LabelSeparator::Semicolon), ..usual.clone() };
        assert_eq!(csv(&["b; a", "", "c"], &separated).0, ["*a+b", "*", "*c"]);
        // One row in brackets is a text like any, and faults are told by row.
        assert_eq!(csv(&["a", "[b]", "c"], &usual).0, ["a", "[b]", "c"]);
        let (read, faults) = csv(&["['a']", "b", "['c']"], &usual);
        assert!(
            read.len() == 2 && faults[0].starts_with("3 label must be a list of labels, not a string"),
            "{faults:?}"
        );
    }

    #[test]
    fn vectors_of_zeros_and_ones_need_the_names_of_their_places() {
        let usual = ReadOptions::default();
        let rows = ["\"labels\":[1,0,1]", "\"labels\":[0.0,1.0,0.0]", "\"labels\":[false,false,false]"];
        let (read, faults) = jsonl(&rows, &usual);
        assert!(read.is_empty() && faults.len() == 1, "{read:?} {faults:?}");
        assert!(faults[0].contains("multi-hot targets") && faults[0].contains("dataset.label_names"), "{faults:?}");
        let names = |names: &[&str]| {
            let label_names = Some(names.iter().map(|&name| name.to_owned()).collect());
            ReadOptions { label_names, ..ReadOptions::default() }
        };
        assert_eq!(jsonl(&rows, &names(&["x", "y", "z"])).0, ["*x+z", "*y", "*"]);
        assert!(jsonl(&rows, &names(&["x", "y"])).1[0].contains("vectors of 3 places, but dataset.label_names has 2"));
        // A row of another form is that row's fault.
        for odd in ["\"labels\":[1]", "\"labels\":[]", "\"labels\":[1,0,-1]"] {
            let (read, faults) = jsonl(&[rows[0], rows[1], rows[2], odd], &names(&["x", "y", "z"]));
            assert!(read.len() == 3 && faults.len() == 1 && faults[0].starts_with("4 label"), "{odd} {faults:?}");
        }
        // Where no length has most rows, those of another than the names have are faults.
        let mixed = ["\"labels\":[1,0,1]", "\"labels\":[0,1]", "\"labels\":[1,1,0]", "\"labels\":[1,0]"];
        let (read, faults) = jsonl(&mixed, &names(&["x", "y", "z"]));
        assert_eq!((read, faults.len()), (vec!["*x+z".to_owned(), "*x+y".to_owned()], 2));
        // Of two places each, no name stands in all lists.
        let (_, faults) = jsonl(&["\"labels\":[1,0]", "\"labels\":[0,1]"], &usual);
        assert!(faults[0].contains("2 in each row: multi-hot targets"), "{faults:?}");
        assert_eq!(jsonl(&["\"labels\":[1,0]", "\"labels\":[0,1]"], &names(&["x", "y"])).0, ["*x", "*y"]);
        // Numbers of classes, in lists or alone.
        assert_eq!(jsonl(&["\"labels\":[1,0]", "\"labels\":[1]", "\"labels\":[0]"], &usual).0, ["*0+1", "*1", "*0"]);
        assert_eq!(jsonl(&["\"labels\":[2,0]", "\"labels\":[1]"], &names(&["x", "y", "z"])).0, ["*x+z", "*y"]);
        assert_eq!(csv(&["1", "0", "y"], &names(&["x", "y"])).0, ["y", "x", "y"]);
        assert!(csv(&["1", "2", "0"], &names(&["x", "y"])).1[0].contains("is 2, but dataset.label_names has 2 names"));
    }

    #[test]
    fn whole_numbers_are_one_label_however_they_are_written() {
        let usual = ReadOptions::default();
        assert_eq!(csv(&["1.0", "0.0", "1", "-0.0"], &usual).0, ["1", "0", "1", "0"]);
        assert_eq!(csv(&["007", "7", "7.0"], &usual).0, ["007", "7", "7"]);
        assert_eq!(jsonl(&["\"label\":1.0", "\"label\":1", "\"label\":true"], &usual).0, ["1", "1", "true"]);
        // Where they are not all whole, they may be versions.
        assert_eq!(csv(&["2.0", "beta", "gamma"], &usual).0, ["2.0", "beta", "gamma"]);
        let (_, faults) = jsonl(&["\"label\":1", "\"label\":12345678901234567890123"], &usual);
        assert!(faults[0].contains("more digits than are read; write it as a string"), "{faults:?}");
    }

    #[test]
    fn numbers_with_a_fraction_are_a_question() {
        let (read, faults) = csv(&["0.476", "3.633", "1"], &ReadOptions::default());
        assert!(read.is_empty() && faults[0].contains("problem_type to regression"), "{faults:?}");
        let (_, faults) = jsonl(&["\"label\":0.5", "\"label\":1.5"], &ReadOptions::default());
        assert!(faults[0].starts_with("1 label holds numbers with a fraction"), "{faults:?}");
        // So they are where all are numbers and a tenth has a fraction, and not where few have.
        let grades: Vec<String> = (0..20).map(|i| format!("{:?}", f64::from(i) / 2.0)).collect();
        let grades: Vec<&str> = grades.iter().map(String::as_str).collect();
        assert!(csv(&grades, &ReadOptions::default()).1[0].contains("numbers with a fraction"));
        let few: Vec<&str> = (0..20).map(|i| if i == 7 { "0.5" } else { "1" }).collect();
        assert_eq!(csv(&few, &ReadOptions::default()).0.len(), 20);
        // Who says that they are classes has classes.
        let (examples, _) = read_bytes(b"text,label\na,0.5\n", DataFormat::Csv, ReadOptions::default());
        assert_eq!(examples[0].labels(), ["0.5"]);
    }

    #[test]
    fn a_number_with_a_comma_is_a_question_and_no_number() {
        let (read, faults) = csv(&["0,5", "1,0", "0,25"], &ReadOptions::default());
        assert!(read.is_empty() && faults[0].contains("a comma, such as 0,25"), "{faults:?}");
        let values = "text;label\na;0,5\nb;1\n";
        let (_, faults) = read_as(ProblemType::Regression, values.as_bytes(), DataFormat::Csv, ReadOptions::default());
        assert!(faults[0].starts_with("2 label is no number: \"0,5\"; decimals have a point"), "{faults:?}");
    }

    #[test]
    fn one_label_in_a_list_is_one_label_and_a_list_left_empty_is_none() {
        let usual = ReadOptions::default();
        assert_eq!(jsonl(&["\"label\":[\"a\"]", "\"label\":[\"b\"]"], &usual).0, ["a", "b"]);
        assert_eq!(jsonl(&["\"label\":[\"a\"]", "\"label\":[\"b\",\"c\"]"], &usual).0, ["*a", "*b+c"]);
        let (_, faults) = jsonl(&["\"label\":\"a\"", "\"label\":\"b\"", "\"label\":[\"b\",\"c\"]"], &usual);
        assert!(faults[0].starts_with("3 label is a list of 2 labels where one is read"), "{faults:?}");
        let both = |labels: &str| format!("\"label\":\"a\",\"labels\":{labels}");
        let (empty, filled) = (both("[]"), both("[\"x\",\"y\"]"));
        assert_eq!(jsonl(&[&empty, &empty, &filled], &usual).0, ["a", "a", "a"]);
        assert_eq!(jsonl(&[&filled, &filled, &empty], &usual).0, ["*x+y", "*x+y", "*"]);
    }

    #[test]
    fn answers_are_prodigys_in_json_alone_however_they_are_typed() {
        let usual = ReadOptions::default();
        let row = |answer: &str| format!("\"label\":\"a\",\"answer\":\"{answer}\"");
        assert_eq!(jsonl(&[&row("accept"), &row("REJECT"), &row("Ignore ")], &usual).0, ["a"]);
        let table = "text,answer,label\nt,reject,a\nt,accept,b\n";
        assert_eq!(labels(table, DataFormat::Csv, &usual).0, ["a", "b"]);
        let named = ReadOptions { label_column: Some("answer".to_owned()), ..usual };
        assert_eq!(jsonl(&[&row("accept"), &row("reject")], &named).0, ["accept", "reject"]);
    }

    #[test]
    fn no_row_decides_for_the_others() {
        let usual = ReadOptions::default();
        // The label's key is that of most rows; a row without it is at fault, and so is one with a second text.
        let rows = ["\"category\":\"x\"", "\"label\":\"a\"", "\"label\":\"b\"", "\"label\":\"b\",\"text_pair\":\"p\""];
        let (read, faults) = jsonl(&rows, &usual);
        assert_eq!(
            (read, faults),
            (
                vec!["a".to_owned(), "b".to_owned()],
                vec![
                    "1 label is missing".to_owned(),
                    "4 text_pair is here, but not in most rows; give it in every row or in none".to_owned(),
                ]
            )
        );
        // A list in one row asks for nothing.
        let (read, faults) = jsonl(&["\"label\":[]", "\"label\":\"a\"", "\"label\":\"b\""], &usual);
        assert_eq!((read.len(), faults.len()), (2, 1));
        let (read, _) = jsonl(&["\"labels\":\"a\"", "\"labels\":[\"b\"]", "\"labels\":[\"c\",\"d\"]"], &usual);
        assert_eq!(read, ["*b", "*c+d"]);
    }

    #[test]
    fn rejected_answers_are_no_positives() {
        let rows = [
            "\"label\":\"A\",\"answer\":\"accept\"",
            "\"label\":\"B\",\"answer\":\"reject\"",
            "\"label\":\"B\",\"answer\":\"ignore\"",
            "\"label\":\"B\",\"answer\":\"accept\"",
        ];
        assert_eq!(jsonl(&rows, &ReadOptions::default()), (vec!["A".to_owned(), "B".to_owned()], vec![]));
        let chosen = ["\"accept\":[\"A\"],\"answer\":\"accept\"", "\"accept\":[\"B\"],\"answer\":\"accept\""];
        assert_eq!(jsonl(&chosen, &ReadOptions::default()).0, ["A", "B"]);
        let several = ["\"accept\":[\"A\",\"B\"],\"answer\":\"accept\"", "\"accept\":[],\"answer\":\"accept\""];
        assert_eq!(jsonl(&several, &ReadOptions::default()).0, ["*A+B", "*"]);
    }
}
