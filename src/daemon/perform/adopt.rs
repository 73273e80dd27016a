//! After a start: taking up what goes on, ending what is over, and waiting for what does not answer yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::find::{Found, FoundRun};
use super::performer::Performer;
use super::salvage;
use crate::backend::BackendError;
use crate::backend::tmux::Scan;
use crate::daemon::changes::same_directory;
use crate::daemon::effect::Effect;
use crate::daemon::ended::JournalHistory;
use crate::daemon::input::{Input, Plan, Reached, ShimReport};
use crate::daemon::resume::{Resume, resume};
use crate::daemon::state::{Live, State};
use crate::failpoint::{Failpoint, hit};
use crate::journal::{self, Spec};
use crate::lifecycle::{self, DeadWindow, Decision, Facts, OnRestart, Run, Server, Shim, WindowName};
use crate::model::{BackendKind, EventKind, Instance, InstanceId, Offset, TimeMs};
use crate::shim::{self, Client, EventStream};
use crate::store::{Change, NewEvent, Record};

/// How long a shim that did not answer at the start may take at each later try. A stopped one answers when it goes on.
const ANSWERS_LATER_IN: Duration = Duration::from_secs(30);
/// How long until it is tried again where there is no connection to wait on: at first, and in the end.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);
const TRY_AGAIN_AT_LEAST_EVERY: Duration = Duration::from_secs(5);

/// What carrying out a decision came to.
enum Carried {
    /// It was; the orchestrator is to be told this.
    Out(Option<Box<Input>>),
    /// Not yet.
    Later,
}

/// What was found around a run.
struct Around<'a> {
    run: Option<FoundRun>,
    scan: &'a Scan,
    tmux: Server,
    /// What was left of the run and has been ended.
    ended: Vec<u32>,
}

impl Performer {
    /// Carries out what was decided about what was found. What is to become of runs goes through the inbox, as ever.
    pub(in crate::daemon) async fn take_up(&self, state: &mut State, found: Found) -> Vec<Input> {
        self.sweep();
        self.keep_only_copies(&found.runs);
        let decisions = lifecycle::decide(&found.facts);
        let Found { runs, recorded, facts, scan } = found;
        let mut runs: HashMap<InstanceId, FoundRun> = runs.into_iter().map(|run| (run.dir.id, run)).collect();
        let mut recorded: HashMap<InstanceId, Record> =
            recorded.into_iter().map(|record| (record.run.instance.id, record)).collect();
        self.repair(&decisions, &mut recorded).await;
        let mut inputs = Vec::new();
        for decision in decisions {
            tracing::info!(?decision, "found after the start");
            hit(Failpoint::TakingUp);
            let id = decision.run();
            match id.and_then(|id| recorded.get(&id)) {
                None => self.of_nobody(decision).await,
                Some(record) => {
                    let id = record.run.instance.id;
                    if !record.run.instance.state.is_terminal() {
                        let begins = matches!(decision, Decision::Begin(_));
                        let live = if begins { Live::due } else { Live::resumed };
                        state.live.insert(id, live(record.run.clone()));
                    }
                    let around =
                        Around { run: runs.remove(&id), scan: &scan, tmux: facts.tmux, ended: Vec::new() };
                    match self.carry_out(&decision, record, around).await {
                        Carried::Out(input) => inputs.extend(input.map(|input| *input)),
                        Carried::Later => {
                            // What is left of a run can be waited for; a shim that may live and does not answer cannot.
                            self.set_silent(id, !matches!(decision, Decision::EndTree(_)));
                            let record = record.clone();
                            self.apart(move |it| async move { it.wait_for(record).await });
                        }
                    }
                }
            }
        }
        inputs
    }

    /// Notes the outputs of ended runs that may be nowhere else, before anything is read or deleted: until it is known better, such a directory
    /// is not taken for one without output.
    fn keep_only_copies(&self, runs: &[FoundRun]) {
        for dir in runs.iter().map(|run| run.dir).filter(|dir| dir.only_copy && dir.output) {
            self.shared.unread.insert(dir.id, self.places.dir(dir.id));
        }
    }

    fn sweep(&self) {
        match journal::sweep(&self.places.instances) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                tracing::warn!(%error, "what was being removed could not be removed; the next start tries again");
            }
            Ok(()) | Err(_) => {}
        }
    }

    /// Records the windows of runs that go on as they are now, before anything else is done with these runs.
    async fn repair(&self, decisions: &[Decision], recorded: &mut HashMap<InstanceId, Record>) {
        let mut updates: Vec<Run> = Vec::new();
        for decision in decisions {
            let Decision::Repair(id, window) = decision else { continue };
            if let Some(record) = recorded.get_mut(id) {
                set_window(&mut record.run.instance, window.clone());
                updates.push(record.run.clone());
            }
        }
        if updates.is_empty() {
            return;
        }
        if let Err(error) = self.shared.store.record(Change { updates, ..Change::default() }).await {
            tracing::error!(%error, "the windows of runs are recorded with the next change of each");
        }
    }

    /// What concerns no recorded run, or is done already.
    async fn of_nobody(&self, decision: Decision) {
        match decision {
            Decision::OrphanSession(name) => self.orphan(name),
            Decision::OrphanDir(id) => {
                let dir = self.places.dir(id);
                tracing::warn!(dir = %dir.display(), "no run of this directory is recorded; it is left alone");
            }
            Decision::OrphanWindow(id) => {
                tracing::warn!(%id, "no run of this window is recorded, and something lives in it; it is left alone");
            }
            Decision::Discard(dead) => self.let_go(dead.id(), None).await,
            Decision::CloseWindow(dead) => self.apart(move |it| async move { it.close_dead(dead).await }),
            Decision::Repair(..)
            | Decision::Adopt(_)
            | Decision::EndTree(_)
            | Decision::Finish(..)
            | Decision::Lost { .. }
            | Decision::Begin(_)
            | Decision::NeverStarted(_)
            | Decision::EndShim(_)
            | Decision::Salvage(_)
            | Decision::Wait(_) => {}
        }
    }

    async fn carry_out(&self, decision: &Decision, record: &Record, around: Around<'_>) -> Carried {
        let instance = &record.run.instance;
        let id = instance.id;
        let (exit, mut connected) =
            around.run.map_or((None, None), |mut run| (run.record.take(), run.connected()));
        let mut reached = None;
        let read_only = connected.as_ref().is_some_and(|(client, ..)| client.is_read_only());
        if !instance.state.is_terminal() {
            self.open_again(record, connected.as_ref());
            if let Some((client, events, spec)) = connected.take() {
                let hello = *client.hello();
                let window = match self.hold_again(instance, (client, events), &spec, around.scan).await {
                    Ok(window) => window,
                    Err(error) => {
                        tracing::warn!(%id, %error, "the run's shim could not be taken up; it is looked at again");
                        return Carried::Later;
                    }
                };
                let at_gate = hello.phase == shim::Phase::Waiting;
                reached = Some(Reached { at_gate, pid: hello.pid, window });
            }
        }
        if matches!(decision, Decision::NeverStarted(_)) {
            self.close_window(&instance.project_id, id);
        }
        if let (true, Some(reached), Decision::Adopt(_) | Decision::Lost { .. }) =
            (read_only, &reached, decision)
        {
            return self.watched(instance, reached).await;
        }
        match resume(decision, &record.run, exit.map(Box::new), reached, around.tmux) {
            Resume::Tell(mut report) => {
                if let (ShimReport::Lost(word, text), Decision::Lost { .. }) = (&mut *report, decision) {
                    *text = self.loss_text(id, *word, &around.ended).await;
                }
                return Carried::Out(Some(Box::new(Input::Shim { id, report: *report })));
            }
            Resume::Begin => return Carried::Out(Some(Box::new(self.begun(record)))),
            Resume::LookAgain => return Carried::Later,
            Resume::EndShim => self.end_shim(id, connected).await,
            Resume::Discard => {
                self.shared.unread.remove(&id);
                self.let_go(id, None).await;
            }
            Resume::Salvage => self.begin_salvage(id, salvage::Shim::Left),
            Resume::Leave => {}
        }
        Carried::Out(None)
    }

    /// A launch that never began, as it was recorded: what the project's file says now has no part in it.
    fn begun(&self, record: &Record) -> Input {
        let instance = &record.run.instance;
        let root = self.shared.view.borrow().projects.get(&instance.project_id).map(|it| it.path.clone());
        let refused = root.and_then(|root| same_directory(&root, &instance.cwd).err());
        let plan = Plan {
            id: instance.id,
            project: instance.project_id.clone(),
            task: instance.task_name.clone(),
            definition: record.definition.clone(),
            history: instance.history,
            restarted_from: instance.restarted_from,
            // A repeated launch is answered from the store.
            idempotency_key: None,
        };
        Input::Begin { plan: Box::new(plan), refused: refused.map(|refusal| refusal.message) }
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
        let terminal = self.shared.terminals.open(instance.id, end, size);
        // What it wrote is there to be read, also while its shim does not answer.
        terminal.history.move_to(Arc::new(JournalHistory::new(&self.places.dir(instance.id))));
    }

    /// Takes up a run whose shim is of another version: it is watched, and not ended whatever was asked. One at its gate cannot be let
    /// go, and is sent away before it ran.
    async fn watched(&self, instance: &Instance, reached: &Reached) -> Carried {
        if reached.at_gate {
            self.abort(instance.id).await;
        }
        let pid = reached.pid.filter(|_| instance.pid.is_none());
        let started = |pid| Input::Shim { id: instance.id, report: ShimReport::Started { pid } };
        Carried::Out(pid.map(|pid| Box::new(started(pid))))
    }

    /// Says, once after a start, that a run can only be watched.
    async fn say_read_only(&self, instance: &Instance, version: u8) {
        let (id, known) = (instance.id, shim::VERSION);
        tracing::warn!(%id, version, known, "the run's shim is of another kas: it can be watched, and nothing else");
        let event = NewEvent::of_run(EventKind::TaskReadOnly, TimeMs::now(), instance, &instance.launched_by)
            .detail("protocol", version);
        if let Err(error) =
            self.shared.store.record(Change { events: vec![event], ..Change::default() }).await
        {
            tracing::warn!(%id, %error, "an event was not recorded");
        }
    }

    /// Ties a run's terminal to its shim again, and to its window if that is still there, which it names.
    async fn hold_again(
        &self,
        instance: &Instance,
        ends: (Client, EventStream),
        spec: &Spec,
        scan: &Scan,
    ) -> Result<Option<WindowName>, BackendError> {
        let id = instance.id;
        let Some(terminal) = self.shared.terminals.get(id) else { return Ok(None) };
        if ends.0.is_read_only() {
            self.say_read_only(instance, ends.0.hello().version).await;
        }
        let window = match (&self.shared.tmux, instance.backend) {
            // Its window cannot be kept in step without asking the shim for marks.
            _ if ends.0.is_read_only() => None,
            (Some(tmux), BackendKind::Tmux) => tmux.adopt_window(&instance.project_id, id, scan).await,
            (_, BackendKind::Pty) | (None, BackendKind::Tmux) => None,
        };
        let names = window.as_ref().map(|it| (it.session_name.clone(), it.window_name.clone()));
        self.attach(id, &terminal, ends, &spec.nonce, window).await?;
        Ok(names)
    }

    /// A shim that may live and does not answer: nothing is decided about its run until it does, or is gone.
    async fn wait_for(self, record: Record) {
        let instance = &record.run.instance;
        let (mut pause, mut ended) = (TRY_AGAIN_AFTER, Vec::new());
        loop {
            let mut run = self.look_at(instance.id, Instant::now() + ANSWERS_LATER_IN).await;
            run.is_to_be_ended(record.run.stop.is_some());
            if let Err(error) =
                self.only_copies(std::slice::from_mut(&mut run), std::slice::from_ref(&record)).await
            {
                tracing::warn!(id = %instance.id, %error, "the store cannot be asked; the run is looked at again");
                tokio::time::sleep(TRY_AGAIN_AT_LEAST_EVERY).await;
                continue;
            }
            if run.dir.shim != Shim::Silent || run.record.is_some() {
                let (tmux, scan) = self.look_at_tmux().await;
                let facts = Facts {
                    recorded: vec![self.recorded_of(&record)],
                    dirs: vec![run.dir],
                    sessions: Vec::new(),
                    windows: Vec::new(),
                    tmux,
                    on_restart: OnRestart::Reattach,
                };
                let Some(decision) = lifecycle::decide(&facts).pop() else { return };
                if let (Decision::EndTree(tree), Some(spec)) = (&decision, &run.spec) {
                    self.set_silent(instance.id, false);
                    ended.extend(self.end_remains(tree.id(), spec.nonce).await);
                    continue;
                }
                let around = Around { run: Some(run), scan: &scan, tmux, ended: ended.clone() };
                match self.carry_out(&decision, &record, around).await {
                    Carried::Later => {}
                    Carried::Out(input) => {
                        self.set_silent(instance.id, false);
                        if let Some(input) = input {
                            self.wake(*input).await;
                        }
                        return;
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(TRY_AGAIN_AT_LEAST_EVERY);
        }
    }

    fn set_silent(&self, id: InstanceId, silent: bool) {
        if let Some(terminal) = self.shared.terminals.get(id) {
            terminal.set_silent(silent);
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

    async fn close_dead(&self, dead: DeadWindow) {
        let Some(tmux) = &self.shared.tmux else { return };
        if let Err(error) = tmux.close_dead_window(dead.id()).await {
            tracing::warn!(id = %dead.id(), %error, "the window of a run that is gone could not be closed");
        }
    }

    fn orphan(&self, name: String) {
        tracing::warn!(
            session = name,
            "task_runner.orphaned_session: no project of this name is registered; it is left alone"
        );
        let event =
            NewEvent::new(EventKind::OrphanedSession, TimeMs::now()).detail("tmux_session_name", name);
        self.start(Effect::RecordEvents(vec![event]));
    }
}

fn set_window(instance: &mut Instance, window: Option<WindowName>) {
    (instance.tmux_session, instance.tmux_window) = window.unzip();
}
