//! Which fields of a file hold what, settled over its first rows.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::cells;
use crate::dataset::columns::{self, LABEL_COLUMNS, LABELS_COLUMN, Names, PAIR_COLUMN, no_text};
use crate::dataset::label::{Spelling, has_decimal_comma, number};
use crate::dataset::row::{Row, listed};
use crate::domain::clip::clipped;
use crate::domain::job::ReadOptions;
use crate::domain::method::ProblemType;
use crate::domain::report::{Fault, Note};

/// The key in which Prodigy says what became of its question, and the one that holds what was chosen.
const ANSWER: &str = "answer";
const ACCEPT: &str = "accept";

/// How a file's rows are read.
#[derive(Clone, Debug)]
pub(super) struct Schema {
    pub(super) text: String,
    /// The second text of a pair, in every row or in none.
    pub(super) pair: Option<String>,
    pub(super) label: String,
    pub(super) form: Form,
    /// Whether rows tell if their label was accepted, as Prodigy's do.
    pub(super) has_answers: bool,
}

/// How labels are written.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// One label.
    One(Spelling),
    /// Several, in a list, in a text with a separator, or, where `or_one`, one alone.
    Several { spelling: Spelling, or_one: bool },
    /// A vector of 0 and 1, with a place for each name.
    MultiHot(Vec<String>),
    /// A number to be predicted.
    Number,
}

/// What the values of a field look like in the first rows.
#[derive(Default)]
struct Looks {
    /// Rows that have it.
    there: usize,
    lists: usize,
    texts_with_lists: usize,
    /// Whole numbers that are written with a point.
    pointed: usize,
    choices: usize,
    whole: usize,
    decimals: usize,
    /// Numbers like 0,5: decimals of much of Europe, or two labels.
    commas: usize,
    /// Lists of 0 and 1 alone by their number of places.
    bits: HashMap<usize, usize>,
    /// Lists with other than one item.
    not_single: usize,
    empty: usize,
    /// Whether a list of 0 and 1 holds one of them twice, which a list of names does not.
    repeats: bool,
    distinct: HashSet<String>,
    /// A decimal, to show.
    decimal: String,
}

impl Looks {
    fn of(rows: &[&Row], name: &str) -> Self {
        let mut looks = Self::default();
        for value in rows.iter().filter_map(|row| row.get(name)) {
            looks.there += 1;
            match &*value {
                Value::String(text) => match cells::list(text) {
                    Some(items) => {
                        looks.texts_with_lists += 1;
                        looks.choices += usize::from(text.trim_start().starts_with('{'));
                        looks.list(&items);
                    }
                    None => looks.scalar(text),
                },
                Value::Number(number) => looks.scalar(&number.to_string()),
                Value::Array(items) => looks.list(items),
                object @ Value::Object(_) => {
                    if let Some(items) = cells::choices(object) {
                        looks.choices += 1;
                        looks.list(items);
                    }
                }
                Value::Null | Value::Bool(_) => {}
            }
        }
        looks
    }

    fn scalar(&mut self, text: &str) {
        let text = text.trim();
        self.distinct.insert(text.to_owned());
        match number(text) {
            Some(number) if number.fract() == 0.0 => {
                self.whole += 1;
                self.pointed += usize::from(text.contains('.'));
            }
            Some(_) => {
                self.decimals += 1;
                text.clone_into(&mut self.decimal);
            }
            None if has_decimal_comma(text) => {
                self.commas += 1;
                text.clone_into(&mut self.decimal);
            }
            None => {}
        }
    }

    fn list(&mut self, items: &[Value]) {
        self.lists += 1;
        self.empty += usize::from(items.is_empty());
        self.not_single += usize::from(items.len() != 1);
        let is_bit = |item: &Value| item.is_boolean() || item.as_f64().is_some_and(|bit| bit == 0.0 || bit == 1.0);
        let bits = !items.is_empty() && items.iter().all(is_bit);
        if bits {
            *self.bits.entry(items.len()).or_default() += 1;
        }
        let ones = items.iter().filter(|item| item.as_bool().unwrap_or(item.as_f64() == Some(1.0))).count();
        self.repeats |= bits && (ones > 1 || items.len() - ones > 1);
    }

    fn are_lists(&self) -> bool {
        self.choices > 0 || 2 * self.lists > self.there
    }

    /// How many places the lists have, if most are vectors of 0 and 1 with a place for each class: no list of names holds one
    /// of them twice, nor do all hold the same two. Of several lengths the most frequent counts, of equals the longest.
    fn multi_hot(&self) -> Option<usize> {
        let (&places, &count) = self.bits.iter().max_by_key(|&(places, count)| (*count, *places))?;
        let all: usize = self.bits.values().sum();
        (places > 1 && (2 * all > self.lists && self.repeats || count == self.lists)).then_some(places)
    }

    /// Whether what the lists hold is one label each, as exports have it that could hold several.
    fn are_single(&self) -> bool {
        self.lists > 0 && self.not_single == 0 && self.texts_with_lists == 0
    }
}

/// What a file asks for, where the job does not say: several labels where most of its first rows have a list of them.
///
/// # Errors
/// Most of its labels are numbers with a fraction, which may be meant either way.
pub(super) fn problem(options: &ReadOptions, rows: &[&Row]) -> Result<ProblemType, Fault> {
    let names = Names::of(rows);
    let there = names.listed();
    let several = options.label_separator.is_some()
        || label_column(options, rows, &there, ProblemType::MultiLabelClassification).is_some_and(|label| {
            let looks = Looks::of(rows, label);
            // A list is how some tools export one label, too, but not under a name for several.
            looks.are_lists() && (label == LABELS_COLUMN || !looks.are_single()) && !is_left_empty(rows, &looks, label)
        });
    if several {
        return Ok(ProblemType::MultiLabelClassification);
    }
    let single = ProblemType::SingleLabelClassification;
    let Some(label) = label_column(options, rows, &there, single) else { return Ok(single) };
    let looks = Looks::of(rows, label);
    let (fractions, scalars) = (looks.decimals + looks.commas, looks.there - looks.lists);
    let are_amounts = looks.whole + fractions == scalars && 10 * fractions >= scalars && fractions > 0;
    if !are_amounts && 2 * fractions <= scalars {
        return Ok(single);
    }
    let decimal = clipped(&looks.decimal);
    let message = if looks.commas > looks.decimals {
        format!(
            "holds numbers with a comma, such as {decimal}: to predict decimals, write them with a point (0.5) and set the \
             hyperparameter problem_type to regression; if a comma stands between labels, set dataset.label_separator to \
             \",\"; if they are names of classes, set problem_type to single_label_classification"
        )
    } else {
        format!(
            "holds numbers with a fraction, such as {decimal}: to predict numbers, set the hyperparameter problem_type to \
             regression; if they are names of classes, set it to single_label_classification"
        )
    };
    Err(Fault::new(names.line(), Some("label"), message))
}

/// Whether hardly any row has a label in these lists, while another field was filled in.
fn is_left_empty(rows: &[&Row], looks: &Looks, label: &str) -> bool {
    let is_filled = |name: &str| 2 * rows.iter().filter(|row| row.get(name).is_some()).count() > rows.len();
    label == LABELS_COLUMN && 2 * looks.empty > looks.there && LABEL_COLUMNS.into_iter().any(is_filled)
}

/// The field of the label: the one that the job names, else of the usual ones that which most rows have.
fn label_column<'a>(options: &'a ReadOptions, rows: &[&Row], there: &[&str], problem: ProblemType) -> Option<&'a str> {
    if let Some(name) = options.label_column.as_deref() {
        return there.contains(&name).then_some(name);
    }
    let several = problem == ProblemType::MultiLabelClassification;
    // Of several labels the list has precedence, of one label the rest.
    let list = [LABELS_COLUMN, ACCEPT];
    let usual = if several { [&list[..], &LABEL_COLUMNS].concat() } else { [&LABEL_COLUMNS[..], &list].concat() };
    let found: Vec<&str> = usual.into_iter().filter(|name| there.contains(name)).collect();
    columns::fullest(&found, rows)
}

/// Settles how the rows are read.
///
/// # Errors
/// A field is missing, or it cannot be told what is meant; in words for the file's owner.
pub(super) fn settle(options: &ReadOptions, rows: &[&Row], problem: ProblemType) -> Result<(Schema, Vec<Note>), Fault> {
    let names = Names::of(rows);
    let (there, headed) = (names.listed(), names.are_headed());
    let fault = |field: &str, message: String| Fault::new(names.line(), Some(field), message);
    let text = columns::text(options);
    if !there.contains(&text) {
        return Err(fault("text", no_text(text, &there, headed)));
    }
    let Some(label) = label_column(options, rows, &there, problem) else {
        return Err(fault("label", no_label(options, &there, headed, problem)));
    };
    let has_pair = |row: &&&Row| row.get(PAIR_COLUMN).is_some();
    let pair = 2 * rows.iter().filter(has_pair).count() >= rows.len();
    let looks = Looks::of(rows, label);
    let schema = Schema {
        text: text.to_owned(),
        pair: (headed && there.contains(&PAIR_COLUMN) || pair).then(|| PAIR_COLUMN.to_owned()),
        label: label.to_owned(),
        form: form(options, &looks, problem).map_err(|message| fault("label", message))?,
        has_answers: label != ANSWER && has_answers(rows),
    };
    let wanted = [Some(&schema.text), schema.pair.as_ref(), Some(&schema.label)];
    let wanted: Vec<&str> = wanted.into_iter().flatten().map(String::as_str).collect();
    let doubled = columns::doubled(&names, &wanted).map(str::to_owned);
    let read: Vec<&str> = wanted.iter().copied().chain(schema.has_answers.then_some(ANSWER)).collect();
    let several = several_columns(options, rows, &there, label);
    let notes =
        notes(&schema, &looks).into_iter().chain(several).chain(columns::not_read(rows, &there, &read)).collect();
    doubled.map_or(Ok((schema, notes)), |name| Err(fault(&name, columns::DOUBLED.to_owned())))
}

/// What there is to say where more than one field could hold the label, and the job names none.
fn several_columns(options: &ReadOptions, rows: &[&Row], there: &[&str], label: &str) -> Option<Note> {
    let filled = |name: &&str| there.contains(name) && rows.iter().any(|row| row.get(name).is_some());
    let usual = LABEL_COLUMNS.into_iter().chain([LABELS_COLUMN]);
    let others: Vec<&str> = usual.filter(|name| *name != label).filter(filled).collect();
    (options.label_column.is_none() && !others.is_empty()).then(|| {
        let message = format!(
            "The label is read from \"{}\", though it could also stand in {}; dataset.label_column names another.",
            clipped(label),
            listed(&others)
        );
        Note::info("label_columns", message)
    })
}

/// What there is to say of how labels are read, where it is not as they stand.
fn notes(schema: &Schema, looks: &Looks) -> Vec<Note> {
    let label = clipped(&schema.label);
    let lists = matches!(schema.form, Form::Several { .. })
        && (looks.texts_with_lists > 0 || looks.lists > 0 && schema.label != LABELS_COLUMN);
    let single = matches!(schema.form, Form::One(_)) && looks.are_single() && looks.are_lists();
    let whole = matches!(&schema.form, Form::One(spelling) if spelling.whole) && looks.pointed > 0;
    let told = [
        lists.then(|| {
            ("labels_in_lists", format!("The column \"{label}\" holds lists; each item is read as one label."))
        }),
        single.then(|| {
            let message = format!(
                "The column \"{label}\" holds lists of one item, which are read as one label; problem_type \
                 multi_label_classification reads them as several."
            );
            ("labels_in_lists", message)
        }),
        whole.then(|| ("labels_whole", format!("The labels in \"{label}\" are whole numbers; 1.0 is read as 1."))),
        schema.has_answers.then(|| {
            let message = "Rows have answers, as Prodigy writes them; those that were rejected or ignored are skipped.";
            ("answers", message.to_owned())
        }),
    ];
    told.into_iter().flatten().map(|(code, message)| Note::info(code, message)).collect()
}

/// Whether a file whose rows have these fields can be of labelled texts.
///
/// # Errors
/// What is missing.
pub(super) fn fit(options: &ReadOptions, there: &[&str]) -> Result<(), String> {
    let text = columns::text(options);
    if !there.contains(&text) {
        return Err(no_text(text, there, false));
    }
    let usual = || LABEL_COLUMNS.into_iter().chain([LABELS_COLUMN, ACCEPT]);
    if usual().any(|name| there.contains(&name)) {
        return Ok(());
    }
    Err(no_label(options, there, false, ProblemType::default()))
}

fn no_label(options: &ReadOptions, there: &[&str], headed: bool, problem: ProblemType) -> String {
    let several = problem == ProblemType::MultiLabelClassification;
    let usual: &[&str] = if several { &[LABELS_COLUMN] } else { &LABEL_COLUMNS };
    let wanted = options.label_column.as_ref().map_or_else(|| listed(usual), |name| format!("\"{}\"", clipped(name)));
    let header = if headed { columns::HEADER } else { "" };
    format!("there is no label column ({wanted}); found {}; name it in dataset.label_column{header}", listed(there))
}

/// Whether most rows have an answer of Prodigy's, and no other. Prodigy writes JSON; a column of a table may be called so for
/// other reasons.
fn has_answers(rows: &[&Row]) -> bool {
    let rows: Vec<_> = rows.iter().filter(|row| !row.has_header()).collect();
    let answers: Vec<_> = rows.iter().filter_map(|row| row.get(ANSWER)).collect();
    let is_known = |answer: &str| ["accept", "reject", "ignore"].contains(&folded(answer).as_str());
    2 * answers.len() > rows.len() && answers.iter().all(|answer| answer.as_str().is_some_and(is_known))
}

/// An answer as it is meant, however it was typed.
fn folded(answer: &str) -> String {
    answer.trim().to_ascii_lowercase()
}

/// What Prodigy's answer makes of a row: None where it is an example like any.
pub(super) fn answer(row: &Row) -> Option<&'static str> {
    match folded(row.get(ANSWER)?.as_str()?).as_str() {
        "reject" => Some("rejected answer"),
        "ignore" => Some("ignored answer"),
        _ => None,
    }
}

/// How vectors with so many places are read.
fn multi_hot(places: usize, names: Option<Vec<String>>) -> Result<Form, String> {
    match names {
        Some(names) if names.len() == places => Ok(Form::MultiHot(names)),
        Some(names) => Err(format!(
            "holds vectors of {places} places, but dataset.label_names has {} names; give one for each place",
            names.len()
        )),
        None => Err(format!(
            "holds vectors of 0 and 1, {places} in each row: multi-hot targets, which are no names of labels; give the names \
             of the {places} places in dataset.label_names"
        )),
    }
}

fn form(options: &ReadOptions, looks: &Looks, problem: ProblemType) -> Result<Form, String> {
    let names = options.label_names.clone();
    match problem {
        ProblemType::Regression => Ok(Form::Number),
        ProblemType::MultiLabelClassification => {
            if let Some(places) = looks.multi_hot() {
                return multi_hot(places, names);
            }
            let or_one = looks.choices > 0 || options.label_separator.is_some();
            Ok(Form::Several { spelling: Spelling { whole: false, names }, or_one })
        }
        ProblemType::SingleLabelClassification => {
            let scalars = looks.there - looks.lists;
            let whole = scalars > 0 && looks.whole == scalars;
            Ok(Form::One(Spelling { whole, names }))
        }
    }
}
