//! Any bytes as a zip or tar archive of images: examples and faults, never a panic.
#![no_main]

use std::io::Write;

use finetuned::dataset::Input;
use finetuned::dataset::images::{self, MAX_IMAGE_BYTES};
use finetuned::dataset::entries::{Ledger, good};
use finetuned::domain::report::DataFormat;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
    file.write_all(bytes).expect("written");
    let format = if first % 2 == 0 { DataFormat::Zip } else { DataFormat::Tar };
    let mut ledger = Ledger::default();
    let images = images::read(&Input::new(file.path(), format)).expect("a file that is there can be read");
    for example in good(images, &mut ledger) {
        let example = example.expect("a file that is there can be read");
        assert!(example.bytes.len() <= MAX_IMAGE_BYTES);
        assert!(!example.label.is_empty() && !example.label.contains(['/', '\\', '\0']));
        assert!(example.place.member.is_some());
    }
    assert!(ledger.faults.count as usize >= ledger.faults.listed.len());
});
