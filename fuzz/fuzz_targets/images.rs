//! Any bytes as an image file: pixels within the limits or a refusal, never a panic.
//! The largest image that is allowed takes 512 MiB: run it with `-malloc_limit_mb=600`.
#![no_main]

use finetuned::dataset::images::{MAX_PIXELS, MAX_SIDE, decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(image) = decode(bytes) {
        let (width, height) = image.dimensions();
        assert!((1..=MAX_SIDE).contains(&width) && (1..=MAX_SIDE).contains(&height));
        assert!(u64::from(width) * u64::from(height) <= MAX_PIXELS);
    }
});
