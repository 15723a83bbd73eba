//! Reading settings from flags and environment.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

use super::{ADDRESS, Setting};

/// Reads settings, and collects the faults of all of them.
pub(super) struct Reader<'a> {
    pub(super) flags: &'a BTreeMap<String, String>,
    pub(super) environment: &'a BTreeMap<String, String>,
    pub(super) faults: Vec<String>,
}

impl Reader<'_> {
    /// The flag, else the variable; an empty one counts as not given.
    pub(super) fn given(&self, setting: &Setting) -> Option<String> {
        let given = self.flags.get(setting.flag).or_else(|| self.environment.get(setting.env));
        given.filter(|text| !text.is_empty()).cloned()
    }

    pub(super) fn text(&self, setting: &Setting) -> String {
        self.given(setting).unwrap_or_else(|| setting.default.to_owned())
    }

    pub(super) fn path(&self, setting: &Setting) -> Option<PathBuf> {
        self.given(setting).map(|text| std::path::absolute(&text).unwrap_or_else(|_| text.into()))
    }

    pub(super) fn fault(&mut self, setting: &Setting, text: &str, expected: &str) {
        self.faults.push(format!("{} (--{}) is {text:?}; expected {expected}", setting.env, setting.flag));
    }

    /// Parses the value; on a fault, the default stands in until all faults are reported.
    pub(super) fn parse<T: FromStr>(&mut self, setting: &Setting, expected: &str) -> T {
        let text = self.text(setting);
        if let Ok(value) = text.parse() {
            value
        } else {
            self.fault(setting, &text, expected);
            match setting.default.parse() {
                Ok(value) => value,
                Err(_) => unreachable!("the default of {} parses", setting.env),
            }
        }
    }

    pub(super) fn address(&mut self, setting: &Setting) -> Option<SocketAddr> {
        let text = self.given(setting)?;
        let address = text.parse().ok();
        if address.is_none() {
            self.fault(setting, &text, ADDRESS);
        }
        address
    }

    pub(super) fn within<T: TryFrom<u64> + FromStr>(&mut self, setting: &Setting, min: u64, max: u64) -> T {
        let text = self.text(setting);
        let value = text.parse::<u64>().ok().filter(|value| (min..=max).contains(value));
        if let Some(value) = value.and_then(|value| T::try_from(value).ok()) {
            value
        } else {
            self.fault(setting, &text, &format!("a whole number from {min} to {max}"));
            T::try_from(min).unwrap_or_else(|_| unreachable!("{min} fits every integer type in use"))
        }
    }

    pub(super) fn one_of(&mut self, setting: &Setting, words: &[&str]) -> String {
        let text = self.text(setting);
        if !words.contains(&text.as_str()) {
            self.fault(setting, &text, &words.join(" or "));
        }
        text
    }
}
