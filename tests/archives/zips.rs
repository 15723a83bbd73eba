//! What only zip archives have: names of old packers, something before the archive, members that are packed.

use std::collections::BTreeMap;

use base64::Engine as _;
use finetuned::dataset::entries::{Ledger, good};
use finetuned::dataset::images::ImageExample;
use finetuned::dataset::inspect::inspect;
use finetuned::dataset::{Bounds, Input, images};
use finetuned::domain::job::OtherFiles;
use finetuned::domain::report::{DataFormat, UploadKind};

use super::packing::{Zipped, zip};
use super::{counted, fixture, labels, note, png, report, skipped};

/// The images of an archive of which nothing is wrong, without decoding them.
fn read(bytes: &[u8]) -> Vec<ImageExample> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut ledger = Ledger::default();
    let found = good(images::read(&Input::new(file.path(), DataFormat::Zip)).unwrap(), &mut ledger);
    let found = found.map(Result::unwrap).collect();
    assert!(ledger.faults.is_empty(), "{}", ledger.faults.summary());
    found
}

#[test]
fn zips_are_read_as_pythons_zipfile_reads_them() {
    let text = std::fs::read_to_string(fixture("archives/expected.json")).unwrap();
    let expected: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    assert_eq!(expected.len(), 3);
    for (archive, members) in expected {
        let found = read(&std::fs::read(fixture("archives").join(&archive)).unwrap());
        let found: BTreeMap<String, String> = found
            .into_iter()
            .map(|image| (image.label, base64::engine::general_purpose::STANDARD.encode(image.bytes)))
            .collect();
        let folder = |name: String| name.split('/').next().unwrap().to_owned();
        let members = members.into_iter().map(|(name, data)| (folder(name), data)).collect();
        assert_eq!(found, members, "{archive}");
    }
}

#[test]
fn names_in_code_page_437_are_read_with_a_note() {
    let (cat, dog) = (png(1), png(2));
    let found = report(
        &zip(&[Zipped::new(b"caf\x82/1.png", &cat), Zipped::new("thé/2.png".as_bytes(), &dog)]),
        DataFormat::Zip,
        OtherFiles::Skip,
    );
    assert_eq!(labels(&found), [("café", 1), ("thé", 1)]);
    let told = note(&found, "names_in_code_page_437");
    assert!(told.warning && told.message.starts_with("The character set of 1 of the names"), "{}", told.message);
    assert!(told.message.contains("such as \"café/1.png\""), "{}", told.message);
}

#[test]
fn the_name_in_info_zips_field_counts() {
    let (cat, dog) = (png(1), png(2));
    let name = b"caf\xE9/1.png";
    let mut crc = flate2::Crc::new();
    crc.update(name);
    let text = "café/1.png".as_bytes();
    let mut extra = b"UT\x01\0\0\x75\x70".to_vec();
    extra.extend((text.len() as u16 + 5).to_le_bytes());
    extra.push(1);
    extra.extend(crc.sum().to_le_bytes());
    extra.extend(text);
    let members = [Zipped { extra: &extra, ..Zipped::new(name, &cat) }, Zipped::new(b"dogs/2.png", &dog)];
    let found = report(&zip(&members), DataFormat::Zip, OtherFiles::Skip);
    assert_eq!((labels(&found), found.notes.len()), (vec![("café", 1), ("dogs", 1)], 0));
}

#[test]
fn backslashes_are_separators_where_ms_dos_or_windows_packed() {
    let (cat, dog) = (png(1), png(2));
    let members = |system| {
        [
            Zipped { system, ..Zipped::new(b"pets\\cats\\", b"") },
            Zipped { system, ..Zipped::new(b"pets\\cats\\1.png", &cat) },
            Zipped { system, ..Zipped::new(b"pets\\dogs\\2.png", &dog) },
            Zipped { system, ..Zipped::new(b"pets\\Thumbs.db", b"") },
        ]
    };
    for system in [0, 10, 11, 14] {
        let found = report(&zip(&members(system)), DataFormat::Zip, OtherFiles::Skip);
        assert_eq!(labels(&found), [("cats", 1), ("dogs", 1)]);
        assert_eq!(skipped(&found), counted(&[("system file", 1)]));
        assert!(note(&found, "names_with_backslashes").message.ends_with("in 4 of the names."));
    }
    let found = report(&zip(&members(3)), DataFormat::Zip, OtherFiles::Skip);
    assert_eq!((found.examples, found.faults.count), (0, 4));
    assert!(found.faults.summary().contains("backslash"));
    // What leads elsewhere stays a fault, whoever packed it.
    for name in [&b"..\\cats\\1.png"[..], b"C:\\cats\\1.png", b"\\cats\\1.png", b"..\\..\\Thumbs.db"] {
        let mut members = members(0).to_vec();
        members.push(Zipped { system: 0, ..Zipped::new(name, &cat) });
        let found = report(&zip(&members), DataFormat::Zip, OtherFiles::Skip);
        assert_eq!((found.examples, found.faults.count), (2, 1), "{}", String::from_utf8_lossy(name));
    }
}

#[test]
fn an_archive_behind_something_else_is_found_and_read() {
    let stub: Vec<u8> = (0..5000_u32).map(|i| (i % 251) as u8).collect();
    for name in ["plain.zip", "streamed.zip", "zip64.zip"] {
        let whole = std::fs::read(fixture("images").join(name)).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), [stub.as_slice(), &whole].concat()).unwrap();
        // The name says nothing, nor do the first bytes.
        let found = inspect(file.path(), "pets", &Bounds::default()).unwrap();
        assert_eq!((found.format, found.rows), (DataFormat::Zip, 3), "{name}");
        let expected = inspect(&fixture("images").join(name), name, &Bounds::default()).unwrap();
        assert_eq!(found.read_as[&UploadKind::LabelledImages], expected.read_as[&UploadKind::LabelledImages], "{name}");
    }
}

#[test]
fn a_file_that_is_passed_over_is_unpacked_no_further_than_its_first_bytes() {
    let (cat, dog) = (png(1), png(2));
    let long = b"words of which nothing is an image ".repeat(200_000);
    let text = Zipped { method: 8, checksum: Some(0), stated: Some(u32::MAX - 1), ..Zipped::new(b"cats/1.txt", &long) };
    let members = [Zipped::new(b"cats/1.png", &cat), Zipped::new(b"dogs/2.png", &dog), text];
    let found = report(&zip(&members), DataFormat::Zip, OtherFiles::Skip);
    // Read further, it would not be what the directory says of it.
    assert_eq!((found.examples, found.faults.count, skipped(&found)), (2, 0, counted(&[("no image (.txt)", 1)])));
    let unknown = [members[0], members[1], Zipped { flags: 1, ..Zipped::new(b"cats/secret", b"words") }];
    let found = report(&zip(&unknown), DataFormat::Zip, OtherFiles::Skip);
    assert_eq!(
        found.faults.summary(),
        "cats/secret (member 3): is encrypted",
        "what cannot be looked into may be an image"
    );
}

#[test]
fn a_file_that_is_no_zip_archive_is_called_what_it_is() {
    let whole = zip(&[Zipped::new(b"cats/1.png", &png(1))]);
    for (bytes, why) in [
        (&b""[..], "the file is not a zip archive: it is empty"),
        (b"Rar!\x1A\x07\x01\0", "the file is not a zip archive: it is a RAR archive"),
        (b"<!DOCTYPE html><title>Sign in</title>", "the file is not a zip archive: it is an HTML page"),
        (&png(1), "the file is not a zip archive: it is a PNG image"),
        (b"text,label\n", "the file is not a zip archive, or ends early: it has no end record"),
        (
            &whole[..whole.len() - 1],
            "the zip archive ends early: it has no end record; was it sent or copied in whole?",
        ),
    ] {
        let found = report(bytes, DataFormat::Zip, OtherFiles::Skip);
        assert_eq!(found.faults.summary(), format!("line 1: {why}"));
    }
    let found = report(&whole, DataFormat::Tar, OtherFiles::Skip);
    assert!(found.faults.summary().ends_with("ends early: its last two blocks, of zeros, are missing"));
    let long = [whole, vec![1; 2048]].concat();
    assert!(report(&long, DataFormat::Tar, OtherFiles::Skip).faults.summary().ends_with("it is a zip archive"));
}
