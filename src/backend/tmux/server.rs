//! What is asked of the server by one-shot processes: windows made, found and ended, sessions listed.

use std::ffi::OsString;
use std::fs;
use std::time::Duration;

use super::guard;
use super::oneshot::{self, Failure, Sequence};
use super::probe::Version;
use super::settings::Settings;
use super::types::{FoundForeign, Window, WindowPlan};
use crate::backend::BackendError;
use crate::control::command::Name;
use crate::control::{PaneId, SessionId, WindowId};
use crate::journal::Nonce;
use crate::model::{InstanceId, ProjectId, Size};

/// A server process: ids mean something only within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ServerId {
    pub(super) pid: u32,
    /// Clock ticks after boot (proc(5), `starttime`).
    started: u64,
}

/// The kernel's flag of a process that is exiting (`PF_EXITING`).
const EXITING: u64 = 4;

impl ServerId {
    /// The process with this pid, if it lives.
    pub(super) fn of(pid: u32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The program's name is in parentheses and may hold any byte.
        let fields =
            String::from_utf8_lossy(&stat[stat.iter().rposition(|&b| b == b')')? + 1..]).into_owned();
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let is_ending =
            matches!(*fields.first()?, "Z" | "X") || fields.get(6)?.parse::<u64>().ok()? & EXITING != 0;
        let started = fields.get(19)?.parse().ok()?;
        (!is_ending).then_some(Self { pid, started })
    }

    /// Whether it still lives.
    pub(super) fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

/// What a look at a project's session found.
enum Look {
    Absent,
    /// A session of that name without the project's and this daemon's mark.
    Foreign,
    Ours(Place),
}

/// Where in our session the next window goes.
struct Place {
    session: SessionId,
    next_index: u32,
    /// The server's hooks are kept away from it.
    is_guarded: bool,
    /// The name wanted is another window's.
    is_taken: bool,
}

/// The `@kas-id` of the window that keeps a session.
const KEEPER: &str = "keeper";

/// How often a window is tried to be made. A server that ends because it is empty takes a few milliseconds.
const TRIES: usize = 10;
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The session name of a project.
pub(super) fn session_name(project: &ProjectId) -> String {
    format!("kaged-{project}")
}

/// Makes a window, and the session with its first one. The caller lets one at a time do this for a project.
pub(super) async fn open(
    settings: &Settings,
    version: Version,
    project: &ProjectId,
    plan: &WindowPlan,
) -> Result<Window, BackendError> {
    let names = Names::new(project, plan)?;
    // The session or the server may come or go between the look and the deed, and an index may be taken: then once more.
    let mut last = Failure::NoServer;
    for _try in 0..TRIES {
        let made = match look(settings, version, &names).await? {
            Look::Foreign => return Err(BackendError::Foreign(names.session.to_string())),
            Look::Absent => new_session(settings, version, project, &names).await.map(|()| None),
            Look::Ours(place) => {
                let name = if place.is_taken { &names.or_else } else { &names.window };
                new_window(settings, version, &place, name, plan).await.map(|answer| Some((answer, name)))
            }
        };
        match made {
            Ok(None) => continue,
            Ok(Some((answer, name))) => {
                return parse_new(&answer, project, &names.session, name, keeps(version, plan));
            }
            Err(Failure::NoServer) => last = Failure::NoServer,
            Err(Failure::Missing(text)) => last = Failure::Missing(text),
            Err(Failure::Said(text)) if text.contains("duplicate session") || text.contains("in use") => {
                last = Failure::Said(text);
            }
            Err(other) => return Err(other.into()),
        }
        tokio::time::sleep(TRY_AGAIN_AFTER).await;
    }
    Err(last.into())
}

struct Names {
    session: Name,
    window: Name,
    or_else: Name,
    project: ProjectId,
}

impl Names {
    fn new(project: &ProjectId, plan: &WindowPlan) -> Result<Self, BackendError> {
        let name = |text: &str| text.parse::<Name>().map_err(|error| BackendError::Tmux(error.to_string()));
        Ok(Self {
            session: name(&session_name(project))?,
            window: name(&plan.name)?,
            or_else: name(&plan.or_else)?,
            project: project.clone(),
        })
    }
}

async fn look(settings: &Settings, version: Version, names: &Names) -> Result<Look, BackendError> {
    let format = format!(
        "#{{session_id}} #{{window_index}} #{{==:#{{window_name}},{}}} {} #{{==:#{{@kas-guard}},{}}}",
        names.window,
        is_ours(settings, &names.project),
        guard::SESSION_GUARD
    );
    let target = format!("={}:", names.session);
    let sequence = guard::ask(Sequence::default()).then(["list-windows", "-t", &target, "-F", &format]);
    let answer = match oneshot::ask(settings, sequence).await {
        Ok(answer) => answer,
        Err(Failure::NoServer | Failure::Missing(_)) => return Ok(Look::Absent),
        Err(other) => return Err(other.into()),
    };
    let text = String::from_utf8_lossy(&answer);
    let lines: Vec<&str> = text.lines().collect();
    if let Some(why) = guard::trouble(&lines, version) {
        return Err(BackendError::Tmux(why.to_owned()));
    }
    understood(lines.into_iter().skip(guard::ANSWERS)).ok_or_else(|| strange(&answer))
}

fn understood<'a>(lines: impl Iterator<Item = &'a str>) -> Option<Look> {
    let mut place: Option<Place> = None;
    for line in lines {
        let mut words = line.split(' ');
        let session = SessionId(id(words.next()?, '$')?);
        let after: u32 = words.next()?.parse::<u32>().ok()?.checked_add(1)?;
        let mut flag = || words.next().map(|word| word == "1");
        let (is_taken, is_ours, is_guarded) = (flag()?, flag()?, flag()?);
        if !is_ours {
            return Some(Look::Foreign);
        }
        let place = place.get_or_insert(Place { session, next_index: after, is_guarded, is_taken });
        place.next_index = place.next_index.max(after);
        place.is_taken |= is_taken;
    }
    place.map(Look::Ours)
}

/// What [`parse_new`] reads.
const NEW: &str = "#{pid} #{session_id} #{window_id} #{pane_id}";

/// Makes the session with a window that keeps it: it is there from the first run until the project is unloaded (`seeds/004`, "tmux session
/// naming"). It must not come and go with its runs, since tmux up to 3.6 can die when a session begins or ends while a control client attaches.
async fn new_session(
    settings: &Settings,
    version: Version,
    project: &ProjectId,
    names: &Names,
) -> Result<(), Failure> {
    // A server that runs is judged first: the session could end it, and everything in it.
    match oneshot::ask(settings, guard::ask(Sequence::default())).await {
        Ok(answer) => judged(&answer, version)?,
        Err(Failure::NoServer) => {}
        Err(other) => return Err(other),
    }
    let session = names.session.as_str();
    let target = format!("={session}:");
    let made = Nonce::random()?.hex();
    let text = format!(
        "printf '%s\\n' 'Runs of {project} appear in windows beside this one, which keeps the session. The prefix key and w list them.'; exec sleep 2147483647 # {made}"
    );
    let mut sequence = Sequence::default().then([
        "new-session",
        "-d",
        "-s",
        session,
        "-n",
        "kas",
        "-c",
        "/",
        "--",
        "/bin/sh",
        "-c",
        &text,
    ]);
    let limit = settings.history_limit().to_string();
    // `destroy-unattached` comes first: nobody is attached yet.
    let options = [
        ("destroy-unattached", "off"),
        ("detach-on-destroy", "on"),
        ("renumber-windows", "off"),
        ("history-limit", limit.as_str()),
        ("@kas-project", project.as_str()),
        ("@kas-home", settings.mark()),
    ];
    for (name, value) in options {
        sequence = sequence.then(["set-option", "-t", &target, name, value]);
    }
    let sequence = window_options(guard::session(sequence, &target), &target, "off").then([
        "set-option",
        "-p",
        "-t",
        &target,
        "@kas-id",
        KEEPER,
    ]);
    match oneshot::start(settings, guard::ask(sequence)).await {
        // A server that is to end with this process would be gone when it is looked at.
        Ok(answer) => judged(&answer, version),
        Err(Failure::NoServer) => {
            // It may have died of the session, so one without any is asked.
            let without = Sequence::default().then(["start-server"]);
            judged(&oneshot::start(settings, guard::ask(without)).await?, version)?;
            Err(Failure::NoServer)
        }
        Err(Failure::Missing(text)) => {
            // A hook that came before the session's own options renamed it or ended it. Nothing half-made stays.
            let half_made = format!("#{{m:*{made}*,#{{pane_start_command}}}}");
            if let Err(error) = kill_panes(settings, &half_made).await {
                tracing::warn!(%project, %error, "a session without marks may be left over");
            }
            Err(Failure::Said(format!(
                "{text}: a hook of the server, after-new-session, changed what kas had just made"
            )))
        }
        Err(other) => Err(other),
    }
}

/// Says why no run may be in the server that gave this answer to [`guard::ask`].
fn judged(answer: &[u8], version: Version) -> Result<(), Failure> {
    let answer = String::from_utf8_lossy(answer);
    let why = guard::trouble(&answer.lines().collect::<Vec<_>>(), version);
    why.map_or(Ok(()), |why| Err(Failure::Said(why.to_owned())))
}

async fn new_window(
    settings: &Settings,
    version: Version,
    place: &Place,
    name: &Name,
    plan: &WindowPlan,
) -> Result<Vec<u8>, Failure> {
    let target = format!("{}:{}", place.session, place.next_index);
    // `-d`: a current window that ends is one more thing told to all control clients, see `Shared::quiet`.
    let words = ["new-window", "-d", "-P", "-F", NEW, "-t", &target, "-n", name.as_str(), "-c", "/", "--"];
    let argv = plan.argv.iter().map(|argument| oneshot::word(argument));
    let words: Vec<OsString> = words.into_iter().map(OsString::from).chain(argv).collect();
    let keep = if keeps(version, plan) { "on" } else { "off" };
    let (cols, rows) = (plan.size.cols().to_string(), plan.size.rows().to_string());
    let own = place.session.to_string();
    let sequence = match place.is_guarded {
        true => Sequence::default(),
        false => guard::session(Sequence::default(), &own),
    };
    let sequence = window_options(sequence.then(words), &target, keep)
        .then(["set-option", "-p", "-t", &target, "@kas-id", &plan.instance.to_string()])
        .then(["resize-window", "-t", &target, "-x", &cols, "-y", &rows]);
    oneshot::ask(settings, sequence).await
}

/// What a window of ours needs whatever the operator's configuration says.
fn window_options(mut sequence: Sequence, target: &str, keep: &str) -> Sequence {
    let options = [
        ("remain-on-exit", keep),
        ("automatic-rename", "off"),
        ("allow-rename", "off"),
        ("aggressive-resize", "off"),
    ];
    for (name, value) in options {
        sequence = sequence.then(["set-option", "-w", "-t", target, name, value]);
    }
    guard::window(sequence, target)
}

fn parse_new(
    answer: &[u8],
    project: &ProjectId,
    session: &Name,
    window: &Name,
    is_kept: bool,
) -> Result<Window, BackendError> {
    let text = String::from_utf8_lossy(answer);
    let Some(ids) = ids(&text) else {
        let server = text.split_whitespace().next().and_then(|word| word.parse().ok());
        // It was made, and went with its server.
        let is_over = server.is_some_and(|pid| ServerId::of(pid).is_none());
        return Err(if is_over { BackendError::Gone } else { strange(answer) });
    };
    Ok(Window { is_kept, ..ids.window(project, session.to_string(), window.to_string()) })
}

/// Whether the window stays when its run is over.
const fn keeps(version: Version, plan: &WindowPlan) -> bool {
    plan.keep && version.can_keep_panes()
}

/// The ids that [`NEW`] tells.
struct Ids {
    server: ServerId,
    session: SessionId,
    window: WindowId,
    pane: PaneId,
}

impl Ids {
    fn window(self, project: &ProjectId, session_name: String, window_name: String) -> Window {
        let Self { server, session, window, pane } = self;
        Window {
            session_name,
            window_name,
            project: project.clone(),
            server,
            session,
            window,
            pane,
            is_kept: true,
        }
    }
}

fn ids(text: &str) -> Option<Ids> {
    let mut words = text.split_whitespace();
    Some(Ids {
        server: ServerId::of(words.next()?.parse().ok()?)?,
        session: SessionId(id(words.next()?, '$')?),
        window: WindowId(id(words.next()?, '@')?),
        pane: PaneId(id(words.next()?, '%')?),
    })
}

pub(super) fn id(word: &str, sigil: char) -> Option<u32> {
    word.strip_prefix(sigil)?.parse().ok()
}

fn strange(answer: &[u8]) -> BackendError {
    let shown: String = String::from_utf8_lossy(answer).chars().take(200).collect();
    BackendError::Tmux(format!("an answer that makes no sense: {shown:?}"))
}

/// A filter for the session of a project: `1` for one that was made for it by a daemon of this state directory.
fn is_ours(settings: &Settings, project: &ProjectId) -> String {
    format!("#{{&&:#{{==:#{{@kas-project}},{project}}},{}}}", settings.is_home())
}

/// A filter for the pane of one run.
fn is_run(instance: InstanceId) -> String {
    format!("#{{==:#{{@kas-id}},{instance}}}")
}

/// Ends the pane of a run; its window goes with its last pane, and what the operator put beside it stays.
pub(super) async fn kill(settings: &Settings, instance: InstanceId) -> Result<(), BackendError> {
    kill_panes(settings, &is_run(instance)).await
}

/// The same for a pane in which nothing lives.
pub(super) async fn kill_dead(settings: &Settings, instance: InstanceId) -> Result<(), BackendError> {
    kill_panes(settings, &format!("#{{&&:#{{pane_dead}},{}}}", is_run(instance))).await
}

async fn kill_panes(settings: &Settings, filter: &str) -> Result<(), BackendError> {
    let words = ["list-panes", "-a", "-f", filter, "-F", "#{pane_id}"];
    for pane in lines_or_nothing(oneshot::read(settings, Sequence::default().then(words)).await)? {
        gone_is_fine(oneshot::ask(settings, Sequence::default().then(["kill-pane", "-t", &pane])).await)?;
    }
    Ok(())
}

/// Ends the session of a project, under whatever name it goes now.
pub(super) async fn destroy(settings: &Settings, project: &ProjectId) -> Result<(), BackendError> {
    for session in sessions_of(settings, project).await? {
        let words = ["kill-session", "-t", &session.to_string()];
        gone_is_fine(oneshot::ask(settings, Sequence::default().then(words)).await)?;
    }
    Ok(())
}

/// The sessions with a project's mark.
async fn sessions_of(settings: &Settings, project: &ProjectId) -> Result<Vec<SessionId>, BackendError> {
    let words = ["list-sessions", "-f", &is_ours(settings, project), "-F", "#{session_id}"];
    let lines = lines_or_nothing(oneshot::read(settings, Sequence::default().then(words)).await)?;
    Ok(lines.iter().filter_map(|line| Some(SessionId(id(line, '$')?))).collect())
}

/// The project's session and its server.
pub(super) async fn session_of(
    settings: &Settings,
    project: &ProjectId,
) -> Result<Option<(ServerId, SessionId)>, BackendError> {
    let words = ["list-sessions", "-f", &is_ours(settings, project), "-F", "#{pid} #{session_id}"];
    let lines = lines_or_nothing(oneshot::read(settings, Sequence::default().then(words)).await)?;
    let found = |line: &String| {
        let (pid, session) = line.split_once(' ')?;
        Some((ServerId::of(pid.parse().ok()?)?, SessionId(id(session, '$')?)))
    };
    Ok(lines.iter().find_map(found))
}

/// Marks a session as the project's, made by a daemon of this state directory.
pub(super) async fn claim(
    settings: &Settings,
    project: &ProjectId,
    session: SessionId,
) -> Result<(), BackendError> {
    let target = session.to_string();
    let sequence = [("@kas-project", project.as_str()), ("@kas-home", settings.mark())]
        .into_iter()
        .fold(Sequence::default(), |it, (name, value)| it.then(["set-option", "-t", &target, name, value]));
    gone_is_fine(oneshot::ask(settings, sequence).await)
}

/// Whether the server answers; that none runs is an answer.
pub(super) async fn ping(settings: &Settings) -> Result<(), BackendError> {
    lines_or_nothing(oneshot::read(settings, Sequence::default().then(["list-sessions", "-F", "1"])).await)
        .map(drop)
}

/// The panes of the project's session that are not kas's.
pub(super) async fn foreign_panes(
    settings: &Settings,
    project: &ProjectId,
) -> Result<Vec<FoundForeign>, BackendError> {
    let Some(session) = sessions_of(settings, project).await?.first().copied() else { return Ok(Vec::new()) };
    // Titles and commands may be any bytes. What separates the fields cannot be known to who chose them.
    let mark = Nonce::random()?.hex();
    let format = format!(
        "{mark}#{{pane_id}} #{{window_id}} #{{pane_width}} #{{pane_height}} #{{?@kas-id,1,0}}{mark}#{{pane_current_command}}{mark}#{{pane_title}}"
    );
    let words = ["list-panes", "-s", "-t", &format!("{session}:"), "-F", &format];
    let answer = match oneshot::read(settings, Sequence::default().then(words)).await {
        Ok(answer) => answer,
        Err(Failure::NoServer | Failure::Missing(_)) => return Ok(Vec::new()),
        Err(other) => return Err(other.into()),
    };
    let text = String::from_utf8_lossy(&answer);
    let parts: Vec<&str> = text.split(&mark).skip(1).collect();
    Ok(parts.chunks_exact(3).filter_map(|pane| foreign(pane[0], pane[1], pane[2])).collect())
}

fn foreign(head: &str, command: &str, title: &str) -> Option<FoundForeign> {
    let mut words = head.split(' ');
    let pane = id(words.next()?, '%')?;
    let window = id(words.next()?, '@')?;
    let (cols, rows) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let size = Size::clamped(cols, rows)?;
    let title = title.strip_suffix('\n').unwrap_or(title).to_owned();
    let found = FoundForeign { pane, window, title, command: command.to_owned(), size };
    (words.next()? == "0").then_some(found)
}

fn lines_or_nothing(asked: Result<Vec<u8>, Failure>) -> Result<Vec<String>, BackendError> {
    match asked {
        Ok(answer) => Ok(String::from_utf8_lossy(&answer).lines().map(str::to_owned).collect()),
        Err(Failure::NoServer | Failure::Missing(_)) => Ok(Vec::new()),
        Err(other) => Err(other.into()),
    }
}

fn gone_is_fine(asked: Result<Vec<u8>, Failure>) -> Result<(), BackendError> {
    lines_or_nothing(asked).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_tells_whose_a_session_is_and_what_is_free() {
        let look = |text: &str| match understood(text.lines()) {
            Some(Look::Ours(it)) => {
                format!("{} {} {}", it.session, it.next_index, it.is_taken)
            }
            Some(Look::Foreign) => "foreign".to_owned(),
            Some(Look::Absent) => "absent".to_owned(),
            None => "strange".to_owned(),
        };
        assert_eq!(look("$3 0 0 1 1\n$3 7 1 1 1\n$3 5 0 1 1\n"), "$3 8 true");
        assert_eq!(look("$3 0 0 1 0\n"), "$3 1 false");
        assert_eq!(look("$3 1 0 0 0\n"), "foreign");
        assert_eq!(look("what\n"), "strange");
        assert_eq!(look(""), "strange");
    }

    #[test]
    fn this_process_lives_and_another_start_is_another_process() {
        let own = ServerId::of(std::process::id()).unwrap();
        assert!(own.lives());
        assert!(!ServerId { started: own.started + 1, ..own }.lives());
        assert_eq!(ServerId::of(u32::MAX), None);
    }

    #[test]
    fn fields_of_a_foreign_pane_are_read_and_kas_s_own_left_out() {
        let pane = foreign("%7 @3 80 24 0", "vi", "a\nb\n").unwrap();
        assert_eq!(
            (pane.pane, pane.window, pane.command.as_str(), pane.title.as_str()),
            (7, 3, "vi", "a\nb")
        );
        assert!(foreign("%7 @3 80 24 1", "kas", "").is_none());
    }
}
