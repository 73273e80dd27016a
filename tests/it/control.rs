//! The control client against the tmux that is installed: every typed command is understood and answered.

use std::fmt::Display;
use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use kas::control::command::{
    Argv, ClientFlag, Field, Keys, Name, Panes, SessionOption, WindowOption, WindowTarget,
};
use kas::control::{
    Block, Client, Command, Event, Made, Notification, Outcome, PaneId, SessionId, Ticket, WindowId,
};

/// How long tmux may take for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A private server with one control client.
struct Tmux {
    home: tempfile::TempDir,
    child: Child,
    input: Option<ChildStdin>,
    pieces: Receiver<Vec<u8>>,
    client: Client,
    seen: Vec<Event>,
}

impl Tmux {
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let args = ["-u", "-C", "new-session", "-s", "kaged-base", "-x", "80", "-y", "24", "--", "cat", "-"];
        let mut child =
            process(&home).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let pieces = reader(output);
        Self { home, child, input, pieces, client: Client::new(), seen: Vec::new() }
    }

    /// Writes what there is to write, and waits for the next piece. False at the end of the stream.
    fn turn(&mut self) -> bool {
        if let (Some(bytes), Some(input)) = (self.client.poll_transmit(), &mut self.input) {
            input.write_all(&bytes).unwrap();
        }
        let piece = self.pieces.recv_timeout(PATIENCE).expect("tmux is silent");
        if piece.is_empty() {
            self.client.handle_eof();
        } else {
            self.client.handle_input(&piece);
        }
        while let Some(event) = self.client.poll_event() {
            self.seen.push(event);
        }
        !piece.is_empty()
    }

    fn wait_for<T>(&mut self, find: impl Fn(&[Event]) -> Option<T>) -> T {
        loop {
            if let Some(found) = find(&self.seen) {
                return found;
            }
            assert!(self.turn(), "the stream ended: {:?}", self.seen);
        }
    }

    fn outcome(&mut self, ticket: Ticket) -> Outcome {
        self.wait_for(|events| {
            events.iter().find_map(|event| match event {
                Event::Reply { ticket: of, outcome } if *of == ticket => Some(outcome.clone()),
                Event::Reply { .. }
                | Event::Output { .. }
                | Event::Notification(_)
                | Event::Block(_)
                | Event::Unparsed(_)
                | Event::Closed => None,
            })
        })
    }

    /// Sends a command that must succeed; answers its lines.
    fn ask(&mut self, command: Command) -> Vec<String> {
        lines(&self.done(command))
    }

    fn make(&mut self, command: Command) -> Made {
        let block = self.done(command);
        let made = Made::from_block(&block).unwrap_or_else(|| panic!("{block:?}"));
        assert!(made.pid > 1);
        made
    }

    fn done(&mut self, command: Command) -> Block {
        let shown = command.to_string();
        let ticket = self.client.send(command);
        match self.outcome(ticket) {
            Outcome::Done(block) => block,
            other @ (Outcome::Failed(_) | Outcome::NotRun | Outcome::Lost | Outcome::Refused) => {
                panic!("{shown}: {other:?}")
            }
        }
    }

    fn output_of(&mut self, pane: PaneId, len: usize) -> Vec<u8> {
        self.wait_for(|events| {
            let bytes: Vec<u8> = events.iter().flat_map(|event| bytes_of(event, pane)).copied().collect();
            (bytes.len() >= len).then_some(bytes)
        })
    }
}

impl Drop for Tmux {
    fn drop(&mut self) {
        drop(self.input.take());
        process(&self.home).args(["kill-server"]).output().unwrap();
        self.child.wait().unwrap();
    }
}

/// tmux on a socket and with a home of its own.
fn process(home: &tempfile::TempDir) -> Process {
    let mut process = Process::new("tmux");
    process.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", home.path());
    process.env("TMUX_TMPDIR", home.path()).env("TERM", "xterm-256color").args(["-f", "/dev/null"]);
    process
}

/// Reads on a thread of its own; an empty piece is the end.
fn reader(mut output: ChildStdout) -> Receiver<Vec<u8>> {
    let (sender, pieces) = channel();
    thread::spawn(move || {
        loop {
            let mut piece = vec![0; 4096];
            let len = output.read(&mut piece).unwrap();
            piece.truncate(len);
            if sender.send(piece).is_err() || len == 0 {
                return;
            }
        }
    });
    pieces
}

fn bytes_of(event: &Event, of: PaneId) -> &[u8] {
    match event {
        Event::Output { pane, bytes, .. } if *pane == of => bytes,
        Event::Output { .. }
        | Event::Notification(_)
        | Event::Reply { .. }
        | Event::Block(_)
        | Event::Unparsed(_)
        | Event::Closed => &[],
    }
}

fn lines(block: &Block) -> Vec<String> {
    block.lines().map(|line| String::from_utf8(line.to_vec()).unwrap()).collect()
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn new_window(tmux: &mut Tmux, session: SessionId, argv: &[&[u8]]) -> (WindowId, PaneId) {
    let argv = Argv::new(argv.iter().copied()).unwrap();
    let command = Command::NewWindow { session, index: None, name: name("task-x"), argv };
    let made = tmux.make(command);
    assert_eq!(made.session, session);
    (made.window, made.pane)
}

fn base(tmux: &mut Tmux) -> SessionId {
    tmux.wait_for(|events| {
        events.iter().find_map(|event| match event {
            Event::Notification(Notification::SessionChanged { session, .. }) => Some(*session),
            Event::Notification(_)
            | Event::Output { .. }
            | Event::Reply { .. }
            | Event::Block(_)
            | Event::Unparsed(_)
            | Event::Closed => None,
        })
    })
}

fn every_field() -> Vec<Field> {
    use Field::*;
    vec![
        AlternateOn,
        CursorX,
        CursorY,
        HistorySize,
        PaneActive,
        PaneDead,
        PaneDeadSignal,
        PaneDeadStatus,
        PaneHeight,
        PaneId,
        PaneInMode,
        PaneIndex,
        PanePid,
        PaneWidth,
        ServerPid,
        SessionAttached,
        SessionCreated,
        SessionId,
        SessionWindows,
        Version,
        WindowActive,
        WindowHeight,
        WindowId,
        WindowIndex,
        WindowPanes,
        WindowWidth,
        WindowZoomed,
        SessionNameIsKaged,
        SessionNameIs(name("kaged-base")),
        WindowNameIs(name("task-x")),
    ]
}

#[test]
fn tmux_understands_every_command() {
    let mut tmux = Tmux::start();
    let session = base(&mut tmux);
    let (window, pane) = new_window(&mut tmux, session, &[b"cat", b"-"]);
    for option in [
        SessionOption::DestroyUnattachedOff,
        SessionOption::DetachOnDestroyOn,
        SessionOption::HistoryLimit(5000),
        SessionOption::LockAfterTimeNever,
        SessionOption::RenumberWindowsOff,
        SessionOption::UpdateEnvironmentNone,
    ] {
        assert_eq!(tmux.ask(Command::SetSession(session, option)), [""; 0]);
    }
    for option in [
        WindowOption::AggressiveResizeOff,
        WindowOption::AllowRenameOff,
        WindowOption::AlternateScreenOn,
        WindowOption::AutomaticRenameOff,
        WindowOption::MonitorActivityOff,
        WindowOption::MonitorBellOff,
        WindowOption::MonitorSilenceOff,
        WindowOption::RemainOnExitOn,
        WindowOption::RemainOnExitOff,
        WindowOption::SynchronizePanesOff,
    ] {
        assert_eq!(tmux.ask(Command::SetWindow(WindowTarget::Id(window), option)), [""; 0]);
    }
    tmux.ask(Command::ResizeWindow { window: WindowTarget::Id(window), cols: 132, rows: 43 });
    let row = tmux.ask(Command::Display { pane: Some(pane), fields: every_field() });
    let cells: Vec<&str> = row[0].split(' ').collect();
    assert_eq!(cells.len(), every_field().len(), "{row:?}");
    assert_eq!((cells[13], cells[8], cells[9]), ("132", "43", &*pane.to_string()));
    assert_eq!(cells[27..], ["1", "1", "1"]);
    assert_eq!(
        tmux.ask(Command::Display { pane: None, fields: vec![Field::SessionId] }),
        [session.to_string()]
    );
    for flags in [vec![ClientFlag::PauseAfter(5), ClientFlag::IgnoreSize], vec![ClientFlag::Output]] {
        assert_eq!(tmux.ask(Command::SetFlags(flags)), [""; 0]);
    }
    assert_eq!(tmux.ask(Command::LeaveMode(pane)), [""; 0]);
    tmux.ask(Command::KillPane(pane));
    let windows = Command::ListWindows { session: Some(session), fields: vec![Field::WindowPanes] };
    assert_eq!(tmux.ask(windows), ["1"]);
}

#[test]
fn sessions_windows_and_panes_are_listed_and_ended() {
    let mut tmux = Tmux::start();
    let first = base(&mut tmux);
    let argv = Some(Argv::new(["cat", "-"]).unwrap());
    let Made { session, window, pane, .. } = tmux.make(Command::NewSession {
        session: name("kaged-two"),
        window: name("home"),
        cols: 100,
        rows: 30,
        argv,
    });
    let row = |fields: &[&dyn Display]| fields.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let fields = vec![Field::SessionId, Field::SessionNameIs(name("kaged-two")), Field::SessionNameIsKaged];
    let expect = [row(&[&first, &0, &1]), row(&[&session, &1, &1])];
    assert_eq!(tmux.ask(Command::ListSessions(fields)), expect);
    let fields = || vec![Field::WindowId, Field::PaneId, Field::PaneWidth, Field::PaneHeight];
    let expect = [row(&[&window, &pane, &100, &30])];
    for of in [Panes::Session(session), Panes::Window(window)] {
        assert_eq!(tmux.ask(Command::ListPanes { of, fields: fields() }), expect);
    }
    assert_eq!(tmux.ask(Command::ListPanes { of: Panes::Server, fields: fields() }).len(), 2);
    let all = Command::ListWindows { session: None, fields: vec![Field::WindowId] };
    assert_eq!(tmux.ask(all.clone()).len(), 2);
    let (extra, _) = new_window(&mut tmux, session, &[b"cat", b"-"]);
    tmux.ask(Command::KillWindow(extra));
    tmux.ask(Command::KillSession(session));
    assert_eq!(tmux.ask(all).len(), 1);
}

#[test]
fn an_argument_of_any_bytes_reaches_the_program() {
    let mut tmux = Tmux::start();
    let session = base(&mut tmux);
    let nasty: Vec<u8> =
        (1..=255).chain(*b"#(touch PWNED) #S #{pid} $HOME ~ ; \" ' \\ %if -t \r\n").collect();
    let print = b"stty raw; printf %s \"$1\"; exec cat";
    let argv: [&[u8]; 5] = [b"sh", b"-c", print, b"sh", &nasty];
    let (_, pane) = new_window(&mut tmux, session, &argv);
    assert_eq!(tmux.output_of(pane, nasty.len()), nasty);
}

#[test]
fn every_byte_can_be_typed() {
    let mut tmux = Tmux::start();
    let session = base(&mut tmux);
    let (_, pane) = new_window(&mut tmux, session, &[b"sh", b"-c", b"stty raw -echo; echo; exec cat"]);
    assert_eq!(tmux.output_of(pane, 1), b"\n");
    let typed: Vec<u8> = (0..=255).collect();
    for keys in Keys::split(&typed) {
        tmux.ask(Command::SendKeys(pane, keys));
    }
    assert_eq!(tmux.output_of(pane, 257)[1..], typed);
}

#[test]
fn a_sequence_stops_at_its_first_error() {
    let mut tmux = Tmux::start();
    let session = base(&mut tmux);
    let argv = Argv::new(["cat", "-"]).unwrap();
    let at = |index| {
        let argv = argv.clone();
        Command::NewWindow { session, index: Some(index), name: name("task-x"), argv }
    };
    let resize = Command::ResizeWindow { window: WindowTarget::At(session, 7), cols: 90, rows: 20 };
    let good = tmux.client.send_sequence(&[at(7), resize.clone()]);
    let bad = tmux.client.send_sequence(&[at(7), resize, Command::Detach]);
    for ticket in good {
        assert!(matches!(tmux.outcome(ticket), Outcome::Done(_)));
    }
    assert!(matches!(tmux.outcome(bad[0]), Outcome::Failed(block) if !lines(&block).is_empty()));
    assert_eq!(tmux.outcome(bad[1]), Outcome::NotRun);
    assert_eq!(tmux.outcome(bad[2]), Outcome::NotRun);
}

#[test]
fn pausing_and_continuing_are_told() {
    let mut tmux = Tmux::start();
    let session = base(&mut tmux);
    let (_, pane) = new_window(&mut tmux, session, &[b"cat", b"-"]);
    assert_eq!(tmux.ask(Command::PauseOutput(pane)), [""; 0]);
    assert_eq!(tmux.ask(Command::ContinueOutput(pane)), [""; 0]);
    let told = |what: Notification| tmux.seen.contains(&Event::Notification(what));
    assert!(told(Notification::Pause { pane }) && told(Notification::Continue { pane }));
}

#[test]
fn detaching_ends_the_stream_with_an_exit() {
    let mut tmux = Tmux::start();
    base(&mut tmux);
    tmux.client.detach();
    while tmux.turn() {}
    let exit = Event::Notification(Notification::Exit { reason: None });
    assert_eq!(tmux.seen[tmux.seen.len() - 2..], [exit, Event::Closed]);
}
