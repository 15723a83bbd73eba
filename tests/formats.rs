//! What files are, whatever they are called, and what becomes of every line.

#![allow(clippy::unwrap_used, clippy::format_collect, reason = "tests fail loudly")]

use std::io::Write;
use std::path::Path;

use finetuned::dataset::Bounds;
use finetuned::dataset::inspect::inspect;
use finetuned::domain::report::{Compression, DataFormat, Delimiter, FileReport, UploadKind};

fn report(name: &str, bytes: &[u8]) -> FileReport {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    inspect(file.path(), name, &Bounds::default()).unwrap()
}

fn notes(report: &FileReport) -> Vec<&str> {
    report.notes.iter().map(|note| note.code.as_str()).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const CSV: &[u8] = b"text,label\na,x\nb,y\n";
const JSONL: &[u8] = b"{\"text\":\"a\",\"label\":\"x\"}\n{\"text\":\"b\",\"label\":\"y\"}\n";
const ARRAY: &[u8] =
    b"[\n  {\n    \"text\": \"a\",\n    \"label\": \"x\"\n  },\n  {\"text\": \"b\", \"label\": \"y\"}\n]\n";
const OBJECTS: &[u8] = b"{\n  \"text\": \"a\",\n  \"label\": \"x\"\n}\n{\n  \"text\": \"b\",\n  \"label\": \"y\"\n}\n";

#[test]
fn content_says_what_a_file_is_and_its_name_where_content_does_not() {
    use DataFormat::{Csv, Json, Jsonl, Text};
    let otherwise = &["name_says_otherwise"][..];
    let found = &["format_found"][..];
    for (name, bytes, format, told) in [
        ("a.csv", CSV, Csv, &[][..]),
        ("a.tsv", b"text\tlabel\na\tx\nb\ty\n", Csv, &[]),
        ("a.jsonl", JSONL, Jsonl, &[]),
        ("a.csv", JSONL, Jsonl, otherwise),
        ("a.txt", JSONL, Jsonl, otherwise),
        ("a", JSONL, Jsonl, &[]),
        ("a.json", ARRAY, Json, &[]),
        ("a.jsonl", ARRAY, Json, &[]),
        ("a", ARRAY, Json, &[]),
        ("a.jsonl", OBJECTS, Json, &[]),
        ("a.txt", CSV, Csv, otherwise),
        ("a.txt", b"It was, in short, late.\nAnd, as ever, cold.\n", Text, &[]),
        ("wiki.train.raw", b" = A title = \n\n Words , and more .\n", Text, found),
        ("data", CSV, Csv, &[]),
        ("SMSSpamCollection", b"ham\tyes, later\nspam\twin, win\nham\tok\n", Csv, found),
        ("a.txt", b"[SEP] is a token\nand {this} is none\n", Text, &[]),
        ("a.csv", b"text,label\n[a],x\n{b},y\n", Csv, &[]),
    ] {
        let report = report(name, bytes);
        assert_eq!((report.format, notes(&report)), (format, told.to_vec()), "{name}");
        assert!(report.is_readable(), "{name}: {}", report.faults.summary());
    }
}

#[test]
fn all_spellings_of_one_table_hold_the_same() {
    let semicolons = b"sep=;\r\ntext;label\r\na;x\r\nb;y\r\n";
    let zstd = zstd::encode_all(JSONL, 3).unwrap();
    let macintosh = b"text,label\ra,x\rb,y\r";
    for (name, bytes) in [
        ("a.csv", CSV),
        ("a.csv", &b"\xEF\xBB\xBFtext|label\na|x\nb|y\n"[..]),
        ("a.csv", semicolons),
        ("a.csv", macintosh),
        ("a.csv", b"label,text\nx,a\nlabel,text\n,\ny,b\n\n"),
        ("a.csv.gz", &gzip(CSV)),
        ("a.jsonl.zst", &zstd),
        ("a.json", ARRAY),
        ("a.jsonl", OBJECTS),
        ("a.jsonl", &[&JSONL[..25], b"\xEF\xBB\xBF", &JSONL[25..]].concat()),
    ] {
        let report = report(name, bytes);
        assert!(report.is_readable(), "{name}: {}", report.faults.summary());
        let texts = &report.read_as[&UploadKind::LabelledTexts];
        let labels: Vec<(&str, u64)> = texts.labels().iter().map(|(label, &count)| (label.as_str(), count)).collect();
        assert_eq!(labels, [("x", 1), ("y", 1)], "{name}");
    }
}

#[test]
fn reports_say_how_a_file_is_written() {
    assert_eq!(report("a.csv", CSV).delimiter, Some(Delimiter::Comma));
    assert_eq!(report("a.tsv", b"text\tlabel\na\tb\n").delimiter, Some(Delimiter::Tab));
    let packed = report("a.csv.gz", &gzip(b"text;label\na;x\n"));
    assert_eq!((packed.compression, packed.delimiter), (Some(Compression::Gzip), Some(Delimiter::Semicolon)));
    assert_eq!((report("a.jsonl", JSONL).compression, report("a.jsonl", JSONL).delimiter), (None, None));
}

#[test]
fn what_is_not_read_is_named_with_a_remedy() {
    let zip = |names: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zip");
        let code = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1], 'w')\n[z.writestr(n, b'x') for n in sys.argv[2:]]\nz.close()";
        let made = std::process::Command::new("python3").args(["-c", code]).arg(&path).args(names).status().unwrap();
        assert!(made.success());
        std::fs::read(path).unwrap()
    };
    let utf16: Vec<u8> = "text,label\na,x\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    for (name, bytes, why) in [
        (
            "a.xlsx",
            zip(&["[Content_Types].xml", "xl/workbook.xml"]),
            "is an Excel workbook; save the sheet as \"CSV UTF-8\"",
        ),
        ("a.docx", zip(&["[Content_Types].xml", "word/document.xml"]), "is an Office document"),
        ("a.ods", zip(&["mimetype", "content.xml", "META-INF/manifest.xml"]), "is an OpenDocument file"),
        (
            "a.zip",
            zip(&["train.csv", "test.csv", "readme.md"]),
            "a zip archive of data files (\"train.csv\", \"test.csv\")",
        ),
        ("a.pt", zip(&["a/data.pkl", "a/data/0"]), "is a PyTorch file"),
        ("a.xls", b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1more".to_vec(), "an old Excel workbook"),
        ("a.csv", [&b"\xFF\xFE"[..], &utf16].concat(), "is text in UTF-16; save it as UTF-8"),
        ("a.csv", utf16, "is text in UTF-16; save it as UTF-8"),
        ("a.jsonl", b"<!DOCTYPE html><html><body>Sign in</body></html>".to_vec(), "is an HTML page"),
        ("a.csv", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n".to_vec(), "`git lfs pull`"),
        ("a.csv.bz2", b"BZh91AY".to_vec(), "compressed with bzip2; upload it unpacked"),
        ("a.pkl", b"\x80\x04\x95more".to_vec(), "a Python pickle"),
        ("a.jsonl", b"text,label\na,b\n".to_vec(), "is not valid JSON, which its name \"a.jsonl\" says it is"),
        ("data.arrow", b"\xFF\xFF\xFF\xFF\x10\0\0\0".to_vec(), "save it as Parquet"),
        ("a.bin", vec![0; 100], "none of the formats that are read"),
        ("a.png", b"\x89PNG\r\n\x1A\n".to_vec(), "is one image (png)"),
    ] {
        let report = report(name, &bytes);
        assert_eq!((report.faults.count, report.rows), (1, 0), "{name}: {}", report.faults.summary());
        assert!(report.faults.summary().contains(why), "{name}: {}", report.faults.summary());
    }
}

#[test]
fn broken_json_is_one_fault_where_it_breaks() {
    for (bytes, line, why) in [
        (&b"[\n{\"text\":\"a\"}\n{\"text\":\"b\"}\n]"[..], 3, "there is no comma"),
        (b"[\n{\"text\":\"a\"},\n{\"text\":\n", 3, "what begins here is never closed"),
        (b"[\n{\"text\":\"a\"},\n{\n\"text\": b}\n]", 4, "is not valid JSON"),
        (b"[1,\n2]", 1, "expected a JSON object, found a number"),
    ] {
        let report = report("a.json", bytes);
        let first = &report.faults.listed[0];
        assert_eq!(first.line, line, "{}", report.faults.summary());
        assert!(first.message.contains(why), "{}", report.faults.summary());
    }
}

#[test]
fn a_quotation_mark_that_is_not_closed_is_a_fault_where_it_opens() {
    let rows: String = (0..30).map(|i| format!("neg,text {i}\n")).collect();
    let unclosed = format!("label,text\n{rows}pos,\"never closed\n{rows}");
    let found = report("a.csv", unclosed.as_bytes());
    assert_eq!((found.faults.count, found.faults.listed[0].line), (1, 32));
    assert!(found.faults.summary().contains("the 30 lines behind it"), "{}", found.faults.summary());
    let counts = found.counts.unwrap();
    let lines = counts.lines.unwrap();
    assert_eq!((lines.lines, lines.header, lines.continued, counts.rows, counts.faulty), (62, 1, 30, 31, 1));
    // Closed by chance at the next one, it is a fault or, where it cannot be one, told.
    let chance = format!("label,text\npos,\"opened\n{rows}pos,\"again\",\n");
    assert_eq!(report("a.csv", chance.as_bytes()).faults.listed[0].line, 2);
    let closed = format!("label,text\npos,\"opened\n{rows}closed\"\n{rows}");
    assert_eq!(notes(&report("a.csv", closed.as_bytes())), ["rows_in_a_field"]);
    let quoted = report("a.csv", b"text,label\n\"a \"\"b\"\"\",x\na 5\" disk, \"y\"\n");
    assert_eq!((quoted.faults.count, notes(&quoted)), (0, vec!["quotes_behind_space", "bare_quotes"]));
}

#[test]
fn parts_that_were_put_together_are_not_misread() {
    let parts = "text,label\na,x\nlabel,text\ny,b\n";
    let found = report("a.csv", parts.as_bytes());
    let (fault, counts) = (&found.faults.listed[0], found.counts.clone().unwrap());
    assert_eq!((found.faults.count, fault.line, counts.rows), (1, 3, 1));
    assert!(fault.message.contains("columns in another order"), "{}", fault.message);
    // The places in the last Parquet file count from its own beginning, where the first one lies.
    let read = |name: &str| std::fs::read(Path::new("tests/fixtures/parquet").join(name)).unwrap();
    for (one, other) in
        [("pandas.parquet", "pandas.parquet"), ("zstd.parquet", "datasets.parquet"), ("images.parquet", "gaps.parquet")]
    {
        for joined in [[read(one), read(other)].concat(), [read(other), read(one)].concat()] {
            let found = report("a.parquet", &joined);
            let summary = found.faults.summary();
            assert!(
                found.rows == 0 && summary.contains("several Parquet files one behind the other"),
                "{one} {summary}"
            );
        }
    }
}

#[test]
fn line_feeds_within_the_fields_of_a_macintosh_file_end_no_row() {
    let rows: String = (0..9).map(|i| format!("{i},\"first {i}\nsecond\",x\r")).collect();
    let found = report("a.csv", format!("id,text,label\r{rows}").as_bytes());
    let texts = &found.read_as[&UploadKind::LabelledTexts];
    assert_eq!((found.faults.count, texts.examples, texts.labels()["x"]), (0, 9, 9));
    // A stray return in a file of line feeds ends none either.
    let stray = report("a.csv", b"text,label\na\rb,x\nc,y\n");
    assert_eq!(stray.read_as[&UploadKind::LabelledTexts].examples, 2);
}

#[test]
fn quotation_marks_that_quote_nothing_are_told() {
    let rows: String = (0..9).map(|i| format!("\"text {i}\"\t\"x\"\n")).collect();
    let found = report("a.tsv", format!("text\tlabel\n{rows}\"nice\" they said\ty\n").as_bytes());
    assert_eq!((found.faults.count, notes(&found)), (0, vec!["quotes_kept"]));
    assert_eq!(found.read_as[&UploadKind::LabelledTexts].labels()["\"x\""], 9);
}

#[test]
fn what_python_writes_as_json_and_is_none_is_named() {
    for (row, why) in [
        ("{\"text\": \"a\", \"label\": NaN}", "NaN and Infinity, which Python writes, are no JSON"),
        ("{\"text\": \"a\", \"label\": -Infinity}", "NaN and Infinity, which Python writes, are no JSON"),
        ("{\"text\": \"\\ud83d\", \"label\": \"x\"}", "a character is escaped by half"),
    ] {
        let found = report("a.jsonl", &[JSONL, row.as_bytes()].concat());
        let fault = &found.faults.listed[0];
        assert!(fault.line == 3 && fault.message.contains(why), "{}", fault.message);
    }
    let nul = report("a.jsonl", &[JSONL, b"{\"text\": \"a\\u0000\", \"label\": \"x\"}"].concat());
    let faults = &nul.read_as[&UploadKind::LabelledTexts].faults;
    assert!(
        faults.count == 1 && faults.summary().contains("line 3, text: holds a NUL character"),
        "{}",
        faults.summary()
    );
}

#[test]
fn columns_whose_names_are_typed_otherwise_or_tell_the_splits_are_told() {
    let told = |header: &str, third: fn(usize) -> &'static str| {
        let rows: String = (0..9).map(|i| format!("text {i},{},{}\n", ["x", "y"][i % 2], third(i))).collect();
        let found = report("a.csv", format!("text,label,{header}\n{rows}").as_bytes());
        let notes = found.read_as[&UploadKind::LabelledTexts].notes.iter();
        notes.filter(|note| note.warning).map(|note| note.code.clone()).collect::<Vec<_>>()
    };
    let words: fn(usize) -> &'static str = |i| ["one", "two", "three"][i % 3];
    let splits: fn(usize) -> &'static str = |i| ["train", "test", "Validation"][i % 3];
    assert_eq!(told("Text_Pair", words), ["columns_alike"]);
    assert_eq!(told("negative ", words), ["columns_alike"]);
    assert_eq!(told("notes", words), [""; 0]);
    assert_eq!(told("split", splits), ["splits_in_a_column"]);
    assert_eq!(told("set", |_| "train"), [""; 0], "all of one");
}

#[test]
fn damaged_compression_is_a_fault_of_the_file() {
    let packed = gzip(&CSV.repeat(1000));
    let found = report("a.csv.gz", &packed[..packed.len() / 2]);
    assert!(found.faults.summary().contains("damaged or ends early"), "{}", found.faults.summary());
    let twice = report("a.csv.gz.gz", &gzip(&gzip(CSV)));
    assert!(twice.faults.summary().contains("is compressed twice"), "{}", twice.faults.summary());
    let inside = report("a.parquet.gz", &gzip(b"PAR1rest"));
    assert!(inside.faults.summary().contains("is a compressed Parquet file"), "{}", inside.faults.summary());
}

fn parquet(name: &str) -> FileReport {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet").join(name);
    inspect(&path, name, &Bounds::default()).unwrap()
}

fn labels(report: &FileReport, kind: UploadKind) -> Vec<(String, u64)> {
    assert!(report.is_readable(), "{}", report.faults.summary());
    report.read_as[&kind].labels().clone().into_iter().collect()
}

#[test]
fn parquet_of_pandas_and_datasets_is_read() {
    let pair = |a: (&str, u64), b: (&str, u64)| vec![(a.0.to_owned(), a.1), (b.0.to_owned(), b.1)];
    for name in ["pandas.parquet", "zstd.parquet"] {
        let report = parquet(name);
        assert_eq!((report.format, report.rows), (DataFormat::Parquet, 12));
        assert_eq!(labels(&report, UploadKind::LabelledTexts), pair(("no", 6), ("yes", 6)));
    }
    let classes = parquet("datasets.parquet");
    assert_eq!(labels(&classes, UploadKind::LabelledTexts), pair(("negative", 8), ("positive", 4)));
    assert_eq!(notes(&classes), ["class_names", "class_names"]);
    assert_eq!(labels(&parquet("images.parquet"), UploadKind::LabelledImages), pair(("negative", 6), ("positive", 6)));
    let gaps = parquet("gaps.parquet");
    let texts = &gaps.read_as[&UploadKind::LabelledTexts];
    assert_eq!((texts.labels()["0"], texts.labels()["1"], texts.faults.listed[0].line), (4, 7, 3));
}

#[test]
fn parquet_that_is_damaged_or_would_unpack_to_too_much_is_refused() {
    for (name, why) in
        [("large_page.parquet", "more than 256 MiB at once"), ("gzip.parquet", "write it with snappy or zstd")]
    {
        assert!(parquet(name).faults.summary().contains(why), "{}", parquet(name).faults.summary());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/parquet/pandas.parquet");
    let whole = std::fs::read(path).unwrap();
    for cut in [5, 100, whole.len() - 1] {
        assert!(report("a.parquet", &whole[..cut]).faults.summary().contains("damaged"), "{cut}");
    }
    // Whichever byte is another, it is read or refused, and nothing panics.
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x41;
        let found = report("a.parquet", &bytes);
        assert!(found.rows > 0 || !found.faults.is_empty(), "{at}");
    }
}
