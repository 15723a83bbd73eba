//! The programs themselves: a service with its private database, killed and restarted, and the administrator's
//! commands.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::embedded;
use super::recovery::processes_in;
use super::support::client::Client;
use super::support::data;
use super::support::service::{eventually, trainer};

/// `finetuned` with a state directory of its own.
pub struct Program {
    folder: tempfile::TempDir,
    /// Whom it runs as, if not as the test does.
    user: Option<u32>,
}

impl Program {
    pub fn new() -> Self {
        Self { folder: embedded::folder(), user: None }
    }

    /// The same, run by another user. Only root can.
    pub fn owned_by(self, user: u32) -> Self {
        std::os::unix::fs::chown(self.folder.path(), Some(user), Some(user)).unwrap();
        Self { user: Some(user), ..self }
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_finetuned"));
        command.args(arguments).env("FINETUNED_STATE_DIR", self.state()).env("FINETUNED_TRAINER", trainer());
        command.env("FINETUNED_TRAINER_THREADS", "1").env_remove("DATABASE_URL");
        if let Some(user) = self.user {
            command.uid(user).gid(user).current_dir("/");
        }
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    #[track_caller]
    pub fn run_well(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts the service and returns it with a client of its bootstrap key.
    pub async fn serve(&self) -> (Serving, Client) {
        let mut child = self
            .command(&["serve", "--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(std::fs::File::options().create(true).append(true).open(self.folder.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let log = || std::fs::read_to_string(self.folder.path().join("log")).unwrap();
        let address = line.trim().strip_prefix("export OPENAI_BASE_URL=http://").unwrap_or_else(|| panic!("{}", log()));
        let key = std::fs::read_to_string(self.state().join("bootstrap-key")).unwrap();
        let client = Client::new(address.strip_suffix("/v1").unwrap(), Some(&key));
        eventually("readiness", 10, async || (client.get("/readyz").await.status == 200).then_some(())).await;
        (Serving(child), client)
    }

    /// Every process that belongs to this state directory: trainers by their folder, PostgreSQL by its data.
    fn processes(&self) -> Vec<i32> {
        let mut found = processes_in(&self.state());
        if let Ok(text) = std::fs::read_to_string(self.state().join("postgres/data/postmaster.pid")) {
            let pid: i32 = text.lines().next().unwrap().parse().unwrap();
            if Path::new(&format!("/proc/{pid}")).exists() {
                found.push(pid);
            }
        }
        found
    }
}

/// A running service; killed if a test fails.
pub struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Serving {
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().cast_signed()), signal).unwrap();
    }

    pub fn end(mut self, signal: Signal) -> std::process::ExitStatus {
        self.signal(signal);
        self.0.wait().unwrap()
    }
}

async fn start_long_job(client: &Client) -> String {
    let file = client.upload("data.csv", data::csv(300)).await;
    let hyperparameters = json!({"n_epochs": 12, "batch_size": 8, "checkpoint_interval": 40, "precision": "fp32"});
    let id = client.create_job(&file, hyperparameters).await;
    eventually("a checkpoint and steps after it", 60, async || {
        let checkpoints = client.get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
        let step = client.job(&id).await["progress"]["step"].as_u64().unwrap_or(0);
        (!checkpoints["data"].as_array().unwrap().is_empty() && step >= 60).then_some(())
    })
    .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_killed_in_the_middle_of_a_job_finishes_it_after_a_restart() {
    let program = Program::new();
    program.run_well(&["models", "import", data::tiny_model().to_str().unwrap()]);
    let (service, client) = program.serve().await;
    let id = start_long_job(&client).await;
    service.end(Signal::SIGKILL);
    eventually("the trainer to notice", 5, async || {
        processes_in(&program.state().join("runs")).is_empty().then_some(())
    })
    .await;

    let (service, client) = program.serve().await;
    let job = client.wait_for_end(&id).await;
    assert_eq!(job["status"], "succeeded", "{job}");
    let attempts: Vec<_> = job["attempts"].as_array().unwrap().iter().map(|a| &a["outcome"]).collect();
    assert_eq!(attempts, [&json!("lost"), &json!("succeeded")]);
    assert_eq!(job["attempts"][0]["detail"], "its worker was restarted");
    assert!(job["attempts"][1]["start_step"].as_u64().unwrap() >= 40);
    assert!(service.end(Signal::SIGTERM).success());
    assert_eq!(program.processes(), Vec::<i32>::new(), "no process is left behind");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_told_to_stop_gives_its_job_back_and_goes_on_at_the_next_start() {
    let program = Program::new();
    let (service, client) = program.serve().await;
    // Beside a running service.
    program.run_well(&["models", "import", data::tiny_model().to_str().unwrap()]);
    let id = start_long_job(&client).await;
    assert!(service.end(Signal::SIGTERM).success());
    assert_eq!(program.processes(), Vec::<i32>::new());
    let (service, client) = program.serve().await;
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["status"], &job["attempts"][0]["outcome"]), (&json!("succeeded"), &json!("shut_down")));
    assert!(job["attempts"][1]["start_step"].as_u64().unwrap() >= 60, "the checkpoint of the stop: {job}");
    assert!(service.end(Signal::SIGINT).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_state_directory_is_for_one_service() {
    let program = Program::new();
    let (service, client) = program.serve().await;
    let second = program.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another service runs with the state directory"));
    client.get("/v1/models").await.good();
    let key = program.state().join("bootstrap-key");
    assert_eq!(std::fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(service.end(Signal::SIGTERM).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_and_models_are_managed_from_the_command_line() {
    let program = Program::new();
    // Without a service: the database is started for a moment.
    let secret = program.run_well(&["keys", "create", "laptop", "--project", "research"]).trim().to_owned();
    assert!(secret.starts_with("sk-ft-"));
    assert_eq!(program.processes(), Vec::<i32>::new());
    program.run_well(&["models", "import", data::tiny_model().to_str().unwrap(), "--name", "org/tiny"]);
    assert_eq!(program.run_well(&["models", "list"]), "org/tiny  bert  32 wide, 64 tokens\n");
    assert_eq!(program.run_well(&["migrate"]), "");

    // A key exists, so none is made at the first start, and none is printed.
    let mut service = program
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(service.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(!program.state().join("bootstrap-key").exists());
    let address = line.trim().trim_start_matches("export OPENAI_BASE_URL=http://").trim_end_matches("/v1").to_owned();
    let client = Client::new(&address, Some(&secret));
    assert_eq!(client.get("/v1/models/org%2Ftiny").await.header("openai-organization"), Some("research"));

    let listed = program.run_well(&["keys", "list"]);
    let id = listed.split_whitespace().next().unwrap();
    assert!(listed.contains("research") && listed.contains("laptop") && !listed.contains(&secret), "{listed}");
    program.run_well(&["keys", "revoke", id]);
    assert_eq!(client.get("/v1/models").await.error().0, 401);
    let again = program.run(&["keys", "revoke", id]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is no active key"));
    kill(Pid::from_raw(service.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(service.wait().unwrap().success());
}

#[test]
fn faults_of_the_configuration_are_reported_together() {
    let program = Program::new();
    let output = program.command(&["serve", "--listen", "nowhere"]).env("FINETUNED_SLOTS", "0").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(text.contains("FINETUNED_LISTEN (--listen) is \"nowhere\"") && text.contains("FINETUNED_SLOTS"), "{text}");
}

#[test]
fn data_can_be_checked_without_a_service() {
    let program = Program::new();
    let path = program.folder.path().join("data.csv");
    std::fs::write(&path, data::csv(30)).unwrap();
    let text = program.run_well(&["check-data", path.to_str().unwrap()]);
    assert!(text.contains("30 examples, 3 labels") && text.ends_with("ready to train\n"), "{text}");
    std::fs::write(&path, format!("{}a,\n", data::csv(30))).unwrap();
    let bad = program.run(&["check-data", path.to_str().unwrap()]);
    assert!(!bad.status.success());
    assert!(String::from_utf8_lossy(&bad.stdout).contains("line 32, label: is empty"));
    assert!(!program.state().exists());
}

#[test]
fn the_control_plane_does_not_link_libtorch() {
    let output = Command::new("readelf").args(["-d", env!("CARGO_BIN_EXE_finetuned")]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let libraries: Vec<&str> = text.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(!libraries.is_empty(), "readelf lists libraries");
    for library in libraries {
        for name in ["torch", "c10", "cuda", "gomp", "stdc++"] {
            assert!(!library.contains(name), "{library}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_serving_a_model_leaves_no_process() {
    let program = Program::new();
    program.run_well(&["models", "import", data::tiny_model().to_str().unwrap(), "--name", "tiny-bert"]);
    let (serving, client) = program.serve().await;
    let file = client.upload("data.csv", data::csv(30)).await;
    let id = client.create_job(&file, json!({"n_epochs": 1})).await;
    let job = client.wait_for_end(&id).await;
    let body = json!({"model": job["fine_tuned_model"], "input": "where is my card"});
    let served = program.state().join("runs/serving");
    client.post_json("/v1/classifications", &body).await.good();
    assert_eq!(processes_in(&served).len(), 1);
    assert!(serving.end(Signal::SIGTERM).success());
    assert!(program.processes().is_empty(), "{:?}", program.processes());

    // Of one that is killed the input ends, and with it the process.
    let (serving, client) = program.serve().await;
    client.post_json("/v1/classifications", &body).await.good();
    serving.end(Signal::SIGKILL);
    eventually("the process to be gone", 20, async || processes_in(&served).is_empty().then_some(())).await;
    let (serving, _) = program.serve().await;
    assert_eq!(std::fs::read_dir(&served).into_iter().flatten().count(), 0, "what was left is removed");
    assert!(serving.end(Signal::SIGTERM).success());
}
