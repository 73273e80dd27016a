//! After a start: what is recorded, and what is there. Looks, and changes nothing.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::performer::Performer;
use crate::backend::tmux::{self, Scan};
use crate::daemon::processes::look;
use crate::daemon::resume::waited_in_vain;
use crate::journal::{self, Cause, Ending, ExitRecord, Nonce, Reader, RecordError, Spec};
use crate::lifecycle::{
    self, Boot, Decision, EndRecord, Facts, FoundDir, FoundSession, FoundWindow, OnRestart, Recorded, Server,
    Shim,
};
use crate::model::{Exit, InstanceId};
use crate::shim::{self, Client, ClientError, EventStream};
use crate::store::{Error, Record};

/// How long a shim may take to answer before the start goes on without it; it is then waited for beside everything else.
const SHIM_ANSWERS_IN: Duration = Duration::from_millis(300);
/// How long the look at all shims may take; those whose turn did not come are waited for as well.
const LOOK_LASTS: Duration = Duration::from_millis(1500);
/// Directories looked at at one time, each with two descriptors at most.
const LOOKS_AT_ONCE: usize = 64;
/// How long the look at tmux may take before the start goes on without it.
const TMUX_ANSWERS_IN: Duration = Duration::from_secs(2);

/// One instance directory, and the connection to its shim if there is one.
pub(super) struct FoundRun {
    pub(super) dir: FoundDir,
    pub(super) spec: Option<Spec>,
    pub(super) record: Option<ExitRecord>,
    connection: Option<(Client, EventStream)>,
}

/// Everything found after a start.
pub(crate) struct Found {
    pub(super) runs: Vec<FoundRun>,
    pub(super) recorded: Vec<Record>,
    pub(super) scan: Scan,
    pub(super) facts: Facts,
}

/// The instances of which a process says that it is the shim; looked up once, when a socket does not answer.
type Running = OnceCell<BTreeSet<InstanceId>>;

impl Found {
    /// The runs whose end was found or is certain.
    #[must_use]
    pub(crate) fn ending(&self) -> Vec<InstanceId> {
        let ends = |decision: Decision| match decision {
            Decision::Finish(id, _) | Decision::Lost { id, end: None, .. } | Decision::NeverStarted(id) => {
                Some(id)
            }
            Decision::Adopt(_)
            | Decision::EndTree(_)
            | Decision::Begin(_)
            | Decision::Lost { end: Some(_), .. }
            | Decision::Wait(_)
            | Decision::Repair(..)
            | Decision::EndShim(_)
            | Decision::Salvage(_)
            | Decision::Discard(_)
            | Decision::CloseWindow(_)
            | Decision::OrphanDir(_)
            | Decision::OrphanWindow(_)
            | Decision::OrphanSession(_) => None,
        };
        lifecycle::decide(&self.facts).into_iter().filter_map(ends).collect()
    }
}

impl FoundRun {
    /// What a command left behind that ended by itself is nobody's to end; what was told to end is, and so is what lost its shim.
    pub(super) fn is_to_be_ended(&mut self, stopped: bool) {
        let by_itself = self.record.as_ref().is_some_and(|record| record.cause == Cause::Itself);
        self.dir.left &= stopped || !by_itself;
    }

    /// The connection, once, where the shim proved itself.
    pub(super) fn connected(&mut self) -> Option<(Client, EventStream, Spec)> {
        let (client, events) = self.connection.take()?;
        Some((client, events, self.spec.clone()?))
    }
}

impl Performer {
    /// Looks at the store, the instance directories, the shims and tmux. Changes nothing.
    ///
    /// # Errors
    /// When the store or the directory of instances cannot be read.
    pub(in crate::daemon) async fn find(&self, on_restart: OnRestart) -> anyhow::Result<Found> {
        let ids = journal::list(&self.places.instances)?;
        let (runs, (tmux, scan)) = tokio::join!(self.look_at_all(&ids), self.look_at_tmux());
        let mut recorded = self.shared.store.live().await?;
        let seen = ids.into_iter().chain(scan.windows.iter().map(|window| window.instance));
        let seen: BTreeSet<InstanceId> = seen.collect();
        let known = self.shared.store.runs_of(seen.into_iter().collect()).await?;
        recorded.extend(known.into_iter().filter(|record| record.run.instance.state.is_terminal()));
        let stopped = |run: &FoundRun| {
            let record = recorded.iter().find(|record| record.run.instance.id == run.dir.id);
            record.is_some_and(|record| record.run.stop.is_some())
        };
        let mut runs = runs;
        for run in &mut runs {
            let stopped = stopped(run);
            run.is_to_be_ended(stopped);
        }
        self.only_copies(&mut runs, &recorded).await?;
        let facts = Facts {
            recorded: recorded.iter().map(|record| self.recorded_of(record)).collect(),
            dirs: runs.iter().map(|run| run.dir).collect(),
            sessions: self.sessions(&scan),
            windows: scan.windows.iter().map(|window| self.window(window, &scan)).collect(),
            tmux,
            on_restart,
        };
        Ok(Found { runs, recorded, scan, facts })
    }

    /// Notes which of the directories of ended runs the store has no transcript of.
    pub(super) async fn only_copies(&self, runs: &mut [FoundRun], recorded: &[Record]) -> Result<(), Error> {
        let over = recorded.iter().map(|record| &record.run.instance).filter(|it| it.state.is_terminal());
        let over: BTreeSet<InstanceId> = over.map(|it| it.id).collect();
        let stored = self.shared.store.with_transcript(over.iter().copied().collect()).await?;
        for run in runs {
            run.dir.only_copy = over.contains(&run.dir.id) && !stored.contains(&run.dir.id);
        }
        Ok(())
    }

    async fn look_at_all(&self, ids: &[InstanceId]) -> Vec<FoundRun> {
        let (running, until) = (Running::new(), Instant::now() + LOOK_LASTS);
        let looks = ids.iter().map(|id| {
            let running = &running;
            async move {
                let patience = until.min(Instant::now() + SHIM_ANSWERS_IN);
                self.look(*id, patience, running).await
            }
        });
        futures_util::stream::iter(looks).buffered(LOOKS_AT_ONCE).collect().await
    }

    /// Looks at one directory; its shim may take until `patience` to answer.
    pub(super) async fn look_at(&self, id: InstanceId, patience: Instant) -> FoundRun {
        self.look(id, patience, &Running::new()).await
    }

    async fn look(&self, id: InstanceId, patience: Instant, running: &Running) -> FoundRun {
        let path = self.places.dir(id);
        let readable = |what: &str, error: &RecordError| {
            tracing::warn!(%id, "{what} cannot be read: {error}");
            may_pass(error)
        };
        let (spec, mut unread) = match Spec::read(&path) {
            Ok(spec) => (Some(spec), false),
            Err(error) => (None, readable("the spec", &error)),
        };
        let boot = match &spec {
            Some(spec) if spec.boot_id == self.places.boot_id => Boot::This,
            Some(_) => Boot::Earlier,
            None => Boot::Unknown,
        };
        let (shim, connection) = match boot {
            Boot::Earlier => (Shim::Gone, None),
            Boot::This | Boot::Unknown => self.reach(id, spec.as_ref(), patience, running).await,
        };
        // Read after the shim was looked for: one that is gone by then has written its record before.
        let record = ExitRecord::read(&path).unwrap_or_else(|error| {
            unread |= readable("the exit record", &error);
            None
        });
        let ran = journal::has_begun(&path).unwrap_or_else(|error| {
            tracing::warn!(%id, "whether it began cannot be told: {error}");
            unread = true;
            true
        });
        let found = FoundDir { id, end: None, shim, boot, ran, output: true, only_copy: false, left: false };
        if unread {
            // What cannot be read now may be there: nothing is decided about its run until it can.
            let dir = FoundDir { shim: Shim::Silent, ran: true, ..found };
            return FoundRun { dir, spec: None, record: None, connection: None };
        }
        let found = FoundDir { output: has_output(&path), ..found };
        let record = record.filter(|record| is_of(record, spec.as_ref(), id));
        if record.as_ref().is_some_and(waited_in_vain) {
            // Its shim has no command and takes none any more: it leaves by itself, or when its directory is taken away.
            let dir = FoundDir { shim: Shim::Gone, ran: false, ..found };
            return FoundRun { dir, spec, record: None, connection: None };
        }
        let end = record.as_ref().map(end_of);
        let left = match (&spec, shim, boot) {
            // A copy of another run's spec proves nothing about this one.
            (Some(spec), Shim::Gone, Boot::This) if spec.id == id => self.is_left(id, spec.nonce).await,
            (_, Shim::Gone | Shim::Silent | Shim::AtGate | Shim::Live, _) => false,
        };
        FoundRun { dir: FoundDir { end, left, ..found }, spec, record, connection }
    }

    /// Whether processes of the run live that no shim holds.
    async fn is_left(&self, id: InstanceId, nonce: Nonce) -> bool {
        look(id, move || shim::Look::recent().has(&nonce, id)).await.unwrap_or_default()
    }

    async fn reach(
        &self,
        id: InstanceId,
        spec: Option<&Spec>,
        patience: Instant,
        running: &Running,
    ) -> (Shim, Option<(Client, EventStream)>) {
        // Without the spec there is no nonce to prove anything with.
        let Some(spec) = spec else { return (self.unless_running(id, running).await, None) };
        match Client::find(&self.places.dir(id), &spec.nonce, patience).await {
            Ok((client, events)) => {
                let shim = match client.hello().phase {
                    shim::Phase::Waiting => Shim::AtGate,
                    shim::Phase::Running | shim::Phase::Ended => Shim::Live,
                };
                (shim, Some((client, events)))
            }
            Err(ClientError::Unreachable { last, .. }) if nobody_listens(&last) => {
                (self.unless_running(id, running).await, None)
            }
            Err(error) => {
                tracing::warn!(%id, %error, "a shim may live and does not answer");
                (Shim::Silent, None)
            }
        }
    }

    /// Gone, unless a process says that it is this shim: it may not listen yet, or its socket was taken away.
    async fn unless_running(&self, id: InstanceId, running: &Running) -> Shim {
        let instances = self.places.instances.clone();
        let look = || async move { tokio::task::spawn_blocking(move || shim::running(&instances)).await };
        let found = running.get_or_try_init(|| async { look().await.map_err(std::io::Error::other)? }).await;
        match found {
            Ok(found) if !found.contains(&id) => Shim::Gone,
            Ok(_) => Shim::Silent,
            Err(error) => {
                tracing::error!(%id, %error, "processes cannot be looked at; the shim may live");
                Shim::Silent
            }
        }
    }

    pub(super) async fn look_at_tmux(&self) -> (Server, Scan) {
        let Some(tmux) = &self.shared.tmux else { return (Server::Down, Scan::default()) };
        let error = match tokio::time::timeout(TMUX_ANSWERS_IN, tmux.scan()).await {
            Ok(Ok(scan)) if scan.is_ours() => return (Server::Up, scan),
            // A server without a session of ours is not the one that held our windows.
            Ok(Ok(scan)) => return (Server::Down, scan),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", TMUX_ANSWERS_IN.as_secs()),
        };
        tracing::warn!(error, "tmux could not be asked what it has; runs in it stream from their shims");
        (Server::Unknown, Scan::default())
    }

    fn sessions(&self, scan: &Scan) -> Vec<FoundSession> {
        let session = |found: &tmux::FoundSession| FoundSession {
            name: found.name.clone(),
            registered: self.is_registered(found),
        };
        scan.sessions.iter().map(session).collect()
    }

    fn window(&self, found: &tmux::FoundWindow, scan: &Scan) -> FoundWindow {
        let home = scan.sessions.iter().find(|session| session.name == found.session_name);
        FoundWindow {
            id: found.instance,
            name: (found.session_name.clone(), found.window_name.clone()),
            live: found.is_live,
            made_here: found.command.contains(&*self.places.dir(found.instance).to_string_lossy()),
            registered: home.is_some_and(|session| self.is_registered(session)),
        }
    }

    /// A run as the decisions see it.
    pub(super) fn recorded_of(&self, record: &Record) -> Recorded {
        let instance = &record.run.instance;
        Recorded {
            id: instance.id,
            state: instance.state,
            backend: instance.backend,
            window: instance.tmux_session.clone().zip(instance.tmux_window.clone()),
            boot: match &record.boot_id {
                Some(boot) if *boot == self.places.boot_id => Boot::This,
                Some(_) => Boot::Earlier,
                None => Boot::Unknown,
            },
        }
    }

    /// By its mark, and where it has none, by its name.
    fn is_registered(&self, session: &tmux::FoundSession) -> bool {
        let name = session.project.as_deref().or_else(|| session.name.strip_prefix("kaged-"));
        self.shared.view.borrow().projects.keys().any(|id| name == Some(id.as_str()))
    }
}

/// Whether a record was left by the shim of this spec; without one, its place says so.
fn is_of(record: &ExitRecord, spec: Option<&Spec>, id: InstanceId) -> bool {
    let own = spec.is_none_or(|spec| spec.nonce == record.nonce);
    if !own {
        tracing::error!(%id, "the exit record is not the one of this run's shim; it is not believed");
    }
    own
}

/// How the lifecycle's decision sees an end; one without a code counts as an end all the same.
fn end_of(record: &ExitRecord) -> EndRecord {
    let exit = match record.ending {
        Ending::Exited(exit) => exit,
        Ending::SpawnFailed { .. } | Ending::NeverStarted => Exit::Code(127),
    };
    EndRecord { exit, total: record.total_bytes, at: record.ended_at }
}

/// Whether there are bytes that the command wrote; what cannot be read may hold some.
fn has_output(dir: &Path) -> bool {
    Reader::new(dir).range().map_or(true, |(_, end)| end.0 > 0)
}

/// Whether it is the machine that keeps a record from being read: no descriptor, no memory, a disk that fails.
fn may_pass(error: &RecordError) -> bool {
    match error {
        RecordError::Io { source, .. } => source.kind() != ErrorKind::NotFound,
        RecordError::Invalid { .. } => false,
    }
}

fn nobody_listens(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionRefused | ErrorKind::NotFound)
}
