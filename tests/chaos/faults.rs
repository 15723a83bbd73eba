//! The faults, one after the other, chosen by a seed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::random::Random;
use super::site::{LEASE, Site};
use super::support::fleet::trainers_of;

/// What was done, by kind.
#[derive(Clone, Debug, Default)]
pub struct Tally(pub BTreeMap<&'static str, u64>);

impl Tally {
    fn count(&mut self, kind: &'static str) {
        *self.0.entry(kind).or_default() += 1;
    }

    /// Processes killed, by whatever.
    pub fn kills(&self) -> u64 {
        self.0.iter().filter(|(kind, _)| kind.contains("SIGKILL") || kind.contains("failpoint")).map(|(_, n)| n).sum()
    }
}

#[derive(Clone, Copy)]
enum Fault {
    KillWorker,
    KillTrainer,
    KillApi,
    KillPostgres,
    StopWorker,
    StopTrainer,
    DrainWorker,
    CutConnections,
    RefuseConnections,
    SilentNetwork,
}

use Fault::{
    CutConnections, DrainWorker, KillApi, KillPostgres, KillTrainer, KillWorker, RefuseConnections, SilentNetwork,
    StopTrainer, StopWorker,
};

/// Each as often as it is likely.
const FAULTS: [Fault; 16] = [
    KillWorker,
    KillWorker,
    KillWorker,
    KillTrainer,
    KillTrainer,
    KillTrainer,
    KillApi,
    KillPostgres,
    StopWorker,
    StopWorker,
    StopTrainer,
    DrainWorker,
    CutConnections,
    CutConnections,
    RefuseConnections,
    SilentNetwork,
];

/// Causes faults for so long.
pub async fn cause(site: &Site, seconds: Duration, seed: u64) -> Tally {
    let mut random = Random::new(seed);
    let mut tally = Tally::default();
    let end = Instant::now() + seconds;
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(random.within(200, 2000))).await;
        let by_themselves = site.restart_dead_workers();
        for _ in 0..by_themselves {
            tally.count("worker killed by a failpoint");
        }
        let worker = usize::try_from(random.within(0, site.workers as u64)).unwrap();
        let fault = *random.pick(&FAULTS);
        one(site, fault, worker, &mut random, &mut tally).await;
    }
    tally
}

async fn one(site: &Site, fault: Fault, worker: usize, random: &mut Random, tally: &mut Tally) {
    match fault {
        KillWorker => {
            tally.count("worker SIGKILL");
            site.with_worker(worker, |member| member.take().into_iter().for_each(super::support::fleet::Member::kill));
            tokio::time::sleep(Duration::from_millis(random.within(0, 2000))).await;
            site.restart_dead_workers();
        }
        KillTrainer => {
            let trainers: Vec<i32> = (0..site.workers).flat_map(|index| trainers_of(&site.state(index))).collect();
            if !trainers.is_empty() && kill(Pid::from_raw(*random.pick(&trainers)), Signal::SIGKILL).is_ok() {
                tally.count("trainer SIGKILL");
            }
        }
        KillApi => {
            tally.count("API SIGKILL");
            site.restart_api().await;
        }
        KillPostgres => {
            if let Some(pid) = site.postmaster()
                && kill(Pid::from_raw(pid), Signal::SIGKILL).is_ok()
            {
                tally.count("PostgreSQL SIGKILL");
            }
        }
        StopWorker => {
            tally.count("worker SIGSTOP");
            site.with_worker(worker, |member| member.iter().for_each(|member| member.signal(Signal::SIGSTOP)));
            let longest = u64::try_from(LEASE.as_millis()).unwrap() * 2;
            tokio::time::sleep(Duration::from_millis(random.within(300, longest))).await;
            site.with_worker(worker, |member| member.iter().for_each(|member| member.signal(Signal::SIGCONT)));
        }
        StopTrainer => {
            let trainers = trainers_of(&site.state(worker));
            if let Some(&trainer) = trainers.first()
                && kill(Pid::from_raw(trainer), Signal::SIGSTOP).is_ok()
            {
                tally.count("trainer SIGSTOP");
                tokio::time::sleep(Duration::from_millis(random.within(300, 3000))).await;
                let _ = kill(Pid::from_raw(trainer), Signal::SIGCONT);
            }
        }
        DrainWorker => {
            tally.count("worker SIGTERM");
            let member = {
                let mut taken = None;
                site.with_worker(worker, |member| taken = member.take());
                taken
            };
            if let Some(member) = member {
                let _ = tokio::task::spawn_blocking(move || member.stop()).await;
            }
            site.restart_dead_workers();
        }
        CutConnections => {
            tally.count("connections cut");
            site.proxy.drop_all();
        }
        RefuseConnections => {
            tally.count("database refused");
            site.proxy.refuse();
            tokio::time::sleep(Duration::from_millis(random.within(300, 5000))).await;
            site.proxy.pass();
        }
        SilentNetwork => {
            tally.count("network silent");
            site.proxy.stall();
            tokio::time::sleep(Duration::from_millis(random.within(300, 4000))).await;
            site.proxy.pass();
        }
    }
}
