//! Images from a tar archive: POSIX ustar with the extensions of GNU and pax for long names. Headers are walked here,
//! block by block, so that nothing an archive says makes us hold more of it than one image.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;

use tar::{EntryType, Header};

use super::members::{Members, Root, parts, shown};
use super::{ImageExample, MAX_IMAGE_BYTES, MAX_MEMBERS};
use crate::dataset::Input;
use crate::domain::report::{Faults, Place};

/// Everything in a tar archive starts at a multiple of this many bytes.
pub(super) const BLOCK: usize = 512;

/// The longest extension header that is read. Names are far shorter; attributes of files may fill it.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// What a file is compressed with, by its first bytes.
pub(super) fn compression(head: &[u8]) -> Option<&'static str> {
    [(&b"\x1F\x8B"[..], "gzip"), (b"BZh", "bzip2"), (b"\xFD7zXZ\0", "xz"), (b"\x28\xB5\x2F\xFD", "zstd")]
        .into_iter()
        .find_map(|(magic, name)| head.starts_with(magic).then_some(name))
}

/// See [`super::read`].
pub(super) fn read(input: &Input, faults: &mut Faults, mut on_example: impl FnMut(ImageExample)) -> io::Result<()> {
    let mut root = Root::default();
    // Faults of the archive itself are recorded by the second walk.
    walk(input, &mut Faults::default(), |member, _, _| {
        if member.is_file {
            root.add(&member.name);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let mut members = Members::new(&root);
    walk(input, faults, |member, content, faults| {
        if member.place.line > MAX_MEMBERS {
            faults.push_at(&member.place, None, format!("the archive has more than {MAX_MEMBERS} members"));
            return Ok(ControlFlow::Break(()));
        }
        if member.is_folder {
            return Ok(ControlFlow::Continue(()));
        }
        // Something other than a file is a fault, unless its name would be passed over anyway.
        if let Some(what) = member.other.filter(|_| parts(&member.name) != Ok(None)) {
            faults.push_at(&member.place, None, format!("is {what}; only files and folders are read"));
            return Ok(ControlFlow::Continue(()));
        }
        let Some(label) = members.label(&member.place, &member.name, faults) else {
            return Ok(ControlFlow::Continue(()));
        };
        if member.size > MAX_IMAGE_BYTES as u64 {
            faults.push_at(&member.place, None, format!("is larger than {} MiB", MAX_IMAGE_BYTES >> 20));
            return Ok(ControlFlow::Continue(()));
        }
        let mut bytes = Vec::new();
        content.take(member.size).read_to_end(&mut bytes)?;
        if bytes.len() as u64 == member.size {
            on_example(ImageExample { place: member.place, label, bytes });
        } else {
            faults.push_at(&member.place, None, "the archive ends in the middle of it");
        }
        Ok(ControlFlow::Continue(()))
    })
}

struct Member {
    place: Place,
    name: Vec<u8>,
    size: u64,
    is_file: bool,
    is_folder: bool,
    /// What it is, if neither file nor folder.
    other: Option<&'static str>,
}

/// Calls `on_member` for each member, with the file at its first byte. A fault of the archive itself ends the walk.
fn walk(
    input: &Input,
    faults: &mut Faults,
    mut on_member: impl FnMut(Member, &mut BufReader<File>, &mut Faults) -> io::Result<ControlFlow<()>>,
) -> io::Result<()> {
    let mut file = BufReader::new(File::open(&input.path)?);
    let mut block = [0; BLOCK];
    let (mut at, mut number, mut empty) = (0, 0, 0);
    let mut long_name: Option<Vec<u8>> = None;
    loop {
        input.bounds.check()?;
        let mut place = Place { line: number + 1, member: None };
        file.seek(SeekFrom::Start(at))?;
        if let Err(error) = file.read_exact(&mut block) {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return Err(error);
            }
            faults.push_at(&place, None, "the tar archive ends early: its last two blocks, of zeros, are missing");
            return Ok(());
        }
        at += BLOCK as u64;
        if block.iter().all(|&byte| byte == 0) {
            empty += 1;
            if empty == 2 {
                return Ok(());
            }
            continue;
        }
        let header = Header::from_byte_slice(&block);
        let Some(size) = header.entry_size().ok().filter(|_| is_intact(&block)) else {
            faults.push_at(&place, None, not_tar(&block, number));
            return Ok(());
        };
        let kind = header.entry_type();
        let content = at;
        // A size near the end of u64 leads behind the end of the file, where the next round finds no header.
        at = at.saturating_add(size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64));
        if at > i64::MAX as u64 {
            faults.push_at(&place, None, "the tar archive is damaged: a size leads out of it");
            return Ok(());
        }
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            let Some(bytes) = extension(&mut file, size)? else {
                faults.push_at(&place, None, "has a header extension that is too long or cut short");
                return Ok(());
            };
            let name = if kind.is_gnu_longname() { Ok(Some(until_nul(bytes))) } else { pax_path(&bytes) };
            match name {
                Ok(name) => long_name = name.or(long_name),
                Err(message) => {
                    faults.push_at(&place, None, message);
                    return Ok(());
                }
            }
            continue;
        }
        if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
            continue;
        }
        number += 1;
        let name = long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
        place.member = Some(shown(&name));
        file.seek(SeekFrom::Start(content))?;
        let is_folder = kind.is_dir() || (kind.is_file() && name.ends_with(b"/"));
        let other = other_kind(kind);
        let is_file = !is_folder && other.is_none();
        let member = Member { place, name, size, is_file, is_folder, other };
        if on_member(member, &mut file, faults)?.is_break() {
            return Ok(());
        }
    }
}

fn other_kind(kind: EntryType) -> Option<&'static str> {
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::Directory => None,
        EntryType::Symlink => Some("a symbolic link"),
        EntryType::Link => Some("a hard link"),
        EntryType::Char | EntryType::Block => Some("a device"),
        EntryType::Fifo => Some("a named pipe"),
        EntryType::GNUSparse => Some("a sparse file"),
        _ => Some("of an unknown type"),
    }
}

/// Whether the header's checksum is that of its bytes, those of the checksum itself taken as spaces.
fn is_intact(block: &[u8; BLOCK]) -> bool {
    let sum: u32 =
        block.iter().enumerate().map(|(i, &b)| u32::from(if (148..156).contains(&i) { b' ' } else { b })).sum();
    Header::from_byte_slice(block).cksum().is_ok_and(|stated| stated == sum)
}

fn not_tar(block: &[u8; BLOCK], number: u64) -> String {
    match (compression(block), number) {
        (Some(name), 0) => format!("the archive is compressed with {name}; upload it as a plain tar, or as a zip"),
        (None, 0) => "the file is not a tar archive".to_owned(),
        _ => "the tar archive is damaged: the header of a member is not intact".to_owned(),
    }
}

/// The content of an extension header, or None if it is too long or not all there.
fn extension(file: &mut BufReader<File>, size: u64) -> io::Result<Option<Vec<u8>>> {
    if size > MAX_EXTENSION_BYTES {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(size).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 == size).then_some(bytes))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()));
    bytes
}

/// The name in a pax header: records `LENGTH KEY=VALUE\n`, in which LENGTH counts the whole record.
fn pax_path(mut records: &[u8]) -> Result<Option<Vec<u8>>, &'static str> {
    const DAMAGED: &str = "has a damaged pax header";
    let mut path = None;
    while !records.is_empty() {
        let digits = records.iter().position(|&byte| byte == b' ').ok_or(DAMAGED)?;
        let length = std::str::from_utf8(&records[..digits]).ok().and_then(|text| text.parse::<usize>().ok());
        let length = length.filter(|&length| length > digits + 1 && length <= records.len()).ok_or(DAMAGED)?;
        let (record, rest) = records.split_at(length);
        let record = record[digits + 1..].strip_suffix(b"\n").ok_or(DAMAGED)?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or(DAMAGED)?;
        match &record[..equals] {
            b"path" => path = Some(record[equals + 1..].to_vec()),
            // The size of a file of 8 GiB and more: no image, and where the next member starts depends on it.
            b"size" => return Err("has its size in a pax header, as only files of 8 GiB and more do"),
            key if key.starts_with(b"GNU.sparse.") => return Err("is a sparse file; only plain files are read"),
            _ => {}
        }
        records = rest;
    }
    Ok(path)
}
