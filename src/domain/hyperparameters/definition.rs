//! What a hyperparameter is: name, rule, default and meaning.

use serde_json::Value;

use super::objects::Refused;

/// Which values a hyperparameter takes.
#[derive(Clone, Copy, Debug)]
pub enum Rule {
    /// An integer within bounds, both included.
    Integer {
        min: i64,
        max: i64,
    },
    /// A finite number above (or from) `min`, up to (or below) `max`.
    Number {
        min: f64,
        min_included: bool,
        max: f64,
        max_included: bool,
    },
    /// One of these words.
    Word(&'static [&'static str]),
    /// `"epoch"` or a number of steps from 1.
    Interval,
    Flag,
    /// A word or an object, checked by a function of its own; the text says what is allowed, `fields` which fields an
    /// object has, and their defaults.
    Object {
        check: fn(&Value) -> Result<(), Refused>,
        allowed: &'static str,
        fields: fn() -> Value,
    },
}

/// What holds where the client says nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum DefaultValue {
    /// Nothing: another hyperparameter decides.
    Absent,
    Integer(i64),
    Number(f64),
    Word(&'static str),
    Flag(bool),
}

impl DefaultValue {
    /// As JSON; null where absent.
    pub fn value(self) -> Value {
        match self {
            Self::Absent => Value::Null,
            Self::Integer(value) => value.into(),
            Self::Number(value) => value.into(),
            Self::Word(value) => value.into(),
            Self::Flag(value) => value.into(),
        }
    }
}

/// One hyperparameter.
#[derive(Clone, Copy, Debug)]
pub struct Definition {
    pub name: &'static str,
    pub rule: Rule,
    /// Whether `"auto"` is a value too.
    pub auto: bool,
    pub default: DefaultValue,
    /// What it means, in one line.
    pub doc: &'static str,
    /// Whether it decides what is computed. A run goes on only from checkpoints of runs that agree in these.
    pub shapes_training: bool,
    /// Whether an evaluation depends on it, too.
    pub evaluates: bool,
}

impl Definition {
    /// Checks `value` against the rule.
    ///
    /// # Errors
    /// Why it is refused, and where in it.
    pub fn check(&self, value: &Value) -> Result<(), Refused> {
        let within = match self.rule {
            _ if self.auto && value == "auto" => true,
            Rule::Object { check, .. } => return check(value),
            Rule::Integer { min, max } => value.as_i64().is_some_and(|n| (min..=max).contains(&n)),
            Rule::Number { min, min_included, max, max_included } => value.as_f64().is_some_and(|n| {
                n.is_finite() && (n > min || (min_included && n == min)) && (n < max || (max_included && n == max))
            }),
            Rule::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Rule::Interval => value == "epoch" || value.as_i64().is_some_and(|n| (1..=MOST_STEPS).contains(&n)),
            Rule::Flag => value.is_boolean(),
        };
        if within { Ok(()) } else { Err((String::new(), String::new())) }
    }

    /// The rule in words.
    pub fn allowed(&self) -> String {
        let rule = match self.rule {
            Rule::Integer { min, max } => format!("an integer from {min} to {max}"),
            Rule::Number { min, min_included, max, max_included } => {
                let low = if min_included { "from" } else { "above" };
                let high = if max_included { "up to" } else { "below" };
                format!("a number {low} {min} and {high} {max}")
            }
            Rule::Word(words) => words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", "),
            Rule::Interval => format!("\"epoch\" or an integer from 1 to {MOST_STEPS}"),
            Rule::Flag => "true or false".to_owned(),
            Rule::Object { allowed, .. } => allowed.to_owned(),
        };
        if self.auto { format!("\"auto\" or {rule}") } else { rule }
    }
}

const MOST_STEPS: i64 = 1_000_000_000;

/// From 0 up to `max`.
pub(in crate::domain) const fn from_zero(max: f64, max_included: bool) -> Rule {
    Rule::Number { min: 0.0, min_included: true, max, max_included }
}

/// Above 0 and up to `max`.
pub(in crate::domain) const fn above_zero(max: f64) -> Rule {
    Rule::Number { min: 0.0, min_included: false, max, max_included: true }
}
