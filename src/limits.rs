//! What this process may use of its machine: memory and cores, as control groups and Slurm set it.
//!
//! A control group may have its limit at any height: a container's lies at the root that the container sees, a systemd
//! unit's or a Slurm step's some folders below it, and the smallest of all from there upwards holds.

use std::fs;
use std::path::{Component, Path, PathBuf};

use crate::config::Allocation;

/// The machine's own files.
pub const ROOT: &str = "/";

/// Bytes of memory that processes like this one may use together: what the machine has, or the smallest limit above
/// them. `root` is where `proc` and the control groups' file systems are found.
pub fn memory(root: &Path, allocation: Allocation) -> Option<u64> {
    let total = fs::read_to_string(root.join("proc/meminfo")).ok().and_then(|text| total_memory(&text));
    let groups = groups(root).into_iter().filter_map(|(folder, file)| read_number(&folder.join(file)));
    total.into_iter().chain(groups).chain(allocation.memory).min()
}

/// Cores that this process may use: by its affinity, the quota of its control groups (both read by the standard
/// library), and Slurm.
pub fn cores(allocation: Allocation) -> usize {
    let here = std::thread::available_parallelism().map_or(1, usize::from);
    allocation.cores.map_or(here, |cores| cores.min(here))
}

fn total_memory(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().trim_end_matches("kB").trim().parse::<u64>().ok().map(|kib| kib << 10)
}

/// `max`, which is no number, means that there is no limit here; version 1 says it by a number larger than any memory.
fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// The folders of the control groups above this process that limit memory, each with the name of the file that holds the
/// limit (`cgroups(7)`).
fn groups(root: &Path) -> Vec<(PathBuf, &'static str)> {
    let read = |name: &str| fs::read_to_string(root.join("proc/self").join(name)).unwrap_or_default();
    let (memberships, mounts) = (read("cgroup"), read("mountinfo"));
    let mounts: Vec<Mount> = mounts.lines().filter_map(Mount::read).collect();
    let mut found = Vec::new();
    for line in memberships.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (is_hierarchy, file): (fn(&Mount) -> bool, _) = match controllers {
            "" => (|mount| mount.kind == "cgroup2", "memory.max"),
            list if list.split(',').any(|name| name == "memory") => (Mount::limits_memory, "memory.limit_in_bytes"),
            _ => continue,
        };
        for mount in mounts.iter().filter(|mount| is_hierarchy(mount)) {
            let top = root.join(mount.point.strip_prefix("/").unwrap_or(&mount.point));
            let below = top.join(mount.below(Path::new(path)));
            let upwards = below.ancestors().take_while(|folder| folder.starts_with(&top));
            found.extend(upwards.map(|folder| (folder.to_owned(), file)));
        }
    }
    found
}

/// A line of `/proc/self/mountinfo` (`proc_pid_mountinfo(5)`).
struct Mount {
    /// What of its file system is mounted.
    root: PathBuf,
    point: PathBuf,
    kind: String,
    options: String,
}

impl Mount {
    fn read(line: &str) -> Option<Self> {
        let (own, system) = line.split_once(" - ")?;
        let mut own = own.split(' ').skip(3);
        let (root, point) = (unescaped(own.next()?), unescaped(own.next()?));
        let mut system = system.split(' ');
        let (kind, options) = (system.next()?.to_owned(), system.nth(1)?.to_owned());
        Some(Self { root, point, kind, options })
    }

    fn limits_memory(&self) -> bool {
        self.kind == "cgroup" && self.options.split(',').any(|option| option == "memory")
    }

    /// Where below this mount a control group's folder lies. One that lies beside or above what is mounted, as a
    /// namespace may show it, is known by the mount itself alone.
    fn below<'a>(&self, group: &'a Path) -> &'a Path {
        let below = group.strip_prefix(&self.root).unwrap_or(Path::new(""));
        if below.components().all(|part| matches!(part, Component::Normal(_))) { below } else { Path::new("") }
    }
}

/// Blanks and the like are written as octal numbers.
fn unescaped(field: &str) -> PathBuf {
    let plain = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    plain.iter().fold(field.to_owned(), |text, (code, character)| text.replace(code, character)).into()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::{ROOT, cores, memory};
    use crate::config::Allocation;

    const V2: &str = "35 24 0:30 / /sys/fs/cgroup rw,nosuid,nodev,noexec shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    const V1: &str = "36 32 0:33 / /sys/fs/cgroup/memory rw,nosuid shared:11 - cgroup cgroup rw,memory\n\
                      37 32 0:34 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:12 - cgroup cgroup rw,cpu,cpuacct\n";
    const MACHINE: u64 = 16 << 30;

    /// What a machine of 16 GiB with these files says.
    fn found(cgroup: &str, mounts: &str, files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("proc/meminfo", "MemTotal:       16777216 kB\nMemFree:         100 kB\n");
        write("proc/self/cgroup", cgroup);
        write("proc/self/mountinfo", mounts);
        for (path, text) in files {
            write(&format!("sys/fs/cgroup/{path}"), text);
        }
        memory(root.path(), Allocation::default()).unwrap()
    }

    #[test]
    fn a_limit_of_version_2_is_found_at_any_height() {
        let unit = "0::/system.slice/finetuned.service\n";
        let (at, above) = ("system.slice/finetuned.service/memory.max", "system.slice/memory.max");
        assert_eq!(found(unit, V2, &[]), MACHINE);
        assert_eq!(found(unit, V2, &[(at, "max\n"), (above, "max\n")]), MACHINE);
        assert_eq!(found(unit, V2, &[(at, "2147483648\n"), (above, "max\n")]), 2 << 30);
        assert_eq!(found(unit, V2, &[(at, "max\n"), (above, "1073741824\n")]), 1 << 30);
        assert_eq!(found(unit, V2, &[(at, "3221225472\n"), (above, "1073741824\n")]), 1 << 30);
        // Another unit's is not ours.
        assert_eq!(found(unit, V2, &[("system.slice/other.service/memory.max", "1048576\n")]), MACHINE);
        // In a container with a namespace of its own.
        assert_eq!(found("0::/\n", V2, &[("memory.max", "536870912\n")]), 512 << 20);
    }

    #[test]
    fn a_limit_of_version_1_is_found_and_its_word_for_none_is_a_huge_number() {
        let step = "9:cpu,cpuacct:/slurm\n8:memory:/slurm/uid_1000/job_7/step_0\n1:name=systemd:/x\n";
        let file = |path: &str| format!("memory{path}/memory.limit_in_bytes");
        let none = "9223372036854771712\n";
        let [step_file, job, top] = ["/slurm/uid_1000/job_7/step_0", "/slurm/uid_1000/job_7", ""].map(file);
        assert_eq!(found(step, V1, &[(&step_file, none), (&job, none), (&top, none)]), MACHINE);
        assert_eq!(found(step, V1, &[(&step_file, none), (&job, "4294967296\n"), (&top, none)]), 4 << 30);
        assert_eq!(found(step, V1, &[("cpu,cpuacct/slurm/memory.limit_in_bytes", "1048576\n")]), MACHINE);
    }

    #[test]
    fn both_versions_side_by_side_count_and_the_smallest_holds() {
        let both = "8:memory:/a\n0::/b\n";
        let unified = V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/unified ");
        let mounts = format!("{V1}{unified}");
        let files = [("memory/a/memory.limit_in_bytes", "4294967296\n"), ("unified/b/memory.max", "8589934592\n")];
        assert_eq!(found(both, &mounts, &files), 4 << 30);
        assert_eq!(found(both, &mounts, &files[1..]), 8 << 30);
    }

    #[test]
    fn a_mount_of_a_part_of_the_hierarchy_shows_that_part() {
        // A container without a namespace: its own group is mounted as if it were the root.
        let container = "8:memory:/docker/0a1b\n";
        let mounts = V1.replace("0:33 / ", "0:33 /docker/0a1b ");
        assert_eq!(found(container, &mounts, &[("memory/memory.limit_in_bytes", "268435456\n")]), 256 << 20);
        let nested = "8:memory:/docker/0a1b/inner\n";
        assert_eq!(found(nested, &mounts, &[("memory/inner/memory.limit_in_bytes", "134217728\n")]), 128 << 20);
        // From inside a namespace, what lies outside of it.
        let outside = "0::/../other\n";
        let files = [("memory.max", "268435456\n"), ("../other/memory.max", "1048576\n")];
        assert_eq!(found(outside, &V2.replace("0:30 / ", "0:30 /.. "), &files), 256 << 20);
        // Where nothing is mounted there is no limit to be seen.
        assert_eq!(found(container, "", &[]), MACHINE);
        let blank = V2.replace("/sys/fs/cgroup ", "/sys/fs/cgroup/a\\040b ");
        assert_eq!(found("0::/\n", &blank, &[("a b/memory.max", "268435456\n")]), 256 << 20);
    }

    #[test]
    fn slurm_gives_no_more_than_there_is() {
        let here = std::path::Path::new(ROOT);
        let all = Allocation::default();
        let little = Allocation { memory: Some(1 << 20), cores: Some(1) };
        let much = Allocation { memory: Some(1 << 60), cores: Some(1 << 20) };
        assert_eq!((memory(here, little), cores(little)), (Some(1 << 20), 1));
        assert_eq!((memory(here, much), cores(much)), (memory(here, all), cores(all)));
        assert!(memory(here, all).unwrap() > 1 << 20);
    }
}
