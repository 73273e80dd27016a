//! What a command inherits from the daemon's environment.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

/// Variables that speak of the daemon's own process, service or terminal and would be untrue for a task.
const DROPPED: [&str; 32] = [
    "_",
    "SHLVL",
    "PWD",
    "OLDPWD",
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDNAMES",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "MANAGERPID",
    "SYSTEMD_EXEC_PID",
    "FDSTORE",
    "CREDENTIALS_DIRECTORY",
    "SSH_ORIGINAL_COMMAND",
    "SSH_TTY",
    "GPG_TTY",
    "STY",
    "WINDOW",
    "WINDOWID",
    "LINES",
    "COLUMNS",
    "TERM",
    "COLORTERM",
    "TERMCAP",
    "TERMINFO",
    "VTE_VERSION",
    "WT_SESSION",
    "WT_PROFILE_ID",
    "KONSOLE_VERSION",
    "ZELLIJ",
    "INSIDE_EMACS",
    "NVIM",
];
const DROPPED_PREFIXES: [&str; 10] = [
    "KAS_",
    "TMUX",
    "WATCHDOG_",
    "MEMORY_PRESSURE_",
    "TERM_",
    "LC_TERMINAL",
    "ITERM_",
    "KITTY_",
    "WEZTERM_",
    "KONSOLE_",
];
const DROPPED_SUFFIXES: [&str; 2] = ["_FD", "_FDS"];

/// The inherited environment of a task: `base` without what is only true for the daemon, and the terminal that kas emulates.
/// The variables of the task's own `env` go on top of it.
pub fn task_env(base: impl Iterator<Item = (OsString, OsString)>) -> Vec<(OsString, OsString)> {
    let kept = base.filter(|(name, _)| !is_dropped(name));
    let terminal = [("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];
    kept.chain(terminal.map(|(name, value)| (name.into(), value.into()))).collect()
}

fn is_dropped(name: &OsStr) -> bool {
    let bytes = name.as_bytes();
    DROPPED.iter().any(|it| bytes == it.as_bytes())
        || DROPPED_PREFIXES.iter().any(|it| bytes.starts_with(it.as_bytes()))
        || DROPPED_SUFFIXES.iter().any(|it| bytes.ends_with(it.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(base: &[&str]) -> Vec<String> {
        let env = task_env(base.iter().map(|name| ((*name).into(), "x".into())));
        env.into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
    }

    #[test]
    fn keeps_the_operators_variables_and_drops_the_daemons() {
        assert_eq!(names(&["PATH", "HOME", "LANG", "LC_ALL", "EDITOR"]).len(), 7);
        let dropped = [
            "KAS_LOG",
            "NOTIFY_SOCKET",
            "LISTEN_FDS",
            "LISTEN_PID",
            "LISTEN_FDNAMES",
            "BASH_XTRACE_FD",
            "JOURNAL_STREAM",
            "INVOCATION_ID",
            "WATCHDOG_USEC",
            "WATCHDOG_PID",
            "SSH_ORIGINAL_COMMAND",
            "TMUX",
            "TMUX_PANE",
            "TMUX_TMPDIR",
            "TERM",
            "TERM_PROGRAM",
            "TERM_PROGRAM_VERSION",
            "COLORTERM",
            "TERMCAP",
            "LINES",
            "COLUMNS",
            "STY",
            "PWD",
        ];
        assert_eq!(names(&dropped), ["TERM", "COLORTERM"]);
    }
}
