//! `kas attach`: a run's terminal in this one.

use std::io::IsTerminal as _;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::context::Context;
use super::detach::{Keys, TOLD};
use super::error::Error;
use super::filter::{Filter, Policy};
use super::output::code;
use super::tty::{self, FRESH, Keyboard, Raw};
use crate::client::{End, Mode, Run, Seen, Watch};
use crate::model::RunState;

/// How long a first detach key waits for the second before it goes to the program.
const KEY_WAIT: Duration = Duration::from_secs(1);
/// How long a terminal that is left waits until what was typed in it is taken.
const LEAVE_WITHIN: Duration = Duration::from_secs(1);

/// Use a run's terminal in this one; Ctrl-\ Ctrl-\ leaves it running
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A task's name (its newest run) or a run's id
    #[arg(value_name = "NAME|ID")]
    name: String,
    /// Only look: keys are not sent and the size is not changed
    #[arg(long)]
    view: bool,
}

/// Why the terminal was left.
enum Left {
    Detached,
    /// The terminal went away or a signal said so.
    Told,
    Ended(End),
}

/// Asks the daemon beside each step whether it lives, and not beside all of them: what was typed is told also when it does not.
pub(super) async fn run(args: Args, mut context: Context<'_>) -> Result<u8, Error> {
    if context.global.json || !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let message = "attach needs a terminal; `kas logs -f` shows output elsewhere";
        return Err(Error::usage("no_terminal", message));
    }
    let client = context.client.clone();
    let run = client.beside(context.find_run(&args.name)).await?;
    let mode = match tty::size() {
        Some(size) if !args.view => Mode::Interactive(size),
        _ => Mode::View,
    };
    let watch = client.beside(Watch::open(&client, &run.project, run.id, None, mode)).await?;
    let signals = Signals::new()?;
    let raw = Raw::enter(&format!("{} - {TOLD} leaves it", run.name()))?;
    write!(context.output.err, "kas: attached to {}; {TOLD} leaves it running\r\n", run.name())?;
    let mut session = Session::new(watch, mode);
    let left = client.beside(session.run(signals)).await;
    if matches!(left, Ok(Left::Detached | Left::Told)) {
        // What was just typed is on its way. A program that does not read it has no end.
        timeout(LEAVE_WITHIN, session.watch.until_taken()).await.unwrap_or_default();
    }
    drop(raw);
    writeln!(context.output.err)?;
    let undelivered = session.watch.undelivered();
    if undelivered > 0 {
        let noun = if undelivered == 1 { "byte that was" } else { "bytes that were" };
        context.remark(&format!("{undelivered} {noun} typed may not have reached the program"))?;
    }
    let told = match left? {
        Left::Detached => "detached".to_owned(),
        Left::Told => "detached (this terminal is closing)".to_owned(),
        Left::Ended(end) => {
            let ending = async { Ok::<_, Error>(ending(&run, &end, &context).await) };
            client.beside(ending).await?
        }
    };
    context.remark(&told)?;
    Ok(code::OK)
}

/// How it ended; where there is no code the record says why, unless it is deleted by now.
async fn ending(run: &Run, end: &End, context: &Context<'_>) -> String {
    if end.state == RunState::Failed
        && end.exit_code.is_none()
        && let Ok(json) = context.client.get(&format!("/api/v1/tasks/{}", run.id)).await
        && let Ok(run) = Run::of(json)
    {
        return format!("{} {}", run.name(), super::wait::outcome(&run));
    }
    let how = match (&end.signal, end.exit_code) {
        (Some(signal), _) => format!(" ({signal})"),
        (None, Some(own)) => format!(" (exit code {own})"),
        (None, None) => String::new(),
    };
    format!("{} {}{how}", run.name(), end.state)
}

struct Signals {
    resized: Signal,
    terminate: Signal,
    hangup: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            resized: signal(SignalKind::window_change())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

struct Session {
    watch: Watch,
    interactive: bool,
    filter: Filter,
    keys: Keys,
    /// The daemon is, and a notice stands on the screen.
    away: bool,
}

impl Session {
    fn new(watch: Watch, mode: Mode) -> Self {
        // The shim or tmux answers the program's questions, so this terminal gets none to answer.
        let filter = Filter::new(Policy::Mute);
        Self {
            watch,
            interactive: matches!(mode, Mode::Interactive(_)),
            filter,
            keys: Keys::default(),
            away: false,
        }
    }

    async fn run(&mut self, mut signals: Signals) -> Result<Left, Error> {
        let (keyboard, mut typed) = (Keyboard::open()?, [0; 8192]);
        loop {
            let waiting = self.keys.is_waiting();
            tokio::select! {
                seen = self.watch.next() => {
                    if let Some(end) = self.show(seen?).await? {
                        return Ok(Left::Ended(end));
                    }
                }
                count = keyboard.read(&mut typed) => match count? {
                    0 => return Ok(Left::Told),
                    count if self.typed(&typed[..count]).await? => return Ok(Left::Detached),
                    _ => {}
                },
                () = sleep(KEY_WAIT), if waiting => {
                    let key = self.keys.give_up();
                    self.send(key).await?;
                }
                _ = signals.resized.recv() => self.resize().await?,
                _ = signals.terminate.recv() => return Ok(Left::Told),
                _ = signals.hangup.recv() => return Ok(Left::Told),
                _ = signals.interrupt.recv() => return Ok(Left::Told),
            }
        }
    }

    /// Shows what was seen; the end is given back.
    async fn show(&mut self, seen: Seen) -> Result<Option<End>, Error> {
        match seen {
            Seen::Began { .. } => {
                if std::mem::take(&mut self.away) {
                    self.clear()?;
                }
                self.watch.input(b"").await?;
            }
            Seen::Bytes { bytes, .. } => self.write(&bytes)?,
            Seen::Snapshot(bytes) => {
                self.clear()?;
                self.write(&bytes)?;
            }
            Seen::Gap { .. } | Seen::Size(..) => {}
            Seen::Complaint(_) => tty::write(b"\x07")?,
            Seen::Lost => {
                let typed = match self.watch.forgotten() {
                    0 => String::new(),
                    typed => format!("; {typed} typed bytes may not have arrived"),
                };
                let notice = format!(
                    "\x1b7\x1b[999;1H\x1b[7mkas: the daemon is away; waiting for it{typed}\x1b[0m\x1b8"
                );
                tty::write(notice.as_bytes())?;
                // The notice stands on the screen, so all of it is to be drawn again.
                self.watch.start_over();
                self.away = true;
            }
            Seen::End(end) => return Ok(Some(end)),
        }
        Ok(None)
    }

    /// Makes room for a screen that is drawn anew; what stood there scrolls up and is kept.
    fn clear(&mut self) -> Result<(), Error> {
        self.filter = Filter::new(Policy::Mute);
        let rows = tty::size().map_or(24, |size| size.rows().into());
        Ok(tty::write(&[b"\x1b[999;1H", vec![b'\n'; rows].as_slice(), FRESH].concat())?)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let mut out = Vec::with_capacity(bytes.len());
        self.filter.feed(bytes, &mut out);
        Ok(tty::write(&out)?)
    }

    /// Takes what was typed; true to leave.
    async fn typed(&mut self, bytes: &[u8]) -> Result<bool, Error> {
        let typed = self.keys.feed(bytes);
        self.send(&typed.forward).await?;
        Ok(typed.detach)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.interactive {
            self.watch.input(bytes).await?;
            // Beyond the cap of what waits only the keys that leave are heard.
            if !bytes.is_empty() && !self.watch.takes_input() {
                tty::write(b"\x07")?;
            }
        }
        Ok(())
    }

    async fn resize(&mut self) -> Result<(), Error> {
        if let Some(size) = tty::size().filter(|_| self.interactive) {
            self.watch.resize(size).await?;
        }
        Ok(())
    }
}
