//! Chaos: the real programs under load while processes are killed and stopped and the network fails, and a check of
//! what must hold whatever happens.
//!
//! `CHAOS_SECONDS` says for how long (20 unless set), `CHAOS_SEED` makes the same faults again. The report goes to
//! `target/chaos/report.md`. What is checked:
//!
//! - I1: no two trainers of one job live at the same time, and no two attempts of it overlap.
//! - I2: a terminal status never changes.
//! - I3: every step of a finished job is there once, and its metrics and weights are those of an undisturbed run.
//! - I4: no worker has more trainers than slots, and no job has two slots.
//! - I5: every upload that was acknowledged can be read with the same bytes.
//! - I6: every job comes to its end once the faults stop, and nothing is left over.

#![allow(
    clippy::format_collect,
    clippy::type_complexity,
    clippy::assigning_clones,
    clippy::needless_pass_by_value,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::format_push_string,
    unreachable_pub,
    reason = "tests fail loudly, and their helpers are shared by module"
)]

#[path = "../support/mod.rs"]
mod support;

mod checker;
mod faults;
mod load;
mod random;
mod report;
mod site;

use std::time::Duration;

use checker::Checker;
use load::Load;
use site::Site;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_whatever_dies() {
    let number = |name: &str, default: u64| std::env::var(name).ok().map_or(default, |text| text.parse().unwrap());
    let seconds = Duration::from_secs(number("CHAOS_SECONDS", 20));
    let seed = number("CHAOS_SEED", 1);

    let site = Site::start(3).await;
    let load = Load::start(&site, seed).await;
    let checker = Checker::start(&site, load.expected());
    let tally = faults::cause(&site, seconds, seed).await;

    site.heal().await;
    load.stop().await;
    let checked = checker.finish(&site, &load).await;
    let report = report::Report { seconds, seed, tally, checked };
    let path = report.write();
    println!("{}", std::fs::read_to_string(&path).unwrap());
    assert!(report.checked.violations.is_empty(), "{:#?}", report.checked.violations);
    assert!(report.checked.jobs > 0 && report.tally.kills() > 0, "nothing happened, so this shows nothing");
}
