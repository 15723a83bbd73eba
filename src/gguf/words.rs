//! How texts are split into words before BPE on bytes, by the names that llama.cpp has for it (`tokenizer.ggml.pre`),
//! as the pre-tokenizers of `tokenizer.json` that models had which were converted under these names.

use serde_json::{Value, json};

use super::architecture::Architecture;

/// A way to split texts.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Words {
    /// Its names, the usual one first.
    names: &'static [&'static str],
    /// Whether every digit is a word.
    digits: bool,
    /// What words match, one pattern after another; none means GPT-2's, which `ByteLevel` has itself.
    patterns: &'static [&'static str],
    /// Whether texts are composed (NFC) first.
    composes: bool,
    /// Whether a word that is a token becomes it, whatever its merges lead to. Where it does, texts begin with a token
    /// for that, if the file does not say otherwise.
    pub(super) ignores_merges: bool,
}

const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|",
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
    r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|",
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+",
);

const GPT2: Words =
    Words { names: &["gpt-2", "phi-2"], digits: false, patterns: &[], composes: false, ignores_merges: false };

static WORDS: [Words; 8] = [
    GPT2,
    Words { names: &["smollm", "starcoder", "refact"], digits: true, ..GPT2 },
    Words {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"],
        patterns: &[LLAMA3],
        ignores_merges: true,
        ..GPT2
    },
    Words { names: &["smaug-bpe", "dbrx"], patterns: &[LLAMA3], ..GPT2 },
    Words { names: &["qwen2", "deepseek-r1-qwen", "megrez"], patterns: &[QWEN2], composes: true, ..GPT2 },
    Words { names: &["tekken"], patterns: &[TEKKEN], ignores_merges: true, ..GPT2 },
    Words { names: &["gpt-4o"], patterns: &[GPT4O], ..GPT2 },
    Words {
        names: &["deepseek-coder"],
        digits: true,
        patterns: &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+"],
        ..GPT2
    },
];

impl Words {
    /// Of a name in a GGUF file.
    ///
    /// # Errors
    /// It is none of those that are known.
    pub(super) fn named(name: &str) -> Result<&'static Self, String> {
        WORDS.iter().find(|words| words.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> = WORDS.iter().flat_map(|words| words.names).copied().collect();
            let known = known.join(", ");
            format!(
                "the GGUF file splits texts into words as {name} does (tokenizer.ggml.pre), which is not supported; \
                 supported: {known}"
            )
        })
    }

    /// Of a file that does not say it, as old ones: what models of its architecture mostly have.
    pub(super) fn usual(architecture: Architecture, begins_like_llama3: bool) -> Result<&'static Self, String> {
        Self::named(match architecture {
            Architecture::Qwen2 | Architecture::Qwen3 => "qwen2",
            Architecture::Llama if begins_like_llama3 => "llama-bpe",
            _ => "gpt-2",
        })
    }

    /// The usual name of it.
    pub(super) fn name(&self) -> &'static str {
        self.names.first().copied().unwrap_or_default()
    }

    /// The field `normalizer` of `tokenizer.json`.
    pub(super) fn normalizer(&self) -> Value {
        if self.composes { json!({"type": "NFC"}) } else { Value::Null }
    }

    /// The field `pre_tokenizer` of `tokenizer.json`.
    pub(super) fn pre_tokenizer(&self) -> Value {
        let mut parts: Vec<Value> = self.patterns.iter().map(|pattern| split(pattern)).collect();
        if self.digits {
            parts.push(json!({"type": "Digits", "individual_digits": true}));
        }
        let has_own = self.patterns.is_empty();
        let bytes = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": has_own});
        if parts.is_empty() {
            return bytes;
        }
        parts.push(bytes);
        json!({"type": "Sequence", "pretokenizers": parts})
    }

    /// Of the fields of a `tokenizer.json`; None if llama.cpp has no name for it.
    pub(super) fn recognised(pre_tokenizer: &Value, ignores_merges: bool) -> Option<&'static Self> {
        let parts = match pre_tokenizer["pretokenizers"].as_array() {
            Some(parts) => parts.as_slice(),
            None => std::slice::from_ref(pre_tokenizer),
        };
        let (bytes, others) = parts.split_last()?;
        if bytes["type"] != "ByteLevel" || bytes["add_prefix_space"] == true {
            return None;
        }
        let is_digits = |part: &&Value| part["type"] == "Digits" && part["individual_digits"] == true;
        let digits = others.iter().filter(is_digits).count();
        let patterns: Vec<&str> = others.iter().filter_map(pattern).collect();
        if digits + patterns.len() != others.len()
            || patterns.is_empty() != bytes["use_regex"].as_bool().unwrap_or(true)
        {
            return None;
        }
        let is_same = |words: &&Words| {
            words.patterns == patterns && words.digits == (digits == 1) && words.ignores_merges == ignores_merges
        };
        WORDS.iter().find(is_same)
    }
}

fn split(pattern: &str) -> Value {
    json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
}

/// The pattern whose matches are words.
fn pattern(part: &Value) -> Option<&str> {
    let is_inverted = part["invert"] == true;
    // What matches is kept, and nothing is left between.
    let keeps = part["behavior"] == if is_inverted { "Removed" } else { "Isolated" };
    (part["type"] == "Split" && keeps).then(|| part["pattern"]["Regex"].as_str())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_is_recognised_in_what_is_written_of_it() {
        for words in &WORDS {
            for name in words.names {
                assert_eq!(Words::named(name), Ok(words));
            }
            assert_eq!(Words::recognised(&words.pre_tokenizer(), words.ignores_merges), Some(words));
        }
    }

    #[test]
    fn other_names_and_pre_tokenizers_are_none() {
        let refused = Words::named("viking").unwrap_err();
        assert!(
            refused.contains(
                "as viking does (tokenizer.ggml.pre), which is not supported; supported: gpt-2, phi-2, smollm"
            )
        );
        assert_eq!(Words::recognised(&json!({"type": "Whitespace"}), false), None);
        assert_eq!(Words::recognised(&Value::Null, false), None);
        let prefixed = json!({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true});
        assert_eq!(Words::recognised(&prefixed, false), None);
        let inverted = json!({
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Removed", "invert": true},
                {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false},
            ],
        });
        assert_eq!(Words::recognised(&inverted, false).map(Words::name), Some("qwen2"));
        let bare = json!({"type": "ByteLevel", "add_prefix_space": false, "use_regex": false});
        assert_eq!(Words::recognised(&bare, false), None);
    }

    #[test]
    fn a_file_that_does_not_say_splits_as_its_architecture_mostly_does() {
        let usual = |architecture, begins| Words::usual(architecture, begins).unwrap().name();
        assert_eq!(usual(Architecture::Qwen3, false), "qwen2");
        assert_eq!(usual(Architecture::Llama, true), "llama-bpe");
        assert_eq!(usual(Architecture::Gpt2, false), "gpt-2");
    }
}
