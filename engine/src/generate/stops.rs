//! Texts at which a text ends, found across the pieces that it comes in.

/// Looks for texts in what is pushed, and holds back what may be the beginning of one.
#[derive(Debug)]
pub struct Stops {
    texts: Vec<String>,
    held: String,
    met: bool,
}

impl Stops {
    /// For these texts; empty ones are none.
    pub fn new(texts: Vec<String>) -> Self {
        Self { texts: texts.into_iter().filter(|text| !text.is_empty()).collect(), held: String::new(), met: false }
    }

    /// Takes a piece, and gives what is sure to be part of the text: up to the first of the texts, if one is there now.
    pub fn push(&mut self, piece: &str) -> String {
        if self.met {
            return String::new();
        }
        self.held.push_str(piece);
        if let Some(end) = self.texts.iter().filter_map(|text| self.held.find(text.as_str())).min() {
            self.met = true;
            self.held.truncate(end);
            return std::mem::take(&mut self.held);
        }
        let kept = self.texts.iter().map(|text| overlap(&self.held, text)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - kept);
        std::mem::replace(&mut self.held, rest)
    }

    /// Whether one of the texts was found.
    pub fn are_met(&self) -> bool {
        self.met
    }

    /// What is still held back, at the end.
    pub fn rest(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

/// Bytes at the end of `held` that `text` begins with.
fn overlap(held: &str, text: &str) -> usize {
    let ends = (1..text.len()).rev().filter(|&end| text.is_char_boundary(end));
    ends.into_iter().find(|&end| held.ends_with(&text[..end])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::Stops;
    use finetuned::domain::random::mix_all;

    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let mut found = Stops::new(stops.iter().map(|&stop| stop.to_owned()).collect());
        let mut text: String = pieces.iter().map(|piece| found.push(piece)).collect();
        if !found.are_met() {
            text.push_str(&found.rest());
        }
        (text, found.are_met())
    }

    #[test]
    fn texts_end_before_the_first_that_ends_them_however_they_are_cut() {
        assert_eq!(run(&["END"], &["a E", "N", "D b"]), ("a ".to_owned(), true));
        assert_eq!(run(&["END"], &["a E", "N"]), ("a EN".to_owned(), false));
        assert_eq!(run(&["\n\n", "b"], &["a\n", "x\n", "\nb"]), ("a\nx".to_owned(), true));
        assert_eq!(run(&["éa"], &["xé", "éa"]), ("xé".to_owned(), true));
        assert_eq!(run(&[""], &["a", ""]), ("a".to_owned(), false));
        assert_eq!(run(&[], &["a", "b"]), ("ab".to_owned(), false));
    }

    #[test]
    fn the_cuts_never_matter() {
        let alphabet = ["a", "b", "é", "ab"];
        for case in 0..2000 {
            let draw = |what: u64, below: u64| mix_all(&[case, what]) % below;
            let text = |from: u64, count: u64| -> String {
                (0..count).map(|i| alphabet[draw(from + i, 4) as usize]).collect()
            };
            let (whole, stops) = (text(0, 12), [text(100, 1 + draw(99, 3)), text(200, 1 + draw(98, 3))]);
            let end = stops.iter().filter_map(|stop| whole.find(stop.as_str())).min();
            let characters: Vec<String> = whole.chars().map(String::from).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (found, met) = run(&stops, &characters.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(met, end.is_some());
            // Character by character a stop that begins later but ends sooner is met first.
            assert!(whole.starts_with(&found), "{whole} {stops:?} {found}");
            let (at_once, _) = run(&stops, &[&whole]);
            assert_eq!(at_once, whole[..end.unwrap_or(whole.len())]);
        }
    }
}
