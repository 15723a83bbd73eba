//! Any bytes, under any of the names that choose a reader, packed or not: reported on, never a panic, and every row and line
//! is accounted for.
#![no_main]

use std::io::Write;

use finetuned::dataset::Bounds;
use finetuned::dataset::inspect::inspect;
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 6] = ["data.jsonl", "data.csv", "data", "data.json", "data.txt", "data.csv.gz"];

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
    file.write_all(bytes).expect("written");
    let name = NAMES[usize::from(first) % NAMES.len()];
    let report = inspect(file.path(), name, &Bounds::default()).expect("a file that is there can be read");
    // What is readable has rows; what is not says why.
    assert!(report.rows > 0 || !report.faults.is_empty());
    assert!(report.faults.count as usize >= report.faults.listed.len());
    for counts in report.counts.iter().chain(report.read_as.values().filter_map(|report| report.counts.as_deref())) {
        if let Some(lines) = counts.lines {
            assert_eq!(lines.lines, lines.header + lines.blank + counts.rows + lines.continued);
        }
    }
    for report in report.read_as.values() {
        let counts = report.counts.as_deref().expect("counts");
        assert_eq!(counts.rows, report.examples + counts.faulty + counts.skipped.values().sum::<u64>());
    }
});
