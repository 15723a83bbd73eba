//! What serde says of a value, for whoever sent it.

/// Rust's names of numbers, and what people call these.
const NUMBERS: [(&str, &str); 7] = [
    ("u8", "a whole number from 0"),
    ("u32", "a whole number from 0"),
    ("u64", "a whole number from 0"),
    ("usize", "a whole number from 0"),
    ("i32", "a whole number"),
    ("i64", "a whole number"),
    ("f64", "a number"),
];

/// Fields that no request has.
const OURS: [&str; 1] = ["continued"];

/// The message without the names of our types and of fields that nobody may send.
pub fn told(message: &str) -> String {
    if message.starts_with("data did not match any variant of untagged enum") {
        return "has none of the forms that are allowed".to_owned();
    }
    let number = |(name, words): (&str, &str)| {
        let before = message.strip_suffix(name)?.strip_suffix("expected ")?;
        Some(format!("{before}expected {words}"))
    };
    let message = NUMBERS.into_iter().find_map(number).unwrap_or_else(|| message.to_owned());
    OURS.into_iter().fold(message, |message, name| message.replace(&format!(", `{name}`"), ""))
}

#[cfg(test)]
mod tests {
    use super::told;

    #[test]
    fn nothing_of_ours_is_named() {
        for (message, expected) in [
            (
                "invalid value: integer `-1`, expected u32",
                "invalid value: integer `-1`, expected a whole number from 0",
            ),
            ("invalid type: string \"u32\", expected f64", "invalid type: string \"u32\", expected a number"),
            ("data did not match any variant of untagged enum Any", "has none of the forms that are allowed"),
            ("unknown field `a`, expected one of `r`, `continued`", "unknown field `a`, expected one of `r`"),
            ("missing field `type`", "missing field `type`"),
        ] {
            assert_eq!(told(message), expected);
        }
    }
}
