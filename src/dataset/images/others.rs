//! The files of an archive that are no images: passed over, and counted by what their names end in.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::sniff::Other;
use crate::domain::report::{Note, Place, Sightings};

/// How many endings are counted by name.
const MAX_ENDINGS: usize = 20;

/// What is said of files whose names have no ending that is short and plain.
const NO_ENDING: &str = "no ending";

/// Files that are no images.
#[derive(Debug, Default)]
pub(super) struct Others {
    litter: u64,
    by_ending: BTreeMap<String, u64>,
    /// Those whose ending is not counted by name.
    rest: u64,
    /// What one of them is that could hold images, such as a document or an archive, and the first such file.
    holds: Option<(&'static str, Place)>,
    first: Place,
}

impl Others {
    pub(super) fn add_litter(&mut self) {
        self.litter += 1;
    }

    /// Counts a file by its ending, and takes note of what it is.
    pub(super) fn add(&mut self, ending: Option<String>, other: Option<Other>, place: &Place) {
        if self.first.member.is_none() {
            self.first = place.clone();
        }
        if let Some(other) = other.filter(|_| self.holds.is_none()) {
            self.holds = Some((other.name, place.clone()));
        }
        let ending = ending.map_or_else(|| NO_ENDING.to_owned(), |ending| format!(".{ending}"));
        if self.by_ending.len() < MAX_ENDINGS || self.by_ending.contains_key(&ending) {
            *self.by_ending.entry(ending).or_default() += 1;
        } else {
            self.rest += 1;
        }
    }

    /// What a file with this ending is counted as.
    pub(super) fn word(&self, ending: Option<&str>) -> Cow<'static, str> {
        let ending = ending.map_or_else(|| NO_ENDING.to_owned(), |ending| format!(".{ending}"));
        match self.by_ending.get(&ending) {
            Some(_) => format!("no image ({ending})").into(),
            None => "no image (other endings)".into(),
        }
    }

    /// What is to be said of them, if there are any.
    pub(super) fn note(&self) -> Option<Note> {
        if self.count() == 0 {
            return None;
        }
        let message = format!(
            "Files that are no images were passed over: {}. dataset.other_files \"refuse\" makes each a fault.",
            self.list()
        );
        Some(match &self.holds {
            None => Note::info("other_files", message),
            Some((what, place)) => {
                let name = place.member.as_deref().unwrap_or_default();
                Note::warning("other_files", format!("{message} {name} is {what}; images in it are not read."))
                    .on(&Sightings { count: 1, lines: vec![place.line] })
            }
        })
    }

    /// What is said of an archive that holds nothing but these.
    pub(super) fn instead_of_images(&self) -> String {
        if self.count() == 0 {
            let litter = if self.litter > 0 { ", only files that systems left behind" } else { "" };
            return format!("the file holds no images{litter}");
        }
        let first = self.first.member.as_deref().unwrap_or_default();
        let what = self.holds.as_ref().map(|(what, place)| {
            let name = place.member.as_deref().unwrap_or_default();
            format!("; {name} is {what}")
        });
        format!(
            "the archive holds no images (JPEG, PNG, WebP), but other files: {}, such as {first}{}",
            self.list(),
            what.unwrap_or_default()
        )
    }

    fn count(&self) -> u64 {
        self.by_ending.values().sum::<u64>() + self.rest
    }

    fn list(&self) -> String {
        let rest = (self.rest > 0).then_some(("other endings", &self.rest));
        let named = self.by_ending.iter().map(|(ending, count)| (ending.as_str(), count));
        named.chain(rest).map(|(what, count)| format!("{count} × {what}")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_ENDINGS, Other, Others};
    use crate::domain::report::Place;

    fn place(member: &str) -> Place {
        Place { line: 3, member: Some(member.to_owned()) }
    }

    fn others(endings: &[Option<&str>]) -> Others {
        let mut others = Others::default();
        for ending in endings {
            others.add(ending.map(str::to_owned), None, &place("a/first"));
        }
        others
    }

    #[test]
    fn files_are_counted_by_their_endings_and_endings_are_bounded() {
        let found = others(&[Some("txt"), None, Some("txt"), Some("csv")]);
        assert_eq!(found.word(Some("txt")), "no image (.txt)");
        assert_eq!(found.word(None), "no image (no ending)");
        let note = found.note().unwrap();
        assert!(note.message.contains("passed over: 1 × .csv, 2 × .txt, 1 × no ending."), "{}", note.message);
        assert!(!note.warning);
        let many: Vec<String> = (0..30).map(|i| format!("e{i}")).collect();
        let many = others(&many.iter().map(|ending| Some(ending.as_str())).collect::<Vec<_>>());
        assert_eq!(many.by_ending.len(), MAX_ENDINGS);
        assert_eq!(many.word(Some("e29")), "no image (other endings)");
        assert!(many.note().unwrap().message.contains("10 × other endings"));
    }

    #[test]
    fn an_archive_without_images_says_what_it_holds() {
        assert_eq!(Others::default().instead_of_images(), "the file holds no images");
        let mut found = others(&[Some("csv")]);
        found.add_litter();
        assert!(found.instead_of_images().ends_with("other files: 1 × .csv, such as a/first"));
        found.add(Some("pdf".to_owned()), Other::of(b"%PDF-1.7"), &place("a/scan.pdf"));
        assert!(found.instead_of_images().ends_with("a/scan.pdf is a PDF document"));
        let note = found.note().unwrap();
        assert_eq!((note.warning, note.lines.as_slice()), (true, &[3][..]));
    }
}
