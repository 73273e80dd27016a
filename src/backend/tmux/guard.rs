//! What the operator's server is set to that could harm runs: overridden on kas's own sessions and windows, and where that does not help,
//! a reason to go without tmux. Nothing is ever set on the server itself.

use super::oneshot::{self, Failure, Sequence};
use super::probe::Version;
use super::server::session_name;
use super::settings::Settings;
use crate::backend::BackendError;
use crate::model::ProjectId;

/// Hooks that run because of what kas does in its sessions, by its commands, its control clients and the ends of its runs (tmux(1), HOOKS;
/// of tmux 3.2 to 3.7). An empty one on the session comes before the server's.
const SESSION_HOOKS: [&str; 25] = [
    "after-capture-pane",
    "after-copy-mode",
    "after-display-message",
    "after-kill-pane",
    "after-list-panes",
    "after-list-windows",
    "after-new-window",
    "after-refresh-client",
    "after-resize-window",
    "after-send-keys",
    "after-set-option",
    "after-show-options",
    "alert-activity",
    "alert-bell",
    "alert-silence",
    "client-attached",
    "client-detached",
    "client-resized",
    "client-session-changed",
    "command-error",
    "session-created",
    "session-renamed",
    "session-window-changed",
    "window-linked",
    "window-unlinked",
];
/// The same of windows. tmux 3.3a dies of a `pane-died` that respawns the pane.
const WINDOW_HOOKS: [&str; 9] = [
    "pane-died",
    "pane-exited",
    "pane-mode-changed",
    "pane-set-clipboard",
    "pane-title-changed",
    "window-layout-changed",
    "window-pane-changed",
    "window-renamed",
    "window-resized",
];
/// Hooks that tmux runs where no session of kas's is there to ask: before it can be given options of its own, and when it is gone.
const BEYOND_REACH: [&str; 2] = ["after-new-session", "session-closed"];

/// The value of `@kas-guard` on a session that has its hooks; another list of hooks takes another value.
pub(super) const SESSION_GUARD: &str = "1";

/// Keeps the server's hooks away from a session.
pub(super) fn session(sequence: Sequence, target: &str) -> Sequence {
    let sequence = SESSION_HOOKS.iter().fold(sequence, |sequence, hook| {
        // `-q`: a hook that this version does not know needs none.
        sequence.then(["set-option", "-q", "-t", target, hook, ""])
    });
    sequence.then(["set-option", "-t", target, "@kas-guard", SESSION_GUARD])
}

/// Keeps the server's hooks away from a window.
pub(super) fn window(sequence: Sequence, target: &str) -> Sequence {
    WINDOW_HOOKS
        .iter()
        .fold(sequence, |sequence, hook| sequence.then(["set-option", "-q", "-w", "-t", target, hook, ""]))
}

/// So many lines answer [`ask`].
pub(super) const ANSWERS: usize = 3;

/// Asks for what [`trouble`] judges.
pub(super) fn ask(sequence: Sequence) -> Sequence {
    sequence
        .then(["show-options", "-sv", "exit-unattached"])
        .then(["show-options", "-sv", "exit-empty"])
        .then(["show-options", "-gwv", "window-size"])
}

/// Why no run may be in this server, by the answers to [`ask`].
pub(super) fn trouble(answers: &[&str], version: Version) -> Option<&'static str> {
    let &[exit_unattached, exit_empty, window_size] = answers.first_chunk::<ANSWERS>()?;
    // With `exit-empty off` the server never ends by itself (`server_loop`).
    if exit_unattached == "on" && exit_empty == "on" {
        return Some(EXIT_UNATTACHED);
    }
    (window_size == "manual" && version.dies_of_manual_size()).then_some(MANUAL_SIZE)
}

const EXIT_UNATTACHED: &str = "exit-unattached is on, so that the server ends with its last client and a restart of kas would end every run in it: runs go on PTYs; take it out of the configuration and say `tmux set-option -s exit-unattached off`";
const MANUAL_SIZE: &str = "window-size is manual for the whole server, and tmux below 3.7 dies of a new window then: runs go on PTYs; take it out of the configuration and say `tmux set-option -gw window-size latest`";

/// What is to be said of the server that runs, in sentences; nothing of a server that is not there.
pub(super) async fn notes(
    settings: &Settings,
    version: Version,
    projects: &[ProjectId],
) -> Result<Vec<String>, Failure> {
    let stranger = format!("#{{?{},,#{{session_name}}}}", settings.is_home());
    let options = ask(Sequence::default())
        .then(["show-options", "-s", "command-alias"])
        .then(["show-options", "-gv", "destroy-unattached"])
        .then(["show-options", "-gH"])
        .then(["show-options", "-gwH"]);
    let sessions = Sequence::default().then(["list-sessions", "-F", &stranger]);
    let (sessions, options) =
        tokio::join!(oneshot::read(settings, sessions), oneshot::read(settings, options));
    let strangers = match sessions {
        Ok(answer) => strangers(&String::from_utf8_lossy(&answer), projects),
        Err(Failure::NoServer | Failure::Missing(_)) => Vec::new(),
        Err(other) => return Err(other),
    };
    match options {
        Ok(answer) => Ok([noted(&String::from_utf8_lossy(&answer), version), strangers].concat()),
        Err(Failure::NoServer) => Ok(Vec::new()),
        Err(other) => Err(other),
    }
}

/// Which projects have a session of their name that nothing proves to be kas's.
fn strangers(names: &str, projects: &[ProjectId]) -> Vec<String> {
    let is_there = |project: &&ProjectId| names.lines().any(|name| name == session_name(project));
    let there = projects.iter().filter(is_there);
    there.map(|project| BackendError::Foreign(session_name(project)).to_string()).collect()
}

fn noted(answer: &str, version: Version) -> Vec<String> {
    let lines: Vec<&str> = answer.lines().collect();
    let mut notes: Vec<String> = trouble(&lines, version).map(str::to_owned).into_iter().collect();
    let rest = lines.get(ANSWERS..).unwrap_or_default();
    let aliases: Vec<&str> =
        rest.iter().filter_map(|line| alias(line)).filter(|name| is_used(name)).collect();
    if !aliases.is_empty() {
        let names = aliases.join(", ");
        notes.push(format!(
            "command-alias gives {names} another meaning, which is for the operator's commands only"
        ));
    }
    let after = rest.iter().find(|line| !line.starts_with("command-alias"));
    if let Some(value) = after.filter(|value| **value != "off") {
        notes.push(format!("destroy-unattached is {value}, which does not hold for kas's sessions"));
    }
    // A hook that is set has an index: `pane-died[0] respawn-pane`.
    let set =
        |hook: &&str| rest.iter().any(|line| line.strip_prefix(*hook).is_some_and(|it| it.starts_with('[')));
    let named = |hooks: &[&'static str]| {
        hooks.iter().copied().filter(|hook| set(hook)).collect::<Vec<_>>().join(", ")
    };
    let kept_away = named(&[SESSION_HOOKS.as_slice(), &WINDOW_HOOKS].concat());
    if !kept_away.is_empty() {
        notes.push(format!("these hooks do not run in kas's sessions: {kept_away}"));
    }
    let beyond = named(&BEYOND_REACH);
    if !beyond.is_empty() {
        notes.push(format!("these hooks run for kas's sessions too, and kas cannot prevent it: {beyond}; where runs fall back to PTYs, take them out"));
    }
    notes
}

/// The name that a line of `command-alias` defines: `command-alias[100] new-window='new-window -k'`, the whole in quotes where it needs it.
fn alias(line: &str) -> Option<&str> {
    let (_, defined) = line.strip_prefix("command-alias[")?.split_once("] ")?;
    Some(defined.trim_start_matches('"').split_once('=')?.0)
}

/// Whether kas says this command.
fn is_used(name: &str) -> bool {
    const USED: [&str; 14] = [
        "attach-session",
        "capture-pane",
        "copy-mode",
        "display-message",
        "kill-pane",
        "kill-session",
        "list-panes",
        "list-sessions",
        "list-windows",
        "new-session",
        "new-window",
        "refresh-client",
        "set-option",
        "show-options",
    ];
    USED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, version: &str, expect: &[&str]) {
        let notes = noted(answer, version.parse().unwrap());
        assert_eq!(notes.len(), expect.len(), "{notes:?}");
        for (note, part) in notes.iter().zip(expect) {
            assert!(note.contains(part), "{note:?} has no {part:?}");
        }
    }

    #[test]
    fn what_the_server_is_set_to_is_said_in_sentences() {
        check(
            "off\non\nlatest\ncommand-alias[0] split-pane=split-window\noff\nafter-new-window\npane-died\n",
            "3.3a",
            &[],
        );
        check("on\non\nlatest\noff\n", "3.3a", &["exit-unattached is on"]);
        check("on\noff\nlatest\noff\n", "3.3a", &[]);
        check("off\non\nmanual\noff\n", "3.3a", &["window-size is manual"]);
        check("off\non\nmanual\noff\n", "3.7c", &[]);
        check("off\non\nlatest\nkeep-last\n", "3.4", &["destroy-unattached is keep-last"]);
        check(
            "off\non\nlatest\ncommand-alias[100] \"new-window=new-window -k\"\ncommand-alias[101] set-option=display-message\ncommand-alias[102] mine=list-keys\noff\nafter-new-session[0] x\nsession-created[0] set-option destroy-unattached on\npane-died[3] respawn-pane\n",
            "3.3a",
            &["gives new-window, set-option another", "session-created, pane-died", "after-new-session;"],
        );
    }
}
