//! What the command line prints: texts of others reach a terminal as text, but where the bytes themselves are asked for.

use std::fs;
use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};

use kas::terminal::is_harmful;
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde_json::{Value, json};

use super::{CORPUS, ascii};
use crate::harness::{Backend, World};

/// What a command writes to a terminal that types `answer`, and its exit code.
fn on_terminal(mut command: Command, answer: &str) -> (Option<i32>, Vec<u8>) {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let master = openpt(flags).unwrap();
    unlockpt(&master).unwrap();
    let terminal = ioctl_tiocgptpeer(&master, flags).unwrap();
    tcsetwinsize(&master, Winsize { ws_col: 900, ws_row: 50, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
    let stdio = || Stdio::from(terminal.try_clone().unwrap());
    command.stdin(stdio()).stdout(stdio()).stderr(stdio());
    let mut child = command.spawn().unwrap();
    // The command holds its copies too.
    drop((terminal, command));
    let mut master = fs::File::from(master);
    master.write_all(answer.as_bytes()).unwrap();
    let mut shown = Vec::new();
    // A terminal whose last holder has gone says EIO.
    let _ = master.read_to_end(&mut shown);
    (child.wait().unwrap().code(), shown)
}

/// Fails for anything in it but text, its lines, and colours.
#[track_caller]
fn harmless(what: &str, shown: &[u8]) {
    let text = std::str::from_utf8(shown)
        .unwrap_or_else(|_| panic!("{what}: not UTF-8: {:?}", shown.escape_ascii()));
    let mut rest = text.to_owned();
    while let Some(at) = rest.find("\x1b[") {
        let parameters = rest[at + 2..].find(|c: char| !matches!(c, '0'..='9' | ';' | ':')).unwrap_or(0);
        assert!(rest[at + 2 + parameters..].starts_with('m'), "{what}: {text:?}");
        rest.replace_range(at..at + 3 + parameters, "");
    }
    let bad = rest.chars().find(|&c| is_harmful(c) && !matches!(c, '\n' | '\r' | '\t'));
    assert!(bad.is_none(), "{what}: {bad:?} in {text:?}");
}

/// Fails for anything in a run's output on a terminal that does more than show something: what the terminal answers, what makes it send more
/// than keys, and what lasts.
#[track_caller]
fn only_shows(what: &str, shown: &[u8]) {
    let mut rest = shown;
    while let Some(at) = rest.iter().position(|byte| *byte == 0x1b) {
        rest = &rest[at + 1..];
        let sequence = rest[..rest.len().min(40)].escape_ascii().to_string();
        let (kind, body) = rest.split_first().unwrap();
        let harmless = match kind {
            b'[' => {
                let end = body.iter().position(|byte| matches!(byte, 0x40..=0x7e)).unwrap();
                let (parameters, last) = (&body[..end], body[end]);
                let modes = [&b"?7"[..], b"?25", b"?47", b"?1047", b"?1048", b"?1049", b"?2026"];
                let plain =
                    parameters.iter().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':'));
                match last {
                    b'h' | b'l' => modes.contains(&parameters),
                    b'J' => plain && parameters != b"3",
                    b'c' | b'n' | b't' | b'p' | b'q' | b'x' | b'y' | b'b' => false,
                    _ => plain,
                }
            }
            b']' => body.starts_with(b"8;"),
            b'(' | b')' | b'7' | b'8' | b'D' | b'E' | b'M' | b'\\' => true,
            _ => false,
        };
        assert!(harmless, "{what}: ESC {sequence}");
    }
    let bytes = shown.contains(&0x05);
    assert!(
        !bytes && !String::from_utf8_lossy(shown).contains(|c| matches!(c, '\u{80}'..='\u{9f}')),
        "{what}"
    );
}

/// What a command says that shows a run's output: on a terminal as it is but for what [`only_shows`] forbids, elsewhere as text.
#[track_caller]
fn shows_output(world: &World, words: &[&str]) -> String {
    let (_, shown) = on_terminal(world.kas_command(words), "");
    only_shows(&format!("{words:?} on a terminal"), &shown);
    let piped = world.kas_command(words).output().unwrap();
    harmless(&format!("{words:?} into a pipe"), &[&piped.stdout[..], &piped.stderr[..]].concat());
    let json_words = [words, &["--json"]].concat();
    let (_, as_json) = on_terminal(world.kas_command(&json_words), "");
    harmless(&format!("{words:?} as JSON on a terminal"), &as_json);
    String::from_utf8_lossy(&shown).into_owned()
}

/// Both ways of saying it, each on a terminal and into a pipe; answers what was shown on the terminal, without and with `--json`.
#[track_caller]
fn says(world: &World, words: &[&str], answer: &str) -> (String, Value) {
    let json_words = [words, &["--json"]].concat();
    let (_, shown) = on_terminal(world.kas_command(words), answer);
    harmless(&format!("{words:?} on a terminal"), &shown);
    let (_, as_json) = on_terminal(world.kas_command(&json_words), answer);
    harmless(&format!("{words:?} as JSON on a terminal"), &as_json);
    for words in [words, &json_words] {
        let piped = world.kas_command(words).output().unwrap();
        harmless(&format!("{words:?} into a pipe"), &[piped.stdout, piped.stderr].concat());
    }
    let as_json = String::from_utf8(as_json).unwrap();
    // What a command says beside its result is not JSON.
    let value = as_json.lines().rev().find_map(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
    (String::from_utf8(shown).unwrap(), value)
}

/// A project of evil names: of its directory, its descriptions, its commands, its groups and variables.
async fn world() -> (World, String) {
    let world = World::with(Backend::Pty, "[limits]\ntasks_per_project = 100\ntasks_per_operator = 100");
    let dir = world.path("p\u{1b}]0;T\u{7}\u{9b}2J\u{202e}\nx");
    fs::create_dir_all(dir.join(".kaged")).unwrap();
    let all = CORPUS.join("|");
    let tasks = json!({
        "every": {"command": "printf %s \"$TEXT\"", "description": &all[..200], "history": true, "history_count": 20, "env": {"TEXT": all}},
        "ask": {"command": format!(": {}", all.replace(['\n', '\''], " ")), "confirm": true, "description": "\u{1b}c\u{9b}c"},
    });
    fs::write(dir.join(".kaged/project.yaml"), ascii(&json!({"project": "demo", "tasks": tasks}))).unwrap();
    let added = world.kas(&["daemon", "add", dir.to_str().unwrap()]);
    harmless("daemon add", added.stdout.as_bytes());
    assert_eq!(added.code, Some(0), "{added:?}");
    (world, all)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_shows_text_of_others_as_text() {
    let (world, all) = world().await;
    let id = world.run_task("demo", "every").await;
    world.until_ended(&id).await;
    let evil = format!("printf %s '{}'", all.replace('\'', "\""));
    let adhoc = world.run_command("demo", &evil).await;
    world.until_ended(&adhoc).await;
    let listed: [&[&str]; 6] = [
        &["ps", "-a", "-p", "demo"],
        &["projects"],
        &["daemon", "status"],
        &["daemon", "reload"],
        &["debug", "salvage"],
        &["debug", "fsck"],
    ];
    for words in listed {
        says(&world, words, "");
    }
    let (shown, value) = says(&world, &["ps", "-a", "-p", "demo"], "");
    assert!(shown.contains(r"\u{1b}]2;PWNED\u{7}") && shown.contains(r"\u{9b}2J"), "{shown}");
    let commands: Vec<_> =
        value["items"].as_array().unwrap().iter().map(|it| it["command"].clone()).collect();
    assert!(commands.contains(&json!(evil)), "nothing of it is lost in JSON");
    shows_output(&world, &["logs", &id, "--follow"]);
    let logs = shows_output(&world, &["logs", &id]);
    assert!(logs.contains("PWNED") && !logs.contains("]2;"), "{logs}");
    let waited = shows_output(&world, &["-p", "demo", "run", "--wait", "every"]);
    assert!(waited.contains("PWNED") && !waited.contains("]52;"), "{waited}");
    let (asked, _) = says(&world, &["-p", "demo", "run", "ask"], "n\n");
    assert!(asked.contains("Run it?") && asked.contains(r"\u{202e}"), "{asked}");
    // The bytes themselves are for who asks for them.
    let raw = world.kas_command(&["logs", "--raw", &id]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&raw.stdout), all.replace('\n', "\r\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_complaint_shows_text_of_others_as_text() {
    let (world, _) = world().await;
    let token = world.kas(&["token", "create", "--name", CORPUS[30]]);
    harmless("token create", [token.stdout, token.stderr].concat().as_bytes());
    says(&world, &["token", "list"], "");
    // Those that could do something to a terminal.
    for &text in &CORPUS[28..] {
        let complaints: [&[&str]; 7] = [
            &["-p", "demo", "run", "--", "x", text],
            &["-p", text, "ps"],
            &["-p", "demo", "logs", "--", text],
            &["--socket", text, "ps"],
            &["check", "--", text],
            &["token", "revoke", "--", text],
            &[text],
        ];
        for words in complaints {
            let done = on_terminal(world.kas_command(words), "");
            harmless(&format!("{words:?}"), &done.1);
        }
        let file = world.write(
            "broken/.kaged/project.yaml",
            ascii(&json!({"tasks": {text: {text: text, "env": [text]}}})),
        );
        let (shown, value) = says(&world, &["check", file.to_str().unwrap()], "");
        assert!(shown.contains("problem") && value["ok"] == json!(false), "{shown} {value}");
        // Not as escapes of YAML's but as they are, where YAML allows them.
        fs::write(&file, format!("tasks:\n  test: {{{text}: 1, comand: \"{text}\"}} # {text}\n")).unwrap();
        let (shown, _) = says(&world, &["check", file.to_str().unwrap()], "");
        assert!(shown.contains("problem"), "{shown}");
    }
}
