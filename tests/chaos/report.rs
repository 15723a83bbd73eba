//! What happened, for people.

use std::path::PathBuf;
use std::time::Duration;

use super::checker::Checked;
use super::faults::Tally;

pub struct Report {
    pub seconds: Duration,
    pub seed: u64,
    pub tally: Tally,
    pub checked: Checked,
}

impl Report {
    /// Writes it to `target/chaos/report.md`.
    pub fn write(&self) -> PathBuf {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/chaos");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("report.md");
        std::fs::write(&path, self.text()).unwrap();
        path
    }

    fn text(&self) -> String {
        let checked = &self.checked;
        let table = |head: &str, rows: Vec<(String, String)>| {
            let rows: String = rows.into_iter().map(|(name, count)| format!("| {name} | {count} |\n")).collect();
            format!("| {head} | count |\n|---|---|\n{rows}\n")
        };
        let faults = self.tally.0.iter().map(|(kind, count)| ((*kind).to_owned(), count.to_string())).collect();
        let counts = |map: &std::collections::BTreeMap<String, usize>| {
            map.iter().map(|(name, count)| (name.clone(), count.to_string())).collect::<Vec<_>>()
        };
        let mut text = format!(
            "# Chaos, {} s, seed {}\n\nThree workers of two slots over one PostgreSQL and one object store.\n\n",
            self.seconds.as_secs(),
            self.seed
        );
        text.push_str(&table("fault", faults));
        text.push_str(&table("jobs that ended", counts(&checked.by_status)));
        text.push_str(&table("attempts by cause of their end", counts(&checked.attempts)));
        text.push_str(&format!(
            "{} uploads were acknowledged; {} leases were lost; processes were looked at {} times.\n\n",
            checked.uploads, checked.lost_leases, checked.samples
        ));
        if checked.violations.is_empty() {
            text.push_str("I1 to I6 held.\n\n");
        }
        for violation in &checked.violations {
            text.push_str(&format!("- **{violation}**\n"));
        }
        text.push_str(&format!(
            "jobs: {}  kills: {}  resumes: {}  violations: {}\n",
            checked.jobs,
            self.tally.kills(),
            checked.resumes,
            checked.violations.len()
        ));
        text
    }
}
