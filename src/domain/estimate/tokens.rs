//! How many tokens texts come to, estimated from their lengths.

use super::super::model::ModelFacts;
use super::super::report::Lengths;

/// Characters of a token, and tokens that every text gets besides, as English through `WordPiece` has them.
const CHARACTERS_PER_TOKEN: f64 = 4.2;
const SPECIAL_TOKENS: f64 = 2.0;

/// Tokens of a text: mean, standard deviation, and most.
#[derive(Clone, Copy)]
pub(super) struct Tokens {
    pub(super) mean: f64,
    pub(super) deviation: f64,
    pub(super) most: f64,
}

/// What language models make of a text more than encoders do: digits and rare words by themselves, and the words of a chat
/// template around it.
const OF_LANGUAGE_MODELS: f64 = 1.3;
const TEMPLATE_TOKENS: f64 = 40.0;

impl Tokens {
    /// The same of a model's own tokenizer.
    pub(super) fn as_read_by(self, model: &ModelFacts, longest: u32) -> Self {
        if !model.backbone.is_language_model() {
            return self;
        }
        let read = |tokens: f64| (OF_LANGUAGE_MODELS * tokens + TEMPLATE_TOKENS).min(f64::from(longest));
        Self { mean: read(self.mean), deviation: OF_LANGUAGE_MODELS * self.deviation, most: read(self.most) }
    }

    /// Rows that are filled with texts of so many tokens together.
    pub(super) fn of_rows(longest: u32, all: f64) -> Self {
        let row = f64::from(longest).min(all);
        Self { mean: row, deviation: 0.0, most: row }
    }
}

/// Of texts of these lengths, cut to `longest` tokens.
pub(super) fn tokens(lengths: &Lengths, longest: u32) -> Tokens {
    let of = |characters: f64| (characters / CHARACTERS_PER_TOKEN + SPECIAL_TOKENS).min(f64::from(longest));
    let count = lengths.texts().max(1) as f64;
    // A bucket holds lengths from half its bound to the bound.
    let squares = |mean: f64| {
        let spread = lengths.histogram.iter().map(|(&bound, &n)| n as f64 * (of(0.75 * bound as f64) - mean).powi(2));
        spread.sum::<f64>() / count
    };
    let mean = of(lengths.mean);
    Tokens { mean, deviation: squares(mean).sqrt(), most: of(lengths.max as f64) }
}

/// About which share of texts of these lengths is cut to `longest` tokens; within a bucket lengths are taken as even.
pub fn truncated_share(lengths: &Lengths, longest: u32) -> f64 {
    let kept = (f64::from(longest) - SPECIAL_TOKENS).max(0.0) * CHARACTERS_PER_TOKEN;
    let cut = lengths.histogram.iter().map(|(&bound, &count)| {
        let (lower, upper) = (0.5 * bound as f64, (bound as f64).min(lengths.max as f64));
        count as f64 * ((upper - kept) / (upper - lower).max(1.0)).clamp(0.0, 1.0)
    });
    cut.sum::<f64>() / lengths.texts().max(1) as f64
}
