//! Failpoints that work.

use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Action {
    Kill,
    Hang,
    Panic,
    Slow,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    Always,
    At(u64),
    Chance(f64),
}

#[derive(Clone, Debug, PartialEq)]
struct Failpoint {
    attempt: Option<u32>,
    place: String,
    action: Action,
    when: When,
    /// As it was given, without the attempt.
    text: String,
}

/// What `slow` takes.
const SLOW: Duration = Duration::from_millis(200);

/// The failpoints of a process.
#[derive(Clone, Debug, Default)]
pub struct Failpoints(Arc<[Failpoint]>);

impl Failpoints {
    /// Reads failpoints as the module describes them.
    ///
    /// # Errors
    /// One is malformed; the text says which.
    pub fn parse(text: &str) -> Result<Self, String> {
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries
            .map(|entry| Failpoint::parse(entry).ok_or_else(|| format!("\"{entry}\" is no failpoint")))
            .collect::<Result<Vec<_>, _>>()
            .map(|list| Self(list.into()))
    }

    /// Passes `place` with a number: does what was asked for there.
    pub fn hit(&self, place: &str, number: u64) {
        for point in self.0.iter().filter(|point| point.place == place && point.attempt.is_none()) {
            let now = match point.when {
                When::Always => true,
                When::At(wanted) => wanted == number,
                When::Chance(share) => chance() < share,
            };
            if now {
                point.act(number);
            }
        }
    }

    /// Those that the trainer of this attempt passes, to be handed to it.
    pub fn for_trainer(&self, attempt: u32) -> String {
        let of_attempt = |point: &&Failpoint| point.attempt.is_none_or(|wanted| wanted == attempt);
        let of_trainer = self.0.iter().filter(|point| point.place.starts_with("trainer.")).filter(of_attempt);
        of_trainer.map(|point| point.text.as_str()).collect::<Vec<_>>().join(",")
    }
}

impl Failpoint {
    fn parse(entry: &str) -> Option<Self> {
        let (attempt, text) = match entry.split_once(':') {
            Some((attempt, rest)) => (Some(attempt.parse().ok()?), rest),
            None => (None, entry),
        };
        let (place, rest) = text.split_once('=')?;
        let (action, when) = match (rest.split_once('@'), rest.split_once('%')) {
            (Some((action, number)), _) => (action, When::At(number.parse().ok()?)),
            (None, Some((action, share))) => (action, When::Chance(share.parse().ok()?)),
            (None, None) => (rest, When::Always),
        };
        let action = match action {
            "kill" => Action::Kill,
            "hang" => Action::Hang,
            "panic" => Action::Panic,
            "slow" => Action::Slow,
            _ => return None,
        };
        Some(Self { attempt, place: place.to_owned(), action, when, text: text.to_owned() })
    }

    fn act(&self, number: u64) {
        tracing::debug!(place = self.place, number, action = ?self.action, "failpoint");
        match self.action {
            Action::Kill => {
                let _ = kill(Pid::this(), Signal::SIGKILL);
            }
            Action::Hang => loop {
                std::thread::park();
            },
            Action::Panic => panic!("failpoint {}", self.place),
            Action::Slow => std::thread::sleep(SLOW),
        }
    }
}

/// A number from 0 to below 1.
fn chance() -> f64 {
    let mut bytes = [0; 4];
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::{Action, Failpoints, When};

    #[test]
    fn failpoints_are_read_and_handed_on() {
        let points = Failpoints::parse("a.b=kill, 1:trainer.step=hang@7,trainer.load=panic%0.5").unwrap();
        assert_eq!((points.0[0].action, points.0[0].when), (Action::Kill, When::Always));
        assert_eq!((points.0[1].attempt, points.0[1].when), (Some(1), When::At(7)));
        assert_eq!(points.0[2].when, When::Chance(0.5));
        assert_eq!(points.for_trainer(1), "trainer.step=hang@7,trainer.load=panic%0.5");
        assert_eq!(points.for_trainer(2), "trainer.load=panic%0.5");
        assert!(Failpoints::parse("").unwrap().0.is_empty());
        for bad in ["a", "a=die", "x:a=kill", "a=kill@x"] {
            assert!(Failpoints::parse(bad).unwrap_err().contains(bad), "{bad}");
        }
    }

    #[test]
    #[should_panic(expected = "failpoint here")]
    fn a_place_acts_at_its_number_alone() {
        let points = Failpoints::parse("here=panic@2,there=panic,2:here=kill").unwrap();
        points.hit("here", 1);
        points.hit("elsewhere", 2);
        points.hit("here", 2);
    }
}
