//! The objects of a JSON array, or of a file in which they stand one after the other over several lines.

use std::io;

use super::MAX_LINE_BYTES;
use super::lines::Lines;

/// One item, as it is written, and the line on which it begins.
pub(super) struct Item {
    pub(super) line: u64,
    pub(super) text: Vec<u8>,
}

/// What is not there as it should be, and where.
pub(super) struct Misplaced {
    pub(super) line: u64,
    pub(super) what: String,
}

/// Takes items out of a file without holding more than one. It knows no more of JSON than strings and brackets: whether an
/// item is what it should be is for its reader to say.
pub(super) struct Items {
    lines: Lines,
    /// The line that is read, and how far.
    line: Vec<u8>,
    at: usize,
    /// Whether the items are those of an array; None before the first character.
    in_array: Option<bool>,
    is_over: bool,
}

impl Items {
    pub(super) fn new(lines: Lines) -> Self {
        Self { lines, line: Vec::new(), at: 0, in_array: None, is_over: false }
    }

    /// The next item; None at the end. Nothing follows what is misplaced.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<Item, Misplaced>>> {
        if self.is_over {
            return Ok(None);
        }
        let found = self.item()?;
        self.is_over = !matches!(found, Some(Ok(_)));
        Ok(found)
    }

    fn item(&mut self) -> io::Result<Option<Result<Item, Misplaced>>> {
        let Some(mut byte) = self.peek()? else { return Ok(self.end()) };
        if self.in_array.is_none() {
            self.in_array = Some(byte == b'[');
            if byte == b'[' {
                self.at += 1;
                let Some(next) = self.peek()? else { return Ok(self.end()) };
                byte = next;
            }
        } else if self.in_array == Some(true) && byte != b']' {
            if byte != b',' {
                return Ok(Some(Err(self.misplaced("between two items of the array there is no comma"))));
            }
            self.at += 1;
            let Some(next) = self.peek()? else { return Ok(self.end()) };
            byte = next;
            if byte == b']' {
                return Ok(Some(Err(self.misplaced("behind the comma there is no item"))));
            }
        }
        if self.in_array == Some(true) && byte == b']' {
            self.at += 1;
            let rest = self.peek()?;
            return Ok(rest.map(|_| Err(self.misplaced("behind the array there is something else"))));
        }
        self.take().map(Some)
    }

    fn end(&self) -> Option<Result<Item, Misplaced>> {
        (self.in_array == Some(true)).then(|| Err(self.misplaced("the file ends before the array does")))
    }

    fn misplaced(&self, what: &str) -> Misplaced {
        Misplaced { line: self.lines.number().max(1), what: format!("is not valid JSON ({what})") }
    }

    /// The next byte that is no white space.
    fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            if let Some(skip) = self.line[self.at..].iter().position(|byte| !byte.is_ascii_whitespace()) {
                self.at += skip;
                return Ok(self.line.get(self.at).copied());
            }
            if !self.read_line()? {
                return Ok(None);
            }
        }
    }

    fn read_line(&mut self) -> io::Result<bool> {
        self.line.clear();
        self.at = 0;
        self.lines.read(&mut self.line)
    }

    /// The item that begins here: up to its closing bracket, or to what ends a plain value.
    fn take(&mut self) -> io::Result<Result<Item, Misplaced>> {
        let line = self.lines.number();
        let (mut text, mut depth, mut in_string, mut escaped) = (Vec::new(), 0_u64, false, false);
        loop {
            let rest = &self.line[self.at..];
            let mut taken = rest.len();
            let mut is_whole = false;
            for (place, &byte) in rest.iter().enumerate() {
                if in_string {
                    (in_string, escaped) = (escaped || byte != b'"', !escaped && byte == b'\\');
                } else {
                    match byte {
                        b'"' => in_string = true,
                        b'{' | b'[' => depth += 1,
                        b'}' | b']' if depth > 0 => depth -= 1,
                        b',' | b']' | b'}' if depth == 0 => {
                            (taken, is_whole) = (place, true);
                            break;
                        }
                        _ => {}
                    }
                }
                let ends_value = depth == 0 && !in_string && matches!(byte, b'}' | b']' | b'"');
                if ends_value || (depth == 0 && byte.is_ascii_whitespace() && !in_string) {
                    (taken, is_whole) = (place + 1, true);
                    break;
                }
            }
            text.extend_from_slice(&rest[..taken]);
            self.at += taken;
            if text.len() > MAX_LINE_BYTES {
                let what = format!("is longer than {} MiB", MAX_LINE_BYTES >> 20);
                return Ok(Err(Misplaced { line, what }));
            }
            if is_whole && !text.is_empty() {
                return Ok(Ok(Item { line, text }));
            }
            if is_whole {
                return Ok(Err(self.misplaced("there is no item where one should be")));
            }
            if !self.read_line()? {
                // A plain value may end with the file, an object may not.
                if depth == 0 && !in_string && self.in_array == Some(false) {
                    return Ok(Ok(Item { line, text }));
                }
                let what = "is not valid JSON (what begins here is never closed)".to_owned();
                return Ok(Err(Misplaced { line, what }));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::lines::Lines;
    use super::Items;

    fn items(text: &str) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let mut items = Items::new(Lines::open(file.path(), 1 << 20).unwrap());
        let mut found = Vec::new();
        while let Some(item) = items.next().unwrap() {
            found.push(match item {
                Ok(item) => format!("{} {}", item.line, String::from_utf8(item.text).unwrap().replace('\n', "~")),
                Err(misplaced) => format!("{}! {}", misplaced.line, misplaced.what),
            });
        }
        found
    }

    #[test]
    fn items_of_arrays_and_of_files_are_taken_whole() {
        assert_eq!(
            items("[\n  {\"a\": \"]}\\\"\"},\n {\n\"b\":[1]}\n]\n"),
            ["2 {\"a\": \"]}\\\"\"}", "3 {~\"b\":[1]}"]
        );
        assert_eq!(items("{\n\"a\":1\n}\n{\"b\":2}{\"c\":3}"), ["1 {~\"a\":1~}", "4 {\"b\":2}", "4 {\"c\":3}"]);
        assert_eq!(items("[1, \"x\" ,[2]]"), ["1 1", "1 \"x\"", "1 [2]"]);
        assert!(items("[]").is_empty() && items(" \n").is_empty());
    }

    #[test]
    fn what_is_misplaced_is_one_fault_at_its_line() {
        for (text, expected) in [
            ("[{}\n{}]", "2! is not valid JSON (between two items of the array there is no comma)"),
            ("[{},\n]", "2! is not valid JSON (behind the comma there is no item)"),
            ("[{}", "1! is not valid JSON (the file ends before the array does)"),
            ("[{}]\n{}", "2! is not valid JSON (behind the array there is something else)"),
            ("[{},\n{\"a\": \"\n", "2! is not valid JSON (what begins here is never closed)"),
            ("[,]", "1! is not valid JSON (there is no item where one should be)"),
        ] {
            assert_eq!(items(text).last().unwrap(), expected, "{text}");
        }
    }
}
