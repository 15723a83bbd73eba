//! User ids that nothing else on the machine has, one for each process of a service that is root: whatever the kernel lets
//! users do to their own (read, signal, limit, slow down), a process can do to itself alone, and all that it started is
//! found by its id, wherever it went.
//!
//! As with systemd's `DynamicUser` they come from a range without accounts. An id in use is a lock file that is held, so
//! that services do not take each other's, and a service that died holds none.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::Flock;
use nix::libc::{self, uid_t};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Gid, Group, Uid, User, fork};

use crate::private;

/// The ids come in pairs: a process has the first; the second is what its killer hides behind.
const FIRST: uid_t = 60_706;
/// Up to 61183 nobody gives ids out (systemd's UIDS-GIDS lists who does), and containers have them: they are below 2^16.
const PAIRS: uid_t = 239;
/// Where the lock files lie: the same for all services of the machine, and gone with its next start, as the processes are.
const LOCKS: &str = "/run/finetuned-trainers";
/// How long killed processes may take to be gone; the kernel may have something to finish for them.
const GONE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// An id that is nobody else's. Dropped, everything that runs under it is killed.
pub(super) struct OwnId {
    pub(super) uid: uid_t,
    lock: Option<Flock<File>>,
}

impl OwnId {
    /// Takes an id that no account, no process and no other holder has.
    ///
    /// # Errors
    /// There is none, or the lock files cannot be made.
    pub(super) fn take() -> io::Result<Self> {
        // Anywhere: one that was just given back comes late, and services beside each other seldom meet.
        let mut place = [0; 4];
        getrandom::fill(&mut place).map_err(|error| io::Error::other(error.to_string()))?;
        let start = u32::from_ne_bytes(place) % PAIRS;
        for pair in 0..PAIRS {
            let uid = FIRST + 2 * ((start + pair) % PAIRS);
            let Some(lock) = lock(uid)? else { continue };
            // Under the lock, so that nobody starts anything in between.
            let busy = at_work()?;
            if [uid, uid + 1].iter().all(|id| !busy.contains(id) && !has_account(*id)) {
                return Ok(Self { uid, lock: Some(lock) });
            }
        }
        let last = FIRST + 2 * PAIRS - 1;
        Err(io::Error::other(format!("each user id from {FIRST} to {last} is an account's or has a process")))
    }

    /// Kills everything that runs under the id, and waits until it is gone; false if it does not go. Blocks.
    pub(super) fn clear(&self) -> bool {
        let deadline = Instant::now() + GONE;
        loop {
            kill_all(self.uid);
            if at_work().is_ok_and(|busy| !busy.contains(&self.uid)) {
                return true;
            }
            if Instant::now() > deadline {
                tracing::warn!(uid = self.uid, "killed processes of a trainer do not go");
                return false;
            }
            thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for OwnId {
    fn drop(&mut self) {
        kill_all(self.uid);
        // Only now may somebody take it; who does sees what has not gone yet.
        drop(self.lock.take());
    }
}

/// Ends what runs under `uid`, which an earlier life of the service gave to a folder. What somebody holds is another's by
/// now.
pub(super) fn end_left(uid: uid_t) {
    let is_given = uid.checked_sub(FIRST).is_some_and(|place| place < 2 * PAIRS && place.is_multiple_of(2));
    if !is_given || !at_work().is_ok_and(|busy| busy.contains(&uid)) {
        return;
    }
    if let Ok(Some(lock)) = lock(uid) {
        tracing::warn!(uid, "ending processes left by an earlier trainer");
        OwnId { uid, lock: Some(lock) }.clear();
    }
}

fn lock(uid: uid_t) -> io::Result<Option<Flock<File>>> {
    let folder = Path::new(LOCKS);
    let locked =
        private::make_folder(folder, private::FOLDER).and_then(|()| private::lock(&folder.join(uid.to_string())));
    locked.map_err(|error| io::Error::new(error.kind(), format!("{LOCKS}/{uid}: {error}")))
}

fn has_account(id: uid_t) -> bool {
    let user = matches!(User::from_uid(Uid::from_raw(id)), Ok(Some(_)));
    user || matches!(Group::from_gid(Gid::from_raw(id)), Ok(Some(_)))
}

/// The ids of everything that is alive (`proc_pid_status(5)`).
pub(super) fn at_work() -> io::Result<HashSet<uid_t>> {
    let mut found = HashSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if !entry.file_name().as_encoded_bytes().first().is_some_and(u8::is_ascii_digit) {
            continue;
        }
        // What cannot be read has ended meanwhile. A process calls itself what it likes, also what is no text.
        let status = fs::read(entry.path().join("status")).unwrap_or_default();
        found.extend(ids_of(&String::from_utf8_lossy(&status)));
    }
    Ok(found)
}

/// The ids of a process: none if it is dead and only not reaped yet. Its first thread may be dead before the others.
fn ids_of(status: &str) -> Vec<uid_t> {
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
    let has_threads = field("Threads:").parse::<u32>().is_ok_and(|count| count > 1);
    if field("State:").starts_with(['Z', 'X']) && !has_threads {
        return Vec::new();
    }
    field("Uid:").split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

/// Kills everything of `uid` in one step: nothing that is forked meanwhile escapes (`kill(2)` with -1).
fn kill_all(uid: uid_t) {
    // SAFETY: the child makes only async-signal-safe calls.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => kill_as(uid),
        Ok(ForkResult::Parent { child }) => while waitpid(child, None) == Err(Errno::EINTR) {},
        Err(error) => tracing::warn!(uid, %error, "the processes of a trainer cannot be killed"),
    }
}

/// Kills everything of `uid`, and ends. Its effective id is the one that decides whom it may kill; those by which others
/// may kill it are of nobody.
fn kill_as(uid: uid_t) -> ! {
    let hidden = uid + 1;
    // SAFETY: async-signal-safe calls with plain values; the first changes this process, which has one thread.
    unsafe {
        let turned = libc::syscall(libc::SYS_setresuid, hidden, uid, hidden) == 0;
        // Who may signal the first process is root still, and would kill all there is.
        if turned && libc::kill(1, 0) != 0 {
            libc::kill(-1, libc::SIGKILL);
        }
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::chown;
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use super::{FIRST, OwnId, PAIRS, at_work, ids_of};
    use crate::process::end_leftovers;

    fn is_root() -> bool {
        let is_root = nix::unistd::geteuid().is_root();
        if !is_root {
            println!("skipped: giving out user ids needs root");
        }
        is_root
    }

    fn sleeper(uid: u32) -> Child {
        let mut sleep = Command::new("sleep");
        sleep.arg("300").uid(uid).gid(uid).process_group(0).current_dir("/").spawn().unwrap()
    }

    #[test]
    fn an_id_is_held_by_one_and_what_runs_under_it_goes_with_it() {
        if !is_root() {
            return;
        }
        let ids: Vec<OwnId> = (0..8).map(|_| OwnId::take().unwrap()).collect();
        let mut given: Vec<u32> = ids.iter().map(|id| id.uid).collect();
        assert!(given.iter().all(|uid| (FIRST..FIRST + 2 * PAIRS).contains(uid)), "{given:?}");
        let mut sleepers: Vec<Child> = given.iter().map(|uid| sleeper(*uid)).collect();
        assert!(ids[0].clear());
        let mut ended = sleepers.remove(0);
        assert!(!ended.wait().unwrap().success());
        assert!(sleepers.iter_mut().all(|sleeper| sleeper.try_wait().unwrap().is_none()), "others live on");
        drop(ids);
        assert!(sleepers.iter_mut().all(|sleeper| !sleeper.wait().unwrap().success()));
        given.sort_unstable();
        given.dedup();
        assert_eq!(given.len(), 8);
    }

    #[test]
    fn what_an_earlier_life_left_is_ended_and_nothing_of_a_living_one() {
        if !is_root() {
            return;
        }
        let runs = tempfile::tempdir().unwrap();
        let mut id = OwnId::take().unwrap();
        let run = runs.path().join("run");
        std::fs::create_dir(&run).unwrap();
        chown(&run, Some(id.uid), Some(id.uid)).unwrap();
        let mut left = sleeper(id.uid);
        end_leftovers(runs.path());
        assert!(left.try_wait().unwrap().is_none(), "its holder lives");

        // As if the holder had been killed.
        drop(id.lock.take());
        let uid = id.uid;
        std::mem::forget(id);
        end_leftovers(runs.path());
        assert!(!left.wait().unwrap().success());
        assert!(!at_work().unwrap().contains(&uid));
    }

    #[test]
    fn a_process_is_alive_while_one_of_its_threads_is() {
        let status = |state: &str, threads: u32| {
            format!("Name:\t\u{fffd}Uid:\nState:\t{state}\nUid:\t7\t8\t9\t10\nThreads:\t{threads}\n")
        };
        assert_eq!(ids_of(&status("S (sleeping)", 1)), [7, 8, 9, 10]);
        assert_eq!(ids_of(&status("Z (zombie)", 1)), [0_u32; 0]);
        assert_eq!(ids_of(&status("Z (zombie)", 2)), [7, 8, 9, 10]);
        assert_eq!(ids_of(""), [0_u32; 0]);
        assert!(at_work().unwrap().contains(&nix::unistd::geteuid().as_raw()));
    }
}
