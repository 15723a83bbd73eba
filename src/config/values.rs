//! Settings that are more than a number or a path.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What Slurm gave this process of its node, where it runs in a job (`sbatch(1)`, output environment variables).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocation {
    /// In bytes.
    pub memory: Option<u64>,
    pub cores: Option<usize>,
}

impl Allocation {
    pub(super) fn read(env: &dyn Fn(&str) -> Option<String>) -> Self {
        // 0 stands for all of the node's memory.
        let number = |name| env(name)?.parse::<u64>().ok().filter(|&number| number > 0);
        let on_node = number("SLURM_CPUS_ON_NODE");
        let by_core = || Some(number("SLURM_MEM_PER_CPU")?.saturating_mul(on_node?));
        let cores = number("SLURM_CPUS_PER_TASK").or(on_node).and_then(|cores| usize::try_from(cores).ok());
        let mebibytes = number("SLURM_MEM_PER_NODE").or_else(by_core);
        Self { memory: mebibytes.map(|mebibytes| mebibytes.saturating_mul(1 << 20)), cores }
    }
}

/// Where objects are kept.
#[derive(Clone)]
pub enum StoreLocation {
    Folder(PathBuf),
    S3 {
        /// `s3://bucket/prefix`
        url: String,
        /// The `AWS_*` variables. They may hold secrets, so this has no `Debug` text.
        options: BTreeMap<String, String>,
    },
}

impl std::fmt::Debug for StoreLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "{}", path.display()),
            Self::S3 { url, .. } => f.write_str(url),
        }
    }
}

/// A database URL. It may hold a password, so it has no `Debug` text.
#[derive(Clone)]
pub struct DatabaseUrl(pub String);

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}
