//! Deleting ended runs: asked for, or because history keeps no more.

use super::performer::Performer;
use crate::daemon::input::{DeleteTarget, Reply};
use crate::daemon::refusal::{Code, Refusal};
use crate::failpoint::{Failpoint, hit};
use crate::model::{BackendKind, EventKind, Instance, InstanceId, ProjectId, TaskName, TimeMs};
use crate::policy;
use crate::store::{Change, NewEvent};

impl Performer {
    pub(super) async fn delete(&self, target: DeleteTarget) -> Result<Reply, Refusal> {
        match target {
            DeleteTarget::One(id) => {
                let missing = || Refusal::new(Code::NotFound, format!("There is no instance {id}."));
                let record = self.shared.store.run(id).await?.ok_or_else(missing)?;
                self.delete_ended(vec![record.run.instance]).await?;
                Ok(Reply::Done)
            }
            DeleteTarget::Project(project) => {
                let ended = self.shared.store.all_ended(project).await?;
                Ok(Reply::Count(self.delete_ended(ended).await?))
            }
        }
    }

    /// Ends the windows and directories of a project's runs, then deletes records and transcripts, and tells so that lists are looked at
    /// again. A window that cannot be ended keeps its record.
    async fn delete_ended(&self, ended: Vec<Instance>) -> Result<u64, Refusal> {
        ended.iter().try_for_each(must_be_over)?;
        for instance in &ended {
            // Also where no window is recorded: a daemon that died while it made one could not record it.
            if let (Some(tmux), BackendKind::Tmux) = (&self.shared.tmux, instance.backend) {
                tmux.kill_window(&instance.project_id, instance.id).await?;
            }
            hit(Failpoint::WindowClosed);
            // Its shim may not have left yet. A directory that outlived its row would belong to no run; but one that has the only copy of the output
            // goes after the record, for that may be refused.
            if !self.shared.unread.contains_key(&instance.id) {
                self.clear(&self.places.dir(instance.id));
            }
        }
        let deletes = ended.iter().map(|instance| instance.id).collect();
        let events = told(&ended, TimeMs::now());
        let deleted =
            self.shared.store.record(Change { deletes, events, ..Change::default() }).await?.deleted;
        hit(Failpoint::DeletesRecorded);
        self.clear_unread(&ended);
        Ok(deleted)
    }

    /// The directories of deleted runs whose output could never be read.
    pub(super) fn clear_unread(&self, deleted: &[Instance]) {
        for instance in deleted {
            if let Some((_, dir)) = self.shared.unread.remove(&instance.id) {
                self.clear(&dir);
            }
        }
    }

    /// Deletes what history does not keep, right after a run ended (`seeds/004`, "history_count").
    pub(super) async fn cull(
        &self,
        project: ProjectId,
        task: Option<TaskName>,
        history: Option<u8>,
        spared: InstanceId,
    ) {
        let culled = async {
            hit(Failpoint::CullBegun);
            let keep = if task.is_some() { policy::kept_of_task(history) } else { policy::AD_HOC_KEPT };
            let ended = self.shared.store.ended(project, task).await?;
            let over: Vec<InstanceId> = policy::cull(ended, keep, spared);
            let records = self.shared.store.runs_of(over).await?;
            self.delete_ended(records.into_iter().map(|record| record.run.instance).collect()).await
        };
        let culled: Result<u64, Refusal> = culled.await;
        match culled {
            Ok(0) => {}
            Ok(deleted) => tracing::debug!(deleted, "history culled"),
            Err(error) => tracing::warn!(%error, "history could not be culled; it is tried at the next end"),
        }
    }
}

/// Refuses to delete a run that the store does not know to be over, before anything of it is touched.
fn must_be_over(instance: &Instance) -> Result<(), Refusal> {
    if instance.state.is_terminal() {
        return Ok(());
    }
    let message = format!(
        "The end of instance {} is not stored, so it is not deleted. Restart the daemon.",
        instance.id
    );
    Err(Refusal::new(Code::Conflict, message).reason("still_running"))
}

/// The event of a deletion, which names the run where it is only one; nothing deleted is nothing told.
fn told(deleted: &[Instance], at: TimeMs) -> Vec<NewEvent> {
    let Some(first) = deleted.first() else { return Vec::new() };
    let event = NewEvent::new(EventKind::ProjectChanged, at)
        .project(&first.project_id)
        .detail("change", "runs_deleted")
        .detail("deleted", deleted.len());
    vec![NewEvent { task_id: (deleted.len() == 1).then_some(first.id), ..event }]
}
