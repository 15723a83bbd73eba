//! Images from a tar archive: POSIX ustar with the extensions of GNU and pax for long names. Headers are walked here,
//! block by block, so that nothing an archive says makes us hold more of it than one image.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use tar::{EntryType, Header};

use super::archive::{Archive, Member, MemberKind, Name, Unreadable};
use super::names::shown;
use super::sniff::{HEAD_BYTES, name_of};
use super::{ImageExample, MAX_IMAGE_BYTES, MAX_MEMBERS, archive};
use crate::dataset::entries::{Entries, Entry};
use crate::dataset::{Bounds, Input};
use crate::domain::report::{Fault, Place};

/// Everything in a tar archive starts at a multiple of this many bytes.
const BLOCK: usize = 512;

/// The longest extension header that is read. Names are far shorter; attributes of files may fill it.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Whether a file that begins so says that it is a tar archive. Those of before POSIX do not.
pub(in crate::dataset) fn is_tar(head: &[u8]) -> bool {
    head.get(257..262) == Some(b"ustar")
}

/// See [`super::read`].
pub(super) fn read(input: &Input) -> io::Result<Entries<ImageExample>> {
    archive::read(Tar { file: File::open(&input.path)?, input: input.clone() }, input)
}

struct Tar {
    file: File,
    input: Input,
}

/// Where the content of a member lies.
struct Packed {
    start: u64,
    size: u64,
}

impl Archive for Tar {
    type Packed = Packed;

    fn members(&self) -> io::Result<Entries<Member<Packed>>> {
        Ok(Box::new(Walk::start(&self.input)?))
    }

    fn head(&mut self, member: &Packed) -> io::Result<Result<Vec<u8>, String>> {
        self.first(member, HEAD_BYTES as u64).map(Ok)
    }

    fn content(&mut self, member: &Packed) -> io::Result<Result<Vec<u8>, Unreadable>> {
        let fault = |message: String| Ok(Err(Unreadable::Member(message)));
        if member.size > MAX_IMAGE_BYTES as u64 {
            return fault(format!("is larger than {} MiB", MAX_IMAGE_BYTES >> 20));
        }
        let bytes = self.first(member, member.size)?;
        if bytes.len() as u64 != member.size {
            return fault("the archive ends in the middle of it".to_owned());
        }
        Ok(Ok(bytes))
    }
}

impl Tar {
    fn first(&mut self, member: &Packed, most: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.file.seek(SeekFrom::Start(member.start))?;
        Read::by_ref(&mut self.file).take(member.size.min(most)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
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
    type Item = io::Result<Entry<Member<Packed>>>;

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
    fn block(&mut self) -> io::Result<Option<Entry<Member<Packed>>>> {
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
        if self.number == MAX_MEMBERS {
            return Ok(Some(self.end(&format!("the archive has more than {MAX_MEMBERS} members"))));
        }
        self.number += 1;
        let name = self.long_name.take().unwrap_or_else(|| header.path_bytes().into_owned());
        let place = Place { line: self.number, member: Some(shown(&name)) };
        let kind = if kind.is_file() && name.ends_with(b"/") { MemberKind::Folder } else { member_kind(kind) };
        let text = String::from_utf8(name).map_err(|_| "its name is not valid UTF-8".to_owned());
        let name = Name { text, is_dos_text: false, is_dos_path: false };
        Ok(Some(Entry::Good(Member { place, name, kind, packed: Packed { start: content, size } })))
    }

    /// Takes in the name of the next member.
    fn extended(&mut self, kind: EntryType, size: u64) -> io::Result<Option<Entry<Member<Packed>>>> {
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
    fn end(&mut self, message: &str) -> Entry<Member<Packed>> {
        self.is_over = true;
        Entry::Broken(Fault::new(self.number + 1, None, message))
    }
}

fn member_kind(kind: EntryType) -> MemberKind {
    match kind {
        EntryType::Regular | EntryType::Continuous => MemberKind::File,
        EntryType::Directory => MemberKind::Folder,
        EntryType::Symlink => MemberKind::Other("a symbolic link"),
        EntryType::Link => MemberKind::Other("a hard link"),
        EntryType::Char | EntryType::Block => MemberKind::Other("a device"),
        EntryType::Fifo => MemberKind::Other("a named pipe"),
        EntryType::GNUSparse => MemberKind::Other("a sparse file"),
        _ => MemberKind::Other("of an unknown type"),
    }
}

/// Whether the header's checksum is that of its bytes, those of the checksum itself taken as spaces.
fn is_intact(block: &[u8; BLOCK]) -> bool {
    let sum: u32 =
        block.iter().enumerate().map(|(i, &b)| u32::from(if (148..156).contains(&i) { b' ' } else { b })).sum();
    Header::from_byte_slice(block).cksum().is_ok_and(|stated| stated == sum)
}

fn not_tar(block: &[u8; BLOCK], number: u64) -> String {
    match name_of(block) {
        _ if number > 0 || is_tar(block) => {
            "the tar archive is damaged: the header of a member is not intact".to_owned()
        }
        Some(name) if name.starts_with("compressed") => {
            format!("the archive is {name}; upload it as a plain tar, or as a zip")
        }
        Some(name) => format!("the file is not a tar archive: it is {name}"),
        None => "the file is not a tar archive".to_owned(),
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
