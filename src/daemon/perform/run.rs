//! One run's actor: records it, starts it, stores its end.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::performer::Performer;
use crate::broker::Ended;
use crate::daemon::effect::RunEffect;
use crate::daemon::ended::StoredHistory;
use crate::daemon::input::{Input, Plan};
use crate::daemon::refusal::{Code, Refusal};
use crate::journal::ExitRecord;
use crate::lifecycle::Run;
use crate::model::{Exit, Instance, InstanceId, Offset};
use crate::store::{Change, Earlier, IdempotencyKey, NewEvent, Record};

impl Performer {
    pub(super) async fn act(self, id: InstanceId, mut mailbox: mpsc::Receiver<RunEffect>) {
        while let Some(effect) = mailbox.recv().await {
            match effect {
                RunEffect::RecordLaunch { instance, plan } => self.record_launch(instance, plan).await,
                RunEffect::RecordChange { run, events } => self.record_change(run, events).await,
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
                    return self.let_go(id, terminal).await;
                }
                RunEffect::Leave => {
                    let dir = self.places.dir(id);
                    tracing::error!(%id, dir = %dir.display(), "the run's end was not stored; its directory stays for the next start");
                    drop(self.shared.terminals.close(id));
                    self.runs.remove(&id);
                    return;
                }
            }
        }
    }

    /// Writes the row, and makes the terminal before anybody is told, so that a viewer who comes at once finds it.
    async fn record_launch(&self, instance: Instance, plan: Plan) {
        let id = instance.id;
        let operator = instance.launched_by.clone();
        let key = plan.idempotency_key.clone().map(|key| IdempotencyKey { operator, key });
        let size = plan.definition.size;
        let record = Record { run: Run::new(instance), definition: plan.definition };
        let result = match self.shared.store.insert(record, key).await {
            Ok(None) => {
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
        let change = Change { updates: vec![run], events, ..Change::default() };
        if let Err(error) = self.write(change).await {
            tracing::error!(%id, %error, "a change of the run was not recorded");
        }
    }

    /// Stores the end: row, transcript and events in one transaction; then the terminal ends and the shim may go.
    async fn finish(
        &self,
        mut run: Run,
        record: Option<ExitRecord>,
        events: Vec<NewEvent>,
    ) -> Result<(), Refusal> {
        let id = run.instance.id;
        let dir = self.places.dir(id);
        let transcript = super::transcript::read(dir).await.map_err(|error| {
            Refusal::new(Code::Unavailable, format!("the journal cannot be read: {error}")).reason("journal")
        })?;
        if let Some(kept) = &transcript {
            let end = kept.start.after(kept.bytes.len()).0;
            run.instance.output_bytes = record.as_ref().map_or(end, |record| record.total_bytes);
        }
        let instance = run.instance.clone();
        let total = Offset(instance.output_bytes);
        let transcripts: Vec<_> = transcript.into_iter().map(|kept| (id, kept)).collect();
        let stored = transcripts.first().map(|(_, kept)| Arc::new(StoredHistory::new(kept.clone())));
        self.write(Change { updates: vec![run], transcripts, events, deletes: Vec::new() }).await?;
        self.shared.metrics.count_end(instance.state);
        self.shared.metrics.output_bytes.add(total.0);
        if let Some(terminal) = self.shared.terminals.get(id) {
            if let Some(stored) = stored {
                terminal.history.move_to(stored);
            }
            terminal.channel.extend_to(total);
            terminal.channel.end(ended(&instance));
        }
        Ok(())
    }
}

/// How a run's terminal ended, for its viewers.
pub(crate) fn ended(instance: &Instance) -> Ended {
    Ended {
        state: instance.state,
        exit_code: instance.exit.map(Exit::code),
        signal: instance.exit.and_then(Exit::signal_name),
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
