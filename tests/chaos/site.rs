//! What is put under stress: an API node with its private PostgreSQL, workers that reach the database through a proxy,
//! and a bucket.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::Duration;

use finetuned::db::Db;

use super::support::client::Client;
use super::support::fleet::{Fleet, Member};
use super::support::proxy::{Proxy, Upstream};
use super::support::s3::Bucket;
use super::support::service::eventually;

/// Seconds of a lease: the shortest there is, so that much happens.
pub const LEASE: Duration = Duration::from_secs(3);

pub struct Site {
    pub fleet: Fleet,
    pub client: Client,
    /// Straight to the database, past the proxy.
    pub db: Db,
    pub proxy: Proxy,
    pub workers: usize,
    listen: String,
    api: Mutex<Option<Member>>,
    members: Mutex<Vec<Option<Member>>>,
    worker_settings: Vec<(String, String)>,
    _bucket: Bucket,
    _folder: tempfile::TempDir,
}

/// Places where workers and trainers may die by themselves, and how likely.
const FAILPOINTS: &str = "trainer.step=slow,worker.claimed=kill%0.02,worker.prepared=kill%0.02,worker.spawned=kill%0.03,\
                          checkpoint.commit=kill%0.01,model.stored=kill%0.04,model.commit=kill%0.04,\
                          ending.commit=kill%0.03,trainer.checkpoint=kill%0.01";

/// Whether a process ended in order, be it with work left for others.
fn is_good(status: std::process::ExitStatus) -> bool {
    matches!(status.code(), Some(0 | 75))
}

impl Site {
    pub async fn start(workers: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The private database's user must pass through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
        let bucket = Bucket::new().await;
        let mut settings: BTreeMap<String, String> = bucket.options.clone();
        settings.insert("FINETUNED_STORE_URL".to_owned(), bucket.url.clone());
        settings.insert("FINETUNED_LEASE_SECONDS".to_owned(), LEASE.as_secs().to_string());
        settings.insert("FINETUNED_STALL_SECONDS".to_owned(), "4".to_owned());
        settings.insert("FINETUNED_SHUTDOWN_SECONDS".to_owned(), "10".to_owned());
        settings.insert("FINETUNED_RATE_LIMIT".to_owned(), "0".to_owned());
        let fleet = Fleet::new(folder.path(), settings);
        let key = fleet.set_up_in("api");
        let listen = format!("127.0.0.1:{}", free_port());
        let (api, address) = fleet.start_api("api", &listen).await;
        let postgres = folder.path().join("api/postgres");
        let password = std::fs::read_to_string(postgres.join("password")).unwrap();
        let socket = socket_of(&postgres);
        let direct = format!(
            "postgres://finetuned:{password}@localhost/postgres?host={}",
            socket.parent().unwrap().display().to_string().replace('/', "%2F")
        );
        let proxy = Proxy::start(Upstream::Unix(socket)).await;
        let through = format!("postgres://finetuned:{password}@{}/postgres?sslmode=disable", proxy.address);
        let site = Self {
            client: Client::new(&address, Some(&key)),
            db: Db::connect(&direct, 4).await.unwrap(),
            proxy,
            workers,
            listen,
            api: Mutex::new(Some(api)),
            members: Mutex::new((0..workers).map(|_| None).collect()),
            worker_settings: vec![("DATABASE_URL".to_owned(), through), ("FINETUNED_SLOTS".to_owned(), "2".to_owned())],
            fleet,
            _bucket: bucket,
            _folder: folder,
        };
        for index in 0..workers {
            site.start_worker(index, "trainer.step=slow");
        }
        site
    }

    /// The folder of a worker's state.
    pub fn state(&self, index: usize) -> PathBuf {
        self.fleet.folder.join(format!("worker-{index}"))
    }

    fn start_worker(&self, index: usize, failpoints: &str) {
        let mut more: Vec<(&str, &str)> =
            self.worker_settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        more.push(("FINETUNED_FAILPOINTS", failpoints));
        let member = self.fleet.start(&format!("worker-{index}"), &["worker"], &more);
        self.members.lock().unwrap()[index] = Some(member);
    }

    /// Starts the workers that are not there, under stress again.
    pub fn restart_dead_workers(&self) -> usize {
        let dead: Vec<usize> = {
            let mut members = self.members.lock().unwrap();
            let is_dead = |member: &mut Option<Member>| !member.as_mut().is_some_and(Member::is_running);
            members.iter_mut().enumerate().filter_map(|(index, member)| is_dead(member).then_some(index)).collect()
        };
        for &index in &dead {
            self.start_worker(index, FAILPOINTS);
        }
        dead.len()
    }

    /// Does something to a worker, if it runs.
    pub fn with_worker(&self, index: usize, what: impl FnOnce(&mut Option<Member>)) {
        what(&mut self.members.lock().unwrap()[index]);
    }

    /// Kills the API node and starts it again.
    pub async fn restart_api(&self) {
        let api = self.api.lock().unwrap().take();
        if let Some(api) = api {
            api.kill();
        }
        let (api, _) = self.fleet.start_api("api", &self.listen).await;
        *self.api.lock().unwrap() = Some(api);
    }

    /// The postmaster of the private database.
    pub fn postmaster(&self) -> Option<i32> {
        let text = std::fs::read_to_string(self.fleet.folder.join("api/postgres/data/postmaster.pid")).ok()?;
        text.lines().next()?.parse().ok()
    }

    /// Ends all faults: everything runs, and runs well.
    pub async fn heal(&self) {
        self.proxy.pass();
        self.proxy.drop_all();
        for index in 0..self.workers {
            self.with_worker(index, |worker| {
                if let Some(worker) = worker.take() {
                    worker.signal(nix::sys::signal::Signal::SIGCONT);
                    worker.kill();
                }
            });
            self.start_worker(index, "trainer.step=slow");
        }
        eventually("readiness", 60, async || (self.client.try_get("/readyz").await == Some(200)).then_some(())).await;
    }

    /// Stops everything in an orderly way, and says which processes are left.
    pub fn stop(&self) -> Vec<String> {
        let mut left = Vec::new();
        for index in 0..self.workers {
            let worker = self.members.lock().unwrap()[index].take();
            if let Some(worker) = worker
                && !is_good(worker.stop())
            {
                left.push(format!("worker-{index} did not end well"));
            }
            if !super::support::fleet::trainers_of(&self.state(index)).is_empty() {
                left.push(format!("a trainer of worker-{index}"));
            }
            let runs = std::fs::read_dir(self.state(index).join("runs")).unwrap().count();
            if runs > 0 {
                left.push(format!("{runs} run folders of worker-{index}"));
            }
        }
        let postmaster = self.postmaster();
        let api = self.api.lock().unwrap().take();
        if let Some(api) = api
            && !is_good(api.stop())
        {
            left.push("the API did not end well".to_owned());
        }
        if postmaster.is_some_and(is_alive) {
            left.push("PostgreSQL".to_owned());
        }
        left
    }
}

/// Whether a process runs; one that only waits to be noticed by its parent does not.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// The socket of the server whose folder this is; a long path has it elsewhere.
fn socket_of(postgres: &std::path::Path) -> PathBuf {
    let text = std::fs::read_to_string(postgres.join("data/postmaster.pid")).unwrap();
    PathBuf::from(text.lines().nth(4).unwrap().trim()).join(".s.PGSQL.5432")
}
