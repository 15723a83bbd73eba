//! The private PostgreSQL.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use finetuned::db::Db;
use finetuned::db::embedded::{EmbeddedError, PrivatePostgres};
use sha2::{Digest, Sha256};

use super::machines::SmallDisk;
use super::support::service::eventually;

/// A folder that the server's user can reach.
pub fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    folder
}

async fn open(folder: &Path) -> Result<PrivatePostgres, EmbeddedError> {
    let given = std::env::var_os("FINETUNED_POSTGRES_BIN").map(std::path::PathBuf::from);
    let path = std::env::var_os("PATH");
    PrivatePostgres::open(&folder.join("postgres"), given.as_deref(), path.as_deref(), Path::new("/run")).await
}

fn server_pid(folder: &Path) -> Option<i32> {
    let text = std::fs::read_to_string(folder.join("postgres/data/postmaster.pid")).ok()?;
    text.lines().next()?.parse().ok()
}

async fn ask(server: &PrivatePostgres, query: &'static str) -> String {
    let db = Db::connect(server.url(), 2).await.unwrap();
    let answer: String = sqlx::query_scalar(query).fetch_one(db.pool()).await.unwrap();
    db.close().await;
    answer
}

#[tokio::test]
async fn it_keeps_its_data_durably_and_to_itself() {
    let folder = folder();
    let server = open(folder.path()).await.unwrap();
    assert_eq!(ask(&server, "show fsync").await, "on");
    assert_eq!(ask(&server, "show data_checksums").await, "on");
    assert_eq!(ask(&server, "show listen_addresses").await, "");
    let mode =
        |name: &str| std::fs::metadata(folder.path().join("postgres").join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("data"), mode("password")), (0o700, 0o700, 0o600));
    let wrong = server.url().replacen(&server.url()[21..69], &"0".repeat(48), 1);
    assert!(Db::connect(&wrong, 1).await.is_err(), "the password is asked for");
    let db = Db::connect(server.url(), 2).await.unwrap();
    sqlx::query("create table kept (word text)").execute(db.pool()).await.unwrap();
    sqlx::query("insert into kept values ('here')").execute(db.pool()).await.unwrap();
    db.close().await;
    server.stop().await;
    assert!(server_pid(folder.path()).is_none());
    let server = open(folder.path()).await.unwrap();
    assert_eq!(ask(&server, "select word from kept").await, "here");
    server.stop().await;
}

#[tokio::test]
async fn a_server_left_running_is_taken_over() {
    let folder = folder();
    let first = open(folder.path()).await.unwrap();
    let pid = server_pid(folder.path()).unwrap();
    std::mem::forget(first);
    let second = open(folder.path()).await.unwrap();
    assert_eq!(server_pid(folder.path()), Some(pid));
    assert_eq!(ask(&second, "select 'works'").await, "works");
    second.stop().await;
    assert!(server_pid(folder.path()).is_none());
}

#[tokio::test]
async fn a_killed_server_recovers() {
    let folder = folder();
    let first = open(folder.path()).await.unwrap();
    let db = Db::connect(first.url(), 2).await.unwrap();
    sqlx::query("create table kept as select 'here' as word").execute(db.pool()).await.unwrap();
    let pid = server_pid(folder.path()).unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    // As its parent we would have to reap it; a restarted service is not its parent.
    std::mem::forget(first);
    nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(pid), None).unwrap();
    let second = open(folder.path()).await.unwrap();
    assert_ne!(server_pid(folder.path()), Some(pid));
    assert_eq!(ask(&second, "select word from kept").await, "here");
    second.stop().await;
}

/// A service that was killed leaves its dead server to whoever inherits it, who may take a while to notice. Until then
/// PostgreSQL takes the dead one for another server on the same data.
#[tokio::test]
async fn a_killed_server_that_nobody_has_noticed_yet_is_waited_for() {
    let folder = folder();
    let first = open(folder.path()).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(server_pid(folder.path()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    std::mem::forget(first);
    let reaper = tokio::task::spawn_blocking(move || {
        std::thread::sleep(std::time::Duration::from_secs(2));
        nix::sys::wait::waitpid(pid, None).unwrap();
    });
    let second = open(folder.path()).await.unwrap();
    assert!(reaper.is_finished(), "the dead server was in the way until it was noticed");
    assert_eq!(ask(&second, "select 'works'").await, "works");
    second.stop().await;
}

#[tokio::test]
async fn what_stands_in_its_way_is_said() {
    let folder = folder();
    open(folder.path()).await.unwrap().stop().await;
    std::fs::write(folder.path().join("postgres/data/PG_VERSION"), "9\n").unwrap();
    let error = open(folder.path()).await.err().unwrap().to_string();
    assert!(error.contains("was made by PostgreSQL 9, but"), "{error}");

    let none =
        PrivatePostgres::open(&folder.path().join("other"), Some(Path::new("/nowhere")), None, Path::new("/run")).await;
    assert!(matches!(none, Err(EmbeddedError::NotFound)));

    if nix::unistd::geteuid().is_root() {
        let closed = tempfile::tempdir().unwrap();
        std::fs::set_permissions(closed.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        let error = open(closed.path()).await.err().unwrap().to_string();
        assert!(error.contains("cannot enter") && error.contains("FINETUNED_STATE_DIR"), "{error}");
    }
}

#[tokio::test]
async fn a_long_path_does_not_matter() {
    let folder = folder();
    let deep = folder.path().join("a".repeat(60)).join("b".repeat(60));
    std::fs::create_dir_all(&deep).unwrap();
    for path in [deep.parent().unwrap(), &deep] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).unwrap();
    }
    // Where earlier versions had the socket: a name that everyone could work out.
    let (victim, digest) = (folder.path().join("victim"), Sha256::digest(deep.join("postgres").as_os_str().as_bytes()));
    let guessed: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    let planted = std::env::temp_dir().join(format!("finetuned-{guessed}"));
    std::fs::create_dir(&victim).unwrap();
    std::os::unix::fs::symlink(&victim, &planted).unwrap();
    let owner = std::fs::metadata(&victim).unwrap().uid();
    let server = open(&deep).await;
    std::fs::remove_file(&planted).unwrap();
    let server = server.unwrap();
    assert_eq!(ask(&server, "select 'works'").await, "works");
    assert_eq!(std::fs::metadata(&victim).unwrap().uid(), owner, "the link was not followed");
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
    let running = PrivatePostgres::url_of_running(&deep.join("postgres"));
    assert_eq!(running.as_deref(), Some(server.url()), "other commands find it");
    let other = PrivatePostgres::url_of_running(&folder.path().join("other"));
    assert_eq!(other, None);
    let socket = std::fs::read_to_string(deep.join("postgres/socket-folder")).unwrap();
    server.stop().await;
    assert!(!Path::new(&socket).exists(), "it leaves nothing behind");
}

/// A smart shutdown waits for the sessions there are, and takes no new ones: for ever, if nobody acts.
#[tokio::test]
async fn a_server_that_someone_else_told_to_stop_is_started_again() {
    let folder = folder();
    let mut server = open(folder.path()).await.unwrap();
    let pid = server_pid(folder.path()).unwrap();
    let url = server.url().to_owned();
    let session = Db::connect(&url, 1).await.unwrap();
    let held = session.connection().await.unwrap();
    tokio::select! {
        never = server.keep_running() => match never {},
        () = async {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
            let again = async || {
                let _: () = Db::connect(&url, 1).await.ok()?.close().await;
                server_pid(folder.path()).filter(|&found| found != pid)
            };
            eventually("another one to answer", 30, again).await;
        } => {}
    }
    drop(held);
    server.stop().await;
    assert!(server_pid(folder.path()).is_none());
}

#[tokio::test]
async fn a_server_that_dies_is_started_again() {
    let folder = folder();
    let mut server = open(folder.path()).await.unwrap();
    let pid = server_pid(folder.path()).unwrap();
    let url = server.url().to_owned();
    tokio::select! {
        never = server.keep_running() => match never {},
        () = async {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
            let again = async || {
                let _: () = Db::connect(&url, 1).await.ok()?.close().await;
                Some(())
            };
            eventually("it to die", 10, async || server_pid(folder.path()).filter(|&p| p != pid)).await;
            eventually("it to answer again", 20, again).await;
        } => {}
    }
    server.stop().await;
    assert!(server_pid(folder.path()).is_none());
}

#[tokio::test]
async fn a_server_whose_disk_is_full_comes_back_once_there_is_room() {
    let Some(disk) = SmallDisk::mount(160) else {
        println!("skipped: mounting a small file system needs root");
        return;
    };
    std::fs::set_permissions(disk.folder.path(), std::fs::Permissions::from_mode(0o711)).unwrap();
    let mut server = open(disk.folder.path()).await.unwrap();
    let url = server.url().to_owned();
    tokio::select! {
        never = server.keep_running() => match never {},
        () = async {
            let db = Db::connect(&url, 1).await.unwrap();
            sqlx::query("create table kept as select 'here' as word").execute(db.pool()).await.unwrap();
            disk.fill();
            // It dies for want of another piece of its log, and has no room to start in either.
            eventually("it to be down", 60, async || {
                let large = "insert into kept select repeat('x', 1000) from generate_series(1, 20000)";
                let _ = sqlx::query(large).execute(db.pool()).await;
                let _ = sqlx::query("select pg_switch_wal()").execute(db.pool()).await;
                Db::connect(&url, 1).await.is_err().then_some(())
            })
            .await;
            tokio::time::sleep(std::time::Duration::from_secs(3)).await;
            disk.free();
            let word = eventually("it to answer again", 60, async || {
                let db = Db::connect(&url, 1).await.ok()?;
                sqlx::query_scalar::<_, String>("select word from kept limit 1").fetch_one(db.pool()).await.ok()
            })
            .await;
            assert_eq!(word, "here");
        } => {}
    }
    server.stop().await;
}

fn halt(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGSTOP).unwrap();
}

/// Waits for what must end, even on a busy machine.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(std::time::Duration::from_mins(2), work).await.unwrap()
}

/// A server that hangs accepts connections, by the kernel, and says nothing; it heeds no signal but the last.
#[tokio::test]
async fn a_server_that_hangs_is_stopped_and_one_left_hanging_is_replaced() {
    let folder = folder();
    let first = open(folder.path()).await.unwrap();
    let pid = server_pid(folder.path()).unwrap();
    assert_eq!(PrivatePostgres::pid_of_running(&folder.path().join("postgres")), Some(pid));
    halt(pid);
    soon(first.stop()).await;
    assert!(server_pid(folder.path()).is_none());

    let second = open(folder.path()).await.unwrap();
    halt(server_pid(folder.path()).unwrap());
    // As its service is gone, it is nobody's child that we know of.
    std::mem::forget(second);
    let third = soon(open(folder.path())).await.unwrap();
    assert_eq!(ask(&third, "select 'works'").await, "works");
    soon(third.stop()).await;
    assert!(server_pid(folder.path()).is_none());
}
