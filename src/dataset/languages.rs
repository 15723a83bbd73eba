//! Which languages the texts of a file are likely written in.

use std::collections::BTreeMap;

use whatlang::{Lang, detect};

use crate::domain::report::Note;

/// How many texts are looked at, spread evenly over the file, and how many characters of each.
const MOST_TEXTS: usize = 1024;
const MOST_CHARACTERS: usize = 400;

/// What ISO 639-3 calls a language that could not be told.
const UNDETERMINED: &str = "und";

/// Some texts of a file: each, or of many every second, fourth and so on.
#[derive(Debug)]
pub(super) struct Languages {
    texts: Vec<String>,
    seen: usize,
    every: usize,
}

impl Default for Languages {
    fn default() -> Self {
        Self { texts: Vec::new(), seen: 0, every: 1 }
    }
}

impl Languages {
    /// Sees a text of the file.
    pub(super) fn add(&mut self, text: &str) {
        if self.seen.is_multiple_of(self.every) && self.texts.len() == MOST_TEXTS {
            let mut number = 0;
            self.texts.retain(|_| {
                number += 1;
                number % 2 == 1
            });
            self.every *= 2;
        }
        if self.seen.is_multiple_of(self.every) {
            self.texts.push(text.chars().take(MOST_CHARACTERS).collect());
        }
        self.seen += 1;
    }

    /// Code of ISO 639-3 to how many of the texts looked at are likely in that language. A text too short to tell, or in none
    /// that is known, counts as `und`.
    pub(super) fn likely(&self) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        for text in &self.texts {
            let told = detect(text).filter(whatlang::Info::is_reliable).map_or(UNDETERMINED, |info| info.lang().code());
            *found.entry(told.to_owned()).or_default() += 1;
        }
        found
    }
}

/// What there is to say of texts in several languages: a few that are told wrongly are no mix.
pub(super) fn mix(likely: &BTreeMap<String, u64>) -> Option<Note> {
    const FEWEST: u64 = 5;
    const SHARE: u64 = 20;
    let mut told: Vec<(&str, u64)> =
        likely.iter().filter(|(code, _)| *code != UNDETERMINED).map(|(code, &count)| (code.as_str(), count)).collect();
    let all: u64 = told.iter().map(|(_, count)| count).sum();
    told.retain(|(_, count)| *count >= FEWEST && SHARE * count >= all);
    // Short Japanese texts may well be in Chinese characters alone.
    if told.iter().any(|(code, _)| *code == Lang::Jpn.code()) {
        told.retain(|(code, _)| *code != Lang::Cmn.code());
    }
    told.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let name = |code: &str| Lang::from_code(code).map_or_else(|| code.to_owned(), |lang| lang.eng_name().to_owned());
    let named: Vec<String> = told.iter().map(|&(code, count)| format!("{} {count}", name(code))).collect();
    (told.len() > 1).then(|| {
        let message = format!(
            "The texts are likely in several languages; of {all} whose language could be told: {}. A model that was \
             pre-trained in one of them learns little from the others.",
            named.join(", ")
        );
        Note::info("languages_mixed", message)
    })
}

#[cfg(test)]
mod tests {
    use super::{Languages, MOST_TEXTS, mix};

    const ENGLISH: &str = "My card has not arrived yet and I would like to know where it is at the moment.";
    const GERMAN: &str = "Meine Karte ist noch nicht angekommen, und ich möchte wissen, wo sie gerade ist.";

    fn told(texts: impl Iterator<Item = &'static str>) -> (Vec<(String, u64)>, Option<String>) {
        let mut languages = Languages::default();
        texts.for_each(|text| languages.add(text));
        let likely = languages.likely();
        let note = mix(&likely).map(|note| note.message);
        (likely.into_iter().collect(), note)
    }

    #[test]
    fn languages_are_counted_and_a_mix_is_told() {
        let some = |german: usize| (0..40).map(move |i| if i < german { GERMAN } else { ENGLISH });
        let of = |code: &str, count| (code.to_owned(), count);
        assert_eq!(told(some(0)), (vec![of("eng", 40)], None));
        assert_eq!(told(some(4)), (vec![of("deu", 4), of("eng", 36)], None));
        let (likely, note) = told(some(10).chain(["ok"; 7]));
        assert_eq!(likely, [of("deu", 10), of("eng", 30), of("und", 7)]);
        assert!(note.unwrap().contains("of 40 whose language could be told: English 30, German 10."));
    }

    #[test]
    fn japanese_in_chinese_characters_is_no_mix() {
        let texts = ["返金申請", "解約手続", "住所変更", "請求書再発行", "パスワードを忘れた", "カードをなくした"];
        let (likely, note) = told(texts.into_iter().cycle().take(120));
        assert!(likely.iter().any(|(code, _)| code == "jpn") && note.is_none(), "{likely:?} {note:?}");
    }

    #[test]
    fn of_many_texts_some_of_the_whole_file_are_looked_at() {
        for all in [MOST_TEXTS, MOST_TEXTS + 1, 5 * MOST_TEXTS, 100_000] {
            let (likely, _) = told((0..all).map(|i| if 4 * i < all { GERMAN } else { ENGLISH }));
            let [(_, german), (_, english)] = &likely[..] else { panic!("{likely:?}") };
            let looked_at = german + english;
            assert!(looked_at as usize > MOST_TEXTS / 2 && looked_at as usize <= MOST_TEXTS, "{likely:?}");
            assert!((looked_at / 4).abs_diff(*german) <= 1, "{likely:?}");
        }
    }
}
