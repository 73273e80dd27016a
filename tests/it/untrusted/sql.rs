//! What is looked for in the database is a value, never a piece of a statement or a pattern.

use hyper::Method;
use serde_json::json;

use crate::harness::{Backend, World};

/// Texts that a statement put together from pieces, or a pattern, would take for something else; all may stand in a header.
const PIECES: [&str; 14] = [
    "'",
    "''",
    "\"",
    "' OR '1'='1",
    "' OR 1=1 --",
    "x'; DROP TABLE instances; --",
    "x' UNION SELECT * FROM tokens --",
    "%",
    "_",
    "hell_",
    "hel%",
    "*",
    "?1",
    ":key",
];

/// The text as a value of a query string.
fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_piece_of_a_statement_selects_nothing_and_changes_nothing() {
    let mut world = World::asleep(Backend::Pty, "");
    world.start();
    let project = world.project("demo", "project: demo\ntasks: {hello: {command: echo hi}}").await;
    let runs = format!("/api/v1/projects/{project}/tasks");
    let hello = world.run_task(&project, "hello").await;
    world.until_ended(&hello).await;
    let lists = [
        format!("{runs}/instances?task_name="),
        format!("{runs}/instances?state="),
        format!("{runs}/instances?cursor="),
        "/api/v1/audit-events?project=".to_owned(),
        "/api/v1/audit-events?kind=".to_owned(),
        "/api/v1/audit-events?cursor=".to_owned(),
    ];
    for piece in PIECES {
        for list in &lists {
            let answer = world.get(&format!("{list}{}", encoded(piece))).await;
            let nothing = answer.status == 200 && answer.json()["items"] == json!([]);
            assert!(nothing || answer.status == 400, "{list} {piece}: {answer:?}");
        }
    }
    let mut launched = vec![hello];
    for piece in PIECES {
        for again in [false, true] {
            let command = json!({"command": "true"});
            let key = [("idempotency-key", piece)];
            let answer = world.ask(Method::POST, &format!("{runs}/run"), &key, Some(&command)).await;
            let id = answer.json()["id"].as_str().unwrap().to_owned();
            assert_eq!(launched.contains(&id), again, "{piece}: {answer:?}");
            if !again {
                world.until_ended(&id).await;
                launched.push(id);
            }
        }
    }
    let all = world.get(&format!("{runs}/instances?limit=500")).await.json();
    let mut found: Vec<_> =
        all["items"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect();
    found.sort_unstable();
    launched.sort_unstable();
    assert_eq!(found, launched);
    world.fsck();
}
