//! A journal that cannot be read when its run ends: the run ends, the bytes stay, and are stored as soon as they can be read.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::json;

use super::outsider;
use crate::harness::{Answer, Backend, Viewer, World, eventually, promised};
use crate::process::roomy;

const COMMAND: &str = "echo one; until [ -e ../go ]; do sleep 0.02; done; echo two; exit 5";

/// Replaces the index of a journal by a directory, as a disk that fails may, and answers where it is.
fn break_journal(world: &World, id: &str) -> PathBuf {
    let index = world.state_dir().join("instances").join(id).join("index");
    std::fs::rename(&index, world.path(&format!("index.{id}"))).unwrap();
    std::fs::create_dir(&index).unwrap();
    index
}

fn mend_journal(world: &World, id: &str) {
    let index = world.state_dir().join("instances").join(id).join("index");
    std::fs::remove_dir(&index).unwrap();
    std::fs::rename(world.path(&format!("index.{id}")), index).unwrap();
}

async fn transcript(world: &World, id: &str) -> Answer {
    world.get(&format!("/api/v1/tasks/{id}/transcript?format=raw")).await
}

/// Not an empty output: an answer that says that it could not be read, and where it is.
async fn is_unread(world: &World, id: &str) {
    let answer = transcript(world, id).await.expect(503);
    assert_eq!(answer["error"]["details"]["reason"], "journal", "{answer}");
    assert!(answer["error"]["message"].as_str().unwrap().contains(id), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_without_its_output_which_is_stored_later() {
    let mut world = roomy(Backend::Pty).await;
    let mut broken = Vec::new();
    for _ in 0..3 {
        let id = world.run_command("demo", COMMAND).await;
        let mut viewer = Viewer::open(&world, "demo").await;
        let mut seen = viewer.watch(&id, json!({"from": 0})).await;
        viewer.follow(&mut seen, |seen| seen.text().contains("one")).await;
        break_journal(&world, &id);
        broken.push(id);
    }
    let began = Instant::now();
    world.write("go", "");
    for id in &broken {
        world.logged(&format!("journal cannot be read yet id={id}"));
    }
    // Three ends that wait hold up no other: more than may be stored at a time.
    let (_, other) = world.outcome("demo", "exit 4").await;
    assert_eq!(other["exit_code"], 4);
    assert!(began.elapsed() < promised(Duration::from_secs(8)), "{:?}", began.elapsed());
    for id in &broken {
        let run = world.until_ended(id).await;
        let told = json!([run["state"], run["exit_code"], run["error"], run["output_bytes"]]);
        assert_eq!(told, json!(["failed", 5, null, 10]), "{run}");
        is_unread(&world, id).await;
        let stop = world.post(&format!("/api/v1/tasks/{id}/stop"), json!({})).await.expect(409);
        assert_eq!(stop["error"]["details"]["reason"], "not_running");
    }

    // A refused deletion takes nothing away, and one that is done takes all.
    let [kept, deleted, late] = &broken[..] else { panic!("{broken:?}") };
    let dir = |id: &str| world.state_dir().join("instances").join(id);
    let lock = outsider(&world);
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    world.delete(&format!("/api/v1/tasks/{kept}")).await.expect(503);
    assert!(dir(kept).join("spec.json").exists(), "a refused deletion took the only copy");
    lock.execute_batch("ROLLBACK").unwrap();
    drop(lock);
    assert_eq!(world.delete(&format!("/api/v1/tasks/{deleted}")).await.status, 204);
    assert!(!dir(deleted).exists());

    mend_journal(&world, kept);
    let path = dir(kept);
    eventually("the output is stored", || if path.exists() { Err(kept.clone()) } else { Ok(()) }).await;
    assert_eq!(world.transcript(kept).await, (0, "one\r\ntwo\r\n".into()));

    // The next daemon does not take it for a directory of nothing.
    world.end(Signal::KILL);
    world.start();
    is_unread(&world, late).await;
    mend_journal(&world, late);
    let path = world.state_dir().join("instances").join(late);
    eventually("the output is stored", || if path.exists() { Err(late.clone()) } else { Ok(()) }).await;
    assert_eq!(world.transcript(late).await, (0, "one\r\ntwo\r\n".into()));
    world.fsck();
}
