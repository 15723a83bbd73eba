//! Images from a zip archive (APPNOTE 6.3, with the 64-bit extension). The central directory is streamed, twice: the
//! `zip` crate holds it all in memory by name, so of two members with one name it keeps one and can only tell that there
//! were more, where we want bounds and a fault that names the member.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use flate2::Crc;
use flate2::read::DeflateDecoder;

use super::directory::{Directory, Member, bytes_of, number};
use super::members::{MAX_NAME_BYTES, Members, Root, parts};
use super::{ImageExample, MAX_IMAGE_BYTES, MAX_MEMBERS};
use crate::dataset::Input;
use crate::dataset::entries::{Entries, Ledger, Step, further, good, nothing_but};
use crate::domain::report::{DataFormat, Fault};

const LOCAL: &[u8] = b"PK\x03\x04";

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
    for member in good(directory.records(input)?, &mut Ledger::default()) {
        root.add(&member?.name);
    }
    let mut images = Images { file, members: Members::new(&root), left: directory.file_bytes };
    Ok(further(directory.records(input)?, move |member| images.image(member)))
}

/// The names of the first members; None where the archive has no directory.
pub(super) fn names(path: &Path) -> io::Result<Option<Vec<String>>> {
    const MOST: usize = 1000;
    let Ok(directory) = Directory::find(&mut File::open(path)?)? else { return Ok(None) };
    let input = Input::new(path, DataFormat::Zip);
    let mut ledger = Ledger::default();
    let members = good(directory.records(&input)?, &mut ledger).take(MOST);
    members.map(|member| Ok(String::from_utf8_lossy(&member?.name).into_owned())).collect::<io::Result<_>>().map(Some)
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

impl Member {
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
