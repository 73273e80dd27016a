//! What kas asks of tmux. No variant can hold a string that tmux's command or format language would read as anything but itself.

use std::fmt::{self, Display};
use std::str::FromStr;

use super::id::{PaneId, SessionId, WindowId};

/// A command's name that no alias of the operator's changes (`command-alias`, tmux(1)): tmux looks for an alias by the whole name, and takes
/// any unique beginning of a command's name for it. Without their last letter the names of all commands that kas says are unique in tmux
/// 3.2 to 3.7.
#[must_use]
pub fn unaliased(name: &str) -> &str {
    let mut chars = name.chars();
    chars.next_back();
    chars.as_str()
}

/// One command.
///
/// Arguments are ids, numbers, fixed words, [`Name`]s, and the quoted [`Argv`] of a new window; answers are ids, numbers and fixed words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Makes a session with one window of `cols` × `rows`, detached. Answers `$1 @2 %3 PID`.
    NewSession {
        /// The session's name.
        session: Name,
        /// The first window's name.
        window: Name,
        /// Width of its windows, columns.
        cols: u16,
        /// Height of its windows, rows.
        rows: u16,
        /// What runs in the first window; the default shell if `None`.
        argv: Option<Argv>,
    },
    /// Makes a window without selecting it. Answers `$1 @2 %3 PID`.
    NewWindow {
        /// Where.
        session: SessionId,
        /// At this index (an error if it is taken), or at the first free one.
        index: Option<u32>,
        /// The window's name.
        name: Name,
        /// What runs in it, in `/`, without a shell.
        argv: Argv,
    },
    /// Sets an option of one session.
    SetSession(SessionId, SessionOption),
    /// Sets an option of one window.
    SetWindow(WindowTarget, WindowOption),
    /// Gives a window a size of its own, whatever its viewers have. tmux allows 1 to 10 000.
    ResizeWindow {
        /// Which.
        window: WindowTarget,
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// Lets a window's size follow its viewers again, at the next change of theirs.
    FreeSize(WindowTarget),
    /// Ends a window and what runs in it.
    KillWindow(WindowId),
    /// Ends a pane and what runs in it.
    KillPane(PaneId),
    /// Ends a session and its windows.
    KillSession(SessionId),
    /// A line of fields for every session.
    ListSessions(Vec<Field>),
    /// A line of fields for every window, of one session or of all.
    ListWindows {
        /// Of this session; `None` for all.
        session: Option<SessionId>,
        /// What each line holds.
        fields: Vec<Field>,
    },
    /// A line of fields for every pane.
    ListPanes {
        /// Which panes.
        of: Panes,
        /// What each line holds.
        fields: Vec<Field>,
    },
    /// One line of fields, of this pane or of the client's current one.
    Display {
        /// Which pane.
        pane: Option<PaneId>,
        /// What the line holds.
        fields: Vec<Field>,
    },
    /// Types bytes into a pane, unless it is in a mode.
    SendKeys(PaneId, Keys),
    /// Leaves copy mode and the like.
    LeaveMode(PaneId),
    /// Stops the output of a pane to this client; what it writes meanwhile is not sent later.
    PauseOutput(PaneId),
    /// Lets it flow again, from now on.
    ContinueOutput(PaneId),
    /// Sets what this client wants.
    SetFlags(Vec<ClientFlag>),
    /// Lets this client go.
    Detach,
}

/// A window, by its id or where it was put: in one sequence with [`Command::NewWindow`] its id is not known yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowTarget {
    /// By id.
    Id(WindowId),
    /// By session and index.
    At(SessionId, u32),
}

/// Which panes a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Panes {
    /// All of the server.
    Server,
    /// Of one session.
    Session(SessionId),
    /// Of one window.
    Window(WindowId),
}

/// Options of a session that kas needs in one state, whatever the operator's configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the option and value of that name in tmux(1)")]
pub enum SessionOption {
    DestroyUnattachedOff,
    DetachOnDestroyOn,
    HistoryLimit(u32),
    LockAfterTimeNever,
    RenumberWindowsOff,
    UpdateEnvironmentNone,
}

/// Options of a window that kas needs in one state, whatever the operator's configuration says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the option and value of that name in tmux(1)")]
pub enum WindowOption {
    AggressiveResizeOff,
    AllowRenameOff,
    AlternateScreenOn,
    AutomaticRenameOff,
    MonitorActivityOff,
    MonitorBellOff,
    MonitorSilenceOff,
    RemainOnExitOff,
    /// Below tmux 3.3 this kills the server when a pane ends with output queued.
    RemainOnExitOn,
    SynchronizePanesOff,
}

/// What a control client can want. `no-output` can only be left: entering it under output wedges the client below tmux 3.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientFlag {
    /// Does not count for the size of windows.
    IgnoreSize,
    /// Wants output.
    Output,
    /// Output older than this many seconds is thrown away and the pane paused.
    PauseAfter(u32),
}

/// A format that expands to an id, a number or a fixed word, never to text a program can choose.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the format of that name in tmux(1)")]
pub enum Field {
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
    /// `1` if the pane has the user option `@kas-id`: a run lives in it.
    PaneIsKas,
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
    /// `1` if the session's name begins with `kaged-`.
    SessionNameIsKaged,
    /// `1` if the session has this name.
    SessionNameIs(Name),
    /// `1` if the window has this name.
    WindowNameIs(Name),
}

/// Why a text cannot be part of a command.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsafe {
    /// Not a [`Name`].
    #[error("a name is 1 to 200 of a-z, 0-9, '_' and '-', no '-' first: {0:?}")]
    Name(String),
    /// Not an [`Argv`]: tmux gives a single word to a shell, and cannot carry NUL.
    #[error("a window's command needs a program and an argument at least, none with a NUL")]
    Argv,
}

/// The name of a session or window: `[a-z0-9_][a-z0-9_-]{0,199}`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Box<str>);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Name {
    type Err = Unsafe;

    fn from_str(text: &str) -> Result<Self, Unsafe> {
        let is_plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        if (1..=200).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(is_plain) {
            Ok(Self(text.into()))
        } else {
            Err(Unsafe::Name(text.chars().take(80).collect()))
        }
    }
}

impl Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A program and its arguments, two words at least: then tmux runs them without a shell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argv(Vec<Vec<u8>>);

impl Argv {
    /// Any bytes but NUL.
    ///
    /// # Errors
    ///
    /// [`Unsafe::Argv`] for fewer than two words, an empty program, or a NUL.
    pub fn new<W: Into<Vec<u8>>>(words: impl IntoIterator<Item = W>) -> Result<Self, Unsafe> {
        let words: Vec<Vec<u8>> = words.into_iter().map(Into::into).collect();
        let is_sound = words.len() >= 2 && !words[0].is_empty() && words.iter().flatten().all(|&b| b != 0);
        if is_sound { Ok(Self(words)) } else { Err(Unsafe::Argv) }
    }
}

impl Display for Argv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("--")?;
        self.0.iter().try_for_each(|word| write!(f, " {}", Argument(word)))
    }
}

/// Any bytes but NUL as one word of tmux's command language: everything outside `[A-Za-z0-9/._-]` in octal.
///
/// ```abnf
/// argument = DQUOTE *( plain / "\" 3%x30-37 ) DQUOTE
/// plain = ALPHA / DIGIT / "/" / "." / "_" / "-"
/// ```
struct Argument<'a>(&'a [u8]);

impl Display for Argument<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"")?;
        for &byte in self.0 {
            if byte.is_ascii_alphanumeric() || b"/._-".contains(&byte) {
                write!(f, "{}", char::from(byte))?;
            } else {
                write!(f, "\\{byte:03o}")?;
            }
        }
        f.write_str("\"")
    }
}

/// Bytes to type, at most [`Keys::LIMIT_BYTES`]: tmux takes time quadratic in their number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(Vec<u8>);

impl Keys {
    /// How many bytes go into one command.
    pub const LIMIT_BYTES: usize = 64;

    /// Cuts bytes into as many commands as they need.
    pub fn split(bytes: &[u8]) -> impl Iterator<Item = Self> + '_ {
        bytes.chunks(Self::LIMIT_BYTES).map(|chunk| Self(chunk.to_vec()))
    }
}

impl Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, " {byte:02x}"))
    }
}

impl Display for WindowTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(window) => write!(f, "'{window}'"),
            Self::At(session, index) => write!(f, "'{session}:{index}'"),
        }
    }
}

impl Display for SessionOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DestroyUnattachedOff => "destroy-unattached off",
            Self::DetachOnDestroyOn => "detach-on-destroy on",
            Self::HistoryLimit(lines) => return write!(f, "history-limit {lines}"),
            Self::LockAfterTimeNever => "lock-after-time 0",
            Self::RenumberWindowsOff => "renumber-windows off",
            Self::UpdateEnvironmentNone => "update-environment ''",
        })
    }
}

impl Display for WindowOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AggressiveResizeOff => "aggressive-resize off",
            Self::AllowRenameOff => "allow-rename off",
            Self::AlternateScreenOn => "alternate-screen on",
            Self::AutomaticRenameOff => "automatic-rename off",
            Self::MonitorActivityOff => "monitor-activity off",
            Self::MonitorBellOff => "monitor-bell off",
            Self::MonitorSilenceOff => "monitor-silence 0",
            Self::RemainOnExitOff => "remain-on-exit off",
            Self::RemainOnExitOn => "remain-on-exit on",
            Self::SynchronizePanesOff => "synchronize-panes off",
        })
    }
}

impl Display for ClientFlag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IgnoreSize => f.write_str("ignore-size"),
            Self::Output => f.write_str("!no-output"),
            Self::PauseAfter(seconds) => write!(f, "pause-after={seconds}"),
        }
    }
}

impl Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlternateOn => "#{alternate_on}",
            Self::CursorX => "#{cursor_x}",
            Self::CursorY => "#{cursor_y}",
            Self::HistorySize => "#{history_size}",
            Self::PaneActive => "#{pane_active}",
            Self::PaneDead => "#{pane_dead}",
            Self::PaneDeadSignal => "#{pane_dead_signal}",
            Self::PaneDeadStatus => "#{pane_dead_status}",
            Self::PaneHeight => "#{pane_height}",
            Self::PaneId => "#{pane_id}",
            Self::PaneInMode => "#{pane_in_mode}",
            Self::PaneIndex => "#{pane_index}",
            Self::PaneIsKas => "#{?@kas-id,1,0}",
            Self::PanePid => "#{pane_pid}",
            Self::PaneWidth => "#{pane_width}",
            Self::ServerPid => "#{pid}",
            Self::SessionAttached => "#{session_attached}",
            Self::SessionCreated => "#{session_created}",
            Self::SessionId => "#{session_id}",
            Self::SessionWindows => "#{session_windows}",
            Self::Version => "#{version}",
            Self::WindowActive => "#{window_active}",
            Self::WindowHeight => "#{window_height}",
            Self::WindowId => "#{window_id}",
            Self::WindowIndex => "#{window_index}",
            Self::WindowPanes => "#{window_panes}",
            Self::WindowWidth => "#{window_width}",
            Self::WindowZoomed => "#{window_zoomed_flag}",
            Self::SessionNameIsKaged => "#{m:kaged-*,#{session_name}}",
            Self::SessionNameIs(name) => return write!(f, "#{{==:#{{session_name}},{name}}}"),
            Self::WindowNameIs(name) => return write!(f, "#{{==:#{{window_name}},{name}}}"),
        })
    }
}

/// Fields as one quoted format, a space between them.
struct Format<'a>(&'a [Field]);

impl Display for Format<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("'")?;
        for (i, field) in self.0.iter().enumerate() {
            write!(f, "{}{field}", if i == 0 { "" } else { " " })?;
        }
        f.write_str("'")
    }
}

/// What [`Command::NewSession`] and [`Command::NewWindow`] answer.
const NEW: Format<'static> = Format(&[Field::SessionId, Field::WindowId, Field::PaneId, Field::PanePid]);

// The names are as `unaliased` makes them.
impl Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NewSession { session, window, cols, rows, argv } => {
                write!(f, "new-sessio -d -P -F {NEW} -s '{session}' -n '{window}' -x {cols} -y {rows} -c /")?;
                argv.iter().try_for_each(|argv| write!(f, " {argv}"))
            }
            Self::NewWindow { session, index, name, argv } => {
                write!(f, "new-windo -d -P -F {NEW} -t '{session}:")?;
                index.iter().try_for_each(|index| write!(f, "{index}"))?;
                write!(f, "' -n '{name}' -c / {argv}")
            }
            Self::SetSession(session, option) => write!(f, "set-optio -t '{session}' {option}"),
            Self::SetWindow(window, option) => write!(f, "set-optio -w -t {window} {option}"),
            Self::ResizeWindow { window, cols, rows } => {
                write!(f, "resize-windo -t {window} -x {cols} -y {rows}")
            }
            Self::FreeSize(window) => write!(f, "set-optio -u -w -t {window} window-size"),
            Self::KillWindow(window) => write!(f, "kill-windo -t '{window}'"),
            Self::KillPane(pane) => write!(f, "kill-pan -t '{pane}'"),
            Self::KillSession(session) => write!(f, "kill-sessio -t '{session}'"),
            Self::ListSessions(fields) => write!(f, "list-session -F {}", Format(fields)),
            Self::ListWindows { session: None, fields } => write!(f, "list-window -a -F {}", Format(fields)),
            Self::ListWindows { session: Some(session), fields } => {
                write!(f, "list-window -t '{session}' -F {}", Format(fields))
            }
            Self::ListPanes { of, fields } => write!(f, "list-pane {of} -F {}", Format(fields)),
            Self::Display { pane: None, fields } => write!(f, "display-messag -p {}", Format(fields)),
            Self::Display { pane: Some(pane), fields } => {
                write!(f, "display-messag -p -t '{pane}' {}", Format(fields))
            }
            Self::SendKeys(pane, keys) => write!(f, "send-key -t '{pane}' -H{keys}"),
            Self::LeaveMode(pane) => write!(f, "copy-mod -q -t '{pane}'"),
            Self::PauseOutput(pane) => write!(f, "refresh-clien -A '{pane}:pause'"),
            Self::ContinueOutput(pane) => write!(f, "refresh-clien -A '{pane}:continue'"),
            Self::SetFlags(flags) => {
                let flags: Vec<_> = flags.iter().map(ToString::to_string).collect();
                write!(f, "refresh-clien -f '{}'", flags.join(","))
            }
            Self::Detach => f.write_str("detach-clien"),
        }
    }
}

impl Display for Panes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server => f.write_str("-a"),
            Self::Session(session) => write!(f, "-s -t '{session}'"),
            Self::Window(window) => write!(f, "-t '{window}'"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(command: Command, expect: &str) {
        assert_eq!(command.to_string(), expect);
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn commands_as_tmux_reads_them() {
        let argv = Argv::new([&b"/opt/a b/kas"[..], b"shim", b"/x#(y)$z;\"\n\xff"]).unwrap();
        check(
            Command::NewWindow { session: SessionId(1), index: Some(17), name: name("task-a"), argv },
            "new-windo -d -P -F '#{session_id} #{window_id} #{pane_id} #{pane_pid}' -t '$1:17' -n 'task-a' -c / \
             -- \"/opt/a\\040b/kas\" \"shim\" \"/x\\043\\050y\\051\\044z\\073\\042\\012\\377\"",
        );
        check(
            Command::SetWindow(WindowTarget::At(SessionId(1), 17), WindowOption::RemainOnExitOn),
            "set-optio -w -t '$1:17' remain-on-exit on",
        );
        check(
            Command::ListPanes {
                of: Panes::Session(SessionId(2)),
                fields: vec![Field::PaneId, Field::WindowNameIs(name("task-a"))],
            },
            "list-pane -s -t '$2' -F '#{pane_id} #{==:#{window_name},task-a}'",
        );
        check(Command::ContinueOutput(PaneId(3)), "refresh-clien -A '%3:continue'");
        check(
            Command::SetFlags(vec![ClientFlag::PauseAfter(5), ClientFlag::Output]),
            "refresh-clien -f 'pause-after=5,!no-output'",
        );
    }

    #[test]
    fn keys_are_cut_to_size() {
        let bytes: Vec<u8> = (0..=255).collect();
        let commands: Vec<_> =
            Keys::split(&bytes).map(|keys| Command::SendKeys(PaneId(1), keys).to_string()).collect();
        assert_eq!(commands.len(), 4);
        assert!(commands[0].starts_with("send-key -t '%1' -H 00 01 02"));
        assert!(commands[3].ends_with(" fe ff"));
    }

    #[test]
    fn unsafe_texts_cannot_be_built() {
        for bad in ["", "-t", "a b", "a;b", "#(x)", "a'b", "A", "é", "a\nb", "=a", &"a".repeat(201)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        for bad in [&["one"][..], &[], &["", "x"], &["a", "b\0"]] {
            assert_eq!(Argv::new(bad.iter().copied()), Err(Unsafe::Argv), "{bad:?}");
        }
    }
}
