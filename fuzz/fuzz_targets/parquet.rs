//! Any bytes as a Parquet file: rows and faults, never a panic. Its seeds are tests/fixtures/parquet/.
#![no_main]

use std::io::Write;
use std::sync::Once;

use finetuned::dataset::Bounds;
use finetuned::dataset::inspect::inspect;
use finetuned::domain::report::DataFormat;
use libfuzzer_sys::fuzz_target;

/// The reader takes panics of its library for damage; only those that nobody catches are found here.
static QUIET: Once = Once::new();

fuzz_target!(|bytes: &[u8]| {
    QUIET.call_once(|| std::panic::set_hook(Box::new(|_| {})));
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").expect("a file");
    file.write_all(b"PAR1").expect("written");
    file.write_all(bytes.strip_prefix(b"PAR1").unwrap_or(bytes)).expect("written");
    let report = inspect(file.path(), "data.parquet", &Bounds::default()).expect("a file that is there can be read");
    assert_eq!(report.format, DataFormat::Parquet);
    assert!(report.rows > 0 || !report.faults.is_empty());
});
