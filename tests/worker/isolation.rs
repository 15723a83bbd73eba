//! What other users of the machine, and trainers that were taken over by what they read, can reach.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use finetuned::config::Config;
use nix::sys::signal::Signal;
use nix::unistd::{User, geteuid};
use serde_json::{Value, json};

use super::embedded;
use super::process::Program;
use super::support::data;
use super::support::fleet::trainers_in;
use super::support::service::{Service, eventually, trainer};

/// A user who has nothing to do with the service.
const NOBODY: u32 = 65534;

/// The users of trainers of a service that is root, where nobody named one.
const OF_TRAINERS: std::ops::RangeInclusive<u32> = 60_706..=61_183;

/// Everything below a folder.
fn walk(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        // What is gone meanwhile cannot be read.
        for path in std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path()) {
            if std::fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_dir()) {
                folders.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

/// Those of `paths` that a stranger can read, write or pass.
fn reachable(paths: &[PathBuf]) -> String {
    let mut shell = Command::new("sh");
    let look = r#"for p; do if [ -r "$p" ] || [ -w "$p" ] || [ -x "$p" ]; then echo "$p"; fi; done"#;
    shell.arg("-c").arg(look).arg("sh").args(paths).current_dir("/").uid(NOBODY).gid(NOBODY);
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn closed(state: &Path) {
    let mode = |path: &Path| std::fs::symlink_metadata(path).unwrap().mode();
    assert_eq!(mode(state) & 0o066, 0, "nobody else lists or changes the state folder");
    for entry in std::fs::read_dir(state).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o077, 0, "{}", path.display());
    }
    if geteuid().is_root() {
        assert_eq!(reachable(&walk(state)), "");
        let own = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(own.path(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(!reachable(&[own.path().to_owned()]).is_empty(), "the stranger can look");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_reach_nothing_of_the_state_folder() {
    let program = Program::new();
    let model = data::tiny_model();
    let import = ["models", "import", model.to_str().unwrap()];
    program.run_well(&import);
    // As earlier versions left it.
    let (objects, lock) = (program.state().join("objects/files"), program.state().join("service.lock"));
    std::fs::create_dir_all(&objects).unwrap();
    std::fs::write(objects.join("old"), "an upload").unwrap();
    std::fs::write(&lock, "").unwrap();
    for (path, mode) in [(program.state(), 0o755), (objects, 0o755), (lock, 0o666)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    program.run_well(&[&import[..], &["--name", "again"]].concat());
    closed(&program.state());

    let (service, client) = program.serve().await;
    let file = client.upload("data.csv", data::csv(300)).await;
    let id = client.create_job(&file, json!({"n_epochs": 12, "batch_size": 8, "checkpoint_interval": 20})).await;
    client.wait_for(&id, &["running"], 60).await;
    let runs = program.state().join("runs");
    eventually("the run's files", 60, async || {
        walk(&runs).iter().any(|path| path.ends_with("spec.json")).then_some(())
    })
    .await;
    closed(&program.state());
    let pid = eventually("the trainer", 60, async || trainers_in(&runs).first().copied()).await;
    let (user, gave_up) = status_of(pid);
    assert!(gave_up, "no program makes it more than it is");
    if geteuid().is_root() && !reachable(&[trainer()]).is_empty() {
        assert!(OF_TRAINERS.contains(&user), "{user}");
    }
    assert_eq!(client.wait_for_end(&id).await["status"], "succeeded");
    closed(&program.state());
    assert!(service.end(Signal::SIGTERM).success());
}

/// Whether the kernel has a fence with all that is used of it.
fn has_landlock() -> bool {
    // SAFETY: asks for the version, which takes no memory (`landlock_create_ruleset(2)`).
    let version = unsafe { nix::libc::syscall(nix::libc::SYS_landlock_create_ruleset, 0, 0, 1) };
    version >= 6
}

/// Makes a script the trainer of a service.
fn employ(config: &mut Config, trainer: &Path, script: &str) {
    std::fs::write(trainer, script.replace("CHECKED", data::TINY_CHECKED)).unwrap();
    std::fs::set_permissions(trainer, PermissionsExt::from_mode(0o755)).unwrap();
    config.trainer = trainer.to_owned();
}

/// What a script that is a trainer had to say of a job on the tiny model: whom it ran as, and the rest. The id of the job
/// and that of its file, too.
async fn told(service: &mut Service) -> (u32, String, String, String) {
    service.import_tiny_model().await;
    let other = service.app.runs().join("other");
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("spec.json"), "{}").unwrap();
    service.start_worker();
    let client = service.client();
    let file = client.upload("data.csv", data::csv(30)).await;
    let id = client.create_job(&file, json!({})).await;
    let job: Value = client.wait_for_end(&id).await;
    let message = job["error"]["message"].as_str().unwrap_or_else(|| panic!("{job:#}"));
    let (user, rest) = message.split_once(' ').unwrap();
    (user.parse().unwrap(), rest.to_owned(), id, file)
}

#[track_caller]
fn is_a_trainers(user: u32) {
    let own = geteuid();
    assert!(if own.is_root() { OF_TRAINERS.contains(&user) } else { user == own.as_raw() }, "{user}");
}

/// Tries everything that a trainer has no business with, and reports what it could do.
const TAKEN_OVER: &str = r#"#!/bin/bash
if [ "$1" = devices ]; then echo '{"cuda":0,"cpu_bf16":false}'; exit; fi
if [ "$1" = check ]; then echo 'CHECKED'; exit; fi
got=$(id -u)
try() { name=$1; shift; if ( eval "$*" ) >/dev/null 2>&1; then got="$got $name"; fi; }
try data 'cat spec.json data/training_file model/config.json'
try own 'mkdir new && echo x > new/file && cat new/file && rm -r new'
try change 'echo x >> data/training_file'
try environment 'cat /proc/$PPID/environ'
try memory 'head -c 1 /proc/$PPID/maps || head -c 1 /proc/$PPID/mem || readlink /proc/$PPID/fd/*'
try list 'ls STATE || ls STATE/runs || ls STATE/objects || ls ..'
try read 'cat STATE/worker-id || cat STATE/objects/models/*/config.json'
try other 'cat STATE/runs/other/spec.json'
try write 'echo x > STATE/planted || echo x > STATE/objects/planted || echo x > ../planted'
try signal 'kill -CONT $PPID'
try link 'ln -s /etc/passwd link'
try temporary 'echo x > /tmp/PLANTED'
try network 'exec 3<>/dev/tcp/127.0.0.1/PORT'
mkdir output
ln -s /etc/passwd output/model.safetensors
printf %s '{"type":"started","device":"cpu","precision":"fp32","step":0,"total_steps":4,"training_examples":27,'
echo '"validation_examples":3,"truncated":0,"mean_tokens":5.0,"parameters":10}'
step=0
for directory in VICTIM ../.. /etc output/../..; do
  step=$((step + 1))
  echo '{"type":"step","step":'$step',"epoch":0.5,"seconds":0.1,"metrics":{}}'
  echo '{"type":"checkpoint","step":'$step',"directory":"'$directory'","metrics":{}}'
done
echo '{"type":"failed","error":{"code":"x","message":"'$got'","param":null}}'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_was_taken_over_reaches_nothing_but_its_folder() {
    if !has_landlock() {
        println!("skipped: this kernel has no Landlock");
        return;
    }
    // The trainer's user reaches what lies here.
    let folder = embedded::folder();
    let victim = folder.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("file"), "not the trainer's").unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let planted = format!("finetuned-planted-{}", std::process::id());
    let mut service = Service::with(|config| {
        let script = TAKEN_OVER
            .replace("STATE", config.state_dir.to_str().unwrap())
            .replace("VICTIM", victim.to_str().unwrap())
            .replace("PORT", &listener.local_addr().unwrap().port().to_string())
            .replace("PLANTED", &planted);
        employ(config, &folder.path().join("trainer.sh"), &script);
    })
    .await;
    let (user, reached, id, file) = told(&mut service).await;
    is_a_trainers(user);
    assert_eq!(reached, "data own change");

    // What it named as its checkpoints was neither stored nor removed, and its data was a copy.
    let client = service.client();
    let checkpoints = client.get(&format!("/v1/fine_tuning/jobs/{id}/checkpoints")).await.good();
    assert_eq!(checkpoints["data"], json!([]));
    assert_eq!(std::fs::read_to_string(victim.join("file")).unwrap(), "not the trainer's");
    assert_eq!(client.get(&format!("/v1/files/{file}/content")).await.bytes, data::csv(30).as_bytes());
    assert!(!Path::new("/tmp").join(planted).exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trainer_that_lies_in_a_folder_of_the_service_reads_nothing_else_of_it() {
    if !has_landlock() {
        println!("skipped: this kernel has no Landlock");
        return;
    }
    let own = User::from_uid(geteuid()).unwrap().unwrap().name;
    let mut service = Service::with(|config| {
        let state = config.state_dir.clone();
        // Its libraries are said to lie there, too.
        let script = TAKEN_OVER
            .replace(r#""cpu_bf16":false"#, r#""cpu_bf16":false,"folders":["STATE"]"#)
            .replace("STATE", state.to_str().unwrap())
            .replace("VICTIM", "output")
            .replace("PORT", "9")
            .replace("PLANTED", &format!("finetuned-planted-beside-{}", std::process::id()));
        employ(config, &state.join("trainer.sh"), &script);
        // Nothing but the fence is between them, as where the service is not root.
        config.trainer_user = Some(own);
    })
    .await;
    let (user, reached, ..) = told(&mut service).await;
    assert_eq!(user, geteuid().as_raw());
    assert_eq!(reached, "data own change");
}

/// Leaves a process in a session of its own, without pipes and environment, and says whom it runs as.
const LEAVES: &str = r#"#!/bin/bash
if [ "$1" = devices ]; then echo '{"cuda":0,"cpu_bf16":false}'; exit; fi
if [ "$1" = check ]; then echo 'CHECKED'; exit; fi
(cd / && exec setsid env -i sleep SECONDS) </dev/null >/dev/null 2>&1 &
until grep -qs SECONDS /proc/$!/cmdline; do sleep 0.05; done
echo '{"type":"failed","error":{"code":"x","message":"'$(id -u)' left","param":null}}'
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_a_trainer_left_ends_with_its_run() {
    if !geteuid().is_root() {
        println!("skipped: without root a trainer has no user of its own, by which what it left is found");
        return;
    }
    let folder = embedded::folder();
    let seconds = format!("600.{}", std::process::id());
    let script = LEAVES.replace("SECONDS", &seconds);
    let mut service = Service::with(|config| employ(config, &folder.path().join("trainer.sh"), &script)).await;
    let (user, said, ..) = told(&mut service).await;
    is_a_trainers(user);
    assert_eq!(said, "left");
    let left = std::fs::read_dir("/proc").unwrap().flatten().filter(|process| {
        let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        command.starts_with(b"sleep\0") && String::from_utf8_lossy(&command).contains(&seconds)
    });
    assert_eq!(left.count(), 0);
}

/// The user that a process runs as, and whether it gave up new privileges.
fn status_of(pid: i32) -> (u32, bool) {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    (field("Uid:").split_whitespace().next().unwrap().parse().unwrap(), field("NoNewPrivs:") == "1")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_root_keeps_its_environment_to_itself() {
    if !geteuid().is_root() || reachable(&[trainer()]).is_empty() {
        println!("skipped: running as another user needs root, and programs that the user can reach");
        return;
    }
    let program = Program::new().owned_by(NOBODY);
    program.run_well(&["models", "import", data::tiny_model().to_str().unwrap()]);
    let (service, client) = program.serve().await;
    let read = |file: &str| {
        let path = format!("/proc/{}/{file}", service.pid());
        let mut cat = Command::new("cat");
        cat.arg(path).uid(NOBODY).gid(NOBODY).output().unwrap().status.success()
    };
    assert!(read("status") && !read("environ") && !read("maps"), "its user reads neither environment nor memory");
    let file = client.upload("data.csv", data::csv(30)).await;
    let id = client.create_job(&file, json!({"n_epochs": 1})).await;
    assert_eq!(client.wait_for_end(&id).await["status"], "succeeded", "its trainer works behind the fence");
    assert!(service.end(Signal::SIGTERM).success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_for_trainers_that_cannot_be_had_is_said() {
    let mut service = Service::with(|config| config.trainer_user = Some("no-such-user".to_owned())).await;
    let error = service.app.premises().await.err().unwrap();
    assert_eq!(error, "FINETUNED_TRAINER_USER: there is no user no-such-user");
    service.stop_worker().await;
}
