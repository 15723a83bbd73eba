//! The private PostgreSQL of a service without `DATABASE_URL`: found on the machine, run as our child on a unix socket,
//! durable, and taken over again if an earlier service died without stopping it.

mod server;
mod socket;
mod system;

use std::convert::Infallible;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::domain::hex::hex;
use server::{Process, Program, is_alive, is_stopping, running_server, stop_child, stop_process, wait_ready};
use system::{Owner, find_binaries, major_version};

/// How often a running server is looked at.
const LOOK: Duration = Duration::from_millis(500);
const USER: &str = "finetuned";

/// Why there is no private PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum EmbeddedError {
    #[error("no PostgreSQL found: install it, set FINETUNED_POSTGRES_BIN to its bin folder, or set DATABASE_URL")]
    NotFound,
    #[error("{data} was made by PostgreSQL {made_by}, but {binaries} is PostgreSQL {found}", data = data.display(), binaries = binaries.display())]
    Version { data: PathBuf, made_by: String, binaries: PathBuf, found: String },
    #[error("PostgreSQL must not run as root, and the user {user} cannot enter {blocked}; choose another state directory (FINETUNED_STATE_DIR), such as /var/lib/finetuned", blocked = blocked.display())]
    Unreachable { user: String, blocked: PathBuf },
    #[error("neither the user postgres nor nobody exists, and PostgreSQL must not run as root")]
    NoUser,
    #[error(
        "the private PostgreSQL that runs already, process {0}, neither answers nor ends: end it, or restart the machine"
    )]
    Stuck(i32),
    #[error(
        "the path {path:?} has {what}, which a private PostgreSQL cannot take; choose another state directory (FINETUNED_STATE_DIR), or set DATABASE_URL"
    )]
    Path { path: PathBuf, what: &'static str },
    #[error("{program} failed: {output}")]
    Failed { program: &'static str, output: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
}

fn io_error(what: impl Into<String>) -> impl FnOnce(io::Error) -> EmbeddedError {
    let what = what.into();
    move |source| EmbeddedError::Io { what, source }
}

/// How long a server that was started again must answer until its outage is over.
const STEADY: Duration = Duration::from_secs(30);

/// How long a server may take to answer.
const ANSWER: Duration = Duration::from_secs(2);

/// What is known of a server that does not stay up.
#[derive(Default)]
struct Outage {
    starts: u32,
    answers_since: Option<Instant>,
}

impl Outage {
    /// How long to wait before the next start: 0, 0.5, 1, 2 … seconds, and 30 at most.
    fn pause(&mut self) -> Duration {
        self.answers_since = None;
        let starts = self.starts;
        self.starts += 1;
        let doubled = |starts: u32| Duration::from_millis(500 << starts.min(6)).min(Duration::from_secs(30));
        starts.checked_sub(1).map_or(Duration::ZERO, doubled)
    }

    /// Whether the server answers, and has for a while.
    async fn is_over(&mut self, url: &str) -> bool {
        if !tokio::time::timeout(ANSWER, wait_ready(url, LOOK, || true)).await.unwrap_or(false) {
            self.answers_since = None;
            return false;
        }
        if self.answers_since.is_none() {
            tracing::info!("the private PostgreSQL answers again");
        }
        self.answers_since.get_or_insert_with(Instant::now).elapsed() >= STEADY
    }
}

/// A running private PostgreSQL.
pub struct PrivatePostgres {
    url: String,
    process: Process,
    program: Program,
}

impl PrivatePostgres {
    /// Starts the server whose data lies in `folder`, making it first if need be, or takes over the one that runs.
    /// The caller sees to it that no other process does the same for this folder. `runtime` is where the machine has
    /// sockets, for a folder whose path is too long for one.
    ///
    /// # Errors
    /// No usable PostgreSQL is found, or it does not start; the message says what to do.
    pub async fn open(
        folder: &Path,
        binaries: Option<&Path>,
        search_path: Option<&OsStr>,
        runtime: &Path,
    ) -> Result<Self, EmbeddedError> {
        check_path(folder)?;
        let owner = Owner::choose()?;
        let binaries = find_binaries(binaries, search_path).ok_or(EmbeddedError::NotFound)?;
        owner.check_reach(folder)?;
        let data = folder.join("data");
        let password = prepare(folder, &data, &binaries, &owner)?;
        let socket = socket::prepare(folder, runtime, &owner)?;
        let url = url(&password, &socket);
        let program = Program { owner, binaries, data, socket, log: folder.join("postgres.log") };
        let running = running_server(&program.data);
        if let Some(pid) = running {
            if wait_ready(&url, Duration::from_secs(5), || true).await {
                return Ok(Self { url, process: Process::Adopted(pid), program });
            }
            if !stop_process(pid).await {
                return Err(EmbeddedError::Stuck(pid.as_raw()));
            }
        }
        let child = program.start(&url).await?;
        Ok(Self { url, process: Process::Child(child), program })
    }

    /// Starts the server again whenever it dies: at once, then ever later while it does not come up, as where its disk is
    /// full. Meanwhile requests are told to come again, and jobs go on. Each outage is said once.
    pub async fn keep_running(&mut self) -> Infallible {
        let mut outage: Option<Outage> = None;
        loop {
            tokio::time::sleep(LOOK).await;
            let (pid, runs) = self.look();
            if runs {
                if is_stopping(&self.program.data, pid) {
                    tracing::warn!("the private PostgreSQL was told to stop by someone else; it is started again");
                    let _ = kill(pid, Signal::SIGINT);
                } else if let Some(known) = &mut outage
                    && known.is_over(&self.url).await
                {
                    outage = None;
                }
                continue;
            }
            let known = outage.get_or_insert_with(|| {
                let reason = self.program.last_words();
                tracing::error!(reason, "the private PostgreSQL died and is started again");
                Outage::default()
            });
            tokio::time::sleep(known.pause()).await;
            // Its last backends may still be on their way out; then it ends at once, and the next look starts another.
            match self.program.spawn() {
                Ok(child) => self.process = Process::Child(child),
                Err(error) => tracing::debug!(%error, "the private PostgreSQL cannot be started yet"),
            }
        }
    }

    /// The server's process, and whether it is there.
    fn look(&mut self) -> (Pid, bool) {
        match &mut self.process {
            Process::Child(child) => (Pid::from_raw(child.id().cast_signed()), matches!(child.try_wait(), Ok(None))),
            Process::Adopted(pid) => (*pid, is_alive(*pid)),
        }
    }

    /// The process of the server that runs in `folder`, whether it answers or not.
    pub fn pid_of_running(folder: &Path) -> Option<i32> {
        running_server(&folder.join("data")).map(Pid::as_raw)
    }

    /// The URL of a server that runs in `folder`, if one was ever made there.
    pub fn url_of_running(folder: &Path) -> Option<String> {
        running_server(&folder.join("data"))?;
        let password = socket::read_own(&folder.join("password")).ok()?;
        Some(url(&password, &socket::find(folder)?))
    }

    /// Where to connect.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops the server in an orderly way.
    pub async fn stop(self) {
        match self.process {
            Process::Child(child) => stop_child(child).await,
            Process::Adopted(pid) => {
                stop_process(pid).await;
            }
        }
        if let Some(folder) = self.program.data.parent() {
            socket::clear(folder);
        }
    }
}

/// Refuses what PostgreSQL would fail at without a word of why: it takes commas for the ends of names (of folders of
/// sockets), and starts its programs by a shell that no line break gets through.
fn check_path(folder: &Path) -> Result<(), EmbeddedError> {
    let bytes = folder.as_os_str().as_encoded_bytes();
    for (unusable, what) in [(b',', "a comma"), (b'\n', "a line break"), (b'\r', "a line break")] {
        if bytes.contains(&unusable) {
            return Err(EmbeddedError::Path { path: folder.to_owned(), what });
        }
    }
    Ok(())
}

/// Makes the data folder if it is not there, and returns the password. A half-made data folder never gets its name.
fn prepare(folder: &Path, data: &Path, binaries: &Path, owner: &Owner) -> Result<String, EmbeddedError> {
    let what = |path: &Path| path.display().to_string();
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(io_error(what(folder)))?;
    owner.give_folder(folder)?;
    let password_file = folder.join("password");
    let version_file = data.join("PG_VERSION");
    if !version_file.exists() {
        let fresh = folder.join("data.new");
        if fresh.exists() {
            fs::remove_dir_all(&fresh).map_err(io_error(what(&fresh)))?;
        }
        write_password(&password_file, owner)?;
        let mut initdb = owner.command(&binaries.join("initdb"));
        initdb.arg("-D").arg(&fresh).arg("--pwfile").arg(&password_file);
        initdb.args(["-U", USER, "--auth=scram-sha-256", "--data-checksums", "--encoding=UTF8", "--locale=C"]);
        let output = initdb.output().map_err(io_error("initdb"))?;
        if !output.status.success() {
            let output = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(EmbeddedError::Failed { program: "initdb", output });
        }
        fs::rename(&fresh, data).map_err(io_error(what(data)))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error(what(folder)))?;
    }
    let made_by = fs::read_to_string(&version_file).map_err(io_error(what(&version_file)))?.trim().to_owned();
    let found = major_version(owner, binaries)?;
    if made_by != found {
        return Err(EmbeddedError::Version { data: data.to_owned(), made_by, binaries: binaries.to_owned(), found });
    }
    socket::read_own(&password_file).map_err(io_error(what(&password_file)))
}

/// Writes a new random password where only the owner and root can read it.
fn write_password(path: &Path, owner: &Owner) -> Result<(), EmbeddedError> {
    let what = || io_error(path.display().to_string());
    let mut random = [0; 24];
    getrandom::fill(&mut random).map_err(|error| what()(io::Error::other(error)))?;
    let password = hex(&random);
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    let mut file = options.open(path).map_err(what())?;
    file.write_all(password.as_bytes()).and_then(|()| file.sync_all()).map_err(what())?;
    owner.give(path)
}

fn url(password: &str, socket: &Path) -> String {
    let host = socket.to_string_lossy().replace('%', "%25").replace('/', "%2F").replace(' ', "%20");
    format!("postgres://{USER}:{password}@localhost/postgres?host={host}")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Outage, PrivatePostgres};

    #[tokio::test]
    async fn a_path_that_postgresql_cannot_take_is_refused_by_name() {
        let top = tempfile::tempdir().unwrap();
        for (name, told) in [("a,b", "a comma"), ("a\nb", "a line break"), ("a\rb", "a line break")] {
            let folder = top.path().join(name).join("postgres");
            let error = PrivatePostgres::open(&folder, None, None, Path::new("/run")).await.err().unwrap().to_string();
            assert!(error.contains(told) && error.contains("FINETUNED_STATE_DIR"), "{error}");
            assert!(!folder.exists(), "nothing is made");
        }
    }

    #[test]
    fn a_server_that_does_not_come_up_is_tried_ever_later() {
        let mut outage = Outage::default();
        let pauses: Vec<u128> = std::iter::repeat_with(|| outage.pause().as_millis()).take(9).collect();
        assert_eq!(pauses, [0, 500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000]);
    }
}
