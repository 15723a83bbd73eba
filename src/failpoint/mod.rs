//! Failpoints: named places in the code where a process can be told to die or to hang, so that tests can ask what
//! becomes of its work. A release build has none, unless the feature `failpoints` is on.
//!
//! They are given as `PLACE=ACTION`, separated by commas: `checkpoint.commit=kill@3,model.stored=hang%0.5`. The action
//! is `kill` (SIGKILL), `hang`, `panic` or `slow` (a fifth of a second). It is taken every time; with `@N` when the place is passed with the number
//! N (a step, or an attempt); with `%P` at random with that probability. `1:trainer.step=kill@7` is for attempt 1 alone.

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod armed;
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub use armed::Failpoints;

#[cfg(not(any(debug_assertions, feature = "failpoints")))]
mod disarmed;
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
pub use disarmed::Failpoints;
