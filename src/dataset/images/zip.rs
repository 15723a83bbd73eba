//! Images from a zip archive (APPNOTE 6.3, with the 64-bit extension). The central directory is streamed, twice: the
//! `zip` crate holds it all in memory by name, so of two members with one name it keeps one and can only tell that there
//! were more, where we want bounds and a fault that names the member.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::members::{MAX_NAME_BYTES, Members, Root, parts, shown};
use super::{ImageExample, MAX_IMAGE_BYTES, MAX_MEMBERS};
use crate::dataset::entries::{Entries, Entry, Step, further, good, nothing_but};
use crate::dataset::{Bounds, Input};
use crate::domain::report::{Fault, Faults, Place};

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const END_64_LOCATOR: &[u8] = b"PK\x06\x07";
const CENTRAL: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";

/// A 32-bit field that says: see the 64-bit extension.
const SEE_64: u64 = 0xFFFF_FFFF;

const STORED: u64 = 0;
const DEFLATED: u64 = 8;

/// See [`super::read`].
pub(super) fn read(input: &Input) -> io::Result<Entries<ImageExample>> {
    let mut file = File::open(&input.path)?;
    let directory = match Directory::find(&mut file)? {
        Ok(directory) if directory.members > MAX_MEMBERS => {
            let message = format!("the archive has more than {MAX_MEMBERS} members");
            return Ok(nothing_but(Fault::new(1, None, message)));
        }
        Ok(directory) => directory,
        Err(message) => return Ok(nothing_but(Fault::new(1, None, message))),
    };
    let mut root = Root::default();
    // Faults of the directory itself are found by the second walk.
    for member in good(directory.records(input)?, &mut Faults::default()) {
        root.add(&member?.name);
    }
    let mut images = Images { file, members: Members::new(&root), left: directory.file_bytes };
    Ok(further(directory.records(input)?, move |member| images.image(member)))
}

/// The images among the members.
struct Images {
    file: File,
    members: Members,
    /// Bytes of the archive that no member has taken yet. Members that share theirs make a small archive unpack to any size.
    left: u64,
}

impl Images {
    fn image(&mut self, member: Member) -> io::Result<Step<ImageExample>> {
        let fault = |message: String| Fault::at(&member.place, None, message);
        // Whether it is a link or a device says the mode of the system that packed it; folders end in "/".
        if let Some(what) = member.other_kind().filter(|_| parts(&member.name) != Ok(None)) {
            return Ok(Step::faulty(fault(format!("is {what}; only files and folders are read"))));
        }
        let label = match self.members.label(&member.name) {
            Ok(Some(label)) => label,
            Ok(None) => return Ok(Step::PassOver),
            Err(message) => return Ok(Step::faulty(fault(message))),
        };
        let Some(left) = self.left.checked_sub(member.packed) else {
            return Ok(Step::End(fault("the archive's members overlap".to_owned())));
        };
        self.left = left;
        Ok(match member.content(&mut self.file)? {
            Ok(bytes) => Step::good(ImageExample { place: member.place, label, bytes }),
            Err(message) => Step::faulty(fault(message)),
        })
    }
}

/// Little-endian, up to 8 bytes.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Reads exactly `N` bytes, or None at the end of what there is.
fn bytes_of<const N: usize>(reader: &mut impl Read) -> io::Result<Option<[u8; N]>> {
    let mut bytes = [0; N];
    match reader.read_exact(&mut bytes) {
        Ok(()) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the central directory lies.
struct Directory {
    file_bytes: u64,
    start: u64,
    length: u64,
    members: u64,
}

impl Directory {
    /// Finds it by the record at the end of the file.
    fn find(file: &mut File) -> io::Result<Result<Self, &'static str>> {
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

    fn records(&self, input: &Input) -> io::Result<Records> {
        let mut file = BufReader::new(File::open(&input.path)?);
        file.seek(SeekFrom::Start(self.start))?;
        let directory = file.take(self.length);
        Ok(Records { directory, bounds: input.bounds.clone(), read: 0, members: self.members, is_over: false })
    }
}

/// The members as the central directory has them. A record that cannot be read ends them.
struct Records {
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
struct Member {
    place: Place,
    name: Vec<u8>,
    flags: u64,
    method: u64,
    crc: u64,
    packed: u64,
    unpacked: u64,
    local: u64,
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

    fn other_kind(&self) -> Option<&'static str> {
        match self.kind {
            0 | 0o100_000 | 0o040_000 => None,
            0o120_000 => Some("a symbolic link"),
            0o010_000 => Some("a named pipe"),
            _ => Some("a device"),
        }
    }

    /// The bytes of the file, whose length and checksum are those that the record states.
    fn content(&self, file: &mut File) -> io::Result<Result<Vec<u8>, String>> {
        let too_large = || Err(format!("is larger than {} MiB", MAX_IMAGE_BYTES >> 20));
        if self.flags & 1 != 0 {
            return Ok(Err("is encrypted".to_owned()));
        }
        if self.method != STORED && self.method != DEFLATED {
            let method = method_name(self.method);
            return Ok(Err(format!("is compressed with {method}; supported: stored and deflate")));
        }
        if self.unpacked > MAX_IMAGE_BYTES as u64 {
            return Ok(too_large());
        }
        if let Err(message) = self.seek_to_data(file)? {
            return Ok(Err(message.to_owned()));
        }
        let packed = file.take(self.packed);
        let mut bytes = Vec::new();
        // One byte more than allowed shows that there is more, whatever the headers say.
        let most = MAX_IMAGE_BYTES as u64 + 1;
        let read = if self.method == DEFLATED {
            DeflateDecoder::new(packed).take(most).read_to_end(&mut bytes)
        } else {
            packed.take(most).read_to_end(&mut bytes)
        };
        match read {
            // The disk's errors have a number, the decoder's have none.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(_) => return Ok(Err("its compressed data is damaged or cut short".to_owned())),
            Ok(_) => {}
        }
        if bytes.len() > MAX_IMAGE_BYTES {
            return Ok(too_large());
        }
        if bytes.len() as u64 != self.unpacked {
            let (found, stated) = (bytes.len(), self.unpacked);
            return Ok(Err(format!("holds {found} bytes where the archive's directory says {stated}")));
        }
        let mut crc = Crc::new();
        crc.update(&bytes);
        Ok(if u64::from(crc.sum()) == self.crc { Ok(bytes) } else { Err("its checksum does not match".to_owned()) })
    }

    /// Passes over the local header, which must tell of the same member.
    fn seek_to_data(&self, file: &mut File) -> io::Result<Result<(), &'static str>> {
        const NOT_THERE: &str = "is not where the archive's directory says";
        // A seek beyond i64 is an error of the system's; one beyond the file only reads nothing.
        file.seek(SeekFrom::Start(self.local.min(i64::MAX as u64)))?;
        let Some(local) = bytes_of::<30>(file)?.filter(|bytes| bytes.starts_with(LOCAL)) else {
            return Ok(Err(NOT_THERE));
        };
        let (name_bytes, extra_bytes) = (number(&local[26..28]), number(&local[28..30]));
        let mut name = Vec::with_capacity(MAX_NAME_BYTES);
        Read::by_ref(file).take(name_bytes).read_to_end(&mut name)?;
        if name != self.name || number(&local[8..10]) != self.method {
            return Ok(Err("has two headers that contradict each other"));
        }
        file.seek(SeekFrom::Current(extra_bytes as i64))?;
        Ok(Ok(()))
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

fn method_name(method: u64) -> String {
    let name = match method {
        1 => "shrink",
        6 => "implode",
        9 => "deflate64",
        12 => "bzip2",
        14 => "LZMA",
        93 => "zstd",
        95 => "xz",
        98 => "PPMd",
        // The true method stands in an extension.
        99 => return "AES encryption".to_owned(),
        _ => return format!("method {method}"),
    };
    name.to_owned()
}
