//! Pairs and triplets of texts for sentence embeddings, under the names that sentence-transformers gives them.

use std::io;

use super::Input;
use super::rows::{self, Next, listed};
use crate::domain::report::{DataFormat, Faults};

/// The names of the texts, in order; the last is optional.
pub const COLUMNS: [&str; 3] = ["anchor", "positive", "negative"];

/// Texts that belong together, and one that does not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Triplet {
    pub line: u64,
    pub anchor: String,
    pub positive: String,
    /// Present in every row of a file or in none.
    pub negative: Option<String>,
}

impl Triplet {
    /// Its texts, in order.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        [Some(&self.anchor), Some(&self.positive), self.negative.as_ref()].into_iter().flatten().map(String::as_str)
    }
}

/// Calls `on_row` for each good row of the file, in order, and records the faults of all others.
///
/// # Errors
/// The file cannot be read.
pub fn read(input: &Input, faults: &mut Faults, mut on_row: impl FnMut(Triplet)) -> io::Result<()> {
    let mut with_negative = None;
    rows::each(input, faults, |line, row, faults| {
        if with_negative.is_none() {
            let there = row.names();
            if let Err((absent, message)) = find(&there) {
                faults.push(line, Some(absent), message);
                return if input.format == DataFormat::Csv { Next::Stop } else { Next::Go };
            }
            with_negative = Some(there.contains(&COLUMNS[2]));
        }
        let wanted = if with_negative == Some(true) { 3 } else { 2 };
        let mut texts = Vec::with_capacity(wanted);
        for name in &COLUMNS[..wanted] {
            match row.text(name) {
                Ok(text) => texts.push(text),
                Err(message) => faults.push(line, Some(name), message),
            }
        }
        if wanted == 2 && row.get(COLUMNS[2]).is_some() {
            faults.push(line, Some(COLUMNS[2]), "is here, but not in the first row; give it in every row or in none");
        } else if texts.len() == wanted {
            let mut texts = texts.into_iter();
            if let (Some(anchor), Some(positive)) = (texts.next(), texts.next()) {
                on_row(Triplet { line, anchor, positive, negative: texts.next() });
            }
        }
        Next::Go
    })
}

/// The first field that is missing, and how that is said.
fn find(there: &[&str]) -> Result<(), (&'static str, String)> {
    let absent = COLUMNS[..2].iter().find(|name| !there.contains(name));
    absent.map_or(Ok(()), |name| Err((*name, format!("there is no \"{name}\"; found {}", listed(there)))))
}

/// Whether fields of these names can be pairs.
///
/// # Errors
/// What is missing.
pub(super) fn fits(there: &[&str]) -> Result<(), String> {
    find(there).map_err(|(_, message)| message)
}

#[cfg(test)]
mod tests {
    use super::{Input, Triplet, read};
    use crate::domain::report::{DataFormat, Faults};

    fn read_bytes(bytes: &[u8], format: DataFormat) -> (Vec<Triplet>, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let (mut found, mut faults) = (Vec::new(), Faults::default());
        read(&Input::new(file.path(), format), &mut faults, |triplet| found.push(triplet)).unwrap();
        let shown = |fault: crate::domain::report::Fault| {
            format!("{} {} {}", fault.line, fault.field.unwrap_or_default(), fault.message)
        };
        (found, faults.listed.into_iter().map(shown).collect())
    }

    #[test]
    fn pairs_and_triplets_are_read() {
        let (pairs, faults) = read_bytes(b"{\"anchor\":\"a\",\"positive\":\"b\"}\n", DataFormat::Jsonl);
        assert_eq!((pairs[0].texts().collect::<Vec<_>>(), faults.len()), (vec!["a", "b"], 0));
        let (triplets, _) = read_bytes(b"anchor,positive,negative\na,b,c\n", DataFormat::Csv);
        assert_eq!(triplets[0].texts().collect::<Vec<_>>(), ["a", "b", "c"]);
    }

    #[test]
    fn faults_name_the_field() {
        let (found, faults) = read_bytes(
            b"{\"anchor\":\"a\"}\n{\"anchor\":\"a\",\"positive\":\"b\"}\n{\"anchor\":\"a\",\"positive\":\" \"}\n\
              {\"anchor\":\"a\",\"positive\":\"b\",\"negative\":\"c\"}\n",
            DataFormat::Jsonl,
        );
        assert_eq!(found.len(), 1);
        assert_eq!(
            faults,
            [
                "1 positive there is no \"positive\"; found \"anchor\"",
                "3 positive is empty",
                "4 negative is here, but not in the first row; give it in every row or in none"
            ]
        );
    }
}
