//! Odd images and hostile archives, and what happens to each.
//!
//! The files of `tests/fixtures/images/` come from its `make.py`, and so do Pillow's pixels of those it can read.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests fail loudly")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use finetuned::dataset::entries::{Ledger, good};
use finetuned::dataset::images::{self, MAX_IMAGE_BYTES, decode};
use finetuned::dataset::inspect::inspect;
use finetuned::dataset::{Bounds, Input, Seen, Watch};
use finetuned::domain::report::{DataFormat, Fault, Faults, Place, UploadKind};

use packing::{Zipped, tar_member, tar_of, zip};

#[path = "support/packing.rs"]
mod packing;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/images").join(name)
}

/// What happens to a file.
#[derive(Clone, Copy)]
enum Outcome {
    /// Its pixels are Pillow's, give or take so many levels.
    Pixels(u8),
    /// Its pixels are those of another file; Pillow refuses it or reads it wrong.
    As(&'static str),
    /// It is refused with a message that has these words.
    Refused(&'static str),
}

use Outcome::{As, Pixels, Refused};

/// Decoders of JPEG round differently, and interpolate colours of half the resolution differently; all others are exact.
const TABLE: &[(&str, Outcome)] = &[
    ("baseline.jpg", Pixels(2)),
    ("subsampled.jpg", Pixels(4)),
    ("progressive.jpg", Pixels(2)),
    ("restarts.jpg", Pixels(2)),
    ("grey.jpg", Pixels(2)),
    ("cmyk.jpg", Pixels(2)),
    ("garbage_behind.jpg", Pixels(2)),
    ("truncated.jpg", Refused("is cut short")),
    ("no_end_marker.jpg", Refused("is cut short")),
    ("header_only.jpg", Refused("is cut short")),
    ("truncated_with_thumbnail.jpg", Refused("is cut short")),
    ("huge_header.jpg", Refused("has 60000 x 60000 pixels; at most 64 megapixels and 16384 a side are allowed")),
    ("zero_width.jpg", Refused("is damaged")),
    ("orientation_1.jpg", Pixels(2)),
    ("orientation_2.jpg", Pixels(2)),
    ("orientation_3.jpg", Pixels(2)),
    ("orientation_4.jpg", Pixels(2)),
    ("orientation_5.jpg", Pixels(2)),
    ("orientation_6.jpg", Pixels(2)),
    ("orientation_7.jpg", Pixels(2)),
    ("orientation_8.jpg", Pixels(2)),
    ("orientation_wrong.jpg", Pixels(2)),
    ("rgb.png", Pixels(0)),
    ("png_named.jpg", Pixels(0)),
    ("one_pixel.png", Pixels(0)),
    ("one_by_5000.png", Pixels(0)),
    ("rgba.png", Pixels(0)),
    ("grey_alpha.png", Pixels(0)),
    ("grey.png", Pixels(0)),
    ("one_bit.png", Pixels(0)),
    ("palette.png", Pixels(0)),
    ("palette_transparent.png", Pixels(0)),
    ("rgb_16.png", Pixels(0)),
    ("grey_alpha_16.png", Pixels(0)),
    ("interlaced.png", Pixels(0)),
    ("orientation_6.png", Pixels(0)),
    ("animated.png", Pixels(0)),
    ("bad_crc.png", Refused("is damaged or cut short")),
    ("truncated.png", Refused("is damaged or cut short")),
    ("huge_header.png", Refused("has 60000 x 60000 pixels")),
    ("largest_header.png", Refused("is too large; at most 64 megapixels")),
    ("zero_width.png", Refused("is damaged")),
    ("huge_profile.png", As("rgb.png")),
    ("huge_text.png", As("rgb.png")),
    ("lossless_alpha.webp", Pixels(0)),
    ("lossy.webp", Pixels(0)),
    ("lossy_alpha.webp", Pixels(0)),
    ("animated.webp", Pixels(0)),
    ("orientation_8.webp", Pixels(0)),
    ("truncated.webp", Refused("is damaged or cut short")),
    ("huge_header.webp", Refused("has 60000 x 60000 pixels")),
    ("image.gif", Refused("is a GIF image; supported: JPEG, PNG, WebP")),
    ("image.bmp", Refused("is a BMP image")),
    ("image.tiff", Refused("is a TIFF image")),
    ("empty.jpg", Refused("is empty")),
    ("text_named.jpg", Refused("is not an image")),
    ("image.heic", Refused("is a HEIC image")),
    ("image.avif", Refused("is an AVIF image")),
    ("image.svg", Refused("is an SVG drawing")),
    ("document.pdf", Refused("is a PDF document")),
];

/// Size and pixels as Pillow reads them.
fn expected(name: &str) -> Option<((u32, u32), Vec<u8>)> {
    let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
    let all: BTreeMap<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    let found = all[name].as_object()?;
    let size: (u32, u32) = serde_json::from_value(found["size"].clone()).unwrap();
    let packed = base64::engine::general_purpose::STANDARD.decode(found["rgb"].as_str().unwrap()).unwrap();
    let mut pixels = Vec::new();
    flate2::read::ZlibDecoder::new(packed.as_slice()).read_to_end(&mut pixels).unwrap();
    Some((size, pixels))
}

#[test]
fn each_odd_file_is_read_as_pillow_reads_it_or_refused_by_name() {
    let mut wrong = Vec::new();
    for &(name, outcome) in TABLE {
        let decoded = decode(&std::fs::read(fixture(name)).unwrap());
        match (decoded, outcome) {
            (Ok(image), Pixels(tolerance)) => {
                let Some((size, pixels)) = expected(name) else {
                    wrong.push(format!("{name}: read, where Pillow refuses it"));
                    continue;
                };
                if image.dimensions() != size {
                    wrong.push(format!("{name}: {:?} instead of {size:?}", image.dimensions()));
                    continue;
                }
                let off = image.iter().zip(&pixels).map(|(&a, &b)| a.abs_diff(b)).max().unwrap();
                println!("{name}: at most {off} levels from Pillow's");
                if off > tolerance {
                    wrong.push(format!("{name}: {off} levels from Pillow's, more than {tolerance}"));
                }
            }
            (Err(message), Refused(why)) if message.contains(why) => println!("{name}: {message}"),
            (Err(message), Refused(_)) => wrong.push(format!("{name}: {message}")),
            (Ok(image), As(other)) => assert!(image.into_raw() == expected(other).unwrap().1, "{name}"),
            (Err(message), Pixels(_) | As(_)) => wrong.push(format!("{name}: refused: {message}")),
            (Ok(_), Refused(_)) => wrong.push(format!("{name}: read")),
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn of_16_bits_of_grey_the_upper_8_count() {
    let image = decode(&std::fs::read(fixture("grey_16.png")).unwrap()).unwrap();
    for (x, y, pixel) in image.enumerate_pixels() {
        assert_eq!(pixel.0, [(((x * 4099 + y * 701) % 65536) >> 8) as u8; 3]);
    }
}

/// Every byte of a file changed or everything behind it cut off: an answer, never a panic.
#[test]
fn damaged_files_get_an_answer() {
    for name in ["progressive.jpg", "restarts.jpg", "cmyk.jpg", "interlaced.png", "lossy_alpha.webp", "animated.webp"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0x5A;
            let _ = decode(&changed);
            let _ = decode(&whole[..at]);
        }
    }
}

/// The labels of what can be read, and the faults.
fn read(bytes: &[u8], format: DataFormat) -> (Vec<String>, Vec<Fault>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut ledger = Ledger::default();
    let images = good(images::read(&Input::new(file.path(), format)).unwrap(), &mut ledger);
    let labels = images.map(|image| image.unwrap().label).collect();
    (labels, ledger.faults.listed)
}

#[track_caller]
fn assert_fault(bytes: &[u8], format: DataFormat, member: Option<&str>, why: &str) {
    let (_, faults) = read(bytes, format);
    assert_eq!(faults.len(), 1, "{why}: {faults:?}");
    assert!(faults[0].message.contains(why), "{why}: {faults:?}");
    assert_eq!(faults[0].member.as_deref(), member);
}

#[test]
fn archives_of_usual_writers_are_read() {
    for name in ["plain.zip", "streamed.zip", "zip64.zip", "gnu.tar", "pax.tar"] {
        let report = inspect(&fixture(name), name, &Bounds::default()).unwrap();
        assert!(report.is_readable(), "{name}: {}", report.faults.summary());
        let found = &report.read_as[&UploadKind::LabelledImages];
        assert!(found.faults.is_empty(), "{name}: {}", found.faults.summary());
        assert_eq!((report.rows, found.examples), (3, 3), "{name}");
        let labels: Vec<_> = found.labels().iter().map(|(label, count)| (label.as_str(), *count)).collect();
        assert_eq!(labels, [("cats", 1), ("dogs", 2)]);
        let images = found.images().unwrap();
        assert_eq!((images.widths.min, images.widths.max, images.heights.max), (17, 17, 13));
        let formats: Vec<_> = images.formats.iter().map(|(format, count)| (format.as_str(), *count)).collect();
        assert_eq!(formats, [("jpeg", 2), ("png", 1)]);
        // The first bytes tell what the name does not.
        assert_eq!(inspect(&fixture(name), "upload", &Bounds::default()).unwrap().format, report.format);
    }
}

#[test]
fn archives_cut_anywhere_get_an_answer_with_a_fault() {
    for name in ["plain.zip", "streamed.zip", "zip64.zip", "gnu.tar", "pax.tar"] {
        let whole = std::fs::read(fixture(name)).unwrap();
        // Python fills tar archives up to 10 KiB with zeros, of which two blocks are the end.
        let end = whole.iter().rposition(|&byte| byte != 0).unwrap();
        for length in (0..end).step_by(61) {
            let (_, faults) = read(&whole[..length], inspect(&fixture(name), name, &Bounds::default()).unwrap().format);
            assert!(!faults.is_empty(), "{name} cut to {length} bytes");
        }
        for at in (0..end).step_by(7) {
            let mut changed = whole.clone();
            changed[at] ^= 0x5A;
            let _ = read(&changed, inspect(&fixture(name), name, &Bounds::default()).unwrap().format);
        }
    }
}

#[test]
fn hostile_zip_members_are_faults_that_name_them() {
    let ok = || Zipped::new(b"a/ok.png", b"data");
    let long = vec![b'n'; 2000];
    for (member, shown, why) in [
        (Zipped::new(b"../a/1.png", b"x"), "../a/1.png", "leads out of the archive"),
        (Zipped::new(b"/a/1.png", b"x"), "/a/1.png", "absolute"),
        (Zipped::new(b"a/1\0.png", b"x"), "a/1\\0.png", "control character"),
        (Zipped::new(b"a/1\x07.png", b"x"), "a/1\\u{7}.png", "control character"),
        (Zipped { flags: 1 << 11, ..Zipped::new(b"a/\xFF.png", b"x") }, "a/\u{FFFD}.png", "not valid UTF-8"),
        (Zipped::new(b"a\\1.png", b"x"), "a\\\\1.png", "backslash"),
        (Zipped { mode: 0o120_777, ..Zipped::new(b"a/1.png", b"/etc/passwd") }, "a/1.png", "is a symbolic link"),
        (Zipped { mode: 0o020_666, ..Zipped::new(b"a/1.png", b"") }, "a/1.png", "is a device"),
        (Zipped::new(b"a/ok.png", b"data"), "a/ok.png", "more than once"),
        (Zipped { flags: 1, ..Zipped::new(b"a/1.png", b"x") }, "a/1.png", "is encrypted"),
        (Zipped { method: 12, ..Zipped::new(b"a/1.png", b"x") }, "a/1.png", "is compressed with bzip2"),
        (Zipped { method: 14, ..Zipped::new(b"a/1.png", b"x") }, "a/1.png", "supported: stored and deflate"),
        (Zipped::new(b"a/b/1.png", b"x"), "a/b/1.png", "too deep"),
        (Zipped::new(b"1.png", b"x"), "1.png", "no class folder"),
        (Zipped { stated: Some(40 << 20), ..Zipped::new(b"a/1.png", b"x") }, "a/1.png", "is larger than 32 MiB"),
        (Zipped { stated: Some(9), method: 8, ..Zipped::new(b"a/1.png", b"xyz") }, "a/1.png", "holds 3 bytes where"),
        (Zipped { local_name: Some(b"b/1.png"), ..Zipped::new(b"a/1.png", b"x") }, "a/1.png", "contradict"),
    ] {
        // A class of its own beside it, so that no folder is above everything.
        let bytes = zip(&[ok(), Zipped::new(b"other/1.png", b"data"), member]);
        assert_fault(&bytes, DataFormat::Zip, Some(shown), why);
    }
    let bytes = zip(&[ok(), Zipped::new(&long, b"x")]);
    assert!(read(&bytes, DataFormat::Zip).1[0].message.contains("longer than 1024 bytes"));
}

#[test]
fn a_zip_bomb_is_read_up_to_the_cap_only() {
    let zeros = vec![0; MAX_IMAGE_BYTES + 1];
    // The directory says that it is small; the data goes on.
    let bomb = Zipped { method: 8, stated: Some(10), ..Zipped::new(b"a/1.png", &zeros) };
    assert_fault(&zip(&[bomb]), DataFormat::Zip, Some("a/1.png"), "is larger than 32 MiB");
    // A thousand records for the same bytes.
    let data = vec![7; 1000];
    let mut bytes = zip(&(0..10).map(|_| Zipped::new(b"a/1.png", &data)).collect::<Vec<_>>());
    let directory = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    for record in 0..10 {
        let at = directory + record * 53;
        bytes[at + 42..at + 46].fill(0);
        bytes[at + 46 + 2] = b'0' + record as u8;
    }
    let (_, faults) = read(&bytes, DataFormat::Zip);
    assert!(faults.iter().all(|fault| fault.message.contains("contradict")), "{faults:?}");
    // Beyond the bytes there are, they overlap.
    for record in 0..10 {
        bytes[directory + record * 53 + 20..][..4].copy_from_slice(&5000_u32.to_le_bytes());
    }
    let (_, faults) = read(&bytes, DataFormat::Zip);
    assert!(faults.iter().any(|fault| fault.message.contains("overlap")), "{faults:?}");
}

#[test]
fn a_damaged_zip_says_what_is_wrong_with_it() {
    let whole = zip(&[Zipped { method: 8, ..Zipped::new(b"a/1.png", b"some data, some data") }]);
    let directory = whole.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    let end = whole.len() - 22;
    let changed = |at: usize, bytes: &[u8]| {
        let mut copy = whole.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        copy
    };
    let of_member = Some("a/1.png");
    assert_fault(&changed(directory + 16, b"crc!"), DataFormat::Zip, of_member, "its checksum does not match");
    assert_fault(&changed(37, b"\xFF\xFF\xFF"), DataFormat::Zip, of_member, "damaged or cut short");
    assert_fault(&changed(0, b"XX"), DataFormat::Zip, of_member, "not where the archive's directory says");
    assert_fault(&changed(directory, b"XX"), DataFormat::Zip, None, "bad record");
    assert_fault(&changed(end + 4, b"\x01"), DataFormat::Zip, None, "one part of several");
    assert_fault(&changed(end + 16, b"\xFF\xFF"), DataFormat::Zip, None, "not where its end record says");
    assert_fault(&changed(end + 10, b"\0\0"), DataFormat::Zip, None, "more members than it says");
    assert_fault(&whole[..end + 10], DataFormat::Zip, None, "has no end record");
    assert_fault(b"", DataFormat::Zip, None, "not a zip archive");
}

#[test]
fn hostile_tar_members_are_faults_that_name_them() {
    use tar::EntryType;
    let file = |name: &[u8]| tar_member(name, EntryType::Regular, 4, b"data");
    for (member, shown, why) in [
        (file(b"../a/1.png"), "../a/1.png", "leads out of the archive"),
        (file(b"/a/1.png"), "/a/1.png", "absolute"),
        (file(b"a/1\x07.png"), "a/1\\u{7}.png", "control character"),
        (file(b"a/\xFF.png"), "a/\u{FFFD}.png", "not valid UTF-8"),
        (file(b"a\\1.png"), "a\\\\1.png", "backslash"),
        (file(b"a/ok.png"), "a/ok.png", "more than once"),
        (file(b"a/b/1.png"), "a/b/1.png", "too deep"),
        (file(b"1.png"), "1.png", "no class folder"),
        (tar_member(b"a/1.png", EntryType::Symlink, 0, b""), "a/1.png", "is a symbolic link"),
        (tar_member(b"a/1.png", EntryType::Link, 0, b""), "a/1.png", "is a hard link"),
        (tar_member(b"a/1.png", EntryType::Char, 0, b""), "a/1.png", "is a device"),
        (tar_member(b"a/1.png", EntryType::Fifo, 0, b""), "a/1.png", "is a named pipe"),
        (tar_member(b"a/1.png", EntryType::GNUSparse, 0, b""), "a/1.png", "is a sparse file"),
    ] {
        let bytes = tar_of(&[file(b"a/ok.png"), file(b"other/1.png"), member]);
        assert_fault(&bytes, DataFormat::Tar, Some(shown), why);
    }
    let large = vec![0; MAX_IMAGE_BYTES + 1];
    let bytes = tar_of(&[tar_member(b"a/1.png", EntryType::Regular, large.len() as u64, &large), file(b"a/2.png")]);
    assert_fault(&bytes, DataFormat::Tar, Some("a/1.png"), "is larger than 32 MiB");
    assert_eq!(read(&bytes, DataFormat::Tar).0, ["a"]);
}

#[test]
fn a_damaged_tar_says_what_is_wrong_with_it() {
    use tar::EntryType;
    let file = tar_member(b"a/1.png", EntryType::Regular, 600, &[1; 600]);
    let whole = tar_of(std::slice::from_ref(&file));
    let mut cut = whole[..1000].to_vec();
    let (labels, faults) = read(&cut, DataFormat::Tar);
    assert!(labels.is_empty());
    assert_eq!(faults[0].member.as_deref(), Some("a/1.png"));
    assert!(faults[0].message.contains("ends in the middle"), "{faults:?}");
    // Cut between two members: only the missing end tells.
    cut.clear();
    cut.extend(&file);
    assert_fault(&cut, DataFormat::Tar, None, "ends early");
    let mut changed = tar_of(&[file.clone(), file.clone()]);
    changed[file.len() + 3] ^= 1;
    assert_fault(&changed, DataFormat::Tar, None, "the header of a member is not intact");
    assert_fault(&[1; 2048], DataFormat::Tar, None, "not a tar archive");
    assert_fault(b"", DataFormat::Tar, None, "ends early");
    let gzip = [b"\x1F\x8B\x08".as_slice(), &[5; 600]].concat();
    assert_fault(&gzip, DataFormat::Tar, None, "compressed with gzip");
    for (kind, content, why) in [
        (EntryType::XHeader, &b"19 path=a/b\n"[..], "damaged pax header"),
        (EntryType::XHeader, b"10 size=9\n", "8 GiB"),
        (EntryType::XHeader, b"22 GNU.sparse.major=1\n", "sparse"),
        (EntryType::XHeader, &vec![b'1'; 2 << 20][..], "too long"),
        (EntryType::GNULongName, &vec![b'1'; 2 << 20][..], "too long"),
    ] {
        let extension = tar_member(b"x", kind, content.len() as u64, content);
        assert_fault(&tar_of(&[extension, file.clone()]), DataFormat::Tar, None, why);
    }
    let endless = tar_member(b"a/1.png", EntryType::Regular, u64::MAX >> 1, b"");
    assert_fault(&tar_of(&[endless]), DataFormat::Tar, None, "a size leads out of it");
}

#[test]
fn every_bad_image_of_an_archive_is_reported_by_name_and_in_order() {
    let good = std::fs::read(fixture("rgb.png")).unwrap();
    let bad_crc = std::fs::read(fixture("bad_crc.png")).unwrap();
    let names: Vec<String> =
        (0..300).map(|i| format!("pets/{}/{i}.png", if i % 2 == 0 { "cats" } else { "dogs" })).collect();
    let is_bad = |i: usize| i % 3 == 1;
    let members: Vec<Zipped<'_>> = names
        .iter()
        .enumerate()
        .map(|(i, name)| Zipped::new(name.as_bytes(), if is_bad(i) { &bad_crc } else { &good }))
        .collect();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), zip(&members)).unwrap();
    let mut seen = Watching::default();
    let report = images::report(&Input::new(file.path(), DataFormat::Zip), &mut seen).unwrap();
    assert!(seen.lines.iter().copied().eq(1..=300));
    assert!(seen.known.is_sorted() && seen.known.len() == 200);
    assert_eq!((report.examples, report.labels()["cats"], report.labels()["dogs"]), (200, 100, 100));
    assert_eq!((report.faults.count, report.faults.listed.len()), (101, 100));
    let lines: Vec<u64> = report.faults.listed.iter().map(|fault| fault.line).collect();
    let expected: Vec<u64> = (0..300).filter(|&i| is_bad(i) || i == 2).map(|i| i as u64 + 1).take(100).collect();
    assert_eq!(lines, expected);
    assert_eq!(report.faults.listed[0].member.as_deref(), Some("pets/dogs/1.png"));
    // Without decoding, a damaged image is not found; a cut JPEG and other formats are.
    assert!(images::survey(&Input::new(file.path(), DataFormat::Zip)).unwrap().faults.is_empty());
}

/// The lines of images as they come, the third of which has a fault, and as they are known once they are decoded.
#[derive(Default)]
struct Watching {
    lines: Vec<u64>,
    known: Vec<u64>,
}

impl Watch for Watching {
    fn example(&mut self, place: &Place, _labels: &[String], faults: &mut Faults) {
        self.lines.push(place.line);
        if place.line == 3 {
            faults.push_at(place, Some("label"), "is not wanted");
        }
    }

    fn compares(&self) -> bool {
        true
    }

    fn known(&mut self, seen: &Seen<'_>) {
        self.known.push(seen.line);
    }
}

#[test]
fn uploads_are_inspected_as_images_where_they_look_like_them() {
    let picture = base64::engine::general_purpose::STANDARD.encode(std::fs::read(fixture("rgb.png")).unwrap());
    let row = |url: &str| format!("{{\"image\": \"{url}\", \"label\": \"cat\"}}\n");
    let text = row(&format!("data:image/png;base64,{picture}")) + &row("data:image/gif;base64,R0lGODlh");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let report = inspect(file.path(), "cats.jsonl", &Bounds::default()).unwrap();
    assert!(report.is_readable() && report.read_as.len() == 1);
    let found = &report.read_as[&UploadKind::LabelledImages];
    assert_eq!((report.rows, found.examples), (2, 1));
    assert!(found.faults.summary().starts_with("line 2: is a GIF image"), "{}", found.faults.summary());
    // An archive without a single image is unreadable, and says why.
    std::fs::write(file.path(), zip(&[Zipped::new(b"a/notes.txt", b"hello")])).unwrap();
    let report = inspect(file.path(), "data.zip", &Bounds::default()).unwrap();
    assert!(!report.is_readable());
    let found = report.faults.summary();
    assert!(found.contains("holds no images") && found.ends_with("1 × .txt, such as a/notes.txt"), "{found}");
    std::fs::write(file.path(), zip(&[])).unwrap();
    assert_eq!(
        inspect(file.path(), "data.zip", &Bounds::default()).unwrap().faults.summary(),
        "line 1: the file holds no images"
    );
}

#[test]
fn too_many_members_are_refused_before_they_are_read() {
    // The end record of a 64-bit archive that speaks of a million and one members.
    let mut bytes = b"PK\x06\x06".to_vec();
    bytes.extend([0; 20]);
    bytes.extend([0; 8]);
    bytes.extend(1_000_001_u64.to_le_bytes());
    bytes.extend([0; 16]);
    bytes.extend(b"PK\x06\x07\0\0\0\0");
    bytes.extend([0; 8]);
    bytes.extend(1_u32.to_le_bytes());
    bytes.extend(b"PK\x05\x06");
    bytes.extend([0; 4]);
    bytes.extend([0xFF; 12]);
    bytes.extend([0; 2]);
    assert_fault(&bytes, DataFormat::Zip, None, "more than 1000000 members");
}

/// Counts what each thread holds.
struct Counting;

thread_local! {
    /// Bytes now, and at most.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

fn count(bytes: isize) {
    HELD.with(|held| {
        let (now, most) = held.get();
        held.set((now + bytes, most.max(now + bytes)));
    });
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all of it is done by the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: as the caller says.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: as the caller says.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Large ones are moved by the system, not copied.
        count(size as isize - layout.size() as isize);
        // SAFETY: as the caller says.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[test]
fn an_image_needs_no_more_room_than_was_said() {
    /// What decoders have whatever the image is: tables, windows, a row.
    const FIXED: u64 = 1 << 20;
    const SIDE: u32 = 1500;
    let at = |x: u32, y: u32| [x as u16 * 43, y as u16 * 43, (x ^ y) as u16 * 31, 40_000];
    let deep = image::DynamicImage::ImageRgba16(image::ImageBuffer::from_fn(SIDE, SIDE, |x, y| image::Rgba(at(x, y))));
    let pngs = [
        deep.clone(),
        deep.to_rgb16().into(),
        deep.to_luma16().into(),
        deep.to_luma_alpha16().into(),
        deep.to_rgba8().into(),
        deep.to_luma8().into(),
    ];
    let written = |image: &image::DynamicImage, format| {
        let mut file = std::io::Cursor::new(Vec::new());
        image.write_to(&mut file, format).unwrap();
        file.into_inner()
    };
    let mut files: Vec<(String, Vec<u8>)> = pngs
        .iter()
        .map(|image| (format!("png of {:?}", image.color()), written(image, image::ImageFormat::Png)))
        .collect();
    let (rgb, grey) = (deep.to_rgb8().into(), deep.to_luma8().into());
    files.push(("jpeg".to_owned(), written(&rgb, image::ImageFormat::Jpeg)));
    files.push(("grey jpeg".to_owned(), written(&grey, image::ImageFormat::Jpeg)));
    files.push(("webp".to_owned(), written(&rgb, image::ImageFormat::WebP)));
    files.push(("webp with alpha".to_owned(), written(&deep.to_rgba8().into(), image::ImageFormat::WebP)));
    for (name, outcome) in TABLE {
        if matches!(outcome, Pixels(_)) {
            files.push(((*name).to_owned(), std::fs::read(fixture(name)).unwrap()));
        }
    }
    assert!(files.len() > 30);
    for (name, bytes) in files {
        let room = images::room(&bytes);
        let (before, _) = HELD.get();
        HELD.set((before, before));
        let image = decode(&bytes).unwrap();
        let held = (HELD.get().1 - before) as u64;
        assert!(held <= room + FIXED, "{name}: {held} bytes where {room} were said");
        assert!(room <= 15 * u64::from(image.width() * image.height()) + bytes.len() as u64, "{name}: {room}");
    }
}
