//! The daemon as a process: one at a time, told by signals, asked by its command line.

use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use serde_json::json;

use crate::harness::{Backend, World, ended};

fn asleep() -> World {
    World::asleep(Backend::Pty, "http_addr = \"127.0.0.1:0\"\n[limits]\ntasks_per_project = 2")
}

/// Twenty at once in one state directory: one lives, the others say who.
#[test]
fn exactly_one_daemon_lives() {
    let world = asleep();
    let start = || -> Child {
        let mut command: Command = world.kas_command(&["daemon", "start", "--foreground"]);
        command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let started: Vec<Child> = (0..20).map(|_| start()).collect();
    let mut winners = Vec::new();
    let mut losers = Vec::new();
    let (told, waits) = std::sync::mpsc::channel();
    for mut child in started {
        let told = told.clone();
        std::thread::spawn(move || {
            let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
            let (mut said, mut line) = (String::new(), String::new());
            while std::io::BufRead::read_line(&mut stderr, &mut line).unwrap() > 0 {
                said.push_str(&line);
                if line.contains("ready socket=") {
                    break;
                }
                line.clear();
            }
            told.send((child, said)).unwrap();
        });
    }
    for _ in 0..20 {
        let (child, said) = waits.recv_timeout(crate::harness::PATIENCE).unwrap();
        if said.contains("ready socket=") { winners.push(child) } else { losers.push((child, said)) }
    }
    assert_eq!((winners.len(), losers.len()), (1, 19));
    let mut winner = winners.remove(0);
    for (mut child, said) in losers {
        assert_eq!(ended(&mut child).code(), Some(17), "{said}");
        assert!(said.contains(&winner.id().to_string()), "{} is not named: {said}", winner.id());
    }
    let status = world.kas(&["daemon", "status", "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["pid"], winner.id());
    winner.kill().unwrap();
    winner.wait().unwrap();
    // Nothing of a killed one is in the way of the next.
    let mut next = world.kas(&["daemon", "start", "--json"]);
    assert_eq!((next.code, next.stderr.as_str()), (Some(0), ""));
    next = world.kas(&["daemon", "stop"]);
    assert_eq!(next.code, Some(0), "{next:?}");
}

#[test]
fn it_is_started_asked_and_stopped_by_its_command_line() {
    let world = asleep();
    let kas = |words: &[&str], code: i32| {
        let done = world.kas(words);
        assert_eq!(done.code, Some(code), "{words:?}: {done:?}");
        (done.stdout, done.stderr)
    };
    assert_eq!(kas(&["daemon", "status"], 5), ("daemon not running\n".to_owned(), String::new()));
    let started: serde_json::Value = serde_json::from_str(&kas(&["daemon", "start", "--json"], 0).0).unwrap();
    let pid = started["pid"].as_u64().unwrap().to_string();
    assert_eq!(std::fs::read_to_string(world.path(".config/kasmos/daemon.pid")).unwrap().trim(), pid);
    assert!(kas(&["daemon", "status"], 0).0.contains(&format!("running, pid {pid}")));
    let (_, told) = kas(&["daemon", "start"], 17);
    assert!(told.contains(&pid), "{told}");
    assert_eq!(std::fs::read_to_string(world.path(".config/kasmos/daemon.pid")).unwrap().trim(), pid);

    let tasks = "project: shop\ntasks: {wait: {command: 'echo up; read x; exit $x'}}";
    world.write("shop/.kaged/project.yaml", tasks);
    let shop = world.path("shop");
    let shop = shop.to_str().unwrap();
    assert!(kas(&["daemon", "add", shop], 0).0.contains("added shop"));
    assert!(kas(&["d", "status"], 0).0.contains(shop));
    kas(&["daemon", "add", shop], 7);
    kas(&["daemon", "add", "/no/such/place"], 3);
    world.write("bad/.kaged/project.yaml", "tasks: {x: 1}");
    kas(&["daemon", "add", world.path("bad").to_str().unwrap()], 4);
    let run = world.kas(&["run", "wait", "-p", "shop", "--json"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let removed = kas(&["daemon", "remove", shop], 0).0;
    assert!(removed.contains("removed shop"), "{removed}");
    kas(&["daemon", "remove", shop], 3);
    assert!(kas(&["daemon", "reload"], 0).0.starts_with("reloaded"));
    assert!(kas(&["daemon", "stop"], 0).0.contains(&pid));
    assert!(!world.path(".config/kasmos/daemon.pid").exists());
    assert_eq!(kas(&["daemon", "status"], 5).0, "daemon not running\n");
    kas(&["daemon", "stop"], 5);
    let log = std::fs::read_to_string(world.state_dir().join("daemon.log")).unwrap();
    assert!(log.contains("ready socket="), "{log}");
}

#[test]
fn a_bad_configuration_is_told_before_anything_starts() {
    let world = asleep();
    world.write(".config/kasmos/daemon.toml", "poll_interval_sec = \"soon\"\nhtp_addr = \"\"\n");
    for words in [&["daemon", "start"][..], &["daemon", "start", "--foreground"]] {
        let done = world.kas(words);
        assert_eq!(done.code, Some(4), "{done:?}");
        assert!(done.stderr.contains("poll_interval_sec") && done.stderr.contains("htp_addr"), "{done:?}");
    }
    let done = world.kas(&["daemon", "start", "--foreground", "--config", "absent.toml"]);
    assert_ne!(done.code, Some(0), "{done:?}");
    assert_eq!(world.kas(&["daemon", "status"]).code, Some(5));
}

/// SIGHUP and `reload` do the same: new limits hold from then on, a bad file changes nothing and is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_is_real_and_a_bad_one_changes_nothing() {
    let mut world = asleep();
    world.start();
    world.project("demo", "project: demo\ntasks: {wait: {command: 'exec sleep 1000'}}").await;
    world.write("late/.kaged/project.yaml", "project: late\ntasks: {}");
    let run = || world.post("/api/v1/projects/demo/tasks/run", json!({"task": "wait"}));
    for _ in 0..2 {
        run().await.expect(202);
    }
    assert_eq!(run().await.refused(429, "rate_limited", "task_limit")["limit"], 2);

    let late = world.path("late");
    let text = format!(
        "http_addr = \"\"\nrepos = [{:?}]\n[limits]\ntasks_per_project = 3\n",
        late.to_str().unwrap()
    );
    world.configure(&text);
    let report = world.post("/v1/reload", json!({})).await.expect(200);
    let expect = json!({
        "status": "reloaded", "applied": ["repos", "limits.tasks_per_project"], "needs_restart": ["http_addr"],
    });
    assert_eq!(report, expect);
    run().await.expect(202);
    run().await.refused(429, "rate_limited", "task_limit");
    assert_eq!(world.get("/api/v1/projects/late").await.expect(200)["path"], late.to_str().unwrap());

    world.configure("nonsense = 1\n[limits]\ntasks_per_project = 99\n");
    world.signal(Signal::HUP);
    world.logged("the configuration is bad; the old one stays in force");
    let status = world.get("/v1/status").await.expect(200);
    assert!(status["config_problems"].to_string().contains("nonsense"), "{status}");
    run().await.refused(429, "rate_limited", "task_limit");
    let refused = world.post("/v1/reload", json!({})).await;
    let details = refused.refused(400, "invalid_request", "config_invalid");
    assert!(details["problems"].to_string().contains("nonsense"), "{details}");

    world.configure(&text.replace("_project = 3", "_project = 4"));
    world.signal(Signal::HUP);
    world.logged("applied=[\"limits.tasks_per_project\"] needs_restart=[]");
    assert_eq!(world.get("/v1/status").await.expect(200)["config_problems"], json!([]));
    run().await.expect(202);
    assert!(world.end(Signal::TERM).success());
}
