//! The store on a real file: what it keeps when processes die, what it refuses, and what it says then.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use bytes::Bytes;
use kas::auth::{Keys, NewToken};
use kas::lifecycle::{Event, Run, transition};
use kas::model::{
    BackendKind, Definition, EventKind, Exit, Instance, InstanceId, Offset, ProjectId, RunState, Scope,
    SharedTask, Size, TimeMs,
};
use kas::store::{
    Change, Earlier, Error, EventFilter, IdempotencyKey, NewEvent, Record, Registered, RunFilter, Store,
    Transcript,
};
use tempfile::TempDir;

use crate::harness::promised;

mod schema;

use schema::{SHIPPED, fixture_copy, shipped};

const CHILD_PATH: &str = "STORE_STORY_PATH";
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

fn project() -> ProjectId {
    "demo".parse().unwrap()
}

fn id(n: u64) -> InstanceId {
    InstanceId::from_parts(1_700_000_000_000 + n, u128::from(n))
}

fn record(n: u64, task: Option<&str>) -> Record {
    let instance = Instance {
        id: id(n),
        project_id: project(),
        task_name: task.map(|name| name.parse().unwrap()),
        command: "printf '%s' \"$A\"".to_owned(),
        cwd: PathBuf::from("/srv/demo"),
        state: RunState::Starting,
        backend: BackendKind::Tmux,
        tmux_session: Some("kaged-demo".to_owned()),
        tmux_window: Some("task-test".to_owned()),
        pid: None,
        exit: None,
        error: None,
        error_text: None,
        launched_at: TimeMs(1_700_000_000_000 + i64::try_from(n).unwrap()),
        exited_at: None,
        stopped_at: None,
        launched_by: "op".to_owned(),
        output_bytes: 0,
        restarted_from: None,
        history: Some(3),
    };
    let definition = Definition {
        command: instance.command.clone(),
        cwd: instance.cwd.clone(),
        env: BTreeMap::from([("A".to_owned(), "ä\n".to_owned())]),
        size: Size::clamped(132, 44).unwrap(),
    };
    Record { run: Run::new(instance), definition, boot_id: Some("boot".to_owned()) }
}

async fn new_store(path: &Path) -> Store {
    let store = Store::open(path).unwrap();
    let demo = Registered { id: project(), path: "/srv/demo".into(), registered_at: TimeMs(1) };
    store.add_project(demo, None, Vec::new()).await.unwrap();
    store
}

async fn temp_store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = new_store(&dir.path().join("runner.db")).await;
    (dir, store)
}

/// Takes the run through the events, each in one transaction with its audit events.
async fn live_through(store: &Store, mut run: Run, events: &[Event]) -> Run {
    for event in events {
        let step = transition(&run, event.clone(), TimeMs(1_700_000_000_500)).unwrap();
        let told = step
            .audit
            .iter()
            .map(|kind| NewEvent::of_run(*kind, TimeMs(5), &step.run.instance, "op"))
            .collect();
        let change = Change { updates: vec![step.run.clone()], events: told, ..Change::default() };
        store.record(change).await.unwrap();
        run = step.run;
    }
    run
}

fn ended(exit: Exit) -> [Event; 2] {
    [Event::Started { pid: 77 }, Event::Ended { exit, total: 9, at: TimeMs(1_700_000_001_000) }]
}

fn transcript() -> Transcript {
    Transcript {
        start: Offset(4),
        bytes: Bytes::from_static(b"\x00\xff\r\n\x1b[31m"),
        times: vec![(Offset(4), 17), (Offset(6), 18)],
        sizes: vec![(Offset(0), Size::DEFAULT)],
        checkpoint: Some((Size::DEFAULT, Bytes::from_static(b"\x1bc"))),
        line_count: 1,
        created_at: TimeMs(19),
    }
}

#[tokio::test]
async fn a_run_comes_back_as_it_was_after_a_new_open() {
    let (dir, store) = temp_store().await;
    let mut odd = record(1, None);
    odd.run.instance.cwd = OsStr::from_bytes(b"/srv/\xff\n#(x)").into();
    odd.definition.cwd = odd.run.instance.cwd.clone();
    odd.run.instance.restarted_from = Some(id(0));
    assert_eq!(store.insert(odd.clone(), None).await, Ok(None));
    let killed = record(2, Some("test"));
    store.insert(killed.clone(), None).await.unwrap();
    let run = live_through(&store, killed.run, &ended(Exit::Signal(9))).await;
    let stored = Change { transcripts: vec![(id(2), transcript())], ..Change::default() };
    store.record(stored).await.unwrap();
    drop(store);

    let store = Store::open(&dir.path().join("runner.db")).unwrap();
    assert_eq!(store.run(id(1)).await.unwrap(), Some(odd.clone()));
    assert_eq!(store.run(id(2)).await.unwrap().map(|record| record.run), Some(run));
    assert_eq!(store.live().await.unwrap(), [odd]);
    assert_eq!(store.transcript(id(2)).await.unwrap(), Some(transcript()));
    assert_eq!(store.transcript(id(1)).await.unwrap(), None);
    let kinds: Vec<_> = store.events_after(0, 10).await.unwrap().into_iter().map(|it| it.kind).collect();
    assert_eq!(kinds, ["task.launched", "task.exited"]);
}

#[tokio::test]
async fn what_a_start_that_was_cut_off_left_behind_is_no_obstacle() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runner.db");
    for left in ["runner.db.new", "runner.db.new-wal", "runner.db.new-shm", "runner.db.new-journal"] {
        fs::write(dir.path().join(left), "half a file").unwrap();
    }
    let store = new_store(&path).await;
    assert_eq!(store.check().await, Ok(()));
    drop(store);
    assert_eq!(bytes_of(dir.path()).into_keys().collect::<Vec<_>>(), [path]);
}

#[tokio::test]
async fn files_are_private() {
    let (dir, store) = temp_store().await;
    store.insert(record(1, None), None).await.unwrap();
    let modes: Vec<_> = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), entry.metadata().unwrap().permissions().mode() & 0o777))
        .collect();
    assert!(modes.len() == 3 && modes.iter().all(|(_, mode)| *mode == 0o600), "{modes:?}");
}

/// Runs the test `name` in a process of its own, on the database at `path`. Such a test does nothing otherwise.
fn child(name: &str, path: &Path) -> Command {
    // By this name another user can run it too, wherever it was built.
    let mut command = Command::new("/proc/self/exe");
    command.args([name, "--exact", "--nocapture"]).env(CHILD_PATH, path);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    command
}

fn child_path() -> Option<PathBuf> {
    std::env::var_os(CHILD_PATH).map(PathBuf::from)
}

#[tokio::test]
async fn child_writes_until_killed() {
    let Some(path) = child_path() else { return };
    let store = Store::open(&path).unwrap();
    for n in 1.. {
        store.insert(record(n, Some("test")), None).await.unwrap();
        let step = transition(&record(n, Some("test")).run, Event::Started { pid: 1 }, TimeMs(1)).unwrap();
        let told = vec![NewEvent::of_run(EventKind::TaskLaunched, TimeMs(1), &step.run.instance, "op")];
        let change = Change { updates: vec![step.run], events: told, ..Change::default() };
        store.record(change).await.unwrap();
        println!("kept {n}");
    }
}

#[tokio::test]
async fn what_was_answered_survives_kill_9() {
    let (dir, store) = temp_store().await;
    drop(store);
    let path = dir.path().join("runner.db");
    let mut writer = child("store_story::child_writes_until_killed", &path).spawn().unwrap();
    let lines = BufReader::new(writer.stdout.take().unwrap()).lines().map_while(Result::ok);
    let kept = |line: String| line.rsplit_once("kept ").and_then(|(_, n)| n.parse::<u64>().ok());
    let mut answered = lines.filter_map(kept);
    let last = answered.nth(150).unwrap();
    writer.kill().unwrap();
    writer.wait().unwrap();
    let last = answered.last().unwrap_or(last);

    let raw = rusqlite::Connection::open(&path).unwrap();
    let verdict: String = raw.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let store = Store::open(&path).unwrap();
    for n in 1..=last {
        let found = store.run(id(n)).await.unwrap().unwrap();
        assert_eq!(found.run.instance.state, RunState::Running, "run {n} of {last}");
    }
    let newest = *store.latest_event().borrow();
    assert!(newest >= i64::try_from(last).unwrap());
    let more = store.record(Change {
        events: vec![NewEvent::new(EventKind::PaneOpened, TimeMs(1))],
        ..Change::default()
    });
    assert_eq!(more.await.unwrap().events, [newest + 1]);
}

#[tokio::test]
async fn one_key_launches_once() {
    let (_dir, store) = temp_store().await;
    let key = IdempotencyKey { operator: "op".to_owned(), key: "k".repeat(128) };
    let tries = (0..100).map(|n| store.insert(record(n, Some("test")), Some(key.clone())));
    let answers = futures_util::future::join_all(tries).await;
    let fresh: Vec<_> =
        (0..).zip(&answers).filter(|(_, answer)| **answer == Ok(None)).map(|it| it.0).collect();
    assert_eq!(fresh.len(), 1);
    let first = store.run(id(fresh[0])).await.unwrap().unwrap();
    let earlier = Earlier::Run(Box::new(first.clone()));
    assert_eq!(answers.iter().filter(|answer| **answer == Ok(Some(earlier.clone()))).count(), 99);
    assert_eq!(store.live().await.unwrap().len(), 1);

    let at = first.run.instance.launched_at;
    let ask = |key: IdempotencyKey, now| store.earlier(project(), key, now);
    let other = IdempotencyKey { operator: "somebody".to_owned(), ..key.clone() };
    assert_eq!(ask(other, at).await, Ok(None));
    assert_eq!(ask(key.clone(), at.plus_ms(DAY_MS)).await, Ok(None));
    live_through(&store, first.run.clone(), &ended(Exit::Code(0))).await;
    let gone = first.run.instance.id;
    store.record(Change { deletes: vec![gone], ..Change::default() }).await.unwrap();
    assert_eq!(ask(key.clone(), at).await, Ok(Some(Earlier::Deleted(gone))));
    assert_eq!(store.insert(record(500, None), Some(key)).await, Ok(Some(Earlier::Deleted(gone))));
}

#[tokio::test]
async fn a_change_is_kept_whole_or_not_at_all() {
    let (_dir, store) = temp_store().await;
    let run = record(1, Some("test"));
    store.insert(run.clone(), None).await.unwrap();
    let done = live_through(&store, run.run.clone(), &ended(Exit::Code(0))).await;
    let newest = *store.latest_event().borrow();
    let told = vec![NewEvent::new(EventKind::ProjectChanged, TimeMs(1))];

    let back = Change { updates: vec![run.run.clone()], events: told.clone(), ..Change::default() };
    assert!(matches!(store.record(back).await, Err(Error::Conflict(_))));
    let unknown = Change { updates: vec![record(9, None).run], events: told.clone(), ..Change::default() };
    assert_eq!(store.record(unknown).await, Err(Error::NoInstance));
    store.insert(record(2, None), None).await.unwrap();
    let deletes = vec![id(1), id(2)];
    assert!(matches!(
        store.record(Change { deletes, events: told, ..Change::default() }).await,
        Err(Error::Conflict(_))
    ));
    assert!(matches!(store.remove_project(project(), Vec::new()).await, Err(Error::Conflict(_))));

    assert_eq!(store.run(id(1)).await.unwrap().map(|record| record.run), Some(done));
    assert_eq!(*store.latest_event().borrow(), newest);
}

#[tokio::test]
async fn a_deleted_run_takes_its_transcript_along() {
    let (dir, store) = temp_store().await;
    for n in 1..=2 {
        let run = record(n, Some("test"));
        store.insert(run.clone(), None).await.unwrap();
        live_through(&store, run.run, &ended(Exit::Code(0))).await;
        let stored = Change { transcripts: vec![(id(n), transcript())], ..Change::default() };
        store.record(stored).await.unwrap();
    }
    let test = Some("test".parse().unwrap());
    assert_eq!(store.ended(project(), test).await.unwrap().len(), 2);
    let deletes = vec![id(1), id(1), id(7)];
    assert_eq!(store.record(Change { deletes, ..Change::default() }).await.unwrap().deleted, 1);
    assert!(store.remove_project(project(), Vec::new()).await.unwrap());
    let raw = rusqlite::Connection::open(dir.path().join("runner.db")).unwrap();
    for table in ["task_instances", "task_transcripts", "projects"] {
        let rows: i64 =
            raw.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    assert!(!store.remove_project(project(), Vec::new()).await.unwrap());
}

#[tokio::test]
async fn pages_are_complete_and_newest_first() {
    let (_dir, store) = temp_store().await;
    for n in 1..=25 {
        let mut run = record(n, if n % 5 == 0 { None } else { Some("test") });
        // By ids, whatever the clock said.
        run.run.instance.launched_at = TimeMs(1_800_000_000_000 - i64::try_from(n * n % 7).unwrap());
        store.insert(run.clone(), None).await.unwrap();
        if n > 20 {
            live_through(&store, run.run, &ended(Exit::Code(1))).await;
        }
    }
    let list = async |filter: RunFilter, limit| {
        let (mut ids, mut cursor) = (Vec::new(), None);
        loop {
            let page = store.runs(project(), filter.clone(), limit, cursor).await.unwrap();
            assert!(page.items.len() <= limit);
            ids.extend(page.items.into_iter().map(|it| it.id));
            cursor = page.next_cursor;
            if cursor.is_none() {
                return ids;
            }
        }
    };
    let newest_first: Vec<_> = (1..=25).rev().map(id).collect();
    for limit in [1, 4, 5, 24, 25, 26] {
        assert_eq!(list(RunFilter::default(), limit).await, newest_first);
    }
    let failed =
        RunFilter { task_name: Some("test".to_owned()), states: vec![RunState::Failed, RunState::Done] };
    assert_eq!(list(failed, 3).await, [24, 23, 22, 21].map(id));
    assert_eq!(store.newest().await.unwrap(), Some(id(25)));
    for cursor in ["", "x", "1.", "1.01ARZ3NDEKTSV4RRFFQ69G5FAV", "9"] {
        let page = store.runs(project(), RunFilter::default(), 5, Some(cursor.to_owned())).await;
        assert_eq!(page, Err(Error::Cursor), "{cursor:?}");
    }
    let newest = store.newest_of_tasks(project()).await.unwrap();
    assert_eq!(newest.iter().map(|it| it.id).collect::<Vec<_>>(), [id(24)]);
}

#[tokio::test]
async fn event_ids_grow_by_one_and_followers_wake() {
    let (_dir, store) = temp_store().await;
    let mut latest = store.latest_event();
    let events =
        |n| (0..n).map(|_| NewEvent::new(EventKind::PaneOpened, TimeMs(3)).detail("pane", 7)).collect();
    let change = |n| Change { events: events(n), ..Change::default() };
    let writes = (1..=20).map(|n| store.record(change(n)));
    let done = futures_util::future::join_all(writes).await;
    let mut ids: Vec<_> = done.into_iter().flat_map(|recorded| recorded.unwrap().events).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=210).collect::<Vec<_>>());
    assert_eq!(*latest.wait_for(|id| *id == 210).await.unwrap(), 210);
    let after = store.events_after(208, 10).await.unwrap();
    assert_eq!(after.iter().map(|it| it.id).collect::<Vec<_>>(), [209, 210]);
    assert_eq!(after[0].details["pane"], 7);

    let filter = EventFilter { since: Some(200), kind: Some("pane.opened".to_owned()), project: None };
    let page = store.events(filter.clone(), 6, None).await.unwrap();
    assert_eq!((page.items[0].id, page.items.len(), page.next_cursor.as_deref()), (201, 6, Some("206")));
    let page = store.events(filter, 6, page.next_cursor).await.unwrap();
    assert_eq!((page.items.len(), page.next_cursor), (4, None));
}

#[tokio::test]
async fn a_project_id_or_directory_is_taken_once() {
    let (_dir, store) = temp_store().await;
    let add = |id: &str, path: &str| {
        let project = Registered { id: id.parse().unwrap(), path: path.into(), registered_at: TimeMs(2) };
        store.add_project(project, None, Vec::new())
    };
    let Err(Error::Conflict(text)) = add("demo", "/other").await else { panic!("taken twice") };
    assert!(text.contains("/other") && text.contains("/srv/demo"), "{text}");
    assert!(matches!(add("demo-2", "/srv/demo").await, Err(Error::Conflict(_))));
    add("demo-2", "/other").await.unwrap();
    assert_eq!(store.projects().await.unwrap().len(), 2);
}

#[tokio::test]
async fn credentials_come_back_as_hashes() {
    let (dir, store) = temp_store().await;
    let mut keys = Keys::new("op".to_owned(), "kas_boot", Vec::new(), Vec::new());
    let new = |scope, only| NewToken { name: "ci".to_owned(), scope, only, expires_at: None };
    let only = SharedTask { project: "demo".parse().unwrap(), task: "test".parse().unwrap() };
    let (token, secret) = keys.create_token(new(Scope::Run, None), TimeMs(5)).unwrap();
    store.put_token(token.clone()).await.unwrap();
    let (ticket, _) = keys.page_ticket(Scope::Full, TimeMs(5)).unwrap();
    let session = keys.open_session(&ticket, TimeMs(5)).unwrap().unwrap();
    let (link, shared) = keys.create_token(new(Scope::View, Some(only.clone())), TimeMs(5)).unwrap();
    store.put_token(link.clone()).await.unwrap();
    let looking = keys.open_shared_session(&shared, TimeMs(5)).unwrap().unwrap();
    store.put_sessions(keys.sessions().to_vec()).await.unwrap();
    drop(store);

    let path = dir.path().join("runner.db");
    let store = Store::open(&path).unwrap();
    let restarted = async || {
        let (tokens, sessions) = (store.tokens().await.unwrap(), store.sessions(TimeMs(6)).await.unwrap());
        Keys::new("op".to_owned(), "kas_boot", tokens, sessions)
    };
    let mut keys = restarted().await;
    assert_eq!(keys.bearer(&secret, TimeMs(6)).map(|actor| actor.scope), Some(Scope::Run));
    assert!(keys.session(&session.cookie, &session.key, TimeMs(6)).is_some());
    let who = keys.session(&looking.cookie, &looking.key, TimeMs(6)).unwrap();
    assert_eq!((who.scope, who.only), (Scope::View, Some(only)));
    assert!(store.sessions(session.record.expires_at).await.unwrap().is_empty());
    let revoked = keys.revoke_token(&token.id, TimeMs(7)).unwrap();
    store.put_token(revoked).await.unwrap();
    assert_eq!(restarted().await.bearer(&secret, TimeMs(8)), None);
    let everything = bytes_of(dir.path()).into_values().flatten().collect::<Vec<_>>();
    for secret in [&secret, &session.cookie, &session.key] {
        assert!(memchr::memmem::find(&everything, secret.as_bytes()).is_none());
    }
}

#[tokio::test]
async fn a_lock_held_by_another_program_is_said_after_five_seconds() {
    let (dir, store) = temp_store().await;
    let other = rusqlite::Connection::open(dir.path().join("runner.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let begun = std::time::Instant::now();
    let tries = (0..5).map(|n| store.insert(record(n, None), None));
    let answers = futures_util::future::join_all(tries).await;
    assert!(answers.iter().all(|answer| *answer == Err(Error::Busy)), "{answers:?}");
    let in_time = Duration::from_secs(4)..promised(Duration::from_secs(9));
    assert!(in_time.contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(store.live().await, Ok(Vec::new()), "reading goes on");
    other.execute_batch("ROLLBACK").unwrap();
    assert_eq!(store.insert(record(1, None), None).await, Ok(None));
}

fn bytes_of(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths
        .filter(|path| !path.ends_with("runner.db-shm"))
        .map(|path| (path.clone(), fs::read(path).unwrap()))
        .collect()
}

#[tokio::test]
async fn a_newer_schema_is_refused_byte_for_byte() {
    let (dir, store) = temp_store().await;
    drop(store);
    let path = dir.path().join("runner.db");
    let newer = || match Store::open(&path) {
        Err(Error::Open { path: named, cause }) => {
            assert_eq!(
                (named.as_path(), *cause),
                (path.as_path(), Error::Newer { found: 99, known: SHIPPED.len().try_into().unwrap() })
            );
        }
        other => panic!("{other:?}"),
    };
    // First the version is only in the log, then in the file.
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.pragma_update(None, "user_version", 99).unwrap();
    let before = bytes_of(dir.path());
    assert!(before.len() == 2 && before.values().all(|bytes| !bytes.is_empty()));
    newer();
    assert!(bytes_of(dir.path()) == before);
    drop(raw);
    let before = bytes_of(dir.path());
    assert_eq!(before.len(), 1);
    newer();
    assert!(bytes_of(dir.path()) == before);
}

#[tokio::test]
async fn what_cannot_be_opened_is_named_and_left_alone() {
    let check = |make: &dyn Fn(&Path), expect: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runner.db");
        make(&path);
        let before = if path.is_dir() { BTreeMap::new() } else { bytes_of(dir.path()) };
        let text = Store::open(&path).map(drop).unwrap_err().to_string();
        assert!(text.contains(&path.display().to_string()) && text.contains(expect), "{text}");
        assert!(path.is_dir() || bytes_of(dir.path()) == before);
    };
    let fixture = || fs::read(shipped("v3")).unwrap();
    check(&|path| fs::write(path, b"").unwrap(), "damaged (it has only 0 bytes)");
    check(&|path| fs::write(path, "x".repeat(5000)).unwrap(), "not an SQLite file");
    check(&|path| fs::create_dir(path).unwrap(), "not a plain file");
    check(&|path| fs::write(path.with_extension("db-wal"), b"log").unwrap(), "the file is gone");
    check(
        &|path| rusqlite::Connection::open(path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap(),
        "not a database of kas",
    );
    let truncated = |path: &Path| fs::write(path, &fixture()[..4096]).unwrap();
    check(&truncated, "damaged");
}

#[tokio::test]
async fn a_damaged_page_is_found_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("runner.db");
    let mut bytes = fs::read(shipped("v3")).unwrap();
    let raw = rusqlite::Connection::open(fixture_copy(dir.path(), "v3")).unwrap();
    let root: usize = raw
        .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'task_instances'", [], |row| {
            row.get::<_, i64>(0)
        })
        .unwrap()
        .try_into()
        .unwrap();
    bytes[(root - 1) * 4096..root * 4096].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let text = Store::open(&path).map(drop).unwrap_err().to_string();
    assert!(text.contains("damaged") && text.contains("runner.db"), "{text}");
}

#[tokio::test]
async fn child_says_why_it_cannot_open() {
    let Some(path) = child_path() else { return };
    println!("said: {}", Store::open(&path).map(drop).unwrap_err());
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_said() {
    let (dir, store) = temp_store().await;
    drop(store);
    let path = dir.path().join("runner.db");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut opener = child("store_story::child_says_why_it_cannot_open", &path);
    if rustix::process::getuid().is_root() {
        opener.uid(65_534).current_dir("/");
    }
    let output = opener.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        text.contains("said: cannot open the database") && text.contains("cannot be written"),
        "{output:?}"
    );
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
}
