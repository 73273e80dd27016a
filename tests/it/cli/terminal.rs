//! Commands on a terminal of their own.

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use super::home::Daemon;
use crate::harness::{PATIENCE, eventually};

/// A command on a terminal of its own, and what it showed.
struct Screen {
    master: fs::File,
    terminal: OwnedFd,
    child: Child,
    shown: String,
    /// Where the next wait begins to look.
    seen: usize,
}

impl Screen {
    fn run(mut command: Command, cols: u16, rows: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        unlockpt(&master).unwrap();
        let terminal =
            ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
                .unwrap();
        tcsetwinsize(&master, Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let stdio = || Stdio::from(terminal.try_clone().unwrap());
        let child = command.stdin(stdio()).stdout(stdio()).stderr(stdio()).spawn().unwrap();
        Self { master: master.into(), terminal, child, shown: String::new(), seen: 0 }
    }

    /// Reads once; false when nothing came in time.
    fn read(&mut self, within: Duration) -> bool {
        let timeout = Timespec::try_from(within).unwrap();
        let mut ready = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut ready, Some(&timeout)).unwrap() == 0 {
            return false;
        }
        let mut piece = [0; 4096];
        let count = self.master.read(&mut piece).unwrap();
        self.shown.push_str(&String::from_utf8_lossy(&piece[..count]));
        true
    }

    /// Waits until this is shown after what was waited for before.
    fn until(&mut self, text: &str) {
        loop {
            if let Some(at) = self.shown[self.seen..].find(text) {
                self.seen += at + text.len();
                return;
            }
            assert!(self.read(PATIENCE), "no {text:?} in {:?}", &self.shown[self.seen..]);
        }
    }

    fn type_in(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }

    fn resize(&self, cols: u16, rows: u16) {
        tcsetwinsize(&self.master, Winsize { ws_col: cols, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 })
            .unwrap();
        self.signal(Signal::WINCH);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// The exit code, the last words read, and the terminal proven to be as it was.
    fn end(mut self, before: &Termios) -> (Option<i32>, String) {
        let code = self.child.wait().unwrap().code();
        while self.read(Duration::ZERO) {}
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(format!("{after:?}"), format!("{before:?}"), "the terminal was not restored");
        (code, std::mem::take(&mut self.shown))
    }

    fn modes(&self) -> Termios {
        tcgetattr(&self.terminal).unwrap()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Only a test that failed leaves it running.
        self.child.kill().unwrap_or_default();
        self.child.wait().unwrap();
    }
}

/// Attaches to a run of `echo`; the modes are those from before kas changed them, as the new terminal of another command has them.
fn attached(daemon: &Daemon, demo: &Path, words: &[&str]) -> (Screen, Termios) {
    let plain = Screen::run(Command::new("true"), 80, 24).modes();
    let words = [&["attach"], words].concat();
    let mut screen = Screen::run(daemon.home.command(demo, &words), 80, 24);
    screen.until("Ctrl-\\ Ctrl-\\ leaves it running");
    (screen, plain)
}

fn attaching_to(backend: &str) {
    let daemon = Daemon::start(backend);
    let demo = daemon.demo();
    assert_eq!(daemon.home.kas_in(&demo, &["run", "echo"]).code, Some(0));
    let (mut screen, before) = attached(&daemon, &demo, &["echo"]);
    screen.until("ready");
    screen.type_in("héllo\r");
    screen.until("got héllo");
    // One of the keys goes to the program; two leave it.
    screen.type_in("\x1c\x1c");
    screen.until("kas: detached");
    let (code, shown) = screen.end(&before);
    assert_eq!(code, Some(0));
    let last = shown.rsplit("got héllo").next().unwrap();
    assert!(last.contains("\x1b]8;;\x1b\\"), "a link that is open is ended: {last:?}");
    assert!(!shown.contains("may not have reached"), "{shown:?}");
    // It goes on, and shows what was there.
    let (mut screen, before) = attached(&daemon, &demo, &["echo"]);
    screen.until("got héllo");
    screen.signal(Signal::TERM);
    screen.until("kas: detached");
    assert_eq!(screen.end(&before).0, Some(0));
    // Looking does not type.
    let (mut screen, before) = attached(&daemon, &demo, &["echo", "--view"]);
    screen.until("got héllo");
    screen.type_in("unheard\r\x1c\x1c");
    assert_eq!(screen.end(&before).0, Some(0));
    // The daemon's end is not the end, and what is typed meanwhile is not lost.
    let (mut screen, before) = attached(&daemon, &demo, &["echo"]);
    screen.until("got héllo");
    assert_eq!(daemon.home.kas(&["daemon", "stop"]).code, Some(0));
    screen.until("the daemon is away");
    screen.type_in("meanwhile\r");
    daemon.again();
    screen.until("got héllo");
    screen.until("got meanwhile");
    screen.type_in("\x04");
    screen.until("kas: echo done (exit code 0)");
    let (code, shown) = screen.end(&before);
    assert_eq!(code, Some(0));
    assert!(!shown.contains("unheard") && !shown.contains("may not have reached"), "{shown:?}");
}

#[test]
fn attaching_on_the_pty() {
    attaching_to("pty");
}

#[test]
fn attaching_on_tmux() {
    attaching_to("tmux");
}

/// Waits until a run has written this.
pub(super) fn written(daemon: &Daemon, id: &str, text: &str) {
    let mut command = daemon.home.command(daemon.home.temp.path(), &["logs", "-f", id]);
    let mut follower = command.stdout(Stdio::piped()).spawn().unwrap();
    let (mut seen, mut piece) = (String::new(), [0; 4096]);
    while !seen.contains(text) {
        let count = follower.stdout.as_mut().unwrap().read(&mut piece).unwrap();
        assert!(count > 0, "it ended after {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
}

#[test]
fn the_terminal_gives_its_size_and_is_asked_nothing() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    // The first wait ends with the new size, however long that takes to arrive. The shim answers both questions, so each line that is
    // read has one answer in it.
    let ask = "stty -echo; sleep 100 & p=$!; trap 'stty size; kill $p' WINCH; printf 'old \\033[6n\\n'; stty size; \
               wait $p; read x; printf 'new \\033[6n\\n'; read y; \
               for it in \"$x\" \"$y\"; do printf '%s' \"$it\" | tr -dc R; echo; done; echo over";
    let run = daemon.home.kas_in(&demo, &["run", "--json", "--", ask]).json();
    let id = run["id"].as_str().unwrap();
    written(&daemon, id, "24 80");
    let (mut screen, before) = attached(&daemon, &demo, &[id]);
    screen.until("old \r\n24 80");
    screen.resize(100, 30);
    screen.until("30 100");
    screen.type_in("\r");
    screen.until("new \r\n");
    screen.type_in("\r");
    screen.until("R\r\nR\r\nover");
    screen.until("done (exit code 0)");
    assert_eq!(screen.end(&before).0, Some(0));
}

#[test]
fn a_person_is_asked() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    for (answer, code, told) in [("n\r", Some(1), "cancelled"), ("y\r", Some(0), "started ask")] {
        let mut screen = Screen::run(daemon.home.command(&demo, &["run", "ask"]), 80, 24);
        let before = screen.modes();
        screen.until("ask runs: echo asked");
        screen.until("[y/N]");
        screen.type_in(answer);
        screen.until(told);
        assert_eq!(screen.end(&before).0, code);
    }
}

#[test]
fn an_attached_terminal_is_left_when_the_daemon_hangs() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let (mut screen, before) = attached_to_a_busy_program(&daemon, &demo, 1);
    // Most of it is still on its way, whenever the hang is seen.
    screen.type_in(&"x".repeat(1 << 20));
    let halted = daemon.halt();
    screen.until("bytes that were typed may not have reached the program");
    screen.until("the daemon does not answer");
    assert_eq!(screen.end(&before).0, Some(6));
    let mut late = Screen::run(daemon.home.command(&demo, &["attach", "echo"]), 80, 24);
    let before = late.modes();
    late.until("the daemon does not answer");
    assert_eq!(late.end(&before).0, Some(6));
    drop(halted);
}

/// Attached to a run that reads nothing before there is a file `go`, and then so many bytes into `typed`.
fn attached_to_a_busy_program(daemon: &Daemon, demo: &Path, bytes: usize) -> (Screen, Termios) {
    let script = format!(
        "stty raw -echo; echo up; while ! test -e go; do sleep 0.05; done; head -c {bytes} >typed; echo over; exec tail -f /dev/null"
    );
    let run = daemon.home.kas_in(demo, &["run", "--json", "--", &script]).json();
    let (mut screen, before) = attached(daemon, demo, &[run["id"].as_str().unwrap()]);
    screen.until("up");
    (screen, before)
}

#[test]
fn what_a_busy_program_is_typed_arrives_whole() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let text: String = ('!'..='z').filter(|c| *c != '\\').cycle().take(3_000_000).collect();
    let (mut screen, before) = attached_to_a_busy_program(&daemon, &demo, text.len());
    screen.type_in(&text);
    fs::write(demo.join("go"), "").unwrap();
    screen.until("over");
    assert!(fs::read_to_string(demo.join("typed")).unwrap() == text, "another text arrived");
    screen.type_in("\x1c\x1c");
    screen.until("kas: detached");
    let (code, shown) = screen.end(&before);
    assert_eq!((code, shown.contains("may not have reached")), (Some(0), false), "{shown:?}");
}

#[test]
fn a_program_that_reads_nothing_can_be_left_and_what_it_did_not_read_is_told() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let (mut screen, before) = attached_to_a_busy_program(&daemon, &demo, 1);
    screen.type_in(&"x".repeat(5 << 20));
    screen.until("\x07");
    screen.type_in("\x1c\x1c");
    screen.until("bytes that were typed may not have reached the program");
    screen.until("kas: detached");
    assert_eq!(screen.end(&before).0, Some(0));
}

/// What it leaves on a terminal, and goes on.
const LEAVES: &str =
    r"printf '\033[?25l\033[?1049h\033[?2026h\033]8;;http://x\007begun'; exec tail -f /dev/null";
/// What undoes that.
const UNDONE: &str = "\x1b[?2026l\x1b]8;;\x1b\\\x1b[?1049l\x1b[?25h";

#[test]
fn what_a_program_set_is_undone_however_its_watching_ends() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let id = daemon.home.kas_in(&demo, &["run", "--json", "--", LEAVES]).json()["id"].clone();
    let follow = &["logs", "-f", id.as_str().unwrap()][..];
    let run = &["run", "--wait", "--", LEAVES][..];
    let watched = |words: &[&str]| {
        let mut screen = Screen::run(daemon.home.command(&demo, words), 80, 24);
        screen.until("begun");
        screen
    };
    let signals = [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129), (Signal::QUIT, 131)];
    for ((signal, code), words) in signals.into_iter().zip([follow, run, follow, run]) {
        let screen = watched(words);
        let before = screen.modes();
        screen.signal(signal);
        let (ended, shown) = screen.end(&before);
        assert!(ended == Some(code) && shown.ends_with(UNDONE), "{words:?} {ended:?}: {shown:?}");
    }
    let mut watching = [watched(follow), watched(run)];
    let _halted = daemon.halt();
    for screen in &mut watching {
        screen.until(UNDONE);
        screen.until("the daemon does not answer");
    }
    for screen in watching {
        let before = screen.modes();
        assert_eq!(screen.end(&before).0, Some(6));
    }
}

#[test]
fn a_signal_that_is_ignored_does_not_end_the_following() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let id = daemon.home.kas_in(&demo, &["run", "--json", "--", LEAVES]).json()["id"].clone();
    let kas = daemon.home.command(&demo, &["logs", "-f", id.as_str().unwrap()]);
    let mut nohup = Command::new("sh");
    nohup.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(kas.get_program()).args(kas.get_args());
    nohup
        .env_clear()
        .envs(kas.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(&demo);
    let mut screen = Screen::run(nohup, 80, 24);
    let before = screen.modes();
    screen.until("begun");
    screen.signal(Signal::HUP);
    screen.signal(Signal::INT);
    assert_eq!(screen.end(&before).0, Some(130));
}

#[tokio::test]
async fn a_signal_ends_a_command_whose_reader_does_not_read() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let run =
        daemon.home.kas_in(&demo, &["run", "--json", "--", "head -c 1000000 /dev/zero | tr '\\0' x"]).json();
    let id = run["id"].as_str().unwrap();
    assert_eq!(daemon.home.kas_in(&demo, &["wait", id]).code, Some(0));
    let mut logs = daemon.home.command(&demo, &["logs", id]).stdout(Stdio::piped()).spawn().unwrap();
    let reader = logs.stdout.take().unwrap();
    eventually("the pipe is full", || match ioctl_fionread(&reader).unwrap() {
        60_000.. => Ok(()),
        bytes => Err(format!("it has {bytes} bytes")),
    })
    .await;
    kill_process(Pid::from_child(&logs), Signal::TERM).unwrap();
    let pidfd = pidfd_open(Pid::from_child(&logs), PidfdFlags::empty()).unwrap();
    let limit = Timespec::try_from(PATIENCE).unwrap();
    let ends = poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], Some(&limit)).unwrap() == 1;
    logs.kill().unwrap();
    assert_eq!((ends, logs.wait().unwrap().code()), (true, Some(143)));
    drop(reader);
}

#[test]
fn the_last_lines_on_a_terminal_are_those_that_show_something() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    for (script, expect) in [
        (r"printf 'a\n\033[?25lb\n\033[31m'", "\x1b[?25lb\n\x1b[31m\x1b[0m\x1b[?25h"),
        // What is not shown is not undone, for that would move the cursor.
        (r"printf '\033[?1049ha\nb\n'", "b\n"),
    ] {
        let id = daemon.home.kas_in(&demo, &["run", "--json", "--", script]).json()["id"].clone();
        let id = id.as_str().unwrap();
        assert_eq!(daemon.home.kas_in(&demo, &["wait", id]).code, Some(0));
        for words in [&["logs", "-n", "1", id][..], &["logs", "-f", "-n", "1", id]] {
            let screen = Screen::run(daemon.home.command(&demo, words), 80, 24);
            let before = screen.modes();
            let (code, shown) = screen.end(&before);
            // Each of the two terminals makes an end of line of a newline.
            let shown = shown.replace("\r\n", "\n").replace("\r\n", "\n");
            assert_eq!((code, shown.as_str()), (Some(0), expect), "{words:?}");
        }
    }
}

#[test]
fn output_on_a_terminal_is_as_it_is_but_for_questions() {
    let daemon = Daemon::start("pty");
    let demo = daemon.demo();
    let script = r"stty -echo; printf '\033[31mred\033[0m\n10%% done\r55%% done\n\033[6n\033]52;c;QQ==\007\033[?1000hover\033[?25l\n'";
    let run = daemon.home.kas_in(&demo, &["run", "--json", "--", script]).json();
    let id = run["id"].as_str().unwrap();
    assert_eq!(daemon.home.kas_in(&demo, &["wait", id]).code, Some(0));
    let shows = |words: &[&str]| {
        let mut screen = Screen::run(daemon.home.command(&demo, words), 80, 24);
        let before = screen.modes();
        screen.until("over\x1b[?25l");
        let (code, shown) = screen.end(&before);
        // Each of the two terminals makes an end of line of a newline.
        let shown = shown.replace("\r\n", "\n").replace("\r\n", "\n");
        let expect = "\x1b[31mred\x1b[0m\n10% done\r55% done\nover\x1b[?25l\n\x1b[?25h";
        assert_eq!((code, shown.as_str()), (Some(0), expect), "{words:?}");
    };
    shows(&["run", "--wait", "--", script]);
    shows(&["logs", id]);
    shows(&["logs", "-f", id]);
}
