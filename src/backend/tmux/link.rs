//! One running control client: its process, its pipes, and who waits for which answer.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Stdio;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use rustix::io::{Errno, FdFlags};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe::{Receiver, Sender};
use tokio::process::Child;

use super::oneshot;
use super::server::ServerId;
use super::settings::Settings;
use crate::config::TmuxOutput;
use crate::control::command::{Field, unaliased};
use crate::control::{Client, Command, Event, Notification, Outcome, SessionId, Ticket};

/// Seconds after which tmux throws away output we have not read; the pane is then paused and we align anew.
const PAUSE_AFTER_S: u32 = 5;
/// Read at once from tmux.
const READ_BYTES: usize = 64 * 1024;

/// Why a control client could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum AttachError {
    /// The session is not there any more.
    #[error("the session is gone")]
    NoSession,
    /// It did not work although the session may be there.
    #[error("{0}")]
    Failed(String),
}

/// How a control client ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    /// In words.
    pub(super) why: String,
    /// tmux said good-bye: the session ended or the server was told to.
    pub(super) is_clean: bool,
}

/// A running control client. `W` stands for what an answer is for.
#[derive(Debug)]
pub(super) struct Link<W> {
    child: Child,
    stdin: Sender,
    stdout: Receiver,
    client: Client,
    outgoing: BytesMut,
    incoming: BytesMut,
    waiting: HashMap<Ticket, W>,
    /// What the last command that failed was told; those after it in its sequence were not run because of it.
    complaint: String,
    exit: Option<End>,
}

/// Something for the owner of the link.
pub(super) enum Told<W> {
    /// An event that is no answer.
    Event(Event),
    /// An answer, or why there is none.
    Answer(W, Result<Bytes, String>),
}

impl<W> Link<W> {
    /// Attaches to a session of a server that runs, and makes sure that it is this server.
    pub(super) async fn attach(
        settings: &Settings,
        server: ServerId,
        session: SessionId,
        deadline: Duration,
    ) -> Result<Self, AttachError> {
        let tried = tokio::time::timeout(deadline, Self::try_attach(settings, server, session)).await;
        tried.unwrap_or_else(|_| {
            Err(AttachError::Failed(format!("no answer within {} s", deadline.as_secs())))
        })
    }

    async fn try_attach(
        settings: &Settings,
        server: ServerId,
        session: SessionId,
    ) -> Result<Self, AttachError> {
        let mut link =
            Self::spawn(settings, session).map_err(|error| AttachError::Failed(error.to_string()))?;
        let who = Command::Display { pane: None, fields: vec![Field::ServerPid, Field::SessionId] };
        let asked = link.client.send(who);
        link.flush();
        loop {
            link.turn().await.map_err(|end| AttachError::Failed(end.why))?;
            while let Some(event) = link.client.poll_event() {
                match event {
                    Event::Reply { ticket, outcome } if ticket == asked => {
                        return link.greeted(&outcome, &format!("{} {session}", server.pid));
                    }
                    Event::Block(block) if !block.ok => return Err(refused(&block.body)),
                    // What panes wrote before is known from their screens and journals.
                    Event::Reply { .. }
                    | Event::Block(_)
                    | Event::Output { .. }
                    | Event::Notification(_)
                    | Event::Unparsed(_)
                    | Event::Closed => {}
                }
            }
        }
    }

    fn spawn(settings: &Settings, session: SessionId) -> io::Result<Self> {
        let mut command = oneshot::program(settings)?;
        let mut flags = format!("pause-after={PAUSE_AFTER_S},ignore-size");
        if settings.output() == TmuxOutput::Shim {
            flags.push_str(",no-output");
        }
        command.args(["-u", "-N"]).args(settings.socket_args()).arg("-C");
        command.args([unaliased("attach-session"), "-E", "-f", &flags, "-t", &session.to_string()]);
        let (its_stdin, stdin) = io::pipe()?;
        let (stdout, its_stdout) = io::pipe()?;
        let held = [above_its_own(&stdin)?, above_its_own(&stdout)?];
        command.stdin(its_stdin).stdout(its_stdout).stderr(Stdio::null());
        // SAFETY: between fork and exec it only makes system calls (prctl, getppid, fcntl): no allocation, no lock.
        unsafe { command.pre_exec(die_together(held)) };
        Ok(Self {
            child: command.spawn()?,
            stdin: Sender::from_owned_fd(stdin.into())?,
            stdout: Receiver::from_owned_fd(stdout.into())?,
            client: Client::new(),
            outgoing: BytesMut::new(),
            incoming: BytesMut::with_capacity(READ_BYTES),
            waiting: HashMap::new(),
            complaint: String::new(),
            exit: None,
        })
    }

    fn greeted(self, outcome: &Outcome, expect: &str) -> Result<Self, AttachError> {
        match outcome {
            Outcome::Done(block) if block.lines().next() == Some(expect.as_bytes()) => Ok(self),
            Outcome::Done(_) => Err(AttachError::Failed("another server or session answered".to_owned())),
            Outcome::Failed(block) => Err(refused(&block.body)),
            Outcome::NotRun | Outcome::Lost | Outcome::Refused => {
                Err(AttachError::Failed("the control client ended at once".to_owned()))
            }
        }
    }

    /// The process id of the client, by which tmux knows it.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Sends commands as one sequence; the last one's answer is the answer.
    pub(super) fn send(&mut self, commands: &[Command], waiter: W) {
        if let Some(&last) = self.client.send_sequence(commands).last() {
            self.waiting.insert(last, waiter);
        }
        self.flush();
    }

    fn flush(&mut self) {
        while let Some(bytes) = self.client.poll_transmit() {
            self.outgoing.extend_from_slice(&bytes);
        }
    }

    /// Moves bytes either way once. May be cancelled without losing any.
    pub(super) async fn turn(&mut self) -> Result<(), End> {
        tokio::select! {
            read = self.stdout.read_buf(&mut self.incoming) => match read {
                Ok(0) => Err(self.ended("its stream ended")),
                Ok(_) => {
                    self.client.handle_input(&self.incoming);
                    self.incoming.clear();
                    Ok(())
                }
                Err(error) => Err(self.ended(&error.to_string())),
            },
            written = self.stdin.write(&self.outgoing), if !self.outgoing.is_empty() => match written {
                Ok(count) => {
                    self.outgoing.advance(count);
                    Ok(())
                }
                // Why it ended is still to be read.
                Err(_) => {
                    self.outgoing.clear();
                    Ok(())
                }
            },
        }
    }

    /// How it ended. What waits for an answer, and what was still to be told, can be taken with [`Link::next`] after this.
    fn ended(&mut self, why: &str) -> End {
        self.client.handle_eof();
        End { why: why.to_owned(), is_clean: false }
    }

    /// The next thing for the owner. Notes a good-bye on the way.
    pub(super) fn next(&mut self) -> Option<Told<W>> {
        while let Some(event) = self.client.poll_event() {
            match event {
                Event::Reply { ticket, outcome } => {
                    let answer = self.answer(outcome);
                    if let Some(waiter) = self.waiting.remove(&ticket) {
                        return Some(Told::Answer(waiter, answer));
                    }
                }
                Event::Notification(Notification::Exit { reason }) => {
                    let why = reason.as_deref().map(|reason| String::from_utf8_lossy(reason).into_owned());
                    let is_clean = why.is_none();
                    self.exit =
                        Some(End { why: why.unwrap_or_else(|| "tmux let it go".to_owned()), is_clean });
                }
                Event::Output { .. }
                | Event::Notification(_)
                | Event::Block(_)
                | Event::Unparsed(_)
                | Event::Closed => return Some(Told::Event(event)),
            }
        }
        None
    }

    /// The good-bye, if there was one.
    pub(super) fn exit(&mut self) -> Option<End> {
        self.exit.take()
    }

    fn answer(&mut self, outcome: Outcome) -> Result<Bytes, String> {
        match outcome {
            Outcome::Done(block) => Ok(block.body),
            Outcome::Failed(block) => {
                self.complaint = String::from_utf8_lossy(&block.body).trim().to_owned();
                Err(self.complaint.clone())
            }
            Outcome::NotRun => Err(self.complaint.clone()),
            Outcome::Lost => Err("the control client ended before the answer".to_owned()),
            Outcome::Refused => Err("too many commands wait for tmux".to_owned()),
        }
    }
}

/// Above every descriptor that tmux opens itself: the kernel closes those of a dead process in order.
const ABOVE_ITS_OWN: i32 = 40;

fn above_its_own(end: &impl AsFd) -> io::Result<OwnedFd> {
    Ok(rustix::io::fcntl_dupfd_cloexec(end, ABOVE_ITS_OWN)?)
}

/// The client dies with the daemon, and holds the daemon's ends of its pipes until then. So the server learns of a killed daemon by its
/// client's death and not by pipes that end: a control client whose output nobody takes any more it keeps for ever, and it ends itself
/// ("not enough data") when a pane writes between such an end and the client's turn (tmux 3.3a, `control_all_done`, `control_append_data`).
///
/// The kernel counts the death of the thread that forked (`PR_SET_PDEATHSIG`); the runtime's live as long as the daemon.
fn die_together(held: [OwnedFd; 2]) -> impl FnMut() -> io::Result<()> {
    let daemon = rustix::process::getpid();
    move || {
        rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
        if rustix::process::getppid() != Some(daemon) {
            return Err(Errno::SRCH.into());
        }
        held.iter().try_for_each(|end| rustix::io::fcntl_setfd(end, FdFlags::empty()))?;
        Ok(())
    }
}

fn refused(body: &[u8]) -> AttachError {
    let text = String::from_utf8_lossy(body).trim().to_owned();
    let is_missing = text.starts_with("can't find session") || text.starts_with("no sessions");
    if is_missing { AttachError::NoSession } else { AttachError::Failed(text) }
}
