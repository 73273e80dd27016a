//! One run's actor: records it, starts it, stores its end.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;
use tokio::sync::mpsc;

use super::performer::Performer;
use super::transcript::missing_of;
use crate::broker::Ended;
use crate::daemon::effect::RunEffect;
use crate::daemon::ended::StoredHistory;
use crate::daemon::input::{Input, Plan, SpawnFailure};
use crate::daemon::refusal::{Code, Refusal};
use crate::failpoint::{Failpoint, hit};
use crate::journal::ExitRecord;
use crate::lifecycle::Run;
use crate::model::{Instance, InstanceId, Offset, RunState};
use crate::store::{Change, Earlier, IdempotencyKey, NewEvent, Record};

/// One thing that a run's actor is to do.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "one at a time is moved from a queue that is almost always empty"
)]
pub(in crate::daemon) enum Order {
    /// An effect on it.
    Do(RunEffect),
    /// End its process tree.
    StopTree,
}

impl Performer {
    /// Obeys until the run is over. What panics on the way is made good for this run, and touches no other.
    pub(super) async fn act(self, id: InstanceId, mut mailbox: mpsc::Receiver<Order>) {
        while let Some(order) = mailbox.recv().await {
            let is_last = matches!(order, Order::Do(RunEffect::Release | RunEffect::Leave));
            let undone = order.clone();
            let obeyed = AssertUnwindSafe(self.obey(id, order)).catch_unwind().await;
            if obeyed.is_err() {
                self.count_panic(&format!("a step of run {id} is made good"));
                self.make_good(id, undone).await;
            }
            if is_last {
                return;
            }
        }
    }

    async fn obey(&self, id: InstanceId, order: Order) {
        let effect = match order {
            Order::Do(effect) => effect,
            Order::StopTree => return self.stop_tree(id).await,
        };
        match effect {
            RunEffect::RecordLaunch { instance, plan } => self.record_launch(instance, plan).await,
            RunEffect::RecordChange { run, events } => self.record_change(run, events).await,
            RunEffect::Clear { project } => self.clear_away(&project, id).await,
            RunEffect::Spawn { plan, backend } => self.spawn(plan, backend).await,
            RunEffect::OpenGate => self.open_gate(id).await,
            RunEffect::Abort => self.abort(id).await,
            RunEffect::Finish { run, record, events } => {
                let result = self.finish(run, record, events).await;
                self.wake(Input::Finished { id, result }).await;
            }
            RunEffect::Release => {
                let terminal = self.shared.terminals.close(id);
                self.runs.remove(&id);
                self.let_go(id, terminal).await;
            }
            RunEffect::Leave => {
                let dir = self.places.dir(id);
                tracing::error!(%id, dir = %dir.display(), "the run's end was not stored; its directory stays for the next start");
                drop(self.shared.terminals.close(id));
                self.runs.remove(&id);
            }
        }
    }

    /// After a panic: what was asked is done if it was not, and told if it was.
    async fn make_good(&self, id: InstanceId, undone: Order) {
        match undone {
            Order::Do(RunEffect::RecordLaunch { instance, plan }) => {
                self.recorded_after_all(instance, &plan).await;
            }
            Order::Do(RunEffect::Spawn { plan, backend }) => {
                self.abort(id).await;
                self.unplace(&plan, backend);
                let message = "the daemon met a fault of its own while it started the run".to_owned();
                self.wake(Input::Spawned { id, result: Err(SpawnFailure { backend, message }) }).await;
            }
            // Ignored by a shim whose gate is open; the others leave, and their runs never started.
            Order::Do(RunEffect::OpenGate | RunEffect::Abort) => self.abort(id).await,
            Order::Do(RunEffect::Finish { run, record, events }) => {
                let result = self.finished_after_all(run, record, events).await;
                self.wake(Input::Finished { id, result }).await;
            }
            Order::StopTree => self.stop_tree(id).await,
            Order::Do(RunEffect::Clear { project }) => self.clear_away(&project, id).await,
            Order::Do(RunEffect::Release) => self.let_go(id, None).await,
            // The row is written whole with the next change; what could not be stored is left where it is.
            Order::Do(RunEffect::RecordChange { .. } | RunEffect::Leave) => {}
        }
    }

    async fn recorded_after_all(&self, instance: Instance, plan: &Plan) {
        let id = instance.id;
        let result = match self.shared.store.run(id).await {
            Ok(Some(_)) => {
                self.shared.terminals.open(id, Offset(0), plan.definition.size);
                Ok(None)
            }
            Ok(None) => Err(Refusal::new(
                Code::Internal,
                "The launch met a fault of the daemon's own; nothing was started.",
            )),
            Err(error) => Err(error.into()),
        };
        self.wake(Input::Recorded { id, result }).await;
    }

    async fn finished_after_all(
        &self,
        run: Run,
        record: Option<ExitRecord>,
        events: Vec<NewEvent>,
    ) -> Result<(), Refusal> {
        let id = run.instance.id;
        if let Some(known) = self.shared.store.run(id).await?
            && known.run.instance.state.is_terminal()
        {
            self.end_terminal(&known.run.instance);
            return Ok(());
        }
        let again = AssertUnwindSafe(self.finish(run, record, events)).catch_unwind().await;
        again.unwrap_or_else(|_| Err(Refusal::new(Code::Internal, "The end of the run could not be stored.")))
    }

    /// Writes the row, and makes the terminal before the launch is answered, so that a viewer that comes at once finds it.
    async fn record_launch(&self, instance: Instance, plan: Plan) {
        let id = instance.id;
        let operator = instance.launched_by.clone();
        let key = plan.idempotency_key.clone().map(|key| IdempotencyKey { operator, key });
        let size = plan.definition.size;
        hit(Failpoint::LaunchRecording);
        let boot_id = Some(self.places.boot_id.clone());
        let record = Record { run: Run::new(instance), definition: plan.definition, boot_id };
        let result = match self.shared.store.insert(record, key).await {
            Ok(None) => {
                hit(Failpoint::LaunchRecorded);
                self.shared.metrics.launches.inc();
                self.shared.terminals.open(id, Offset(0), size);
                Ok(None)
            }
            Ok(Some(earlier)) => earlier_run(earlier).map(Some),
            Err(error) => Err(error.into()),
        };
        let recorded = matches!(result, Ok(None));
        self.wake(Input::Recorded { id, result }).await;
        if !recorded {
            self.runs.remove(&id);
        }
    }

    async fn record_change(&self, run: Run, events: Vec<NewEvent>) {
        let id = run.instance.id;
        let is_stop = run.stop.is_some();
        let recorded = match run.instance.state {
            _ if is_stop => Failpoint::StopRecorded,
            RunState::Starting => Failpoint::PlaceRecorded,
            RunState::Running | RunState::Done | RunState::Failed | RunState::Stopped => {
                Failpoint::StartRecorded
            }
        };
        if is_stop {
            hit(Failpoint::StopRecording);
        }
        let change = Change { updates: vec![run], events, ..Change::default() };
        if let Err(error) = self.write(change).await {
            tracing::error!(%id, %error, "a change of the run was not recorded");
        }
        hit(recorded);
    }

    /// Stores the end: row, transcript and events in one transaction; then the terminal ends and the shim may go.
    async fn finish(
        &self,
        mut run: Run,
        record: Option<ExitRecord>,
        events: Vec<NewEvent>,
    ) -> Result<(), Refusal> {
        let id = run.instance.id;
        let (read, _place) = self.read_output(id).await;
        hit(Failpoint::TranscriptRead);
        let unread = read.as_ref().err().map(ToString::to_string);
        let (transcript, missing) = read.unwrap_or_default().unzip();
        let mut missing = missing.unwrap_or_default();
        if let Some(kept) = &transcript {
            let end = kept.start.after(kept.bytes.len());
            run.instance.output_bytes = record.as_ref().map_or(end.0, |record| record.total_bytes);
            missing = missing_of(kept, missing, Offset(run.instance.output_bytes));
        }
        if let (Some(record), Some(_)) = (&record, &unread) {
            run.instance.output_bytes = record.total_bytes;
        }
        let said = |event: NewEvent| match &unread {
            Some(why) => event.detail("output_unread", why.as_str()),
            None => with_missing(event, &missing),
        };
        let events = events.into_iter().map(said).collect();
        let instance = run.instance.clone();
        let transcripts: Vec<_> = transcript.into_iter().map(|kept| (id, kept)).collect();
        if let Some((_, kept)) = transcripts.first()
            && let Some(terminal) = self.shared.terminals.get(id)
        {
            // Before the end is told: a reader that hears of it gets all of the bytes.
            terminal.history.move_to(Arc::new(StoredHistory::new(kept.clone())));
            terminal.channel.extend_to(Offset(instance.output_bytes));
        }
        if unread.is_some() {
            // Before its end is told, so that it is not taken for a run without output.
            self.shared.unread.insert(id, self.places.dir(id));
        }
        self.write(Change { updates: vec![run], transcripts, events, deletes: Vec::new() }).await?;
        hit(Failpoint::EndRecorded);
        self.shared.metrics.count_end(instance.state);
        self.shared.metrics.output_bytes.add(instance.output_bytes);
        self.end_terminal(&instance);
        Ok(())
    }

    /// Shows a run's end, which is stored, to its viewers.
    fn end_terminal(&self, instance: &Instance) {
        if let Some(terminal) = self.shared.terminals.get(instance.id) {
            terminal.channel.end(ended(instance));
        }
    }
}

/// An event with the bytes that could not be written, if any.
pub(super) fn with_missing(event: NewEvent, missing: &[(Offset, Offset)]) -> NewEvent {
    if missing.is_empty() {
        return event;
    }
    event.detail("missing", missing.iter().map(|(from, to)| vec![from.0, to.0]).collect::<Vec<_>>())
}

/// How a run's terminal ended, for its viewers.
pub(crate) fn ended(instance: &Instance) -> Ended {
    Ended {
        state: instance.state,
        exit_code: instance.exit_code(),
        signal: instance.signal(),
        offset: Offset(instance.output_bytes),
    }
}

/// The first run of a repeated key.
pub(crate) fn earlier_run(earlier: Earlier) -> Result<Instance, Refusal> {
    match earlier {
        Earlier::Run(record) => Ok(record.run.instance),
        Earlier::Deleted(id) => {
            let message = format!("This Idempotency-Key launched instance {id}, which was deleted since.");
            Err(Refusal::new(Code::Gone, message).reason("deleted"))
        }
    }
}
