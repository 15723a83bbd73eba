//! Images from a zip archive (APPNOTE 6.3, with the 64-bit extension). The central directory is streamed, twice: the
//! `zip` crate holds it all in memory by name, so of two members with one name it keeps one and can only tell that there
//! were more, where we want bounds and a fault that names the member.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Take};
use std::path::Path;

use flate2::Crc;
use flate2::{bufread, read};

use super::archive::{Archive, Member, Unreadable};
use super::directory::{Directory, LOCAL, Packed, bytes_of, number};
use super::names::MAX_NAME_BYTES;
use super::sniff::HEAD_BYTES;
use super::{ImageExample, MAX_IMAGE_BYTES, MAX_MEMBERS, archive};
use crate::dataset::Input;
use crate::dataset::entries::{Entries, Ledger, good, nothing_but};
use crate::domain::report::{DataFormat, Fault};

const STORED: u64 = 0;
const DEFLATED: u64 = 8;

const DAMAGED: &str = "its compressed data is damaged or cut short";

/// Packed bytes from which the first bytes of a member are unpacked: more than enough for those.
const PACKED_HEAD_BYTES: u64 = 4096;

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
    let left = directory.file_bytes;
    archive::read(Zip { file, directory, input: input.clone(), left }, input)
}

/// The names of the first members; None where the archive has no directory.
pub(super) fn names(path: &Path) -> io::Result<Option<Vec<String>>> {
    const MOST: usize = 1000;
    let Ok(directory) = Directory::find(&mut File::open(path)?)? else { return Ok(None) };
    let input = Input::new(path, DataFormat::Zip);
    let mut ledger = Ledger::default();
    let members = good(directory.records(&input)?, &mut ledger).take(MOST);
    members.map(|member| Ok(member?.name.text.unwrap_or_default())).collect::<io::Result<_>>().map(Some)
}

/// Whether a file that begins otherwise is an archive with something in front of it.
pub(super) fn is_behind_prefix(file: &mut File) -> io::Result<bool> {
    match Directory::find(file)? {
        Ok(directory) => directory.is_there(file),
        Err(_) => Ok(false),
    }
}

struct Zip {
    file: File,
    directory: Directory,
    input: Input,
    /// Bytes of the archive that no image has taken yet. Members that share theirs make a small archive unpack to any size.
    left: u64,
}

impl Archive for Zip {
    type Packed = Packed;

    fn members(&self) -> io::Result<Entries<Member<Packed>>> {
        Ok(Box::new(self.directory.records(&self.input)?))
    }

    fn head(&mut self, member: &Packed) -> io::Result<Result<Vec<u8>, String>> {
        let mut packed = match member.packed(&mut self.file)? {
            Ok(packed) => packed.take(PACKED_HEAD_BYTES),
            Err(message) => return Ok(Err(message)),
        };
        let mut bytes = Vec::new();
        packed.read_to_end(&mut bytes)?;
        if member.method == STORED {
            bytes.truncate(HEAD_BYTES);
            return Ok(Ok(bytes));
        }
        let mut head = Vec::new();
        // The end of what was read, or damage further on; what was unpacked before it is there.
        let _ = bufread::DeflateDecoder::new(bytes.as_slice()).take(HEAD_BYTES as u64).read_to_end(&mut head);
        Ok(if head.is_empty() && member.unpacked > 0 { Err(DAMAGED.to_owned()) } else { Ok(head) })
    }

    fn content(&mut self, member: &Packed) -> io::Result<Result<Vec<u8>, Unreadable>> {
        let Some(left) = self.left.checked_sub(member.stored) else {
            return Ok(Err(Unreadable::Archive("the archive's members overlap".to_owned())));
        };
        self.left = left;
        Ok(member.content(&mut self.file)?.map_err(Unreadable::Member))
    }
}

impl Packed {
    /// The bytes of the file, whose length and checksum are those that the record states.
    fn content(&self, file: &mut File) -> io::Result<Result<Vec<u8>, String>> {
        let too_large = || Err(format!("is larger than {} MiB", MAX_IMAGE_BYTES >> 20));
        if self.unpacked > MAX_IMAGE_BYTES as u64 {
            return Ok(too_large());
        }
        let packed = match self.packed(file)? {
            Ok(packed) => packed,
            Err(message) => return Ok(Err(message)),
        };
        let mut bytes = Vec::new();
        // One byte more than allowed shows that there is more, whatever the headers say.
        let most = MAX_IMAGE_BYTES as u64 + 1;
        let read = if self.method == DEFLATED {
            read::DeflateDecoder::new(packed).take(most).read_to_end(&mut bytes)
        } else {
            packed.take(most).read_to_end(&mut bytes)
        };
        match read {
            // The disk's errors have a number, the decoder's have none.
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(_) => return Ok(Err(DAMAGED.to_owned())),
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

    /// The bytes of the file as they are packed, behind the local header, which must tell of the same member.
    fn packed<'a>(&self, file: &'a mut File) -> io::Result<Result<Take<&'a mut File>, String>> {
        if self.flags & 1 != 0 {
            return Ok(Err("is encrypted".to_owned()));
        }
        if self.method != STORED && self.method != DEFLATED {
            let method = method_name(self.method);
            return Ok(Err(format!("is compressed with {method}; supported: stored and deflate")));
        }
        // A seek beyond i64 is an error of the system's; one beyond the file only reads nothing.
        file.seek(SeekFrom::Start(self.local.min(i64::MAX as u64)))?;
        let Some(local) = bytes_of::<30>(file)?.filter(|bytes| bytes.starts_with(LOCAL)) else {
            return Ok(Err("is not where the archive's directory says".to_owned()));
        };
        let (name_bytes, extra_bytes) = (number(&local[26..28]), number(&local[28..30]));
        let mut name = Vec::with_capacity(MAX_NAME_BYTES);
        Read::by_ref(file).take(name_bytes).read_to_end(&mut name)?;
        if name != self.name || number(&local[8..10]) != self.method {
            return Ok(Err("has two headers that contradict each other".to_owned()));
        }
        file.seek(SeekFrom::Current(extra_bytes as i64))?;
        Ok(Ok(file.take(self.stored)))
    }
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
