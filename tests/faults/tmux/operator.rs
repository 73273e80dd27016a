//! The operator does as operators do in a project's session, and other sessions have like names.

use super::*;
use crate::harness::Backend;

/// A run that answers every line it is given and ends with a code of its own when told to.
const TALK: &str =
    "stty -echo; echo up; while read x; do case $x in end) exit 6;; *) echo got $x;; esac; done";

struct Talk {
    id: String,
    viewer: Viewer,
    seen: Seen,
    expect: String,
}

impl Talk {
    async fn start(world: &World, project: &str, command: &str) -> Self {
        let id = world.run_command(project, command).await;
        let mut viewer = Viewer::open(world, project).await;
        let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
        viewer.follow(&mut seen, |seen| seen.bytes == b"up\r\n").await;
        Self { id, viewer, seen, expect: "up\r\n".to_owned() }
    }

    /// Says a word and hears it back, and nothing else.
    async fn say(&mut self, word: &str) {
        self.viewer.type_in(self.seen.handle(), format!("{word}\r").as_bytes()).await;
        self.expect.push_str(&format!("got {word}\r\n"));
        let len = self.expect.len();
        self.viewer.follow(&mut self.seen, |seen| seen.bytes.len() >= len).await;
        assert_eq!(self.seen.text(), self.expect);
    }

    async fn finish(mut self, world: &World) {
        self.say("goodbye").await;
        self.viewer.type_in(self.seen.handle(), b"end\r").await;
        self.viewer.follow(&mut self.seen, Seen::ended).await;
        assert_eq!(end_of(&world.until_ended(&self.id).await), json!(["failed", 6, null]));
        assert_eq!(&world.transcript(&self.id).await.1[..], self.expect.as_bytes());
    }

    /// Its pane's target for tmux.
    fn pane(&self, world: &World) -> String {
        let filter = format!("#{{==:#{{@kas-id}},{}}}", self.id);
        let found = world.tmux(&["list-panes", "-a", "-f", &filter, "-F", "#{pane_id}"]).stdout;
        found.lines().next().unwrap_or_else(|| panic!("no pane of {}", self.id)).to_owned()
    }
}

fn do_it(world: &World, words: &[&str]) -> String {
    let done = world.tmux(words);
    assert_eq!(done.code, Some(0), "{words:?}: {done:?}");
    done.stdout.trim().to_owned()
}

async fn stopped_by_hand(world: &World, talk: &mut Talk) {
    talk.viewer.follow(&mut talk.seen, Seen::ended).await;
    let run = world.until_ended(&talk.id).await;
    assert_eq!((&run["state"], &run["error"]), (&json!("stopped"), &Value::Null), "{run}");
    assert_eq!(&world.transcript(&talk.id).await.1[..], talk.expect.as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_operator_kills_is_stopped_and_the_rest_goes_on() {
    let world = World::new(Backend::Tmux);
    world.project("demo", NO_TASKS).await;
    world.project("other", "project: other\ntasks: {}").await;
    let bystanders = Bystanders::of(&world);
    let mut by_window = Talk::start(&world, "demo", TALK).await;
    let mut by_pane = Talk::start(&world, "demo", TALK).await;
    let mut respawned = Talk::start(&world, "demo", TALK).await;
    let mut rest = Talk::start(&world, "demo", TALK).await;
    let mut other = Talk::start(&world, "other", TALK).await;
    do_it(&world, &["kill-window", "-t", &by_window.pane(&world)]);
    stopped_by_hand(&world, &mut by_window).await;
    do_it(&world, &["split-window", "-d", "-t", &by_pane.pane(&world), "exec sleep 10010"]);
    do_it(&world, &["kill-pane", "-t", &by_pane.pane(&world)]);
    stopped_by_hand(&world, &mut by_pane).await;
    let pane = respawned.pane(&world);
    assert_ne!(world.tmux(&["respawn-pane", "-t", &pane, "cat"]).code, Some(0), "it lives");
    respawned.say("still here").await;
    do_it(&world, &["respawn-pane", "-k", "-t", &pane, "exec sleep 10010"]);
    stopped_by_hand(&world, &mut respawned).await;
    rest.say("fine").await;
    do_it(&world, &["kill-session", "-t", "=kaged-demo"]);
    stopped_by_hand(&world, &mut rest).await;
    other.say("fine").await;
    let again = Talk::start(&world, "demo", TALK).await;
    assert_eq!(world.instance(&again.id).await["backend"], "tmux");
    again.finish(&world).await;
    other.finish(&world).await;
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_are_themselves_wherever_the_operator_puts_them() {
    let world = World::new(Backend::Tmux);
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let mut talk = Talk::start(&world, "demo", TALK).await;
    let mut twin = Talk::start(&world, "demo", TALK).await;
    let (pane, other) = (talk.pane(&world), twin.pane(&world));
    do_it(&world, &["new-session", "-d", "-s", "mine", "-x", "90", "-y", "30", "cat > mine.txt"]);
    let typed_by_kas = do_it(&world, &["split-window", "-d", "-P", "-F", "#{pane_id}", "-t", &pane, "cat"]);
    let deeds: [&[&str]; 22] = [
        &["rename-window", "-t", &pane, "vi: %end 1 2 1"],
        &["rename-session", "-t", "=kaged-demo", "renamed"],
        &["select-pane", "-t", &typed_by_kas],
        &["select-layout", "-t", &pane, "even-horizontal"],
        &["swap-pane", "-d", "-s", &pane, "-t", &other],
        &["rotate-window", "-t", &pane],
        &["break-pane", "-d", "-s", &pane],
        &["join-pane", "-d", "-s", &pane, "-t", &other],
        &["resize-pane", "-Z", "-t", &pane],
        &["break-pane", "-d", "-s", &pane],
        &["swap-window", "-d", "-s", &pane, "-t", &other],
        &["link-window", "-d", "-s", &pane, "-t", "mine:7"],
        &["unlink-window", "-t", "mine:7"],
        &["move-window", "-d", "-s", &pane, "-t", "mine:9"],
        &["copy-mode", "-t", &pane],
        &["send-keys", "-t", &pane, "-X", "cursor-up"],
        &["move-window", "-d", "-s", &pane, "-t", "=renamed:31"],
        &["copy-mode", "-t", &pane],
        &["set-option", "-w", "-t", &pane, "remain-on-exit", "off"],
        &["set-option", "-w", "-t", &pane, "synchronize-panes", "on"],
        &["resize-window", "-t", &pane, "-x", "1", "-y", "1"],
        &["pipe-pane", "-t", &pane, "cat > /dev/null"],
    ];
    for (n, deed) in deeds.iter().enumerate() {
        do_it(&world, deed);
        talk.say(&format!("after {n}")).await;
        twin.say(&format!("also {n}")).await;
    }
    do_it(&world, &["resize-window", "-t", &pane, "-x", "300", "-y", "80"]);
    do_it(&world, &["clear-history", "-t", &pane]);
    talk.say("large").await;
    // What was typed for the runs came nowhere else.
    assert_eq!(world.tmux(&["capture-pane", "-p", "-t", &typed_by_kas]).stdout.trim(), "");
    assert_eq!(std::fs::read_to_string(world.path("mine.txt")).unwrap_or_default(), "");
    // The session goes by another name now; a new run finds it all the same, or makes one of the right name.
    let third = Talk::start(&world, "demo", TALK).await;
    assert_eq!(world.instance(&third.id).await["backend"], "tmux");
    for run in [talk, twin, third] {
        run.finish(&world).await;
    }
    assert_eq!(world.tmux(&["has-session", "-t", "=mine"]).code, Some(0));
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn projects_with_like_names_have_sessions_of_their_own() {
    let world = World::new(Backend::Tmux);
    let bystanders = Bystanders::of(&world);
    let mut talks = Vec::new();
    for name in ["a", "ab", "a-b", "abc", "b"] {
        world.project(name, &format!("project: {name}\ntasks: {{}}")).await;
        talks.push(Talk::start(&world, name, TALK).await);
    }
    for (n, name) in ["a.b", "a:b", "=x", "-t", "*", "a*", "kaged-[ab]", "$0", "@1", "%2", "A", "a b", ""]
        .into_iter()
        .enumerate()
    {
        let dir = format!("odd-{n}");
        world.write(&format!("{dir}/.kaged/project.yaml"), format!("project: {name:?}\ntasks: {{}}"));
        let added = world.post("/v1/repos", json!({"path": world.path(&dir).to_str().unwrap()})).await;
        assert!((400..500).contains(&added.status), "{name:?}: {added:?}");
    }
    // A project without a name is called after its directory, made a name.
    world.write("=a.b*/.kaged/project.yaml", "tasks: {}");
    let added = world.post("/v1/repos", json!({"path": world.path("=a.b*").to_str().unwrap()})).await;
    println!("a directory =a.b* beside project a-b: {} {:?}", added.status, added.json());
    assert!(added.status == 409 || added.json()["project"] != "a-b", "{added:?}");
    let sessions = || world.tmux(&["list-sessions", "-F", "#{session_name}"]).stdout;
    assert_eq!(sessions(), "kaged-a\nkaged-a-b\nkaged-ab\nkaged-abc\nkaged-b\n");
    let mut first = talks.remove(0);
    let removed = world.delete("/v1/repos/a").await;
    assert!(removed.status < 300, "{removed:?}");
    first.viewer.follow(&mut first.seen, Seen::ended).await;
    assert_eq!(sessions(), "kaged-a-b\nkaged-ab\nkaged-abc\nkaged-b\n");
    for talk in talks {
        talk.finish(&world).await;
    }
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_anothers_is_neither_used_nor_ended() {
    let world = World::new(Backend::Tmux);
    let bystanders = Bystanders::of(&world);
    do_it(&world, &["new-session", "-d", "-s", "kaged-demo", "exec sleep 10011"]);
    do_it(&world, &["set-option", "-t", "=kaged-demo:", "@kas-project", "demo"]);
    let theirs = do_it(&world, &PANES);
    world.project("demo", NO_TASKS).await;
    let talk = Talk::start(&world, "demo", TALK).await;
    assert_eq!(world.instance(&talk.id).await["backend"], "pty");
    let told = audited(&world, "task_runner.tmux_fallback").await;
    assert!(told[0]["error"].as_str().unwrap().contains("kaged-demo"), "{told:?}");
    assert_eq!(do_it(&world, &PANES), theirs);
    let status = world.get("/v1/status").await.expect(200);
    assert_eq!(status["tmux_notes"], json!([told[0]["error"]]));
    assert!(told[0]["error"].as_str().unwrap().contains("rename-session -t =kaged-demo"), "{told:?}");
    talk.finish(&world).await;
    // Another daemon of the same user, with a home of its own, on the same tmux.
    let mut second = World::asleep(Backend::Tmux, "");
    second.set_env("TMUX_TMPDIR", world.path("tmux").to_str().unwrap());
    second.start();
    for world in [&world, &second] {
        world.project("shared", "project: shared\ntasks: {}").await;
    }
    let ours = Talk::start(&world, "shared", TALK).await;
    assert_eq!(world.instance(&ours.id).await["backend"], "tmux");
    let other = Talk::start(&second, "shared", TALK).await;
    assert_eq!(second.instance(&other.id).await["backend"], "pty");
    other.finish(&second).await;
    for (world, project) in [(&second, "shared"), (&world, "demo")] {
        let removed = world.delete(&format!("/v1/repos/{project}")).await;
        assert!(removed.status < 300, "{removed:?}");
    }
    ours.finish(&world).await;
    assert!(do_it(&world, &PANES).starts_with(&theirs));
    second.fsck();
    bystanders.check(&world);
}

/// An older kas did not mark its sessions, or marked them with the path of its state directory.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_of_an_older_kas_is_its_projects_by_the_runs_in_it() {
    let mut world = World::new(Backend::Tmux);
    let bystanders = Bystanders::of(&world);
    world.project("demo", NO_TASKS).await;
    let mut lasting = Talk::start(&world, "demo", TALK).await;
    for mark in ["", "0123456789abcdef"] {
        world.end(Signal::KILL);
        do_it(&world, &["set-option", "-t", "=kaged-demo:", "@kas-home", mark]);
        world.start();
        lasting.viewer = Viewer::open(&world, "demo").await;
        lasting.seen = lasting.viewer.watch(&lasting.id, json!({"from": 0, "mode": "interactive"})).await;
        lasting.say("again").await;
        let new = Talk::start(&world, "demo", TALK).await;
        assert_eq!(world.instance(&new.id).await["backend"], "tmux", "{mark:?}");
        new.finish(&world).await;
        assert_eq!(world.get("/v1/status").await.expect(200)["tmux_notes"], json!([]));
    }
    assert_eq!(do_it(&world, &["list-sessions", "-F", "#{session_name}"]), "kaged-demo");
    lasting.finish(&world).await;
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_stays_its_projects_where_the_state_directory_is_moved() {
    let mut world = World::new(Backend::Tmux);
    world.project("demo", NO_TASKS).await;
    let lasting = Talk::start(&world, "demo", TALK).await.id;
    for (turn, place) in ["moved", "moved-again"].into_iter().enumerate() {
        let from = if turn == 0 { world.path(".local/state") } else { world.path("moved") };
        world.end(Signal::KILL);
        std::fs::rename(from, world.path(place)).unwrap();
        world.set_env("XDG_STATE_HOME", world.path(place).to_str().unwrap());
        world.start();
        if turn == 0 {
            // The second time nothing but the session that is kept is left to prove anything.
            let stopped = world.stop(&lasting).await;
            assert_eq!(stopped["state"], "stopped", "{stopped}");
        }
        let new = Talk::start(&world, "demo", TALK).await;
        assert_eq!(world.instance(&new.id).await["backend"], "tmux", "{place}");
        new.finish(&world).await;
    }
    assert_eq!(do_it(&world, &["list-sessions", "-F", "#{session_name}"]), "kaged-demo");
    let mut check = world.kas_command(&["debug", "fsck"]);
    check.env("XDG_STATE_HOME", world.path("moved-again"));
    let checked = crate::harness::Done::of(check);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    // A copy is another state directory, and the session is not its own.
    world.end(Signal::TERM);
    let copied = world.command("cp", &["-a", "moved-again", "copy"]).status().unwrap();
    assert!(copied.success());
    world.set_env("XDG_STATE_HOME", world.path("copy").to_str().unwrap());
    world.start();
    let new = Talk::start(&world, "demo", TALK).await;
    assert_eq!(world.instance(&new.id).await["backend"], "pty");
    new.finish(&world).await;
}
