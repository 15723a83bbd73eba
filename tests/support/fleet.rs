//! The real programs as processes of their own: an API node and workers that share a database and a store.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::client::Client;
use super::data;
use super::service::{eventually, trainer};

/// Processes that share these settings.
pub struct Fleet {
    pub folder: PathBuf,
    pub settings: BTreeMap<String, String>,
}

/// A running program; killed when it is dropped.
pub struct Member {
    pub name: String,
    pub state: PathBuf,
    child: Child,
}

impl Drop for Member {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Member {
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Kills it and waits until it is gone.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Asks it to end and waits.
    pub fn stop(mut self) -> std::process::ExitStatus {
        self.signal(Signal::SIGTERM);
        self.child.wait().unwrap()
    }

    /// The trainers whose runs have their folders in this member's state.
    pub fn trainers(&self) -> Vec<i32> {
        trainers_of(&self.state)
    }
}

/// The trainers at work whose runs have their folders below `state`.
pub fn trainers_of(state: &Path) -> Vec<i32> {
    trainers_in(&state.join("runs"))
}

/// The trainers at work in a folder of runs: those that wait for a job are in folders that no job has.
pub fn trainers_in(runs: &Path) -> Vec<i32> {
    processes_where(|folder| is_run(folder, runs))
}

/// The trainers that wait there.
pub fn spares_in(runs: &Path) -> Vec<i32> {
    processes_where(|folder| folder.starts_with(runs) && !is_run(folder, runs))
}

/// The processes that work below a folder.
pub fn processes_in(folder: &Path) -> Vec<i32> {
    processes_where(|own| own.starts_with(folder))
}

/// A run's folder is named by its job and its attempt.
fn is_run(folder: &Path, runs: &Path) -> bool {
    let name = folder.strip_prefix(runs).ok().and_then(|below| below.components().next());
    name.is_some_and(|name| name.as_os_str().to_string_lossy().contains('-'))
}

fn processes_where(works_in: impl Fn(&Path) -> bool) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| std::fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| works_in(&folder)))
        .collect()
}

impl Fleet {
    pub fn new(folder: &Path, settings: BTreeMap<String, String>) -> Self {
        let mut all = BTreeMap::from([
            ("FINETUNED_TRAINER".to_owned(), trainer().display().to_string()),
            ("FINETUNED_TRAINER_THREADS".to_owned(), "1".to_owned()),
            ("FINETUNED_LEASE_SECONDS".to_owned(), "12".to_owned()),
        ]);
        all.extend(settings);
        Self { folder: folder.to_owned(), settings: all }
    }

    pub fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_finetuned"));
        command.args(arguments).envs(&self.settings).env("FINETUNED_STATE_DIR", self.folder.join(name));
        command
    }

    /// Starts a member, its log beside its state, with more settings of its own.
    pub fn start(&self, name: &str, arguments: &[&str], more: &[(&str, &str)]) -> Member {
        self.spawn(name, arguments, more).0
    }

    fn spawn(
        &self,
        name: &str,
        arguments: &[&str],
        more: &[(&str, &str)],
    ) -> (Member, BufReader<std::process::ChildStdout>) {
        let log = File::options().create(true).append(true).open(self.folder.join(format!("{name}.log"))).unwrap();
        let mut command = self.command(name, arguments);
        command.envs(more.iter().copied()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        (Member { name: name.to_owned(), state: self.folder.join(name), child }, stdout)
    }

    /// Starts an API node without a worker on `listen` and waits until it answers; the address it got.
    pub async fn start_api(&self, name: &str, listen: &str) -> (Member, String) {
        self.start_serving(name, &["serve", "--no-worker", "--listen", listen]).await
    }

    /// The same with a worker.
    pub async fn start_service(&self, name: &str, listen: &str) -> (Member, String) {
        self.start_serving(name, &["serve", "--listen", listen]).await
    }

    async fn start_serving(&self, name: &str, arguments: &[&str]) -> (Member, String) {
        let (member, mut stdout) = self.spawn(name, arguments, &[]);
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("export OPENAI_BASE_URL=http://").and_then(|a| a.strip_suffix("/v1"));
        let log = || std::fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap();
        let address = address.unwrap_or_else(|| panic!("{}", log())).to_owned();
        let client = Client::new(&address, None);
        eventually("readiness", 60, async || (client.try_get("/readyz").await == Some(200)).then_some(())).await;
        (member, address)
    }

    /// Makes a key and imports the tiny model.
    pub fn set_up(&self) -> String {
        self.set_up_in("admin")
    }

    /// The same with the state of a member, whose private database may be the one.
    pub fn set_up_in(&self, name: &str) -> String {
        let run = |arguments: &[&str]| {
            let output = self.command(name, arguments).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        run(&["models", "import", data::tiny_model().to_str().unwrap()]);
        run(&["keys", "create", "test"])
    }
}
