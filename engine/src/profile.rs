//! Where a run's time goes: by part of the loop, and by operator.

use std::fmt::Write;
use std::time::Duration;

use crate::native::profile::{Operator, operators};
use crate::observer::Part;

/// What the parts of a run took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Profile {
    spent: [Duration; Part::ALL.len()],
}

/// Operators in a table.
const MOST_OPERATORS: usize = 40;

impl Profile {
    /// Adds what a part took.
    pub fn add(&mut self, part: Part, time: Duration) {
        self.spent[part as usize] += time;
    }

    /// Two tables in Markdown: of the parts, and of the operators that took longest, both of what was counted so far.
    pub fn table(&self) -> String {
        self.rows(&operators())
    }

    fn rows(&self, operators: &[Operator]) -> String {
        let share = |seconds: f64, of: f64| 100.0 * seconds / of.max(1e-9);
        let all: f64 = self.spent.iter().map(Duration::as_secs_f64).sum();
        let mut text = String::from("| part of the loop | seconds | % |\n|---|---|---|\n");
        for (part, spent) in Part::ALL.iter().zip(&self.spent) {
            let seconds = spent.as_secs_f64();
            let _ = writeln!(text, "| {} | {seconds:.2} | {:.1} |", part.name(), share(seconds, all));
        }
        let of_operators: f64 = operators.iter().map(|one| one.seconds).sum();
        text.push_str("\n| operator, without what it calls | seconds | % | calls |\n|---|---|---|---|\n");
        for Operator { name, seconds, calls } in operators.iter().take(MOST_OPERATORS) {
            let _ = writeln!(text, "| {name} | {seconds:.2} | {:.1} | {calls} |", share(*seconds, of_operators));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Part, Profile};
    use crate::native::profile::{self, Operator};

    #[test]
    fn shares_are_of_all_that_was_counted() {
        let mut profile = Profile::default();
        profile.add(Part::Forward, Duration::from_secs(1));
        profile.add(Part::Backward, Duration::from_secs(2));
        profile.add(Part::Forward, Duration::from_secs(1));
        let operator = Operator { name: "aten::mm".to_owned(), seconds: 1.5, calls: 7 };
        let text = profile.rows(&[operator]);
        for line in
            ["| forward, with batch | 2.00 | 50.0 |", "| update | 0.00 | 0.0 |", "| aten::mm | 1.50 | 100.0 | 7 |"]
        {
            assert!(text.lines().any(|found| found == line), "{text}");
        }
    }

    #[test]
    fn operators_are_counted_by_themselves_in_both_directions() {
        profile::begin().unwrap();
        let x = tch::Tensor::ones([64, 64], tch::kind::FLOAT_CPU).set_requires_grad(true);
        for _ in 0..3 {
            x.matmul(&x).sum(tch::Kind::Float).backward();
        }
        let found = profile::operators();
        let calls = |name: &str| found.iter().find(|one| one.name == name).map_or(0, |one| one.calls);
        assert_eq!((calls("aten::matmul"), calls("aten::mm"), calls("MmBackward0")), (3, 9, 3), "{found:?}");
        assert!(found.iter().all(|one| one.seconds >= 0.0));
        assert!(found.windows(2).all(|pair| pair[0].seconds >= pair[1].seconds));
    }
}
