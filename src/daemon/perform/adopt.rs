//! After a start: what is recorded, what is found, and taking up what goes on.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::performer::Performer;
use crate::backend::tmux::FoundSession;
use crate::daemon::input::{Input, Reached};
use crate::daemon::resume::{Resume, resume};
use crate::daemon::state::{Live, State};
use crate::failpoint::{Failpoint, hit};
use crate::journal::{self, Ending, ExitRecord, RecordError, Spec};
use crate::lifecycle::{self, Decision, EndRecord, Facts, FoundDir, OnRestart, Recorded, Shim};
use crate::model::{BackendKind, EventKind, Exit, Instance, InstanceId, Offset, TimeMs};
use crate::shim::{self, Client, ClientError, EventStream};
use crate::store::{Change, Error, NewEvent, Record};

/// How long a shim that should be there may take to answer.
const SHIM_ANSWERS_IN: Duration = Duration::from_millis(1500);
/// How often a shim that may live and does not answer is tried again.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(5);

/// One instance directory, and the connection to its shim if there is one.
pub(super) struct FoundRun {
    dir: FoundDir,
    spec: Option<Spec>,
    record: Option<ExitRecord>,
    connection: Option<(Client, EventStream)>,
}

/// What carrying out a decision came to.
enum Carried {
    /// It was; the orchestrator is to be told this.
    Out(Option<Box<Input>>),
    /// Not yet.
    Later,
}

/// Everything found after a start.
pub(crate) struct Found {
    runs: Vec<FoundRun>,
    recorded: Vec<Record>,
    facts: Facts,
}

impl Found {
    /// The runs whose end was found or is certain.
    #[must_use]
    pub(crate) fn ending(&self) -> Vec<InstanceId> {
        let ends = |decision: Decision| match decision {
            Decision::Finish(id, _) | Decision::Lost { id, .. } | Decision::NeverStarted(id) => Some(id),
            Decision::Adopt(_)
            | Decision::Wait(_)
            | Decision::EndShim(_)
            | Decision::Discard(_)
            | Decision::OrphanDir(_)
            | Decision::OrphanSession(_) => None,
        };
        lifecycle::decide(&self.facts).into_iter().filter_map(ends).collect()
    }
}

impl Performer {
    /// Looks at the store, the instance directories, the shims and tmux. Changes nothing.
    ///
    /// # Errors
    /// When the store or the directory of instances cannot be read.
    pub(in crate::daemon) async fn find(&self, on_restart: OnRestart) -> anyhow::Result<Found> {
        let ids = journal::list(&self.places.instances)?;
        let mut recorded = self.shared.store.live().await?;
        let known = self.shared.store.runs_of(ids.clone()).await?;
        recorded.extend(known.into_iter().filter(|record| record.run.instance.state.is_terminal()));
        let mut runs = Vec::with_capacity(ids.len());
        for id in ids {
            runs.push(self.look_at(id).await);
        }
        let (tmux_up, sessions) = self.sessions().await;
        let facts = Facts {
            recorded: recorded.iter().map(|record| recorded_of(&record.run.instance)).collect(),
            dirs: runs.iter().map(|run| run.dir).collect(),
            sessions,
            tmux_up,
            on_restart,
        };
        Ok(Found { runs, recorded, facts })
    }

    async fn look_at(&self, id: InstanceId) -> FoundRun {
        let path = self.places.dir(id);
        let readable = |what: &str, error: &RecordError| {
            tracing::warn!(%id, "{what} cannot be read: {error}");
            may_pass(error)
        };
        let (spec, mut unread) = match Spec::read(&path) {
            Ok(spec) => (Some(spec), false),
            Err(error) => (None, readable("the spec", &error)),
        };
        let same_boot = spec.as_ref().is_some_and(|spec| spec.boot_id == self.places.boot_id);
        let mut found = FoundRun {
            dir: FoundDir { id, end: None, shim: Shim::Gone, same_boot, ran: ran(&path) },
            spec,
            record: None,
            connection: None,
        };
        if same_boot {
            self.reach(&path, &mut found).await;
        }
        // Read last: a shim that leaves writes it before it goes.
        match ExitRecord::read(&path) {
            Ok(record) => found.record = record.or(found.record),
            Err(error) => unread |= readable("the exit record", &error),
        }
        if unread {
            // What cannot be read now may be there: nothing is decided about its run until it can.
            let dir = FoundDir { id, end: None, shim: Shim::Silent, same_boot: true, ran: true };
            return FoundRun { dir, spec: None, record: None, connection: None };
        }
        found.dir.end = found.record.as_ref().and_then(end_of);
        found
    }

    async fn reach(&self, path: &Path, found: &mut FoundRun) {
        let Some(spec) = &found.spec else { return };
        if !path.join(shim::SOCKET).exists() {
            return;
        }
        match Client::connect(path, &spec.nonce, Instant::now() + SHIM_ANSWERS_IN).await {
            Ok((client, events)) => {
                found.dir.shim = match client.hello().phase {
                    shim::Phase::Waiting => Shim::AtGate,
                    shim::Phase::Running | shim::Phase::Ended => Shim::Live,
                };
                found.connection = Some((client, events));
            }
            Err(ClientError::Unreachable { last, .. }) if nobody_listens(&last) => {}
            Err(ClientError::Ended(record)) => found.record = Some(*record),
            Err(error) => {
                tracing::warn!(dir = %path.display(), %error, "a shim may live and does not answer");
                found.dir.shim = Shim::Silent;
            }
        }
    }

    async fn sessions(&self) -> (bool, Vec<lifecycle::FoundSession>) {
        let Some(tmux) = &self.shared.tmux else { return (false, Vec::new()) };
        let projects = self.shared.view.borrow().projects.clone();
        let registered = |session: &FoundSession| {
            let of = |id: &crate::model::ProjectId| session.name == format!("kaged-{id}");
            projects.keys().any(of)
        };
        match tmux.scan().await {
            Ok(found) => {
                let sessions = found.iter().map(|session| lifecycle::FoundSession {
                    name: session.name.clone(),
                    registered: registered(session),
                });
                (!found.is_empty(), sessions.collect())
            }
            Err(error) => {
                tracing::warn!(%error, "tmux could not be asked for its sessions");
                (false, Vec::new())
            }
        }
    }

    /// Carries out what was decided about what was found. What is to become of runs goes through the inbox, as ever.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(in crate::daemon) async fn take_up(
        &self,
        state: &mut State,
        found: Found,
    ) -> Result<Vec<Input>, Error> {
        let mut inputs = Vec::new();
        let decisions = lifecycle::decide(&found.facts);
        let Found { mut runs, recorded, facts } = found;
        for decision in decisions {
            tracing::info!(?decision, "found after the start");
            hit(Failpoint::TakingUp);
            let id = subject(&decision);
            let at = id.and_then(|id| runs.iter().position(|run| run.dir.id == id));
            let run = at.map(|at| runs.swap_remove(at));
            let record = id.and_then(|id| recorded.iter().find(|record| record.run.instance.id == id));
            match (decision, record) {
                (Decision::OrphanSession(name), _) => self.orphan(name).await?,
                (Decision::OrphanDir(id), _) => {
                    tracing::warn!(dir = %self.places.dir(id).display(), "no run of this directory is recorded; it is left alone");
                }
                (decision, Some(record)) => {
                    if !record.run.instance.state.is_terminal() {
                        state.live.insert(record.run.instance.id, Live::resumed(record.run.clone()));
                    }
                    match self.carry_out(decision, record, run, facts.tmux_up).await {
                        Carried::Out(input) => inputs.extend(input.map(|input| *input)),
                        Carried::Later => {
                            let record = record.clone();
                            self.apart(move |it| async move { it.wait_for(record).await });
                        }
                    }
                }
                (decision, None) => tracing::error!(?decision, "a decision about a run that is not recorded"),
            }
        }
        Ok(inputs)
    }

    async fn carry_out(
        &self,
        decision: Decision,
        record: &Record,
        run: Option<FoundRun>,
        tmux_up: bool,
    ) -> Carried {
        let instance = &record.run.instance;
        let id = instance.id;
        let (exit, mut connected) = run.map_or((None, None), |mut run| (run.record.take(), run.connected()));
        let mut reached = None;
        if !instance.state.is_terminal() {
            self.open_again(record, connected.as_ref());
            if let Some((client, events, spec)) = connected.take() {
                let hello = *client.hello();
                let window = self.hold_again(instance, (client, events), &spec).await;
                let at_gate = hello.phase == shim::Phase::Waiting;
                reached = Some(Reached { at_gate, pid: hello.pid, window });
            }
        }
        if matches!(decision, Decision::NeverStarted(_)) {
            self.close_window(&instance.project_id, id);
        }
        match resume(&decision, &record.run, exit.map(Box::new), reached, tmux_up) {
            Resume::Tell { report, stop_tree } => {
                if stop_tree {
                    self.stop_tree(id).await;
                }
                return Carried::Out(Some(Box::new(Input::Shim { id, report: *report })));
            }
            Resume::LookAgain => return Carried::Later,
            Resume::EndShim => self.end_shim(id, connected).await,
            Resume::Discard => self.let_go(id, None).await,
            Resume::Leave => {}
        }
        Carried::Out(None)
    }

    /// The terminal of a run that goes on, from where its shim is.
    fn open_again(&self, record: &Record, connected: Option<&(Client, EventStream, Spec)>) {
        let instance = &record.run.instance;
        if self.shared.terminals.get(instance.id).is_some() {
            return;
        }
        let hello = connected.map(|(client, ..)| client.hello());
        let end = hello.map_or(Offset(instance.output_bytes), |hello| hello.end);
        let size = hello.map_or(record.definition.size, |hello| hello.size);
        self.shared.terminals.open(instance.id, end, size);
    }

    /// Ties a run's terminal to its shim again, and to its window if that is still there, which it names.
    async fn hold_again(
        &self,
        instance: &Instance,
        ends: (Client, EventStream),
        spec: &Spec,
    ) -> Option<(String, String)> {
        let id = instance.id;
        let terminal = self.shared.terminals.get(id)?;
        let window = match (&self.shared.tmux, instance.backend) {
            (Some(tmux), BackendKind::Tmux) => match tmux.adopt_window(&instance.project_id, id).await {
                Ok(window) => window,
                Err(error) => {
                    tracing::warn!(%id, %error, "the run's window cannot be asked for; it streams from its shim");
                    None
                }
            },
            (_, BackendKind::Pty) | (None, BackendKind::Tmux) => None,
        };
        let names = window.as_ref().map(|it| (it.session_name.clone(), it.window_name.clone()));
        if let Err(error) = self.attach(id, &terminal, ends, &spec.nonce, window).await {
            tracing::error!(%id, %error, "the run's shim could not be taken up");
        }
        names
    }

    /// A shim that may live and does not answer: nothing is decided about its run until it does, or is gone.
    async fn wait_for(self, record: Record) {
        let instance = &record.run.instance;
        loop {
            tokio::time::sleep(TRY_AGAIN_EVERY).await;
            let run = self.look_at(instance.id).await;
            let (tmux_up, _) = self.sessions().await;
            let facts = Facts {
                recorded: vec![recorded_of(instance)],
                dirs: vec![run.dir],
                sessions: Vec::new(),
                tmux_up,
                on_restart: OnRestart::Reattach,
            };
            let Some(decision) = lifecycle::decide(&facts).pop() else { return };
            match self.carry_out(decision, &record, Some(run), tmux_up).await {
                Carried::Later => {}
                Carried::Out(None) => return,
                Carried::Out(Some(input)) => return self.wake(*input).await,
            }
        }
    }

    /// The run is over, its shim is not: let it go.
    async fn end_shim(&self, id: InstanceId, connected: Option<(Client, EventStream, Spec)>) {
        if let Some((client, mut events, _)) = connected {
            let asked = match client.hello().phase {
                shim::Phase::Waiting => client.abort().await,
                shim::Phase::Running => client.stop(false).await,
                shim::Phase::Ended => client.ack().await,
            };
            if let Err(error) = asked {
                tracing::warn!(%id, %error, "a left-over shim could not be told to leave");
            }
            self.apart(move |it| async move {
                while let Ok(Some(_)) = events.next().await {}
                it.let_go(id, None).await;
            });
        }
    }

    async fn orphan(&self, name: String) -> Result<(), Error> {
        tracing::warn!(
            session = name,
            "task_runner.orphaned_session: no project of this name is registered; it is left alone"
        );
        let event =
            NewEvent::new(EventKind::OrphanedSession, TimeMs::now()).detail("tmux_session_name", name);
        self.shared.store.record(Change { events: vec![event], ..Change::default() }).await.map(drop)
    }
}

impl FoundRun {
    fn connected(&mut self) -> Option<(Client, EventStream, Spec)> {
        let (client, events) = self.connection.take()?;
        Some((client, events, self.spec.clone()?))
    }
}

fn recorded_of(instance: &Instance) -> Recorded {
    Recorded { id: instance.id, state: instance.state, backend: instance.backend }
}

/// How the lifecycle's decision sees an end; one without a code counts as an end all the same.
fn end_of(record: &ExitRecord) -> Option<EndRecord> {
    let exit = match record.ending {
        Ending::Exited(exit) => exit,
        Ending::SpawnFailed { .. } | Ending::NeverStarted => Exit::Code(127),
    };
    Some(EndRecord { exit, total: record.total_bytes, at: record.ended_at })
}

/// Whether the command was ever let go: its journal has a segment from then on.
fn ran(dir: &Path) -> bool {
    crate::journal::Reader::new(dir).index().is_ok_and(|index| !index.sizes.is_empty())
}

/// Whether it is the machine that keeps a record from being read: no descriptor, no memory, a disk that fails.
fn may_pass(error: &RecordError) -> bool {
    match error {
        RecordError::Io { source, .. } => source.kind() != std::io::ErrorKind::NotFound,
        RecordError::Invalid { .. } => false,
    }
}

fn nobody_listens(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::NotFound)
}

const fn subject(decision: &Decision) -> Option<InstanceId> {
    match decision {
        Decision::Adopt(id)
        | Decision::Finish(id, _)
        | Decision::Lost { id, .. }
        | Decision::NeverStarted(id)
        | Decision::Wait(id)
        | Decision::EndShim(id)
        | Decision::Discard(id)
        | Decision::OrphanDir(id) => Some(*id),
        Decision::OrphanSession(_) => None,
    }
}
