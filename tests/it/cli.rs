//! `kas` as people and scripts use it: the real binary, its words and its exit codes.

mod daemon;
mod hang;
mod home;
mod output;
mod terminal;
mod waiting;

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};
use std::thread::JoinHandle;

use serde_json::json;

use self::home::Home;

#[test]
fn arguments_that_make_no_sense_are_2() {
    let home = Home::new();
    for line in [
        "",
        "nonsense",
        "run",
        "run a -- b",
        "run a --cwd x",
        "run a --cols 80",
        "run a --cols 0 --rows 1",
        "rm",
        "rm a --ended",
        "logs",
        "logs a --raw --json",
        "wait a --timeout -1",
        "attach",
        "daemon",
        "daemon nonsense",
        "token create --scope all",
        "ps --nonsense",
    ] {
        let words: Vec<&str> = line.split_whitespace().collect();
        let done = home.kas(&words);
        assert_eq!(done.code, Some(2), "{line}: {done:?}");
        let told = if words.contains(&"--json") { &done.stdout } else { &done.stderr };
        assert!(!told.is_empty(), "{line}: {done:?}");
    }
    let done = home.kas(&["ps", "--json", "--nonsense"]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(2), ""));
    let error = done.json();
    assert_eq!((&error["ok"], &error["error"]["code"]), (&json!(false), &json!("invalid_request")));
    assert!(error["error"]["message"].as_str().unwrap().contains("--nonsense"));
}

#[test]
fn help_and_version_are_0_on_stdout() {
    let home = Home::new();
    for words in [
        &["--help"][..],
        &["run", "--help"],
        &["daemon", "start", "--help"],
        &["d", "--help"],
        &["--version"],
    ] {
        let done = home.kas(words);
        assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{words:?}");
        assert!(!done.stdout.is_empty() && !done.stdout.contains('\x1b'), "{done:?}");
    }
}

#[test]
fn without_a_daemon_every_question_to_it_is_5() {
    let home = Home::new();
    let project = home.project("p", "tasks: {test: {command: 'true'}}");
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    for line in [
        "run test",
        "run -- ls -l",
        "ps",
        "ps -a",
        "logs test",
        "logs ID -f",
        "wait ID",
        "stop ID",
        "restart test",
        "rm ID",
        "rm --ended",
        "open",
        "projects",
        "token list",
        "token create",
        "token revoke x",
        "daemon status",
        "d status",
        "daemon stop",
        "daemon add .",
        "daemon remove .",
        "daemon reload",
    ] {
        let words: Vec<&str> = line.split(' ').map(|word| if word == "ID" { id } else { word }).collect();
        let done = home.kas_in(&project, &words);
        assert_eq!(done.code, Some(5), "{line}: {done:?}");
        assert!((done.stdout.clone() + &done.stderr).contains("daemon not running"), "{line}: {done:?}");
        let json = home.kas_in(&project, &[&["--json"], &words[..]].concat());
        assert_eq!((json.code, json.stderr.as_str()), (Some(5), ""), "{line}: {json:?}");
        let error = &json.json()["error"];
        assert_eq!(
            (&error["code"], &error["details"]["reason"]),
            (&json!("unavailable"), &json!("not_running")),
            "{line}"
        );
    }
    // For `status` that is no failure but the answer.
    let status = home.kas(&["daemon", "status"]);
    assert_eq!((status.stdout.as_str(), status.stderr.as_str()), ("daemon not running\n", ""));
}

#[test]
fn a_project_is_needed_or_named() {
    let home = Home::new();
    for words in [&["run", "test"][..], &["logs", "test"], &["rm", "--ended"]] {
        let done = home.kas(words);
        assert_eq!(done.code, Some(2), "{done:?}");
        assert!(done.stderr.contains("--project"), "{done:?}");
    }
    assert_eq!(home.kas(&["run", "test", "--project", "Not An Id"]).code, Some(2));
    assert_eq!(home.kas(&["run", "test", "-p", "demo"]).code, Some(5));
    // What is quoted does not reach the terminal as it is.
    let done = home.kas(&["daemon", "add", "no\x1b[2Jwhere"]);
    assert!(done.code == Some(3) && !done.stderr.contains('\x1b'), "{done:?}");
    // What can be no task's name names nothing.
    assert_eq!(home.kas(&["logs", "No such", "-p", "demo"]).code, Some(3));
}

#[test]
fn check_and_schema_need_no_daemon() {
    let home = Home::new();
    let good = home.project("good", "tasks: {test: {command: 'true'}}");
    let bad = home.project("bad", "tasks: {test: {comand: 'true'}}");
    assert_eq!(home.kas_in(&good, &["check"]).code, Some(0));
    let done = home.kas_in(&bad, &["check"]);
    assert_eq!((done.code, done.stdout.as_str()), (Some(4), ""), "{done:?}");
    assert!(done.stderr.contains("comand"), "{done:?}");
    assert_eq!(home.kas_in(&bad, &["check", "--json"]).json()["ok"], false);
    assert_eq!(home.kas_in(&bad, &["--json", "check"]).json()["ok"], false);
    assert_eq!(home.kas(&["check"]).code, Some(3));
    assert!(home.kas(&["schema"]).json()["$schema"].is_string());
}

#[test]
fn attach_needs_a_terminal() {
    let done = Home::new().kas(&["attach", "test"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(done.stderr.contains("kas logs -f"), "{done:?}");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let home = Home::new();
    let mut child = home
        .command(home.temp.path(), &["schema"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""));
}

#[test]
fn stop_signals_nobody_it_cannot_prove() {
    let home = Home::new();
    let mut bystander = Command::new("sleep").arg("1000").spawn().unwrap();
    let file = home.write(".config/kasmos/daemon.pid", &format!("{}\n", bystander.id()));
    let done = home.kas(&["daemon", "stop"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(done.stderr.contains(&bystander.id().to_string()), "{done:?}");
    assert!(bystander.try_wait().unwrap().is_none(), "it was signalled");
    bystander.kill().unwrap();
    bystander.wait().unwrap();
    // The file of a process that is gone is removed.
    assert_eq!(home.kas(&["daemon", "stop"]).code, Some(5));
    assert!(!file.exists());
}

/// Answers one request after the other with these, byte for byte, and gives back what was asked last. Asked whether it lives, it does.
fn saying(home: &Home, answers: Vec<String>) -> JoinHandle<String> {
    let listener = UnixListener::bind(home.socket()).unwrap();
    std::thread::spawn(move || {
        let (mut answers, mut asked) = (answers.into_iter().peekable(), String::new());
        while answers.peek().is_some() {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            let mut piece = [0; 4096];
            while !request.windows(4).any(|it| it == b"\r\n\r\n") {
                let count = stream.read(&mut piece).unwrap();
                assert!(count > 0, "the request broke off");
                request.extend_from_slice(&piece[..count]);
            }
            let ping = request.starts_with(b"GET /v1/ping ");
            let alive = || "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_owned();
            let answer = if ping { alive() } else { answers.next().unwrap() };
            stream.write_all(answer.as_bytes()).unwrap();
            if !ping {
                asked = String::from_utf8(request).unwrap();
            }
        }
        asked
    })
}

/// Answers one request with this, and gives back what was asked.
fn answering(home: &Home, status: &'static str, body: &'static str) -> JoinHandle<String> {
    let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    saying(home, vec![if status.is_empty() { String::new() } else { answer }])
}

#[test]
fn an_answer_that_breaks_off_is_1_and_said() {
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let run = json!({"id": id, "project_id": "demo", "task_name": null, "command": "true", "state": "done", "backend": "pty",
        "exit_code": 0, "signal": null, "error": null, "launched_at": 5, "duration_ms": 7})
    .to_string();
    let whole = |body: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let cut = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nx-kas-start-offset: 7\r\ncontent-length: 1000\r\n\r\n{body}")
    };
    let check = |words: &[&str], answers: Vec<String>, out: &str| {
        let home = Home::new();
        let daemon = saying(&home, answers);
        let done = home.kas(words);
        daemon.join().unwrap();
        assert_eq!(done.code, Some(1), "{words:?}: {done:?}");
        assert!(done.stdout.starts_with(out), "{words:?}: {done:?}");
        assert!((done.stdout.clone() + &done.stderr).contains("broke off"), "{words:?}: {done:?}");
        done
    };
    check(&["ps", "-p", "demo"], vec![cut("{\"items\":[")], "");
    let done = check(&["logs", id], vec![whole(&run), cut("one\ntw")], "one\n");
    let gap = done.stderr.find("the first 7 bytes of the output are not kept any more").unwrap();
    assert!(gap < done.stderr.find("broke off").unwrap(), "{done:?}");
    let done =
        check(&["logs", id, "--json"], vec![whole(&run), cut("{\"missing_bytes\":7,")], "{\"instance\":");
    let lines: Vec<_> = done.stdout.lines().collect();
    assert!(
        serde_json::from_str::<serde_json::Value>(lines[0]).is_err(),
        "a part is not taken for the whole"
    );
    let error: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(error["error"]["details"], json!({"reason": "broke_off"}));
    // A list longer than any: the daemon did answer, so that is not 5.
    let long = format!("{{\"items\":[\"{}\"]}}", "x".repeat(17 << 20));
    let home = Home::new();
    let daemon = saying(&home, vec![whole(&long)]);
    let done = home.kas(&["ps", "-p", "demo"]);
    assert!(done.code == Some(1) && done.stderr.contains("longer than"), "{done:?}");
    // It was cut off, so it cannot have written all.
    let _ = daemon.join();
}

#[test]
fn what_the_daemon_refuses_has_its_exit_code() {
    let check = |status: &'static str, body: &'static str, expect: i32| {
        let home = Home::new();
        let daemon = answering(&home, status, body);
        let done = home.kas(&["stop", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--json"]);
        assert_eq!((done.code, done.stderr.as_str()), (Some(expect), ""), "{status}: {done:?}");
        assert_eq!(done.json()["ok"], false);
        let request = daemon.join().unwrap();
        assert!(
            request.starts_with("GET /api/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV HTTP/1.1\r\n"),
            "{request}"
        );
        done.json()
    };
    let error = check(
        "404 Not Found",
        r#"{"error":{"code":"not_found","message":"no such run","details":{"a":1}}}"#,
        3,
    );
    assert_eq!(error["error"], json!({"code": "not_found", "message": "no such run", "details": {"a": 1}}));
    check("409 Conflict", r#"{"error":{"code":"conflict","message":"m","details":{}}}"#, 7);
    check("429 Too Many Requests", r#"{"error":{"code":"rate_limited","message":"m","details":{}}}"#, 7);
    check("403 Forbidden", r#"{"error":{"code":"forbidden","message":"m","details":{}}}"#, 8);
    check("503 Service Unavailable", r#"{"error":{"code":"unavailable","message":"m","details":{}}}"#, 5);
    check("500 Internal Server Error", "oops", 1);
    check("200 OK", "not json", 1);
    check("200 OK", r#"{"id":"01ARZ3NDEKTSV4RRFFQ69G5FAV"}"#, 1);
    check("", "", 5);
}
