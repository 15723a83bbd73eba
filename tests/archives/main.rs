//! Archives of images as people have them: what is read, what is passed over and counted, what is refused.
//!
//! The files of `tests/fixtures/archives/` come from its `make.py`, and so does what Python's zipfile reads from them.

#![allow(clippy::unwrap_used, clippy::too_many_lines, reason = "tests fail loudly")]

#[path = "../support/packing.rs"]
mod packing;

mod generated;
mod zips;

use std::path::{Path, PathBuf};

use finetuned::dataset::inspect::inspect;
use finetuned::dataset::{Bounds, Input, images};
use finetuned::domain::job::OtherFiles;
use finetuned::domain::report::{DataFormat, ExamplesReport, Note};
use packing::{Zipped, tar_member, tar_of, zip};

/// A small PNG that no other number has.
fn png(number: u32) -> Vec<u8> {
    let [a, b, c, d] = number.to_le_bytes();
    let image = image::RgbImage::from_raw(2, 1, vec![a, b, c, d, 7, 9]).unwrap();
    let mut out = std::io::Cursor::new(Vec::new());
    image.write_to(&mut out, image::ImageFormat::Png).unwrap();
    out.into_inner()
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    zip(&members.iter().map(|(name, data)| Zipped::new(name.as_bytes(), data)).collect::<Vec<_>>())
}

fn report(bytes: &[u8], format: DataFormat, other_files: OtherFiles) -> ExamplesReport {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let mut input = Input::new(file.path(), format);
    input.options.other_files = Some(other_files);
    let report = images::report(&input, &mut ()).unwrap();
    assert_adds_up(&report);
    report
}

/// What becomes of files in a zip archive, and of the same files in a tar archive.
#[track_caller]
fn both(members: &[(&str, &[u8])], other_files: OtherFiles) -> ExamplesReport {
    let tarred =
        |(name, data): &(&str, &[u8])| tar_member(name.as_bytes(), tar::EntryType::Regular, data.len() as u64, data);
    let tar = tar_of(&members.iter().map(tarred).collect::<Vec<_>>());
    let report_of_zip = report(&zip_of(members), DataFormat::Zip, other_files);
    assert_eq!(report(&tar, DataFormat::Tar, other_files), report_of_zip);
    report_of_zip
}

#[track_caller]
fn assert_adds_up(report: &ExamplesReport) {
    let counts = report.counts.clone().unwrap();
    let skipped: u64 = counts.skipped.values().sum();
    assert_eq!(counts.rows, report.examples + counts.faulty + skipped, "{report:?}");
    assert_eq!(report.labels().values().sum::<u64>(), report.examples);
}

fn skipped(report: &ExamplesReport) -> Vec<(String, u64)> {
    report.counts.clone().unwrap().skipped.into_iter().collect()
}

fn labels(report: &ExamplesReport) -> Vec<(&str, u64)> {
    report.labels().iter().map(|(label, count)| (label.as_str(), *count)).collect()
}

#[track_caller]
fn note<'a>(report: &'a ExamplesReport, code: &str) -> &'a Note {
    let found = report.notes.iter().find(|note| note.code == code);
    found.unwrap_or_else(|| panic!("no note {code} in {:?}", report.notes))
}

fn counted(words: &[(&str, u64)]) -> Vec<(String, u64)> {
    words.iter().map(|(word, count)| ((*word).to_owned(), *count)).collect()
}

#[test]
fn litter_and_files_that_are_no_images_are_passed_over_and_counted() {
    let (cat, dog) = (png(1), png(2));
    let members: [(&str, &[u8]); 14] = [
        ("cats/1.png", &cat),
        ("dogs/2.png", &dog),
        ("cats/thumbs.db", b"\xD0\xCF\x11\xE0"),
        ("dogs/Desktop.ini", b"[.ShellClassInfo]"),
        ("@eaDir/cats/1.png/SYNOPHOTO_THUMB_XL.jpg", &cat),
        ("cats/._1.png", b"\0\x05\x16\x07"),
        ("cats/Icon\r", b""),
        ("LICENSE.txt", b"MIT"),
        ("README.md", b"# Pets"),
        ("labels.csv", b"image,label\n1.png,cats\n"),
        ("cats/1.txt", b"0 0.5 0.5 1 1"),
        ("cats/.gitkeep", b""),
        ("annotations/xmls/1.xml", b"<annotation/>"),
        ("notes/NOTES", b"none"),
    ];
    let found = both(&members, OtherFiles::Skip);
    assert_eq!(labels(&found), [("cats", 1), ("dogs", 1)]);
    assert!(found.faults.is_empty(), "{}", found.faults.summary());
    let words = [
        ("no image (.csv)", 1),
        ("no image (.md)", 1),
        ("no image (.txt)", 2),
        ("no image (.xml)", 1),
        ("no image (no ending)", 2),
        ("system file", 5),
    ];
    assert_eq!(skipped(&found), counted(&words));
    assert!(!note(&found, "other_files").warning);
    let strict = both(&members, OtherFiles::Refuse);
    assert_eq!((strict.faults.count, skipped(&strict)), (7, counted(&[("system file", 5)])));
    let summary = strict.faults.summary();
    assert!(summary.starts_with("LICENSE.txt (member 8): is no image; dataset.other_files"), "{summary}");
    assert!(strict.notes.is_empty(), "{:?}", strict.notes);
}

#[test]
fn what_is_meant_as_an_image_is_a_fault_where_it_is_none() {
    let cat = png(1);
    let cut = std::fs::read(fixture("images/truncated.jpg")).unwrap();
    let found = both(
        &[
            ("cats/1.png", &cat),
            ("cats/2.jpg", b"no image"),
            ("cats/3.JPEG", b""),
            ("cats/4", b"GIF89a\x01\0\x01\0"),
            ("cats/5.txt", b"II*\0"),
            ("cats/6.heic", b"\0\0\0\x18ftypheic"),
            ("cats/7.tiff", b"no image, too"),
            ("cats/8.dat", &cut),
            ("logo.svg", b"<svg/>"),
        ],
        OtherFiles::Skip,
    );
    assert_eq!((found.examples, found.faults.count, skipped(&found)), (1, 8, vec![]));
    let messages: Vec<&str> = found.faults.listed.iter().map(|fault| fault.message.as_str()).collect();
    let expected = [
        "is not an image that can be read; supported: JPEG, PNG, WebP",
        "is empty",
        "is a GIF image; supported: JPEG, PNG, WebP",
        "is a TIFF image; supported: JPEG, PNG, WebP",
        "is a HEIC image; supported: JPEG, PNG, WebP",
        "is not an image that can be read; supported: JPEG, PNG, WebP",
        "is cut short: the end of the JPEG image is missing",
        "lies in no class folder; expected class/image",
    ];
    assert_eq!(messages, expected);
}

#[test]
fn content_tells_an_image_where_the_name_does_not() {
    let (one, two, three) = (png(1), png(2), png(3));
    let found = both(
        &[("cats/1", &one), ("cats/2.txt", &two), ("dogs/.3", &three), ("dogs/BMW.csv", b"BMW,3,blue\n")],
        OtherFiles::Skip,
    );
    assert_eq!(labels(&found), [("cats", 2), ("dogs", 1)]);
    assert_eq!(skipped(&found), counted(&[("no image (.csv)", 1)]));
}

#[test]
fn what_could_hold_images_is_passed_over_with_a_warning() {
    let (cat, dog) = (png(1), png(2));
    let found = both(
        &[("cats/1.png", &cat), ("dogs/2.png", &dog), ("dogs/more.zip", b"PK\x03\x04..."), ("paper.pdf", b"%PDF-1.7")],
        OtherFiles::Skip,
    );
    assert_eq!(skipped(&found), counted(&[("no image (.pdf)", 1), ("no image (.zip)", 1)]));
    let told = note(&found, "other_files");
    assert_eq!((told.warning, told.lines.as_slice()), (true, &[3][..]));
    assert!(told.message.ends_with("dogs/more.zip is a zip archive; images in it are not read."), "{}", told.message);
}

#[test]
fn hidden_folders_are_classes_and_odd_names_of_classes_are_told() {
    let images: Vec<Vec<u8>> = (0..5).map(png).collect();
    let names = [".net/1.png", "java/2.png", "java /3.png", "cafe\u{301}/4.png", "Java/5.png"];
    let members: Vec<(&str, &[u8])> = names.iter().copied().zip(images.iter().map(Vec::as_slice)).collect();
    let found = both(&members, OtherFiles::Skip);
    assert_eq!(labels(&found), [(".net", 1), ("Java", 1), ("café", 1), ("java", 2)]);
    assert!(note(&found, "hidden_classes").message.contains("\".net\""));
    let tidied = note(&found, "labels_tidied");
    assert!(note(&found, "labels_alike").message.contains("\"Java\" (1), \"java\" (2)"));
    assert_eq!((tidied.warning, tidied.lines.as_slice()), (false, &[3, 4][..]));
}

#[test]
fn splits_above_the_classes_are_told_apart_and_one_is_read() {
    let images: Vec<Vec<u8>> = (0..6).map(png).collect();
    let names = ["pets/train/cats/1", "pets/train/dogs/2", "pets/Test/3", "pets/Test/4", "pets/val/cats/5", "pets/6"];
    let members: Vec<(&str, &[u8])> = names.iter().copied().zip(images.iter().map(Vec::as_slice)).collect();
    let found = both(&members, OtherFiles::Skip);
    assert_eq!(labels(&found), [("cats", 1), ("dogs", 1)]);
    assert_eq!(skipped(&found), counted(&[("in test/", 2), ("in val/", 1)]));
    assert_eq!(found.faults.summary(), "pets/6 (member 6): lies in no class folder; expected train/class/image");
    let told = note(&found, "splits_not_read");
    assert!(told.warning && told.message.contains("Test/, where 2 images lie; val/, where 1 image lies"));
    // The folder as an archive of its own is read whole.
    let test = [("Test/cats/1", images[0].as_slice()), ("Test/dogs/2", &images[1])];
    assert_eq!(both(&test, OtherFiles::Skip).examples, 2);
    let unclear = both(&[members[0], members[2], ("pets/more/7", &images[5])], OtherFiles::Skip);
    assert_eq!((unclear.examples, unclear.faults.count), (0, 1));
    assert!(unclear.faults.summary().starts_with("line 1: the archive can be read in two ways"));
}

#[test]
fn images_in_no_class_folder_are_one_fault_where_there_is_no_other() {
    let images: Vec<Vec<u8>> = (0..40).map(png).collect();
    let names: Vec<String> = (0..40).map(|i| format!("images/train/{i}.png")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(String::as_str).zip(images.iter().map(Vec::as_slice)).collect();
    let found = both(&members, OtherFiles::Skip);
    assert_eq!((found.examples, found.faults.count), (0, 1));
    assert!(found.faults.summary().contains("lie directly in train/"), "{}", found.faults.summary());
}

#[test]
fn an_archive_without_images_says_what_it_holds() {
    let file = tempfile::NamedTempFile::new().unwrap();
    for (members, why) in [
        (&[("train.csv", &b"text,label\n"[..]), ("test.csv", b"text\n")][..], "2 × .csv, such as train.csv"),
        (&[("cats/1.pdf", b"%PDF-1.7")], "1 × .pdf, such as cats/1.pdf; cats/1.pdf is a PDF document"),
        (&[("__MACOSX/._x", b"")], "the file holds no images, only files that systems left behind"),
    ] {
        let found = both(members, OtherFiles::Skip);
        assert_eq!((found.examples, found.faults.count), (0, 1));
        assert!(found.faults.summary().ends_with(why), "{}", found.faults.summary());
        std::fs::write(file.path(), zip_of(members)).unwrap();
        let upload = inspect(file.path(), "data.zip", &Bounds::default()).unwrap();
        // Whoever uploads a zip of data files is told to upload these.
        let why = if why.starts_with("2 × .csv") { "unpack it and upload the file that you want" } else { why };
        assert!(!upload.is_readable() && upload.faults.summary().ends_with(why), "{}", upload.faults.summary());
    }
}

#[test]
fn labels_beyond_the_most_that_are_read_are_counted_as_faulty() {
    let one = png(1);
    let names: Vec<String> = (0..10_003).map(|i| format!("{i}/1.png")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), one.as_slice())).collect();
    let found = report(&zip_of(&members), DataFormat::Zip, OtherFiles::Skip);
    assert_eq!((found.examples, found.counts.unwrap().faulty, found.faults.count), (10_000, 3, 1));
}
