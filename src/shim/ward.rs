//! The ward: the process above the shim, which does nothing until the shim is killed and then ends what it held.
//!
//! The kernel gives the tree of a dead subreaper to the next one above (prctl(2)). So what the ward finds below itself then is the command's
//! tree and nothing else, wherever it fled to: that is the proof without which nothing may be signalled.

use std::fs;
use std::io;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, Signal, WaitOptions};

use super::sys::{self, Signals};
use super::tree::{self, Stop};

/// Between two looks while the tree ends, in nanoseconds.
const LOOK_NS: i64 = 20_000_000;

/// Makes this process two. The new one goes on as the shim and gets `None`; the old one returns when everything is over, with the code to
/// exit with: the shim's own.
///
/// The ward keeps the listening socket open and accepts nobody: as long as it ends a tree, the shim counts as one that may live.
pub(super) fn split(signals: &Signals) -> io::Result<Option<u8>> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    match sys::fork()? {
        None => {
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
            Ok(None)
        }
        Some(shim) => {
            sys::rename_shim(b"ward");
            Ok(Some(watch(shim, signals)))
        }
    }
}

fn watch(shim: Pid, signals: &Signals) -> u8 {
    loop {
        wait(signals, None);
        if signals.read().term {
            // Nobody but this process reaps it, so the number is still its own.
            let _ = rustix::process::kill_process(shim, Signal::TERM);
        }
        match reap(shim) {
            Some(Left::ByItself(code)) => return code,
            Some(Left::Killed(signal)) => {
                end_tree(signals);
                return 128_u8.saturating_add(signal);
            }
            None => {}
        }
    }
}

/// How the shim left.
enum Left {
    ByItself(u8),
    Killed(u8),
}

/// Reaps every child that ended, and says whether the shim was among them.
fn reap(shim: Pid) -> Option<Left> {
    let mut left = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        let number = |status: Option<i32>| status.and_then(|it| u8::try_from(it).ok());
        let code = number(status.exit_status()).map(Left::ByItself);
        let signal = number(status.terminating_signal()).map(Left::Killed);
        if pid == shim {
            left = code.or(signal);
        }
    }
    left
}

/// The tree is asked to end, and then made to, as by a stop.
fn end_tree(signals: &Signals) {
    let mut stop = Stop::new(false, sys::monotonic_ms());
    loop {
        while let Ok(Some(_)) = rustix::process::wait(WaitOptions::NOHANG) {
            stop.look_now();
        }
        if stop.advance(sys::monotonic_ms(), tree::below_this) {
            return;
        }
        wait(signals, Some(&Timespec { tv_sec: 0, tv_nsec: LOOK_NS }));
        signals.read();
    }
}

fn wait(signals: &Signals, timeout: Option<&Timespec>) {
    // It fails only for a lack of kernel memory, and then the next turn waits again.
    let _ = rustix::event::poll(&mut [PollFd::new(signals, PollFlags::IN)], timeout);
}

/// Where in this process's memory its command line is (proc_pid_stat(5), `arg_start` and `arg_end`), and what it says.
pub(super) fn command_line() -> Option<(usize, Vec<u8>)> {
    let stat = fs::read("/proc/self/stat").ok()?;
    let (start, end) = parse_arguments(&String::from_utf8_lossy(&stat))?;
    let text = fs::read("/proc/self/cmdline").ok()?;
    (end.checked_sub(start)? >= text.len()).then_some((start, text))
}

fn parse_arguments(stat: &str) -> Option<(usize, usize)> {
    // Fields count from the name's last parenthesis, which closes the second.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(45);
    let start: usize = fields.next()?.parse().ok()?;
    let end = fields.next()?.parse().ok()?;
    (start != 0).then_some((start, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_where_the_kernel_says() {
        let fields: Vec<String> = (3..=52).map(|n| n.to_string()).collect();
        assert_eq!(parse_arguments(&format!("1 (a) b) {}", fields.join(" "))), Some((48, 49)));
        assert_eq!(parse_arguments("1 (a) S 1 2"), None);
        let (start, text) = command_line().unwrap();
        assert!(start > 0 && text == fs::read("/proc/self/cmdline").unwrap());
    }
}
