//! Starting what must outlive the daemon outside the daemon's own systemd unit.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Env;

/// How long `systemd-run` may take. The user manager answers within milliseconds, or hangs.
pub(crate) const SCOPE_DEADLINE: Duration = Duration::from_secs(3);
/// After a failure it is not tried again for so long: every launch would wait for it.
const PAUSE: Duration = Duration::from_secs(60);

/// Transient scopes of the user's systemd, for a daemon that is a service of it; nothing for a daemon started by hand.
///
/// A scope is a unit of its own (systemd.scope(5)), so that neither stopping the service nor the kernel's OOM killer, which counts by
/// unit, ends what is in it.
#[derive(Debug, Clone, Default)]
pub struct Scopes(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// `systemd-run`, where there is one.
    program: Option<PathBuf>,
    env: Vec<(OsString, OsString)>,
    cgroup: Vec<u8>,
    not_before: Mutex<Option<Instant>>,
}

impl Scopes {
    /// Scopes when this process is a service: systemd started it (`SYSTEMD_EXEC_PID`, systemd.exec(5)), or it lives in a service's cgroup.
    /// `INVOCATION_ID` alone proves nothing, for every shell below a service has it.
    #[must_use]
    pub fn new(env: &Env) -> Self {
        let started = env.get("SYSTEMD_EXEC_PID").and_then(OsStr::to_str)
            == Some(std::process::id().to_string().as_str());
        let cgroup = fs::read("/proc/self/cgroup").unwrap_or_default();
        let invoked = env.get("INVOCATION_ID").is_some();
        if !invoked || !(started || is_service(&cgroup)) {
            return Self(None);
        }
        let program = env.get("PATH").and_then(|path| super::find_program(path, "systemd-run"));
        if program.is_none() {
            tracing::warn!(
                "there is no systemd-run on PATH: tasks and tmux stay in the service's own cgroup"
            );
        }
        let kept = ["PATH", "HOME", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS"];
        let env = kept.iter().filter_map(|name| Some(((*name).into(), env.get(name)?.to_owned())));
        Self(Some(Arc::new(Inner { program, env: env.collect(), cgroup, not_before: Mutex::default() })))
    }

    /// The program and the words that go before a command to have it in the scope `unit`, if that can be had now.
    pub(crate) fn before(&self, unit: &str) -> Option<(&Path, Vec<OsString>)> {
        let inner = self.0.as_ref()?;
        let paused = *inner.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        if paused.is_some_and(|until| now() < until) {
            return None;
        }
        let words = ["--user", "--scope", "--quiet", "--collect"].map(OsString::from);
        let unit = OsString::from(format!("--unit={unit}.scope"));
        Some((inner.program.as_deref()?, words.into_iter().chain([unit, "--".into()]).collect()))
    }

    /// What `systemd-run` needs to reach the user's manager, and nothing else of the daemon's environment.
    pub(crate) fn env(&self) -> &[(OsString, OsString)] {
        self.0.as_ref().map_or(&[], |inner| &inner.env)
    }

    /// A scope could not be had: says so, and lets a while pass before the next try.
    pub(crate) fn failed(&self, what: &str, why: &dyn std::fmt::Display) {
        let Some(inner) = &self.0 else { return };
        *inner.not_before.lock().unwrap_or_else(PoisonError::into_inner) = Some(now() + PAUSE);
        tracing::warn!("{what} could not be started in a scope of its own and is started without: {why}");
    }

    /// Says so when a process that should outlive the service is in the service's cgroup.
    pub(crate) fn look_at(&self, what: &str, pid: u32) {
        let Some(inner) = &self.0 else { return };
        if fs::read(format!("/proc/{pid}/cgroup")).is_ok_and(|cgroup| cgroup == inner.cgroup) {
            tracing::warn!(pid, "{what} is in the service's own cgroup and ends when systemd clears that");
        }
    }
}

/// Whether a process with this `/proc/<pid>/cgroup` is in a service (cgroups(7); the unified hierarchy or systemd's own).
fn is_service(cgroup: &[u8]) -> bool {
    let text = String::from_utf8_lossy(cgroup);
    let path = text.lines().find_map(|line| {
        line.strip_prefix("0::").or_else(|| line.split_once(":name=systemd:").map(|(_, path)| path))
    });
    path.is_some_and(|path| path.ends_with(".service"))
}

fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_service_has_scopes() {
        let own = std::process::id().to_string();
        let check = |vars: &[(&str, &str)], expect: bool| {
            assert_eq!(Scopes::new(&Env::from_vars(vars.iter().copied())).0.is_some(), expect, "{vars:?}");
        };
        check(&[("INVOCATION_ID", "1"), ("SYSTEMD_EXEC_PID", &own)], true);
        check(&[("SYSTEMD_EXEC_PID", &own)], false);
        check(
            &[("INVOCATION_ID", "1"), ("SYSTEMD_EXEC_PID", "1")],
            is_service(&fs::read("/proc/self/cgroup").unwrap()),
        );
    }

    #[test]
    fn a_service_is_known_by_the_end_of_its_cgroup() {
        let service = "user.slice/user-1000.slice/user@1000.service/app.slice/kas.service";
        for (text, expect) in [
            (format!("0::/{service}\n"), true),
            (format!("4:memory:/x.service\n1:name=systemd:/{service}\n"), true),
            ("0::/user.slice/user-1000.slice/session-2.scope\n".to_owned(), false),
            (format!("0::/{service}/deeper\n4:memory:/x.service\n"), false),
            (String::new(), false),
        ] {
            assert_eq!(is_service(text.as_bytes()), expect, "{text}");
        }
    }
}
