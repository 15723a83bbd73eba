//! Images from a tar archive: POSIX ustar with the extensions of GNU and pax for long names. Headers are walked here,
//! block by block, so that nothing an archive says makes us hold more of it than one image.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use tar::{EntryType, Header};

use super::members::{Members, Root, parts, shown};
use super::{ImageExample, MAX_IMAGE_BYTES, MAX_MEMBERS};
use crate::dataset::entries::{Entries, Entry, Ledger, Step, further, good};
use crate::dataset::{Bounds, Input};
use crate::domain::report::{Fault, Place};

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
pub(super) fn read(input: &Input) -> io::Result<Entries<ImageExample>> {
    let mut root = Root::default();
    // Faults of the archive itself are found by the second walk.
    for member in good(Walk::start(input)?, &mut Ledger::default()) {
        let member = member?;
        if member.is_file {
            root.add(&member.name);
        }
    }
    let (mut members, mut file) = (Members::new(&root), File::open(&input.path)?);
    Ok(further(Walk::start(input)?, move |member| image(member, &mut members, &mut file)))
}

fn image(member: Member, members: &mut Members, file: &mut File) -> io::Result<Step<ImageExample>> {
    let fault = |message: String| Fault::at(&member.place, None, message);
    if member.place.line > MAX_MEMBERS {
        return Ok(Step::End(fault(format!("the archive has more than {MAX_MEMBERS} members"))));
    }
    if member.is_folder {
        return Ok(Step::PassOver);
    }
    // Something other than a file is a fault, unless its name would be passed over anyway.
    if let Some(what) = member.other.filter(|_| parts(&member.name) != Ok(None)) {
        return Ok(Step::faulty(fault(format!("is {what}; only files and folders are read"))));
    }
    let label = match members.label(&member.name) {
        Ok(Some(label)) => label,
        Ok(None) => return Ok(Step::PassOver),
        Err(message) => return Ok(Step::faulty(fault(message))),
    };
    if member.size > MAX_IMAGE_BYTES as u64 {
        return Ok(Step::faulty(fault(format!("is larger than {} MiB", MAX_IMAGE_BYTES >> 20))));
    }
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(member.content))?;
    file.take(member.size).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != member.size {
        return Ok(Step::faulty(fault("the archive ends in the middle of it".to_owned())));
    }
    Ok(Step::good(ImageExample { place: member.place, label, bytes }))
}

struct Member {
    place: Place,
    name: Vec<u8>,
    /// Where its first byte lies in the file.
    content: u64,
    size: u64,
    is_file: bool,
    is_folder: bool,
    /// What it is, if neither file nor folder.
    other: Option<&'static str>,
}

/// The members of an archive. A fault of the archive itself ends them.
struct Walk {
    file: BufReader<File>,
    bounds: Bounds,
    /// Where the next header lies.
    at: u64,
    /// How many members there were.
    number: u64,
    /// How many blocks of zeros there were.
    empty: u64,
    /// The name of the next member, where it stands in an extension.
    long_name: Option<Vec<u8>>,
    is_over: bool,
}

impl Iterator for Walk {
    type Item = io::Result<Entry<Member>>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            let member = self.block().transpose();
            if member.is_some() {
                return member;
            }
        }
        None
    }
}

impl Walk {
    fn start(input: &Input) -> io::Result<Self> {
        let file = BufReader::new(File::open(&input.path)?);
        let bounds = input.bounds.clone();
        Ok(Self { file, bounds, at: 0, number: 0, empty: 0, long_name: None, is_over: false })
    }

    /// Reads the next header; None if it is not that of a member, or the last.
    fn block(&mut self) -> io::Result<Option<Entry<Member>>> {
        self.bounds.check()?;
        let mut block = [0; BLOCK];
        self.file.seek(SeekFrom::Start(self.at))?;
        if let Err(error) = self.file.read_exact(&mut block) {
            if error.kind() != io::ErrorKind::UnexpectedEof {
                return Err(error);
            }
            return Ok(Some(self.end("the tar archive ends early: its last two blocks, of zeros, are missing")));
        }
        self.at += BLOCK as u64;
        if block.iter().all(|&byte| byte == 0) {
            self.empty += 1;
            self.is_over = self.empty == 2;
            return Ok(None);
        }
        let header = Header::from_byte_slice(&block);
        let Some(size) = header.entry_size().ok().filter(|_| is_intact(&block)) else {
            return Ok(Some(self.end(&not_tar(&block, self.number))));
        };
        let (kind, content) = (header.entry_type(), self.at);
        // A size near the end of u64 leads behind the end of the file, where the next round finds no header.
        self.at = content.saturating_add(size.div_ceil(BLOCK as u64).saturating_mul(BLOCK as u64));
        if self.at > i64::MAX as u64 {
            return Ok(Some(self.end("the tar archive is damaged: a size leads out of it")));
        }
        if kind.is_gnu_longname() || kind.is_pax_local_extensions() {
            return self.extended(kind, size);
        }
        if kind.is_gnu_longlink() || kind.is_pax_global_extensions() {
            return Ok(None);
        }
        self.number += 1;
        let name = self.long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let place = Place { line: self.number, member: Some(shown(&name)) };
        let is_folder = kind.is_dir() || (kind.is_file() && name.ends_with(b"/"));
        let other = other_kind(kind);
        let is_file = !is_folder && other.is_none();
        Ok(Some(Entry::Good(Member { place, name, content, size, is_file, is_folder, other })))
    }

    /// Takes in the name of the next member.
    fn extended(&mut self, kind: EntryType, size: u64) -> io::Result<Option<Entry<Member>>> {
        let Some(bytes) = extension(&mut self.file, size)? else {
            return Ok(Some(self.end("has a header extension that is too long or cut short")));
        };
        let name = if kind.is_gnu_longname() { Ok(Some(until_nul(bytes))) } else { pax_path(&bytes) };
        match name {
            Ok(name) => self.long_name = name.or(self.long_name.take()),
            Err(message) => return Ok(Some(self.end(message))),
        }
        Ok(None)
    }

    /// What is wrong with the archive where its next member would be.
    fn end(&mut self, message: &str) -> Entry<Member> {
        self.is_over = true;
        Entry::fault(self.number + 1, message)
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
