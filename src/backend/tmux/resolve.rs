//! Which backend is used: the table of `seeds/004`, "Backend resolution".

use super::probe::Probe;
use crate::config::BackendChoice;
use crate::model::BackendKind;

/// The backend for the daemon's lifetime, and what to say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Which.
    pub backend: BackendKind,
    /// The line for the log.
    pub log: String,
    /// What the operator should know besides.
    pub warning: Option<String>,
}

/// tmux is demanded and there is none that can be used: exit code 16.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("[task_runner] backend = \"tmux\", but {why}; install the package `tmux` (3.2 or newer)")]
pub struct ResolveError {
    why: String,
}

/// Chooses by what the operator wants and what was found.
///
/// # Errors
/// When tmux is wanted and cannot be had.
pub fn resolve(choice: BackendChoice, probe: &Probe) -> Result<Resolved, ResolveError> {
    let version = probe.version();
    let (backend, words) = match (choice, version) {
        (BackendChoice::Tmux, Some(version)) => (BackendKind::Tmux, format!(" (tmux {version} found)")),
        (BackendChoice::Auto, Some(_)) => (BackendKind::Tmux, " (auto-detected)".to_owned()),
        (BackendChoice::Pty, Some(_)) => (BackendKind::Pty, " (tmux available but not selected)".to_owned()),
        (BackendChoice::Tmux, None) => return Err(ResolveError { why: trouble(probe) }),
        (BackendChoice::Auto, None) => (BackendKind::Pty, " (tmux not found)".to_owned()),
        (BackendChoice::Pty, None) => (BackendKind::Pty, String::new()),
    };
    let log = format!("task_runner: backend={}{words}", backend.word());
    let warning = match (backend, probe) {
        (BackendKind::Tmux, Probe::Found { version }) if !version.can_keep_panes() => Some(format!(
            "tmux {version} dies when a kept window's command ends with output queued; windows are not kept below 3.3"
        )),
        (BackendKind::Pty, Probe::Unusable { .. }) if choice == BackendChoice::Auto => Some(trouble(probe)),
        _ => None,
    };
    Ok(Resolved { backend, log, warning })
}

fn trouble(probe: &Probe) -> String {
    match probe {
        Probe::Unusable { why } => why.clone(),
        Probe::Missing | Probe::Found { .. } => "there is no tmux on PATH".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use BackendChoice::{Auto, Pty, Tmux};

    fn found(version: &str) -> Probe {
        Probe::Found { version: version.parse().unwrap() }
    }

    fn check(choice: BackendChoice, probe: &Probe, expect: &str) {
        let log = resolve(choice, probe).map_or_else(|error| error.to_string(), |resolved| resolved.log);
        assert_eq!(log, expect);
    }

    #[test]
    fn the_table_row_by_row() {
        check(Tmux, &found("3.4"), "task_runner: backend=tmux (tmux 3.4 found)");
        check(Auto, &found("3.4"), "task_runner: backend=tmux (auto-detected)");
        check(Pty, &found("3.4"), "task_runner: backend=pty (tmux available but not selected)");
        let no = "[task_runner] backend = \"tmux\", but there is no tmux on PATH; install the package `tmux` (3.2 or newer)";
        check(Tmux, &Probe::Missing, no);
        check(Auto, &Probe::Missing, "task_runner: backend=pty (tmux not found)");
        check(Pty, &Probe::Missing, "task_runner: backend=pty");
    }

    #[test]
    fn an_unusable_one_is_none_and_the_reason_is_told() {
        let old = Probe::Unusable { why: "/bin/tmux is tmux 3.1".to_owned() };
        let resolved = resolve(Auto, &old).unwrap();
        assert_eq!(
            (resolved.backend, resolved.warning.as_deref()),
            (BackendKind::Pty, Some("/bin/tmux is tmux 3.1"))
        );
        assert!(resolve(Tmux, &old).unwrap_err().to_string().contains("3.1"));
        assert_eq!(resolve(Pty, &old).unwrap().warning, None);
    }

    #[test]
    fn old_ones_come_with_a_warning() {
        let warned = |version| resolve(Auto, &found(version)).unwrap().warning.is_some();
        assert_eq!([warned("3.2a"), warned("3.3"), warned("next-3.8")], [true, false, false]);
    }
}
