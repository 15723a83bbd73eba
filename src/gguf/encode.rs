//! The head of a GGUF file as it is written: version 3, little-endian, metadata and the list of tensors
//! ([gguf.md](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)).

use std::io::{self, Write};

use super::container::{ALIGNMENT, MAGIC};
use super::types::TensorType;

const VERSION: u32 = 3;

/// A value of a key.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Entry {
    Whole(u32),
    Number(f32),
    Flag(bool),
    Text(String),
    Wholes(Vec<i32>),
    Numbers(Vec<f32>),
    Texts(Vec<String>),
}

/// A tensor that will follow the head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announced {
    pub(super) name: String,
    /// Sizes as PyTorch has them, the slowest first; rows are whole blocks.
    pub(super) shape: Vec<u64>,
    pub(super) kind: TensorType,
}

impl Announced {
    /// Bytes of its values.
    pub(super) fn bytes(&self) -> u64 {
        self.kind.bytes_of(self.shape.iter().product()).unwrap_or_default()
    }

    /// Zeroes that follow its bytes, up to where the next tensor may begin.
    pub(super) fn padding(&self) -> u64 {
        padding(self.bytes())
    }
}

fn padding(bytes: u64) -> u64 {
    bytes.next_multiple_of(ALIGNMENT) - bytes
}

/// Writes what stands before the tensors, which follow in the order that they are announced in, each with its padding.
pub(super) fn write_head(out: &mut impl Write, entries: &[(String, Entry)], tensors: &[Announced]) -> io::Result<()> {
    let mut head = Vec::new();
    head.extend(MAGIC);
    head.extend(VERSION.to_le_bytes());
    head.extend((tensors.len() as u64).to_le_bytes());
    head.extend((entries.len() as u64).to_le_bytes());
    for (key, entry) in entries {
        text(&mut head, key);
        value(&mut head, entry);
    }
    let mut place: u64 = 0;
    for tensor in tensors {
        text(&mut head, &tensor.name);
        head.extend((tensor.shape.len() as u32).to_le_bytes());
        tensor.shape.iter().rev().for_each(|size| head.extend(size.to_le_bytes()));
        head.extend(tensor.kind.number().to_le_bytes());
        head.extend(place.to_le_bytes());
        place += tensor.bytes() + tensor.padding();
    }
    head.resize(head.len() + padding(head.len() as u64) as usize, 0);
    out.write_all(&head)
}

fn text(head: &mut Vec<u8>, text: &str) {
    head.extend((text.len() as u64).to_le_bytes());
    head.extend(text.as_bytes());
}

fn value(head: &mut Vec<u8>, entry: &Entry) {
    let mut kind = |number: u32| head.extend(number.to_le_bytes());
    match entry {
        Entry::Whole(_) => kind(4),
        Entry::Number(_) => kind(6),
        Entry::Flag(_) => kind(7),
        Entry::Text(_) => kind(8),
        Entry::Wholes(items) => array(head, 5, items.len()),
        Entry::Numbers(items) => array(head, 6, items.len()),
        Entry::Texts(items) => array(head, 8, items.len()),
    }
    match entry {
        Entry::Whole(whole) => head.extend(whole.to_le_bytes()),
        Entry::Number(number) => head.extend(number.to_le_bytes()),
        Entry::Flag(flag) => head.push((*flag).into()),
        Entry::Text(item) => text(head, item),
        Entry::Wholes(items) => items.iter().for_each(|item| head.extend(item.to_le_bytes())),
        Entry::Numbers(items) => items.iter().for_each(|item| head.extend(item.to_le_bytes())),
        Entry::Texts(items) => items.iter().for_each(|item| text(head, item)),
    }
}

fn array(head: &mut Vec<u8>, item_kind: u32, count: usize) {
    head.extend(9_u32.to_le_bytes());
    head.extend(item_kind.to_le_bytes());
    head.extend((count as u64).to_le_bytes());
}
