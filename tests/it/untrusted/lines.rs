//! A line of the log and a line of the audit trail is one event, whatever it tells of.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use kas::terminal::is_harmful;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::CORPUS;
use crate::harness::{Backend, PATIENCE, World};

/// Each text where the daemon tells of it: a directory that cannot be registered, a tmux that fails, a command that ends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_is_one_line() {
    let mut world = World::asleep(Backend::Tmux, "");
    let repos: Vec<String> = CORPUS.iter().map(|text| format!("/nonexistent/{text}")).collect();
    let config = std::fs::read_to_string(world.path(".config/kasmos/daemon.toml")).unwrap();
    let escaped: Vec<String> = repos.iter().map(|it| super::ascii(&json!(it))).collect();
    world.write(".config/kasmos/daemon.toml", format!("repos = [{}]\n{config}", escaped.join(", ")));
    world.set_env("KAS_LOG", "debug");
    world.start();
    let project = world.project("demo", "project: demo").await;
    // tmux's own words are told where it fails, and so is the path it complains of.
    let socket = world.path(&format!("tmux/tmux-{}", rustix::process::getuid().as_raw()));
    std::fs::create_dir_all(&socket).unwrap();
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let mut ids = Vec::new();
    for text in CORPUS.iter().take(6).chain(&CORPUS[30..]) {
        let id = world.run_command(&project, &format!(": '{}'", text.replace('\'', " "))).await;
        world.until_ended(&id).await;
        ids.push(id);
    }
    audit(&world, &ids);
    assert!(world.end(Signal::TERM).success());
}

/// The log so far: each line begins with a time and a level, nothing in it acts on a terminal, and all that was to be told is there.
fn log_is_lines(log: &str) {
    for line in log.lines() {
        let mut words = line.split_whitespace();
        let time = words.next().unwrap_or_default();
        let is_time = time.len() == 27 && time.ends_with('Z') && time.as_bytes()[10] == b'T';
        let level = words.next().unwrap_or_default();
        assert!(is_time && ["ERROR", "WARN", "INFO", "DEBUG"].contains(&level), "{line:?}");
        assert!(!line.chars().any(is_harmful), "{line:?}");
    }
    let told = log.lines().filter(|line| line.contains("cannot register")).count();
    assert_eq!(told, CORPUS.len(), "{log}");
}

fn audit(world: &World, ids: &[String]) {
    log_is_lines(&world.log());
    let mut stream = UnixStream::connect(world.path("run/kasmos/kas.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\nlast-event-id: 0\r\n\r\n").unwrap();
    let last = ids.last().unwrap();
    let mut text = Vec::new();
    let mut piece = [0; 4096];
    let is_whole = |text: &[u8]| {
        let text = String::from_utf8_lossy(text);
        text.contains("event: task.exited")
            && text.matches(last.as_str()).count() >= 2
            && text.ends_with("\n\n\r\n")
    };
    while !is_whole(&text) {
        let count = stream.read(&mut piece).unwrap();
        assert!(count > 0, "{}", String::from_utf8_lossy(&text));
        text.extend_from_slice(&piece[..count]);
    }
    let text = String::from_utf8(text).unwrap();
    let body = text.split_once("\r\n\r\n").unwrap().1;
    let chunk = |line: &str| !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut seen = 0;
    for line in body.lines().map(|line| line.trim_end_matches('\r')).filter(|line| !chunk(line)) {
        match line.split_once(": ") {
            Some(("data", json)) => {
                let event: Value = serde_json::from_str(json).unwrap();
                seen += usize::from(event["event"] == "task.launched");
            }
            Some(("id" | "event" | "retry", _)) => {}
            _ => assert!(line.is_empty() || line.starts_with(':'), "{line:?}"),
        }
    }
    assert_eq!(seen, ids.len());
}
