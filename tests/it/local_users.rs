//! Other users of the same machine, as real processes of another uid: what they can reach, and what they can put in the way.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use kas::journal::Spec;
use kas::shim::{Client, ClientError, SOCKET, VERSION};
use serde_json::json;

use crate::harness::{Backend, Done, World, eventually, everything, soon};

/// The other user: `nobody`, whose name nothing here needs.
const STRANGER: u32 = 65534;
const STRANGERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/local_users/strangers.pl");
const PROJECT: &str = "project: demo\ntasks: {kept: {command: 'echo a secret', history: true}}";

/// Only root can be somebody else. Without it the tests of this file check nothing, and say so.
#[expect(clippy::print_stdout, reason = "what a test did not check belongs to its output")]
fn can_be_others() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("not root: no process of another user can be started, nothing is checked");
    }
    root
}

/// Words that run a command as this user, with nothing of root's.
fn user(uid: u32) -> Vec<String> {
    let id = |flag: &str| format!("--{flag}={uid}");
    vec!["setpriv".into(), id("reuid"), id("regid"), "--clear-groups".into(), "--no-new-privs".into()]
}

fn as_user(world: &World, uid: u32, words: &[&str]) -> Command {
    let before = user(uid);
    let words: Vec<&str> = before.iter().map(String::as_str).chain(words.iter().copied()).collect();
    let mut command = world.command(words[0], &words[1..]);
    command.current_dir("/");
    command
}

/// The stranger's script lies where they can read it, whatever the modes of the checkout.
fn script(world: &World) -> String {
    let script = world.write("strangers.pl", fs::read(STRANGERS).unwrap());
    mode(&script, 0o644);
    script.to_str().unwrap().to_owned()
}

/// What comes of saying these bytes to a socket, as this user.
fn ask(world: &World, uid: u32, socket: &Path, bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let said =
        Done::of(as_user(world, uid, &["perl", &script(world), "ask", socket.to_str().unwrap(), &hex]));
    assert_eq!(said.code, Some(0), "{said:?}");
    said.stdout.trim().to_owned()
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Opens everything above kas's own directories, as in a home that its user lets others look into.
fn open_the_way(world: &World) {
    for dir in ["", "run", "tmux", ".config", ".local", ".local/state"] {
        let dir = world.path(dir);
        fs::create_dir_all(&dir).unwrap();
        mode(&dir, 0o755);
    }
}

/// The first bytes that a daemon says to a shim.
fn hello(dir: &Path) -> Vec<u8> {
    let nonce = Spec::read(dir).unwrap().nonce;
    [&[0, 0, 0, 18, 1, VERSION], nonce.as_bytes().as_slice()].concat()
}

const GET: &[u8] = b"GET /v1/status HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A running and an ended task, a token, a database, a window: nothing of them is another user's to read or to reach, though the umask forbids
/// nothing.
async fn nothing_is_reached(backend: Backend) {
    if !can_be_others() {
        return;
    }
    let mut world = World::asleep(backend, "");
    world.wrap(&["/bin/sh", "-c", "umask 000; exec \"$@\"", "sh"]);
    world.start();
    open_the_way(&world);
    let project = world.project("demo", PROJECT).await;
    let id = world.run_task(&project, "kept").await;
    world.until_ended(&id).await;
    world.nothing_is_held("\0no command\0").await;
    let id = world.run_command(&project, "echo a secret; read x").await;
    world.until_running(&id).await;
    eventually("the journal", || {
        let first = world.state_dir().join("instances").join(&id).join("seg.0");
        first.exists().then_some(()).ok_or_else(|| "no segment".to_owned())
    })
    .await;

    let mut found = Vec::new();
    for dir in [world.state_dir(), world.path("run/kasmos"), world.path("tmux")] {
        everything(&dir, &mut found);
    }
    let names = |name: &str| found.iter().any(|path| path.ends_with(name));
    for name in
        ["token", "runner.db", "runner.db-wal", "lock", "seg.0", "index", "spec.json", SOCKET, "kas.sock"]
    {
        assert!(names(name), "{name} is missing in {found:?}");
    }
    assert_eq!(
        found.iter().filter(|path| path.starts_with(world.path("tmux"))).count() > 1,
        backend == Backend::Tmux
    );
    for path in &found {
        let facts = fs::symlink_metadata(path).unwrap();
        let shown = path.display();
        let inner =
            format!("cat '{shown}' || ls '{shown}' || echo x >> '{shown}' || mv '{shown}' '{shown}.x'");
        let tried = Done::of(as_user(&world, STRANGER, &["sh", "-c", &inner]));
        assert!(tried.code != Some(0) && tried.stdout.is_empty(), "{shown}: {tried:?}");
        if facts.file_type().is_socket() {
            let answer = ask(&world, STRANGER, path, GET);
            assert_eq!(answer, "refused: Permission denied", "{shown}");
        }
        let expect = if facts.is_dir() { 0o700 } else { 0o600 };
        let ours = !path.starts_with(world.path("tmux"));
        assert!(!ours || facts.mode() & 0o777 == expect, "{shown} {:o}", facts.mode());
    }
    world.stop(&id).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_reached_on_the_pty() {
    nothing_is_reached(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_reached_on_tmux() {
    nothing_is_reached(Backend::Tmux).await;
}

/// Were the directories open and the sockets too, and were the secret known: the kernel says who connects, and it is hung up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_is_asked_of_the_kernel() {
    if !can_be_others() {
        return;
    }
    let world = World::new(Backend::Pty);
    open_the_way(&world);
    let project = world.project("demo", PROJECT).await;
    let id = world.run_command(&project, "echo up; read x").await;
    world.until_running(&id).await;
    let instance = world.state_dir().join("instances").join(&id);
    let (control, shim) = (world.path("run/kasmos/kas.sock"), instance.join(SOCKET));
    for dir in
        [&world.path("run/kasmos"), &world.state_dir(), &world.state_dir().join("instances"), &instance]
    {
        mode(dir, 0o755);
    }
    for (socket, bytes) in [(&control, GET.to_vec()), (&shim, hello(&instance))] {
        mode(socket, 0o777);
        for _ in 0..2 {
            assert_eq!(
                ask(&world, STRANGER, socket, &bytes),
                "connected, 0 bytes came",
                "{}",
                socket.display()
            );
        }
        let own = ask(&world, 0, socket, &bytes);
        assert!(own.starts_with("connected, ") && own != "connected, 0 bytes came", "{own}");
    }
    let said = world.logged("connections to the control socket are refused");
    assert!(said.contains(&format!("user {STRANGER}")), "{said}");
    assert_eq!(world.log().matches("to the control socket are refused").count(), 1, "one cause, one line");
    assert_eq!(world.instance(&id).await["state"], "running");
    world.stop(&id).await;
}

/// A listener of another user's, and what it hears.
struct Squatter {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Squatter {
    fn at(world: &World, socket: &Path) -> Self {
        let words = ["perl", &script(world), "squat", socket.to_str().unwrap()];
        let mut child = as_user(world, STRANGER, &words).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "listening");
        Self { child, lines }
    }

    fn heard(&mut self) -> String {
        self.lines.next().unwrap().unwrap()
    }
}

impl Drop for Squatter {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Where the daemon's socket should be somebody else listens: no command says anything to them, and each says whose it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_said_to_a_stranger_who_listens_in_the_daemons_place() {
    if !can_be_others() {
        return;
    }
    let world = World::asleep(Backend::Pty, "");
    open_the_way(&world);
    world.write("demo/.kaged/project.yaml", PROJECT);
    let theirs = world.path("theirs");
    fs::create_dir(&theirs).unwrap();
    mode(&theirs, 0o777);
    let socket = theirs.join("kas.sock");
    let mut squatter = Squatter::at(&world, &socket);
    let named = ["--socket", socket.to_str().unwrap(), "--json"];
    let commands: [&[&str]; 7] = [
        &["ps"],
        &["daemon", "status"],
        &["daemon", "stop"],
        &["token", "create", "--scope", "full"],
        &["-p", "demo", "run", "kept"],
        &["-p", "demo", "logs", "kept"],
        &["open", "--no-browser"],
    ];
    for words in commands {
        let done = world.kas(&[&named, words].concat());
        assert_eq!(done.code, Some(8), "{words:?}: {done:?}");
        assert!(done.stdout.contains(&format!("belongs to user {STRANGER}")), "{words:?}: {done:?}");
        assert_eq!(squatter.heard(), "heard 0 bytes", "{words:?}");
    }
    // The daemon's side of a shim's socket is as careful with the run's secret.
    let place = world.path("theirs/instance");
    fs::create_dir(&place).unwrap();
    mode(&place, 0o777);
    let mut squatter = Squatter::at(&world, &place.join(SOCKET));
    let nonce = kas::journal::Nonce::random().unwrap();
    let found = soon("an answer", Client::find(&place, &nonce, tokio::time::Instant::now())).await;
    match found {
        Err(ClientError::Unreachable { last, .. }) => {
            assert_eq!(last.kind(), std::io::ErrorKind::PermissionDenied, "{last}");
        }
        other => panic!("{:?}", other.map(|_| ())),
    }
    assert_eq!(squatter.heard(), "heard 0 bytes");
}

/// A daemon of a user that nobody else has, so that the real `/tmp/kasmos-<uid>` is this test's own.
struct Unprivileged {
    world: World,
    uid: u32,
    kas: String,
}

impl Unprivileged {
    fn new() -> Self {
        let mut seed = [0; 4];
        getrandom::fill(&mut seed).unwrap();
        let uid = 1_000_000 + u32::from_ne_bytes(seed) % 1_000_000_000;
        let mut world = World::asleep(Backend::Pty, "http_addr = \"127.0.0.1:0\"");
        // The checkout may be where only root can go.
        let kas = world.path("kas");
        fs::copy(env!("CARGO_BIN_EXE_kas"), &kas).unwrap();
        let mut all = vec![world.path("")];
        everything(&world.path(""), &mut all);
        all.iter().for_each(|path| std::os::unix::fs::lchown(path, Some(uid), Some(uid)).unwrap());
        let kas = kas.to_str().unwrap().to_owned();
        // The shell drops the program's own path, and the copy takes its place.
        let instead = format!("shift; exec {} '{kas}' \"$@\"", user(uid).join(" "));
        world.wrap(&["/bin/sh", "-c", &instead, "sh"]);
        world.set_env("XDG_RUNTIME_DIR", "");
        Self { world, uid, kas }
    }

    fn place(&self) -> PathBuf {
        PathBuf::from(format!("/tmp/kasmos-{}", self.uid))
    }

    fn kas(&self, words: &[&str]) -> Done {
        let words: Vec<&str> = [self.kas.as_str()].into_iter().chain(words.iter().copied()).collect();
        let mut command = as_user(&self.world, self.uid, &words);
        command.env_remove("XDG_RUNTIME_DIR");
        Done::of(command)
    }

    fn strangers(&self, command: &str) {
        let made = Done::of(as_user(
            &self.world,
            STRANGER,
            &["sh", "-c", command, "sh", self.place().to_str().unwrap()],
        ));
        assert_eq!(made.code, Some(0), "{made:?}");
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        let place = self.place();
        let _ = fs::remove_dir_all(&place).or_else(|_| fs::remove_file(&place));
    }
}

/// Another user makes what the daemon would make in /tmp: it does not start, in the foreground or detached, says in one line which path and
/// whose, touches nothing, and starts once it is gone or another place is given.
#[test]
fn who_squats_in_tmp_is_named_and_changes_nothing_else() {
    if !can_be_others() {
        return;
    }
    let mut it = Unprivileged::new();
    let place = it.place();
    let owned = format!("belongs to user {STRANGER}");
    let squats = [
        ("mkdir -m 700 \"$1\"", owned.as_str()),
        ("mkdir -m 777 \"$1\"; touch \"$1/kas.sock\"", owned.as_str()),
        ("ln -s /etc \"$1\"", "it is a link or not a directory"),
        ("ln -s /nonexistent/place \"$1\"", "it is a link or not a directory"),
        ("ln -s \"/proc/self/cwd\" \"$1\"", "it is a link or not a directory"),
        ("touch \"$1\"", "it is a link or not a directory"),
        ("mkfifo -m 666 \"$1\"", "it is a link or not a directory"),
    ];
    for (squat, why) in squats {
        it.strangers(squat);
        let before = fs::symlink_metadata(&place).unwrap();
        let (status, log) = it.world.start_in_vain();
        let detached = it.kas(&["daemon", "start"]);
        assert_eq!((status.code(), detached.code), (Some(8), Some(8)), "{squat}: {log} {detached:?}");
        for text in [log.as_str(), &detached.stderr] {
            let said: Vec<_> = text.lines().filter(|line| line.starts_with("kas: ")).collect();
            assert_eq!(said.len(), 1, "{squat}: {text}");
            for word in [place.to_str().unwrap(), why, "XDG_RUNTIME_DIR", "--socket"] {
                assert!(said[0].contains(word), "{squat}: {word:?} is not in {said:?}");
            }
        }
        let after = fs::symlink_metadata(&place).unwrap();
        let facts = |it: &fs::Metadata| (it.ino(), it.mode(), it.uid(), it.ctime(), it.ctime_nsec());
        assert_eq!(facts(&after), facts(&before), "{squat}: it was touched");
        it.strangers("rm -rf \"$1\"");
    }
    assert_eq!(it.kas(&["daemon", "start"]).code, Some(0));
    let facts = fs::symlink_metadata(&place).unwrap();
    assert_eq!((facts.uid(), facts.mode() & 0o777), (it.uid, 0o700));
    let socket = place.join("kas.sock");
    assert_eq!(ask(&it.world, STRANGER, &socket, GET), "refused: Permission denied");
    // Not even root is this user.
    assert_eq!(ask(&it.world, 0, &socket, GET), "connected, 0 bytes came");
    assert_eq!(it.kas(&["daemon", "stop"]).code, Some(0));
}

/// What others could exchange on the way to the state is not used, nor is what is a link in place of what kas makes.
#[test]
fn a_state_directory_on_a_way_that_others_can_change_is_refused() {
    if !can_be_others() {
        return;
    }
    let mut world = World::asleep(Backend::Pty, "");
    let refused = |world: &mut World, path: &Path, why: &str| {
        let (status, log) = world.start_in_vain();
        assert_eq!(status.code(), Some(8), "{log}");
        let said = log.lines().find(|line| line.starts_with("kas: ")).unwrap_or_else(|| panic!("{log}"));
        assert!(said.contains(path.to_str().unwrap()) && said.contains(why), "{said}");
        assert!(said.contains("XDG_STATE_HOME"), "{said}");
    };
    let above = world.path(".local");
    fs::create_dir_all(above.join("state")).unwrap();
    mode(&above, 0o777);
    refused(&mut world, &above, "others may write to it (mode 0777)");
    mode(&above, 0o700);
    std::os::unix::fs::chown(&above, Some(STRANGER), None).unwrap();
    refused(&mut world, &above, &format!("belongs to user {STRANGER}"));
    std::os::unix::fs::chown(&above, Some(0), None).unwrap();
    let elsewhere = world.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    for component in ["kasmos", "kasmos/instances"] {
        let path = above.join("state").join(component);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        mode(path.parent().unwrap(), 0o700);
        symlink(&elsewhere, &path).unwrap();
        refused(&mut world, &path, "it is a link or not a directory");
        fs::remove_file(&path).unwrap();
    }
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "nothing was made there");
    world.start();
}

/// Arguments of programs are everybody's to read, so the ticket that lets a browser in is in none: the browser is given a file that leads on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_ticket_of_a_browser_is_in_no_argument() {
    let world = World::with(Backend::Pty, "http_addr = \"127.0.0.1:0\"");
    let opener = world.write(
        "bin/xdg-open",
        "#!/bin/sh\nprintf '%s' \"$*\" > \"$HOME/opened.new\"\nmv \"$HOME/opened.new\" \"$HOME/opened\"\n",
    );
    mode(&opener, 0o755);
    let mut open = world.kas_command(&["open"]);
    let path = format!("{}:{}", world.path("bin").display(), std::env::var("PATH").unwrap());
    let printed = Done::of({
        open.env("DISPLAY", ":7").env("PATH", path);
        open
    });
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let url = printed.stdout.trim();
    let ticket = url.split_once("#t=").unwrap_or_else(|| panic!("{url}")).1;
    eventually("the opener", || {
        world.path("opened").exists().then_some(()).ok_or_else(|| "not called".to_owned())
    })
    .await;
    let argument = fs::read_to_string(world.path("opened")).unwrap();
    assert!(!argument.contains(ticket), "{argument}");
    let page = Path::new(&argument);
    assert_eq!(fs::metadata(page).unwrap().mode() & 0o777, 0o600);
    assert!(fs::read_to_string(page).unwrap().contains(&format!("url={url}'")));
}

/// A project that somebody else has put above the directory one works in is not taken up by itself, and its tasks do not run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_of_somebody_elses_is_not_taken_up_unasked() {
    if !can_be_others() {
        return;
    }
    let world = World::new(Backend::Pty);
    let proof = world.path("PROOF");
    let yaml = format!("project: trap\ntasks: {{test: {{command: 'touch {}'}}}}", proof.display());
    let file = world.write("shared/.kaged/project.yaml", yaml);
    let below = world.path("shared/mine");
    fs::create_dir(&below).unwrap();
    let run = |world: &World| {
        let mut command = world.kas_command(&["run", "--wait", "test"]);
        command.current_dir(&below);
        Done::of(command)
    };
    for theirs in [&file, file.parent().unwrap(), &world.path("shared")] {
        std::os::unix::fs::chown(theirs, Some(STRANGER), None).unwrap();
        let refused = run(&world);
        assert_eq!(refused.code, Some(8), "{refused:?}");
        assert!(refused.stderr.contains(&format!("belongs to user {STRANGER}")), "{refused:?}");
        assert!(refused.stderr.contains("kas daemon add"), "{refused:?}");
        std::os::unix::fs::chown(theirs, Some(0), None).unwrap();
    }
    assert!(!proof.exists());
    assert_eq!(world.get("/api/v1/projects").await.expect(200)["items"], json!([]));
    // Who trusts it says so.
    std::os::unix::fs::chown(&file, Some(STRANGER), None).unwrap();
    let add = world.kas(&["daemon", "add", world.path("shared").to_str().unwrap()]);
    assert_eq!((add.code, run(&world).code), (Some(0), Some(0)), "{add:?}");
    assert!(proof.exists());
}

/// The stranger of these tests is one: no root, no capability.
#[test]
fn a_stranger_has_nothing_of_roots() {
    if !can_be_others() {
        return;
    }
    let world = World::asleep(Backend::Pty, "");
    let said = Done::of(as_user(&world, STRANGER, &["sh", "-c", "id -u; grep CapEff /proc/self/status"]));
    let words: Vec<&str> = said.stdout.split_whitespace().collect();
    assert_eq!(words, ["65534", "CapEff:", "0000000000000000"]);
}
