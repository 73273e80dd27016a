//! A wall clock that is wrong, and one that jumps while the daemon runs. libfaketime moves it; the monotonic clock stays true.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};

use super::PROJECT;
use crate::harness::{Backend, Viewer, World, promised, soon};

/// A world whose daemon takes the time from a file, and that file.
fn world_of(clock: &str) -> (World, PathBuf) {
    let mut world = World::asleep(Backend::Pty, "");
    let file = world.write("clock", clock);
    world.wrap(&[
        "env",
        "LD_PRELOAD=libfaketimeMT.so.1",
        "LD_LIBRARY_PATH=/usr/lib/x86_64-linux-gnu/faketime:/usr/lib/aarch64-linux-gnu/faketime",
    ]);
    world.set_env("FAKETIME_TIMESTAMP_FILE", file.to_str().unwrap());
    world.set_env("FAKETIME_NO_CACHE", "1");
    world.set_env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    (world, file)
}

fn jump(file: &PathBuf, clock: &str) {
    let new = file.with_extension("new");
    std::fs::write(&new, clock).unwrap();
    std::fs::rename(new, file).unwrap();
}

/// The year in which a run was launched, as it was recorded.
fn year(instance: &Value) -> i64 {
    1970 + instance["launched_at"].as_i64().unwrap() / 1000 / 31_556_952
}

/// A run from its first byte to its exit code, stopped and by itself, in about the time it takes by a true clock.
async fn a_day(world: &World, project: &str) -> Vec<String> {
    let begun = Instant::now();
    let (seen, instance) = world.outcome(project, "echo one; exit 7").await;
    assert_eq!((seen.text().as_str(), &instance["exit_code"]), ("one\r\n", &json!(7)));
    let id = world.run_command(project, "trap '' TERM INT; echo up; while :; do sleep 0.1; done").await;
    let mut viewer = Viewer::open(world, project).await;
    let mut seen = viewer.watch(&id, json!({"from": 0})).await;
    viewer.follow(&mut seen, |seen| seen.text().contains("up")).await;
    let asked = Instant::now();
    assert_eq!(world.stop(&id).await["state"], "stopped");
    // TERM is ignored: it takes the 5 s until KILL, neither none nor a day.
    let took = asked.elapsed();
    assert!((Duration::from_secs(4)..promised(Duration::from_secs(15))).contains(&took), "{took:?}");
    assert!(begun.elapsed() < promised(Duration::from_secs(30)));
    vec![instance["id"].as_str().unwrap().to_owned(), id]
}

async fn wrong_from_the_start(clock: &str, expect: i64) {
    let (mut world, _) = world_of(clock);
    world.start();
    let project = world.project("demo", PROJECT).await;
    let ids = a_day(&world, &project).await;
    let instance = world.instance(&ids[0]).await;
    assert_eq!(year(&instance), expect, "the clock was not moved: {instance}");
    assert!(ids.is_sorted());
    let (status, log) = {
        world.signal(Signal::TERM);
        world.gone()
    };
    assert!(status.success() && !log.contains("panicked"), "{log}");
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_of_another_age_changes_nothing() {
    tokio::join!(
        wrong_from_the_start("@1970-01-02 00:00:00", 1970),
        wrong_from_the_start("@2099-06-01 00:00:00", 2099),
    );
}

/// What was launched while the clock was ahead is older than what a later daemon launches when it is right again: nothing new is culled, and
/// the newest is named first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_launched_after_the_clock_was_ahead_are_newer() {
    let (mut world, file) = world_of("+400d");
    world.start();
    world.project("demo", "project: demo\ntasks:\n  t1: {command: 'exit 7', history_count: 2}\n").await;
    let mut launched = Vec::new();
    for clock in ["+400d", "+0", "-3d", "+1d"] {
        jump(&file, clock);
        for _ in 0..2 {
            let id = world.run_task("demo", "t1").await;
            assert_eq!(world.until_ended(&id).await["exit_code"], 7, "{clock}");
            launched.push(id);
        }
        world.end(Signal::KILL);
        world.start();
        let listed = world.get("/api/v1/projects/demo/tasks/instances?limit=1").await.expect(200);
        assert_eq!(listed["items"][0]["id"], json!(launched.last()), "{clock}");
        let tasks = world.get("/api/v1/projects/demo/tasks").await.expect(200);
        assert_eq!(tasks["items"][0]["latest"]["id"], json!(launched.last()), "{clock}");
    }
    assert!(launched.is_sorted());
    world.fsck();
}

/// A browser's session: what it sends with every request.
struct Browser {
    address: String,
    cookie: String,
    key: String,
}

impl Browser {
    async fn log_in(world: &World) -> Self {
        let ticket = world.post("/v1/ticket", json!({})).await.expect(200);
        let status = world.get("/v1/status").await.expect(200);
        let mut browser = Self {
            address: status["http_addr"].as_str().unwrap().to_owned(),
            cookie: String::new(),
            key: String::new(),
        };
        let body = json!({"ticket": ticket["ticket"]}).to_string();
        let answer = browser.ask("POST /api/v1/session", &body).await;
        let cookie = answer
            .lines()
            .find_map(|line| line.strip_prefix("set-cookie: "))
            .unwrap_or_else(|| panic!("{answer}"));
        browser.cookie = cookie.split(';').next().unwrap().to_owned();
        let body: Value = serde_json::from_str(answer.rsplit("\r\n").next().unwrap()).unwrap();
        browser.key = body["key"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned();
        browser
    }

    async fn ask(&self, what: &str, body: &str) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let Self { address, cookie, key } = self;
        let request = format!(
            "{what} HTTP/1.1\r\nhost: {address}\r\norigin: http://{address}\r\nsec-fetch-site: same-origin\r\n\
            content-type: application/json\r\ncookie: {cookie}\r\nx-kas-key: {key}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        );
        soon(what, async {
            let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
            stream.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            answer
        })
        .await
    }

    /// The status that a look at the projects is answered with.
    async fn status(&self) -> String {
        let answer = self.ask("GET /api/v1/projects", "").await;
        answer.split(' ').nth(1).unwrap().to_owned()
    }
}

/// A login lasts 30 days of the clock: an hour back and a day on are within them, a century is not. One that was made while the clock was a
/// century ahead does not live for that long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_browsers_session_lives_as_long_as_it_should() {
    let (mut world, file) = world_of("+0");
    world.start();
    let browser = Browser::log_in(&world).await;
    for clock in ["+0", "+1d", "-1h", "+29d"] {
        jump(&file, clock);
        assert_eq!(browser.status().await, "200", "{clock}");
    }
    jump(&file, "@2099-06-01 00:00:00");
    assert_eq!(browser.status().await, "401");
    let young = Browser::log_in(&world).await;
    assert_eq!(young.status().await, "200", "a login works at any time");
    jump(&file, "+0");
    assert_eq!(young.status().await, "401");
    // A ticket for the page is good for a minute, forwards and backwards.
    for clock in ["+1h", "-1d"] {
        jump(&file, "+0");
        let ticket = world.post("/v1/ticket", json!({})).await.expect(200);
        jump(&file, clock);
        let body = json!({"ticket": ticket["ticket"]}).to_string();
        let late = young.ask("POST /api/v1/session", &body).await;
        assert!(late.starts_with("HTTP/1.1 401 "), "{clock}: {late}");
    }
    assert!(world.end(Signal::TERM).success());
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jumps_while_it_runs_change_nothing() {
    let (mut world, file) = world_of("+0");
    world.start();
    let project = world.project("demo", PROJECT).await;
    let mut ids = Vec::new();
    let long = world.run_command(&project, "echo up; read x; exit $x").await;
    world.until_running(&long).await;
    let tcp = world.over_tcp().await;
    for clock in ["+1d", "-1h", "-1d", "@1970-01-02 00:00:00", "@2099-06-01 00:00:00", "+0"] {
        jump(&file, clock);
        let (seen, instance) = world.outcome(&project, "echo jumped; exit 3").await;
        assert_eq!((seen.text().as_str(), &instance["exit_code"]), ("jumped\r\n", &json!(3)), "{clock}");
        ids.push(instance["id"].as_str().unwrap().to_owned());
        assert_eq!(world.instance(&long).await["state"], "running", "{clock}");
        // The token has no end, so no clock ends it.
        tcp.get(&format!("/api/v1/tasks/{long}")).await.expect(200);
    }
    // Ids ascend in the order of launching, whatever the clock said.
    assert!(ids.is_sorted(), "{ids:?}");
    let page = world.get(&format!("/api/v1/projects/{project}/tasks/instances?limit=100")).await.expect(200);
    let mut listed: Vec<_> =
        page["items"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    listed.sort_unstable();
    let mut expect: Vec<&str> = ids.iter().map(String::as_str).collect();
    expect.insert(0, &long);
    assert_eq!(listed, expect);
    // A restart at another time finds all of it.
    jump(&file, "-1d");
    assert!(world.end(Signal::TERM).success());
    world.start();
    let mut viewer = Viewer::open(&world, &project).await;
    let mut seen = viewer.watch(&long, json!({"from": 0})).await;
    viewer.type_in(seen.handle(), b"5\r").await;
    viewer.follow(&mut seen, crate::harness::Seen::ended).await;
    assert_eq!(world.until_ended(&long).await["exit_code"], 5);
    world.signal(Signal::TERM);
    let (status, log) = world.gone();
    assert!(status.success() && !log.contains("panicked"), "{log}");
    world.fsck();
}
