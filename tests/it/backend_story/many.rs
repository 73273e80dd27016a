//! Many short runs: where tails get lost and codes get mixed up, if they do.

use serde_json::json;

use crate::harness::{Backend, Viewer, World};

const WORKERS: usize = 8;
const EACH: usize = 125;

/// What the run with this number prints, and the code it ends with.
fn planned(n: usize) -> (String, String, usize) {
    let code = n % 256;
    let words = format!("{n}-{}", "x".repeat(n * 7 % 300));
    // Every third leaves its last line open, every seventh prints nothing.
    let (command, output) = match (n % 7, n % 3) {
        (0, _) => (format!("exit {code}"), String::new()),
        (_, 0) => (format!("printf %s {words}; exit {code}"), words),
        (_, _) => (format!("printf '%s\\n' {words}; exit {code}"), format!("{words}\r\n")),
    };
    (command, output, code)
}

/// 1,000 in all, 8 at a time, each launched the moment its worker is told of the last one's end.
pub(super) async fn a_thousand_instant_tasks(backend: Backend) {
    let world = std::sync::Arc::new(World::new(backend));
    world.project("demo", "project: demo\ntasks: {}").await;
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let world = world.clone();
            tokio::spawn(async move {
                let mut viewer = Viewer::open(&world, "demo").await;
                for round in 0..EACH {
                    one(&world, &mut viewer, worker * EACH + round).await;
                }
                EACH
            })
        })
        .collect();
    let mut count = 0;
    for worker in workers {
        count += worker.await.unwrap();
    }
    assert_eq!(count, 1000);
    let events = rusqlite::Connection::open(world.state_dir().join("runner.db")).unwrap();
    for kind in ["task.launched", "task.exited"] {
        let of = "SELECT count(DISTINCT task_id), count(*) FROM audit_events WHERE kind = ?1";
        let told = events.query_row(of, [kind], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
        assert_eq!(told.unwrap(), (1000, 1000), "{kind}");
    }
}

async fn one(world: &World, viewer: &mut Viewer, n: usize) {
    let (command, output, code) = planned(n);
    let id = world.run_command("demo", &command).await;
    let seen = viewer.whole(&id).await;
    assert_eq!(seen.text(), output, "run {n}: what a viewer saw");
    let exit = seen.exit.unwrap();
    assert_eq!((&exit["exit_code"], &exit["signal"]), (&json!(code), &json!(null)), "run {n}");
    let (start, stored) = world.transcript(&id).await;
    assert_eq!((start, String::from_utf8_lossy(&stored).as_ref()), (0, output.as_str()), "run {n}: stored");
    let run = world.instance(&id).await;
    let state = if code == 0 { "done" } else { "failed" };
    let told = json!([run["state"], run["exit_code"], run["output_bytes"], run["error"], run["backend"]]);
    assert_eq!(told, json!([state, code, output.len(), null, world.backend.word()]), "run {n}");
}
