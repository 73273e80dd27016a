//! The operator's server is set to what could rename, respawn, move or end what kas makes: runs are exact on tmux, or on a PTY with the
//! reason, and the status says what is kept away.

use super::*;
use crate::harness::Backend;

/// A world whose tmux server reads this configuration.
fn under(conf: &str) -> World {
    let mut world = World::asleep(Backend::Tmux, "");
    world.write(".tmux.conf", conf);
    let config = "[task_runner]\nbackend = \"tmux\"\n[task_runner.tmux]\nconfig = \"user\"\n";
    world.write(".config/kasmos/daemon.toml", config);
    world.start();
    world
}

/// Runs a command and a kept task to their ends, and one more across a death of the daemon: each once, exact, and on this backend.
async fn runs_are_exact(world: &mut World, backend: &str) {
    let yaml =
        "project: demo\ntasks:\n  kept: {command: 'echo run >> runs; echo kept; exit 5', history: true}";
    world.project("demo", yaml).await;
    let is_as_told = async |world: &World, id: &str, end: Value, text: &str| {
        let run = world.until_ended(id).await;
        assert_eq!((end_of(&run), &run["backend"]), (end, &json!(backend)), "{run}");
        assert_eq!(String::from_utf8_lossy(&world.transcript(id).await.1), text);
    };
    let lasting = "echo run >> runs; stty -echo; printf 'up\\n\\033]2;a title\\007'; read x; exit 6";
    let lasting = world.run_command("demo", lasting).await;
    for _ in 0..2 {
        let kept = world.run_task("demo", "kept").await;
        is_as_told(world, &kept, json!(["failed", 5, null]), "kept\r\n").await;
        let short = world.run_command("demo", "echo run >> runs; printf '\\a'; exit 7").await;
        is_as_told(world, &short, json!(["failed", 7, null]), "\u{7}").await;
    }
    let mut viewer = Viewer::open(world, "demo").await;
    let mut seen = viewer.watch(&lasting, json!({"from": 0, "mode": "interactive"})).await;
    viewer.follow(&mut seen, |seen| seen.bytes == b"up\r\n\x1b]2;a title\x07").await;
    drop(viewer);
    world.end(Signal::KILL);
    world.start();
    let mut viewer = Viewer::open(world, "demo").await;
    let seen = viewer.watch(&lasting, json!({"from": 0, "mode": "interactive"})).await;
    type_line(&mut viewer, &seen).await;
    is_as_told(world, &lasting, json!(["failed", 6, null]), "up\r\n\u{1b}]2;a title\u{7}").await;
    let runs = std::fs::read_to_string(world.path("demo/runs")).unwrap();
    assert_eq!(runs, "run\n".repeat(5), "each once");
    world.fsck();
}

/// Runs one command, exact and on this backend.
async fn one_is_exact(world: &World, backend: &str) {
    let (_, run) = world.outcome("demo", "exit 3").await;
    assert_eq!((end_of(&run), &run["backend"]), (json!(["failed", 3, null]), &json!(backend)), "{run}");
}

/// A session of the operator's, and an option set in its server.
fn operator_sets(world: &World, session: &[&str], set: [&str; 3]) {
    let words = [session, &["new-session", "-d", "-s", "mine", "sleep 1000", ";", "set-option"], &set];
    assert_eq!(world.tmux(&words.concat()).code, Some(0));
}

/// What the status says of the server, by the API and by the command.
async fn notes(world: &World) -> String {
    let status = world.get("/v1/status").await.expect(200);
    let notes: Vec<&str> =
        status["tmux_notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let said = world.kas(&["daemon", "status"]).stdout;
    for note in &notes {
        assert!(said.contains(&format!("tmux      {note}")), "{said}");
    }
    notes.join("\n")
}

/// The first reason for which a run went on a PTY.
async fn reason(world: &World) -> String {
    audited(world, "task_runner.tmux_fallback").await[0]["error"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hooks_that_destroy_rename_split_and_respawn_do_not_reach_runs() {
    let mut world = under(
        "set -g remain-on-exit on\n\
         set-hook -g session-created 'set-option destroy-unattached on'\n\
         set-hook -ga session-created 'rename-session mine'\n\
         set-hook -g after-new-window 'split-window \"sleep 60\"'\n\
         set-hook -ga after-new-window 'rename-window other'\n\
         set-hook -g window-linked kill-window\n\
         set-hook -g after-set-option 'display-message -p x'\n\
         set-hook -g after-resize-window kill-window\n\
         set-hook -g after-list-windows 'display-message -p x'\n\
         set-hook -g client-attached detach-client\n\
         set-hook -g alert-bell kill-window\n\
         set-hook -g pane-died respawn-pane\n\
         set-hook -g pane-title-changed kill-pane\n\
         set-hook -g pane-exited kill-window\n",
    );
    runs_are_exact(&mut world, "tmux").await;
    let said = notes(&world).await;
    for hook in [
        "session-created",
        "after-new-window",
        "window-linked",
        "client-attached",
        "pane-died",
        "pane-title-changed",
        "pane-exited",
    ] {
        assert!(said.contains(hook), "{hook}: {said}");
    }
    // The operator's own sessions have them still.
    let set = world.tmux(&["show-options", "-gwH", "pane-died"]).stdout;
    assert_eq!(set.trim(), "pane-died[0] respawn-pane");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_of_the_server_do_not_reach_runs() {
    let mut world = under(
        "set -g destroy-unattached on\nset -g detach-on-destroy off\nset -g remain-on-exit on\nset -g renumber-windows on\n\
         set -g base-index 5\nset -g history-limit 0\nset -g default-command false\nset -g default-shell /bin/false\n\
         set -g default-terminal dumb\nset -g set-clipboard on\nset -g update-environment 'PATH HOME'\n\
         set -g lock-after-time 1\nset -g lock-command 'sleep 1'\nset -g monitor-activity on\nset -g bell-action any\n\
         set -g synchronize-panes on\nset -g automatic-rename on\nset -g allow-rename on\nset -g aggressive-resize on\n\
         set -g alternate-screen off\nset -g status-right '#(sleep 1; echo x)'\nset -g status-interval 1\n",
    );
    runs_are_exact(&mut world, "tmux").await;
    assert_eq!(notes(&world).await, "destroy-unattached is on, which does not hold for kas's sessions");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aliases_change_nothing_that_kas_says() {
    let named = [
        ("new-window", "new-window -k"),
        ("neww", "kill-server"),
        ("new-session", "kill-server"),
        ("set-option", "display-message"),
        ("set", "display-message"),
        ("list-windows", "list-keys"),
        ("list-panes", "list-keys"),
        ("list-sessions", "list-keys"),
        ("display-message", "list-keys"),
        ("kill-pane", "kill-server"),
        ("resize-window", "kill-window"),
        ("show-options", "list-keys"),
        ("refresh-client", "detach-client"),
        ("attach-session", "kill-server"),
        ("capture-pane", "kill-server"),
    ];
    let conf: String = named
        .iter()
        .enumerate()
        .map(|(n, (name, other))| format!("set -s command-alias[{}] {name}='{other}'\n", 100 + n))
        .rev()
        .collect();
    let mut world = under(&conf);
    runs_are_exact(&mut world, "tmux").await;
    let said = notes(&world).await;
    assert!(said.contains("command-alias gives") && said.contains("new-window"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_with_its_last_client_gets_no_run() {
    let mut world = under("set -s exit-unattached on\n");
    runs_are_exact(&mut world, "pty").await;
    assert!(reason(&world).await.contains("exit-unattached is on"), "{}", reason(&world).await);
    // The same where the operator's own session keeps the server: another may be made while kas is away.
    operator_sets(&world, &["-C"], ["-s", "exit-unattached", "off"]);
    one_is_exact(&world, "tmux").await;
    assert_eq!(notes(&world).await, "");
    // A server that never ends by itself may have it.
    for (option, value) in [("exit-empty", "off"), ("exit-unattached", "on")] {
        assert_eq!(world.tmux(&["set-option", "-s", option, value]).code, Some(0));
    }
    one_is_exact(&world, "tmux").await;
    world.fsck();
}

/// tmux 3.3 to 3.6 dies of a new window, its first one too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_dies_of_a_window_gets_none() {
    let mut world = under("set -g window-size manual\n");
    runs_are_exact(&mut world, "pty").await;
    assert!(reason(&world).await.contains("window-size is manual"), "{}", reason(&world).await);
    // One that runs, with the operator's windows in it, is left as it is.
    operator_sets(&world, &["-f/dev/null"], ["-gw", "window-size", "manual"]);
    one_is_exact(&world, "pty").await;
    assert_eq!(world.tmux(&["has-session", "-t", "mine"]).code, Some(0));
    assert!(notes(&world).await.contains("window-size is manual"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_that_comes_first_leaves_a_run_on_a_pty_and_no_session() {
    let mut world = under("set-hook -g after-new-session 'rename-session mine'\n");
    runs_are_exact(&mut world, "pty").await;
    assert!(reason(&world).await.contains("after-new-session"), "{}", reason(&world).await);
    assert_eq!(world.tmux(&["list-sessions"]).stdout, "");
}
