//! The central directory of a zip archive, streamed: where it lies, and its records.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

use super::archive::{Member, MemberKind};
use super::dos::Written;
use super::names::shown;
use super::sniff::{HEAD_BYTES, name_of};
use crate::dataset::entries::Entry;
use crate::dataset::{Bounds, Input};
use crate::domain::report::{Fault, Place};

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const CENTRAL: &[u8] = b"PK\x01\x02";
pub(super) const LOCAL: &[u8] = b"PK\x03\x04";

/// Info-ZIP's name in UTF-8 and the 64-bit extension among a record's extra fields.
const UNICODE_PATH: u64 = 0x7075;
const WIDE: u64 = 1;

/// The system that modes of files are taken from.
const UNIX: u64 = 3;

/// A 32-bit field that says: see the 64-bit extension.
const SEE_64: u64 = 0xFFFF_FFFF;

/// Little-endian, up to 8 bytes.
pub(super) fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Reads exactly `N` bytes, or None at the end of what there is.
pub(super) fn bytes_of<const N: usize>(reader: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the central directory lies.
pub(super) struct Directory {
    pub(super) file_bytes: u64,
    /// Bytes before the archive, such as the program that unpacks it. All places are counted from behind them.
    pub(super) prefix: u64,
    start: u64,
    length: u64,
    pub(super) members: u64,
}

/// What the record at the end of an archive says.
struct End {
    /// Where the record itself begins, or the 64-bit one before it.
    at: u64,
    disk: u64,
    members: u64,
    length: u64,
    start: u64,
}

impl Directory {
    /// Finds it by the record at the end of the file.
    pub(super) fn find(file: &mut File) -> io::Result<Result<Self, String>> {
        let Some(end) = End::find(file)? else { return Ok(Err(no_end(file)?)) };
        if end.disk != 0 {
            return Ok(Err("the archive is one part of several; upload it as one file".to_owned()));
        }
        let file_bytes = file.metadata()?.len();
        let found =
            |prefix: u64, start: u64| Self { file_bytes, prefix, start, length: end.length, members: end.members };
        // As Info-ZIP and Python do: the directory lies right before the record, wherever the archive begins.
        if let Some(start) = end.at.checked_sub(end.length)
            && let Some(prefix) = start.checked_sub(end.start)
            && (end.length == 0 || begins_with(file, start, CENTRAL)?)
        {
            return Ok(Ok(found(prefix, start)));
        }
        // Something lies between them.
        if end.start.checked_add(end.length).is_some_and(|behind| behind <= end.at) {
            return Ok(Ok(found(0, end.start)));
        }
        Ok(Err("the archive is damaged: its directory is not where its end record says".to_owned()))
    }

    /// Whether a record lies where it begins.
    pub(super) fn is_there(&self, file: &mut File) -> io::Result<bool> {
        begins_with(file, self.start, CENTRAL)
    }

    pub(super) fn records(&self, input: &Input) -> io::Result<Records> {
        let mut file = BufReader::new(File::open(&input.path)?);
        file.seek(SeekFrom::Start(self.start))?;
        let directory = file.take(self.length);
        let bounds = input.bounds.clone();
        Ok(Records { directory, bounds, prefix: self.prefix, read: 0, members: self.members, is_over: false })
    }
}

impl End {
    fn find(file: &mut File) -> io::Result<Option<Self>> {
        const BYTES: u64 = 22;
        const LOCATOR_BYTES: u64 = 20;
        const BYTES_64: u64 = 56;
        let file_bytes = file.metadata()?.len();
        // Behind the record stands a comment of at most 65,535 bytes, up to the very end of the file.
        let tail_start = file_bytes.saturating_sub(BYTES + 0xFFFF);
        file.seek(SeekFrom::Start(tail_start))?;
        let mut tail = Vec::new();
        Read::by_ref(file).take(BYTES + 0xFFFF).read_to_end(&mut tail)?;
        let found = (0..tail.len().saturating_sub(BYTES as usize - 1)).rev().find(|&at| {
            tail[at..].starts_with(END) && number(&tail[at + 20..at + 22]) == (tail.len() - at - 22) as u64
        });
        let Some(at) = found else { return Ok(None) };
        let (end, at) = (&tail[at..at + 22], tail_start + at as u64);
        let field = |from: usize, to: usize| number(&end[from..to]);
        let end = Self { at, disk: field(4, 6), members: field(10, 12), length: field(12, 16), start: field(16, 20) };
        let Some(locator) = record::<20>(file, at.checked_sub(LOCATOR_BYTES), END_64_LOCATOR)? else {
            return Ok(Some(end));
        };
        // The locator counts from the start of the archive; the record lies right before it unless it has extensions.
        let stated = Some(number(&locator[8..16]).min(file_bytes));
        let before = at.checked_sub(LOCATOR_BYTES + BYTES_64);
        for at in [before, stated] {
            if let Some(end) = record::<56>(file, at, END_64)? {
                let field = |from: usize, to: usize| number(&end[from..to]);
                let (members, length, start) = (field(32, 40), field(40, 48), field(48, 56));
                return Ok(Some(Self { at: at.unwrap_or(0), disk: field(16, 20), members, length, start }));
            }
        }
        Ok(None)
    }
}

/// The record of `N` bytes at a place, if one with this signature is there.
fn record<const N: usize>(file: &mut File, at: Option<u64>, signature: &[u8]) -> io::Result<Option<[u8; N]>> {
    let Some(at) = at else { return Ok(None) };
    file.seek(SeekFrom::Start(at))?;
    Ok(bytes_of::<N>(file)?.filter(|bytes| bytes.starts_with(signature)))
}

fn begins_with(file: &mut File, at: u64, signature: &[u8]) -> io::Result<bool> {
    Ok(record::<4>(file, Some(at), signature)?.is_some())
}

/// What is wrong with a file that has no end record.
fn no_end(file: &mut File) -> io::Result<String> {
    file.seek(SeekFrom::Start(0))?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(match name_of(&head) {
        _ if head.is_empty() => "the file is not a zip archive: it is empty".to_owned(),
        _ if head.starts_with(LOCAL) => {
            "the zip archive ends early: it has no end record; was it sent or copied in whole?".to_owned()
        }
        Some(name) => format!("the file is not a zip archive: it is {name}"),
        None => "the file is not a zip archive, or ends early: it has no end record".to_owned(),
    })
}

/// The members as the central directory has them. A record that cannot be read ends them.
pub(super) struct Records {
    directory: Take<BufReader<File>>,
    bounds: Bounds,
    prefix: u64,
    read: u64,
    members: u64,
    is_over: bool,
}

impl Iterator for Records {
    type Item = io::Result<Entry<Member<Packed>>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over { None } else { self.record().transpose() }
    }
}

impl Records {
    fn record(&mut self) -> io::Result<Option<Entry<Member<Packed>>>> {
        const SHORT: &str = "the archive is damaged: its directory ends early or has a bad record";
        const LONG: &str = "the archive is damaged: its directory has more members than it says";
        let broken = |line: u64, message: &str| Entry::Broken(Fault::new(line, None, message));
        if self.read == self.members {
            self.is_over = true;
            return Ok((self.directory.limit() > 0).then(|| broken(self.members.max(1), LONG)));
        }
        self.bounds.check()?;
        self.read += 1;
        let member = member(&mut self.directory, self.read, self.prefix)?;
        self.is_over = member.is_none();
        Ok(Some(member.map_or_else(|| broken(self.read, SHORT), Entry::Good)))
    }
}

/// Where the content of a member lies, and how.
pub(super) struct Packed {
    /// As both headers have it.
    pub(super) name: Vec<u8>,
    pub(super) flags: u64,
    pub(super) method: u64,
    pub(super) crc: u64,
    /// Bytes in the archive, and bytes that they unpack to.
    pub(super) stored: u64,
    pub(super) unpacked: u64,
    /// The place of its local header in the file.
    pub(super) local: u64,
}

/// Reads a record of the central directory; None where it is none, or not all there.
fn member(records: &mut Take<BufReader<File>>, line: u64, prefix: u64) -> io::Result<Option<Member<Packed>>> {
    let Some(fixed) = bytes_of::<46>(records)?.filter(|bytes| bytes.starts_with(CENTRAL)) else { return Ok(None) };
    let field = |at: usize, length: usize| number(&fixed[at..at + length]);
    let (name, extra) = (field(28, 2), field(30, 2));
    let variable = name + extra + field(32, 2);
    let mut bytes = Vec::new();
    records.take(variable).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != variable {
        return Ok(None);
    }
    let (name, rest) = bytes.split_at(name as usize);
    let extra = &rest[..extra as usize];
    let mut wide = extra_field(extra, WIDE).unwrap_or_default().chunks_exact(8).map(number);
    let mut widened = |value: u64| if value == SEE_64 { wide.next() } else { Some(value) };
    // The extension holds those of the fields that are too small, in this order.
    let (unpacked, stored) = (widened(field(24, 4)), widened(field(20, 4)));
    let local = widened(field(42, 4)).and_then(|local| local.checked_add(prefix));
    let (Some(unpacked), Some(stored), Some(local)) = (unpacked, stored, local) else { return Ok(None) };
    let (flags, system) = (field(8, 2), field(5, 1));
    let read = Written { name, flags, system, unicode: extra_field(extra, UNICODE_PATH) }.read();
    let shown = shown(read.text.as_ref().map_or(name, String::as_bytes));
    let packed =
        Packed { name: name.to_vec(), flags, method: field(10, 2), crc: field(16, 4), stored, unpacked, local };
    let kind = if system == UNIX { kind(field(38, 4) >> 16) } else { MemberKind::File };
    Ok(Some(Member { place: Place { line, member: Some(shown) }, name: read, kind, packed }))
}

/// The kind of a file by its Unix mode. Folders are known by their names, which end in "/".
fn kind(mode: u64) -> MemberKind {
    match mode & 0o170_000 {
        0 | 0o100_000 | 0o040_000 => MemberKind::File,
        0o120_000 => MemberKind::Other("a symbolic link"),
        0o010_000 => MemberKind::Other("a named pipe"),
        _ => MemberKind::Other("a device"),
    }
}

/// The content of one of a record's extra fields.
fn extra_field(mut extra: &[u8], id: u64) -> Option<&[u8]> {
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let (content, rest) = rest.split_at_checked(number(&head[2..4]) as usize)?;
        if number(&head[..2]) == id {
            return Some(content);
        }
        extra = rest;
    }
    None
}
