//! Which keys and columns hold what.

use super::row::listed;
use crate::domain::job::ReadOptions;

/// Keys and columns that hold the label, unless the job names one; the first that is there counts.
pub const LABEL_COLUMNS: [&str; 3] = ["label", "category", "class"];

/// The key that holds the list of labels, where an example may have several.
pub const LABELS_COLUMN: &str = "labels";

/// The key or column that holds the text, unless the job names one.
pub const TEXT_COLUMN: &str = "text";

/// The key or column that holds the second text of a pair, where there is one.
pub const PAIR_COLUMN: &str = "text_pair";

/// The name of the text column.
pub fn text(options: &ReadOptions) -> &str {
    options.text_column.as_deref().unwrap_or(TEXT_COLUMN)
}

/// What is said where the column of the text is not among those that are there.
pub(super) fn no_text(column: &str, there: &[&str]) -> String {
    format!("there is no text column \"{column}\"; found {}; name it in dataset.text_column", listed(there))
}
