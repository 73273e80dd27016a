//! A command's process tree, and how it is ended.
//!
//! It is everything that descends from the shim, wherever it fled to: the shim is a subreaper (prctl(2)), so a descendant whose parents are gone
//! becomes its child and stays in the tree. What is left of it when the shim is dead is found by `remains`.

use std::collections::{HashMap, HashSet};
use std::fs;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal};

use crate::failpoint::Failpoint;

/// After TERM the tree has so long, in milliseconds, until KILL (`seeds/004`).
const TERM_MS: u64 = 5000;
/// Where the window is gone the tree has so long after TERM, in milliseconds, until KILL: it was hung up already.
const CLOSED_MS: u64 = 1000;
/// After ^C the tree has so long, in milliseconds, until TERM.
const INTERRUPT_MS: u64 = 1000;
/// Between two looks at the tree, in milliseconds; an ended child brings the next one forward.
const LOOK_MS: u64 = 50;
/// What outlives KILL by so long, in milliseconds, is looked at no more often than this.
const OUTLIVES_MS: u64 = 2000;
const LOOK_LATER_MS: u64 = 1000;
/// After the last look that found others on their way out, what leads a session has so long to end by itself, in milliseconds: a shell that ran
/// them goes on to its own exit code.
const FOLLOW_MS: u64 = 2 * LOOK_MS;
/// What leads a session is asked so long before KILL at the latest, in milliseconds.
const LEADER_MS: u64 = 1000;

/// A process, told from a later one with the same number by its start time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) start: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) parent: u32,
    pub(super) start: u64,
    /// It has ended and only waits to be reaped.
    pub(super) ended: bool,
    /// It leads a session: when it ends, the kernel hangs up what is in the terminal's foreground.
    pub(super) leads: bool,
}

/// Reads `/proc/PID/stat` (proc_pid_stat(5)). The name may hold anything, so fields count from the last parenthesis.
fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let leads = text.split_once(' ')?.0 == *fields.get(3)?;
    let threads: u32 = fields.get(17)?.parse().ok()?;
    let state = *fields.first()?;
    // A leader that ended before its threads is no dead process.
    let ended = state == "X" || state == "Z" && threads <= 1;
    Some(Stat { parent: fields.get(1)?.parse().ok()?, start: fields.get(19)?.parse().ok()?, ended, leads })
}

fn stat(pid: u32) -> Option<Stat> {
    // A name need not be UTF-8.
    let bytes = fs::read(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&String::from_utf8_lossy(&bytes))
}

/// Every process there is.
pub(super) fn all() -> Vec<(u32, Stat)> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, stat(pid)?))).collect()
}

/// What of `all` descends from `roots` and is alive, without them, and whether it leads a session. Nothing is looked for below `except`.
pub(super) fn descendants(all: &[(u32, Stat)], roots: &[u32], except: Option<u32>) -> Vec<(Process, bool)> {
    let mut children: HashMap<u32, Vec<(u32, Stat)>> = HashMap::new();
    for &(pid, stat) in all.iter().filter(|(pid, _)| Some(*pid) != except) {
        children.entry(stat.parent).or_default().push((pid, stat));
    }
    let mut alive = Vec::new();
    let mut parents = roots.to_vec();
    while let Some(parent) = parents.pop() {
        for (pid, stat) in children.remove(&parent).unwrap_or_default() {
            parents.push(pid);
            if !stat.ended {
                alive.push((Process { pid, start: stat.start }, stat.leads));
            }
        }
    }
    alive
}

/// Everything alive below this process, and whether it leads a session.
///
/// The kernel's lists of children name it at the cost of the tree alone, but may leave out what is born or moved while they are read; so only all
/// processes show that nothing lives.
pub(super) fn below_this() -> Vec<(Process, bool)> {
    let this = [std::process::id()];
    let below = descendants(&named_below(&this), &this, None);
    if below.is_empty() { descendants(&all(), &this, None) } else { below }
}

/// What the lists of children name below `roots`.
fn named_below(roots: &[u32]) -> Vec<(u32, Stat)> {
    let mut parents = roots.to_vec();
    let mut seen = HashMap::new();
    while let Some(parent) = parents.pop() {
        for child in children(parent) {
            if let Some(stat) = stat(child)
                && seen.insert(child, stat).is_none()
            {
                parents.push(child);
            }
        }
    }
    seen.into_iter().collect()
}

/// The children of all threads of a process (proc_pid_task(5)); none where the kernel was built without these lists.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists.flat_map(|list| list.split_ascii_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect()
}

/// Signals exactly this process, never a later one with its number. Says whether that was denied: it has become another user's.
fn signal(process: Process, signals: &[Signal]) -> bool {
    let Some(pid) = Pid::from_raw(process.pid.cast_signed()) else { return false };
    // Gone already is what was wanted.
    let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return false };
    if stat(process.pid).is_none_or(|now| now.start != process.start) {
        return false;
    }
    let sent = signals.iter().map(|&signal| rustix::process::pidfd_send_signal(&pidfd, signal));
    sent.fold(false, |denied, sent| denied | (sent == Err(Errno::PERM)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// ^C was typed; TERM comes then.
    Interrupted { until: u64 },
    /// TERM is sent to each process that has not had it; KILL comes then.
    Terminating { until: u64 },
    /// KILL is sent to each process that lives, since then.
    Killing { since: u64 },
}

/// A stop on its way. Times are milliseconds of a clock that only goes forward.
#[derive(Debug)]
pub(super) struct Stop {
    step: Step,
    asked: HashSet<Process>,
    /// Before this, what leads a session is not asked.
    leaders_at: u64,
    look_at: u64,
    /// A signal of this step was denied, which is not told yet.
    denied: bool,
}

impl Stop {
    /// A stop that begins now, with ^C typed already or not.
    pub(super) fn new(interrupted: bool, now: u64) -> Self {
        let step = if interrupted {
            Step::Interrupted { until: now + INTERRUPT_MS }
        } else {
            Step::Terminating { until: now + TERM_MS }
        };
        Self { step, asked: HashSet::new(), leaders_at: 0, look_at: now, denied: false }
    }

    /// A stop because the window is gone, that begins now.
    pub(super) fn closed(now: u64) -> Self {
        Self { step: Step::Terminating { until: now + CLOSED_MS }, ..Self::new(false, now) }
    }

    /// Look at the tree at the next opportunity: something ended.
    pub(super) const fn look_now(&mut self) {
        self.look_at = 0;
    }

    /// When [`Stop::advance`] wants to be called.
    pub(super) const fn wake_at(&self) -> u64 {
        self.look_at
    }

    /// Whether what lives is being killed.
    pub(super) const fn is_killing(&self) -> bool {
        matches!(self.step, Step::Killing { .. })
    }

    /// The step that is behind it.
    pub(super) const fn passed(&self) -> Option<Failpoint> {
        match self.step {
            Step::Interrupted { .. } => None,
            Step::Terminating { .. } => Some(Failpoint::StopTermed),
            Step::Killing { .. } => Some(Failpoint::StopKilled),
        }
    }

    /// Does what is due to the tree that `look` finds; `true` when nothing of it lives.
    pub(super) fn advance(&mut self, now: u64, look: impl FnOnce() -> Vec<(Process, bool)>) -> bool {
        if now < self.look_at {
            return false;
        }
        self.look_at = now + LOOK_MS;
        let alive = look();
        match self.step {
            Step::Interrupted { until } if now >= until => {
                self.step = Step::Terminating { until: now + TERM_MS }
            }
            Step::Terminating { until } if now >= until => self.step = Step::Killing { since: now },
            Step::Interrupted { .. } | Step::Terminating { .. } | Step::Killing { .. } => {}
        }
        match self.step {
            Step::Interrupted { .. } => {}
            Step::Terminating { until } => self.ask(&alive, now, until),
            Step::Killing { since } => self.kill(&alive, now, since),
        }
        alive.is_empty()
    }

    /// Whether a signal was denied since this was last asked. It is told once for TERM and once for KILL.
    pub(super) const fn take_denied(&mut self) -> bool {
        std::mem::replace(&mut self.denied, false)
    }

    /// Kills each process that lives. What outlives that is another user's or waits in the kernel, and is looked at less often.
    fn kill(&mut self, alive: &[(Process, bool)], now: u64, since: u64) {
        let denied = alive.iter().fold(false, |denied, (p, _)| denied | signal(*p, &[Signal::KILL]));
        self.denied |= denied && now == since;
        if now >= since + OUTLIVES_MS {
            self.look_at = now + LOOK_LATER_MS;
        }
    }

    /// Asks whoever was not asked yet to end. While there is time, what leads a session waits for those asked before it:
    /// its end would hang them up in the middle of theirs.
    fn ask(&mut self, alive: &[(Process, bool)], now: u64, until: u64) {
        let first = self.asked.is_empty();
        let ending = |(p, leads): &(Process, bool)| !leads && (first || self.asked.contains(p));
        if alive.iter().any(ending) {
            self.leaders_at = now + FOLLOW_MS;
        }
        let wait = now < self.leaders_at && now + LEADER_MS < until;
        for &(process, leads) in alive {
            if !(leads && wait) && self.asked.insert(process) {
                // A stopped process acts on TERM only when it is continued.
                self.denied |= signal(process, &[Signal::TERM, Signal::CONT]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn names_cannot_confuse_the_fields() {
        let rest = "S 7 1 9 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0";
        let expect = Some(Stat { parent: 7, start: 4242, ended: false, leads: false });
        assert_eq!(parse_stat(&format!("5 (sh) {rest}")), expect);
        assert_eq!(parse_stat(&format!("5 (a) Z 1 (b) {rest}")), expect);
        assert_eq!(parse_stat(&format!("5 (x) {}", rest.replacen('S', "Z", 1))).map(|s| s.ended), Some(true));
        assert_eq!(parse_stat(&format!("9 (sh) {rest}")).map(|s| s.leads), Some(true));
        assert_eq!(parse_stat("5 (sh"), None);
    }

    #[test]
    fn the_lists_of_children_name_what_all_processes_show() {
        let script = "sh -c 'sleep 1000 & echo; wait' & wait";
        #[expect(clippy::disallowed_methods, reason = "a tree to look at")]
        let mut shell = Command::new("sh");
        let mut shell = shell.args(["-c", script]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        shell.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let sorted = |mut found: Vec<(Process, bool)>| {
            found.sort_unstable_by_key(|(process, _)| process.pid);
            found
        };
        let named = sorted(descendants(&named_below(&[shell.id()]), &[shell.id()], None));
        let shown = sorted(descendants(&all(), &[shell.id()], None));
        rustix::process::kill_process_group(Pid::from_child(&shell), Signal::KILL).unwrap();
        shell.wait().unwrap();
        assert!(named.len() == 2 && named == shown, "{named:?} {shown:?}");
    }
}
