//! What systemd is told: readiness, state, reloads, the end, and that the daemon still works (sd_notify(3)).

use std::ffi::OsStr;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::MissedTickBehavior;

use crate::config::Env;
use crate::daemon::Handle;

/// How often the state is told where no watchdog sets the pace.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// The service manager, if there is one that listens.
#[derive(Debug)]
pub(super) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear of us before it takes us for dead.
    watchdog: Option<Duration>,
}

impl Notifier {
    /// The one that `NOTIFY_SOCKET` names: a path, or after `@` a name in the abstract namespace. A bad one is said and passed over.
    pub(super) fn new(env: &Env) -> Self {
        let to = env.get("NOTIFY_SOCKET").and_then(|name| {
            let opened = address(name).and_then(|address| Ok((UnixDatagram::unbound()?, address)));
            let opened = opened.and_then(|it| it.0.set_nonblocking(true).map(|()| it));
            opened.inspect_err(|error| tracing::warn!(?name, %error, "NOTIFY_SOCKET cannot be used")).ok()
        });
        Self { watchdog: to.as_ref().and(watchdog(env)), to }
    }

    pub(super) fn ready(&self) {
        self.tell("READY=1");
    }

    pub(super) fn stopping(&self) {
        self.tell("STOPPING=1\nSTATUS=shutting down; tasks live on");
    }

    /// To be followed by [`Self::ready`]. The time lets systemd tell this reload from an earlier one.
    pub(super) fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let micros = now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1000);
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// One line for `systemctl status`.
    pub(super) fn status(&self, line: &str) {
        let line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(400).collect();
        self.tell(&format!("STATUS={line}"));
    }

    /// A manager that does not take a datagram at once misses it: nothing here may wait for it.
    fn tell(&self, text: &str) {
        let Some((socket, address)) = &self.to else { return };
        if let Err(error) = socket.send_to_addr(text.as_bytes(), address) {
            tracing::debug!(%error, text, "the service manager could not be told");
        }
    }

    /// Keeps telling the state and, where there is a watchdog, that the daemon works; never ends.
    ///
    /// A sign of life is given only after the loop had a turn and the store answered a read and a write. That the database is locked, full
    /// or not to be written is an answer too, and that tmux hangs does not count: a restart mends neither, and would cost every
    /// viewer the connection. Both are told in the state.
    pub(super) async fn keep_telling(&self, handle: &Handle) {
        if self.to.is_none() {
            return std::future::pending().await;
        }
        tokio::join!(self.keep_proving(handle), self.keep_describing(handle));
    }

    async fn keep_proving(&self, handle: &Handle) {
        let Some(limit) = self.watchdog else { return std::future::pending().await };
        let mut beat = tokio::time::interval(limit / 2);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beat.tick().await;
            match tokio::time::timeout(limit, handle.prove_alive()).await {
                Ok(Ok(())) => self.tell("WATCHDOG=1"),
                Ok(Err(dead)) => tracing::error!("the daemon does not work any more: {dead}"),
                Err(_) => tracing::error!("the daemon does not answer itself within {limit:?}"),
            }
        }
    }

    async fn keep_describing(&self, handle: &Handle) {
        let mut look = tokio::time::interval(self.watchdog.map_or(TELL_EVERY, |limit| limit / 2));
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = String::new();
        loop {
            look.tick().await;
            let line = handle.in_a_line().await;
            if line != told {
                self.status(&line);
                told = line;
            }
        }
    }
}

fn address(name: &OsStr) -> std::io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        [b'/', ..] => SocketAddr::from_pathname(name),
        _ => Err(std::io::Error::other("neither a path nor an abstract name")),
    }
}

/// `WATCHDOG_USEC`, unless `WATCHDOG_PID` says that it is meant for another process (sd_watchdog_enabled(3)).
fn watchdog(env: &Env) -> Option<Duration> {
    let number = |name: &str| env.get(name).and_then(OsStr::to_str).map(str::parse::<u64>);
    if number("WATCHDOG_PID").is_some_and(|pid| pid != Ok(u64::from(std::process::id()))) {
        return None;
    }
    number("WATCHDOG_USEC")?.ok().filter(|&micros| micros > 0).map(Duration::from_micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notifier(vars: &[(&str, &str)]) -> Notifier {
        Notifier::new(&Env::from_vars(vars.iter().copied()))
    }

    #[test]
    fn a_path_and_an_abstract_name_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let abstract_name = format!("kas-test-{}", dir.path().display());
        let heard = |listener: &UnixDatagram, name: &str| {
            let notifier = notifier(&[("NOTIFY_SOCKET", name)]);
            notifier.status("a\nb");
            notifier.reloading();
            let mut buffer = [0; 200];
            let mut next = || {
                let count = listener.recv(&mut buffer).unwrap();
                String::from_utf8(buffer[..count].to_vec()).unwrap()
            };
            assert_eq!(next(), "STATUS=a b");
            let reload = next();
            let micros = reload.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!(micros.parse::<u64>().unwrap() > 0);
        };
        heard(&UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        heard(&UnixDatagram::bind_addr(&address).unwrap(), &format!("@{abstract_name}"));
    }

    #[test]
    fn a_bad_name_and_nobody_there_are_no_reason_to_fail() {
        for name in ["", "relative", "@", "/nowhere/at/all"] {
            notifier(&[("NOTIFY_SOCKET", name)]).ready();
        }
        notifier(&[]).ready();
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let own = std::process::id().to_string();
        let check = |vars: &[(&str, &str)], expect: Option<u64>| {
            let env = Env::from_vars(vars.iter().copied());
            assert_eq!(watchdog(&env), expect.map(Duration::from_micros), "{vars:?}");
        };
        check(&[("WATCHDOG_USEC", "500")], Some(500));
        check(&[("WATCHDOG_USEC", "500"), ("WATCHDOG_PID", &own)], Some(500));
        check(&[("WATCHDOG_USEC", "500"), ("WATCHDOG_PID", "1")], None);
        check(&[("WATCHDOG_USEC", "500"), ("WATCHDOG_PID", "x")], None);
        check(&[("WATCHDOG_USEC", "0")], None);
        check(&[("WATCHDOG_USEC", "soon")], None);
        check(&[], None);
    }
}
