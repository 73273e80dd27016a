//! Signals that end a command in order: what it did to the terminal is undone first.

use std::fs;
use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::error::Error;

/// How long the command may take to end after a signal; a second signal ends it at once.
const GRACE: Duration = Duration::from_secs(2);

/// Does `work` until it is done or a signal ends it: then `work` is dropped, and the exit code is 128 plus the signal's number. Where even
/// that waits, as for a terminal that takes nothing, the process ends without it.
pub(super) async fn or_signal(work: impl Future<Output = Result<u8, Error>>) -> Result<u8, Error> {
    let told = listen()?;
    tokio::select! {
        done = work => done,
        Ok(code) = told => Ok(code),
    }
}

/// The exit code for the first signal that comes. They are awaited in a thread, for the command may be about to write.
fn listen() -> io::Result<oneshot::Receiver<u8>> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut signals = Signals::new()?;
    drop(entered);
    let (tell, told) = oneshot::channel();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        runtime.block_on(async {
            let code = signals.next().await;
            // A command that is over needs no telling.
            tell.send(code).unwrap_or_default();
            tokio::select! {
                () = sleep(GRACE) => {}
                _ = signals.next() => {}
            }
            std::process::exit(code.into());
        });
    })?;
    Ok(told)
}

/// The signals that end a command, with the exit code that stands for each.
struct Signals(Vec<(u8, Signal)>);

impl Signals {
    /// All but those that are ignored, as nohup(1) and a shell's background jobs ask for.
    fn new() -> io::Result<Self> {
        let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
        let all =
            [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()];
        let numbered =
            all.into_iter().filter_map(|kind| Some((u8::try_from(kind.as_raw_value()).ok()?, kind)));
        let heard = numbered.filter(|(number, _)| ignored >> (number - 1) & 1 == 0);
        heard.map(|(number, kind)| Ok((128 + number, signal(kind)?))).collect::<io::Result<_>>().map(Self)
    }

    async fn next(&mut self) -> u8 {
        poll_fn(|context| {
            let come =
                |(code, signal): &mut (u8, Signal)| signal.poll_recv(context).is_ready().then_some(*code);
            self.0.iter_mut().find_map(come).map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// The signals that a process ignores, signal 1 in the lowest bit (proc_pid_status(5)).
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}
