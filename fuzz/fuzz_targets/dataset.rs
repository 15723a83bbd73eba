//! Any bytes, under any of the names that choose a reader: reported on, never a panic.
#![no_main]

use std::io::Write;

use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 3] = ["data.jsonl", "data.csv", "data"];

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
    file.write_all(bytes).expect("written");
    let name = NAMES[usize::from(first) % NAMES.len()];
    let report = finetuned::dataset::inspect::inspect(file.path(), name, &finetuned::dataset::Bounds::default()).expect("a file that is there can be read");
    // What is readable has rows; what is not says why.
    assert!(report.rows > 0 || !report.faults.is_empty());
    assert!(report.faults.count as usize >= report.faults.listed.len());
});
