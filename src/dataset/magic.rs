//! Files that people bring, by their first bytes, with what to do about those that are not read.

use std::borrow::Cow;

use super::images::{ImageKind, is_tar};

/// What the first bytes of a file say.
pub(super) enum Known {
    Parquet,
    Zip,
    Tar,
    /// What it is, and what to do.
    Other(Cow<'static, str>),
}

/// First bytes, what has them, and what to do.
const OTHERS: [(&[u8], &str, &str); 23] = [
    (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1", "an old Excel workbook or Word document", "save the sheet as CSV UTF-8"),
    (b"SQLite format 3\0", "a SQLite database", "export the table as CSV"),
    (b"ARROW1", "an Arrow or Feather file", "save it as Parquet (`to_parquet`)"),
    (b"\xFF\xFF\xFF\xFF", "an Arrow stream", "save it as Parquet (`Dataset.to_parquet`)"),
    (b"Obj\x01", "an Avro file", "save it as Parquet or JSONL"),
    (b"ORC", "an ORC file", "save it as Parquet or JSONL"),
    (b"\x89HDF\r\n\x1A\n", "an HDF5 file", "save it as Parquet or CSV"),
    (b"\x93NUMPY", "a NumPy array", "save it as CSV or JSONL"),
    (b"\x80\x02", "a Python pickle", "save it as CSV or JSONL; pickles are never loaded"),
    (b"\x80\x03", "a Python pickle", "save it as CSV or JSONL; pickles are never loaded"),
    (b"\x80\x04", "a Python pickle", "save it as CSV or JSONL; pickles are never loaded"),
    (b"\x80\x05", "a Python pickle", "save it as CSV or JSONL; pickles are never loaded"),
    (b"%PDF", "a PDF document", "copy its text into a .txt file"),
    (b"{\\rtf", "an RTF document", "save it as plain text"),
    (b"BZh", "compressed with bzip2", "upload it unpacked, or compressed with gzip or zstd"),
    (b"\xFD7zXZ\0", "compressed with xz", "upload it unpacked, or compressed with gzip or zstd"),
    (b"\x04\x22\x4D\x18", "compressed with LZ4", "upload it unpacked, or compressed with gzip or zstd"),
    (b"7z\xBC\xAF\x27\x1C", "a 7-Zip archive", "upload the data file in it, or pack images as zip"),
    (b"Rar!\x1A\x07", "a RAR archive", "upload the data file in it, or pack images as zip"),
    (b"GGUF", "a model (GGUF)", "models are imported by the operator: `finetuned models import`"),
    (b"\xFF\xFE", "text in UTF-16", "save it as UTF-8"),
    (b"\xFE\xFF", "text in UTF-16", "save it as UTF-8"),
    (
        b"version https://git-lfs.github.com/spec/",
        "a pointer of Git LFS, not the file itself",
        "run `git lfs pull` and upload what it fetches",
    ),
];

/// What a file is by its first bytes, where they are no text that is read.
pub(super) fn known(head: &[u8]) -> Option<Known> {
    if head.starts_with(b"PAR1") {
        return Some(Known::Parquet);
    }
    if [b"PK\x03\x04", b"PK\x05\x06"].iter().any(|magic| head.starts_with(*magic)) {
        return Some(Known::Zip);
    }
    if is_tar(head) {
        return Some(Known::Tar);
    }
    if let Some((_, what, remedy)) = OTHERS.iter().find(|(magic, ..)| head.starts_with(magic)) {
        return Some(Known::Other(format!("is {what}; {remedy}").into()));
    }
    if let Ok(kind) = ImageKind::of(head) {
        let what = format!("is one image ({}); put images into a zip with a folder for each class", kind.name());
        return Some(Known::Other(what.into()));
    }
    let start = head.trim_ascii_start();
    let begins = |tag: &str| start.get(..tag.len()).is_some_and(|head| head.eq_ignore_ascii_case(tag.as_bytes()));
    if begins("<!doctype html") || begins("<html") {
        const PAGE: &str = "is an HTML page, such as one that asks to log in; download the file itself and upload that";
        return Some(Known::Other(PAGE.into()));
    }
    if begins("<?xml") {
        return Some(Known::Other("is XML; save it as CSV or JSONL".into()));
    }
    // Text of two bytes a character without its mark has these at every other place.
    let zeros = head.iter().take(4096).filter(|&&byte| byte == 0).count();
    match (zeros, head.len().min(4096)) {
        (0, _) => None,
        (zeros, all) if 3 * zeros >= all && 5 * zeros <= 3 * all => {
            Some(Known::Other("is text in UTF-16; save it as UTF-8".into()))
        }
        (zeros, all) if 50 * zeros > all => Some(Known::Other(super::rows::UNKNOWN.into())),
        _ => None,
    }
}

/// Endings of data files.
const DATA: [&str; 7] = ["csv", "tsv", "jsonl", "ndjson", "json", "parquet", "arrow"];

/// What to do about a zip archive whose files have these names, where it is no archive of images.
pub(super) fn zip_holds(names: &[String]) -> Option<String> {
    let ending = |name: &str| name.rsplit_once('.').map(|(_, ending)| ending.to_ascii_lowercase()).unwrap_or_default();
    let has = |start: &str| names.iter().any(|name| name.starts_with(start));
    if has("xl/") {
        return Some("is an Excel workbook; save the sheet as \"CSV UTF-8\" and upload that".to_owned());
    }
    if has("word/") || has("ppt/") {
        return Some("is an Office document; save its text as CSV or plain text".to_owned());
    }
    if names.iter().any(|name| name == "mimetype") && has("META-INF/") {
        return Some("is an OpenDocument file; save the sheet as CSV (UTF-8), or its text as plain text".to_owned());
    }
    if names.iter().any(|name| name.ends_with("/data.pkl")) {
        return Some("is a PyTorch file; save the data as CSV, JSONL or Parquet".to_owned());
    }
    if !names.is_empty() && names.iter().all(|name| ending(name) == "npy") {
        return Some("is an archive of NumPy arrays; save the data as CSV, JSONL or Parquet".to_owned());
    }
    let is_image =
        |name: &&String| ["jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff"].contains(&&*ending(name));
    let data: Vec<&str> = names.iter().filter(|name| DATA.contains(&&*ending(name))).map(String::as_str).collect();
    if data.is_empty() || names.iter().any(|name| is_image(&name)) {
        return None;
    }
    let shown: Vec<String> =
        data.iter().take(5).map(|name| format!("\"{}\"", crate::domain::clip::clipped(name))).collect();
    let more = if data.len() > 5 { ", …" } else { "" };
    Some(format!(
        "is a zip archive of data files ({}{more}); unpack it and upload the file that you want",
        shown.join(", ")
    ))
}
