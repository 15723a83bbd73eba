//! The service's settings: each defined once, read from flags and environment, all faults reported together.

mod reader;
mod values;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use values::{Allocation, DatabaseUrl, StoreLocation};

use reader::Reader;

use crate::disk::Reserve;
use crate::domain::quota::Quotas;
use crate::failpoint::Failpoints;

/// One setting.
pub struct Setting {
    /// The environment variable.
    pub env: &'static str,
    /// The command-line flag, without dashes; it wins over the environment.
    pub flag: &'static str,
    /// What holds where neither is given, for people.
    pub default: &'static str,
    pub doc: &'static str,
    pub scope: Scope,
}

/// The commands that a setting concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every command on a service's data.
    All,
    /// `serve` and `worker`.
    Work,
    /// `serve` alone.
    Serve,
    /// `worker` alone.
    Worker,
}

impl Scope {
    /// Whether it is a matter of this command.
    pub fn concerns(self, command: &str) -> bool {
        match self {
            Self::All => command != "check-data",
            Self::Work => matches!(command, "serve" | "worker"),
            Self::Serve => command == "serve",
            Self::Worker => command == "worker",
        }
    }
}

macro_rules! settings {
    (@scope) => { Scope::Work };
    (@scope $scope:ident) => { Scope::$scope };
    ($($name:ident = $env:literal, $flag:literal, $default:literal, $doc:literal $(, $scope:ident)?;)*) => {
        $(const $name: Setting = Setting {
            env: $env, flag: $flag, default: $default, doc: $doc, scope: settings!(@scope $($scope)?)
        };)*

        /// All settings, in the order of the documentation.
        pub const SETTINGS: &[Setting] = &[$($name),*];
    };
}

settings! {
    LISTEN = "FINETUNED_LISTEN", "listen", "127.0.0.1:8080", "Address and port of the API; port 0 takes a free one", Serve;
    STATE_DIR = "FINETUNED_STATE_DIR", "state-dir", "$XDG_STATE_HOME/finetuned, or /var/lib/finetuned for root",
        "Folder of everything the service keeps", All;
    DATABASE_URL = "DATABASE_URL", "database-url", "a private PostgreSQL in the state folder",
        "PostgreSQL to use, as postgres://user:password@host/database", All;
    DATABASE_CONNECTIONS = "FINETUNED_DATABASE_CONNECTIONS", "database-connections", "16",
        "Most connections to the database for requests";
    POSTGRES_BIN = "FINETUNED_POSTGRES_BIN", "postgres-bin", "the newest found on the machine",
        "Folder of the programs of the private PostgreSQL", All;
    STORE_DIR = "FINETUNED_STORE_DIR", "store-dir", "objects/ in the state folder", "Folder of uploads and models", All;
    STORE_URL = "FINETUNED_STORE_URL", "store-url", "",
        "Bucket of uploads and models, as s3://bucket/prefix, in place of a folder; AWS_* variables say how to reach it", All;
    RUNS_DIR = "FINETUNED_RUNS_DIR", "runs-dir", "runs/ in the state folder",
        "Folder of the training runs at work; a fast local disk serves best";
    TRAINER = "FINETUNED_TRAINER", "trainer", "finetuned-trainer beside this program", "The training program";
    TRAINER_USER = "FINETUNED_TRAINER_USER", "trainer-user",
        "for root finetuned-trainer, if there is that user, or an id for each; else the service's own",
        "User that trainers and models at work run as";
    LIBTORCH = "FINETUNED_LIBTORCH", "libtorch", "where the trainer was built", "Folder of libtorch's libraries";
    SLOTS = "FINETUNED_SLOTS", "slots", "auto",
        "Jobs that run at once: auto is as many as each GPU has slots, or one on the CPU";
    SLOTS_PER_GPU = "FINETUNED_SLOTS_PER_GPU", "slots-per-gpu", "1",
        "Jobs that share a GPU, each with its part of the memory: small models leave most of one idle";
    TRAINER_THREADS = "FINETUNED_TRAINER_THREADS", "trainer-threads", "0",
        "CPU threads of one job; 0 shares the cores among the slots";
    SPARE_TRAINERS = "FINETUNED_SPARE_TRAINERS", "spare-trainers", "on",
        "Whether a trainer with libtorch loaded waits for the next job, on each GPU if there are some: on or off; on the CPU \
         it holds 64 MiB and a 32nd of the memory, up to 512 MiB";
    SERVING_MODELS = "FINETUNED_SERVING_MODELS", "serving-models", "1",
        "Models that are tried at once, each in a process of its own; adapters share that of their base", Serve;
    SERVING_IDLE_SECONDS = "FINETUNED_SERVING_IDLE_SECONDS", "serving-idle-seconds", "300",
        "A model without requests for so long is put away", Serve;
    MIN_FREE_BYTES = "FINETUNED_MIN_FREE_BYTES", "min-free-bytes", "1073741824",
        "What uploads and runs leave free on the disks, so that the database always has room; 0 is nothing";
    MAX_FILE_BYTES = "FINETUNED_MAX_FILE_BYTES", "max-file-bytes", "8589934592", "Largest upload", Serve;
    MAX_UPLOAD_BYTES = "FINETUNED_MAX_UPLOAD_BYTES", "max-upload-bytes", "68719476736",
        "Largest file that may come in parts", Serve;
    IMAGE_MEMORY_BYTES = "FINETUNED_IMAGE_MEMORY_BYTES", "image-memory-bytes", "536870912",
        "Memory of the service for decoding the images that it checks; one that needs more is decoded beside small ones alone";
    NEAR_DUPLICATE_PERCENT = "FINETUNED_NEAR_DUPLICATE_PERCENT", "near-duplicate-percent", "80",
        "How similar two texts of different files of a job are to be called nearly equal; 0 looks for none";
    RATE_LIMIT = "FINETUNED_RATE_LIMIT", "rate-limit", "6000", "Requests a minute for each API key; 0 is no limit", Serve;
    MAX_CONNECTIONS = "FINETUNED_MAX_CONNECTIONS", "max-connections", "512",
        "Connections to the API at once; where all are taken, one without work is closed for a new one; 0 is no limit", Serve;
    MAX_CONNECTIONS_PER_ADDRESS = "FINETUNED_MAX_CONNECTIONS_PER_ADDRESS", "max-connections-per-address", "256",
        "The same from one address (of IPv6, one /64); raise it behind a proxy, whose address all clients share", Serve;
    QUOTA_STORED_BYTES = "FINETUNED_QUOTA_STORED_BYTES", "quota-stored-bytes", "1099511627776",
        "Bytes of files and models that a project may store; 0 is no limit, here and below", Serve;
    QUOTA_FILES = "FINETUNED_QUOTA_FILES", "quota-files", "10000", "Files that a project may have", Serve;
    QUOTA_QUEUED_JOBS = "FINETUNED_QUOTA_QUEUED_JOBS", "quota-queued-jobs", "1000",
        "Jobs and evaluations of a project that may wait at once", Serve;
    QUOTA_RUNNING_JOBS = "FINETUNED_QUOTA_RUNNING_JOBS", "quota-running-jobs", "0",
        "Jobs and evaluations of a project that may run at once";
    QUOTA_EVALUATIONS = "FINETUNED_QUOTA_EVALUATIONS", "quota-evaluations", "100",
        "Evaluations of a project that may wait or run at once", Serve;
    QUOTA_DRY_RUNS = "FINETUNED_QUOTA_DRY_RUNS", "quota-dry-runs", "4",
        "Dry runs of a project that may be made at once", Serve;
    LEASE_SECONDS = "FINETUNED_LEASE_SECONDS", "lease-seconds", "30",
        "A worker that is silent for so long loses its jobs";
    STALL_SECONDS = "FINETUNED_STALL_SECONDS", "stall-seconds", "120",
        "A run without progress for so long, and for ten of its steps, is ended and tried again";
    SHUTDOWN_SECONDS = "FINETUNED_SHUTDOWN_SECONDS", "shutdown-seconds", "60",
        "How long a stopping service waits for running jobs to save a checkpoint";
    WORKER_METRICS = "FINETUNED_WORKER_METRICS", "worker-metrics", "",
        "Address and port at which a worker shows /metrics, /healthz and /readyz; none unless given", Worker;
    CHECKPOINT_DAYS = "FINETUNED_CHECKPOINT_DAYS", "checkpoint-days", "0",
        "Days for which the checkpoints of a job are kept after its end; 0 keeps them until they are deleted";
    LOG = "FINETUNED_LOG", "log", "info,sqlx=warn", "Which log lines to write, as in RUST_LOG", All;
    LOG_FORMAT = "FINETUNED_LOG_FORMAT", "log-format", "text", "text or json", All;
}

/// The largest number that a quota can be.
const MOST: u64 = i64::MAX as u64;

/// The settings in force.
#[derive(Clone, Debug)]
pub struct Config {
    pub listen: SocketAddr,
    pub state_dir: PathBuf,
    pub database_url: Option<DatabaseUrl>,
    pub database_connections: u32,
    pub postgres_bin: Option<PathBuf>,
    /// Where this machine has sockets and the like.
    pub runtime_dir: PathBuf,
    /// Where programs are looked for.
    pub search_path: Option<OsString>,
    /// The GPUs this process may use, as CUDA reads it.
    pub cuda_visible_devices: Option<OsString>,
    pub allocation: Allocation,
    pub store: StoreLocation,
    pub runs_dir: PathBuf,
    pub trainer: PathBuf,
    /// None is a usual one, or one for each trainer.
    pub trainer_user: Option<String>,
    pub libtorch: Option<PathBuf>,
    /// None is auto.
    pub slots: Option<u32>,
    /// Where the number of all is not given.
    pub slots_per_gpu: u32,
    pub trainer_threads: usize,
    /// Whether a trainer waits for the next job.
    pub spare_trainers: bool,
    pub serving_models: u32,
    pub serving_idle: Duration,
    pub reserve: Reserve,
    pub max_file_bytes: u64,
    /// Of a file that comes in parts.
    pub max_upload_bytes: u64,
    /// In bytes.
    pub image_memory: u64,
    pub near_duplicate_percent: u32,
    pub rate_limit: u32,
    /// 0 is no limit, of both.
    pub max_connections: usize,
    pub max_connections_per_address: usize,
    /// What a project may have unless it has limits of its own.
    pub quotas: Quotas,
    pub lease: Duration,
    pub stall: Duration,
    pub shutdown: Duration,
    pub worker_metrics: Option<SocketAddr>,
    /// None keeps checkpoints.
    pub checkpoint_retention: Option<Duration>,
    pub log: String,
    pub log_json: bool,
    /// Where a test makes this process or its trainers die. No setting: release builds refuse it.
    pub failpoints: Failpoints,
}

const FAILPOINTS: &str = "FINETUNED_FAILPOINTS";

/// What an address is, for errors.
const ADDRESS: &str = "an address with a port, such as 127.0.0.1:8080";

/// Everything that is wrong with the settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

/// Reads flags (by name, without dashes) and the process's environment.
///
/// # Errors
/// All settings that are malformed, together.
pub fn load(flags: &BTreeMap<String, String>) -> Result<Config, ConfigError> {
    read(flags, std::env::vars_os())
}

fn read(
    flags: &BTreeMap<String, String>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Config, ConfigError> {
    let (mut environment, mut faults, mut search_path) = (BTreeMap::new(), Vec::new(), None);
    for (name, value) in variables {
        let Ok(name) = name.into_string() else { continue };
        if name == "PATH" {
            search_path = Some(value.clone());
        }
        match value.into_string() {
            Ok(value) => drop(environment.insert(name, value)),
            // It may hold a secret: not shown.
            Err(_) if is_read(&name) => faults.push(format!("{name} is set to something that is not UTF-8")),
            Err(_) => {}
        }
    }
    let env = |name: &str| environment.get(name).cloned();
    let mut reader = Reader { flags, environment: &environment, faults };
    let state_dir = reader.path(&STATE_DIR).unwrap_or_else(|| default_state_dir(&env));
    let store = reader.store(&state_dir);
    let config = Config {
        listen: reader.parse(&LISTEN, ADDRESS),
        database_url: reader.database_url(),
        database_connections: reader.within(&DATABASE_CONNECTIONS, 2, 1000),
        postgres_bin: reader.path(&POSTGRES_BIN),
        runtime_dir: runtime_dir(&env),
        search_path,
        cuda_visible_devices: env("CUDA_VISIBLE_DEVICES").map(OsString::from),
        allocation: Allocation::read(&env),
        store,
        runs_dir: reader.path(&RUNS_DIR).unwrap_or_else(|| state_dir.join("runs")),
        trainer: reader.path(&TRAINER).unwrap_or_else(default_trainer),
        trainer_user: reader.given(&TRAINER_USER),
        libtorch: reader.path(&LIBTORCH),
        slots: if reader.text(&SLOTS) == "auto" { None } else { Some(reader.within(&SLOTS, 1, 64)) },
        slots_per_gpu: reader.within(&SLOTS_PER_GPU, 1, 64),
        trainer_threads: reader.within(&TRAINER_THREADS, 0, 1024),
        spare_trainers: reader.one_of(&SPARE_TRAINERS, &["on", "off"]) == "on",
        serving_models: reader.within(&SERVING_MODELS, 1, 64),
        serving_idle: Duration::from_secs(reader.within(&SERVING_IDLE_SECONDS, 1, 86_400)),
        reserve: Reserve(reader.within(&MIN_FREE_BYTES, 0, 1 << 50)),
        max_file_bytes: reader.within(&MAX_FILE_BYTES, 1, 1 << 50),
        max_upload_bytes: reader.within(&MAX_UPLOAD_BYTES, 1, 1 << 50),
        image_memory: reader.within(&IMAGE_MEMORY_BYTES, 1 << 20, 1 << 50),
        near_duplicate_percent: reader.within(&NEAR_DUPLICATE_PERCENT, 0, 100),
        rate_limit: reader.within(&RATE_LIMIT, 0, 10_000_000),
        max_connections: reader.within(&MAX_CONNECTIONS, 0, 1_000_000),
        max_connections_per_address: reader.within(&MAX_CONNECTIONS_PER_ADDRESS, 0, 1_000_000),
        quotas: Quotas {
            stored_bytes: reader.within(&QUOTA_STORED_BYTES, 0, MOST),
            files: reader.within(&QUOTA_FILES, 0, MOST),
            queued_jobs: reader.within(&QUOTA_QUEUED_JOBS, 0, MOST),
            running_jobs: reader.within(&QUOTA_RUNNING_JOBS, 0, MOST),
            evaluations: reader.within(&QUOTA_EVALUATIONS, 0, MOST),
            dry_runs: reader.within(&QUOTA_DRY_RUNS, 0, MOST),
        },
        lease: Duration::from_secs(reader.within(&LEASE_SECONDS, 3, 3600)),
        stall: Duration::from_secs(reader.within(&STALL_SECONDS, 1, 86_400)),
        shutdown: Duration::from_secs(reader.within(&SHUTDOWN_SECONDS, 1, 3600)),
        worker_metrics: reader.address(&WORKER_METRICS),
        checkpoint_retention: match reader.within(&CHECKPOINT_DAYS, 0, 36_500) {
            0 => None,
            days => Some(Duration::from_hours(24 * days)),
        },
        log: reader.text(&LOG),
        log_json: reader.one_of(&LOG_FORMAT, &["text", "json"]) == "json",
        failpoints: reader.failpoints(),
        state_dir,
    };
    if reader.faults.is_empty() { Ok(config) } else { Err(ConfigError(reader.faults)) }
}

/// Whether a variable means anything here, so that it must not be passed over. A PATH may be any bytes.
fn is_read(name: &str) -> bool {
    let others = [FAILPOINTS, "CUDA_VISIBLE_DEVICES", "HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME"];
    let families = ["AWS_", "SLURM_CPUS_", "SLURM_MEM_"];
    SETTINGS.iter().any(|setting| setting.env == name)
        || others.contains(&name)
        || families.iter().any(|family| name.starts_with(family))
}

impl Reader<'_> {
    fn store(&mut self, state_dir: &Path) -> StoreLocation {
        let Some(url) = self.given(&STORE_URL) else {
            return StoreLocation::Folder(self.path(&STORE_DIR).unwrap_or_else(|| state_dir.join("objects")));
        };
        if !url.starts_with("s3://") || url.len() == "s3://".len() {
            self.fault(&STORE_URL, &url, "s3://bucket or s3://bucket/prefix");
        }
        if self.given(&STORE_DIR).is_some() {
            self.faults.push(format!("{} and {} exclude each other", STORE_URL.env, STORE_DIR.env));
        }
        let of_aws = self.environment.iter().filter(|(name, _)| name.starts_with("AWS_"));
        StoreLocation::S3 { url, options: of_aws.map(|(name, value)| (name.clone(), value.clone())).collect() }
    }

    fn failpoints(&mut self) -> Failpoints {
        let text = self.environment.get(FAILPOINTS).map(String::as_str).unwrap_or_default();
        Failpoints::parse(text).unwrap_or_else(|error| {
            self.faults.push(format!("{FAILPOINTS}: {error}"));
            Failpoints::default()
        })
    }

    fn database_url(&mut self) -> Option<DatabaseUrl> {
        let url = self.given(&DATABASE_URL)?;
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            // The value may hold a password: not shown.
            self.faults.push(format!("{} must start with postgres:// or postgresql://", DATABASE_URL.env));
        }
        Some(DatabaseUrl(url))
    }
}

fn default_state_dir(env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/var/lib/finetuned");
    }
    let home = || PathBuf::from(env("HOME").unwrap_or_else(|| ".".to_owned())).join(".local/state");
    env("XDG_STATE_HOME").map_or_else(home, PathBuf::from).join("finetuned")
}

/// `XDG_RUNTIME_DIR` is the user's own (XDG Base Directory Specification).
fn runtime_dir(env: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let of_user = env("XDG_RUNTIME_DIR").filter(|_| !nix::unistd::geteuid().is_root()).map(PathBuf::from);
    of_user.filter(|path| path.is_absolute()).unwrap_or_else(|| PathBuf::from("/run"))
}

fn default_trainer() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("finetuned-trainer")));
    beside.unwrap_or_else(|| PathBuf::from("finetuned-trainer"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    use super::{ConfigError, SETTINGS, StoreLocation, read};

    fn with(flags: &[(&str, &str)], env: &[(&str, &str)]) -> Result<super::Config, ConfigError> {
        let flags = flags.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>();
        read(&flags, env.iter().map(|&(name, value)| (name.into(), value.into())))
    }

    #[test]
    fn a_variable_that_is_not_utf_8_is_a_fault_if_it_means_anything() {
        let bytes = || OsString::from_vec(b"/bad\xff".to_vec());
        let with = |name: &str| read(&BTreeMap::new(), [(OsString::from(name), bytes())].into_iter());
        for name in ["FINETUNED_STORE_DIR", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "FINETUNED_FAILPOINTS", "HOME"] {
            assert_eq!(with(name).unwrap_err().0, [format!("{name} is set to something that is not UTF-8")]);
        }
        assert_eq!(with("PATH").unwrap().search_path, Some(bytes()));
        assert!(with("LS_COLORS").is_ok());
    }

    #[test]
    fn nothing_given_is_a_working_configuration() {
        let config = with(&[], &[]).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:8080");
        assert_eq!((config.slots, config.max_file_bytes), (None, 8 << 30));
        assert!(matches!(config.store, StoreLocation::Folder(folder) if folder.starts_with(&config.state_dir)));
    }

    #[test]
    fn flags_win_over_the_environment() {
        let env = [("FINETUNED_SLOTS", "2"), ("FINETUNED_RATE_LIMIT", "")];
        let config = with(&[("slots", "3")], &env).unwrap();
        assert_eq!((config.slots, config.rate_limit), (Some(3), 6000));
    }

    #[test]
    fn all_faults_are_reported_together_and_no_password_is_shown() {
        let env = [
            ("FINETUNED_LISTEN", "8080"),
            ("FINETUNED_SLOTS", "many"),
            ("FINETUNED_LEASE_SECONDS", "1"),
            ("FINETUNED_LOG_FORMAT", "xml"),
            ("DATABASE_URL", "mysql://root:hunter2@db/x"),
        ];
        let ConfigError(faults) = with(&[], &env).unwrap_err();
        assert_eq!(faults.len(), 5, "{faults:?}");
        assert!(faults.iter().all(|fault| !fault.contains("hunter2")));
    }

    #[test]
    fn a_bucket_takes_the_place_of_the_folder_and_its_secrets_are_not_shown() {
        let env = [("FINETUNED_STORE_URL", "s3://models/ft"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("PATH", "/bin")];
        let config = with(&[], &env).unwrap();
        let StoreLocation::S3 { url, options } = &config.store else { panic!("{:?}", config.store) };
        assert_eq!((url.as_str(), options.len()), ("s3://models/ft", 1));
        assert!(!format!("{config:?}").contains("hunter2"));
        let ConfigError(faults) = with(&[("store-url", "gs://x"), ("store-dir", "/tmp")], &[]).unwrap_err();
        assert_eq!(faults.len(), 2, "{faults:?}");
    }

    #[test]
    fn what_slurm_gave_is_read_from_its_variables() {
        let given = |env: &[(&str, &str)]| {
            let allocation = with(&[], env).unwrap().allocation;
            (allocation.memory, allocation.cores)
        };
        let (node, core) = (("SLURM_MEM_PER_NODE", "4096"), ("SLURM_MEM_PER_CPU", "1024"));
        let (on_node, per_task) = (("SLURM_CPUS_ON_NODE", "8"), ("SLURM_CPUS_PER_TASK", "2"));
        assert_eq!(given(&[]), (None, None));
        assert_eq!(given(&[node, on_node]), (Some(4 << 30), Some(8)));
        assert_eq!(given(&[core, on_node, per_task]), (Some(8 << 30), Some(2)));
        assert_eq!(given(&[core]), (None, None));
        assert_eq!(given(&[("SLURM_MEM_PER_NODE", "0"), ("SLURM_CPUS_ON_NODE", "many")]), (None, None));
        assert_eq!(given(&[("SLURM_MEM_PER_NODE", "18446744073709551615")]), (Some(u64::MAX), None));
    }

    #[test]
    fn settings_have_distinct_names() {
        let mut names: Vec<&str> = SETTINGS.iter().flat_map(|setting| [setting.env, setting.flag]).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), 2 * SETTINGS.len());
    }

    #[test]
    fn the_example_file_lists_every_setting() {
        let example = include_str!("../.env.example");
        let listed: Vec<&str> = example
            .lines()
            .filter_map(|line| line.trim_start_matches('#').split_once('=').map(|(name, _)| name))
            .collect();
        let defined: Vec<&str> = SETTINGS.iter().map(|setting| setting.env).collect();
        assert_eq!(listed, defined);
    }
}
