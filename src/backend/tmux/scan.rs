//! One look at the whole server: which sessions and windows of kas's there are, in one process and one answer.

use super::oneshot::{self, Failure, Sequence};
use super::server::{ServerId, id};
use super::settings::Settings;
use super::types::{FoundSession, FoundWindow, Window};
use crate::backend::BackendError;
use crate::control::{PaneId, SessionId, WindowId};
use crate::journal::Nonce;
use crate::model::{InstanceId, ProjectId};

/// What one look at the server found. Empty when no server runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Sessions named like a project's or marked as one's, whoever made them.
    pub sessions: Vec<FoundSession>,
    /// Windows whose pane carries a run's id, wherever they are now. One that is linked into several sessions is here for each.
    pub windows: Vec<FoundWindow>,
}

/// Panes that carry a run's id, and all panes of sessions that may be ours.
const OURS: &str = "#{||:#{@kas-id},#{||:#{@kas-project},#{m:kaged-*,#{session_name}}}}";
/// What is asked of each pane. Names and commands are any text; what separates the fields cannot be known to who chose them.
const FIELDS: [&str; 6] = [
    "#{pid} #{session_id} #{window_id} #{pane_id} #{pane_dead}",
    "#{@kas-id}",
    PROJECT,
    "#{session_name}",
    "#{window_name}",
    "#{pane_start_command}",
];

/// The project of a session that a daemon of this state directory made.
const PROJECT: &str = "#{?IS_HOME,#{@kas-project},}";

/// Looks at all sessions and windows.
pub(super) async fn scan(settings: &Settings) -> Result<Scan, BackendError> {
    let mark = Nonce::random()?.hex();
    let format: String = FIELDS.iter().flat_map(|field| [mark.as_str(), field]).collect();
    let format = format.replace("IS_HOME", &settings.is_home());
    let words = ["list-panes", "-a", "-f", OURS, "-F", &format];
    let answer = match oneshot::read(settings, Sequence::default().then(words)).await {
        Ok(answer) => answer,
        Err(Failure::NoServer | Failure::Missing(_)) => return Ok(Scan::default()),
        Err(other) => return Err(other.into()),
    };
    Ok(understood(&String::from_utf8_lossy(&answer), &mark, ServerId::of))
}

/// Panes whose answer makes no sense are left out.
fn understood(text: &str, mark: &str, server: impl Fn(u32) -> Option<ServerId>) -> Scan {
    let mut scan = Scan::default();
    let mut known: Option<(u32, Option<ServerId>)> = None;
    let fields: Vec<&str> = text.split(mark).skip(1).collect();
    for pane in fields.chunks_exact(FIELDS.len()) {
        let Some(ids) = Ids::parse(pane[0]) else { continue };
        let (_, server) =
            known.filter(|(pid, _)| *pid == ids.pid).unwrap_or_else(|| (ids.pid, server(ids.pid)));
        known = Some((ids.pid, server));
        let Some(server) = server else { continue };
        let (project, name) = (Some(pane[2].to_owned()).filter(|it| !it.is_empty()), pane[3]);
        if project.is_some() || name.starts_with("kaged-") {
            let session = FoundSession { name: name.to_owned(), project, server, session: ids.session };
            if !scan.sessions.contains(&session) {
                scan.sessions.push(session);
            }
        }
        scan.windows.extend(pane[1].parse::<InstanceId>().ok().map(|instance| FoundWindow {
            instance,
            session_name: name.to_owned(),
            window_name: pane[4].to_owned(),
            is_live: ids.is_live,
            command: pane[5].trim_end_matches('\n').to_owned(),
            server,
            session: ids.session,
            window: ids.window,
            pane: ids.pane,
        }));
    }
    scan
}

struct Ids {
    pid: u32,
    session: SessionId,
    window: WindowId,
    pane: PaneId,
    is_live: bool,
}

impl Ids {
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        Some(Self {
            pid: words.next()?.parse().ok()?,
            session: SessionId(id(words.next()?, '$')?),
            window: WindowId(id(words.next()?, '@')?),
            pane: PaneId(id(words.next()?, '%')?),
            is_live: words.next()? == "0",
        })
    }
}

impl Scan {
    /// Whether the server has a session or a window of ours.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        !self.windows.is_empty() || self.sessions.iter().any(|session| session.project.is_some())
    }

    /// How the live window of a run is called: its session's name and its own.
    #[must_use]
    pub fn name_of(&self, project: &ProjectId, instance: InstanceId) -> Option<(String, String)> {
        self.window_of(project, instance).map(|(window, _)| (window.session_name, window.window_name))
    }

    /// The session that is the project's by what lives in it, and carries no mark of this state directory: an older kas made it, or the
    /// directory was moved. `proved` is a run whose shim showed its secret to this daemon. The session has its name, it holds that run's
    /// window, and every run that lives in it was started from the same directory as that run.
    pub(super) fn unmarked_home(&self, project: &ProjectId, proved: InstanceId) -> Option<SessionId> {
        let live = || self.windows.iter().filter(|window| window.is_live);
        let name = super::server::session_name(project);
        let own = live().find(|window| window.instance == proved && window.session_name == name)?;
        let place = started_from(own)?;
        let session = self.sessions.iter().find(|session| session.session == own.session)?;
        let is_unmarked = session.project.is_none() && session.server == own.server;
        let mut beside = live().filter(|window| window.session == own.session);
        (is_unmarked && beside.all(|window| started_from(window) == Some(place))).then_some(own.session)
    }

    /// The live window of a run, in its project's session rather than in another, and the session whose control client is to show it.
    pub(super) fn window_of(
        &self,
        project: &ProjectId,
        instance: InstanceId,
    ) -> Option<(Window, (ServerId, SessionId))> {
        let home = self.sessions.iter().find(|session| session.project.as_deref() == Some(project.as_str()));
        let live = self.windows.iter().filter(|window| window.instance == instance && window.is_live);
        let is_away = |window: &&FoundWindow| home.is_none_or(|home| home.session != window.session);
        let found = live.min_by_key(is_away)?;
        let window = Window {
            session_name: found.session_name.clone(),
            window_name: found.window_name.clone(),
            project: project.clone(),
            server: found.server,
            session: found.session,
            window: found.window,
            pane: found.pane,
            is_kept: true,
        };
        let target = home.map_or((found.server, found.session), |home| (home.server, home.session));
        Some((window, target))
    }
}

/// The directory of instances that a run's window was started from: `kas shim DIR/<id>`.
fn started_from(window: &FoundWindow) -> Option<&str> {
    let (dir, rest) = window.command.rsplit_once(&format!("/{}", window.instance))?;
    let (_, dir) = dir.rsplit_once(" shim ")?;
    matches!(rest, "" | "\"").then_some(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RUN: &str = "01HZX3KQ4RM8T9V0W1X2Y3Z4A5";

    fn look(panes: &[[&str; 6]]) -> Scan {
        let text: String = panes.iter().map(|pane| format!("!{}\n", pane.join("!"))).collect();
        let own = ServerId::of(std::process::id());
        understood(&text, "!", |pid| own.filter(|_| pid == 7))
    }

    #[test]
    fn sessions_are_named_once_and_windows_carry_a_runs_id() {
        let scan = look(&[
            ["7 $1 @1 %1 0", "keeper", "demo", "kaged-demo", "kas", "sh"],
            ["7 $1 @2 %2 0", RUN, "demo", "kaged-demo", "task dev\n", "kas shim /x"],
            ["7 $2 @3 %3 1", RUN, "", "my own", "moved", "kas shim /x"],
            ["7 $3 @4 %4 0", "", "", "kaged-foreign", "sh", ""],
            ["8 $9 @9 %9 0", RUN, "demo", "kaged-demo", "of a server that is gone", ""],
            ["what", RUN, "", "", "", ""],
        ]);
        let sessions: Vec<_> =
            scan.sessions.iter().map(|it| (it.name.as_str(), it.project.as_deref())).collect();
        assert_eq!(sessions, [("kaged-demo", Some("demo")), ("kaged-foreign", None)]);
        let windows: Vec<_> = scan
            .windows
            .iter()
            .map(|it| (it.window_name.as_str(), it.is_live, it.command.as_str()))
            .collect();
        assert_eq!(windows, [("task dev\n", true, "kas shim /x"), ("moved", false, "kas shim /x")]);
    }

    #[test]
    fn a_session_without_a_mark_is_the_projects_when_what_lives_in_it_proves_it() {
        let (demo, run): (ProjectId, InstanceId) = ("demo".parse().unwrap(), RUN.parse().unwrap());
        let other = "01HZX3KQ4RM8T9V0W1X2Y3Z4A6";
        let (own, beside) =
            (format!("/k/kas shim /old/instances/{RUN}"), format!("/k/kas shim /old/instances/{other}"));
        let elsewhere = format!("/k/kas shim /other/instances/{other}");
        let pane = |id, project, session, command| ["7 $1 @2 %2 0", id, project, session, "w", command];
        let check = |panes: &[[&str; 6]], expect: Option<u32>| {
            assert_eq!(look(panes).unmarked_home(&demo, run), expect.map(SessionId), "{panes:?}");
        };
        let keeper = ["7 $1 @1 %1 0", "keeper", "", "kaged-demo", "kas", "sh"];
        check(&[keeper, pane(RUN, "", "kaged-demo", &own), pane(other, "", "kaged-demo", &beside)], Some(1));
        check(&[keeper, pane(RUN, "", "kaged-demo", &own), pane(other, "", "kaged-demo", &elsewhere)], None);
        check(&[pane(RUN, "demo", "kaged-demo", &own)], None);
        check(&[keeper, pane(RUN, "", "my own", &own)], None);
        check(&[keeper, pane(RUN, "", "kaged-demo", "vi")], None);
        check(&[keeper, pane(other, "", "kaged-demo", &beside)], None);
    }

    #[test]
    fn a_run_is_found_at_home_first_and_shown_by_its_projects_session() {
        let (demo, run): (ProjectId, InstanceId) = ("demo".parse().unwrap(), RUN.parse().unwrap());
        let keeper = ["7 $1 @1 %1 0", "keeper", "demo", "kaged-demo", "kas", "sh"];
        let away = ["7 $2 @3 %3 0", RUN, "", "my own", "task-dev", "kas shim /x"];
        let home = ["7 $1 @3 %3 0", RUN, "demo", "kaged-demo", "task-dev", "kas shim /x"];
        let check = |panes: &[[&str; 6]], session: &str, target: u32| {
            let (window, (_, shown)) = look(panes).window_of(&demo, run).unwrap();
            assert_eq!((window.session_name.as_str(), shown), (session, SessionId(target)));
        };
        check(&[keeper, away, home], "kaged-demo", 1);
        check(&[keeper, away], "my own", 1);
        check(&[away], "my own", 2);
        assert_eq!(look(&[keeper]).window_of(&demo, run), None);
    }
}
