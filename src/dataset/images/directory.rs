//! The central directory of a zip archive, streamed: where it lies, and its records.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

use super::members::shown;
use crate::dataset::entries::Entry;
use crate::dataset::{Bounds, Input};
use crate::domain::report::Place;

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const CENTRAL: &[u8] = b"PK\x01\x02";

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
    start: u64,
    length: u64,
    pub(super) members: u64,
}

impl Directory {
    /// Finds it by the record at the end of the file.
    pub(super) fn find(file: &mut File) -> io::Result<Result<Self, &'static str>> {
        const END_BYTES: u64 = 22;
        const NO_END: &str = "the file is not a zip archive, or ends early: it has no end record";
        let file_bytes = file.metadata()?.len();
        // Behind the record stands a comment of at most 65,535 bytes, up to the very end of the file.
        let tail_start = file_bytes.saturating_sub(END_BYTES + 0xFFFF);
        file.seek(SeekFrom::Start(tail_start))?;
        let mut tail = Vec::new();
        Read::by_ref(file).take(END_BYTES + 0xFFFF).read_to_end(&mut tail)?;
        let found = (0..tail.len().saturating_sub(END_BYTES as usize - 1)).rev().find(|&at| {
            tail[at..].starts_with(END) && number(&tail[at + 20..at + 22]) == (tail.len() - at - 22) as u64
        });
        let Some(at) = found else { return Ok(Err(NO_END)) };
        let end = &tail[at..at + 22];
        let end_start = tail_start + at as u64;
        let (mut disk, mut members) = (number(&end[4..6]), number(&end[10..12]));
        let (mut length, mut start) = (number(&end[12..16]), number(&end[16..20]));
        if end_start >= 20 {
            file.seek(SeekFrom::Start(end_start - 20))?;
            let locator = bytes_of::<20>(file)?.filter(|bytes| bytes.starts_with(END_64_LOCATOR));
            if let Some(locator) = locator {
                file.seek(SeekFrom::Start(number(&locator[8..16]).min(file_bytes)))?;
                let record = bytes_of::<56>(file)?.filter(|bytes| bytes.starts_with(END_64));
                let Some(record) = record else { return Ok(Err(NO_END)) };
                disk = number(&record[16..20]);
                members = number(&record[32..40]);
                length = number(&record[40..48]);
                start = number(&record[48..56]);
            }
        }
        if disk != 0 {
            return Ok(Err("the archive is one part of several; upload it as one file"));
        }
        if start.checked_add(length).is_none_or(|end| end > end_start) {
            return Ok(Err("the archive is damaged: its directory is not where its end record says"));
        }
        Ok(Ok(Self { file_bytes, start, length, members }))
    }

    pub(super) fn records(&self, input: &Input) -> io::Result<Records> {
        let mut file = BufReader::new(File::open(&input.path)?);
        file.seek(SeekFrom::Start(self.start))?;
        let directory = file.take(self.length);
        Ok(Records { directory, bounds: input.bounds.clone(), read: 0, members: self.members, is_over: false })
    }
}

/// The members as the central directory has them. A record that cannot be read ends them.
pub(super) struct Records {
    directory: Take<BufReader<File>>,
    bounds: Bounds,
    read: u64,
    members: u64,
    is_over: bool,
}

impl Iterator for Records {
    type Item = io::Result<Entry<Member>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over { None } else { self.record().transpose() }
    }
}

impl Records {
    fn record(&mut self) -> io::Result<Option<Entry<Member>>> {
        const SHORT: &str = "the archive is damaged: its directory ends early or has a bad record";
        const LONG: &str = "the archive is damaged: its directory has more members than it says";
        if self.read == self.members {
            self.is_over = true;
            return Ok((self.directory.limit() > 0).then(|| Entry::fault(self.members, LONG)));
        }
        self.bounds.check()?;
        self.read += 1;
        let member = Member::read(&mut self.directory, self.read)?;
        self.is_over = member.is_none();
        Ok(Some(member.map_or_else(|| Entry::fault(self.read, SHORT), Entry::Good)))
    }
}

/// A record of the central directory.
pub(super) struct Member {
    pub(super) place: Place,
    pub(super) name: Vec<u8>,
    pub(super) flags: u64,
    pub(super) method: u64,
    pub(super) crc: u64,
    pub(super) packed: u64,
    pub(super) unpacked: u64,
    pub(super) local: u64,
    /// The kind of file in a Unix mode, where a Unix packed it.
    kind: u64,
}

impl Member {
    fn read(records: &mut Take<BufReader<File>>, line: u64) -> io::Result<Option<Self>> {
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
        let mut wide = wide_fields(&rest[..extra as usize]);
        let mut widened = |value: u64| if value == SEE_64 { wide.next() } else { Some(value) };
        // The extension holds those of the fields that are too small, in this order.
        let (unpacked, packed) = (widened(field(24, 4)), widened(field(20, 4)));
        let local = widened(field(42, 4));
        let (Some(unpacked), Some(packed), Some(local)) = (unpacked, packed, local) else { return Ok(None) };
        Ok(Some(Self {
            place: Place { line, member: Some(shown(name)) },
            name: name.to_vec(),
            flags: field(8, 2),
            method: field(10, 2),
            crc: field(16, 4),
            packed,
            unpacked,
            local,
            kind: if field(5, 1) == 3 { field(38, 4) >> 16 & 0o170_000 } else { 0 },
        }))
    }
    pub(super) fn other_kind(&self) -> Option<&'static str> {
        match self.kind {
            0 | 0o100_000 | 0o040_000 => None,
            0o120_000 => Some("a symbolic link"),
            0o010_000 => Some("a named pipe"),
            _ => Some("a device"),
        }
    }
}

/// The numbers in the 64-bit extension among a record's extra fields.
fn wide_fields(mut extra: &[u8]) -> impl Iterator<Item = u64> {
    let mut fields: &[u8] = &[];
    while let Some((head, rest)) = extra.split_at_checked(4) {
        let length = number(&head[2..4]) as usize;
        let Some((content, rest)) = rest.split_at_checked(length) else { break };
        if number(&head[..2]) == 1 {
            fields = content;
            break;
        }
        extra = rest;
    }
    fields.chunks_exact(8).map(number)
}
