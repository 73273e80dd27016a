//! Panes the operator opened in a project's session.

use tokio::sync::mpsc;

use super::handle::Handle;
use super::refusal::{Code, Refusal};
use super::view::PaneView;
use crate::backend::tmux::{FoundForeign, Report, Tmux};
use crate::model::{EventKind, ProjectId, TimeMs};
use crate::store::NewEvent;

/// The longest title shown, in characters.
const TITLE_CHARS: usize = 256;

/// The panes of a project's session that no run lives in.
///
/// # Errors
/// `unavailable` when tmux does not answer.
pub(super) async fn list(tmux: &Tmux, project: &ProjectId) -> Result<Vec<PaneView>, Refusal> {
    let found = tmux.foreign_panes(project).await;
    let found = found.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()).reason("tmux"))?;
    let shown = |pane: FoundForeign| PaneView {
        pane: pane.pane,
        window: pane.window,
        title: printable(&pane.title),
        command: printable(&pane.command),
        size: pane.size,
    };
    Ok(found.into_iter().map(shown).collect())
}

/// Passes on what tmux reports, until the daemon ends.
pub(super) async fn watch(handle: Handle, mut reports: mpsc::Receiver<Report>) {
    while let Some(report) = reports.recv().await {
        let event = match report {
            Report::PaneOpened { project, pane, window } => {
                about_pane(EventKind::PaneOpened, &project, pane).detail("window", window)
            }
            Report::PaneClosed { project, pane } => about_pane(EventKind::PaneClosed, &project, pane),
            Report::PipeFallback { project, why } => {
                tracing::warn!(%project, why, "task_runner.tmux_pipe_fallback: control mode cannot be used; runs stream from their shims");
                NewEvent::new(EventKind::TmuxPipeFallback, TimeMs::now())
                    .project(&project)
                    .detail("error", why)
            }
            Report::ControlLost { project, why } => {
                tracing::warn!(%project, why, "the control client is gone; it is started again");
                continue;
            }
            Report::ServerGone { projects } => {
                let projects: Vec<_> = projects.iter().map(ToString::to_string).collect();
                tracing::error!(
                    projects = projects.join(" "),
                    "the tmux server is gone; what ran in it has ended"
                );
                continue;
            }
        };
        handle.record(event).await;
    }
}

fn about_pane(kind: EventKind, project: &ProjectId, pane: u32) -> NewEvent {
    NewEvent::new(kind, TimeMs::now()).project(project).detail("pane", pane)
}

/// Text of a program made safe to show: no control characters, bounded.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TITLE_CHARS).collect()
}
