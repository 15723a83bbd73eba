//! How little has to be inserted and deleted to make one text of another.

/// rapidfuzz's `fuzz.ratio`, divided by 100.
pub(super) fn ratio(input: &str, reference: &str) -> f64 {
    rapidfuzz::fuzz::ratio(input.chars(), reference.chars())
}
