//! What is wrong with data files, and where.

use serde::{Deserialize, Serialize};

/// How many faults a report lists; the rest are only counted.
pub const LISTED_FAULTS: usize = 100;

/// Where in a data file something stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The line, or the number of the archive's member; 1 is the first.
    pub line: u64,
    /// The name of the archive's member, printable and short.
    pub member: Option<String>,
}

/// One thing that is wrong with a data file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// 1 is the first line of the file. For CSV it is the line on which the row starts, for archives the number of the
    /// member.
    pub line: u64,
    /// The member of an archive at fault.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub member: Option<String>,
    /// The JSON key or CSV column at fault.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    pub message: String,
}

impl Fault {
    /// What is wrong at a line.
    pub fn new(line: u64, field: Option<&str>, message: impl Into<String>) -> Self {
        Self { line, member: None, field: field.map(str::to_owned), message: message.into() }
    }

    /// What is wrong at a line or with a member.
    pub fn at(place: &Place, field: Option<&str>, message: impl Into<String>) -> Self {
        Self { member: place.member.clone(), ..Self::new(place.line, field, message) }
    }
}

/// Faults up to [`LISTED_FAULTS`], and how many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    pub count: u64,
    pub listed: Vec<Fault>,
}

impl Faults {
    /// Adds one at a line.
    pub fn push(&mut self, line: u64, field: Option<&str>, message: impl Into<String>) {
        self.extend([Fault::new(line, field, message)]);
    }

    /// Adds one at a line or a member.
    pub fn push_at(&mut self, place: &Place, field: Option<&str>, message: impl Into<String>) {
        self.extend([Fault::at(place, field, message)]);
    }

    /// Both lists in the order of their lines.
    #[must_use]
    pub fn merged(mut self, other: Self) -> Self {
        self.count += other.count;
        self.listed.extend(other.listed);
        self.listed.sort_by_key(|fault| fault.line);
        self.listed.truncate(LISTED_FAULTS);
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The faults in one sentence, the first few in full.
    pub fn summary(&self) -> String {
        let shown: Vec<String> = self
            .listed
            .iter()
            .take(3)
            .map(|fault| match (&fault.member, &fault.field) {
                (Some(member), _) => format!("{member} (member {}): {}", fault.line, fault.message),
                (None, Some(field)) => format!("line {}, {field}: {}", fault.line, fault.message),
                (None, None) => format!("line {}: {}", fault.line, fault.message),
            })
            .collect();
        let more = self.count.saturating_sub(shown.len() as u64);
        let tail = if more > 0 { format!("; and {more} more") } else { String::new() };
        format!("{}{tail}", shown.join("; "))
    }
}

impl Extend<Fault> for Faults {
    fn extend<I: IntoIterator<Item = Fault>>(&mut self, faults: I) {
        for fault in faults {
            self.count += 1;
            if self.listed.len() < LISTED_FAULTS {
                self.listed.push(fault);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Faults, LISTED_FAULTS, Place};

    #[test]
    fn faults_beyond_the_cap_are_counted_only() {
        let mut faults = Faults::default();
        for line in 1..=150 {
            faults.push(line, Some("label"), "is missing");
        }
        assert_eq!((faults.count, faults.listed.len()), (150, LISTED_FAULTS));
        assert_eq!(
            faults.summary(),
            "line 1, label: is missing; line 2, label: is missing; line 3, label: is missing; and 147 more"
        );
    }

    #[test]
    fn a_fault_of_an_archive_names_its_member() {
        let mut faults = Faults::default();
        faults.push_at(&Place { line: 7, member: Some("cats/1.jpg".to_owned()) }, None, "is a GIF image");
        assert_eq!(faults.summary(), "cats/1.jpg (member 7): is a GIF image");
        let json = serde_json::to_value(&faults.listed[0]).unwrap();
        assert_eq!(json, serde_json::json!({"line": 7, "member": "cats/1.jpg", "message": "is a GIF image"}));
        let older: super::Fault = serde_json::from_str(r#"{"line": 1, "message": "is empty"}"#).unwrap();
        assert_eq!(older.member, None);
    }

    #[test]
    fn merged_faults_stand_in_the_order_of_their_lines() {
        let (mut one, mut other) = (Faults::default(), Faults::default());
        (1..=80).for_each(|line| one.push(2 * line, None, "even"));
        (1..=80).for_each(|line| other.push(2 * line - 1, None, "odd"));
        let merged = one.merged(other);
        assert_eq!(merged.count, 160);
        assert!(merged.listed.iter().map(|fault| fault.line).eq(1..=LISTED_FAULTS as u64));
    }
}
