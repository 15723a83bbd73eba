//! How similar two texts are: OpenAI's `evaluation_metric`s, each a name and a formula.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{bleu, fuzzy, rouge};

/// A measure of similarity. Two are equal if their names are.
#[derive(Clone, Copy)]
pub struct Similarity {
    name: &'static str,
    formula: fn(&str, &str) -> f64,
}

/// All of them. OpenAI's `meteor` needs `WordNet`, and its `cosine` a model of embeddings.
pub const SIMILARITIES: [Similarity; 9] = [
    Similarity { name: "fuzzy_match", formula: fuzzy::ratio },
    Similarity { name: "bleu", formula: bleu::bleu },
    Similarity { name: "gleu", formula: bleu::gleu },
    Similarity { name: "rouge_1", formula: |input, reference| rouge::rouge_n(input, reference, 1) },
    Similarity { name: "rouge_2", formula: |input, reference| rouge::rouge_n(input, reference, 2) },
    Similarity { name: "rouge_3", formula: |input, reference| rouge::rouge_n(input, reference, 3) },
    Similarity { name: "rouge_4", formula: |input, reference| rouge::rouge_n(input, reference, 4) },
    Similarity { name: "rouge_5", formula: |input, reference| rouge::rouge_n(input, reference, 5) },
    Similarity { name: "rouge_l", formula: rouge::rouge_l },
];

impl Similarity {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        self.name
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        SIMILARITIES.into_iter().find(|one| one.name == word)
    }

    /// How similar `input` is to `reference`: 0 to 1.
    pub fn score(self, input: &str, reference: &str) -> f64 {
        (self.formula)(input, reference)
    }
}

impl PartialEq for Similarity {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl fmt::Debug for Similarity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for Similarity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for Similarity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let word = String::deserialize(deserializer)?;
        Self::parse(&word).ok_or_else(|| D::Error::custom("no known evaluation_metric"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::{SIMILARITIES, Similarity};

    #[derive(Deserialize)]
    struct Golden {
        input: String,
        reference: String,
        scores: BTreeMap<String, f64>,
    }

    /// Values of sacrebleu, NLTK, rouge-score and rapidfuzz: `golden/similarities.py` makes them.
    #[test]
    fn scores_are_those_of_the_reference_implementations() {
        let pairs: Vec<Golden> = serde_json::from_str(include_str!("golden/similarities.json")).unwrap();
        assert!(pairs.len() >= 40, "{}", pairs.len());
        for Golden { input, reference, scores } in pairs {
            assert_eq!(scores.len(), SIMILARITIES.len());
            for (name, expected) in scores {
                let found = Similarity::parse(&name).unwrap().score(&input, &reference);
                assert!((found - expected).abs() < 1e-9, "{name} of {input:?} and {reference:?}: {found}, {expected}");
            }
        }
    }

    #[test]
    fn words_of_every_script_are_words() {
        // rouge-score knows those of a to z alone.
        let rouge = |input, reference| Similarity::parse("rouge_1").unwrap().score(input, reference);
        assert_eq!(rouge("Ärger über Öl", "ärger über öl"), 1.0);
        assert_eq!(rouge("новая карта", "моя новая карта"), 0.8);
        assert!(Similarity::parse("meteor").is_none());
    }
}
