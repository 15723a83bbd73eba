//! Any bytes as a zip or tar archive of images: examples, faults and files that are passed over, never a panic.
#![no_main]

use std::io::Write;

use finetuned::dataset::Input;
use finetuned::dataset::entries::{Ledger, good};
use finetuned::dataset::images::{self, MAX_IMAGE_BYTES};
use finetuned::domain::job::OtherFiles;
use finetuned::domain::report::DataFormat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
    file.write_all(bytes).expect("written");
    let format = if first % 2 == 0 { DataFormat::Zip } else { DataFormat::Tar };
    let mut input = Input::new(file.path(), format);
    input.options.other_files = Some(if first % 4 < 2 { OtherFiles::Skip } else { OtherFiles::Refuse });
    let (mut ledger, mut examples) = (Ledger::default(), 0);
    let images = images::read(&input).expect("a file that is there can be read");
    for example in good(images, &mut ledger) {
        let example = example.expect("a file that is there can be read");
        assert!(example.bytes.len() <= MAX_IMAGE_BYTES);
        assert!(!example.label.is_empty() && !example.label.contains(['/', '\\', '\0']));
        assert!(example.place.member.is_some());
        examples += 1;
    }
    let counts = &ledger.counts;
    assert_eq!(counts.rows, examples + counts.faulty + counts.skipped.values().sum::<u64>());
    assert!(ledger.faults.count as usize >= ledger.faults.listed.len());
    assert!(examples > 0 || ledger.faults.count > 0 || !counts.skipped.is_empty(), "nothing is said");
    // Notes come with reports, which start threads: not for every input.
    if first >= 0xE0 {
        let report = images::survey(&input).expect("a file that is there can be read");
        let found = report.counts.expect("rows are counted");
        assert_eq!((found.rows, &found.skipped), (counts.rows, &counts.skipped));
        assert_eq!(found.rows, report.examples + found.faulty + found.skipped.values().sum::<u64>());
        assert!(report.notes.iter().all(|note| note.message.chars().count() < 8000));
    }
});
