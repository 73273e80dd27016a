//! Panes the operator opened in a project's session.

use super::refusal::{Code, Refusal};
use super::view::PaneView;
use crate::backend::tmux::Tmux;
use crate::model::ProjectId;

/// The longest title shown, in characters.
const TITLE_CHARS: usize = 256;

/// The panes of a project's session that no run lives in.
///
/// # Errors
/// `unavailable` when tmux does not answer.
pub async fn list(tmux: &Tmux, project: &ProjectId) -> Result<Vec<PaneView>, Refusal> {
    let found = tmux.foreign_panes(project).await;
    let found = found.map_err(|error| Refusal::new(Code::Unavailable, error.to_string()).reason("tmux"))?;
    Ok(found.into_iter().map(|pane| PaneView { title: printable(&pane.title), command: printable(&pane.command), ..pane.into() }).collect())
}

/// Text of a program made safe to show: no control characters, bounded.
fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(TITLE_CHARS).collect()
}
