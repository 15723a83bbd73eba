//! Fields that tell nothing, since they hold the same in every row.

use std::io;

use serde_json::Value;

use super::entries::{Entries, Entry};
use super::row::{Row, listed};
use crate::domain::report::Note;

/// Of fewer rows it may be by chance.
const FEWEST_ROWS: u64 = 10;

/// Longer values are taken to differ.
const MOST_BYTES: usize = 1024;

/// The fields that hold in all rows so far what they held in the first.
#[derive(Debug, Default)]
struct Constants {
    rows: u64,
    fields: Vec<(String, Value)>,
}

impl Constants {
    fn add(&mut self, row: &Row) {
        if self.rows == 0 && row.weight() <= MOST_BYTES {
            let names = row.names().into_iter().filter(|name| !name.is_empty());
            self.fields = names.filter_map(|name| Some((name.to_owned(), row.get(name)?.into_owned()))).collect();
        }
        self.rows += 1;
        self.fields.retain(|(name, value)| row.get(name).is_some_and(|other| *other == *value));
    }

    fn note(&self) -> Option<Note> {
        let names: Vec<&str> = self.fields.iter().map(|(name, _)| name.as_str()).collect();
        (self.rows >= FEWEST_ROWS && !names.is_empty()).then(|| {
            let message = format!("Columns that hold the same in every row, and so tell nothing: {}.", listed(&names));
            Note::info("constant_columns", message)
        })
    }
}

/// The same rows, with a word at their end about the fields that tell nothing.
pub(super) fn noted(rows: Entries<Row>) -> Entries<Row> {
    let mut constants = Constants::default();
    Box::new(rows.map(move |entry: io::Result<Entry<Row>>| {
        entry.map(|entry| match entry {
            Entry::End(mut ending) => {
                ending.notes.extend(constants.note());
                Entry::End(ending)
            }
            entry => {
                if let Entry::Good(row) = &entry {
                    constants.add(row);
                }
                entry
            }
        })
    }))
}

#[cfg(test)]
mod tests {
    use crate::dataset::entries::{Ledger, good};
    use crate::dataset::{Input, rows};
    use crate::domain::report::DataFormat;

    fn told(text: &str, format: DataFormat) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut ledger = Ledger::default();
        assert!(good(rows::read(&Input::new(file.path(), format)).unwrap(), &mut ledger).all(|row| row.is_ok()));
        ledger.notes.into_iter().map(|note| note.message).collect()
    }

    #[test]
    fn fields_with_one_value_in_all_rows_are_told() {
        let said = "Columns that hold the same in every row, and so tell nothing: \"source\".";
        let table = |rows: usize, last: &str| {
            let rows: Vec<String> = (0..rows).map(|i| format!("text {i},web,{}", i % 2)).collect();
            format!("text,source,label\n{}\nx,{last},1\n", rows.join("\n"))
        };
        assert_eq!(told(&table(9, "web"), DataFormat::Csv), [said]);
        for other in [table(9, "app"), table(9, ""), table(8, "web")] {
            assert!(told(&other, DataFormat::Csv).is_empty(), "{other}");
        }
        let lines = |last: &str| {
            let rows: Vec<String> = (0..9).map(|i| format!("{{\"text\": \"{i}\", \"source\": [1]}}")).collect();
            format!("{}\n{last}", rows.join("\n"))
        };
        assert_eq!(told(&lines("{\"source\": [1]}"), DataFormat::Jsonl), [said]);
        assert!(told(&lines("{\"text\": \"9\"}"), DataFormat::Jsonl).is_empty(), "absent in one row");
    }
}
