//! Where in a row a value stands: `messages[2].tool_calls[0].id`.

use std::fmt;

/// The way from a row's field down to a value. It is written out only where something is wrong.
#[derive(Clone, Copy, Debug)]
pub(in crate::dataset) struct Path<'a> {
    above: Option<&'a Path<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Key(&'a str),
    Item(usize),
}

impl<'a> Path<'a> {
    /// A field of the row.
    pub(in crate::dataset) fn field(name: &'a str) -> Self {
        Self { above: None, step: Step::Key(name) }
    }

    /// What the object here has under `key`.
    pub(in crate::dataset) fn key(&'a self, key: &'a str) -> Self {
        Self { above: Some(self), step: Step::Key(key) }
    }

    /// An item of the list here.
    pub(in crate::dataset) fn item(&'a self, number: usize) -> Self {
        Self { above: Some(self), step: Step::Item(number) }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(above) = self.above {
            write!(f, "{above}")?;
        }
        match self.step {
            Step::Key(key) if self.above.is_some() => write!(f, ".{key}"),
            Step::Key(key) => f.write_str(key),
            Step::Item(number) => write!(f, "[{number}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn a_path_is_written_as_programs_write_it() {
        let messages = Path::field("messages");
        let (message, calls) = (messages.item(2), "tool_calls");
        let calls = message.key(calls);
        assert_eq!(calls.item(0).key("id").to_string(), "messages[2].tool_calls[0].id");
        assert_eq!(messages.to_string(), "messages");
    }
}
