//! `finetuned check-data`.

mod show;

use std::fmt::Write;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgMatches, Command};
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::output::{answer, remark};
use crate::app::findings::findings;
use crate::dataset::chats::CONVERSATION_COLUMNS;
use crate::dataset::columns::{self, IMAGE_COLUMN};
use crate::dataset::inspect::talk_methods;
use crate::dataset::prepare::{self, Parts, Source, Wanted};
use crate::dataset::{Detected, Input, detect, rows};
use crate::domain::backbone::Backbone;
use crate::domain::job::{DatasetOptions, ReadOptions};
use crate::domain::method::Method;
use crate::domain::report::DataFormat;

/// How similar texts are that are nearly equal, in percent, as a service has it by default.
const NEAR: u32 = 80;

const METHOD_HELP: &str = "The method to check for; unless given, the file's columns tell";
const PROBLEMS: [&str; 3] = ["single_label_classification", "multi_label_classification", "regression"];

/// What it takes.
pub(super) fn command() -> Command {
    let file =
        |name: &'static str, help: &'static str| Arg::new(name).value_parser(clap::value_parser!(PathBuf)).help(help);
    let option = |name: &'static str, help: &'static str| Arg::new(name).long(name).help(help);
    let one_of = |name: &'static str, values: &'static [&'static str], help: &'static str| {
        option(name, help).value_parser(PossibleValuesParser::new(values))
    };
    Command::new("check-data").about("Checks data files as a job would, without a service").args([
        file("training", "The training file: CSV, JSONL, JSON, Parquet, text, or a zip or tar archive of images")
            .required(true),
        file("validation", "The validation file").long("validation"),
        file("test", "The test file").long("test"),
        option("method", METHOD_HELP),
        one_of("problem-type", &PROBLEMS, "What is to be predicted; unless given, the training file tells"),
        option("text-column", "Column of the text"),
        option("label-column", "Column of the label"),
        one_of(
            "delimiter",
            &[",", ";", "tab", "|"],
            "What stands between the fields of CSV; unless given, the file tells",
        ),
        one_of("label-separator", &[",", ";", "|"], "What stands between the labels of a field that holds several"),
        option("label-names", "Names of the classes by number, separated by commas").value_delimiter(','),
        one_of("other-files", &["skip", "refuse"], "What becomes of files in an archive that are no images"),
        one_of("overlap", &["warn", "drop", "fail"], "What becomes of examples that several of the files have"),
    ])
}

pub(super) fn run(arguments: &ArgMatches) -> anyhow::Result<ExitCode> {
    let text = |name: &str| arguments.get_one::<String>(name).cloned();
    let options = options(arguments)?;
    let mut lines = String::new();
    let training = input(arguments, "training", &options.read, &mut lines)?.context("a training file is needed")?;
    let validation = input(arguments, "validation", &options.read, &mut lines)?;
    let test = input(arguments, "test", &options.read, &mut lines)?;
    let method = match text("method") {
        Some(word) => Method::parse(&word).map_err(|error| anyhow::anyhow!(error.message))?,
        None => likely_method(&training)?,
    };
    let path = training.path.display().to_string();
    let sources = Parts {
        training: Source::File(training),
        validation: validation.map(Source::File),
        test: test.map(Source::File),
    };
    let problem = text("problem-type").map(|word| serde_json::from_value(json!(word))).transpose()?;
    let wanted = Wanted { method, problem, options, near: NEAR };
    let found = prepare::prepare(sources, &wanted).context(path)?;
    writeln!(lines, "method: {method}")?;
    let told = findings(&found.report);
    show::report(&mut lines, &found.report, &told)?;
    show::advice(&mut lines, &found, &told, &wanted)?;
    answer(&lines)?;
    match found.labels {
        Ok(_) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            remark(&format!("{}: {}", error.code, error.message));
            Ok(ExitCode::FAILURE)
        }
    }
}

/// How the files are read and compared, as a job would say it in `dataset`.
fn options(arguments: &ArgMatches) -> anyhow::Result<DatasetOptions> {
    let words = ["text-column", "label-column", "delimiter", "label-separator", "other-files", "overlap"].into_iter();
    let word =
        |name: &str| arguments.get_one::<String>(name).map(|word| if word == "tab" { "\t" } else { word.as_str() });
    let given = words.filter_map(|name| Some((name.replace('-', "_"), json!(word(name)?))));
    let mut given: Map<String, Value> = given.collect();
    if let Some(names) = arguments.get_many::<String>("label-names") {
        given.insert("label_names".to_owned(), names.map(String::as_str).collect());
    }
    Ok(serde_json::from_value(Value::Object(given))?)
}

/// The file that an argument names, if it is given; what there is to say of how it is written goes to `lines`.
fn input(
    arguments: &ArgMatches,
    name: &str,
    options: &ReadOptions,
    lines: &mut String,
) -> anyhow::Result<Option<Input>> {
    let Some(path) = arguments.get_one::<PathBuf>(name) else { return Ok(None) };
    let named = || format!("the {name} file {}", path.display());
    // Looked at before it is opened: a pipe would be waited for.
    if !fs::metadata(path).with_context(named)?.is_file() {
        bail!("{} is no file", named());
    }
    File::open(path).with_context(named)?;
    let filename = path.file_name().unwrap_or_default().to_string_lossy();
    let Detected { format, compression, note, refusal } = detect(path, &filename).with_context(named)?;
    if let Some(refusal) = refusal {
        bail!("{} {refusal}", named());
    }
    let input = Input { options: options.clone(), ..Input::new(path, format) };
    let mut written = serde_word(&format)?;
    if let Some(delimiter) = rows::delimiter(&input).with_context(named)? {
        write!(written, ", separated by {}", delimiter.name())?;
    }
    if let Some(compression) = compression {
        write!(written, ", compressed with {}", serde_word(&compression)?)?;
    }
    writeln!(lines, "{name}: {written}")?;
    if let Some(note) = note {
        writeln!(lines, "  {}", note.message)?;
    }
    Ok(Some(input))
}

/// A word as the API has it.
fn serde_word(word: &impl Serialize) -> anyhow::Result<String> {
    Ok(serde_json::to_value(word)?.as_str().unwrap_or_default().to_owned())
}

/// Archives hold images, and so do rows with an image and no text; conversations and preferences are told by their columns; anything
/// else is texts with labels unless it is said.
fn likely_method(training: &Input) -> anyhow::Result<Method> {
    let backbone = match training.format {
        DataFormat::Zip | DataFormat::Tar => Backbone::VisionTransformer,
        DataFormat::Csv | DataFormat::Jsonl | DataFormat::Json | DataFormat::Parquet => {
            let names = rows::usual_names(training).with_context(|| training.path.display().to_string())?;
            let has = |name: &str| names.iter().any(|one| one == name);
            let talks = talk_methods(training.format, &names);
            match (has(IMAGE_COLUMN), has(columns::text(&training.options))) {
                (true, false) => Backbone::VisionTransformer,
                (_, has_text) if !talks.is_empty() && (!has_text || CONVERSATION_COLUMNS.into_iter().any(has)) => {
                    return Ok(Method::default_for(Backbone::TextDecoder, &talks));
                }
                _ => Backbone::TextTransformer,
            }
        }
        DataFormat::Text | DataFormat::Unknown => Backbone::TextTransformer,
    };
    Ok(Method::default_for(backbone, &[]))
}
