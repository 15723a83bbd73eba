//! How a file of delimiter-separated values is written: found by its header and its first rows, so that no single row
//! decides.

use std::cmp::Ordering;
use std::io;
use std::path::Path;

use super::split::Splitter;
use crate::dataset::MAX_LINE_BYTES;
use crate::dataset::columns::KNOWN_COLUMNS;
use crate::dataset::lines::{Lines, content};
use crate::dataset::record::Record;
use crate::domain::job::ReadOptions;
use crate::domain::report::Delimiter;

/// How much of a file is looked at.
const MOST_LINES: usize = 1000;
const MOST_BYTES: usize = 256 << 10;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::dataset) struct Dialect {
    pub(in crate::dataset) delimiter: Delimiter,
    /// Whether quotation marks quote. Of the files with tabs some have them as plain characters.
    pub(in crate::dataset) quoting: bool,
    /// Whether the first line is `sep=;` and its like, by which Excel is told the delimiter.
    pub(in crate::dataset) has_separator_line: bool,
}

/// The dialect of a file, and how well it fits.
pub(in crate::dataset) struct Guess {
    pub(in crate::dataset) dialect: Dialect,
    /// How many columns have names that readers look for.
    pub(in crate::dataset) known_columns: usize,
    /// Columns of the header.
    pub(in crate::dataset) columns: usize,
    /// The share of the first rows that have as many fields as the header.
    pub(in crate::dataset) fitting: f64,
}

/// Looks at the beginning of a file.
///
/// # Errors
/// The file cannot be read.
pub(in crate::dataset) fn guess(path: &Path, options: &ReadOptions) -> io::Result<Guess> {
    Ok(guess_lines(&head(path)?, options))
}

/// The first lines of a file with their ends.
fn head(path: &Path) -> io::Result<Vec<Vec<u8>>> {
    let (mut reader, mut lines, mut bytes) = (Lines::open(path, MAX_LINE_BYTES)?, Vec::new(), 0);
    while lines.len() < MOST_LINES && bytes < MOST_BYTES {
        let mut line = Vec::new();
        // Damage is told by whoever reads the file.
        if !reader.read(&mut line).unwrap_or(false) {
            break;
        }
        bytes += line.len();
        lines.push(line);
    }
    Ok(lines)
}

fn guess_lines(lines: &[Vec<u8>], options: &ReadOptions) -> Guess {
    let separator = lines.first().and_then(|line| separator_line(line));
    let body = &lines[usize::from(separator.is_some())..];
    let has_separator_line = separator.is_some();
    if let Some(delimiter) = options.delimiter.or(separator) {
        return fit(body, delimiter, has_separator_line, options);
    }
    let guesses = Delimiter::ALL.map(|delimiter| fit(body, delimiter, false, options));
    // Of equals the first one, which is the likelier.
    let better = |one: &Guess, other: &Guess| {
        let rank = |guess: &Guess| {
            let several = guess.columns > 1;
            (several, guess.known_columns, if several { guess.fitting } else { 0.0 })
        };
        rank(other).partial_cmp(&rank(one)).is_some_and(Ordering::is_gt)
    };
    guesses
        .into_iter()
        .reduce(|best, other| if better(&best, &other) { other } else { best })
        .unwrap_or_else(|| fit(body, Delimiter::Comma, false, options))
}

/// The delimiter that the first line names.
fn separator_line(line: &[u8]) -> Option<Delimiter> {
    let line = content(line);
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    let (name, rest) = line.split_at_checked(4)?;
    Delimiter::ALL.into_iter().find(|delimiter| name.eq_ignore_ascii_case(b"sep=") && rest == [delimiter.byte()])
}

fn fit(lines: &[Vec<u8>], delimiter: Delimiter, has_separator_line: bool, options: &ReadOptions) -> Guess {
    let quoted = records(lines, Splitter::new(delimiter.byte(), true));
    let quoting = quoted.is_some() || delimiter != Delimiter::Tab;
    let records = match quoted {
        Some(records) => records,
        None => records(lines, Splitter::new(delimiter.byte(), false)).unwrap_or_default(),
    };
    let columns = records.first().map_or(0, Record::len);
    let rows = records.len().saturating_sub(1);
    let fitting = records.iter().skip(1).filter(|record| record.len() == columns).count();
    let named = [options.text_column.as_deref(), options.label_column.as_deref()];
    let is_known = |name: &&str| {
        let name = name.trim();
        named.contains(&Some(name)) || KNOWN_COLUMNS.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    Guess {
        dialect: Dialect { delimiter, quoting, has_separator_line },
        known_columns: records.first().map_or(0, |header| header.iter().filter(is_known).count()),
        columns,
        fitting: if rows == 0 { 1.0 } else { fitting as f64 / rows as f64 },
    }
}

/// The complete records of these lines, None where quotation marks are broken.
fn records(lines: &[Vec<u8>], mut splitter: Splitter) -> Option<Vec<Record>> {
    let mut records = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        if content(line).is_empty() && !splitter.is_open() {
            continue;
        }
        if splitter.line(line, number as u64 + 1).ok()? {
            records.extend(splitter.take());
        }
    }
    // A field that is open for long is one that was never closed, or a text that begins with a quotation mark.
    let is_cut = lines.len() == MOST_LINES || lines.iter().map(Vec::len).sum::<usize>() >= MOST_BYTES;
    let open_since = (lines.len() as u64).saturating_sub(splitter.opened);
    (!splitter.is_open() || (is_cut && open_since < 100)).then_some(records)
}

#[cfg(test)]
mod tests {
    use super::{Dialect, guess_lines};
    use crate::domain::job::ReadOptions;
    use crate::domain::report::Delimiter;

    fn dialect(text: &str) -> (Delimiter, bool) {
        let lines: Vec<Vec<u8>> = text.split_inclusive('\n').map(|line| line.as_bytes().to_vec()).collect();
        let Dialect { delimiter, quoting, .. } = guess_lines(&lines, &ReadOptions::default()).dialect;
        (delimiter, quoting)
    }

    #[test]
    fn the_delimiter_is_that_of_header_and_rows() {
        use Delimiter::{Comma, Pipe, Semicolon, Tab};
        for (text, expected) in [
            ("text,label\na;b,c\nd;e,f\n", Comma),
            ("text;label\na, b, c;x\nd;y\n", Semicolon),
            ("text\tlabel\na, b; c\tx\n", Tab),
            ("id|body\n1|a,b\n2|c,d\n", Pipe),
            ("text\na, b\nc, d\n", Comma),
            ("sep=;\na,b;c\n1,2;3\n", Semicolon),
            ("\"SEP=|\"\r\na,b|c\n", Pipe),
            ("\"text, all of it\";label\nx;y\n", Semicolon),
            ("ham\tyes, later\nspam\twin, now, here\n", Tab),
            ("", Comma),
        ] {
            assert_eq!(dialect(text).0, expected, "{text:?}");
        }
        let lines = [b"a;b,c\n".to_vec()];
        let asked = ReadOptions { delimiter: Some(Pipe), ..ReadOptions::default() };
        assert_eq!(guess_lines(&lines, &asked).dialect.delimiter, Pipe);
    }

    #[test]
    fn quotation_marks_of_tabbed_files_quote_where_all_of_them_do() {
        assert_eq!(dialect("text\tlabel\n\"a\tb\"\tx\n"), (Delimiter::Tab, true));
        assert_eq!(dialect("text\tlabel\n\"a\" he said\tx\n"), (Delimiter::Tab, false));
        assert_eq!(dialect("text\tlabel\n\"a\tx\nb\ty\n"), (Delimiter::Tab, false));
        assert_eq!(dialect("text,label\n\"a\" he said,x\n"), (Delimiter::Comma, true));
    }
}
