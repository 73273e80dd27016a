//! Which panes of a server carry a mark of kas's, for whoever checks them against what is recorded.

use super::oneshot::{self, Failure, Sequence};
use super::settings::Settings;
use crate::backend::BackendError;
use crate::control::{PaneId, SessionId, WindowId};
use crate::model::InstanceId;

/// A pane that carries a run's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pane {
    /// The first session that shows it.
    pub session: SessionId,
    /// Its window.
    pub window: WindowId,
    /// Itself.
    pub pane: PaneId,
    /// Whose it is.
    pub instance: InstanceId,
    /// Whether its program has ended.
    pub is_dead: bool,
    /// The process id of its program.
    pub pid: u32,
}

/// What one look at a server found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// How many windows it has, the operator's too.
    pub windows: usize,
    /// The panes that carry a run's id, each once.
    pub panes: Vec<Pane>,
    /// Whether a mark of kas's is set for the whole server, which kas never does.
    pub is_marked: bool,
}

const FIELDS: &str = "#{session_id} #{window_id} #{pane_id} #{pane_dead} #{pane_pid} #{@kas-id}";

/// Looks at a server by one process that starts none; no server has no panes.
///
/// # Errors
/// When tmux cannot be asked.
pub async fn census(settings: &Settings) -> Result<Census, BackendError> {
    let sequence = Sequence::default()
        .then(["show-options", "-gqv", "@kas-id"])
        .then(["show-options", "-gqv", "@kas-project"])
        .then(["list-panes", "-a", "-F", FIELDS]);
    match oneshot::ask(settings, sequence).await {
        Ok(answer) => Ok(understood(&String::from_utf8_lossy(&answer))),
        Err(Failure::NoServer | Failure::Missing(_)) => Ok(Census::default()),
        Err(other) => Err(other.into()),
    }
}

/// Reads the answer: the server's own marks if it has any, then a line for each pane.
fn understood(answer: &str) -> Census {
    let mut census = Census::default();
    let mut windows = Vec::new();
    for line in answer.lines() {
        match pane(line) {
            Some((window, found)) => {
                windows.push(window);
                let known = |it: &Pane| census.panes.iter().any(|other| other.pane == it.pane);
                census.panes.extend(found.filter(|it| !known(it)));
            }
            None => census.is_marked |= !line.is_empty(),
        }
    }
    windows.sort_unstable();
    windows.dedup();
    Census { windows: windows.len(), ..census }
}

/// A line's window, and the pane if it is a run's.
fn pane(line: &str) -> Option<(WindowId, Option<Pane>)> {
    let mut words = line.split(' ');
    let mut next = || words.next();
    let (session, window, pane) = (next()?.parse().ok()?, next()?.parse().ok()?, next()?.parse().ok()?);
    let is_dead = next()? != "0";
    let pid = next()?.parse().ok()?;
    let instance = next().and_then(|id| id.parse().ok());
    Some((window, instance.map(|instance| Pane { session, window, pane, instance, is_dead, pid })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panes_of_runs_are_told_from_the_operators_and_windows_counted_once() {
        let id = InstanceId::from_parts(1, 2);
        let text = format!(
            "$0 @1 %1 0 70 {id}\n$2 @1 %1 0 70 {id}\n$0 @0 %0 0 71 keeper\n$0 @0 %5 0 72 \n$0 @3 %3 1 73 {id}\n"
        );
        let census = understood(&text);
        assert_eq!((census.windows, census.is_marked), (3, false));
        let shown: Vec<_> = census.panes.iter().map(|it| (it.pane.0, it.is_dead, it.pid)).collect();
        assert_eq!(shown, [(1, false, 70), (3, true, 73)]);
        assert!(understood("demo\n$0 @0 %0 0 71 keeper\n").is_marked);
        assert_eq!(understood(""), Census::default());
    }
}
