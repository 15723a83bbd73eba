//! What requests for texts have in common: how tokens are chosen, and what ends a text.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::Value;

use crate::app::serving::Wanted;
use crate::domain::error::{Error, Result};
use crate::domain::serving::{Prompt, Sampling};

/// Texts that one request may want of one prompt, and of all of its prompts together.
const MOST_CHOICES: u64 = 16;
const MOST_TEXTS: usize = 128;
/// Texts that may end a text.
const MOST_STOPS: usize = 4;

/// OpenAI's fields, as sent.
#[derive(Default)]
pub(super) struct Options {
    pub(super) n: Option<u64>,
    pub(super) temperature: Option<f64>,
    pub(super) top_p: Option<f64>,
    pub(super) frequency_penalty: Option<f64>,
    pub(super) presence_penalty: Option<f64>,
    pub(super) logit_bias: Option<BTreeMap<String, f64>>,
    pub(super) stop: Option<Value>,
    pub(super) seed: Option<i64>,
}

/// How an answer is streamed.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StreamOptions {
    /// Whether a last chunk tells the tokens of the whole request.
    #[serde(default)]
    pub(super) include_usage: bool,
    /// OpenAI pads chunks so that their lengths tell nothing of what they hold; these are sent as they are.
    #[serde(default, rename = "include_obfuscation")]
    _include_obfuscation: bool,
}

impl Options {
    /// The texts that are wanted of `prompts`, which come from the request's `field`: of at most `most` tokens each, with so
    /// many of the likeliest tokens.
    ///
    /// # Errors
    /// A value is not allowed; the error names it.
    pub(super) fn wanted(
        self,
        field: &'static str,
        prompts: Vec<Prompt>,
        most: Option<usize>,
        top_logprobs: Option<usize>,
    ) -> Result<Wanted> {
        let choices = whole("n", self.n, 1..=MOST_CHOICES)?.unwrap_or(1) as usize;
        let texts = choices * prompts.len();
        if texts > MOST_TEXTS {
            let message = format!("{texts} texts are wanted at once; at most {MOST_TEXTS} are allowed.");
            return Err(Error::invalid(field, message));
        }
        let penalty = |name, value| Ok::<_, Error>(real(name, value, -2.0..=2.0)?.unwrap_or(0.0));
        let sampling = Sampling {
            temperature: real("temperature", self.temperature, 0.0..=2.0)?.unwrap_or(1.0),
            top_p: real("top_p", self.top_p, 0.0..=1.0)?.unwrap_or(1.0),
            seed: match self.seed {
                Some(seed) => seed.cast_unsigned(),
                None => getrandom::u64().map_err(|error| Error::internal(error.to_string()))?,
            },
            frequency_penalty: penalty("frequency_penalty", self.frequency_penalty)?,
            presence_penalty: penalty("presence_penalty", self.presence_penalty)?,
            logit_bias: self.logit_bias.unwrap_or_default().into_iter().map(bias).collect::<Result<_>>()?,
            top_logprobs,
        };
        Ok(Wanted { field, prompts, choices, sampling, stop: stops("stop", self.stop)?, most })
    }
}

/// How an answer is streamed; None where it is not.
///
/// # Errors
/// There are options for what is not streamed.
pub(super) fn stream(stream: Option<bool>, options: Option<StreamOptions>) -> Result<Option<StreamOptions>> {
    match (stream, options) {
        (Some(true), options) => Ok(Some(options.unwrap_or_default())),
        (_, None) => Ok(None),
        (_, Some(_)) => {
            let message = "The 'stream_options' parameter is only allowed when 'stream' is enabled.";
            Err(Error::invalid("stream_options", message))
        }
    }
}

/// A whole number within bounds.
///
/// # Errors
/// It is outside.
pub(super) fn whole(name: &str, value: Option<u64>, allowed: RangeInclusive<u64>) -> Result<Option<u64>> {
    match value {
        Some(number) if !allowed.contains(&number) => {
            let (least, most) = allowed.into_inner();
            let allowed = if most == u64::MAX { format!("at least {least}") } else { format!("{least} to {most}") };
            Err(Error::invalid(name, format!("{name} is {number}; it must be {allowed}.")))
        }
        value => Ok(value),
    }
}

/// A number within bounds.
///
/// # Errors
/// It is outside.
pub(super) fn real(name: &str, value: Option<f64>, allowed: RangeInclusive<f64>) -> Result<Option<f64>> {
    match value {
        Some(number) if !allowed.contains(&number) => {
            let message = format!("{name} is {number}; it must be {} to {}.", allowed.start(), allowed.end());
            Err(Error::invalid(name, message))
        }
        value => Ok(value),
    }
}

fn bias((token, bias): (String, f64)) -> Result<(u32, f64)> {
    let refuse = |what: String| Err(Error::invalid("logit_bias", format!("logit_bias {what}.")));
    let Ok(id) = token.parse() else {
        return refuse("has a key that is no id of a token; its keys are such ids, as in {\"50256\": -100}".to_owned());
    };
    if (-100.0..=100.0).contains(&bias) {
        Ok((id, bias))
    } else {
        refuse(format!("has {bias}; it must be -100 to 100"))
    }
}

/// Texts that end a text, of the field `name`.
///
/// # Errors
/// It holds something else.
pub(super) fn stops(name: &str, stop: Option<Value>) -> Result<Vec<String>> {
    let refuse = |what: &str| {
        let message =
            format!("{name} {what}; it must be a text, or a list of 1 to {MOST_STOPS} texts, none of them empty.");
        Err(Error::invalid(name, message))
    };
    let texts = match stop {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(texts)) => texts,
        Some(text) => vec![text],
    };
    if texts.is_empty() || texts.len() > MOST_STOPS {
        return refuse(&format!("has {} texts", texts.len()));
    }
    let texts: Option<Vec<String>> = texts.iter().map(|text| text.as_str().map(str::to_owned)).collect();
    match texts {
        Some(texts) if texts.iter().all(|text| !text.is_empty()) => Ok(texts),
        Some(_) => refuse("has an empty text"),
        None => refuse("holds something else than texts"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::{Options, Prompt};

    fn prompts(count: usize) -> Vec<Prompt> {
        vec![Prompt::Text("a".to_owned()); count]
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let bias = |key: &str, value| Some(BTreeMap::from([(key.to_owned(), value)]));
        for (options, param, message) in [
            (Options { n: Some(0), ..Options::default() }, "n", "n is 0; it must be 1 to 16."),
            (Options { temperature: Some(2.1), ..Options::default() }, "temperature", "must be 0 to 2."),
            (Options { temperature: Some(f64::NAN), ..Options::default() }, "temperature", "is NaN"),
            (Options { top_p: Some(-0.1), ..Options::default() }, "top_p", "must be 0 to 1."),
            (Options { presence_penalty: Some(3.0), ..Options::default() }, "presence_penalty", "must be -2 to 2."),
            (Options { logit_bias: bias("a", 1.0), ..Options::default() }, "logit_bias", "no id of a token"),
            (Options { logit_bias: bias("1", 101.0), ..Options::default() }, "logit_bias", "must be -100 to 100"),
            (Options { stop: Some(json!(3)), ..Options::default() }, "stop", "holds something else than texts"),
            (Options { stop: Some(json!([])), ..Options::default() }, "stop", "has 0 texts"),
            (Options { stop: Some(json!(["a", ""])), ..Options::default() }, "stop", "has an empty text"),
            (Options { stop: Some(json!(["a", "b", "c", "d", "e"])), ..Options::default() }, "stop", "has 5 texts"),
            (Options { n: Some(16), ..Options::default() }, "prompt", "144 texts are wanted at once"),
        ] {
            let error = options.wanted("prompt", prompts(9), None, None).unwrap_err();
            assert_eq!(error.param.as_deref(), Some(param));
            assert!(error.message.contains(message), "{}", error.message);
        }
    }

    #[test]
    fn what_is_absent_is_as_at_openai() {
        let wanted = Options::default().wanted("prompt", prompts(1), None, None).unwrap();
        let sampling = &wanted.sampling;
        assert_eq!((wanted.choices, sampling.temperature, sampling.top_p, wanted.stop.len()), (1, 1.0, 1.0, 0));
        let other = Options::default().wanted("prompt", prompts(1), None, None).unwrap();
        assert_ne!(sampling.seed, other.sampling.seed, "without a seed each text is another");
        let options = Options { seed: Some(-1), stop: Some(json!("END")), ..Options::default() };
        let wanted = options.wanted("prompt", prompts(1), Some(3), Some(0)).unwrap();
        assert_eq!((wanted.sampling.seed, wanted.stop[0].as_str(), wanted.most), (u64::MAX, "END", Some(3)));
    }
}
