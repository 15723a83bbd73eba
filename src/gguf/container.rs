//! GGUF files: their metadata, and where their tensors lie
//! ([gguf.md](https://github.com/ggml-org/ggml/blob/master/docs/gguf.md)). Nothing that a file says is believed: what
//! it counts is bounded, and where it points to is within it.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use memmap2::Mmap;

use super::bytes::Cursor;
use super::metadata::{self, Metadata, Values};
use super::tensors::{self, Tensor};

/// What a file begins with.
pub(super) const MAGIC: [u8; 4] = *b"GGUF";
/// Bytes that the place of a tensor is a multiple of, unless the metadata says otherwise.
pub(super) const ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 16;

/// An open GGUF file.
pub struct Gguf {
    map: Mmap,
    contents: Contents,
}

#[derive(Debug)]
struct Contents {
    values: Values,
    tensors: BTreeMap<String, Tensor>,
}

impl Gguf {
    /// Opens a file and reads its metadata and its list of tensors, of which none is read yet.
    ///
    /// # Errors
    /// The file cannot be read, is no GGUF file of version 2 or 3 with little-endian numbers, is damaged, holds tensors
    /// of a type that is not supported, or is one of several that a model was split into.
    pub fn open(path: &Path) -> Result<Self, String> {
        let unreadable = |error: std::io::Error| format!("the GGUF file cannot be read: {error}");
        let file = File::open(path).map_err(unreadable)?;
        // SAFETY: files of models are written once, and neither changed nor cut short afterwards.
        let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
        let contents = parse(&map)?;
        Ok(Self { map, contents })
    }

    pub(super) fn metadata(&self) -> Metadata<'_> {
        Metadata { values: &self.contents.values, bytes: &self.map }
    }

    /// The tensors by name.
    pub fn tensors(&self) -> &BTreeMap<String, Tensor> {
        &self.contents.tensors
    }

    /// The bytes of a tensor of this file, rows of whole blocks.
    pub(super) fn bytes(&self, tensor: &Tensor) -> &[u8] {
        self.map.get(tensor.bytes.clone()).unwrap_or_default()
    }
}

#[cfg(test)]
impl Gguf {
    /// What would be in a file.
    pub(super) fn in_memory(bytes: &[u8]) -> Result<Self, String> {
        let mut map = memmap2::MmapMut::map_anon(bytes.len()).unwrap();
        map.copy_from_slice(bytes);
        Ok(Self { map: map.make_read_only().unwrap(), contents: parse(bytes)? })
    }
}

fn parse(bytes: &[u8]) -> Result<Contents, String> {
    let mut cursor = Cursor::new(bytes, 0, "head");
    if !bytes.starts_with(&MAGIC) {
        return Err("the file is no GGUF file: it does not begin with GGUF".to_owned());
    }
    cursor.take(MAGIC.len() as u64)?;
    match cursor.u32()? {
        2 | 3 => {}
        1 => return Err("the GGUF file is of version 1; convert the model again with a current llama.cpp".to_owned()),
        version if version.swap_bytes() < 1 << 16 => {
            return Err("the GGUF file is big-endian; only little-endian ones are read".to_owned());
        }
        version => return Err(format!("the GGUF file is of version {version}; supported: 2 and 3")),
    }
    let (tensors, keys) = (cursor.u64()?, cursor.u64()?);
    cursor.enter("metadata");
    let values = metadata::read(&mut cursor, keys)?;
    let metadata = Metadata { values: &values, bytes };
    if let Some(count @ 2..) = metadata.count("split.count")? {
        return Err(format!(
            "the GGUF file is one of {count} that a model was split into; join them with llama-gguf-split --merge"
        ));
    }
    let alignment = metadata.count("general.alignment")?.unwrap_or(ALIGNMENT);
    if !alignment.is_power_of_two() || alignment > MAX_ALIGNMENT {
        return Err(format!("the key general.alignment of the GGUF file is {alignment}, which is no power of two"));
    }
    cursor.enter("list of tensors");
    let tensors = tensors::read(&mut cursor, tensors, alignment, bytes.len() as u64)?;
    Ok(Contents { values, tensors })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::encode::Entry;
    use crate::gguf::samples::{announced, bytes, texts};
    use crate::gguf::types::TensorType;

    /// A file with a value of each kind and two tensors.
    fn example() -> Vec<u8> {
        let entries = [
            ("general.architecture", Entry::Text("llama".to_owned())),
            ("whole", Entry::Whole(7)),
            ("number", Entry::Number(1e-5)),
            ("flag", Entry::Flag(true)),
            ("wholes", Entry::Wholes(vec![-1, 2])),
            ("numbers", Entry::Numbers(vec![0.5, -2.0])),
            ("texts", texts(&["a", "", "é"])),
        ];
        bytes(
            &entries,
            &[announced("plain", &[3, 2], TensorType::F32), announced("packed", &[2, 32], TensorType::Q8_0)],
        )
    }

    fn refusal(bytes: &[u8]) -> String {
        parse(bytes).unwrap_err()
    }

    #[test]
    fn values_and_tensors_are_read_as_they_were_written() {
        let file = example();
        let contents = parse(&file).unwrap();
        let metadata = Metadata { values: &contents.values, bytes: &file };
        assert_eq!(metadata.text("general.architecture"), Ok(Some("llama")));
        assert_eq!(metadata.count("whole"), Ok(Some(7)));
        assert_eq!(metadata.number("number"), Ok(Some(1e-5)));
        assert_eq!(metadata.flag("flag"), Ok(Some(true)));
        assert_eq!(metadata.wholes("wholes"), Ok(Some(vec![-1, 2])));
        assert_eq!(metadata.numbers("numbers"), Ok(Some(vec![0.5, -2.0])));
        assert_eq!(metadata.texts("texts"), Ok(Some(vec!["a", "", "é"])));
        assert_eq!(metadata.text("absent"), Ok(None));
        assert_eq!(metadata.text("whole").unwrap_err(), "the key whole of the GGUF file is no string");
        let differs = metadata.count("wholes").unwrap_err();
        assert_eq!(differs, "the key wholes of the GGUF file differs between layers, which is not supported");
        let packed = &contents.tensors["packed"];
        assert_eq!((packed.shape.as_slice(), packed.kind), (&[2, 32][..], TensorType::Q8_0));
        assert_eq!(packed.bytes.len(), 68);
        assert_eq!(packed.bytes.start - contents.tensors["plain"].bytes.start, 32);
    }

    #[test]
    fn a_file_that_is_cut_short_anywhere_is_refused() {
        let file = example();
        let end = parse(&file).unwrap().tensors["packed"].bytes.end;
        for length in 0..end {
            let refused = refusal(&file[..length]);
            let is_known =
                ["the GGUF file ends within", "the file is no GGUF"].iter().any(|known| refused.starts_with(known));
            assert!(is_known, "{length}: {refused}");
        }
    }

    #[test]
    fn any_changed_byte_is_read_or_refused() {
        let mut file = example();
        for place in 0..file.len() {
            for flipped in [0x01, 0x02, 0x04, 0x10, 0x80, 0xFF] {
                file[place] ^= flipped;
                if let Ok(contents) = parse(&file) {
                    let metadata = Metadata { values: &contents.values, bytes: &file };
                    for key in contents.values.keys() {
                        let _ = (metadata.text(key), metadata.count(key), metadata.number(key), metadata.flag(key));
                        let _ = (metadata.texts(key), metadata.numbers(key), metadata.wholes(key));
                    }
                    assert!(contents.tensors.values().all(|tensor| file.get(tensor.bytes.clone()).is_some()));
                }
                file[place] ^= flipped;
            }
        }
    }

    #[test]
    fn huge_counts_and_lengths_are_refused_before_memory_is_taken() {
        let head = |tensors: u64, keys: u64| {
            [&MAGIC[..], &3_u32.to_le_bytes(), &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
        };
        let refused = refusal(&head(0, u64::MAX));
        assert_eq!(refused, "the GGUF file has 18446744073709551615 keys of metadata; at most 65536 are read");
        let refused = refusal(&head(u64::MAX, 0));
        assert_eq!(refused, "the GGUF file has 18446744073709551615 tensors; at most 65536 are read");
        let key =
            |kind: u32, rest: &[u8]| [&head(0, 1)[..], &1_u64.to_le_bytes(), b"k", &kind.to_le_bytes(), rest].concat();
        let long = refusal(&key(8, &u64::MAX.to_le_bytes()));
        assert_eq!(long, "the key k of the GGUF file has 18446744073709551615 bytes; at most 67108864 are read");
        let items = |kind: u32, count: u64| key(9, &[&kind.to_le_bytes()[..], &count.to_le_bytes()].concat());
        let many = refusal(&items(4, u64::MAX));
        assert_eq!(many, "the key k of the GGUF file has 18446744073709551615 items; at most 4194304 are read");
        assert!(refusal(&items(4, 4 << 20)).starts_with("the GGUF file ends within its metadata"));
        assert!(refusal(&items(9, 1)).contains("arrays within an array"));
        assert!(refusal(&items(99, 1)).contains("of the type 99, which GGUF does not have"));
        assert!(refusal(&key(99, &[0; 8])).contains("of the type 99, which GGUF does not have"));
        assert!(refusal(&key(7, &[2])).contains("is neither true nor false"));
    }

    #[test]
    fn other_versions_and_split_files_are_refused_with_what_helps() {
        let version = |number: u32| [&MAGIC[..], &number.to_le_bytes(), &[0; 16]].concat();
        assert!(refusal(&version(1)).contains("convert the model again"));
        assert!(refusal(&version(4)).ends_with("is of version 4; supported: 2 and 3"));
        assert!(refusal(&version(3_u32.swap_bytes())).contains("big-endian"));
        assert!(parse(&version(2)).is_ok());
        let split = refusal(&bytes(&[("split.count", Entry::Whole(3))], &[]));
        assert!(split.contains("one of 3") && split.contains("llama-gguf-split --merge"), "{split}");
        assert!(parse(&bytes(&[("split.count", Entry::Whole(1))], &[])).is_ok());
        assert!(refusal(&bytes(&[("general.alignment", Entry::Whole(24))], &[])).ends_with("no power of two"));
        let twice = refusal(&bytes(&[("k", Entry::Whole(1)), ("k", Entry::Whole(1))], &[]));
        assert_eq!(twice, "the GGUF file has the key k twice");
        assert_eq!(refusal(b"PK"), "the file is no GGUF file: it does not begin with GGUF");
    }
}
