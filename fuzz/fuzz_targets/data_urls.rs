//! Any text as a data URL: bytes, or words that fit into a sentence, never a panic.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use finetuned::dataset::images::data_url;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match data_url(text) {
        Ok(bytes) => assert!(bytes.len() <= text.len() / 4 * 3 + 3),
        Err(message) => assert!(message.chars().count() < 200, "{message}"),
    }
    // Whatever its lines, what the strict decoder reads is read the same.
    if let Ok(bytes) = STANDARD.decode(text) {
        assert_eq!(data_url(&format!("data:image/png;base64,{text}")).as_ref(), Ok(&bytes));
        let broken: String = text.chars().flat_map(|symbol| [symbol, '\n']).collect();
        assert_eq!(data_url(&format!("data:image/png;base64,{broken}")), Ok(bytes));
    }
});
