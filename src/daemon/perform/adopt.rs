//! After a start: taking up what goes on, ending what is over, and waiting for what does not answer yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::find::{Found, FoundRun, recorded_of};
use super::performer::Performer;
use crate::backend::tmux::Scan;
use crate::daemon::input::{Input, Placement, ShimReport};
use crate::daemon::state::{Live, Phase, State};
use crate::journal::{Cause, ExitRecord, Spec};
use crate::lifecycle::{
    self, DeadWindow, Decision, Facts, OnRestart, ProvedShim, Recorded, Run, Server, Shim, WindowName,
};
use crate::model::{BackendKind, ErrorWord, EventKind, Instance, InstanceId, Offset, TimeMs};
use crate::shim::{self, Client, EventStream, Hello};
use crate::store::{Change, Error, NewEvent, Record};

/// How long a shim that did not answer at the start may take at each later try. A stopped one answers when it goes on.
const ANSWERS_LATER_IN: Duration = Duration::from_secs(30);
/// How often it is tried again where no connection is there to wait on: at first, and in the end.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
const TRY_AGAIN_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

impl Performer {
    /// Carries out what was decided about what was found. What is to become of runs goes through the inbox, as ever.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(in crate::daemon) async fn take_up(
        &self,
        state: &mut State,
        found: Found,
    ) -> Result<Vec<Input>, Error> {
        let decisions = lifecycle::decide(&found.facts);
        let Found { runs, recorded, facts, scan } = found;
        let mut runs: HashMap<InstanceId, FoundRun> = runs.into_iter().map(|run| (run.dir.id, run)).collect();
        let mut recorded: HashMap<InstanceId, Record> =
            recorded.into_iter().map(|record| (record.run.instance.id, record)).collect();
        self.repair(&decisions, &mut recorded).await?;
        let scan = Arc::new(scan);
        let mut inputs = Vec::new();
        for decision in decisions {
            tracing::info!(?decision, "found after the start");
            let Some(id) = run_of(&decision) else {
                self.of_no_run(decision, &mut runs).await?;
                continue;
            };
            let Some(record) = recorded.remove(&id) else {
                tracing::error!(?decision, "a decision about a run that is not recorded");
                continue;
            };
            if record.run.instance.state.is_terminal() {
                let over = recorded_of(&record.run.instance);
                self.apart(move |it| async move { it.wait_to_end(over).await });
                continue;
            }
            enter(state, &record);
            let it = Resumed { record, run: runs.remove(&id), scan: scan.clone(), tmux: facts.tmux };
            inputs.extend(self.resume(decision, it).await);
        }
        Ok(inputs)
    }

    /// Records the windows of runs that go on as they are now, before anything else is done with these runs.
    async fn repair(
        &self,
        decisions: &[Decision],
        recorded: &mut HashMap<InstanceId, Record>,
    ) -> Result<(), Error> {
        let mut updates: Vec<Run> = Vec::new();
        for decision in decisions {
            let Decision::Repair(id, window) = decision else { continue };
            if let Some(record) = recorded.get_mut(id) {
                set_window(&mut record.run.instance, window.clone());
                updates.push(record.run.clone());
            }
        }
        if updates.is_empty() {
            return Ok(());
        }
        self.shared.store.record(Change { updates, ..Change::default() }).await.map(drop)
    }

    /// What concerns no run that goes on or ends now.
    async fn of_no_run(
        &self,
        decision: Decision,
        runs: &mut HashMap<InstanceId, FoundRun>,
    ) -> Result<(), Error> {
        match decision {
            Decision::OrphanSession(name) => return self.orphan(name).await,
            Decision::OrphanDir(id) => {
                let dir = self.places.dir(id);
                tracing::warn!(dir = %dir.display(), "no run of this directory is recorded; it is left alone");
            }
            Decision::OrphanWindow(id) => {
                tracing::warn!(%id, "no run of this window is recorded, and something lives in it; it is left alone");
            }
            Decision::Discard(dead) => self.let_go(dead.id(), None).await,
            Decision::CloseWindow(dead) => self.apart(move |it| async move { it.close_window(dead).await }),
            Decision::EndShim(shim) => self.end_shim(shim, runs.remove(&shim.id())).await,
            // Done before everything else.
            Decision::Repair(..) => {}
            Decision::Adopt(_)
            | Decision::Finish(..)
            | Decision::Lost { .. }
            | Decision::NeverStarted(_)
            | Decision::Wait(_) => {}
        }
        Ok(())
    }

    async fn resume(&self, decision: Decision, mut it: Resumed) -> Vec<Input> {
        let id = it.record.run.instance.id;
        let shim = |report| vec![Input::Shim { id, report }];
        let exit = it.run.as_mut().and_then(|run| run.record.take());
        let connected = it.run.as_mut().and_then(FoundRun::connected);
        let hello = connected.as_ref().map(|(client, ..)| client.hello().clone());
        let end = hello.as_ref().map_or(Offset(it.record.run.instance.output_bytes), |hello| hello.end);
        let size = hello.as_ref().map_or(it.record.definition.size, |hello| hello.size);
        self.shared.terminals.open(id, end, size);
        if let Some((client, events, spec)) = connected {
            self.hold_again(&it.record.run.instance, (client, events), &spec, &it.scan).await;
        }
        match decision {
            Decision::Adopt(_) => {
                hello.into_iter().flat_map(|hello| goes_on(&it.record.run, &hello)).collect()
            }
            Decision::Finish(..) => exit.map_or_else(
                || shim(ShimReport::Lost(ErrorWord::ShimLost)),
                |exit| shim(ended(exit, it.tmux)),
            ),
            Decision::Lost { word, end, .. } => {
                if end.is_some() {
                    self.stop_tree(id).await;
                }
                shim(ShimReport::Lost(word))
            }
            Decision::NeverStarted(_) => shim(ShimReport::Lost(ErrorWord::SpawnFailed)),
            Decision::Wait(_) => {
                self.apart(move |performer| async move { performer.wait_for(it.record.run).await });
                Vec::new()
            }
            Decision::Repair(..)
            | Decision::EndShim(_)
            | Decision::Discard(_)
            | Decision::CloseWindow(_)
            | Decision::OrphanDir(_)
            | Decision::OrphanWindow(_)
            | Decision::OrphanSession(_) => Vec::new(),
        }
    }

    /// Ties a run's terminal to its shim again, and to its window if that is still there.
    async fn hold_again(&self, instance: &Instance, ends: (Client, EventStream), spec: &Spec, scan: &Scan) {
        let id = instance.id;
        let Some(terminal) = self.shared.terminals.get(id) else { return };
        let window = match (&self.shared.tmux, instance.backend) {
            (Some(tmux), BackendKind::Tmux) => tmux.adopt_window(&instance.project_id, id, scan).await,
            (_, BackendKind::Pty) | (None, BackendKind::Tmux) => None,
        };
        if let Err(error) = self.attach(id, &terminal, ends, &spec.nonce, window).await {
            tracing::error!(%id, %error, "the run's shim could not be taken up");
        }
    }

    /// A shim that may live and does not answer: nothing is decided about its run until it does, or is gone.
    async fn wait_for(&self, mut run: Run) {
        let id = run.instance.id;
        let mut pause = TRY_AGAIN_AFTER;
        let mut found = loop {
            let found = self.look_at(id, Instant::now() + ANSWERS_LATER_IN).await;
            if found.dir.shim != Shim::Silent || found.record.is_some() {
                break found;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(TRY_AGAIN_AT_LEAST_EVERY);
        };
        tracing::info!(%id, shim = ?found.dir.shim, "a shim that did not answer was waited for");
        let (tmux, scan) = self.look_at_tmux().await;
        if let Some((client, events, spec)) = found.connected() {
            let hello = client.hello().clone();
            if let Some(name) = scan.name_of(&run.instance.project_id, id) {
                set_window(&mut run.instance, Some(name));
            }
            self.hold_again(&run.instance, (client, events), &spec, &scan).await;
            if found.record.is_none() {
                for input in goes_on(&run, &hello) {
                    self.wake(input).await;
                }
                return;
            }
        }
        let lost = ShimReport::Lost(ErrorWord::ShimLost);
        let report = found.record.take().map_or(lost, |record| ended(record, tmux));
        self.wake(Input::Shim { id, report }).await;
    }

    /// A shim that may live and does not answer, of a run that is over: it is let go as soon as it answers, or its directory when it is gone.
    async fn wait_to_end(&self, run: Recorded) {
        let mut pause = TRY_AGAIN_AFTER;
        loop {
            let found = self.look_at(run.id, Instant::now() + ANSWERS_LATER_IN).await;
            let facts = Facts {
                recorded: vec![run.clone()],
                dirs: vec![found.dir],
                sessions: Vec::new(),
                windows: Vec::new(),
                tmux: Server::Unknown,
                on_restart: OnRestart::Reattach,
            };
            match lifecycle::decide(&facts).pop() {
                Some(Decision::EndShim(shim)) => return self.end_shim(shim, Some(found)).await,
                Some(Decision::Discard(dead)) => return self.let_go(dead.id(), None).await,
                Some(_) | None => tokio::time::sleep(pause).await,
            }
            pause = (pause * 2).min(TRY_AGAIN_AT_LEAST_EVERY);
        }
    }

    /// The run is over, its shim is not: let it go.
    async fn end_shim(&self, shim: ProvedShim, run: Option<FoundRun>) {
        let id = shim.id();
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

    async fn close_window(&self, dead: DeadWindow) {
        let Some(tmux) = &self.shared.tmux else { return };
        if let Err(error) = tmux.kill_window(dead.id()).await {
            tracing::warn!(id = %dead.id(), %error, "the window of a run that is gone could not be closed");
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

/// A recorded run, and what was found of it and around it.
struct Resumed {
    record: Record,
    run: Option<FoundRun>,
    scan: Arc<Scan>,
    tmux: Server,
}

fn set_window(instance: &mut Instance, window: Option<WindowName>) {
    (instance.tmux_session, instance.tmux_window) = window.unzip();
}

/// What the orchestrator is told of a run whose shim was found alive.
fn goes_on(run: &Run, hello: &Hello) -> Option<Input> {
    let instance = &run.instance;
    let id = instance.id;
    if hello.phase == shim::Phase::Waiting {
        let window = instance.tmux_session.clone().zip(instance.tmux_window.clone());
        return Some(Input::Spawned { id, result: Ok(Placement { backend: instance.backend, window }) });
    }
    let is_news = run.stop.is_some() || instance.pid != hello.pid;
    hello.pid.filter(|_| is_news).map(|pid| Input::Shim { id, report: ShimReport::Found { pid } })
}

/// An end that nobody saw. A window that closed with no server left went with the server.
fn ended(exit: ExitRecord, tmux: Server) -> ShimReport {
    if exit.cause == Cause::WindowClosed && tmux == Server::Down {
        ShimReport::TmuxGone(Box::new(exit))
    } else {
        ShimReport::Ended(Box::new(exit))
    }
}

/// The run whose fate a decision is.
const fn run_of(decision: &Decision) -> Option<InstanceId> {
    match decision {
        Decision::Adopt(id)
        | Decision::Finish(id, _)
        | Decision::Lost { id, .. }
        | Decision::NeverStarted(id)
        | Decision::Wait(id) => Some(*id),
        Decision::Repair(..)
        | Decision::EndShim(_)
        | Decision::Discard(_)
        | Decision::CloseWindow(_)
        | Decision::OrphanDir(_)
        | Decision::OrphanWindow(_)
        | Decision::OrphanSession(_) => None,
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
