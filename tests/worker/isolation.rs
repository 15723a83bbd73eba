//! What other users of the machine, and trainers that were taken over by what they read, can reach.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::json;

use super::process::Program;
use super::support::data;

/// A user who has nothing to do with the service.
const NOBODY: u32 = 65534;

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
    if nix::unistd::geteuid().is_root() {
        assert_eq!(reachable(&walk(state)), "");
        let own = tempfile::NamedTempFile::new().unwrap();
        std::fs::set_permissions(own.path(), PermissionsExt::from_mode(0o644)).unwrap();
        assert!(!reachable(&[own.path().to_owned()]).is_empty(), "the stranger can look");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_users_reach_nothing_of_the_state_folder() {
    let program = Program::new();
    // As earlier versions left it.
    let (objects, lock) = (program.state().join("objects/files"), program.state().join("service.lock"));
    std::fs::create_dir_all(&objects).unwrap();
    std::fs::write(objects.join("old"), "an upload").unwrap();
    std::fs::write(&lock, "").unwrap();
    for (path, mode) in [(program.state(), 0o755), (objects, 0o755), (lock, 0o666)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    }
    program.run_well(&["models", "import", data::tiny_model().to_str().unwrap()]);
    closed(&program.state());

    let (service, client) = program.serve().await;
    let file = client.upload("data.csv", data::csv(300)).await;
    let id = client.create_job(&file, json!({"n_epochs": 12, "batch_size": 8, "checkpoint_interval": 20})).await;
    client.wait_for(&id, &["running"], 60).await;
    let runs = program.state().join("runs");
    super::support::service::eventually("the run's files", 60, async || {
        walk(&runs).iter().any(|path| path.ends_with("spec.json")).then_some(())
    })
    .await;
    closed(&program.state());
    assert_eq!(client.wait_for_end(&id).await["status"], "succeeded");
    closed(&program.state());
    assert!(service.end(Signal::SIGTERM).success());
}
