//! The fields of a row of delimiter-separated values.

/// The fields of a record, end to end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Record {
    text: String,
    ends: Vec<usize>,
}

impl Record {
    /// The fields of `text` that end before each of `ends`; None where one is not valid UTF-8.
    pub(super) fn new(text: Vec<u8>, ends: Vec<usize>) -> Option<Self> {
        let text = String::from_utf8(text).ok()?;
        let are_whole = ends.iter().all(|&end| text.is_char_boundary(end));
        are_whole.then_some(Self { text, ends })
    }

    /// The number of fields.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A field.
    pub(super) fn get(&self, place: usize) -> Option<&str> {
        let start = place.checked_sub(1).map_or(Some(0), |before| self.ends.get(before).copied())?;
        self.text.get(start..*self.ends.get(place)?)
    }

    /// Its fields, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).filter_map(|place| self.get(place))
    }

    /// Whether no field holds anything.
    pub(super) fn is_blank(&self) -> bool {
        self.text.trim().is_empty()
    }

    /// Bytes of all fields together.
    pub(super) fn bytes(&self) -> usize {
        self.text.len()
    }
}
