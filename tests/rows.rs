//! Files of rows made from seeds, with planted damage: every number of their reports is what was planted, and no example
//! differs from what stands in the file.

#![allow(clippy::unwrap_used, reason = "tests fail loudly")]

use std::collections::BTreeMap;
use std::io::Write;

use finetuned::dataset::Input;
use finetuned::dataset::entries::{Ledger, good};
use finetuned::dataset::labelled::{self, Target};
use finetuned::domain::method::ProblemType;
use finetuned::domain::random::mix;
use finetuned::domain::report::DataFormat;

/// Numbers that depend on the seed alone.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mix(self.0) % most
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

/// What a row is to become.
#[derive(Clone, Debug, PartialEq)]
enum Fate {
    Example { text: String, label: String },
    Faulty,
    Skipped(&'static str),
    Blank,
}

/// A file, and what each of its rows is to become, by the line on which it stands.
struct Planted {
    bytes: Vec<u8>,
    rows: Vec<(u64, Fate)>,
    header: u64,
    lines: u64,
}

const WORDS: [&str; 12] = [
    "card",
    "lost",
    "Straße",
    "a, b",
    "say \"hi\"",
    "two\nlines",
    "tab\there",
    "semi;colon",
    "5\" disk",
    "日本",
    "|",
    " pad ",
];

fn text(numbers: &mut Numbers) -> String {
    let words: Vec<&str> = (0..=numbers.below(4)).map(|_| numbers.one_of(&WORDS)).collect();
    format!("t{}{}", numbers.below(1000), words.join(" "))
}

fn quoted(field: &str) -> String {
    format!("\"{}\"", field.replace('"', "\"\""))
}

fn csv(seed: u64) -> Planted {
    let mut numbers = Numbers(seed << 20);
    let delimiter = numbers.one_of(&[',', ';', '\t', '|']);
    let end = numbers.one_of(&["\n", "\r\n"]);
    let (mut out, mut rows) = (Vec::new(), Vec::new());
    if numbers.below(3) == 0 {
        out.extend(b"\xEF\xBB\xBF");
    }
    let header = format!("id{delimiter}text{delimiter}label{end}");
    out.extend(header.bytes());
    let count_lines = |out: &[u8]| out.split(|&byte| byte == b'\n').count() as u64 - 1;
    for id in 0..30 + numbers.below(40) {
        let line = count_lines(&out) + 1;
        let text = text(&mut numbers);
        let label = numbers.one_of(&["pos", "neg", "neu tral"]);
        let needs_quotes = |field: &str| field.contains(['\n', '\r', delimiter]) || field.starts_with('"');
        let written = if needs_quotes(&text) || numbers.below(3) == 0 { quoted(&text) } else { text.clone() };
        let (row, fate): (Vec<u8>, Fate) = match numbers.below(24) {
            0 => (Vec::new(), Fate::Blank),
            1 => (format!("{delimiter}{delimiter}").into(), Fate::Skipped("empty row")),
            2 => (header.trim_end().into(), Fate::Skipped("repeated header")),
            3 => (format!("{id}{delimiter}{written}").into(), Fate::Faulty),
            4 => (format!("{id}{delimiter}{written}{delimiter}{label}{delimiter}more").into(), Fate::Faulty),
            5 => (format!("{id}{delimiter}{delimiter}{label}").into(), Fate::Faulty),
            6 => (format!("{id}{delimiter}{written}{delimiter} ").into(), Fate::Faulty),
            // In a file with tabs where all else is quoted properly this one would decide that nothing is quoted.
            7 if delimiter != '\t' => {
                (format!("{id}{delimiter}\"closed\" early{delimiter}{label}").into(), Fate::Faulty)
            }
            8 => (
                [format!("{id}{delimiter}bad ").as_bytes(), b"\xFF", format!("{delimiter}{label}").as_bytes()].concat(),
                Fate::Faulty,
            ),
            9 => {
                let label = label.to_owned();
                (format!("{id}{delimiter}{written}{delimiter}  {label}\u{A0}").into(), Fate::Example { text, label })
            }
            _ => (
                format!("{id}{delimiter}{written}{delimiter}{label}").into(),
                Fate::Example { text, label: label.to_owned() },
            ),
        };
        out.extend(row);
        out.extend(end.bytes());
        rows.push((line, fate));
    }
    if seed.is_multiple_of(4) && delimiter != '\t' {
        let line = count_lines(&out) + 1;
        out.extend(format!("9{delimiter}\"never closed{end}a{delimiter}b{delimiter}pos{end}c").bytes());
        rows.push((line, Fate::Faulty));
    }
    let lines = count_lines(&out) + u64::from(!out.ends_with(b"\n"));
    Planted { bytes: out, rows, header: 1, lines }
}

fn jsonl(seed: u64) -> Planted {
    let mut numbers = Numbers(seed << 20);
    let (mut out, mut rows) = (String::new(), Vec::new());
    for line in 1..=30 + numbers.below(40) {
        let text = text(&mut numbers);
        let label = numbers.one_of(&["pos", "neg", "7"]);
        let json = serde_json::to_string(&text).unwrap();
        let fit = |label: &str| Fate::Example { text: text.clone(), label: label.to_owned() };
        let (row, fate) = match numbers.below(24) {
            0 => (String::new(), Fate::Blank),
            1 => (format!("{{\"text\":null,\"label\":\"{label}\"}}"), Fate::Faulty),
            2 => (format!("{{\"text\":{json}}}"), Fate::Faulty),
            3 => (format!("{{\"text\":{json},\"label\":\"{label}\""), Fate::Faulty),
            4 => (format!("[{json}]"), Fate::Faulty),
            5 => (format!("{{\"text\":{json},\"label\":\"{label}\",\"label\":\"{label}\"}}"), Fate::Faulty),
            6 => (format!("{{\"text\":{json},\"label\":{{\"a\":1}}}}"), Fate::Faulty),
            7 => (format!("{{\"text\":{json},\"label\":2.5}}"), Fate::Faulty),
            8 => (format!("{{\"text\":{json},\"label\":7.0}}"), fit("7")),
            9 => (format!("{{\"text\":{json},\"label\":7}}"), fit("7")),
            10 => (format!("  {{\"label\" : \" {label}\\u00a0\", \"text\":{json}, \"more\":[1]}}\r"), fit(label)),
            _ => (format!("{{\"text\":{json},\"label\":\"{label}\"}}"), fit(label)),
        };
        out.push_str(&row);
        out.push('\n');
        rows.push((line, fate));
    }
    let lines = rows.len() as u64;
    Planted { bytes: out.into_bytes(), rows, header: 0, lines }
}

fn check(planted: &Planted, format: DataFormat, seed: u64) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let packed = match seed % 3 {
        0 => planted.bytes.clone(),
        1 => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&planted.bytes).unwrap();
            encoder.finish().unwrap()
        }
        _ => zstd::encode_all(&planted.bytes[..], 1).unwrap(),
    };
    std::fs::write(file.path(), packed).unwrap();
    let mut ledger = Ledger::default();
    let problem = ProblemType::SingleLabelClassification;
    let examples = good(labelled::read(&Input::new(file.path(), format), problem).unwrap(), &mut ledger);
    let found: Vec<(u64, Fate)> = examples
        .map(|example| {
            let example = example.unwrap();
            let Target::Class(label) = example.target else { panic!("one label") };
            (example.line, Fate::Example { text: example.text, label })
        })
        .collect();
    let expected = planted.rows.iter().filter(|(_, fate)| matches!(fate, Fate::Example { .. }));
    assert!(found.iter().eq(expected.clone()), "seed {seed}: {found:#?}\n{:#?}", expected.collect::<Vec<_>>());
    let count = |wanted: fn(&Fate) -> bool| planted.rows.iter().filter(|(_, fate)| wanted(fate)).count() as u64;
    let mut skipped = BTreeMap::new();
    for (_, fate) in &planted.rows {
        if let Fate::Skipped(what) = fate {
            *skipped.entry((*what).to_owned()).or_default() += 1;
        }
    }
    let (counts, lines) = (&ledger.counts, ledger.counts.lines.unwrap());
    assert_eq!(counts.skipped, skipped, "seed {seed}");
    assert_eq!(counts.faulty, count(|fate| *fate == Fate::Faulty), "seed {seed}: {}", ledger.faults.summary());
    assert_eq!(counts.rows, found.len() as u64 + counts.faulty + skipped.values().sum::<u64>(), "seed {seed}");
    assert_eq!((lines.lines, lines.header), (planted.lines, planted.header), "seed {seed}");
    assert_eq!(lines.blank, count(|fate| *fate == Fate::Blank), "seed {seed}");
    assert_eq!(lines.lines, lines.header + lines.blank + counts.rows + lines.continued, "seed {seed}");
    let mut at: Vec<u64> = ledger.faults.listed.iter().map(|fault| fault.line).collect();
    at.dedup();
    let faulty = planted.rows.iter().filter(|(_, fate)| *fate == Fate::Faulty).map(|(line, _)| *line);
    assert!(at.into_iter().eq(faulty), "seed {seed}: {}", ledger.faults.summary());
}

#[test]
fn what_becomes_of_each_row_of_a_table_is_what_was_planted_and_the_numbers_add_up() {
    for seed in 1..600 {
        check(&csv(seed), DataFormat::Csv, seed);
    }
}

#[test]
fn what_becomes_of_each_json_line_is_what_was_planted_and_the_numbers_add_up() {
    for seed in 1..600 {
        check(&jsonl(seed), DataFormat::Jsonl, seed);
    }
}
