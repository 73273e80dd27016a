//! `/proc`: every process, which of them are shims, and which is the daemon.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Error;
use crate::check::evidence::{Health, Holding, Process};
use crate::model::{InstanceId, TimeMs};
use crate::shim;

/// Every process; one that ends meanwhile is left out.
pub(super) fn read(instances: &Path) -> Result<Vec<Process>, Error> {
    let proc = Path::new("/proc");
    let booted_at = booted_at().map_err(Error::io(Path::new("/proc/stat")))?;
    let mut all = Vec::new();
    for entry in fs::read_dir(proc).map_err(Error::io(proc))? {
        let name = entry.map_err(Error::io(proc))?.file_name();
        let pid = name.to_str().and_then(|name| name.parse().ok());
        all.extend(pid.and_then(|pid| process(pid, instances, booted_at)));
    }
    Ok(all)
}

fn process(pid: u32, instances: &Path, booted_at: i64) -> Option<Process> {
    // A name need not be UTF-8.
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let args = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    parse(pid, &String::from_utf8_lossy(&stat), booted_at).map(|it| Process {
        shim_of: of(&args, b"shim", instances),
        ward_of: of(&args, b"ward", instances),
        says_it_is_of: shim::mark_of(pid).and_then(|id| id.parse().ok()),
        ..it
    })
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)). The name may hold anything, so fields count from the last parenthesis.
fn parse(pid: u32, stat: &str, booted_at: i64) -> Option<Process> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let ticks: i64 = fields.get(19)?.parse().ok()?;
    // The kernel shows every architecture 100 ticks a second (`USER_HZ`).
    let started_at = TimeMs(booted_at + ticks * 10);
    let state = fields.first()?.chars().next()?;
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        state,
        started_at,
        shim_of: None,
        ward_of: None,
        says_it_is_of: None,
    })
}

/// Whose shim or ward it is by its arguments, `kas shim DIR`, where DIR is below `instances`.
fn of(args: &[u8], role: &[u8], instances: &Path) -> Option<InstanceId> {
    let args: Vec<&[u8]> = args.strip_suffix(b"\0")?.split(|byte| *byte == 0).collect();
    let [_, word, dir] = args[..] else { return None };
    if word != role {
        return None;
    }
    let dir = Path::new(OsStr::from_bytes(dir));
    let parent = dir.parent()?;
    let same = parent == instances
        || matches!((parent.canonicalize(), instances.canonicalize()), (Ok(one), Ok(other)) if one == other);
    if same { dir.file_name()?.to_str()?.parse().ok() } else { None }
}

/// What the daemon, shims and wards hold.
pub(super) fn holdings(processes: &[Process], daemon: Health) -> Vec<Holding> {
    let ours = |it: &&Process| it.shim_of.or(it.ward_of).is_some() || daemon.pid() == Some(it.pid);
    processes.iter().filter(ours).filter_map(|it| holding(it.pid)).collect()
}

/// `None` for a process that ended meanwhile, or that is somebody else's.
fn holding(pid: u32) -> Option<Holding> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let number = |name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name))?;
        value.split_ascii_whitespace().next()?.parse().ok()
    };
    let descriptors = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some(Holding {
        pid,
        memory_kib: number("RssAnon:")?,
        descriptors: descriptors.try_into().ok()?,
        threads: number("Threads:")?,
    })
}

/// When the machine was started, in milliseconds, by the wall clock.
fn booted_at() -> std::io::Result<i64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "));
    let seconds: Option<i64> = line.and_then(|text| text.trim().parse().ok());
    seconds.map(|seconds| seconds * 1000).ok_or_else(|| std::io::ErrorKind::InvalidData.into())
}

/// How the daemon is that holds the lock. Nobody takes the lock to find out: a daemon that starts now would be refused.
pub(super) fn daemon(lock: &Path, processes: &[Process]) -> Health {
    let told = fs::read_to_string(lock).ok().and_then(|text| text.trim().parse().ok());
    let inode = fs::metadata(lock).map(|it| it.ino());
    let (Some(pid), Ok(inode)) = (told, inode) else { return Health::Absent };
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    let process = processes.iter().find(|it| it.pid == pid && !it.is_ended());
    match process.filter(|_| locks.lines().any(|line| is_held(line, pid, inode))) {
        None => Health::Absent,
        Some(process) if process.is_halted() => Health::Halted(pid),
        Some(_) => Health::Works(pid),
    }
}

/// Whether a line of `/proc/locks` (proc_locks(5)) says that this process locks this file.
fn is_held(line: &str, pid: u32, inode: u64) -> bool {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let file = words.get(5).and_then(|file| file.rsplit(':').next());
    words.get(1) == Some(&"FLOCK")
        && words.get(4).and_then(|text| text.parse().ok()) == Some(pid)
        && file.and_then(|text| text.parse().ok()) == Some(inode)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shim_is_known_by_its_arguments() {
        let id = InstanceId::from_parts(1, 2);
        let check = |args: String, expect: bool| {
            let found = of(args.as_bytes(), b"shim", Path::new("/s/instances"));
            assert_eq!(found, expect.then_some(id), "{args:?}");
        };
        check(format!("/bin/kas\0shim\0/s/instances/{id}\0"), true);
        check(format!("/bin/kas\0ward\0/s/instances/{id}\0"), false);
        check(format!("/bin/kas\0shim\0/t/instances/{id}\0"), false);
        check(format!("tmux\0new-window\0--\0/bin/kas\0shim\0/s/instances/{id}\0"), false);
        check(format!("sh\0-c\0kas shim /s/instances/{id}\0"), false);
        check("kas\0shim\0/s/instances/x\0".to_owned(), false);
        check(String::new(), false);
    }

    #[test]
    fn a_lock_is_held_by_one_process_on_one_file() {
        let line = "7: FLOCK  ADVISORY  WRITE 4711 00:2f:99 0 EOF";
        assert!(is_held(line, 4711, 99));
        assert!(!is_held(line, 4712, 99) && !is_held(line, 4711, 98));
        assert!(!is_held(&line.replace("FLOCK", "POSIX"), 4711, 99) && !is_held("", 1, 1));
    }

    #[test]
    fn this_process_is_there_and_has_just_begun() {
        let all = read(Path::new("/nowhere")).unwrap();
        let own = all.iter().find(|it| it.pid == std::process::id()).unwrap();
        assert!(!own.is_ended() && own.shim_of.is_none());
        let age = TimeMs::now().0 - own.started_at.0;
        assert!((-2000..600_000).contains(&age), "{age}");
        let held = holding(own.pid).unwrap();
        assert!(held.memory_kib > 100 && held.descriptors > 2 && held.threads > 1, "{held:?}");
        assert_eq!(holdings(&all, Health::Works(own.pid)).len(), 1);
    }
}
