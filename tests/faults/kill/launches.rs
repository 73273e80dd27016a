//! The daemon is killed in the moment in which launches and restarts are answered: what was answered happens, once.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{Answer, Backend, World};

const RUN: &str = "/api/v1/projects/demo/tasks/run";
/// Deaths, and requests before each: 72 in all.
const ROUNDS: usize = 12;
const AT_ONCE: usize = 6;
const CODE: u64 = 7;

async fn home(backend: Backend) -> World {
    let world = World::with(backend, "[limits]\ntasks_per_project = 100\ntasks_per_operator = 100");
    world.project("demo", "project: demo\ntasks: {}").await;
    world
}

/// Asks for everything at once, and kills the daemon a moment after some of it was answered, which is another moment in each round. Starts the
/// next daemon, and says what was answered with 202: which request, and the instance.
async fn ask_and_kill(world: &mut World, round: usize, asks: Vec<(String, Value)>) -> Vec<(usize, Value)> {
    let answered = 1 + round % AT_ONCE;
    let moment = Duration::from_micros(500 * (round as u64 % 5));
    let mut told: Vec<(usize, Answer)> = Vec::new();
    {
        let world = &*world;
        let ask = |(n, (path, body)): (usize, (String, Value))| async move {
            (n, world.try_post(&path, None, &body).await)
        };
        let mut asking: FuturesUnordered<_> = asks.into_iter().enumerate().map(ask).collect();
        let mut count = 0;
        while let Some((n, answer)) = asking.next().await {
            told.extend(answer.map(|answer| (n, answer)));
            count += 1;
            if count == answered {
                tokio::time::sleep(moment).await;
                world.signal(Signal::KILL);
            }
        }
    }
    assert!(!world.died().success());
    world.start();
    told.into_iter().map(|(n, answer)| (n, answer.expect(202))).collect()
}

/// How often each line stands in the ledger.
fn ledger(world: &World) -> BTreeMap<String, usize> {
    let text = std::fs::read_to_string(world.path("demo/ledger")).unwrap_or_default();
    let mut lines = BTreeMap::new();
    for line in text.lines() {
        *lines.entry(line.to_owned()).or_default() += 1;
    }
    lines
}

async fn an_answered_launch_happens_once(backend: Backend) {
    let mut world = home(backend).await;
    let mut told: BTreeMap<String, String> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mark = |n| format!("{round}.{n}");
        let ask = |n| {
            (RUN.to_owned(), json!({"command": format!("echo {} >> ledger; echo ran; exit {CODE}", mark(n))}))
        };
        for (n, instance) in ask_and_kill(&mut world, round, (0..AT_ONCE).map(ask).collect()).await {
            told.insert(mark(n), instance["id"].as_str().unwrap().to_owned());
        }
    }
    let mut inexact = Vec::new();
    for (mark, id) in &told {
        let run = world.until_ended(id).await;
        let bytes = world.transcript(id).await;
        let ran = ledger(&world).get(mark).copied().unwrap_or_default();
        if (run["exit_code"].as_u64(), &bytes.1[..], ran) != (Some(CODE), b"ran\r\n", 1) {
            inexact.push(format!("{mark} ran {ran} times: {run} {bytes:?}"));
        }
    }
    println!("{} of {} answered, {} not exact", told.len(), ROUNDS * AT_ONCE, inexact.len());
    assert!(inexact.is_empty(), "{inexact:#?}");
    assert!(told.len() > ROUNDS, "too few were answered: {}", told.len());
    // What was not answered may have run as well, but not twice.
    assert!(ledger(&world).values().all(|count| *count == 1), "{:?}", ledger(&world));
    world.fsck();
}

/// The runs of the project that are not over.
async fn live(world: &World) -> Vec<Value> {
    let path = "/api/v1/projects/demo/tasks/instances?limit=500&state=starting&state=running";
    world.get(path).await.expect(200)["items"].as_array().unwrap().clone()
}

/// The replacement of a run as it runs, where there is one; the run itself, which goes on, where there is none.
async fn place_of(world: &World, old: &str) -> String {
    let new = live(world).await.into_iter().find(|run| run["restarted_from"] == old);
    let Some(new) = new else {
        assert_eq!(world.instance(old).await["state"], "running", "neither it nor a replacement runs");
        return old.to_owned();
    };
    let new = new["id"].as_str().unwrap().to_owned();
    world.until_running(&new).await;
    assert_eq!(world.instance(old).await["state"], "stopped");
    new
}

async fn an_answered_restart_happens_once(backend: Backend) {
    let mut world = home(backend).await;
    let mut places = Vec::new();
    let mut runs = [1; AT_ONCE];
    for n in 0..AT_ONCE {
        let id = world.run_command("demo", &format!("echo {n} >> ledger; exec sleep 1000")).await;
        world.until_running(&id).await;
        places.push(id);
    }
    let mut answered = 0;
    for round in 0..ROUNDS {
        let asks = places.iter().map(|id| (format!("/api/v1/tasks/{id}/restart"), json!({}))).collect();
        let told: BTreeMap<usize, Value> = ask_and_kill(&mut world, round, asks).await.into_iter().collect();
        answered += told.len();
        for (n, place) in places.iter_mut().enumerate() {
            let now = place_of(&world, place).await;
            if let Some(instance) = told.get(&n) {
                assert_eq!(instance["id"], json!(now), "round {round}: the answered one has the place");
            }
            runs[n] += usize::from(now != *place);
            *place = now;
        }
        assert_eq!(live(&world).await.len(), AT_ONCE, "round {round}");
    }
    println!("{answered} of {} answered", ROUNDS * AT_ONCE);
    for (n, id) in places.iter().enumerate() {
        assert_eq!(world.stop(id).await["state"], "stopped");
        assert_eq!(ledger(&world).get(&n.to_string()), Some(&runs[n]), "{n} ran as often as it was launched");
    }
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_launch_happens_once_pty() {
    an_answered_launch_happens_once(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_launch_happens_once_tmux() {
    an_answered_launch_happens_once(Backend::Tmux).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_restart_happens_once_pty() {
    an_answered_restart_happens_once(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answered_restart_happens_once_tmux() {
    an_answered_restart_happens_once(Backend::Tmux).await;
}
