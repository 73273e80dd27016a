//! The judgement on evidence that is made up: what is fine is fine, and each change to it is found.

use std::path::PathBuf;

use bytes::Bytes;
use kas::backend::tmux::{Census, Pane};
use kas::check::{
    Database, Directory, Evidence, Frame, Health, Holding, Invariant, Journal, Process, Spec, Stored, Stream,
    Windows, unjudged, verify,
};
use kas::control::{PaneId, SessionId, WindowId};
use kas::journal::{Cause, Ending, ExitRecord, Nonce};
use kas::lifecycle::{Run, StopRequest};
use kas::model::{BackendKind, ErrorWord, EventKind, Exit, Instance, InstanceId, RunState, TimeMs};
use kas::store::{KeyRow, Log, RunRow, StoredEvent};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

/// Runs of the made-up world, by their place in it.
const DONE: usize = 0;
const FAILED: usize = 1;
const STOPPED: usize = 2;
const LIVE: usize = 3;
const NEVER: usize = 4;
const OUTPUT: &[u8] = b"one line of this run\r\nand another one\r\n";

fn id(at: usize) -> InstanceId {
    InstanceId::from_parts(1, 100 + at as u128)
}

fn instance(at: usize, state: RunState) -> Instance {
    let terminal = state.is_terminal();
    Instance {
        id: id(at),
        project_id: "demo".parse().unwrap(),
        task_name: None,
        command: "true".to_owned(),
        cwd: PathBuf::from("/"),
        state,
        backend: if at == LIVE { BackendKind::Tmux } else { BackendKind::Pty },
        tmux_session: None,
        tmux_window: None,
        pid: (at != NEVER).then(|| 5000 + u32::try_from(at).unwrap()),
        exit: None,
        error: None,
        error_text: None,
        launched_at: TimeMs(1_000_000),
        exited_at: terminal.then_some(TimeMs(1_005_000)),
        stopped_at: (state == RunState::Stopped).then_some(TimeMs(1_005_000)),
        launched_by: "op".to_owned(),
        output_bytes: if terminal && at != NEVER { output(at).len() as u64 } else { 0 },
        restarted_from: None,
        history: None,
    }
}

fn output(at: usize) -> Bytes {
    [format!("run {at}: ").as_bytes(), OUTPUT].concat().into()
}

fn row(at: usize) -> RunRow {
    let (state, exit, error) = match at {
        DONE => (RunState::Done, Some(Exit::Code(0)), None),
        FAILED => (RunState::Failed, Some(Exit::Signal(9)), None),
        STOPPED => (RunState::Stopped, None, None),
        LIVE => (RunState::Running, None, None),
        _ => (RunState::Failed, None, Some(ErrorWord::SpawnFailed)),
    };
    let error_text = error.map(|word| word.text().to_owned());
    let instance = Instance { exit, error, error_text, ..instance(at, state) };
    let stop = (at == STOPPED).then(|| StopRequest { at: TimeMs(1_004_000), by: "op".to_owned() });
    RunRow {
        exit_code: exit.map(|exit| exit.code().into()),
        duration_ms: instance.duration_ms(),
        run: Run { instance, stop },
    }
}

fn event(number: i64, kind: EventKind, at: usize, details: Value) -> StoredEvent {
    StoredEvent {
        id: number,
        kind: kind.word().to_owned(),
        at: TimeMs(1_000_001),
        project_id: Some("demo".to_owned()),
        task_id: Some(id(at).to_string()),
        details: details.as_object().cloned().unwrap_or_else(Map::new),
    }
}

fn events() -> Vec<StoredEvent> {
    let ended =
        |state: &str, code: Value, error: Value| json!({"state": state, "exit_code": code, "error": error});
    let mut all: Vec<_> = (0..4)
        .map(|at| event(i64::try_from(at).unwrap() + 1, EventKind::TaskLaunched, at, Value::Null))
        .collect();
    all.push(event(5, EventKind::TaskExited, DONE, ended("done", json!(0), Value::Null)));
    all.push(event(6, EventKind::TaskExited, FAILED, ended("failed", json!(137), Value::Null)));
    all.push(event(7, EventKind::TaskStopped, STOPPED, json!({"exit_code": null})));
    all.push(event(8, EventKind::TaskExited, NEVER, ended("failed", Value::Null, json!("spawn_failed"))));
    all
}

fn stored(at: usize) -> Stored {
    let bytes = output(at);
    let end = bytes.len() as u64;
    Stored { id: id(at), start: 0, end, lines: (2, 2), indexed_to: end, bytes: Some(bytes) }
}

fn directory() -> Directory {
    let spec = Spec {
        id: id(LIVE),
        nonce: Nonce::from_bytes([7; 16]),
        boot_id: "this".to_owned(),
        keep_window: false,
        limit_bytes: 1_000_000,
    };
    let pieces = vec![(0, output(LIVE))];
    let journal = Journal { pieces, gaps: Vec::new(), indexed_to: 20, checkpoint: None };
    Directory { id: id(LIVE), spec: Ok(spec), exit: Ok(None), journal: Ok(journal) }
}

fn record(exit: Exit) -> ExitRecord {
    ExitRecord {
        ending: Ending::Exited(exit),
        cause: Cause::Itself,
        total_bytes: output(LIVE).len() as u64,
        lost_bytes: 0,
        started_at: TimeMs(1_000_000),
        ended_at: TimeMs(1_005_000),
        pid: Some(5003),
        nonce: Nonce::from_bytes([7; 16]),
        boot_id: "this".to_owned(),
    }
}

fn process(pid: u32, parent: u32, shim_of: Option<InstanceId>) -> Process {
    Process {
        pid,
        parent,
        state: 'S',
        started_at: TimeMs(1_000_000),
        shim_of,
        ward_of: None,
        says_it_is_of: None,
    }
}

fn stream(at: usize) -> Stream {
    let whole = output(at);
    let mut frames = vec![
        Frame::Output { offset: 0, bytes: whole.slice(..10) },
        Frame::Gap { from: 10, to: 12 },
        Frame::Snapshot { offset: 12 },
        Frame::Output { offset: 12, bytes: whole.slice(12..) },
    ];
    if at == FAILED {
        frames.push(Frame::Exit { offset: whole.len() as u64, state: "failed".to_owned(), code: Some(137) });
    }
    Stream { name: format!("{at}.kas"), instance: id(at), from: Some(0), frames }
}

fn key(key: &str, at: usize) -> KeyRow {
    let (operator, project) = ("op".to_owned(), "demo".to_owned());
    KeyRow { operator, project, key: key.to_owned(), instance: id(at), created_at: TimeMs(1_000_000) }
}

fn pane(at: usize, pid: u32) -> Pane {
    Pane {
        session: SessionId(0),
        window: WindowId(1),
        pane: PaneId(1),
        instance: id(at),
        is_dead: false,
        pid,
    }
}

/// A world in order: four runs that are over and one that lives in a window, beside a daemon at work.
fn fine() -> Evidence {
    let database = Database {
        runs: (0..5).map(row).collect(),
        keys: vec![key("a", DONE), key("b", LIVE)],
        events: events(),
        log: Log { first: 1, last: 8, count: 8 },
        transcripts: vec![stored(DONE), stored(FAILED), stored(STOPPED)],
        ..Database::default()
    };
    let shim = process(4003, 90, Some(id(LIVE)));
    Evidence {
        daemon: Health::Works(90),
        boot_id: "this".to_owned(),
        database: Some(database),
        directories: vec![directory()],
        processes: vec![process(90, 1, None), shim, process(5003, 4003, None)],
        holdings: [90, 4003]
            .map(|pid| Holding { pid, memory_kib: 16 << 10, descriptors: 64, threads: 8 })
            .into(),
        windows: Windows::Seen(Census { windows: 2, panes: vec![pane(LIVE, 4003)], is_marked: false }),
        streams: vec![stream(FAILED), stream(LIVE)],
        panics: Vec::new(),
        exposed: Vec::new(),
        disk_was_full: false,
    }
}

fn database(evidence: &mut Evidence) -> &mut Database {
    evidence.database.as_mut().unwrap()
}

fn run(evidence: &mut Evidence, at: usize) -> &mut Instance {
    &mut database(evidence).runs[at].run.instance
}

fn journal(evidence: &mut Evidence) -> &mut Journal {
    evidence.directories[0].journal.as_mut().unwrap()
}

fn spec(evidence: &mut Evidence) -> &mut Spec {
    evidence.directories[0].spec.as_mut().unwrap()
}

/// The live run has ended by now, in its directory.
fn end(evidence: &mut Evidence, change: impl FnOnce(&mut ExitRecord)) {
    let mut ended = record(Exit::Code(3));
    change(&mut ended);
    evidence.directories[0].exit = Ok(Some(ended));
}

/// Plants something and expects exactly these, `I3 part of the sentence`.
#[track_caller]
fn check(plant: impl FnOnce(&mut Evidence), expected: &[&str]) {
    let mut evidence = fine();
    plant(&mut evidence);
    let found: Vec<_> = verify(&evidence).iter().map(ToString::to_string).collect();
    let meets = |said: &str, wanted: &str| {
        let (code, part) = wanted.split_once(' ').unwrap();
        said.split(' ').next() == Some(code) && said.contains(part)
    };
    assert_eq!(found.len(), expected.len(), "{found:#?} instead of {expected:#?}");
    for wanted in expected {
        assert!(found.iter().any(|said| meets(said, wanted)), "nothing says {wanted:?} in {found:#?}");
    }
}

#[test]
fn a_world_in_order_has_no_violation() {
    check(|_| {}, &[]);
    check(|it| it.daemon = Health::Absent, &[]);
    check(|it| it.database = None, &["I3 no row knows it", "I3 no row knows it"]);
    check(|it| end(it, |_| {}), &[]);
}

#[test]
fn i1_a_run_is_launched_once() {
    check(
        |it| it.processes.push(process(4004, 1, Some(id(LIVE)))),
        &["I1 more than one shim", "I3 in no window"],
    );
    // A fork of the shim that has not become the command yet is none.
    check(|it| it.processes.push(process(4004, 4003, Some(id(LIVE)))), &[]);
    check(|it| database(it).keys.push(key("a", FAILED)), &["I1 2 runs were launched under one"]);
    check(|it| database(it).keys.push(key("c", DONE)), &["I1 two idempotency keys"]);
    check(|it| database(it).keys[0].operator = "other".to_owned(), &["I1 another operator"]);
    let again = event(9, EventKind::TaskLaunched, LIVE, Value::Null);
    check(
        |it| {
            database(it).events.push(again);
            database(it).log = Log { first: 1, last: 9, count: 9 };
        },
        &["I1 launched 2 times"],
    );
}

#[test]
fn i2_states_have_their_columns_and_events() {
    check(|it| run(it, DONE).exited_at = None, &["I2 time of end", "I2 duration"]);
    check(|it| run(it, STOPPED).stopped_at = None, &["I2 time of stop"]);
    check(|it| database(it).runs[STOPPED].run.stop = None, &["I2 nobody asked"]);
    check(|it| run(it, LIVE).pid = None, &["I2 no process id"]);
    check(|it| drop(database(it).events.remove(LIVE)), &["I2 has no launch"]);
    check(|it| drop(database(it).events.remove(4)), &["I2 has no end"]);
    check(|it| database(it).events[6].kind = "task.exited".to_owned(), &["I2 calls its end task.exited"]);
    check(
        |it| database(it).events[7].kind = "task.launched".to_owned(),
        &["I2 has a launch of it", "I2 has no end"],
    );
    check(|it| database(it).events.swap(DONE, 4), &["I2 end before its launch"]);
    let twice = event(9, EventKind::TaskStopped, DONE, Value::Null);
    check(|it| database(it).events.push(twice), &["I2 more than one end"]);
    // What the log no longer reaches back to is not missed.
    check(
        |it| {
            database(it).events.clear();
            database(it).log = Log { first: 901, last: 950, count: 50 };
        },
        &[],
    );
}

#[test]
fn i3_what_lives_is_recorded_and_what_is_recorded_lives() {
    check(|it| it.processes.truncate(1), &["I3 no process holds it"]);
    check(
        |it| {
            it.processes.truncate(1);
            it.daemon = Health::Absent;
        },
        &[],
    );
    check(
        |it| {
            it.processes.truncate(1);
            it.directories.clear();
            it.daemon = Health::Absent;
            it.streams.clear();
        },
        &["I3 neither a process nor a directory"],
    );
    let ward = |at: usize| Process { ward_of: Some(id(at)), ..process(4002, 1, None) };
    check(|it| it.processes.push(ward(LIVE)), &[]);
    check(|it| it.processes.push(ward(DONE)), &["I3 the ward of its shim lives"]);
    check(|it| it.processes[2].parent = 1, &["I3 does not hold its process"]);
    check(|it| it.processes[1].shim_of = Some(id(DONE)), &["I3 directory is gone", "I3 no process holds it"]);
    check(|it| it.processes.push(process(6000, 1, Some(id(77)))), &["I3 directory is gone"]);
    check(|it| spec(it).boot_id = "another".to_owned(), &["I3 another boot"]);
    check(|it| it.directories[0].spec = Err("no file".to_owned()), &["I3 spec cannot be read"]);
    check(|it| it.processes.push(process(5000, 1, None)), &["I3 its command lives as process 5000"]);
    // Who began after the run ended is somebody else.
    check(|it| it.processes.push(Process { started_at: TimeMs(1_006_000), ..process(5000, 1, None) }), &[]);
    let says = |at: usize| Process { says_it_is_of: Some(id(at)), ..process(6001, 1, None) };
    check(|it| it.processes.push(says(FAILED)), &[]);
    let panes = |panes| Windows::Seen(Census { windows: 2, panes, is_marked: false });
    check(|it| it.windows = panes(Vec::new()), &["I3 in no window"]);
    check(|it| it.windows = panes(vec![pane(LIVE, 4003), pane(88, 1)]), &["I3 window @1 carries its id"]);
}

#[test]
fn i3_a_run_that_is_over_has_no_shim() {
    let over = |it: &mut Evidence| {
        database(it).runs[LIVE] = RunRow { run: Run::new(run(it, LIVE).clone()), ..row(FAILED) };
        let kept = Instance { exit: Some(Exit::Signal(9)), ..instance(LIVE, RunState::Failed) };
        *run(it, LIVE) = kept;
        let details = json!({"state": "failed", "exit_code": 137, "error": null});
        database(it).events.push(event(9, EventKind::TaskExited, LIVE, details));
        database(it).log = Log { first: 1, last: 9, count: 9 };
        database(it).transcripts.push(stored(LIVE));
        end(it, |record| record.ending = Ending::Exited(Exit::Signal(9)));
        it.processes.remove(2);
    };
    check(over, &["I3 it is over and its shim lives"]);
    let kept = |it: &mut Evidence| {
        over(it);
        spec(it).keep_window = true;
    };
    check(kept, &[]);
    let told = |it: &mut Evidence| {
        kept(it);
        end(it, |_| {});
    };
    check(told, &["I4 its row says signal 9, its exit record code 3"]);
    let stopped_without_its_code = |it: &mut Evidence| {
        told(it);
        let run = Run { instance: instance(LIVE, RunState::Stopped), ..row(STOPPED).run };
        database(it).runs[LIVE] = RunRow { run, ..row(STOPPED) };
        *database(it).events.last_mut().unwrap() = event(9, EventKind::TaskStopped, LIVE, Value::Null);
    };
    check(stopped_without_its_code, &["I4 its row says stopped, its exit record code 3"]);
    let differs = |it: &mut Evidence| {
        kept(it);
        journal(it).pieces[0].1 = [b"x", &output(LIVE)[1..]].concat().into();
    };
    check(differs, &["I5 transcript and its journal differ at byte 0"]);
}

#[test]
fn i4_an_exit_is_what_the_kernel_said() {
    check(
        |it| database(it).runs[FAILED].exit_code = Some(1),
        &["I4 not that of its signal", "I4 another end", "I4 told failed"],
    );
    check(|it| run(it, NEVER).error = None, &["I4 not exactly one", "I4 another end"]);
    check(|it| database(it).runs[STOPPED].exit_code = Some(0), &["I4 not that of", "I4 another end"]);
    check(|it| database(it).runs[LIVE].exit_code = Some(3), &["I4 not over", "I4 not that of"]);
    check(|it| end(it, |record| record.nonce = Nonce::from_bytes([8; 16])), &["I4 somebody else"]);
    check(|it| it.directories[0].exit = Err("nonsense".to_owned()), &["I4 exit record cannot be read"]);
    let told = |it: &mut Evidence| {
        it.streams[0].frames[4] =
            Frame::Exit { offset: output(FAILED).len() as u64, state: "done".to_owned(), code: Some(0) };
    };
    check(told, &["I4 was told done with code 0"]);
}

#[test]
fn i5_bytes_are_kept_as_they_were_written() {
    check(|it| database(it).transcripts[0].end -= 1, &["I5 its transcript ends at byte"]);
    check(|it| drop(database(it).transcripts.remove(0)), &["I5 bytes are not stored"]);
    check(|it| database(it).transcripts[0].lines.0 = 3, &["I5 3 are recorded"]);
    check(|it| database(it).transcripts[0].indexed_to = 1000, &["I5 after its end"]);
    check(
        |it| database(it).transcripts.push(stored(LIVE)),
        &["I5 it is running and has a transcript", "I5 and its output at 0"],
    );
    check(|it| it.directories[0].journal = Err("no".to_owned()), &["I5 journal cannot be read"]);
    let whole = output(LIVE);
    let split = |hole: std::ops::Range<usize>| {
        vec![(0, whole.slice(..hole.start)), (hole.end as u64, whole.slice(hole.end..))]
    };
    check(|it| journal(it).pieces = split(20..22), &["I5 bytes 20 to 22 are missing"]);
    check(
        |it| {
            journal(it).pieces = split(20..22);
            journal(it).gaps = vec![(20, 22)];
        },
        &[],
    );
    check(|it| journal(it).pieces = vec![(30, whole.slice(30..))], &["I5 without the terminal's state"]);
    check(
        |it| {
            journal(it).pieces = vec![(30, whole.slice(30..))];
            journal(it).checkpoint = Some(30);
        },
        &[],
    );
    check(|it| journal(it).indexed_to = 1000, &["I5 its index knows"]);
    check(|it| end(it, |record| record.total_bytes += 1), &["I5 its exit record says"]);
    check(|it| end(it, |record| (record.total_bytes, record.lost_bytes) = (record.total_bytes + 1, 1)), &[]);
}

#[test]
fn i5_and_i6_a_stream_is_its_runs_output() {
    let frame = |at: usize, frame: Frame| move |it: &mut Evidence| it.streams[0].frames[at] = frame;
    let whole = output(FAILED);
    let cut = |from: usize, to: usize| Frame::Output { offset: from as u64, bytes: whole.slice(from..to) };
    check(frame(0, cut(0, 9)), &["I5 bytes 9 to 10 are missing"]);
    check(frame(0, cut(0, 11)), &["I5 bytes 10 to 11 came twice"]);
    check(frame(0, cut(1, 10)), &["I5 bytes 0 to 1 are missing"]);
    check(frame(1, Frame::Gap { from: 10, to: 9 }), &["I5 a gap ends"]);
    check(
        frame(0, Frame::Output { offset: 0, bytes: Bytes::from_static(b"run 1; one") }),
        &["I5 something else than is kept at byte 5"],
    );
    check(|it| it.streams[0].frames.push(Frame::Snapshot { offset: 0 }), &["I5 after the end"]);
    check(|it| it.streams[0].frames[3] = Frame::Cut, &[]);
    let longer = Frame::Output { offset: 12, bytes: [&whole[12..], b"!"].concat().into() };
    check(frame(3, longer), &["I5 bytes that are not kept", "I5 bytes 46 to 47 came twice"]);
    let others = Frame::Output { offset: 12, bytes: output(DONE).slice(..34) };
    check(frame(3, others), &["I6 output of run"]);
    let early = |it: &mut Evidence| {
        it.streams[0].frames.truncate(1);
        it.streams[0].frames.push(Frame::Exit { offset: 10, state: "failed".to_owned(), code: Some(137) });
    };
    check(early, &["I5 told an end at byte 10"]);
}

#[test]
fn i8_to_i12() {
    check(|it| it.exposed.push("token may be used by others".to_owned()), &["I8 token"]);
    let zombie = Process { state: 'Z', ..process(99, 90, None) };
    check(|it| it.processes.push(zombie), &["I9 the daemon does not reap"]);
    check(|it| it.processes.push(Process { parent: 4003, ..zombie }), &["I9 a shim does not reap"]);
    check(|it| it.processes.push(Process { parent: 1, ..zombie }), &[]);
    check(|it| it.holdings[1].memory_kib += 1, &["I9 a shim holds more than 16384 KiB of memory"]);
    check(|it| it.holdings[1].descriptors += 1, &["I9 a shim holds more than 64 descriptors"]);
    check(|it| it.holdings[1].threads += 1, &["I9 a shim holds more than 8 threads"]);
    check(
        |it| it.holdings[0] = Holding { pid: 90, memory_kib: 1 << 20, descriptors: 9000, threads: 900 },
        &[
            "I9 the daemon holds more than 524288 KiB",
            "I9 more than 8192 descriptors",
            "I9 more than 640 threads",
        ],
    );
    check(|it| database(it).log = Log { first: 1, last: 200_000, count: 200_000 }, &["I9 more than 100000"]);
    let large = |it: &mut Evidence| {
        spec(it).limit_bytes = 10;
        let bytes = Bytes::from(vec![b'.'; 5 << 20]);
        end(it, |record| record.total_bytes = bytes.len() as u64);
        journal(it).pieces = vec![(0, bytes)];
        it.streams.pop();
    };
    check(large, &["I9 its journal holds"]);
    check(|it| it.panics.push("thread panicked at".to_owned()), &["I10 panic"]);
    let unrecorded = |it: &mut Evidence| {
        end(it, |_| {});
        it.processes.truncate(1);
    };
    check(unrecorded, &["I10 the daemon does not record it"]);
    check(
        |it| {
            unrecorded(it);
            it.daemon = Health::Halted(90);
        },
        &[],
    );
    let census = Census { windows: 0, panes: Vec::new(), is_marked: true };
    check(|it| it.windows = Windows::Seen(census), &["I11 the whole server"]);
    check(|it| database(it).log.count = 7, &["I12 events are missing"]);
    check(|it| database(it).damage.push("page 3 is never used".to_owned()), &["I12 page 3"]);
    check(
        |it| database(it).unreadable.push(("x".to_owned(), "bad".to_owned())),
        &["I12 row cannot be read (bad)"],
    );
}

#[test]
fn i12_what_was_told_lasts_until_it_is_deleted() {
    let gone = |it: &mut Evidence| {
        database(it).runs.remove(DONE);
        database(it).transcripts.remove(0);
    };
    check(gone, &["I12 more runs have ended and have no row"]);
    let changed = |change: Value| {
        move |it: &mut Evidence| {
            gone(it);
            database(it)
                .events
                .push(StoredEvent { task_id: None, ..event(9, EventKind::ProjectChanged, 0, change) });
            database(it).log = Log { first: 1, last: 9, count: 9 };
        }
    };
    check(changed(json!({"change": "runs_deleted", "deleted": 1})), &[]);
    check(changed(json!({"change": "removed"})), &[]);
    check(changed(json!({"change": "added"})), &["I12 more runs"]);
    check(|it| database(it).keys.push(key("z", 55)), &["I12 neither a row nor an event"]);
    let launched = |it: &mut Evidence| {
        database(it).events.push(event(9, EventKind::TaskLaunched, 66, Value::Null));
        database(it).log = Log { first: 1, last: 9, count: 9 };
    };
    check(launched, &["I12 has not ended, and has no row"]);
}

#[test]
fn what_is_not_seen_is_not_called_fine() {
    let codes = |it: &Evidence| unjudged(it).iter().map(|it| it.invariant.code()).collect::<Vec<_>>();
    assert_eq!(codes(&fine()), ["I7", "I8", "I9", "I10", "I11"]);
    let blind = Evidence {
        daemon: Health::Absent,
        database: None,
        streams: Vec::new(),
        windows: Windows::Unknown("it hangs".to_owned()),
        ..fine()
    };
    assert_eq!(codes(&blind), ["I3", "I3", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I12"]);
    assert_eq!(Invariant::ALL.map(Invariant::code)[11], "I12");
}

proptest! {
    /// One wrong byte in a transcript or a stream is found, wherever it is.
    #[test]
    fn any_changed_byte_is_found(at in 0usize..46, bit in 0u8..8, which in 0usize..3) {
        let mut evidence = fine();
        let flip = |bytes: &Bytes, at: usize| {
            let mut bytes = bytes.to_vec();
            bytes[at] ^= 1 << bit;
            Bytes::from(bytes)
        };
        let at = at.min(output(FAILED).len() - 1);
        prop_assume!(at != 10 && at != 11);
        match which {
            0 => {
                let stored = &mut database(&mut evidence).transcripts[1];
                stored.bytes = stored.bytes.as_ref().map(|bytes| flip(bytes, at));
            }
            1 => journal(&mut evidence).pieces[0].1 = flip(&output(LIVE), at),
            _ => {
                let index = if at < 10 { 0 } else { 3 };
                let Frame::Output { offset, bytes } = &mut evidence.streams[0].frames[index] else { unreachable!() };
                let here = at - usize::try_from(*offset).unwrap();
                *bytes = flip(bytes, here);
            }
        }
        let found = verify(&evidence);
        // What no longer is the run's own may be just like another's.
        let told = |it: Invariant| matches!(it, Invariant::Bytes | Invariant::NoCrossTalk);
        prop_assert!(found.iter().any(|it| told(it.invariant)), "{found:?}");
    }

    /// Whatever is missing of the evidence, the judgement is one; the same evidence is judged the same.
    #[test]
    fn any_part_of_the_evidence_can_be_judged(drops in prop::collection::vec(0usize..40, 0..30)) {
        let mut evidence = fine();
        for drop in drops {
            let at = drop / 8;
            match drop % 8 {
                0 if at < database(&mut evidence).runs.len() => { database(&mut evidence).runs.remove(at); }
                1 if at < database(&mut evidence).events.len() => { database(&mut evidence).events.remove(at); }
                2 if at < database(&mut evidence).transcripts.len() => { database(&mut evidence).transcripts.remove(at); }
                3 if at < evidence.processes.len() => { evidence.processes.remove(at); }
                4 => evidence.directories.clear(),
                5 if at < evidence.streams.len() => { evidence.streams.remove(at); }
                6 => if let Some(stream) = evidence.streams.first_mut() { stream.frames.truncate(at); },
                7 => database(&mut evidence).keys.clear(),
                _ => {}
            }
        }
        let found = verify(&evidence);
        prop_assert_eq!(&found, &verify(&evidence));
        prop_assert!(found.is_sorted());
    }
}
