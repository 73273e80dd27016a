//! What a new configuration changes at once, and what waits for a restart.

use super::Config;

/// Names of changed keys, as they are written in `daemon.toml`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReloadReport {
    /// Changed, and in force from now on.
    pub applied: Vec<&'static str>,
    /// Changed, and in force after a restart of the daemon.
    pub needs_restart: Vec<&'static str>,
}

/// Compares two configurations key by key. What is bound, started or sized at the start needs a restart.
#[must_use]
pub fn reload_report(old: &Config, new: &Config) -> ReloadReport {
    let mut report = ReloadReport::default();
    macro_rules! compare {
        ($list:ident: $($($field:ident).+),+ $(,)?) => {
            $(if old.$($field).+ != new.$($field).+ {
                report.$list.push(concat!(compare!(@ $($field).+)));
            })+
        };
        (@ $last:ident) => { stringify!($last) };
        (@ $first:ident.$last:ident) => { concat!(stringify!($first), ".", stringify!($last)) };
        (@ $a:ident.$b:ident.$c:ident) => { concat!(stringify!($a), ".", stringify!($b), ".", stringify!($c)) };
    }
    compare!(applied: poll_interval_sec, repos, auto_advance, auto_advance_waves, auto_review_fix,
        auto_readiness_review, max_review_fix_cycles, readiness_self_fix_max_lines, readiness_max_verify_cycles,
        pr_monitor.enabled, pr_monitor.poll_interval_sec, pr_monitor.reactions,
        limits.tasks_per_project, limits.tasks_per_operator, limits.transcript_bytes);
    if old.http.tls().is_some() && new.http.tls().is_some() {
        compare!(applied: http.tls_cert, http.tls_key);
    } else {
        compare!(needs_restart: http.tls_cert, http.tls_key);
    }
    compare!(needs_restart: socket_path, http_addr, http.names, task_runner.backend, task_runner.pty_on_restart, task_runner.pass_env,
        task_runner.tmux.socket, task_runner.tmux.config, task_runner.tmux.output, limits.scrollback_lines);
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BackendChoice;

    #[test]
    fn names_what_changed() {
        let old = Config::default();
        assert_eq!(reload_report(&old, &old), ReloadReport::default());
        let mut new = old.clone();
        new.repos.push("/a".into());
        new.limits.tasks_per_project = 2;
        new.http_addr = None;
        new.task_runner.backend = BackendChoice::Pty;
        let report = reload_report(&old, &new);
        assert_eq!(report.applied, ["repos", "limits.tasks_per_project"]);
        assert_eq!(report.needs_restart, ["http_addr", "task_runner.backend"]);
    }

    #[test]
    fn another_certificate_is_taken_at_once_and_the_first_one_is_not() {
        let with = |cert: Option<&str>| {
            let mut config = Config::default();
            (config.http.tls_cert, config.http.tls_key) = (cert.map(Into::into), cert.map(|_| "/k".into()));
            config
        };
        let moved = reload_report(&with(Some("/a")), &with(Some("/b")));
        assert_eq!((moved.applied, moved.needs_restart), (vec!["http.tls_cert"], vec![]));
        for (old, new) in [(None, Some("/a")), (Some("/a"), None)] {
            let turned = reload_report(&with(old), &with(new));
            assert_eq!(
                (turned.applied, turned.needs_restart),
                (vec![], vec!["http.tls_cert", "http.tls_key"])
            );
        }
    }
}
