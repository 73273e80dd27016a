//! What a command inherits from the daemon's environment.

use std::ffi::OsString;

/// Who and where the operator is, in which language, with which programs: what commands are written to find. None of them is a secret, names a
/// socket that acts for the operator, or changes how programs are loaded.
const INHERITED: [&str; 41] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    "TMPDIR",
    "HOSTNAME",
    "MANPATH",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "BROWSER",
    "NO_COLOR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NIX_PATH",
    "NIX_PROFILES",
    "NIX_SSL_CERT_FILE",
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "GOPATH",
    "GOROOT",
    "GOBIN",
    "JAVA_HOME",
    "ANDROID_HOME",
    "NVM_DIR",
    "PNPM_HOME",
    "VOLTA_HOME",
    "BUN_INSTALL",
    "DENO_INSTALL",
    "PYENV_ROOT",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "RBENV_ROOT",
    "GEM_HOME",
    "ASDF_DIR",
    "ASDF_DATA_DIR",
];
const INHERITED_PREFIXES: [&str; 2] = ["LC_", "XDG_"];
/// What is never inherited, declared or not: it speaks of the daemon's own process, of its service or of its terminal, and would be untrue.
const NEVER: [&str; 6] = [
    "NOTIFY_SOCKET",
    "JOURNAL_STREAM",
    "INVOCATION_ID",
    "SYSTEMD_EXEC_PID",
    "MANAGERPID",
    "SSH_ORIGINAL_COMMAND",
];
const NEVER_PREFIXES: [&str; 5] = ["KAS_", "TMUX", "WATCHDOG_", "LISTEN_", "MEMORY_PRESSURE_"];

/// The inherited environment of a task: of `base` what is allowed, and what the operator declared (`task_runner.pass_env`, names or `PREFIX*`); and
/// the terminal that kas emulates. The variables of the task's own `env` go on top of it.
pub fn task_env(
    base: impl Iterator<Item = (OsString, OsString)>,
    declared: &[String],
) -> Vec<(OsString, OsString)> {
    let kept = base.filter(|(name, _)| name.to_str().is_some_and(|name| is_inherited(name, declared)));
    kept.chain(TERMINAL.map(|(name, value)| (name.into(), value.into()))).collect()
}

const TERMINAL: [(&str, &str); 2] = [("TERM", "xterm-256color"), ("COLORTERM", "truecolor")];

fn is_inherited(name: &str, declared: &[String]) -> bool {
    let never = NEVER.contains(&name)
        || NEVER_PREFIXES.iter().any(|it| name.starts_with(it))
        || TERMINAL.iter().any(|(it, _)| *it == name);
    let declared = || declared.iter().any(|pattern| matches(pattern, name));
    let allowed = INHERITED.contains(&name) || INHERITED_PREFIXES.iter().any(|it| name.starts_with(it));
    !never && (allowed || declared())
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == name, |prefix| name.starts_with(prefix))
}

/// Whether a text is a name of a variable, or the beginning of names with a `*` after it.
pub(super) fn is_pattern(text: &str) -> bool {
    let name = text.strip_suffix('*').unwrap_or(text);
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    !text.is_empty() && text.len() <= 128 && letters && !name.starts_with(|c: char| c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(base: &[&str], declared: &[&str]) -> Vec<String> {
        let declared: Vec<String> = declared.iter().map(|&it| it.to_owned()).collect();
        let base = base.iter().map(|name| ((*name).into(), "x".into()));
        task_env(base, &declared).into_iter().map(|(name, _)| name.into_string().unwrap()).collect()
    }

    const SECRET: [&str; 12] = [
        "SSH_AUTH_SOCK",
        "GITHUB_TOKEN",
        "AWS_SECRET_ACCESS_KEY",
        "DBUS_SESSION_BUS_ADDRESS",
        "GPG_AGENT_INFO",
        "LD_PRELOAD",
        "LD_LIBRARY_PATH",
        "PYTHONPATH",
        "BASH_ENV",
        "http_proxy",
        "PWD",
        "CREDENTIALS_DIRECTORY",
    ];
    const DAEMONS: [&str; 14] = [
        "KAS_LOG",
        "NOTIFY_SOCKET",
        "LISTEN_FDS",
        "LISTEN_PID",
        "LISTEN_FDNAMES",
        "JOURNAL_STREAM",
        "INVOCATION_ID",
        "WATCHDOG_USEC",
        "SSH_ORIGINAL_COMMAND",
        "TMUX",
        "TMUX_PANE",
        "TMUX_TMPDIR",
        "TERM",
        "COLORTERM",
    ];

    #[test]
    fn only_what_is_listed_or_declared_is_inherited() {
        assert_eq!(names(&["PATH", "HOME", "LANG", "LC_ALL", "XDG_CONFIG_HOME", "EDITOR"], &[]).len(), 8);
        assert_eq!(names(&SECRET, &[]), ["TERM", "COLORTERM"]);
        assert_eq!(
            names(&SECRET, &["SSH_AUTH_SOCK", "AWS_*", "PYTHON"]),
            ["SSH_AUTH_SOCK", "AWS_SECRET_ACCESS_KEY", "TERM", "COLORTERM"]
        );
        assert_eq!(names(&SECRET, &["*"]).len(), SECRET.len() + 2);
    }

    #[test]
    fn what_is_true_for_the_daemon_alone_is_never_inherited() {
        assert_eq!(names(&DAEMONS, &[]), ["TERM", "COLORTERM"]);
        assert_eq!(names(&DAEMONS, &["*", "KAS_*", "NOTIFY_SOCKET"]), ["TERM", "COLORTERM"]);
    }

    #[test]
    fn patterns_are_names_with_at_most_one_star_at_the_end() {
        let good = ["A", "A_1", "AWS_*", "*", "_x"];
        let bad = ["", "1A", "A=B", "A B", "A**", "*A", "A-B", "É"];
        assert!(good.iter().all(|it| is_pattern(it)) && !bad.iter().any(|it| is_pattern(it)));
    }
}
