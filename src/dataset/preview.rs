//! The first examples of a file, for whoever wants to see what a model will read of them.

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::chats::{self, Sample};
use super::entries::{Entries, Entry};
use super::preferences::{self, Choice};
use super::{Input, texts};
use crate::domain::hyperparameters::Hyperparameters;
use crate::domain::method::{DataKind, Method};
use crate::domain::report::Fault;

/// An example, and the line it stands on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Example {
    pub line: u64,
    pub content: Content,
}

/// What is learned from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Sample(Sample),
    Choice(Choice),
    Text(String),
}

/// What a trainer needs to know to show what a model reads of examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PreviewSpec {
    pub method: Method,
    /// The model's directory, taken from the folder of the spec's file.
    pub model: PathBuf,
    pub hyperparameters: Hyperparameters,
    pub examples: Vec<Example>,
}

/// What stands first in a file: examples, and faults where there are none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct First {
    pub examples: Vec<Example>,
    pub faults: Vec<Fault>,
}

/// The first `count` entries of a file that is read as `kind`; None of kinds of which there is nothing to see. No more is
/// read of it than is needed.
///
/// # Errors
/// The file cannot be read.
pub fn first(kind: DataKind, input: &Input, count: usize) -> io::Result<Option<First>> {
    Ok(Some(match kind {
        DataKind::Chats => taken(chats::read(input)?, count, |one| (one.line, Content::Sample(one.sample)))?,
        DataKind::Preferences => {
            taken(preferences::read(input)?, count, |one| (one.line, Content::Choice(one.choice)))?
        }
        DataKind::Texts => taken(texts::read(input)?, count, |one| (one.line, Content::Text(one.text)))?,
        DataKind::Labelled(_) | DataKind::Images | DataKind::Pairs => return Ok(None),
    }))
}

fn taken<E>(entries: Entries<E>, count: usize, content: impl Fn(E) -> (u64, Content)) -> io::Result<First> {
    let (mut first, mut seen) = (First::default(), 0);
    for entry in entries {
        match entry? {
            Entry::Good(one) => {
                let (line, content) = content(one);
                first.examples.push(Example { line, content });
            }
            Entry::Faulty(faults) => first.faults.extend(faults),
            Entry::Broken(fault) => first.faults.push(fault),
            Entry::Skipped(_) | Entry::End(_) => continue,
        }
        seen += 1;
        if seen == count {
            break;
        }
    }
    Ok(first)
}

#[cfg(test)]
mod tests {
    use super::{Content, First, first};
    use crate::dataset::Input;
    use crate::dataset::chats::Sample;
    use crate::domain::method::{DataKind, ProblemType};
    use crate::domain::report::DataFormat;

    fn of(text: &str, format: DataFormat, kind: DataKind) -> Option<First> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        first(kind, &Input::new(file.path(), format), 2).unwrap()
    }

    #[test]
    fn the_first_entries_are_taken_faulty_ones_too() {
        let rows = "{\"prompt\": \"a\", \"completion\": \"b\"}\n{\"prompt\": \"a\"}\n{\"prompt\": \"c\", \"completion\": \"d\"}\n";
        let found = of(rows, DataFormat::Jsonl, DataKind::Chats).unwrap();
        let sample = Sample::Completion { prompt: "a".into(), completion: "b".into() };
        assert_eq!((found.examples.len(), &found.examples[0].content), (1, &Content::Sample(sample)));
        assert_eq!((found.faults.len(), found.faults[0].line), (1, 2));
        let found = of("a\n\nb\nc\n", DataFormat::Text, DataKind::Texts).unwrap();
        assert_eq!(found.examples.iter().map(|one| one.line).collect::<Vec<_>>(), [1, 3]);
        let labelled = DataKind::Labelled(ProblemType::SingleLabelClassification);
        assert_eq!(of("text,label\na,b\n", DataFormat::Csv, labelled), None);
    }
}
