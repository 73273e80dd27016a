//! A journal that cannot be read when its run ends: the run ends, the bytes stay, and are stored as soon as they can be read.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Signal, kill_process};
use serde_json::json;

use super::outsider;
use crate::harness::{Answer, Backend, Viewer, World, eventually, promised, soon};
use crate::process::{self, roomy};

const COMMAND: &str = "echo one; until [ -e ../go ]; do sleep 0.02; done; echo two; exit 5";

fn dir(world: &World, id: &str) -> PathBuf {
    world.state_dir().join("instances").join(id)
}

/// Puts a directory in the place of a file of a run, which cannot be read then, as on a disk that fails. Without its index, the journal cannot be.
fn spoil(world: &World, id: &str, name: &str) {
    let file = dir(world, id).join(name);
    std::fs::rename(&file, world.path(&format!("{name}.{id}"))).unwrap();
    std::fs::create_dir(&file).unwrap();
}

fn mend(world: &World, id: &str, name: &str) {
    let file = dir(world, id).join(name);
    std::fs::remove_dir(&file).unwrap();
    std::fs::rename(world.path(&format!("{name}.{id}")), file).unwrap();
}

/// A refused deletion takes nothing away.
async fn outlives_a_refused_deletion(world: &World, id: &str) {
    let lock = outsider(world);
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    world.delete(&format!("/api/v1/tasks/{id}")).await.expect(503);
    assert!(dir(world, id).join("exit.json").exists(), "a refused deletion took the only copy");
    lock.execute_batch("ROLLBACK").unwrap();
}

/// The output is stored at last.
async fn is_stored(world: &World, id: &str, output: &'static str) {
    soon("the output is stored", async {
        let mut events = world.events(None).await;
        while transcript(world, id).await.status != 200 {
            events.next().await;
        }
    })
    .await;
    assert_eq!(world.transcript(id).await, (0, output.into()));
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
        spoil(&world, &id, "index");
        is_unread(&world, &id).await;
        broken.push(id);
    }
    let began = Instant::now();
    world.write("go", "");
    for id in &broken {
        world.logged(&format!("journal cannot be read yet id={id}"));
        // It is over, and its end is being stored without its output.
        is_unread(&world, id).await;
        let stop = world.post(&format!("/api/v1/tasks/{id}/stop"), json!({})).await;
        stop.refused(409, "conflict", "not_running");
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
        let stop = world.post(&format!("/api/v1/tasks/{id}/stop"), json!({})).await;
        stop.refused(409, "conflict", "not_running");
    }

    // A deletion that is done takes all.
    let [kept, deleted, late] = &broken[..] else { panic!("{broken:?}") };
    outlives_a_refused_deletion(&world, kept).await;
    assert_eq!(world.delete(&format!("/api/v1/tasks/{deleted}")).await.status, 204);
    assert!(!dir(&world, deleted).exists());
    mend(&world, kept, "index");
    is_stored(&world, kept, "one\r\ntwo\r\n").await;

    // The next daemon does not take it for a directory of nothing, also where it can read nothing of it.
    world.end(Signal::KILL);
    spoil(&world, late, "spec.json");
    world.start();
    is_unread(&world, late).await;
    outlives_a_refused_deletion(&world, late).await;
    mend(&world, late, "spec.json");
    mend(&world, late, "index");
    is_stored(&world, late, "one\r\ntwo\r\n").await;
    for id in [kept, late] {
        let path = dir(&world, id);
        eventually("the directory goes", || if path.exists() { Err(id.clone()) } else { Ok(()) }).await;
    }
    world.fsck();
}

/// A shim that does not leave keeps its directory, and its run's output is stored all the same, with the bytes that are missing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_output_of_a_shim_that_stands_still_is_stored() {
    let world = roomy(Backend::Pty).await;
    let id = world.run_command("demo", COMMAND).await;
    let pid = world.until_running(&id).await["pid"].as_u64().unwrap();
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0})).await;
    viewer.follow(&mut seen, |seen| seen.text().contains("one")).await;
    spoil(&world, &id, "index");
    let shim = process::pid(process::parent(pid));
    world.write("go", "");
    world.logged(&format!("journal cannot be read yet id={id}"));
    kill_process(shim, Signal::STOP).unwrap();
    world.until_ended(&id).await;
    world.logged("the shim does not leave");
    // What the disk has lost meanwhile is told as with an end.
    std::fs::File::options().write(true).open(dir(&world, &id).join("seg.0")).unwrap().set_len(5).unwrap();
    mend(&world, &id, "index");
    is_stored(&world, &id, "one\r\n").await;
    let events = world.get("/api/v1/audit-events?kind=project.changed").await.expect(200);
    let told = events["items"].as_array().unwrap().iter().find(|it| it["task_id"] == id.as_str()).unwrap();
    let details = if told["details"].is_null() { told } else { &told["details"] };
    assert_eq!([&details["change"], &details["missing"]], [&json!("output_stored"), &json!([[5, 10]])]);
    assert!(dir(&world, &id).exists());
    kill_process(shim, Signal::CONT).unwrap();
}
