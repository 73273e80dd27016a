//! tmux has languages of its own for commands, formats and styles, and some of them run programs: nothing of others reaches any.

use std::fs;

use serde_json::{Value, json};

use super::{CORPUS, ascii};
use crate::harness::{Backend, World, soon};

/// A world whose tmux writes down what it is told, in the directory `told`.
fn recorded(more: &str) -> World {
    let mut world = World::asleep(Backend::Tmux, more);
    let path = std::env::var("PATH").unwrap();
    let real = std::env::split_paths(&path).map(|dir| dir.join("tmux")).find(|it| it.exists()).unwrap();
    let perl = world.write("told/record.pl", include_bytes!("record.pl"));
    let dir = perl.parent().unwrap().to_owned();
    let text = format!("exec perl '{}' '{}' '{}' \"$@\"", perl.display(), dir.display(), real.display());
    world.program("told/tmux", &text);
    world.set_env("PATH", &format!("{}:{path}", dir.display()));
    world
}

fn nothing_ran(world: &World) {
    let found = world.command("find", &[".", "-name", "PWNED"]).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "", "something was executed");
}

/// What tmux was told by arguments and by control clients: words of a fixed vocabulary, and nothing that came from others.
fn told_nothing_of_others(world: &World) {
    let home = world.path("").to_str().unwrap().to_owned();
    let argv = String::from_utf8(fs::read(world.path("told/argv")).unwrap()).unwrap();
    let stdin = String::from_utf8(fs::read(world.path("told/stdin")).unwrap()).unwrap();
    let words: Vec<String> =
        argv.split('\0').map(|word| word.trim_start_matches('\n').replace(&home, "/")).collect();
    assert!(words.len() > 100 && words.iter().any(|word| word == "new-windo"), "{words:?}");
    assert!(stdin.lines().count() > 10, "{stdin}");
    for word in words.iter().map(String::as_str).chain(stdin.lines()) {
        assert!(word.chars().all(|c| matches!(c, ' '..='~')), "{word:?}");
        for bad in [
            "PWNED",
            "#(",
            "\\",
            "`",
            "$(",
            "run-shell",
            "if-shell",
            "pipe-pane",
            "source-file",
            "send-keys -l",
        ] {
            // The window that keeps a session says its sentence by printf.
            assert!(!word.contains(bad) || word.starts_with("printf '%s\\n' 'Runs of "), "{bad} in {word:?}");
        }
    }
    for line in stdin.lines() {
        assert!(!line.is_empty(), "an empty line detaches a control client");
    }
    // A name that is given to tmux is one of ours.
    let after = |flag: &str| {
        words.windows(2).filter(|pair| pair[0] == flag).map(|pair| pair[1].clone()).collect::<Vec<_>>()
    };
    let plain = |name: &str| name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
    for name in [after("-n"), after("-s")].concat() {
        let id = name.strip_prefix("task-").is_some_and(|id| id.bytes().all(|b| b.is_ascii_alphanumeric()));
        assert!(plain(&name) || id, "{name:?}");
    }
    assert!(after("-c").iter().all(|dir| dir == "/" || dir.starts_with("printf ")), "{:?}", after("-c"));
}

/// Each text as the name of a directory, as a variable's value, as a description, as a command's argument and as what a program writes and calls
/// its window: all of it arrives as it is, and tmux hears of none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tmux_hears_nothing_that_others_wrote() {
    let mut world = recorded("[limits]\ntasks_per_project = 100\ntasks_per_operator = 100");
    world.start();
    let dir = world.path("work/#(touch PWNED)\nx;");
    let tasks = CORPUS.iter().enumerate().map(|(n, text)| {
        let said = "printf %s \"$TEXT\" > \"$OUT\"; printf '\\033]2;%s\\007\\033k%s\\033\\\\%s' \"$TEXT\" \"$TEXT\" \"$TEXT\"";
        let out = world.path(&format!("out/{n}"));
        let task = json!({"command": said, "description": text, "group": "tools", "history": n % 6 == 0,
            "env": {"TEXT": text, "OUT": out.to_str().unwrap()}});
        (format!("t{n}"), task)
    });
    let tasks: serde_json::Map<String, Value> = tasks.collect();
    fs::create_dir_all(dir.join(".kaged")).unwrap();
    fs::create_dir_all(world.path("out")).unwrap();
    fs::write(dir.join(".kaged/project.yaml"), ascii(&json!({"project": "demo", "tasks": tasks}))).unwrap();
    let project = world.add(&dir).await;
    for (n, text) in CORPUS.iter().enumerate() {
        let id = world.run_task(&project, &format!("t{n}")).await;
        let below = dir.join(text);
        fs::create_dir(&below).unwrap();
        let command =
            format!("pwd -P > '{}'; : {}", world.path(&format!("out/{n}.cwd")).display(), quoted(text));
        let adhoc = world.launch(&project, json!({"command": command, "cwd": text})).await;
        for id in [id.as_str(), adhoc["id"].as_str().unwrap()] {
            let ended = world.until_ended(id).await;
            assert_eq!(
                (&ended["exit_code"], &ended["backend"]),
                (&json!(0), &json!("tmux")),
                "{text:?}: {ended}"
            );
        }
        let read = |name: &str| fs::read_to_string(world.path(&format!("out/{name}"))).unwrap();
        assert_eq!(read(&n.to_string()), *text);
        assert_eq!(read(&format!("{n}.cwd")), format!("{}\n", below.display()), "{text:?}");
        // As a name of what there is not, and of what may not be.
        let none = world.post(&format!("/api/v1/projects/{project}/tasks/run"), json!({"task": text})).await;
        assert_eq!(none.status, 404, "{text:?}: {none:?}");
    }
    nothing_ran(&world);
    told_nothing_of_others(&world);
    world.fsck();
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// What the operator opens by hand is listed with its titles, and what programs write into them is only text.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_operators_own_windows_are_only_listed() {
    let mut world = recorded("");
    world.start();
    let project = world.project("demo", "project: demo").await;
    let id = world.run_command(&project, "read x").await;
    world.until_running(&id).await;
    for (n, text) in CORPUS.iter().enumerate() {
        let file = world.write(&format!("title/{n}"), format!("\x1b]2;{text}\x07{text}"));
        let program = format!("cat '{}'; exec sleep 1000", file.display());
        let opened = world.tmux(&["new-window", "-d", "-t", "=kaged-demo:", "--", "sh", "-c", &program]);
        assert_eq!(opened.code, Some(0), "{opened:?}");
    }
    soon("all panes", async {
        loop {
            let panes = world.get("/api/v1/projects/demo/panes").await.expect(200);
            let panes = panes["items"].as_array().unwrap_or_else(|| panes.as_array().unwrap()).clone();
            let titled =
                panes.iter().filter(|it| it["title"].as_str().is_some_and(|title| title.contains("PWNED")));
            if panes.len() == CORPUS.len() && titled.count() > 20 {
                assert!(
                    panes.iter().all(|it| !it["title"].as_str().unwrap().contains(char::is_control)),
                    "{panes:?}"
                );
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    })
    .await;
    assert_eq!(world.instance(&id).await["state"], "running");
    world.stop(&id).await;
    nothing_ran(&world);
    told_nothing_of_others(&world);
}

/// The one exception, the window's own arguments: a state directory of any name is passed so that it is a name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_directory_of_any_name_is_only_a_name() {
    let mut world = World::asleep(Backend::Tmux, "");
    let odd = world.path("#(touch PWNED)#{pid} a\nb;'\"$(touch PWNED)\\\u{1}é;");
    world.set_env("XDG_STATE_HOME", odd.to_str().unwrap());
    world.start();
    let project = world.project("demo", "project: demo").await;
    let id = world.run_command(&project, "echo fine").await;
    let ended = world.until_ended(&id).await;
    assert_eq!((&ended["exit_code"], &ended["backend"]), (&json!(0), &json!("tmux")), "{ended}");
    assert_eq!(world.transcript(&id).await.1, "fine\r\n");
    assert!(odd.join("kasmos/runner.db").exists());
    nothing_ran(&world);
}
