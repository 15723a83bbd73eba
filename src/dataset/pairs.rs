//! Pairs and triplets of texts for sentence embeddings, under the names that sentence-transformers gives them.

use std::io;

use super::columns::{self, Names};
use super::entries::{Entries, Entry, Ledger, Step, good, settled};
use super::kind::{Kind, Watch};
use super::row::{Row, listed};
use super::tally::Tally;
use super::{Input, rows};
use crate::domain::report::{Contents, DataFormat, ExamplesReport, Fault, Note};

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

/// The pairs or triplets of a file.
///
/// # Errors
/// The file cannot be opened.
pub fn read(input: &Input) -> io::Result<Entries<Triplet>> {
    Ok(settled(rows::read(input)?, Row::weight, settle, |&with_negative, row| {
        Ok(Step::To(triplet(&row, with_negative)))
    }))
}

/// Whether rows have a negative: most of the first ones decide.
fn settle(rows: &[&Row]) -> Result<(bool, Vec<Note>), Fault> {
    let names = Names::of(rows);
    let there = names.listed();
    if let Err((absent, message)) = find(&there) {
        return Err(Fault::new(names.line(), Some(absent), message));
    }
    let have_it = rows.iter().filter(|row| row.get(COLUMNS[2]).is_some()).count();
    let with_negative = (names.are_headed() && there.contains(&COLUMNS[2])) || 2 * have_it >= rows.len();
    Ok((with_negative, columns::not_read(rows, &there, &COLUMNS)))
}

/// The triplet that a row is, or what is wrong with its texts.
fn triplet(row: &Row, with_negative: bool) -> Entry<Triplet> {
    let (anchor, positive) = (row.text(COLUMNS[0]), row.text(COLUMNS[1]));
    let negative = with_negative.then(|| row.text(COLUMNS[2])).transpose();
    let odd = !with_negative && row.get(COLUMNS[2]).is_some();
    match (anchor, positive, negative) {
        (Ok(anchor), Ok(positive), Ok(negative)) if !odd => {
            Entry::Good(Triplet { line: row.line, anchor, positive, negative })
        }
        (anchor, positive, negative) => {
            const ODD: &str = "is here, but not in most rows; give it in every row or in none";
            let parts = [anchor.err(), positive.err(), negative.err().or_else(|| odd.then(|| ODD.to_owned()))];
            let named = COLUMNS.into_iter().zip(parts);
            Entry::Faulty(named.filter_map(|(name, why)| Some(row.fault(name, why?))).collect())
        }
    }
}

/// The first field that is missing, and how that is said.
fn find(there: &[&str]) -> Result<(), (&'static str, String)> {
    let absent = COLUMNS[..2].iter().find(|name| !there.contains(name));
    absent.map_or(Ok(()), |name| Err((*name, format!("there is no \"{name}\"; found {}", listed(there)))))
}

/// Pairs or triplets of texts.
pub struct Pairs;

impl Kind for Pairs {
    fn fits(&self, format: DataFormat, there: &[&str]) -> Result<(), String> {
        rows::fit(format)?;
        find(there).map_err(|(_, message)| message)
    }

    fn report(&self, input: &Input, watch: &mut dyn Watch) -> io::Result<ExamplesReport> {
        let (mut tally, mut ledger) = (Tally::new(watch), Ledger::default());
        for triplet in good(read(input)?, &mut ledger) {
            let Triplet { line, anchor, positive, negative } = triplet?;
            tally.add(line, &[&anchor, &positive], negative.as_deref(), &[], None);
        }
        Ok(tally.report(ledger, |_, text_lengths| Contents::Texts { text_lengths }))
    }
}

#[cfg(test)]
mod tests {
    use super::{Input, Ledger, Triplet, good, read};
    use crate::domain::report::DataFormat;

    fn read_bytes(bytes: &[u8], format: DataFormat) -> (Vec<Triplet>, Vec<String>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        let mut ledger = Ledger::default();
        let triplets = read(&Input::new(file.path(), format)).unwrap();
        let found = good(triplets, &mut ledger).map(Result::unwrap).collect();
        let shown = |fault: crate::domain::report::Fault| {
            format!("{} {} {}", fault.line, fault.field.unwrap_or_default(), fault.message)
        };
        (found, ledger.faults.listed.into_iter().map(shown).collect())
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
                "1 positive is missing",
                "3 positive is empty",
                "4 negative is here, but not in most rows; give it in every row or in none"
            ]
        );
    }
}
