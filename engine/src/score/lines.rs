//! Files with a line for each example, of which several are put together.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::iter::Peekable;
use std::path::Path;

use serde_json::{Map, Value};

/// The field that tells on which line of the data file an example stands. Examples without it have the same places in all files.
const LINE: &str = "line";

type Object = Map<String, Value>;

/// Writes the objects of two files of lines to `to`, those of one example as one: what `right` has of it is added to what `left`
/// has, or stands in a field of its own. Both are in the order of the data file; what one of them lacks stands alone.
///
/// # Errors
/// A file cannot be read or written.
pub fn join(left: &Path, right: &Path, to: &Path, field: Option<&str>) -> io::Result<()> {
    let (mut left, mut right) = (objects(left)?.peekable(), objects(right)?.peekable());
    let mut file = BufWriter::new(File::create(to)?);
    loop {
        let (mut joined, other) = match order(&mut left, &mut right) {
            None => return file.flush(),
            Some((is_left, is_right)) => {
                let (one, two) = (left.next_if(|_| is_left).transpose()?, right.next_if(|_| is_right).transpose()?);
                (one.unwrap_or_default(), two)
            }
        };
        if let Some(mut other) = other {
            match field {
                None => joined.extend(other),
                Some(field) => {
                    if let Some(line) = other.remove(LINE) {
                        joined.insert(LINE.to_owned(), line);
                    }
                    joined.insert(field.to_owned(), Value::Object(other));
                }
            }
        }
        serde_json::to_writer(&mut file, &joined)?;
        file.write_all(b"\n")?;
    }
}

/// Whether the next object is of the left, of the right, or of both; None at the end.
fn order<L, R>(left: &mut Peekable<L>, right: &mut Peekable<R>) -> Option<(bool, bool)>
where
    L: Iterator<Item = io::Result<Object>>,
    R: Iterator<Item = io::Result<Object>>,
{
    let line = |object: &io::Result<Object>| object.as_ref().ok().and_then(|object| object.get(LINE)?.as_u64());
    match (left.peek().map(line), right.peek().map(line)) {
        (None, None) => None,
        (Some(_), None) => Some((true, false)),
        (None, Some(_)) => Some((false, true)),
        (Some(left), Some(right)) => Some((left <= right, right <= left)),
    }
}

fn objects(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Object>>> {
    let lines = BufReader::new(File::open(path)?).lines();
    Ok(lines.map(|line| serde_json::from_str(&line?).map_err(io::Error::from)))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::join;

    fn joined(left: &str, right: &str, field: Option<&str>) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("left"), left).unwrap();
        fs::write(path("right"), right).unwrap();
        join(&path("left"), &path("right"), &path("to"), field).unwrap();
        fs::read_to_string(path("to")).unwrap()
    }

    #[test]
    fn lines_of_one_example_become_one() {
        let left = "{\"line\":1,\"a\":1}\n{\"line\":3,\"a\":3}\n{\"line\":3,\"a\":4}\n";
        let right = "{\"line\":1,\"b\":1}\n{\"line\":2,\"b\":2}\n{\"line\":3,\"b\":3}\n{\"line\":9,\"b\":9}\n";
        let expected = "{\"a\":1,\"b\":1,\"line\":1}\n{\"b\":2,\"line\":2}\n{\"a\":3,\"b\":3,\"line\":3}\n\
                        {\"a\":4,\"line\":3}\n{\"b\":9,\"line\":9}\n";
        assert_eq!(joined(left, right, None), expected);
        let apart = joined(left, right, Some("other"));
        assert!(
            apart.starts_with("{\"a\":1,\"line\":1,\"other\":{\"b\":1}}\n{\"line\":2,\"other\":{\"b\":2}}\n"),
            "{apart}"
        );
    }

    #[test]
    fn examples_without_lines_are_joined_by_their_places() {
        let left = "{\"file\":\"x\",\"a\":1}\n{\"file\":\"y\",\"a\":2}\n";
        let found = joined(left, &left.replace("\"a\"", "\"b\""), None);
        assert_eq!(found, "{\"a\":1,\"b\":1,\"file\":\"x\"}\n{\"a\":2,\"b\":2,\"file\":\"y\"}\n");
    }
}
