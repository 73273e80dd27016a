//! A task with `confirm: true` asks before it runs.

use serde_json::{Value, json};

use crate::harness::{Answer, Backend, Caller, World};

const TASKS: &str = "project: demo\ntasks: {deploy: {command: 'echo deployed >> log.txt', confirm: true}}";
const RUN: &str = "/api/v1/projects/demo/tasks/run";

async fn question(caller: &Caller) -> String {
    let asked = caller.post(RUN, json!({"task": "deploy"})).await.expect(200);
    assert_eq!(asked["confirm_required"], true, "{asked}");
    asked["confirm_id"].as_str().unwrap().to_owned()
}

async fn answer(caller: &Caller, id: &str, proceed: bool) -> Answer {
    caller.post(&format!("{RUN}/confirm"), json!({"confirm_id": id, "proceed": proceed})).await
}

async fn launched(world: &World) -> usize {
    let listed = world.get("/api/v1/projects/demo/tasks/instances").await.expect(200);
    listed["items"].as_array().unwrap().len()
}

pub(super) async fn a_question_is_asked_answered_and_used_up(backend: Backend) {
    let world = World::new(backend);
    world.project("demo", TASKS).await;
    let before = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let asked = world.post(RUN, json!({"task": "deploy"})).await.expect(200);
    let after = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let told = json!([asked["task_name"], asked["command"], asked["confirm_required"]]);
    assert_eq!(told, json!(["deploy", "echo deployed >> log.txt", true]));
    assert!(asked["message"].as_str().is_some_and(|it| it.contains("deploy")));
    let expires = u128::from(asked["expires_at"].as_u64().unwrap());
    assert!((before + 60_000..=after + 60_000).contains(&expires), "{before} {expires} {after}");
    assert_eq!(launched(&world).await, 0, "it ran unasked");

    let id = asked["confirm_id"].as_str().unwrap();
    let run = answer(&world, id, true).await.expect(202);
    assert_eq!((&run["task_name"], &run["state"]), (&json!("deploy"), &json!("starting")));
    assert_eq!(world.until_ended(run["id"].as_str().unwrap()).await["exit_code"], 0);
    answer(&world, id, true).await.refused(410, "gone", "confirm_expired");
    answer(&world, id, false).await.refused(410, "gone", "confirm_expired");

    let no = question(&world).await;
    assert_eq!(answer(&world, &no, false).await.expect(200), json!({"cancelled": true}));
    answer(&world, &no, true).await.refused(410, "gone", "confirm_expired");

    let both = question(&world).await;
    let (a, b) = tokio::join!(answer(&world, &both, true), answer(&world, &both, true));
    let mut codes = [a.status, b.status];
    codes.sort_unstable();
    assert_eq!(codes, [202, 410], "one answer counts");
    assert_eq!(launched(&world).await, 2);
}

pub(super) async fn a_question_is_bound_to_what_was_shown(backend: Backend) {
    let mut world = World::new(backend);
    world.project("demo", TASKS).await;
    world.project("other", &TASKS.replace("demo", "other")).await;
    let made = world.post("/v1/tokens", json!({"name": "stranger", "scope": "run"})).await.expect(201);
    let stranger = world.with_token(made["token"].as_str().unwrap().to_owned()).await;
    let mine = question(&world).await;
    answer(&stranger, &mine, true).await.refused(410, "gone", "confirm_expired");
    let elsewhere = "/api/v1/projects/other/tasks/run/confirm";
    let body = json!({"confirm_id": mine, "proceed": true});
    world.post(elsewhere, body).await.refused(410, "gone", "confirm_expired");
    let theirs = question(&stranger).await;
    answer(&world, &theirs, true).await.refused(410, "gone", "confirm_expired");

    let changed = |to: &str| {
        world.write("demo/.kaged/project.yaml", TASKS.replace("echo deployed", to));
    };
    changed("rm -rf everything");
    answer(&world, &mine, true).await.refused(409, "conflict", "definition_changed");
    answer(&world, &mine, true).await.refused(410, "gone", "confirm_expired");
    let again = question(&world).await;
    let with_env = TASKS.replace("confirm: true", "confirm: true, env: {WHERE: production}");
    world.write("demo/.kaged/project.yaml", with_env);
    answer(&world, &again, true).await.refused(409, "conflict", "definition_changed");
    changed("echo deployed");
    let lost = question(&world).await;
    world.end(rustix::process::Signal::KILL);
    world.start();
    answer(&world, &lost, true).await.refused(410, "gone", "confirm_expired");
    assert_eq!(launched(&world).await, 0);
    assert_eq!(answer(&world, "", true).await.refused(410, "gone", "confirm_expired")["x"], Value::Null);
}
