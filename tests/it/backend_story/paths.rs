//! A directory's name is only ever a name: to the shell, to tmux, to us.

use serde_json::json;

use crate::harness::{Backend, Viewer, World};

pub(super) async fn a_directory_is_only_ever_a_directory(backend: Backend) {
    let world = World::new(backend);
    let names = [
        "x#(touch PWNED)",
        "#S",
        "a\nb",
        "-t",
        ";",
        "#{pane_id}",
        "$(touch PWNED)`touch PWNED`",
        " two  spaces ",
        "quo'te\"s\\",
        "%1 é\t~",
    ];
    for (n, name) in names.iter().enumerate() {
        let tasks = format!("project: p{n}\ntasks: {{here: {{command: 'pwd > out; echo ok', cwd: '.'}}}}");
        let project = world.project(&format!("dirs/{name}"), &tasks).await;
        assert_eq!(project, format!("p{n}"));
        let dir = world.path("dirs").join(name);
        let run = world.launch(&project, json!({"task": "here"})).await;
        let id = run["id"].as_str().unwrap();
        let seen = Viewer::open(&world, &project).await.whole(id).await;
        let ended = world.until_ended(id).await;
        assert_eq!((seen.text().as_str(), &ended["exit_code"]), ("ok\r\n", &json!(0)), "{name:?}");
        assert_eq!(
            (&ended["cwd"], &ended["backend"]),
            (&json!(dir.to_str().unwrap()), &json!(backend.word()))
        );
        assert_eq!(std::fs::read_to_string(dir.join("out")).unwrap(), format!("{}\n", dir.display()));
        // The same for a command, a variable and a file that are named so.
        let command = format!("printf %s \"$0\" > '{}'", "out2");
        let (_, done) = world.outcome(&project, &command).await;
        assert_eq!(done["exit_code"], 0);
        assert_eq!(std::fs::read_to_string(dir.join("out2")).unwrap(), "/bin/sh");
    }
    let listed = world.get("/api/v1/projects").await.expect(200);
    let mut paths: Vec<_> = listed["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["path"].as_str().unwrap().to_owned())
        .collect();
    let mut expect: Vec<_> =
        names.iter().map(|name| world.path("dirs").join(name).to_str().unwrap().to_owned()).collect();
    paths.sort();
    expect.sort();
    assert_eq!(paths, expect);
    let everywhere = world.command("find", &[".", "-name", "PWNED"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&everywhere.stdout), "", "something was executed");
}
