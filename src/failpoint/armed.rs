//! A debug build: what is armed in this process.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Signal, getpid, kill_process};

use super::Failpoint;

/// The file in an instance directory by which a shim gets its points.
const FILE: &str = "failpoints";
/// The file in the state directory that says which points shims met.
const MET: &str = "failpoints.met";

/// What is wrong with `KAS_FAILPOINTS`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFailpoint {
    /// There is no such point.
    #[error("KAS_FAILPOINTS: there is no failpoint {0:?}")]
    Unknown(String),
    /// It is not `name=exit`, `name=panic` or `name=stop`, with or without `@n`.
    #[error("KAS_FAILPOINTS: {0:?} is not NAME=exit|panic|stop[@N]")]
    Malformed(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Exit,
    Panic,
    Stop,
}

#[derive(Debug)]
struct Plan {
    point: Failpoint,
    action: Action,
    /// The hit it is for, counted from 1.
    at: u32,
    hits: AtomicU32,
}

struct Armed {
    text: String,
    plans: Vec<Plan>,
}

static ARMED: OnceLock<Armed> = OnceLock::new();
/// Where a shim, which has no standard error, says what it met.
static TRACE: OnceLock<OwnedFd> = OnceLock::new();

/// Passes a point: nothing, unless it is armed.
pub fn hit(point: Failpoint) {
    let plans = ARMED.get().map_or(&[][..], |armed| &armed.plans);
    for plan in plans.iter().filter(|plan| plan.point == point) {
        if plan.hits.fetch_add(1, Ordering::Relaxed) + 1 == plan.at {
            act(plan);
        }
    }
}

/// Allocates nothing and locks nothing unless it panics, so that it may also be called between fork and exec.
fn act(plan: &Plan) {
    let what = match plan.action {
        Action::Exit => ": exit\n",
        Action::Panic => ": panic\n",
        Action::Stop => ": stop\n",
    };
    let out = TRACE.get().map_or(rustix::stdio::stderr(), AsFd::as_fd);
    for text in ["failpoint ", plan.point.word(), what] {
        // Nobody may listen.
        let _ = rustix::io::write(out, text.as_bytes());
    }
    match plan.action {
        Action::Exit => signal_self(Signal::KILL),
        Action::Stop => stop_here(),
        Action::Panic => panic!("failpoint {}", plan.point.word()),
    }
}

fn signal_self(signal: Signal) {
    kill_process(getpid(), signal).expect("a process may signal itself");
}

/// Stops the process before this thread goes on: a signal to the process may be taken by another thread, and this one run on for a while.
fn stop_here() {
    // SAFETY: it sends a signal to the calling thread and touches nothing; it may be called between fork and exec (signal-safety(7)).
    let failed = unsafe { libc::raise(libc::SIGSTOP) };
    assert_eq!(failed, 0, "a thread may signal itself");
}

/// Arms what `KAS_FAILPOINTS` says, once in a process's life.
///
/// # Errors
/// [`BadFailpoint`] names what is not understood.
pub fn arm(text: Option<&OsStr>) -> Result<(), BadFailpoint> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(()) };
    let text = text.to_str().ok_or_else(|| BadFailpoint::Malformed(text.to_string_lossy().into_owned()))?;
    let plans = parse(text)?;
    ARMED.get_or_init(|| Armed { text: text.to_owned(), plans });
    Ok(())
}

fn parse(text: &str) -> Result<Vec<Plan>, BadFailpoint> {
    text.split(';').filter(|item| !item.is_empty()).map(parse_one).collect()
}

fn parse_one(item: &str) -> Result<Plan, BadFailpoint> {
    let malformed = || BadFailpoint::Malformed(item.to_owned());
    let (word, action) = item.split_once('=').ok_or_else(malformed)?;
    let point = Failpoint::ALL.iter().find(|point| point.word() == word);
    let point = *point.ok_or_else(|| BadFailpoint::Unknown(word.to_owned()))?;
    let (action, at) = action.split_once('@').unwrap_or((action, "1"));
    let action = match action {
        "exit" => Action::Exit,
        "panic" => Action::Panic,
        "stop" => Action::Stop,
        _ => return Err(malformed()),
    };
    let at = at.parse().ok().filter(|&at| at > 0).ok_or_else(malformed)?;
    Ok(Plan { point, action, at, hits: AtomicU32::new(0) })
}

/// Leaves this process's points in an instance directory, for its shim. What it meets is written into `failpoints.met` of the directory
/// above the instances.
///
/// # Errors
/// When the file cannot be written.
pub fn hand_down(dir: &Path) -> io::Result<()> {
    let Some(armed) = ARMED.get() else { return Ok(()) };
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(dir.join(FILE));
    file?.write_all(armed.text.as_bytes())
}

/// Arms what the daemon left in an instance directory.
///
/// # Errors
/// When the file cannot be read or understood.
pub fn take_over(dir: &Path) -> io::Result<()> {
    match fs::read_to_string(dir.join(FILE)) {
        Ok(text) => {
            let above = dir.parent().and_then(Path::parent).unwrap_or(dir);
            let trace = OpenOptions::new().append(true).create(true).mode(0o600).open(above.join(MET))?;
            TRACE.get_or_init(|| trace.into());
            arm(Some(OsStr::new(&text))).map_err(io::Error::other)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[(Failpoint, Action, u32)]) {
        let plans = parse(text).unwrap();
        let plans: Vec<_> = plans.iter().map(|plan| (plan.point, plan.action, plan.at)).collect();
        assert_eq!(plans, expect, "{text}");
    }

    #[test]
    fn points_are_armed_by_name() {
        let (first, second) = (Failpoint::LaunchRecorded, Failpoint::ExitSeen);
        check("", &[]);
        check("launch_recorded=exit", &[(first, Action::Exit, 1)]);
        let expect = [(first, Action::Panic, 1), (second, Action::Stop, 12)];
        check("launch_recorded=panic;exit_seen=stop@12;", &expect);
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let error = |text: &str| parse(text).unwrap_err().to_string();
        assert!(error("launch=exit").contains("\"launch\""));
        for bad in ["launch_recorded", "launch_recorded=", "launch_recorded=exit@0", "launch_recorded=sleep"]
        {
            assert!(error(bad).contains(bad), "{bad}");
        }
    }
}
