//! Commands that need a daemon, with a daemon.

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;

use serde_json::json;

use super::home::{Daemon, Home};
use super::terminal::written;

#[test]
fn the_daemon_starts_once_and_stops() {
    let daemon = Daemon::start("pty");
    let home = &daemon.home;
    let status = home.kas(&["daemon", "status", "--json"]).json();
    let pid = fs::read_to_string(home.path(".config/kasmos/daemon.pid")).unwrap();
    assert_eq!(pid.trim(), status["pid"].to_string());
    assert!(
        home.kas(&["d", "status"])
            .stdout
            .contains(&format!("http://{}", status["http_addr"].as_str().unwrap()))
    );
    let second = home.kas(&["daemon", "start", "--json"]);
    assert_eq!(second.code, Some(17), "{second:?}");
    assert!(second.json()["error"]["message"].as_str().unwrap().contains(pid.trim()));
    assert_eq!(home.kas(&["daemon", "start", "--foreground"]).code, Some(17));
    assert_eq!(home.kas(&["daemon", "stop"]).code, Some(0));
    assert!(!home.path(".config/kasmos/daemon.pid").exists());
    assert_eq!(home.kas(&["daemon", "status"]).code, Some(5));
    assert_eq!(home.kas(&["daemon", "stop"]).code, Some(5));
}

#[test]
fn a_daemon_elsewhere_is_found_by_its_lock() {
    let home = Home::new();
    let socket = home.path("elsewhere/s");
    let config = format!("http_addr = \"\"\nsocket_path = \"{}\"\n", socket.display());
    let config = home.write("my.toml", &config);
    let started = home.kas(&["daemon", "start", "--config", config.to_str().unwrap()]);
    assert_eq!(started.code, Some(0), "{started:?}");
    assert_eq!(home.kas(&["daemon", "status"]).code, Some(5));
    assert_eq!(home.kas(&["daemon", "status", "--socket", socket.to_str().unwrap()]).code, Some(0));
    let stopped = home.kas(&["daemon", "stop"]);
    assert_eq!(stopped.code, Some(0), "{stopped:?}");
}

#[test]
fn a_bad_configuration_is_4_and_told() {
    let home = Home::new();
    home.write(".config/kasmos/daemon.toml", "nonsense = 1\n");
    for words in [&["daemon", "start"][..], &["daemon", "start", "--foreground"]] {
        let done = home.kas(words);
        assert_eq!(done.code, Some(4), "{done:?}");
        assert!(done.stderr.contains("nonsense"), "{done:?}");
    }
    let details = &home.kas(&["daemon", "start", "--json"]).json()["error"]["details"];
    assert_eq!((&details["reason"], &details["problems"][0]["line"]), (&json!("config_invalid"), &json!(1)));
    assert_eq!(home.kas(&["daemon", "start", "--config", "/nowhere.toml"]).code, Some(3));
}

#[test]
fn a_bad_reload_is_told_and_changes_nothing() {
    let daemon = Daemon::start("pty");
    let home = &daemon.home;
    assert_eq!(home.kas(&["daemon", "reload"]).code, Some(0));
    home.write(".config/kasmos/daemon.toml", "http_addr = 7\n");
    let done = home.kas(&["daemon", "reload"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(done.stderr.contains("http_addr"), "{done:?}");
    assert_eq!(home.kas(&["daemon", "status"]).code, Some(0));
}

/// Everything one does with runs, on a backend.
fn a_day_with(backend: &str) {
    let daemon = Daemon::start(backend);
    let home = &daemon.home;
    let demo = daemon.demo();
    let kas = |line: &str| home.kas_in(&demo, &line.split(' ').collect::<Vec<_>>());
    // The first run registers the project and says so, not on stdout.
    let first = kas("run hello --wait");
    assert_eq!((first.code, first.stdout.as_str()), (Some(0), "hello\n"), "{first:?}");
    assert!(first.stderr.contains("registered project demo"), "{first:?}");
    assert_eq!(kas("projects --json").json()["items"][0]["id"], "demo");
    let seven = kas("run seven --wait");
    assert_eq!((seven.code, seven.stdout.as_str(), seven.stderr.as_str()), (Some(7), "out\n", ""));
    let killed = kas("run killed --wait --json");
    assert_eq!((killed.code, &killed.json()["signal"]), (Some(137), &json!("SIGKILL")));
    assert_eq!(kas("wait seven").code, Some(7));

    assert_eq!(kas("logs hello").stdout, "hello\n");
    assert_eq!(kas("logs hello --raw").stdout, "he\x1b[31mllo\x1b[0m\x1b]0;title\x07\r\n");
    kas("run lines --wait");
    assert_eq!(kas("logs lines -n 2").stdout, "line 4\nline 5\n");
    assert_eq!(kas("logs lines -f -n 1").stdout, "line 5\n");

    let run = kas("run echo --json").json();
    assert_eq!((&run["backend"], &run["task_name"]), (&json!(backend), &json!("echo")));
    assert!(kas("ps").stdout.contains(run["id"].as_str().unwrap()));
    assert_eq!(kas("ps --json").json()["items"].as_array().unwrap().len(), 1);
    assert_eq!(kas("wait echo --timeout 0.05").code, Some(6));
    assert_eq!(kas("rm echo").code, Some(7), "it runs");
    let new = kas("restart echo --json").json();
    assert_eq!(new["restarted_from"], run["id"]);
    // A stop before the command began would leave nothing that ended it.
    written(&daemon, new["id"].as_str().unwrap(), "ready");
    // What ended it, not what a stop sends: its own code, or the signal's.
    assert_eq!(kas("stop echo --json").json()["state"], "stopped");
    let signal = if backend == "tmux" { 2 } else { 15 };
    assert_eq!(kas("wait echo").code, Some(128 + signal));
    let polite = home.kas_in(
        &demo,
        &["run", "--json", "--", "trap 'exit 4' INT TERM; echo up; while :; do sleep 0.05; done"],
    );
    let polite = polite.json()["id"].as_str().unwrap().to_owned();
    let mut up = home.command(&demo, &["logs", "-f", &polite]).stdout(Stdio::piped()).spawn().unwrap();
    up.stdout.as_mut().unwrap().read_exact(&mut [0; 3]).unwrap();
    assert_eq!(kas(&format!("stop {polite}")).code, Some(0));
    assert_eq!((kas(&format!("wait {polite}")).code, up.wait().unwrap().success()), (Some(4), true));
    // What did not begin says why, wherever it is looked at.
    let file = demo.join(".kaged/project.yaml");
    let big = format!("  big: {{command: 'true', env: {{BIG: {}}}}}\n", "y".repeat(132_000));
    fs::write(&file, format!("{}\n{big}", fs::read_to_string(&file).unwrap().trim_end())).unwrap();
    let too_long = home.kas_in(&demo, &["run", "--wait", "big"]);
    assert_eq!((too_long.code, too_long.stdout.as_str()), (Some(1), ""), "{too_long:?}");
    for said in [too_long.stderr, kas("wait big").stdout, kas("logs big").stderr, kas("ps -a").stdout] {
        assert!(said.contains("rgument list too long") || said.contains("are too large"), "{said}");
    }
    let over = kas("stop echo");
    assert_eq!(
        (over.code, over.stdout.starts_with("echo is over: stopped (SIG")),
        (Some(0), true),
        "{over:?}"
    );
    let over = kas("stop echo --json");
    assert_eq!((over.code, &over.json()["state"]), (Some(0), &json!("stopped")), "{over:?}");
    assert_eq!(kas(&format!("rm {}", new["id"].as_str().unwrap())).code, Some(0));
    assert_eq!(kas(&format!("logs {}", new["id"].as_str().unwrap())).code, Some(3));
    assert!(kas("rm --ended --json").json()["deleted"].as_u64().unwrap() > 0);
    assert_eq!(kas("ps -a --json").json(), json!({"items": []}));
    assert_eq!(kas("run nonsense").code, Some(3));
    assert_eq!(kas("daemon remove .").code, Some(0));
    assert_eq!(kas("logs hello").code, Some(3));
}

#[test]
fn a_day_with_the_pty() {
    a_day_with("pty");
}

#[test]
fn a_day_with_tmux() {
    a_day_with("tmux");
}

#[test]
fn what_was_typed_is_what_runs_and_where() {
    let daemon = Daemon::start("pty");
    let home = &daemon.home;
    let demo = daemon.demo();
    fs::create_dir(demo.join("sub dir")).unwrap();
    let ran = |dir: &Path, words: &[&str]| {
        let done = home.kas_in(dir, &[&["run", "--wait"], words].concat());
        assert_eq!(done.code, Some(0), "{done:?}");
        done.stdout
    };
    assert_eq!(ran(&demo, &["--", "printf", "%s|", "a b", "", "it's", "$HOME", "*"]), "a b||it's|$HOME|*|");
    assert_eq!(ran(&demo, &["--", "echo one && echo two"]), "one\ntwo\n");
    let sub = demo.join("sub dir");
    let shown = |path: &Path| format!("{}\n", path.canonicalize().unwrap().display());
    assert_eq!(ran(&sub, &["--", "pwd"]), shown(&sub));
    assert_eq!(ran(&sub, &["--cwd", "..", "--", "pwd"]), shown(&demo));
    assert_eq!(ran(&demo, &["--cwd", "sub dir", "--", "pwd"]), shown(&sub));
    assert_eq!(ran(&demo, &["--cols", "101", "--rows", "33", "--", "stty size"]), "33 101\n");
    let outside = home.kas_in(&demo, &["run", "--cwd", "/", "--", "pwd"]);
    assert_eq!(outside.code, Some(2), "{outside:?}");
}

#[test]
fn a_task_to_confirm_runs_only_with_a_yes() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let kas = |words: &[&str]| daemon.home.kas_in(&demo, words);
    let refused = kas(&["run", "ask", "--json"]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert_eq!(refused.json()["error"]["details"]["reason"], "confirm_required");
    assert_eq!(kas(&["ps", "-a", "--json"]).json(), json!({"items": []}));
    assert_eq!(kas(&["run", "ask", "--yes", "--wait"]).stdout, "asked\n");
}

#[test]
fn waiting_outlives_the_daemon() {
    let daemon = Daemon::start("pty");
    let home = &daemon.home;
    let demo = daemon.demo();
    let script = "echo begin; while ! test -e go; do sleep 0.05; done; echo end; exit 3";
    let mut waiting = home.command(&demo, &["run", "--wait", "--", script]);
    let mut waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut begun = [0; 6];
    waiting.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
    assert_eq!(&begun, b"begin\n");
    assert_eq!(home.kas(&["daemon", "stop"]).code, Some(0));
    daemon.again();
    fs::write(demo.join("go"), "").unwrap();
    let waited = waiting.wait_with_output().unwrap();
    assert_eq!((waited.status.code(), waited.stdout.as_slice()), (Some(3), &b"end\n"[..]), "{waited:?}");
    assert!(String::from_utf8_lossy(&waited.stderr).contains("the daemon is away"), "{waited:?}");
}
