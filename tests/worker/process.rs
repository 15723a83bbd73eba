//! The programs themselves: a service with its private database, killed and restarted, and the administrator's
//! commands.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::embedded;
use super::fleet::bits;
use super::support::client::Client;
use super::support::data;
use super::support::database;
use super::support::fleet::processes_in;
use super::support::service::{eventually, trainer};

/// `finetuned` with a state directory of its own.
pub struct Program {
    folder: tempfile::TempDir,
    failpoints: &'static str,
    /// Whom it runs as, if not as the test does.
    user: Option<u32>,
}

impl Program {
    pub fn new() -> Self {
        Self::with_failpoints("")
    }

    fn with_failpoints(failpoints: &'static str) -> Self {
        Self { folder: embedded::folder(), failpoints, user: None }
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
        command.env("FINETUNED_FAILPOINTS", self.failpoints);
        // SAFETY: an async-signal-safe call with constant arguments.
        unsafe {
            command.pre_exec(|| {
                // The test itself may run under nohup.
                nix::libc::signal(nix::libc::SIGHUP, nix::libc::SIG_DFL);
                Ok(())
            });
        }
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

    /// Signals the service and every process below it, itself last.
    fn end_all(mut self, signal: Signal) -> std::process::ExitStatus {
        for pid in below(self.0.id().cast_signed()) {
            let _ = kill(Pid::from_raw(pid), signal);
        }
        self.signal(signal);
        self.0.wait().unwrap()
    }
}

/// The processes that a process started, and those that these started, the latter first.
fn below(pid: i32) -> Vec<i32> {
    let children = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = children.flat_map(|task| {
        let text = std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect::<Vec<i32>>()
    });
    children.flat_map(|child| below(child).into_iter().chain([child]).collect::<Vec<_>>()).collect()
}

/// `EX_TEMPFAIL`: there is work left.
const WORK_LEFT: Option<i32> = Some(75);

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
    assert_eq!(service.end(Signal::SIGTERM).code(), WORK_LEFT);
    assert_eq!(program.processes(), Vec::<i32>::new());
    let (service, client) = program.serve().await;
    let job = client.wait_for_end(&id).await;
    assert_eq!((&job["status"], &job["attempts"][0]["outcome"]), (&json!("succeeded"), &json!("shut_down")));
    assert!(job["attempts"][1]["start_step"].as_u64().unwrap() >= 60, "the checkpoint of the stop: {job}");
    assert!(service.end(Signal::SIGINT).success());
}

/// A terminal that closes sends it to the service, and often again before that has stopped.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_terminal_closes_stops_in_order_and_leaves_no_database() {
    let program = Program::new();
    let (service, _) = program.serve().await;
    assert!(!program.processes().is_empty(), "its PostgreSQL runs");
    service.signal(Signal::SIGHUP);
    service.signal(Signal::SIGHUP);
    assert_eq!(service.end(Signal::SIGHUP).code(), Some(0));
    assert_eq!(program.processes(), Vec::<i32>::new());
}

/// Whoever holds its log is alive and does not read: the pipe fills up within moments.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_does_not_stop_the_service() {
    let program = Program::new();
    let mut command = program.command(&["serve", "--listen", "127.0.0.1:0", "--log", "trace"]);
    let mut service = Serving(command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    let (mut log, stdout) = (service.0.stderr.take().unwrap(), service.0.stdout.take().unwrap());
    let greeting = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map(|_| line)
    });
    let line = tokio::time::timeout(std::time::Duration::from_mins(2), greeting).await.unwrap().unwrap().unwrap();
    let address = line.trim().trim_start_matches("export OPENAI_BASE_URL=http://").trim_end_matches("/v1");
    let client = Client::new(address, Some(&std::fs::read_to_string(program.state().join("bootstrap-key")).unwrap()));
    for _ in 0..300 {
        let answer = tokio::time::timeout(std::time::Duration::from_mins(1), client.get("/v1/models"));
        assert_eq!(answer.await.unwrap().status, 200);
    }
    service.signal(Signal::SIGTERM);
    let ended = eventually("the end", 30, async || service.0.try_wait().unwrap()).await;
    assert!(ended.success(), "{ended}");
    let mut lines = Vec::new();
    log.read_to_end(&mut lines).unwrap();
    assert!(lines.len() > 30_000, "the pipe was full: {}", lines.len());
}

/// A job of 33 steps that makes the same each time.
async fn create_same_job(client: &Client, file: &str) -> String {
    let hyperparameters = json!({"n_epochs": 3, "batch_size": 8, "checkpoint_interval": 1000, "precision": "fp32"});
    let body = json!({"model": "tiny-bert", "training_file": file, "seed": 7, "hyperparameters": hyperparameters});
    client.post_json("/v1/fine_tuning/jobs", &body).await.good()["id"].as_str().unwrap().to_owned()
}

/// systemd tells every process of a unit to stop, and Slurm every process of a job: the trainer and PostgreSQL as well as
/// the service.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_whose_every_process_is_told_to_stop_loses_no_step() {
    let program = Program::with_failpoints("trainer.step=slow");
    program.run_well(&["models", "import", data::tiny_model().to_str().unwrap()]);
    let (service, client) = program.serve().await;
    let file = client.upload("data.csv", data::csv(90)).await;
    let whole = create_same_job(&client, &file).await;
    let (model, metrics, _) = bits(&client, &whole).await;

    let id = create_same_job(&client, &file).await;
    let step = eventually("some steps", 60, async || {
        client.job(&id).await["progress"]["step"].as_u64().filter(|&step| step >= 8)
    })
    .await;
    assert_eq!(service.end_all(Signal::SIGTERM).code(), WORK_LEFT);
    assert_eq!(program.processes(), Vec::<i32>::new());

    let (service, client) = program.serve().await;
    let (same_model, same_metrics, job) = bits(&client, &id).await;
    let outcomes: Vec<_> = job["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["outcome"]).collect();
    assert_eq!(outcomes, [&json!("shut_down"), &json!("succeeded")], "{job}");
    assert!(job["attempts"][1]["start_step"].as_u64().unwrap() >= step, "{job}");
    assert_eq!((same_model, same_metrics), (model, metrics));
    assert_eq!(service.end_all(Signal::SIGTERM).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_state_directory_is_for_one_service() {
    let program = Program::new();
    let (service, client) = program.serve().await;
    let second = program.run(&["serve", "--listen", "127.0.0.1:0"]);
    assert!(!second.status.success());
    assert!(String::from_utf8_lossy(&second.stderr).contains("another service runs with the state directory"));
    client.get("/v1/models").await.good();
    assert!(service.end(Signal::SIGTERM).success());
}

/// Without a terminal the key is not shown, so whoever starts a service there is told where it lies.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_says_where_it_listens_and_where_the_first_key_is() {
    let program = Program::new();
    let (service, client) = program.serve().await;
    let key_file = program.state().join("bootstrap-key");
    assert_eq!(std::fs::metadata(&key_file).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = std::fs::read_to_string(&key_file).unwrap();
    client.get("/v1/models").await.good();
    let log = eventually("the log", 10, async || {
        let log = std::fs::read_to_string(program.folder.path().join("log")).unwrap();
        (log.contains("the first API key") && log.ends_with('\n')).then_some(log)
    })
    .await;
    let line = |what: &str| log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {log}"));
    assert!(line("listening").contains("address=127.0.0.1:"));
    assert!(line("the first API key").contains(&format!("key_file={}", key_file.display())));
    assert!(!log.contains(&secret), "the log holds no secret");
    assert!(service.end(Signal::SIGTERM).success());

    // What it prints can be pasted into a shell.
    let mut service = program
        .command(&["serve", "--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let text = [lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap()].join("\n");
    let shell = Command::new("sh").args(["-c", &format!("{text}\nprintf %s \"$OPENAI_API_KEY\"")]).output().unwrap();
    assert_eq!(String::from_utf8(shell.stdout).unwrap(), secret, "{text}");
    kill(Pid::from_raw(service.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(service.wait().unwrap().success());
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
    program.run_well(&["models", "remove", "org/tiny"]);
    assert_eq!(program.run_well(&["models", "list"]), "");
    let again = program.run(&["models", "remove", "org/tiny"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is no base model called org/tiny"));
    program.run_well(&["models", "import", data::tiny_model().to_str().unwrap(), "--name", "org/tiny"]);
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

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_the_first_key_goes_once_another_key_is_there_or_it_is_revoked() {
    for is_revoked in [false, true] {
        let program = Program::new();
        let (service, client) = program.serve().await;
        let path = program.state().join("bootstrap-key");
        let listed = program.run(&["keys", "list"]);
        let told = String::from_utf8(listed.stderr).unwrap();
        assert!(told.contains(&format!("the first key is in {} until", path.display())), "{told}");
        let id = String::from_utf8(listed.stdout).unwrap().split_whitespace().next().unwrap().to_owned();
        assert!(service.end(Signal::SIGTERM).success());
        if is_revoked {
            program.run_well(&["keys", "revoke", &id]);
        } else {
            let output = program.run(&["keys", "create", "mine", "--admin"]);
            let told = String::from_utf8(output.stderr).unwrap();
            assert!(told.contains("the file of the first key is removed"), "{told}");
            assert!(program.run_well(&["keys", "list"]).contains(" admin "));
        }
        assert!(!path.exists());
        let service = program.command(&["serve", "--listen", "127.0.0.1:0"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut service = Serving(service);
        let mut line = String::new();
        BufReader::new(service.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().trim_start_matches("export OPENAI_BASE_URL=http://").trim_end_matches("/v1");
        let first = client.at(address);
        let answer = first.get("/v1/models").await;
        assert_eq!(answer.status, if is_revoked { 401 } else { 200 }, "the key itself is what it was");
        assert!(!path.exists(), "and the file stays away");
        assert!(service.end(Signal::SIGTERM).success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_of_a_newer_version_is_refused_in_plain_words() {
    let (program, url) = (Program::new(), database::fresh().await);
    let db = finetuned::db::Db::connect(&url, 1).await.unwrap();
    sqlx::query(
        "insert into _sqlx_migrations (version, description, success, checksum, execution_time) \
         values (9998, 'a', true, '', 0), (9999, 'b', true, '', 0)",
    )
    .execute(db.pool())
    .await
    .unwrap();
    for command in [&["migrate"][..], &["serve", "--listen", "127.0.0.1:0"]] {
        let output = program.command(command).env("DATABASE_URL", &url).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{text}");
        assert!(text.contains("a newer version of finetuned (its schema is 9999, this program knows "), "{text}");
        assert!(text.contains("upgrade finetuned, or restore a backup"), "{text}");
    }
    sqlx::query("delete from _sqlx_migrations where version > 9000").execute(db.pool()).await.unwrap();
    sqlx::query("update _sqlx_migrations set checksum = '' where version = 1").execute(db.pool()).await.unwrap();
    db.close().await;
    let output = program.command(&["migrate"]).env("DATABASE_URL", &url).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("another build of finetuned (its migration 1 is not the one"), "{text}");
}

/// Everything a day old would be removed within seconds otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn what_writes_to_the_store_of_another_database_is_refused() {
    let (program, url) = (Program::new(), database::fresh().await);
    program.run_well(&["models", "import", data::tiny_model().to_str().unwrap(), "--name", "tiny"]);
    let id = std::fs::read_to_string(program.state().join("objects/store-id")).unwrap().trim().to_owned();
    let tiny = data::tiny_model();
    for arguments in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["serve", "--listen", "127.0.0.1:0", "--no-worker"],
        &["worker"],
        &["models", "import", tiny.to_str().unwrap(), "--name", "tiny"],
    ] {
        let output = program.command(arguments).env("DATABASE_URL", &url).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{arguments:?}: {told}");
        assert!(told.contains("is not this database's") && told.contains(&id), "{arguments:?}: {told}");
    }
    // What does not concern the store goes on.
    let listed = program.command(&["models", "list"]).env("DATABASE_URL", &url).output().unwrap();
    assert!(listed.status.success() && listed.stdout.is_empty());
    let (service, client) = program.serve().await;
    client.get("/v1/models/tiny").await.good();
    assert!(service.end(Signal::SIGTERM).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_written_is_an_error_and_its_key_is_revoked() {
    let program = Program::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    program.run_well(&["keys", "create", "good"]);
    let created = program.command(&["keys", "create", "lost"]).stdout(full()).output().unwrap();
    let told = String::from_utf8(created.stderr).unwrap();
    assert_eq!(created.status.code(), Some(1), "{told}");
    assert!(told.contains("could not be shown and is revoked") && told.contains("No space left"), "{told}");
    assert_eq!(program.processes(), Vec::<i32>::new(), "the database is stopped");
    let listed = program.run_well(&["keys", "list"]);
    let state = |name: &str| listed.lines().find(|line| line.contains(name)).unwrap().split_whitespace().nth(1);
    assert_eq!((state("good"), state("lost")), (Some("active"), Some("revoked")), "{listed}");

    for arguments in [&["keys", "list"][..], &["models", "list"]] {
        program.run_well(&["models", "import", data::tiny_model().to_str().unwrap()]);
        let output = program.command(arguments).stdout(full()).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("error: cannot write to standard output") && !told.contains("panicked"), "{told}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program.command(arguments).stdout(writer).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && !told.contains("error") && !told.contains("panicked"), "{told}");
        assert_eq!(program.processes(), Vec::<i32>::new());
    }
    let refused = program.run(&["keys", "create", "two\nlines"]);
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && told.contains("a key's name is 1 to 64 printable characters"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_beside_a_database_that_hangs_says_which_process_it_is() {
    let program = Program::new();
    let (service, _client) = program.serve().await;
    let text = std::fs::read_to_string(program.state().join("postgres/data/postmaster.pid")).unwrap();
    let pid: i32 = text.lines().next().unwrap().parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    let listed = program.run(&["keys", "list"]);
    kill(Pid::from_raw(pid), Signal::SIGCONT).unwrap();
    let told = String::from_utf8(listed.stderr).unwrap();
    assert!(!listed.status.success(), "{told}");
    assert!(told.contains(&format!("its PostgreSQL, process {pid}, takes no connections")), "{told}");
    assert!(service.end(Signal::SIGTERM).success());
}

#[test]
fn a_pipe_is_no_data_file() {
    let program = Program::new();
    let pipe = program.folder.path().join("pipe.csv");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut checking = program.command(&["check-data", pipe.to_str().unwrap()]).stderr(Stdio::piped()).spawn().unwrap();
    for _ in 0..300 {
        if checking.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    let _ = checking.kill();
    let output = checking.wait_with_output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && told.contains("pipe.csv is no file"), "{told}");
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
fn a_filter_of_the_log_that_is_none_is_a_fault() {
    let program = Program::new();
    let output = program.run(&["keys", "list", "--log", "][=,,"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("FINETUNED_LOG (--log) is \"][=,,\""), "{text}");
    assert!(!program.state().exists(), "nothing was begun");
}

#[test]
fn data_can_be_checked_without_a_service() {
    let program = Program::new();
    let path = program.folder.path().join("data.csv");
    std::fs::write(&path, data::csv(30)).unwrap();
    let text = program.run_well(&["check-data", path.to_str().unwrap()]);
    let end = "ready to train\nwhat to do:\n  1. Upload what is to be used, and create a job with \
               {\"method\":{\"type\":\"text_classification\"}}.\n";
    assert!(text.contains("30 examples, 3 labels") && text.ends_with(end), "{text}");
    std::fs::write(&path, format!("{}a,\n", data::csv(30))).unwrap();
    let bad = program.run(&["check-data", path.to_str().unwrap()]);
    assert!(!bad.status.success());
    let text = String::from_utf8_lossy(&bad.stdout);
    assert!(text.contains("\n  line 32, label: is empty\n") && text.ends_with("  2. Check again.\n"), "{text}");
    assert!(text.contains("what to do:\n  1. Training file has 1 fault: line 32, label: is empty\n"), "{text}");
    assert!(!program.state().exists());
}

#[test]
fn images_and_a_test_file_can_be_checked_and_an_error_names_its_file() {
    let program = Program::new();
    let digits = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/digits/digits.zip");
    let text = program.run_well(&["check-data", digits, "--test", digits]);
    for part in ["method: image_classification\n", "images of 8×8 to 8×8 pixels", "\ntest: ", "ready to train\n"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let path = program.folder.path().join("data.csv");
    std::fs::write(&path, data::csv(30)).unwrap();
    let path = path.to_str().unwrap();
    let bad = program.folder.path().join("test.csv");
    std::fs::write(&bad, "text,label\na,nowhere\n").unwrap();
    let refused = program.run(&["check-data", path, "--test", bad.to_str().unwrap()]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Test file has 1 fault: line 2, label"));
    for (arguments, told) in [
        (&["check-data", "nowhere.csv"][..], "the training file nowhere.csv: No such file"),
        (&["check-data", path, "--validation", "nowhere.zip"], "the validation file nowhere.zip: No such file"),
        (&["check-data", "/"], "the training file / is no file"),
        (&["models", "import", "/nowhere"], "/nowhere: No such file"),
        (&["models", "import", path], path),
    ] {
        let output = program.run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && stderr.contains(told), "{arguments:?}: {stderr}");
    }
}

#[test]
fn the_unit_lets_a_stopping_service_finish() {
    let unit = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/finetuned.service")).unwrap();
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
    assert_eq!((value("KillMode"), value("SuccessExitStatus"), value("OOMPolicy")), ("mixed", "75", "continue"));
    let shutdown = finetuned::config::SETTINGS.iter().find(|setting| setting.flag == "shutdown-seconds").unwrap();
    let (stop, shutdown): (u64, u64) = (value("TimeoutStopSec").parse().unwrap(), shutdown.default.parse().unwrap());
    assert!(stop >= shutdown + 30, "requests and the database are ended after the jobs");
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
