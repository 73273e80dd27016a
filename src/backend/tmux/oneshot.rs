//! Runs the tmux program for one command sequence, with a deadline and its own standard output.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;

use super::settings::Settings;
use crate::backend::BackendError;
use crate::backend::scope::SCOPE_DEADLINE;
use crate::config::limits;
use crate::control::command::unaliased;
use crate::journal::Nonce;

/// How long a sequence may take. A server that starts reads its operator's configuration first.
const DEADLINE: Duration = Duration::from_secs(5);
/// How long a question may take that somebody waits for at the API.
const READ_DEADLINE: Duration = Duration::from_secs(2);
/// The longest answer that is taken; who says more is ended.
const ANSWER_LIMIT_BYTES: u64 = 4 * 1024 * 1024;
/// What is read of a complaint.
const COMPLAINT_LIMIT_BYTES: u64 = 4 * 1024;

/// Why tmux did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// No server runs.
    #[error("no server runs")]
    NoServer,
    /// The session, window or pane is not there.
    #[error("{0}")]
    Missing(String),
    /// It said something else.
    #[error("{0}")]
    Said(String),
    /// Its answer has no end.
    #[error("it says more than {ANSWER_LIMIT_BYTES} bytes")]
    Endless,
    /// It did not answer.
    #[error("no answer within {} s", .0.as_secs())]
    Hangs(Duration),
    /// It could not be started.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Failure> for BackendError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoServer | Failure::Missing(_) => Self::Gone,
            Failure::Said(_) | Failure::Endless => Self::Tmux(failure.to_string()),
            Failure::Hangs(deadline) => Self::TmuxHangs(deadline),
            Failure::Io(error) => Self::Io(error),
        }
    }
}

/// Commands for one process, run by the server without anything between them.
#[derive(Debug, Default)]
pub(super) struct Sequence(Vec<OsString>);

impl Sequence {
    /// Adds a command: its name, then its arguments.
    pub(super) fn then<W: Into<OsString>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        if !self.0.is_empty() {
            self.0.push(";".into());
        }
        let mut words = words.into_iter().map(Into::into);
        self.0.extend(words.next().map(|name: OsString| match name.to_str() {
            Some(name) => unaliased(name).into(),
            None => name,
        }));
        self.0.extend(words);
        self
    }
}

/// A word of any bytes but NUL. tmux takes a `;` at a word's end for the end of a command, unless a backslash is before it.
pub(super) fn word(word: &std::ffi::OsStr) -> OsString {
    use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
    let mut bytes = word.as_bytes().to_vec();
    if bytes.last() == Some(&b';') {
        bytes.insert(bytes.len() - 1, b'\\');
    }
    OsString::from_vec(bytes)
}

/// The program with the scrubbed environment and the words that choose the server.
pub(super) fn program(settings: &Settings) -> io::Result<Command> {
    let exe =
        settings.exe().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "there is no tmux on PATH"))?;
    Ok(of(settings, exe))
}

fn of(settings: &Settings, exe: &Path) -> Command {
    #[expect(clippy::disallowed_methods, reason = "tmux is spoken to by its own program")]
    let mut command = Command::new(exe);
    command.env_clear().envs(settings.env().iter().cloned()).current_dir("/");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Not in the daemon's group, or a ^C typed to the daemon would end it too.
    command.process_group(0).kill_on_drop(true);
    // SAFETY: setrlimit is a plain system call, allowed between fork and exec.
    unsafe { command.pre_exec(limits::restore) };
    command
}

/// What `tmux -V` prints.
pub(super) async fn version(settings: &Settings, deadline: Duration) -> Result<Vec<u8>, Failure> {
    let mut command = program(settings)?;
    command.arg("-V");
    finish(command, deadline).await
}

/// Runs a sequence on a server that runs.
pub(super) async fn ask(settings: &Settings, sequence: Sequence) -> Result<Vec<u8>, Failure> {
    within(DEADLINE, settings, sequence).await
}

/// Runs a sequence that only asks, for somebody who waits.
pub(super) async fn read(settings: &Settings, sequence: Sequence) -> Result<Vec<u8>, Failure> {
    within(READ_DEADLINE, settings, sequence).await
}

async fn within(deadline: Duration, settings: &Settings, sequence: Sequence) -> Result<Vec<u8>, Failure> {
    let mut command = program(settings)?;
    command.arg("-u").arg("-N").args(settings.socket_args()).args(sequence.0);
    finish(command, deadline).await
}

/// Runs a sequence, and starts the server for it if none runs: outside the daemon's unit where there are units.
pub(super) async fn start(settings: &Settings, sequence: Sequence) -> Result<Vec<u8>, Failure> {
    let mut args: Vec<OsString> = vec!["-u".into()];
    args.extend(settings.socket_args());
    if let Some(config) = settings.config_file()? {
        args.extend(["-f".into(), config.into()]);
    }
    args.extend(sequence.0);
    let in_scope = in_scope(settings, &args).await?;
    if let Some(Ok(answer)) = in_scope {
        return Ok(answer);
    }
    let mut command = program(settings)?;
    command.args(args);
    let answer = finish(command, DEADLINE).await?;
    // Where tmux itself says no, it was not for the scope.
    if let Some(Err(failure)) = in_scope {
        settings.scopes().failed("the tmux server", &failure);
    }
    Ok(answer)
}

/// Runs tmux in a scope of its own; `None` where there are no scopes.
async fn in_scope(settings: &Settings, args: &[OsString]) -> io::Result<Option<Result<Vec<u8>, Failure>>> {
    let unit = format!("kas-tmux-{}", &Nonce::random()?.hex()[..8]);
    let (Some((scope, words)), Some(exe)) = (settings.scopes().before(&unit), settings.exe()) else {
        return Ok(None);
    };
    // systemd-run becomes the command (systemd-run(1), `--scope`), with variables that are no business of the server's.
    let mut command = of(settings, scope);
    command.envs(settings.scopes().env().iter().cloned());
    command.args(words).args(["env", "-u", "INVOCATION_ID", "-u", "DBUS_SESSION_BUS_ADDRESS"]);
    command.arg(exe).args(args);
    Ok(Some(finish(command, SCOPE_DEADLINE).await))
}

/// Runs to the end or the deadline; at the deadline the process is killed.
async fn finish(command: Command, deadline: Duration) -> Result<Vec<u8>, Failure> {
    tokio::time::timeout(deadline, run(command)).await.unwrap_or(Err(Failure::Hangs(deadline)))
}

async fn run(mut command: Command) -> Result<Vec<u8>, Failure> {
    let mut child = command.spawn()?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (answer, complaint) =
        tokio::join!(read_all(stdout, ANSWER_LIMIT_BYTES), read_all(stderr, COMPLAINT_LIMIT_BYTES));
    let (answer, complaint) = (answer?, complaint?);
    if answer.len() as u64 == ANSWER_LIMIT_BYTES {
        return Err(Failure::Endless);
    }
    let status = child.wait().await?;
    // So ends a client whose server ends while it is being asked.
    if status.code() == Some(1) && complaint.is_empty() && answer.is_empty() {
        return Err(Failure::NoServer);
    }
    if status.success() { Ok(answer) } else { Err(understood(&complaint, status)) }
}

async fn read_all(pipe: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(limit).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

/// What a complaint means. The texts are the same in tmux 3.2 to 3.7.
fn understood(complaint: &[u8], status: std::process::ExitStatus) -> Failure {
    let text = String::from_utf8_lossy(complaint).trim().to_owned();
    let is_connect_error = text.starts_with("error connecting to ")
        && (text.ends_with("(No such file or directory)") || text.ends_with("(Connection refused)"));
    let is_lost = ["server exited", "lost server"].iter().any(|end| text.contains(end));
    if text.starts_with("no server running") || is_connect_error || is_lost {
        Failure::NoServer
    } else if ["can't find ", "no such ", "no current "].iter().any(|start| text.starts_with(start)) {
        Failure::Missing(text)
    } else if text.is_empty() {
        Failure::Said(format!("it ended without a word ({status})"))
    } else {
        Failure::Said(text)
    }
}
