//! Metadata of a GGUF file: values by key. Strings and arrays stay where they are in the file until they are asked for.

use std::collections::BTreeMap;
use std::ops::Range;

use super::bytes::Cursor;

/// Bytes of a key, at most.
const MAX_KEY_BYTES: u64 = 1024;
/// Keys, at most.
const MAX_KEYS: u64 = 65_536;
/// Bytes of a string, at most: some files hold a whole `tokenizer.json` in one.
const MAX_STRING_BYTES: u64 = 64 << 20;
/// Items of an array, at most: the largest vocabularies have half a million tokens.
const MAX_ITEMS: u64 = 4 << 20;

const TEXT: u32 = 8;
const ARRAY: u32 = 9;

/// Values by key, as [`read`] finds them.
pub(super) type Values = BTreeMap<String, Value>;

/// A value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Whole(i128),
    F32(f32),
    F64(f64),
    Flag(bool),
    Text(Range<usize>),
    Array { kind: u32, count: usize, bytes: Range<usize> },
}

/// Reads so many keys with their values.
///
/// # Errors
/// The bytes end before, a value is of no known type or larger than the bounds above, or a key stands there twice.
pub(super) fn read(cursor: &mut Cursor, count: u64) -> Result<Values, String> {
    if count > MAX_KEYS {
        return Err(format!("the GGUF file has {count} keys of metadata; at most {MAX_KEYS} are read"));
    }
    let mut values = Values::new();
    for _ in 0..count {
        let key = cursor.string(MAX_KEY_BYTES, "a key")?;
        let kind = cursor.u32()?;
        let value = if kind == ARRAY { array(cursor, key)? } else { value(cursor, kind, key)? };
        if values.insert(key.to_owned(), value).is_some() {
            return Err(format!("the GGUF file has the key {key} twice"));
        }
    }
    Ok(values)
}

fn value(cursor: &mut Cursor, kind: u32, key: &str) -> Result<Value, String> {
    if kind == TEXT {
        let length = cursor.string(MAX_STRING_BYTES, &format!("the key {key}"))?.len();
        return Ok(Value::Text(cursor.place() - length..cursor.place()));
    }
    let size = size_of(kind).ok_or_else(|| unknown(kind, key))?;
    scalar(cursor.take(size)?, kind).ok_or_else(|| format!("the key {key} of the GGUF file is neither true nor false"))
}

fn array(cursor: &mut Cursor, key: &str) -> Result<Value, String> {
    let (kind, count) = (cursor.u32()?, cursor.u64()?);
    if count > MAX_ITEMS {
        return Err(format!("the key {key} of the GGUF file has {count} items; at most {MAX_ITEMS} are read"));
    }
    let start = cursor.place();
    match size_of(kind) {
        Some(size) => {
            cursor.take(size * count)?;
        }
        None if kind == TEXT => {
            for _ in 0..count {
                cursor.string(MAX_STRING_BYTES, &format!("an item of the key {key}"))?;
            }
        }
        None if kind == ARRAY => {
            return Err(format!(
                "the key {key} of the GGUF file holds arrays within an array, which are not supported"
            ));
        }
        None => return Err(unknown(kind, key)),
    }
    Ok(Value::Array { kind, count: usize::try_from(count).unwrap_or(usize::MAX), bytes: start..cursor.place() })
}

fn unknown(kind: u32, key: &str) -> String {
    format!("the key {key} of the GGUF file is of the type {kind}, which GGUF does not have")
}

/// Bytes of a value that is neither a string nor an array.
fn size_of(kind: u32) -> Option<u64> {
    match kind {
        0 | 1 | 7 => Some(1),
        2 | 3 => Some(2),
        4..=6 => Some(4),
        10..=12 => Some(8),
        _ => None,
    }
}

/// The value of as many bytes as its type has; None if it is of another type, or a flag that is neither 0 nor 1.
fn scalar(bytes: &[u8], kind: u32) -> Option<Value> {
    let mut word = [0; 8];
    word.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    let bits = u64::from_le_bytes(word);
    Some(match kind {
        0 | 2 | 4 | 10 => Value::Whole(bits.into()),
        1 => Value::Whole((bits as i8).into()),
        3 => Value::Whole((bits as i16).into()),
        5 => Value::Whole((bits as i32).into()),
        11 => Value::Whole((bits as i64).into()),
        6 => Value::F32(f32::from_bits(bits as u32)),
        12 => Value::F64(f64::from_bits(bits)),
        7 if bits < 2 => Value::Flag(bits == 1),
        _ => return None,
    })
}

/// Metadata with the bytes of the file that it is in.
#[derive(Clone, Copy)]
pub(super) struct Metadata<'a> {
    pub(super) values: &'a Values,
    pub(super) bytes: &'a [u8],
}

impl<'a> Metadata<'a> {
    pub(super) fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A string; None if there is no such key.
    ///
    /// # Errors
    /// It is no string. So it is with the others.
    pub(super) fn text(&self, key: &str) -> Result<Option<&'a str>, String> {
        self.get(key, "string", |value| match value {
            Value::Text(range) => std::str::from_utf8(self.bytes.get(range.clone())?).ok(),
            _ => None,
        })
    }

    /// A whole number that is not negative; of an array, the one that all its items are.
    pub(super) fn count(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(items) = self.wholes(key)? else { return Ok(None) };
        let Some(&first) = items.first() else { return Err(format!("the key {key} of the GGUF file is empty")) };
        if items.iter().any(|&item| item != first) {
            return Err(format!("the key {key} of the GGUF file differs between layers, which is not supported"));
        }
        u64::try_from(first).map(Some).map_err(|_| format!("the key {key} of the GGUF file is {first}"))
    }

    /// A number. One of 32 bits is the shortest decimal that stands for it, as it was before it was written.
    pub(super) fn number(&self, key: &str) -> Result<Option<f64>, String> {
        let number = self.get(key, "number", |value| match value {
            Value::Whole(whole) => Some(*whole as f64),
            Value::F32(number) => Some(shortest(*number)),
            Value::F64(number) => Some(*number),
            _ => None,
        })?;
        match number {
            Some(number) if !number.is_finite() => Err(format!("the key {key} of the GGUF file is {number}")),
            finite => Ok(finite),
        }
    }

    pub(super) fn flag(&self, key: &str) -> Result<Option<bool>, String> {
        self.get(key, "flag", |value| if let Value::Flag(flag) = value { Some(*flag) } else { None })
    }

    /// The strings of an array.
    pub(super) fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, String> {
        self.get(key, "list of strings", |value| {
            let Value::Array { kind: TEXT, count, bytes } = value else { return None };
            let mut cursor = Cursor::new(self.bytes, bytes.start, "metadata");
            (0..*count).map(|_| cursor.string(MAX_STRING_BYTES, key).ok()).collect()
        })
    }

    /// The numbers of an array.
    pub(super) fn numbers(&self, key: &str) -> Result<Option<Vec<f32>>, String> {
        let number = |item: Option<Value>| match item? {
            Value::Whole(whole) => Some(whole as f32),
            Value::F32(number) => Some(number),
            Value::F64(number) => Some(number as f32),
            _ => None,
        };
        self.get(key, "list of numbers", |value| self.items(value)?.map(number).collect())
    }

    /// The whole numbers of an array, or the only one. A flag is one too.
    pub(super) fn wholes(&self, key: &str) -> Result<Option<Vec<i64>>, String> {
        let whole = |value: Option<Value>| match value? {
            Value::Whole(whole) => i64::try_from(whole).ok(),
            Value::Flag(flag) => Some(flag.into()),
            _ => None,
        };
        self.get(key, "whole number", |value| match self.items(value) {
            Some(items) => items.map(whole).collect(),
            None => whole(Some(value.clone())).map(|whole| vec![whole]),
        })
    }

    /// The items of an array that are no strings.
    fn items(&self, value: &Value) -> Option<impl Iterator<Item = Option<Value>> + use<'a>> {
        let Value::Array { kind, ref bytes, .. } = *value else { return None };
        let size = usize::try_from(size_of(kind)?).ok()?;
        Some(self.bytes.get(bytes.clone())?.chunks_exact(size).map(move |bytes| scalar(bytes, kind)))
    }

    fn get<T>(&self, key: &str, what: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>, String> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| format!("the key {key} of the GGUF file is no {what}"))
    }
}

/// The decimal with the fewest digits that rounds to the number.
fn shortest(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}
