//! Which models are converted, and what llama.cpp and Transformers call them.

/// A family of models. Mistral's are written as Llama's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Architecture {
    Llama,
    Qwen2,
    Qwen3,
    Gemma,
    Gemma2,
    Gemma3,
    Phi3,
    Gpt2,
}

use Architecture::{Gemma, Gemma2, Gemma3, Gpt2, Llama, Phi3, Qwen2, Qwen3};

/// Each with its name in GGUF files, its `model_type` and its class.
const ARCHITECTURES: [(Architecture, &str, &str, &str); 8] = [
    (Llama, "llama", "llama", "LlamaForCausalLM"),
    (Qwen2, "qwen2", "qwen2", "Qwen2ForCausalLM"),
    (Qwen3, "qwen3", "qwen3", "Qwen3ForCausalLM"),
    (Gemma, "gemma", "gemma", "GemmaForCausalLM"),
    (Gemma2, "gemma2", "gemma2", "Gemma2ForCausalLM"),
    (Gemma3, "gemma3", "gemma3_text", "Gemma3ForCausalLM"),
    (Phi3, "phi3", "phi3", "Phi3ForCausalLM"),
    (Gpt2, "gpt2", "gpt2", "GPT2LMHeadModel"),
];

impl Architecture {
    /// Of the key `general.architecture`.
    ///
    /// # Errors
    /// It is not converted: what is.
    pub(super) fn from_gguf(name: &str) -> Result<Self, String> {
        let found = ARCHITECTURES.iter().find(|row| row.1 == name);
        found.map(|row| row.0).ok_or_else(|| {
            let supported: Vec<&str> = ARCHITECTURES.iter().map(|row| row.1).collect();
            let supported = supported.join(", ");
            format!(
                "the GGUF file holds a model of the architecture {name}, which is not supported; supported: {supported}"
            )
        })
    }

    /// Of the field `model_type` of `config.json`, of those that are exported.
    ///
    /// # Errors
    /// It is not exported: what is.
    pub(super) fn from_model_type(model_type: &str) -> Result<Self, String> {
        if model_type == "mistral" {
            return Ok(Llama);
        }
        let exported = || ARCHITECTURES.iter().filter(|row| row.0 != Phi3);
        exported().find(|row| row.2 == model_type).map(|row| row.0).ok_or_else(|| {
            let supported: Vec<&str> = exported().map(|row| row.2).collect();
            let supported = supported.join(", ");
            format!(
                "model_type of config.json is {model_type}, which is not exported as GGUF; supported: mistral, \
                 {supported}"
            )
        })
    }

    fn row(self) -> (&'static str, &'static str, &'static str) {
        let row = ARCHITECTURES.iter().find(|row| row.0 == self);
        row.map_or(("llama", "llama", "LlamaForCausalLM"), |row| (row.1, row.2, row.3))
    }

    /// Its name in GGUF files, which its keys begin with too.
    pub(super) fn gguf(self) -> &'static str {
        self.row().0
    }

    pub(super) fn model_type(self) -> &'static str {
        self.row().1
    }

    /// Its class in Transformers.
    pub(super) fn class(self) -> &'static str {
        self.row().2
    }

    pub(super) fn is_gemma(self) -> bool {
        matches!(self, Gemma | Gemma2 | Gemma3)
    }

    /// Whether its attention may have biases, one for each of its four matrices.
    pub(super) fn may_be_biased(self) -> bool {
        matches!(self, Llama | Qwen3)
    }

    /// What Gemma 2 and 3 divide products of queries and keys by the root of: the size of a head, in their largest
    /// models the size of a state for each head. llama.cpp tells those by their layers.
    pub(super) fn query_scalar(self, layers: u64, hidden: u64, heads: u64, head: u64) -> u64 {
        match (self, layers) {
            (Gemma2, 46) | (Gemma3, 62) => hidden / heads.max(1),
            _ => head,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_architecture_is_found_by_its_names() {
        for (architecture, gguf, model_type, class) in ARCHITECTURES {
            assert_eq!(Architecture::from_gguf(gguf), Ok(architecture));
            assert_eq!(
                (architecture.gguf(), architecture.model_type(), architecture.class()),
                (gguf, model_type, class)
            );
        }
        assert_eq!(Architecture::from_model_type("mistral"), Ok(Llama));
        assert_eq!(Architecture::from_model_type("gemma3_text"), Ok(Gemma3));
    }

    #[test]
    fn others_are_refused_with_those_that_are_supported() {
        let refused = Architecture::from_gguf("qwen3moe").unwrap_err();
        assert!(refused.contains("qwen3moe, which is not supported; supported: llama, qwen2"), "{refused}");
        let refused = Architecture::from_model_type("phi3").unwrap_err();
        assert!(refused.contains("phi3, which is not exported as GGUF; supported: mistral, llama"), "{refused}");
    }
}
