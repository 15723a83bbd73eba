//! Lists of labels as text, as they stand in the cells of tables: JSON's, Python's, `NumPy`'s, and Label Studio's choices.

use serde_json::Value;

/// The items that a cell lists; None where it is no list.
pub(super) fn list(cell: &str) -> Option<Vec<Value>> {
    let cell = cell.trim();
    if cell.starts_with('{') {
        return choices(&serde_json::from_str(cell).ok()?).map(<[Value]>::to_vec);
    }
    if !(cell.starts_with('[') && cell.ends_with(']')) {
        return None;
    }
    match serde_json::from_str(cell) {
        Ok(Value::Array(items)) => Some(items),
        _ => python(&cell[1..cell.len() - 1]),
    }
}

/// The list in an object `{"choices": […]}`, as Label Studio exports several labels.
pub(super) fn choices(value: &Value) -> Option<&[Value]> {
    let object = value.as_object()?;
    object.get("choices")?.as_array().map(Vec::as_slice)
}

/// The items between the brackets of a list as Python writes it, where they are strings or numbers. `NumPy` puts no commas.
fn python(mut rest: &str) -> Option<Vec<Value>> {
    let mut items = Vec::new();
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Some(items);
        }
        let (item, behind) = if rest.starts_with(['\'', '"']) { string(rest)? } else { word(rest)? };
        items.push(item);
        rest = behind.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

/// A string in single or double quotes, and what stands behind it.
fn string(text: &str) -> Option<(Value, &str)> {
    let mut characters = text.char_indices();
    let (_, quote) = characters.next()?;
    let mut content = String::new();
    while let Some((at, c)) = characters.next() {
        match c {
            '\\' => content.push(match characters.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                c @ ('\\' | '\'' | '"') => c,
                // Others are numbers of characters, which no label needs.
                _ => return None,
            }),
            c if c == quote => return Some((Value::String(content), &text[at + c.len_utf8()..])),
            c => content.push(c),
        }
    }
    None
}

/// A number or a name without quotes, and what stands behind it.
fn word(text: &str) -> Option<(Value, &str)> {
    let end = text.find(|c: char| c == ',' || c.is_whitespace()).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    let value = match word {
        "True" => true.into(),
        "False" => false.into(),
        "None" => Value::Null,
        // NumPy writes 1.0 as `1.`.
        number => serde_json::from_str(number.strip_suffix('.').unwrap_or(number)).ok().filter(Value::is_number)?,
    };
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::list;

    #[test]
    fn lists_are_read_as_their_writers_mean_them() {
        for (cell, expected) in [
            ("['billing', 'refund']", json!(["billing", "refund"])),
            (" [] ", json!([])),
            ("[\"a\", \"b\"]", json!(["a", "b"])),
            ("['it\\'s', \"don't\"]", json!(["it's", "don't"])),
            ("['a' 'b'\n 'c']", json!(["a", "b", "c"])),
            ("[1, 0, 1]", json!([1, 0, 1])),
            ("[1. 0. 1.]", json!([1, 0, 1])),
            ("[True, None]", json!([true, null])),
            ("{\"choices\": [\"a\", \"b\"]}", json!(["a", "b"])),
        ] {
            assert_eq!(list(cell).map(Value::Array), Some(expected), "{cell}");
        }
    }

    #[test]
    fn what_is_no_list_is_not_taken_for_one() {
        for cell in ["a", "[a]", "[URGENT] please", "['a", "['a'", "{\"a\": 1}", "[\\'a\\']", "['\\x41']", "[", "]"] {
            assert_eq!(list(cell), None, "{cell}");
        }
    }
}
