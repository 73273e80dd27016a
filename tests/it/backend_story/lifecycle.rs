//! A run from its launch to its end.

use serde_json::{Value, json};

use crate::harness::{Backend, Viewer, World};

const TASKS: &str = r"
version: 1
project: demo
tasks:
  hello: {command: 'printf hello; read x; exit 0', env: {WHO: me}}
  broken: {command: 'echo no >&2; exit 7'}
  server: {command: 'echo up; exec sleep 1000', long_running: true}
  coloured: {command: 'printf ''\033[31mred\033[0m\nplain \303\251\n'''}
  away: {command: 'true', cwd: gone}
";

pub(super) async fn a_task_runs_and_is_done(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    let launched = world.launch(&project, json!({"task": "hello", "cols": 132, "rows": 44})).await;
    let id = launched["id"].as_str().unwrap();
    let said = |it: &Value, fields: &[&str]| fields.iter().map(|f| it[f].clone()).collect::<Value>();
    let facts = ["project_id", "task_name", "state", "backend", "exit_code", "signal", "error", "exited_at"];
    let expect = json!(["demo", "hello", "starting", backend.word(), null, null, null, null]);
    assert_eq!(said(&launched, &facts), expect);
    assert_eq!(launched["cwd"], world.path("demo").to_str().unwrap());

    let running = world.until_running(id).await;
    let pid = running["pid"].as_u64().unwrap();
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    assert_eq!(words, b"/bin/sh\0-c\0printf hello; read x; exit 0\0");
    let listed = world.get("/api/v1/projects/demo/tasks").await.expect(200);
    assert_eq!(listed["instances"][0]["id"], id);
    assert_eq!(
        said(&listed["items"][0]["latest"], &["id", "state", "exit_code"]),
        json!([id, "running", null])
    );
    assert_eq!(world.get("/api/v1/projects/demo").await.expect(200)["running"], 1);

    let mut viewer = Viewer::open(&world, &project).await;
    let mut seen = viewer.watch(id, json!({})).await;
    assert_eq!(said(&seen.subscribed, &["cols", "rows", "state"]), json!([132, 44, "running"]));
    viewer.follow(&mut seen, |seen| seen.bytes == b"hello").await;
    viewer.type_in(seen.handle(), b"\r").await;
    viewer.follow(&mut seen, crate::harness::Seen::ended).await;
    assert_eq!(seen.text(), "hello\r\n");
    assert_eq!(
        said(&seen.exit.unwrap(), &["state", "exit_code", "signal", "offset"]),
        json!(["done", 0, null, 7])
    );

    let done = world.until_ended(id).await;
    assert_eq!(said(&done, &["state", "exit_code", "signal", "error"]), json!(["done", 0, null, null]));
    assert_eq!((&done["output_bytes"], &done["pid"]), (&json!(7), &json!(pid)));
    let span = done["exited_at"].as_i64().unwrap() - done["launched_at"].as_i64().unwrap();
    assert_eq!(done["duration_ms"], span);
    assert_eq!(world.get("/api/v1/projects/demo").await.expect(200)["running"], 0);
}

pub(super) async fn a_failing_task_has_failed_with_its_code(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    let id = world.run_task(&project, "broken").await;
    let seen = Viewer::open(&world, &project).await.whole(&id).await;
    assert_eq!(seen.text(), "no\r\n");
    let failed = world.until_ended(&id).await;
    assert_eq!((&failed["state"], &failed["exit_code"]), (&json!("failed"), &json!(7)));
    let tasks = world.get("/api/v1/projects/demo/tasks").await.expect(200);
    let latest = tasks["items"].as_array().unwrap().iter().find(|task| task["name"] == "broken");
    assert_eq!(latest.unwrap()["latest"]["exit_code"], 7);

    let (seen, killed) = world.outcome(&project, "kill -KILL $$").await;
    assert_eq!(seen.text(), "");
    assert_eq!(
        (&killed["state"], &killed["exit_code"], &killed["signal"], &killed["error"]),
        (&json!("failed"), &json!(137), &json!("SIGKILL"), &Value::Null)
    );
}

pub(super) async fn a_task_is_stopped(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    let id = world.run_task(&project, "server").await;
    let pid = world.until_running(&id).await["pid"].as_u64().unwrap();
    let mut events = world.events(None).await;
    let stopped = world.stop(&id).await;
    assert_eq!((&stopped["id"], &stopped["state"]), (&json!(id), &json!("stopped")));
    assert_eq!((&stopped["exit_code"], &stopped["error"]), (&Value::Null, &Value::Null));
    // In a window a stop presses the interrupt key first.
    let signal = if backend == Backend::Pty { "SIGTERM" } else { "SIGINT" };
    assert_eq!(stopped["signal"], signal);
    assert!(stopped["stopped_at"].as_i64() >= stopped["launched_at"].as_i64());
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "it lives");
    let told = events.about("task.stopped", &id).await;
    assert_eq!((&told["project_id"], &told["signal"]), (&json!("demo"), &json!(signal)));
    assert_eq!(world.instance(&id).await, stopped);
    world.post(&format!("/api/v1/tasks/{id}/stop"), json!({})).await.refused(409, "conflict", "not_running");
    let absent = "/api/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV/stop";
    assert_eq!(world.post(absent, json!({})).await.expect(404)["error"]["code"], "not_found");
    assert_eq!(&world.transcript(&id).await.1[..4], b"up\r\n");
}

/// A stopped run has the code that its program ended with, 0 too, and a run that never began has the cause in words, wherever it is told.
pub(super) async fn an_end_is_told_as_it_was(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    for code in [0, 7] {
        let command = format!("trap 'exit {code}' INT TERM; echo up; while :; do sleep 0.05; done");
        let id = world.run_command(&project, &command).await;
        let mut viewer = Viewer::open(&world, &project).await;
        let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "view"})).await;
        viewer.follow(&mut seen, |seen| seen.bytes.ends_with(b"up\r\n")).await;
        let mut events = world.events(None).await;
        let stopped = world.stop(&id).await;
        let told = (&stopped["state"], &stopped["exit_code"], &stopped["signal"], &stopped["error_text"]);
        assert_eq!(told, (&json!("stopped"), &json!(code), &Value::Null, &Value::Null), "{stopped}");
        assert_eq!(events.about("task.stopped", &id).await["exit_code"], code);
        viewer.follow(&mut seen, |seen| seen.exit.is_some()).await;
        assert_eq!(seen.exit.unwrap()["exit_code"], code);
    }
    // 128 KiB are the most of one argument (execve(2)), and a body may have less: the variable comes from the project's file.
    let big = format!(
        "project: demo\ntasks:\n  big:\n    command: 'true'\n    env: {{ BIG: '{}' }}\n",
        "y".repeat(132_000)
    );
    std::fs::write(world.path("demo/.kaged/project.yaml"), big).unwrap();
    let mut events = world.events(None).await;
    let id = world.run_task(&project, "big").await;
    let failed = world.until_ended(&id).await;
    assert_eq!((&failed["error"], &failed["exit_code"]), (&json!("spawn_failed"), &Value::Null), "{failed}");
    let why = failed["error_text"].as_str().unwrap();
    assert!(why.contains("Argument list too long"), "{why}");
    assert_eq!(events.about("task.exited", &id).await["error_text"], why);
}

/// One child ignores TERM, one fled into a session of its own, and both are ended before the answer comes.
pub(super) async fn a_stop_ends_the_whole_tree(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    let command = "trap '' TERM INT HUP; setsid sh -c 'trap \"\" TERM INT HUP; echo $$; while :; do sleep 1000; done' & \
                   while :; do sleep 1000; done";
    let id = world.run_command(&project, command).await;
    let mut viewer = Viewer::open(&world, &project).await;
    let mut seen = viewer.watch(&id, json!({"mode": "view"})).await;
    viewer.follow(&mut seen, |seen| seen.bytes.ends_with(b"\n")).await;
    let fled: u32 = seen.text().trim().parse().unwrap();
    assert!(std::path::Path::new(&format!("/proc/{fled}")).exists());
    let before = world.until_running(&id).await;
    let stopped = world.stop(&id).await;
    assert_eq!((&stopped["state"], &stopped["exit_code"]), (&json!("stopped"), &Value::Null));
    for pid in [fled, before["pid"].as_u64().unwrap().try_into().unwrap()] {
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists(), "{pid} lives");
    }
    let took = stopped["stopped_at"].as_i64().unwrap() - before["launched_at"].as_i64().unwrap();
    assert!(took >= 0);
}

pub(super) async fn an_ad_hoc_command_runs_in_the_project(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    world.write("demo/sub/keep", "");
    let root = world.path("demo");
    let (seen, done) = world.outcome(&project, "pwd").await;
    assert_eq!(seen.text(), format!("{}\r\n", root.display()));
    assert_eq!((&done["task_name"], &done["cwd"]), (&Value::Null, &json!(root.to_str().unwrap())));
    let below = world.launch(&project, json!({"command": "pwd", "cwd": "./sub"})).await;
    let id = below["id"].as_str().unwrap();
    let seen = Viewer::open(&world, &project).await.whole(id).await;
    assert_eq!(seen.text(), format!("{}\r\n", root.join("sub").display()));
    world.until_ended(id).await;
    let listed = world.get("/api/v1/projects/demo/tasks/instances").await.expect(200);
    let listed: Vec<_> =
        listed["items"].as_array().unwrap().iter().map(|it| (&it["id"], &it["task_name"])).collect();
    assert_eq!(listed, [(&json!(id), &Value::Null), (&done["id"], &Value::Null)]);
}

pub(super) async fn a_transcript_is_kept_in_every_form(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    let id = world.run_task(&project, "coloured").await;
    let instance = world.until_ended(&id).await;
    let bytes = b"\x1b[31mred\x1b[0m\r\nplain \xc3\xa9\r\n";
    let path = format!("/api/v1/tasks/{id}/transcript");

    let database = world.state_dir().join("runner.db");
    let database = rusqlite::Connection::open(database).unwrap();
    let row = "SELECT transcript, start_offset, line_count FROM task_transcripts WHERE task_id = ?1";
    let row: (Vec<u8>, i64, i64) =
        database.query_row(row, [&id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
    assert_eq!(row, (bytes.to_vec(), 0, 2));

    assert_eq!(world.transcript(&id).await, (0, bytes.as_slice().into()));
    let part = world.ask(hyper::Method::GET, &path, &[("range", "bytes=5-7")], None).await;
    assert_eq!((part.status, &part.body[..]), (206, &b"red"[..]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 5-7/{}", bytes.len()).as_str()));
    let beyond = world.ask(hyper::Method::GET, &path, &[("range", "bytes=999-")], None).await;
    assert_eq!(beyond.status, 416);

    let text = world.get(&format!("{path}?format=text")).await;
    assert_eq!((text.status, text.body.as_ref()), (200, "red\nplain é\n".as_bytes()));

    let cast = world.get(&format!("{path}?format=asciicast")).await;
    let lines: Vec<Value> = cast
        .body
        .split(|b| *b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert_eq!(
        (&lines[0]["version"], &lines[0]["width"], &lines[0]["height"]),
        (&json!(2), &json!(80), &json!(24))
    );
    let played: String = lines[1..].iter().map(|event| event[2].as_str().unwrap()).collect();
    assert_eq!(played.as_bytes(), bytes);
    assert!(lines[1..].iter().all(|event| event[1] == "o" && event[0].as_f64().unwrap() >= 0.0));

    let lines = world.get(&format!("{path}?format=json")).await.expect(200);
    let lines = lines.as_array().or_else(|| lines["lines"].as_array()).unwrap_or_else(|| panic!("{lines}"));
    assert_eq!(lines.len(), 2, "{lines:?}");
    let from = instance["launched_at"].as_i64().unwrap();
    let to = instance["exited_at"].as_i64().unwrap();
    for (line, text) in lines.iter().zip(["red", "plain é"]) {
        assert!(line["text"].as_str().is_some_and(|it| it.contains(text)), "{line}");
        assert!(line["at"].as_i64().is_some_and(|at| (from..=to).contains(&at)), "{line} of {instance}");
    }
    let wrong = world.get(&format!("{path}?format=pdf")).await;
    assert_eq!(wrong.refused(400, "invalid_request", "query")["field"], "format");
}

pub(super) async fn what_cannot_run_says_why(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    let script = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        let path = world.write(&format!("demo/{name}"), text);
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    script("forbidden", "#!/bin/sh\n", 0o644);
    script("plain", "echo no interpreter\nexit 3\n", 0o755);
    script("lost", "#!/no/such/interpreter\n", 0o755);
    script("binary", "\u{1}\u{2}\0\u{3}", 0o755);
    for (command, code, says) in [
        ("no-such-program-anywhere", 127, "not found"),
        ("./absent", 127, "not found"),
        ("./forbidden", 126, "ermission denied"),
        ("./lost", 127, "not found"),
        ("./plain", 3, "no interpreter"),
        ("exec ./sub", 126, "ermission denied"),
        ("-x", 127, "not found"),
        ("exit 255", 255, ""),
    ] {
        std::fs::create_dir_all(world.path("demo/sub")).unwrap();
        let (seen, failed) = world.outcome(&project, command).await;
        let told = (&failed["state"], &failed["exit_code"], &failed["error"]);
        assert_eq!(told, (&json!("failed"), &json!(code), &Value::Null), "{command}: {}", seen.text());
        assert!(seen.text().contains(says), "{command}: {}", seen.text());
    }
    let (_, binary) = world.outcome(&project, "./binary").await;
    assert!(matches!(binary["exit_code"].as_i64(), Some(126 | 127)), "{binary}");
    refusals(&world).await;
}

async fn refusals(world: &World) {
    std::os::unix::fs::symlink("/tmp", world.path("demo/link")).unwrap();
    let run = |body: Value| world.post("/api/v1/projects/demo/tasks/run", body);
    for (body, reason) in [
        (json!({"command": "true", "cwd": "absent"}), "cwd_not_found"),
        (json!({"task": "away"}), "cwd_not_found"),
        (json!({"command": "true", "cwd": "forbidden"}), "cwd_not_found"),
        (json!({"command": "true", "cwd": ".."}), "cwd_outside_project"),
        (json!({"command": "true", "cwd": "/tmp"}), "cwd_outside_project"),
        (json!({"command": "true", "cwd": "link"}), "cwd_outside_project"),
        (json!({"command": "x".repeat(4097)}), "command_too_long"),
        (json!({"command": ""}), "command_empty"),
        (json!({"command": " \n"}), "command_empty"),
        (json!({"command": "a\0b"}), "command_nul"),
        (json!({}), "wrong_field"),
        (json!({"task": "hello", "command": "true"}), "wrong_field"),
        (json!({"command": "true", "colour": 1}), "unknown_field"),
    ] {
        run(body).await.refused(400, "invalid_request", reason);
    }
    assert_eq!(run(json!({"task": "helo"})).await.expect(404)["error"]["code"], "not_found");
    let nowhere = world.post("/api/v1/projects/none/tasks/run", json!({"task": "hello"})).await;
    assert_eq!(nowhere.expect(404)["error"]["code"], "not_found");
    let longest = format!(": {}", "é".repeat(4094));
    let (_, done) = world.outcome("demo", &longest).await;
    assert_eq!((&done["exit_code"], &done["command"]), (&json!(0), &json!(longest)));
    let refused = world.get("/api/v1/projects/demo/tasks").await.expect(200);
    assert_eq!(refused["instances"], json!([]), "a refused launch left something");
}

/// Only the three descriptors, nothing of the daemon's, a terminal of its own.
pub(super) async fn a_command_starts_clean(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    let (seen, _) = world.outcome(&project, "ls /proc/self/fd; tty; echo $TERM $COLORTERM").await;
    let text = seen.text();
    let lines: Vec<_> = text.split_whitespace().collect();
    assert_eq!(lines[..3], ["0", "1", "2"], "{text}");
    // The fourth is the directory that ls itself reads.
    assert_eq!((lines[3], lines[5..].join(" ").as_str()), ("3", "xterm-256color truecolor"), "{text}");
    assert!(lines[4].starts_with("/dev/pts/"), "{text}");
    let (seen, _) = world.outcome(&project, "cat /proc/self/status").await;
    // 32 and 33 are the C library's own, which no program can set through it.
    let theirs: u64 = 0b11 << 31;
    for field in ["SigBlk:\t", "SigIgn:\t", "SigCgt:\t"] {
        let text = seen.text();
        let set = text.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        assert_eq!(u64::from_str_radix(set.trim(), 16).unwrap() & !theirs, 0, "{field}{set}");
    }
    let (seen, run) = world.outcome(&project, "env | grep -E '^(KAS|TMUX|NOTIFY)' ; env | grep ^HOME").await;
    let home = world.path("").display().to_string();
    // Of kas's own variables a command has the id of its run, and no other.
    let (id, home) = (run["id"].as_str().unwrap(), home.trim_end_matches('/'));
    assert_eq!(seen.text(), format!("KAS_RUN_ID={id}\r\nHOME={home}\r\n"));
    let (seen, _) = world.outcome(&project, "ps -o pid=,sid=,tpgid= -p $$ | tr -s ' '").await;
    let ids: Vec<_> = seen.text().split_whitespace().map(str::to_owned).collect();
    assert_eq!((&ids[0], &ids[0]), (&ids[1], &ids[2]), "leads its session, in the foreground: {ids:?}");
}

pub(super) async fn typing_and_sizes_reach_the_program(backend: Backend) {
    let world = World::new(backend);
    let project = world.project("demo", TASKS).await;
    let script = "stty -echo raw; printf ready; head -c 300 | od -An -v -tu1 | tr -s ' \\n' ' '; stty size";
    let id = world.run_command(&project, script).await;
    let mut viewer = Viewer::open(&world.over_tcp().await, &project).await;
    let mut seen = viewer.watch(&id, json!({"mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.bytes == b"ready").await;
    let channel = seen.subscribed["channel"].clone();
    viewer.say(&json!({"type": "pty.resize", "channel": channel, "cols": 101, "rows": 37})).await;
    assert_eq!(viewer.text("pty.size").await["cols"], 101);
    let typed: Vec<u8> = (0..=255).chain(*b"\x1b[A\x03\x04\x11\x13").chain([b'z'; 37]).collect();
    for piece in typed.chunks(7) {
        viewer.type_in(seen.handle(), piece).await;
    }
    viewer.follow(&mut seen, crate::harness::Seen::ended).await;
    let numbers: Vec<String> = typed.iter().map(u8::to_string).collect();
    assert_eq!(seen.text(), format!("ready {} 37 101\n", numbers.join(" ")));
}
