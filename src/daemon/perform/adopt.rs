//! After a start: what is recorded, what is found, and taking up what goes on.

use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use super::performer::Performer;
use super::run::Order;
use crate::backend::tmux::FoundSession;
use crate::daemon::input::{Input, Placement, ShimReport};
use crate::daemon::state::{Live, Phase, State};
use crate::failpoint::{Failpoint, hit};
use crate::journal::{self, Cause, Ending, ExitRecord, RecordError, Spec};
use crate::lifecycle::{self, Decision, EndRecord, Facts, FoundDir, OnRestart, Recorded, Shim};
use crate::model::{BackendKind, ErrorWord, EventKind, Exit, Instance, InstanceId, TimeMs};
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
        // A record that cannot be read now may be there: nothing is decided about its run until it can.
        let mut unread = false;
        let mut readable = |what: &str, error: &RecordError| {
            tracing::warn!(%id, "{what} cannot be read: {error}");
            unread |= may_pass(error);
        };
        let spec = Spec::read(&path).inspect_err(|error| readable("the spec", error)).ok();
        let record =
            ExitRecord::read(&path).inspect_err(|error| readable("the exit record", error)).ok().flatten();
        if unread {
            let dir = FoundDir { id, end: None, shim: Shim::Silent, same_boot: true, ran: true };
            return FoundRun { dir, spec: None, record: None, connection: None };
        }
        let same_boot = spec.as_ref().is_some_and(|spec| spec.boot_id == self.places.boot_id);
        let mut found = FoundRun {
            dir: FoundDir {
                id,
                end: record.as_ref().and_then(end_of),
                shim: Shim::Gone,
                same_boot,
                ran: ran(&path),
            },
            spec,
            record,
            connection: None,
        };
        if same_boot {
            self.reach(&path, &mut found).await;
        }
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
            Err(ClientError::Ended(record)) => {
                found.dir.end = end_of(&record);
                found.record = Some(*record);
            }
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
                (Decision::Discard(id), _) => self.let_go(id, None).await,
                (Decision::EndShim(id), _) => self.end_shim(id, run).await,
                (decision, Some(record)) => {
                    enter(state, record);
                    inputs.extend(self.resume(decision, record, run, facts.tmux_up).await);
                }
                (decision, None) => tracing::error!(?decision, "a decision about a run that is not recorded"),
            }
        }
        Ok(inputs)
    }

    async fn resume(
        &self,
        decision: Decision,
        record: &Record,
        run: Option<FoundRun>,
        tmux_up: bool,
    ) -> Vec<Input> {
        let instance = &record.run.instance;
        let id = instance.id;
        let shim = |report| vec![Input::Shim { id, report }];
        let (exit, connected) = run.map_or((None, None), |mut run| (run.record.take(), run.connected()));
        let end =
            connected.as_ref().map_or(crate::model::Offset(instance.output_bytes), |it| it.0.hello().end);
        let size = connected.as_ref().map_or(record.definition.size, |it| it.0.hello().size);
        self.shared.terminals.open(id, end, size);
        let phase = connected.as_ref().map(|it| (it.0.hello().phase, it.0.hello().pid));
        let read_only = connected.as_ref().is_some_and(|it| it.0.is_read_only());
        if let Some((client, events, spec)) = connected {
            self.hold_again(instance, (client, events), &spec).await;
        }
        match decision {
            Decision::Adopt(_) | Decision::Lost { end_shim: true, .. } if read_only => {
                self.watched(record, phase).await
            }
            Decision::Adopt(_) => self.adopted(record, phase),
            Decision::Finish(..) => match exit {
                // Nobody saw the window close; with no server left it went with the server.
                Some(exit) if exit.cause == Cause::WindowClosed && !tmux_up => {
                    shim(ShimReport::TmuxGone(Box::new(exit)))
                }
                Some(exit) => shim(ShimReport::Ended(Box::new(exit))),
                None => shim(ShimReport::Lost(ErrorWord::ShimLost)),
            },
            Decision::Lost { word, end_shim, .. } => {
                if end_shim {
                    self.stop_tree(id).await;
                }
                shim(ShimReport::Lost(word))
            }
            Decision::NeverStarted(_) => {
                self.close_window(&instance.project_id, id);
                shim(ShimReport::Lost(ErrorWord::SpawnFailed))
            }
            Decision::Wait(_) => {
                let instance = instance.clone();
                self.apart(move |it| async move { it.wait_for(instance).await });
                Vec::new()
            }
            Decision::EndShim(_)
            | Decision::Discard(_)
            | Decision::OrphanDir(_)
            | Decision::OrphanSession(_) => Vec::new(),
        }
    }

    fn adopted(&self, record: &Record, phase: Option<(shim::Phase, Option<u32>)>) -> Vec<Input> {
        let instance = &record.run.instance;
        let id = instance.id;
        let window = instance.tmux_session.clone().zip(instance.tmux_window.clone());
        match phase {
            Some((shim::Phase::Waiting, _)) => {
                let placement = Placement { backend: instance.backend, window };
                vec![Input::Spawned { id, result: Ok(placement) }]
            }
            Some((_, pid)) => {
                let started = pid.filter(|_| instance.pid.is_none()).map(|pid| ShimReport::Started { pid });
                if record.run.stop.is_some() {
                    self.tell(id, Order::StopTree);
                }
                started.into_iter().map(|report| Input::Shim { id, report }).collect()
            }
            None => Vec::new(),
        }
    }

    /// Takes up a run whose shim is of another version: it is watched, and not ended whatever was asked. One at its gate cannot be let
    /// go, and is sent away before it ran.
    async fn watched(&self, record: &Record, phase: Option<(shim::Phase, Option<u32>)>) -> Vec<Input> {
        let instance = &record.run.instance;
        if let Some((shim::Phase::Waiting, _)) = phase {
            self.abort(instance.id).await;
        }
        let pid = phase.and_then(|(_, pid)| pid).filter(|_| instance.pid.is_none());
        let started = pid.map(|pid| Input::Shim { id: instance.id, report: ShimReport::Started { pid } });
        started.into_iter().collect()
    }

    /// Says, once after a start, that a run can only be watched.
    async fn say_read_only(&self, instance: &Instance, version: u8) {
        let (id, known) = (instance.id, shim::VERSION);
        tracing::warn!(%id, version, known, "the run's holder is of another kas: it can be watched, and nothing else");
        let event = NewEvent::of_run(EventKind::TaskReadOnly, TimeMs::now(), instance, &instance.launched_by)
            .detail("protocol", version);
        if let Err(error) =
            self.shared.store.record(Change { events: vec![event], ..Change::default() }).await
        {
            tracing::warn!(%id, %error, "an event was not recorded");
        }
    }

    /// Ties a run's terminal to its shim again, and to its window if that is still there.
    async fn hold_again(&self, instance: &Instance, ends: (Client, EventStream), spec: &Spec) {
        let id = instance.id;
        let Some(terminal) = self.shared.terminals.get(id) else { return };
        if ends.0.is_read_only() {
            self.say_read_only(instance, ends.0.hello().version).await;
        }
        let window = match (&self.shared.tmux, instance.backend) {
            // Its window cannot be kept in step without asking the shim for marks.
            _ if ends.0.is_read_only() => None,
            (Some(tmux), BackendKind::Tmux) => match tmux.adopt_window(&instance.project_id, id).await {
                Ok(window) => window,
                Err(error) => {
                    tracing::warn!(%id, %error, "the run's window cannot be asked for; it streams from its shim");
                    None
                }
            },
            (_, BackendKind::Pty) | (None, BackendKind::Tmux) => None,
        };
        if let Err(error) = self.attach(id, &terminal, ends, &spec.nonce, window).await {
            tracing::error!(%id, %error, "the run's shim could not be taken up");
        }
    }

    /// A shim that may live and does not answer: nothing is decided about its run until it does, or is gone.
    async fn wait_for(&self, instance: Instance) {
        let id = instance.id;
        loop {
            tokio::time::sleep(TRY_AGAIN_EVERY).await;
            let mut run = self.look_at(id).await;
            if run.dir.shim == Shim::Silent {
                continue;
            }
            let report = match (run.record.take(), run.connected()) {
                (Some(record), _) => ShimReport::Ended(Box::new(record)),
                (None, Some((client, events, spec))) => {
                    let pid = client.hello().pid;
                    self.hold_again(&instance, (client, events), &spec).await;
                    match pid.filter(|_| instance.pid.is_none()) {
                        Some(pid) => ShimReport::Started { pid },
                        None => return,
                    }
                }
                (None, None) => ShimReport::Lost(ErrorWord::ShimLost),
            };
            return self.wake(Input::Shim { id, report }).await;
        }
    }

    /// The run is over, its shim is not: let it go.
    async fn end_shim(&self, id: InstanceId, run: Option<FoundRun>) {
        if let Some((client, mut events, _)) = run.and_then(|mut run| run.connected()) {
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

/// The run is the orchestrator's again.
fn enter(state: &mut State, record: &Record) {
    let live = Live {
        run: record.run.clone(),
        plan: None,
        phase: Phase::Running,
        waiting: Vec::new(),
        also: Vec::new(),
        deleting: Vec::new(),
    };
    state.live.insert(record.run.instance.id, live);
}
