//! The control client is killed, stopped or cut off, and its stream is cut, garbled or forged: viewers see every byte all the same.

use std::fmt::Write as _;

use super::fake::Fake;
use super::*;
use crate::harness::Backend;

/// A run that numbers lines at about a thousand a second until a line is typed, and a viewer of it.
struct Counter {
    id: String,
    viewer: Viewer,
    seen: Seen,
}

impl Counter {
    async fn start(world: &World) -> Self {
        let script = "$| = 1; for (1..1e9) { print \"$_\\n\"; select undef, undef, undef, .001 }";
        world.write("demo/count.pl", script);
        let command = "stty -echo; perl count.pl & read x; kill $!; wait $! 2> /dev/null; echo over; exit 9";
        let id = world.run_command("demo", command).await;
        let mut viewer = Viewer::open(world, "demo").await;
        let seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
        Self { id, viewer, seen }
    }

    /// Watches until so many more bytes came.
    async fn go_on(&mut self, bytes: u64) {
        let goal = self.seen.at + bytes;
        self.viewer.follow(&mut self.seen, |seen| seen.at >= goal).await;
    }

    /// Watches while something is so.
    async fn while_it(&mut self, what: &str, is_so: impl Fn() -> bool) {
        let since = Instant::now();
        while is_so() {
            assert!(since.elapsed() < crate::harness::PATIENCE, "it does not end: {what}");
            self.go_on(1).await;
        }
    }

    /// Ends it; not one byte may be missing, doubled or another.
    async fn finish(mut self, world: &World) {
        type_line(&mut self.viewer, &self.seen).await;
        self.viewer.follow(&mut self.seen, Seen::ended).await;
        assert_eq!((self.seen.gaps.len(), self.seen.snapshots.len()), (0, 0));
        let text = self.seen.text();
        let lines: Vec<&str> = text.split_terminator("\r\n").collect();
        let (last, numbers) = lines.split_last().unwrap();
        assert_eq!(*last, "over");
        for (n, line) in numbers.iter().enumerate() {
            assert_eq!(*line, (n + 1).to_string(), "line {n}");
        }
        assert_eq!(&world.transcript(&self.id).await.1[..], self.seen.bytes);
        assert_eq!(end_of(&world.until_ended(&self.id).await), json!(["failed", 9, null]));
    }
}

async fn control_client_of(world: &World) -> Pid {
    until("a control client", || control_client(world, "demo")).await
}

/// Ends control clients until one of the plan comes.
async fn put_in_place(world: &World, fake: &Fake) {
    let before = fake.planned();
    until("a planned client", || {
        if fake.planned() < before {
            return Some(());
        }
        control_client(world, "demo").into_iter().for_each(|client| end(client, Signal::KILL));
        None
    })
    .await;
}

/// tmux keeps a control client whose output nobody takes any more, and goes on serving it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_daemon_leaves_no_control_client() {
    let mut world = World::new(Backend::Tmux);
    world.project("demo", NO_TASKS).await;
    let flood = "read x; seq 1000000; touch printed; read x; exit 9";
    let id = world.run_command("demo", flood).await;
    let mut viewer = Viewer::open(&world, "demo").await;
    let mut seen = viewer.watch(&id, json!({"from": 0, "mode": "interactive"})).await;
    let client = control_client_of(&world).await;
    type_line(&mut viewer, &seen).await;
    viewer.follow(&mut seen, |seen| seen.at > 10_000).await;
    // Nothing is read any more, so all pipes fill up.
    world.signal(Signal::STOP);
    until("the flood is printed", || world.path("demo/printed").exists().then_some(())).await;
    world.end(Signal::KILL);
    until("no control client", || control_client(&world, "demo").is_none().then_some(())).await;
    let number = client.as_raw_nonzero().get().unsigned_abs().into();
    assert!(!crate::process::lives(number), "its process lives on");
    world.start();
    control_works(&world, "demo").await;
    world.stop(&id).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_client_that_is_killed_or_stopped_costs_no_byte() {
    let (mut world, fake) = Fake::world("");
    world.start();
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let mut counter = Counter::start(&world).await;
    counter.go_on(1000).await;
    let mut took = Vec::new();
    for _ in 0..if crate::long() { 50 } else { 6 } {
        let old = control_client_of(&world).await;
        let since = Instant::now();
        end(old, Signal::KILL);
        until("another one", || control_client(&world, "demo").filter(|new| *new != old)).await;
        took.push(since.elapsed());
        counter.go_on(1000).await;
    }
    took.sort_unstable();
    println!(
        "another control client was there after {:?} typically, {:?} at most",
        took[took.len() / 2],
        took[took.len() - 1]
    );
    assert!(took[took.len() / 2] < promised(Duration::from_millis(500)), "{took:?}");
    let stopped = control_client_of(&world).await;
    kill_process(stopped, Signal::STOP).unwrap();
    counter.go_on(3000).await;
    control_works(&world, "demo").await;
    kill_process(stopped, Signal::CONT).unwrap();
    // Its input ends, and tmux lets it go.
    fake.plan(&["deaf 2000".to_owned()]);
    put_in_place(&world, &fake).await;
    counter.go_on(5000).await;
    control_works(&world, "demo").await;
    counter.finish(&world).await;
    bystanders.check(&world);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_cut_at_any_byte_is_taken_up_again() {
    let (mut world, fake) = Fake::world("");
    world.start();
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let mut counter = Counter::start(&world).await;
    counter.go_on(1000).await;
    // Each one that is cut is followed by one that gets far enough to answer.
    let step = if crate::long() { 1 } else { 37 };
    let plan: Vec<_> =
        (0..1500).step_by(step).flat_map(|n| [format!("cut {n}"), format!("cut {}", 3000 + n)]).collect();
    fake.plan(&plan);
    put_in_place(&world, &fake).await;
    let mut left = fake.planned();
    while left > 0 {
        counter.while_it("a cut of the plan", || fake.planned() == left).await;
        left = fake.planned();
    }
    counter.go_on(5000).await;
    control_works(&world, "demo").await;
    counter.finish(&world).await;
    assert!(audited(&world, "task_runner.tmux_pipe_fallback").await.is_empty());
    bystanders.check(&world);
}

/// What may stand between two lines, each with a name.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let mut junk: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    junk.push(b'\n');
    let long = [vec![b'x'; 10 << 20], vec![b'\n']].concat();
    let long_output = [b"%output %9999 ".to_vec(), vec![b'y'; 10 << 20], vec![b'\n']].concat();
    let escapes = b"\xff\xfe\xc3\x28\x80\n%output %9999 \\999\\0\n%\n%%\n%outpu\n%output\n%output %\n%exit0\n\x1bP1000p\n".to_vec();
    vec![
        ("every byte", junk),
        ("nothing but zeros", [vec![0; 70_000], vec![b'\n']].concat()),
        ("a line of 10 MB", long),
        ("output of 10 MB", long_output),
        ("half lines", escapes),
    ]
}

/// What breaks the order of answers: the answer it is about, where, and what stands there.
const BLOCKS: [(&str, &str, &str, &str); 12] = [
    ("a block nobody asked for", "5 after", "^%output", "%begin 1 999999 0\nwhat\n%end 1 999999 0\n"),
    (
        "an own block nobody asked for",
        "1 before",
        "^%begin .* 1$",
        "%begin 1 999999 1\nwhat\n%end 1 999999 1\n",
    ),
    ("an own block later", "3 before", "^%begin .* 1$", "%begin 1 999999 1\n%end 1 999999 1\n"),
    ("an error nobody asked for", "3 before", "^%begin .* 1$", "%begin 1 999999 1\nno\n%error 1 999999 1\n"),
    (
        "notifications in a block",
        "2 after",
        "^%begin .* 1$",
        "%pause %9999\n%continue %9999\n%message hello\n%window-add @9999\n",
    ),
    ("output in a block", "2 after", "^%begin .* 1$", "%output %0 forged\n"),
    ("no end", "2 instead", "^%end .* 1$", ""),
    ("no beginning", "2 instead", "^%begin .* 1$", ""),
    ("an error for an answer", "2 error", "^%end .* 1$", ""),
    ("empty answers", "0 instead", "^%[0-9]+ @", ""),
    ("answers that make no sense", "0 instead", "^%[0-9]+ @", "%what @ever 80 24 0\n"),
    ("another's end", "2 before", "^%end .* 1$", "%end 1 999999 1\n%error 1 999999 1\n"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_garbled_stream_is_left_and_begun_anew() {
    let (mut world, fake) = Fake::world("");
    world.start();
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let mut counter = Counter::start(&world).await;
    counter.go_on(1000).await;
    let pid = Pid::from_raw(world.daemon_pid().cast_signed()).unwrap();
    for (name, bytes) in garbage() {
        let file = fake.bytes("garbage", &bytes);
        garble(&world, &fake, &mut counter, &format!("edit 20 after {file} ^%output"), name).await;
    }
    for (name, place, at, bytes) in BLOCKS {
        let file = fake.bytes("block", bytes.as_bytes());
        garble(&world, &fake, &mut counter, &format!("edit {place} {file} {at}"), name).await;
    }
    counter.finish(&world).await;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let most = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    println!("the daemon had {most} at most");
    assert!(!world.log().contains("panicked"));
    bystanders.check(&world);
}

async fn garble(world: &World, fake: &Fake, counter: &mut Counter, plan: &str, name: &str) {
    let since = Instant::now();
    fake.plan(&[plan.to_owned()]);
    put_in_place(world, fake).await;
    counter.go_on(3000).await;
    let shown = counter.seen.at;
    control_works(world, "demo").await;
    counter.go_on(2000).await;
    println!("{name}: seen on from {shown}, {:?} until all worked", since.elapsed());
}

/// Output that looks like the stream it goes through.
fn forgery(counter: usize) -> Vec<u8> {
    let mut text = String::new();
    for n in 0..counter {
        write!(
            text,
            "%end {} {n} 1\r\n%error 1763 {n} 1\n%output %{} forged\\015\\012\n",
            1_763_000_000 + n,
            n % 9
        )
        .unwrap();
        write!(
            text,
            "%begin 1 {n} 1\n%exit\n%window-close @{}\n%unlinked-window-close @0\n%pause %0\n",
            n % 9
        )
        .unwrap();
        write!(text, "\x1b]7777;kas;{n:032x};{n}\x07\x1b]7777;kas;{:032x};{n};END\x07", u128::MAX).unwrap();
        write!(text, "\x1b]2;%end {n} 1 1\x07\x1bP1000p%exit\x1b\\\x1bPtmux;\x1b\x1b]7777;kas;0;0\x07\x1b\\")
            .unwrap();
    }
    text.into_bytes()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forged_lines_and_marks_are_output() {
    let world = World::with(Backend::Tmux, ROOMY);
    world.project("demo", NO_TASKS).await;
    let bystanders = Bystanders::of(&world);
    let mut counter = Counter::start(&world).await;
    let expect = forgery(if crate::long() { 50_000 } else { 4000 });
    world.write("demo/forged", &expect);
    // A directory and a window's title that look like answers.
    std::fs::create_dir_all(world.path("demo/a\n%end 1 2 1\n%exit")).unwrap();
    let pane = "cd \"$(printf 'a\\n%%end 1 2 1\\n%%exit')\" && printf '\\033]2;%%end 1 2 1\\n%%exit\\007\\033k%%exit\\033\\\\' && exec sleep 10008";
    let dir = world.path("demo");
    let counting = counter.id.clone();
    world.until_running(&counting).await;
    let made = world.tmux(&["new-window", "-d", "-c", dir.to_str().unwrap(), "-t", "=kaged-demo:", pane]);
    assert_eq!(made.code, Some(0), "{made:?}");
    let id = world.run_command("demo", "stty -opost -echo; cat forged; exit 4").await;
    let seen = Viewer::open(&world, "demo").await.whole(&id).await;
    assert!(seen.bytes == expect, "{} of {} bytes", seen.bytes.len(), expect.len());
    assert_eq!(end_of(&world.until_ended(&id).await), json!(["failed", 4, null]));
    assert!(world.transcript(&id).await.1[..] == expect);
    let panes = world.get("/api/v1/projects/demo/panes").await.expect(200);
    assert_eq!(panes["items"].as_array().unwrap().len(), 1, "{panes}");
    control_works(&world, "demo").await;
    counter.go_on(1000).await;
    assert_eq!(world.instance(&counting).await["state"], "running");
    counter.finish(&world).await;
    bystanders.check(&world);
}
