//! A daemon that hangs, and one whose answers break off: every command says so, and none waits.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use super::home::Daemon;
use crate::harness::{Done, promised};

/// Every command that asks the daemon, and with which arguments.
const ASKS: [&str; 20] = [
    "run hello",
    "run --wait -- true",
    "ps -a",
    "logs ID",
    "logs -f ID",
    "wait ID",
    "stop ID",
    "restart ID",
    "rm ID",
    "rm --ended",
    "open --no-browser",
    "projects",
    "token create",
    "token list",
    "token revoke x",
    "daemon stop",
    "daemon status",
    "daemon add .",
    "daemon remove .",
    "daemon reload",
];
/// Those that do not, or have a test of their own: `attach` needs a terminal, and a second daemon is refused by the lock alone.
const ELSE: [&str; 8] =
    ["attach", "check", "schema", "debug", "daemon start", "daemon install", "help", "daemon"];

/// The commands that a help text lists.
fn listed(help: &str) -> Vec<String> {
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let commands = commands.take_while(|line| !line.trim().is_empty());
    let first =
        commands.filter(|line| !line.starts_with("    ")).filter_map(|line| line.split_whitespace().next());
    first.map(str::to_owned).collect()
}

fn is_in(table: &[&str], command: &str) -> bool {
    table.iter().any(|line| *line == command || line.starts_with(&format!("{command} ")))
}

/// How a command ended, and after how long.
fn timed(run: impl FnOnce() -> Done) -> (Done, Duration) {
    let begun = Instant::now();
    (run(), begun.elapsed())
}

#[test]
fn no_command_waits_for_a_daemon_that_hangs() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let kas = |words: &[&str]| daemon.home.kas_in(&demo, words);
    let known: BTreeSet<String> = ["", "daemon", "token"]
        .iter()
        .flat_map(|of| {
            let words: Vec<&str> = of.split_whitespace().chain(["--help"]).collect();
            let help = kas(&words).stdout;
            listed(&help).into_iter().map(move |name| format!("{of} {name}").trim().to_owned())
        })
        .collect();
    assert!(known.len() > 20, "{known:?}");
    let forgotten: Vec<_> =
        known.iter().filter(|it| !it.ends_with("help") && !is_in(&ASKS, it) && !is_in(&ELSE, it)).collect();
    assert!(forgotten.is_empty(), "no test halts the daemon under {forgotten:?}");

    let run = kas(&["run", "echo", "--json"]).json();
    let id = run["id"].as_str().unwrap();
    let halted = daemon.halt();
    let words = |line: &'static str| {
        line.split(' ').map(|word| if word == "ID" { id } else { word }).collect::<Vec<_>>()
    };
    let done: Vec<_> = std::thread::scope(|scope| {
        let (kas, words) = (&kas, &words);
        let all: Vec<_> = ASKS
            .iter()
            .enumerate()
            .map(|(at, line)| {
                let json: &[&str] = if at % 2 == 0 { &["--json"] } else { &[] };
                scope.spawn(move || (line, timed(|| kas(&[json, &words(line)].concat()))))
            })
            .collect();
        all.into_iter().map(|it| it.join().unwrap()).collect()
    });
    for (line, (done, time)) in done {
        assert_eq!(done.code, Some(6), "{line}: {done:?}");
        let said = done.stdout.clone() + &done.stderr;
        for expect in ["does not answer", &format!("kill -CONT {}", halted.pid()), "kas daemon start"] {
            assert!(said.contains(expect), "{line}: {done:?}");
        }
        if done.stdout.starts_with('{') {
            let error = &done.json()["error"];
            assert_eq!(
                (&error["code"], &error["details"]),
                (&json!("unavailable"), &json!({"reason": "hangs"}))
            );
        }
        assert!(time < promised(Duration::from_secs(2)), "{line} took {time:?}");
    }
    assert_eq!(kas(&["daemon", "start"]).code, Some(17));
    drop(halted);
    assert_eq!(kas(&["daemon", "status"]).code, Some(0), "it was not told to end");
}

/// Reads the first line that a command prints.
fn first_line(child: &mut Child) -> String {
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    line
}

#[test]
fn a_wait_ends_when_the_daemon_begins_to_hang() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    assert_eq!(daemon.home.kas_in(&demo, &["run", "echo"]).code, Some(0));
    let lines: [&[&str]; 4] = [
        &["logs", "-f", "echo"],
        &["run", "--wait", "--", "echo here; read x"],
        &["wait", "echo"],
        &["wait", "echo", "--timeout", "2.5"],
    ];
    let mut children: Vec<Child> = lines
        .iter()
        .map(|words| {
            let mut command = daemon.home.command(&demo, words);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    assert_eq!(first_line(&mut children[0]), "ready\n");
    assert_eq!(first_line(&mut children[1]), "here\n");
    // Beside a daemon that answers, a wait is as long as it is.
    let said = children.pop().unwrap().wait_with_output().unwrap();
    assert!(String::from_utf8_lossy(&said.stderr).contains("has not ended"), "{said:?}");
    assert_eq!(said.status.code(), Some(6));
    let _halted = daemon.halt();
    for (mut child, words) in children.into_iter().zip(lines) {
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(6), "{words:?}: {said}");
        assert!(said.contains("does not answer"), "{words:?}: {said}");
    }
}
