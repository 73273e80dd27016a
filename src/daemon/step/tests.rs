//! What each input makes of a state, and what it asks to be done.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::journal::Nonce;
use crate::model::{Definition, Exit, Scope, Size};
use crate::policy::TaskLimits;

const NOW: TimeMs = TimeMs(1_000);

fn demo() -> ProjectId {
    "demo".parse().unwrap()
}

fn state(backend: BackendKind) -> State {
    let mut state = State::new(TaskLimits { per_project: 2, per_operator: 3 }, backend);
    let task = TaskDef {
        name: "deploy".parse().unwrap(),
        command: "make deploy".to_owned(),
        description: String::new(),
        group: None,
        cwd: None,
        long_running: false,
        confirm: true,
        env: BTreeMap::new(),
        history: true,
        history_count: 3,
    };
    for id in ["demo", "other"] {
        let (id, path) = (id.parse::<ProjectId>().unwrap(), format!("/{id}").into());
        let project =
            Project { id: id.clone(), path, tasks: Arc::new(vec![task.clone()]), problems: Arc::default() };
        state.projects.insert(id, project);
    }
    state
}

fn ada() -> Actor {
    let (operator, credential) = ("ada".to_owned(), "socket".to_owned());
    Actor { operator, credential, scope: Scope::Full, only: None }
}

fn definition() -> Definition {
    Definition {
        command: "make deploy".to_owned(),
        cwd: "/demo".into(),
        env: BTreeMap::new(),
        size: Size::DEFAULT,
    }
}

fn id(n: u128) -> InstanceId {
    InstanceId::from_parts(1, n)
}

fn plan(n: u128, project: &str) -> Box<Plan> {
    Box::new(Plan {
        id: id(n),
        project: project.parse().unwrap(),
        task: Some("deploy".parse().unwrap()),
        definition: definition(),
        history: Some(3),
        restarted_from: None,
        idempotency_key: None,
    })
}

fn launch_in(state: &mut State, n: u128, project: &str) -> Vec<Effect> {
    let plan = plan(n, project);
    step(state, Input::Launch { reply: ReplyId(n as u64), actor: ada(), plan, ask: None }, NOW)
}

fn record(ending: Ending, cause: Cause) -> Box<ExitRecord> {
    Box::new(ExitRecord {
        ending,
        cause,
        total_bytes: 12,
        lost_bytes: 0,
        started_at: NOW,
        ended_at: TimeMs(2_000),
        pid: Some(7),
        nonce: Nonce::from_bytes([0; 16]),
        boot_id: "boot".to_owned(),
    })
}

fn placed_on(backend: BackendKind) -> Result<Placement, SpawnFailure> {
    Ok(Placement { backend, window: None })
}

/// Takes a run from its launch to where its command runs.
fn running(state: &mut State, n: u128) {
    launch_in(state, n, "demo");
    step(state, Input::Recorded { id: id(n), result: Ok(None) }, NOW);
    step(state, Input::Spawned { id: id(n), result: placed_on(BackendKind::Pty) }, NOW);
    step(state, Input::Shim { id: id(n), report: ShimReport::Started { pid: 7 } }, NOW);
}

/// What effects are, in words.
fn words(effects: &[Effect]) -> Vec<String> {
    let answered = |answer: &Result<Reply, Refusal>| match answer {
        Ok(_) => "ok".to_owned(),
        Err(refusal) => {
            refusal.details.get("reason").and_then(|it| it.as_str()).unwrap_or("error").to_owned()
        }
    };
    let one = |effect: &Effect| match effect {
        Effect::Reply { to, answer } => format!("reply {} {}", to.0, answered(answer)),
        Effect::Run { effect, .. } => match effect.as_ref() {
            RunEffect::RecordLaunch { .. } => "record launch".to_owned(),
            RunEffect::RecordChange { run, events } => {
                let kinds: Vec<_> = events.iter().map(|event| event.kind.word()).collect();
                format!("record {} {}", run.instance.state, kinds.join(","))
            }
            RunEffect::Clear { .. } => "clear".to_owned(),
            RunEffect::Spawn { backend, .. } => format!("spawn {backend}"),
            RunEffect::OpenGate => "open gate".to_owned(),
            RunEffect::Abort => "abort".to_owned(),
            RunEffect::Finish { run, events, .. } => {
                let kinds: Vec<_> = events.iter().map(|event| event.kind.word()).collect();
                let error = run.instance.error.map_or("-", ErrorWord::word);
                let code = run.instance.exit_code();
                format!("finish {} {code:?} {error} {}", run.instance.state, kinds.join(","))
            }
            RunEffect::Release => "release".to_owned(),
            RunEffect::Leave => "leave".to_owned(),
        },
        Effect::StopTree(_) => "stop tree".to_owned(),
        Effect::RecordEvents(_) => "events".to_owned(),
        Effect::Cull { .. } => "cull".to_owned(),
        Effect::Delete { .. } => "delete".to_owned(),
        Effect::RecordProject { .. } => "record project".to_owned(),
        Effect::RemoveProject { .. } => "remove project".to_owned(),
    };
    effects.iter().map(one).collect()
}

#[test]
fn nothing_is_started_before_it_is_recorded_and_nothing_runs_before_its_shim_waits() {
    let mut state = state(BackendKind::Pty);
    assert_eq!(words(&launch_in(&mut state, 1, "demo")), ["record launch"]);
    let recorded = step(&mut state, Input::Recorded { id: id(1), result: Ok(None) }, NOW);
    assert_eq!(words(&recorded), ["reply 1 ok", "spawn pty"]);
    let spawned = Input::Spawned { id: id(1), result: placed_on(BackendKind::Pty) };
    assert_eq!(words(&step(&mut state, spawned, NOW)), ["record starting ", "open gate"]);
    let started = Input::Shim { id: id(1), report: ShimReport::Started { pid: 7 } };
    assert_eq!(words(&step(&mut state, started, NOW)), ["record running task.launched"]);
    let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(3)), Cause::Itself));
    let ended = step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
    assert_eq!(words(&ended), ["finish failed Some(3) - task.exited"]);
    let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
    assert_eq!(words(&finished), ["release", "cull"]);
    assert!(state.live.is_empty());
}

#[test]
fn an_end_that_cannot_be_stored_is_left_for_the_next_start() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Itself));
    step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
    let failed = Err(Refusal::new(Code::Internal, "damaged").reason("store"));
    assert_eq!(words(&step(&mut state, Input::Finished { id: id(1), result: failed }, NOW)), ["leave"]);
}

#[test]
fn limits_count_what_is_not_over_and_hold_for_launches_at_once() {
    let mut state = state(BackendKind::Pty);
    for n in 1..=2 {
        assert_eq!(words(&launch_in(&mut state, n, "demo")), ["record launch"]);
    }
    assert_eq!(words(&launch_in(&mut state, 3, "demo")), ["reply 3 task_limit"]);
    assert_eq!(words(&launch_in(&mut state, 4, "other")), ["record launch"]);
    assert_eq!(words(&launch_in(&mut state, 5, "other")), ["reply 5 operator_limit"]);
    let failed = Err(Refusal::new(Code::Unavailable, "no").reason("store"));
    assert_eq!(
        words(&step(&mut state, Input::Recorded { id: id(1), result: failed }, NOW)),
        ["reply 1 store"]
    );
    assert_eq!(words(&launch_in(&mut state, 6, "demo")), ["record launch"]);
}

#[test]
fn a_run_whose_end_is_being_stored_holds_no_place_and_is_deleted_after() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    running(&mut state, 2);
    assert_eq!(words(&launch_in(&mut state, 3, "demo")), ["reply 3 task_limit"]);
    let delete = |reply| Input::Delete { reply: ReplyId(reply), target: DeleteTarget::One(id(1)) };
    assert_eq!(words(&step(&mut state, delete(4), NOW)), ["reply 4 still_running"]);
    let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Itself));
    step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
    assert_eq!(words(&launch_in(&mut state, 5, "demo")), ["record launch"]);
    assert!(step(&mut state, delete(6), NOW).is_empty());
    let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
    assert_eq!(words(&finished), ["release", "delete", "cull"]);
}

#[test]
fn a_repeated_key_answers_the_first_run_and_starts_nothing() {
    let mut state = state(BackendKind::Pty);
    launch_in(&mut state, 1, "demo");
    let first = plan(9, "demo").instance(BackendKind::Pty, "ada", NOW);
    let recorded = step(&mut state, Input::Recorded { id: id(1), result: Ok(Some(first)) }, NOW);
    assert_eq!(words(&recorded), ["reply 1 ok"]);
    assert!(state.live.is_empty());
}

#[test]
fn callers_with_one_key_at_once_share_a_launch_and_a_place() {
    let mut state = state(BackendKind::Pty);
    let mut keyed = |n: u128, key: &str| {
        let plan = Box::new(Plan { idempotency_key: Some(key.to_owned()), ..*plan(n, "demo") });
        step(&mut state, Input::Launch { reply: ReplyId(n as u64), actor: ada(), plan, ask: None }, NOW)
    };
    assert_eq!(words(&keyed(1, "a")), ["record launch"]);
    for n in 2..9 {
        assert!(keyed(n, "a").is_empty());
    }
    assert_eq!(words(&keyed(9, "b")), ["record launch"]);
    assert_eq!(words(&keyed(10, "c")), ["reply 10 task_limit"]);
    let recorded = step(&mut state, Input::Recorded { id: id(1), result: Ok(None) }, NOW);
    let told: Vec<_> = (1..9).map(|n| format!("reply {n} ok")).chain(["spawn pty".to_owned()]).collect();
    assert_eq!(words(&recorded), told);
    let plan = Box::new(Plan { idempotency_key: Some("a".to_owned()), ..*plan(11, "demo") });
    let again = step(&mut state, Input::Launch { reply: ReplyId(11), actor: ada(), plan, ask: None }, NOW);
    assert_eq!(words(&again), ["reply 11 ok"]);
}

#[test]
fn a_run_that_tmux_refuses_goes_on_a_pty_and_one_that_a_pty_refuses_has_failed() {
    let mut state = state(BackendKind::Tmux);
    launch_in(&mut state, 1, "demo");
    step(&mut state, Input::Recorded { id: id(1), result: Ok(None) }, NOW);
    let failed =
        |backend| Input::Spawned { id: id(1), result: Err(SpawnFailure { backend, message: "no".into() }) };
    let effects = step(&mut state, failed(BackendKind::Tmux), NOW);
    assert_eq!(words(&effects), ["record starting task_runner.tmux_fallback", "spawn pty"]);
    let effects = step(&mut state, failed(BackendKind::Pty), NOW);
    assert_eq!(words(&effects), ["finish failed None spawn_failed task.exited"]);
}

#[test]
fn a_stop_is_recorded_before_anything_is_signalled_and_answered_at_the_end() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    let stop = |n| Input::Stop { reply: ReplyId(n), actor: ada(), id: id(1) };
    assert_eq!(words(&step(&mut state, stop(8), NOW)), ["record running ", "stop tree"]);
    assert!(step(&mut state, stop(9), NOW).is_empty());
    let ended = ShimReport::Ended(record(Ending::Exited(Exit::Signal(15)), Cause::Stop));
    let ended = step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
    assert_eq!(words(&ended), ["finish stopped None - task.stopped"]);
    let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
    assert_eq!(words(&finished), ["reply 8 ok", "reply 9 ok", "release", "cull"]);
    assert_eq!(words(&step(&mut state, stop(10), NOW)), ["reply 10 not_running"]);
}

#[test]
fn a_stop_while_an_end_is_stored_is_told_what_it_came_to() {
    let ask = |n| Input::Stop { reply: ReplyId(n), actor: ada(), id: id(1) };
    let ended = |cause| ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), cause));
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    step(&mut state, Input::Shim { id: id(1), report: ended(Cause::Itself) }, NOW);
    assert_eq!(words(&step(&mut state, ask(8), NOW)), ["reply 8 not_running"], "it ended by itself");
    step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
    running(&mut state, 1);
    step(&mut state, ask(8), NOW);
    step(&mut state, Input::Shim { id: id(1), report: ended(Cause::Stop) }, NOW);
    assert!(step(&mut state, ask(9), NOW).is_empty(), "it was stopped, and that is stored first");
    let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
    assert_eq!(words(&finished), ["reply 8 ok", "reply 9 ok", "release", "cull"]);
}

#[test]
fn a_stop_that_meets_an_end_is_answered_when_nothing_of_the_tree_lives() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    step(&mut state, Input::Stop { reply: ReplyId(8), actor: ada(), id: id(1) }, NOW);
    let record = || record(Ending::Exited(Exit::Code(0)), Cause::Itself);
    let report = |report| Input::Shim { id: id(1), report };
    assert!(step(&mut state, report(ShimReport::Exited(record())), NOW).is_empty());
    let ended = step(&mut state, report(ShimReport::Ended(record())), NOW);
    assert_eq!(words(&ended), ["finish stopped Some(0) - task.stopped"]);
}

#[test]
fn a_run_is_deleted_once_its_end_is_stored_and_not_before_its_end() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    let delete = |n| Input::Delete { reply: ReplyId(n), target: DeleteTarget::One(id(1)) };
    assert_eq!(words(&step(&mut state, delete(8), NOW)), ["reply 8 still_running"]);
    let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Itself));
    step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
    assert!(step(&mut state, delete(9), NOW).is_empty());
    let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
    assert_eq!(words(&finished), ["release", "delete", "cull"]);
    assert_eq!(words(&step(&mut state, delete(10), NOW)), ["delete"]);
}

#[test]
fn a_stop_before_the_gate_never_lets_the_command_run() {
    let mut state = state(BackendKind::Pty);
    launch_in(&mut state, 1, "demo");
    step(&mut state, Input::Recorded { id: id(1), result: Ok(None) }, NOW);
    assert!(step(&mut state, Input::Stop { reply: ReplyId(8), actor: ada(), id: id(1) }, NOW).is_empty());
    let spawned = Input::Spawned { id: id(1), result: placed_on(BackendKind::Pty) };
    assert_eq!(words(&step(&mut state, spawned, NOW)), ["abort"]);
    let never = ShimReport::Ended(record(Ending::NeverStarted, Cause::Itself));
    let never = step(&mut state, Input::Shim { id: id(1), report: never }, NOW);
    assert_eq!(words(&never), ["finish stopped None - task.stopped"]);
}

#[test]
fn a_window_closed_by_hand_is_a_stop_and_a_dead_server_is_not() {
    let mut state = state(BackendKind::Tmux);
    let closed = || record(Ending::Exited(Exit::Signal(1)), Cause::WindowClosed);
    running(&mut state, 1);
    let by_hand = step(&mut state, Input::Shim { id: id(1), report: ShimReport::Ended(closed()) }, NOW);
    assert_eq!(words(&by_hand), ["finish stopped None - task.stopped"]);
    step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
    running(&mut state, 2);
    let crashed = step(&mut state, Input::Shim { id: id(2), report: ShimReport::TmuxGone(closed()) }, NOW);
    assert_eq!(words(&crashed), ["finish failed None tmux_crash task.exited"]);
}

#[test]
fn a_question_is_answered_once_by_who_was_asked_about_what_was_shown() {
    let mut state = state(BackendKind::Pty);
    let ask = |state: &mut State| {
        let (plan, ask) = (plan(1, "demo"), Some("q".to_owned()));
        words(&step(state, Input::Launch { reply: ReplyId(1), actor: ada(), plan, ask }, NOW))
    };
    let confirm = |state: &mut State, actor: Actor, proceed: bool, command: &str| {
        let now = Definition { command: command.to_owned(), ..definition() };
        let given = Box::new(Confirmation {
            project: demo(),
            confirm_id: "q".to_owned(),
            proceed,
            id: id(2),
            definitions: vec![("deploy".parse().unwrap(), now)],
        });
        words(&step(state, Input::Confirm { reply: ReplyId(2), actor, given }, NOW))
    };
    let stranger = || Actor { credential: "token:x".to_owned(), ..ada() };
    assert_eq!(ask(&mut state), ["reply 1 ok"]);
    assert_eq!(confirm(&mut state, stranger(), true, "make deploy"), ["reply 2 confirm_expired"]);
    assert_eq!(confirm(&mut state, ada(), true, "make deploy"), ["record launch"]);
    assert_eq!(confirm(&mut state, ada(), true, "make deploy"), ["reply 2 confirm_expired"]);
    ask(&mut state);
    assert_eq!(confirm(&mut state, ada(), true, "rm -rf /"), ["reply 2 definition_changed"]);
    ask(&mut state);
    assert_eq!(confirm(&mut state, ada(), false, "make deploy"), ["reply 2 ok"]);
}

#[test]
fn a_project_leaves_after_its_runs() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    let remove = |n| Input::RemoveProject { reply: ReplyId(n), actor: ada(), id: demo() };
    assert_eq!(words(&step(&mut state, remove(5), NOW)), ["record running ", "stop tree"]);
    assert_eq!(words(&step(&mut state, remove(6), NOW)), ["reply 6 removing"]);
    assert_eq!(words(&launch_in(&mut state, 2, "demo")), ["reply 2 removing"]);
    let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Stop));
    step(&mut state, Input::Shim { id: id(1), report: ended }, NOW);
    let finished = step(&mut state, Input::Finished { id: id(1), result: Ok(()) }, NOW);
    assert_eq!(words(&finished), ["release", "cull", "remove project"]);
    let removed = Input::ProjectRemoved { reply: ReplyId(5), id: demo(), result: Ok(()) };
    assert_eq!(words(&step(&mut state, removed, NOW)), ["reply 5 ok"]);
    assert!(!state.projects.contains_key(&demo()));
}

#[test]
fn a_project_leaves_also_when_its_last_launch_could_not_be_recorded() {
    let mut state = state(BackendKind::Pty);
    launch_in(&mut state, 1, "demo");
    let remove = Input::RemoveProject { reply: ReplyId(5), actor: ada(), id: demo() };
    assert!(step(&mut state, remove, NOW).is_empty());
    let failed = Err(Refusal::new(Code::Unavailable, "no").reason("store"));
    let recorded = step(&mut state, Input::Recorded { id: id(1), result: failed }, NOW);
    assert_eq!(words(&recorded), ["reply 1 store", "remove project"]);
}

#[test]
fn a_run_reached_again_goes_on_where_it_was() {
    let mut state = state(BackendKind::Pty);
    let reached = |at_gate, pid| Input::Shim {
        id: id(1),
        report: ShimReport::Reached(Reached { at_gate, pid, window: None }),
    };
    let run = Run::new(plan(1, "demo").instance(BackendKind::Pty, "ada", NOW));
    state.live.insert(id(1), Live::resumed(run));
    assert_eq!(words(&step(&mut state, reached(true, None), NOW)), ["record starting ", "open gate"]);
    assert_eq!(words(&step(&mut state, reached(false, Some(7)), NOW)), ["record running task.launched"]);
    assert!(step(&mut state, reached(false, Some(7)), NOW).is_empty());
    step(&mut state, Input::Stop { reply: ReplyId(8), actor: ada(), id: id(1) }, NOW);
    assert_eq!(words(&step(&mut state, reached(false, Some(7)), NOW)), ["stop tree"]);
    assert_eq!(words(&step(&mut state, reached(true, None), NOW)), ["stop tree"]);
}

#[test]
fn a_run_given_up_is_over_when_nothing_of_its_tree_lives() {
    let own = || record(Ending::Exited(Exit::Code(3)), Cause::Itself);
    let told = || record(Ending::Exited(Exit::Signal(15)), Cause::Stop);
    let check = |stop: bool, end: Box<ExitRecord>, expect: &str| {
        let mut state = state(BackendKind::Pty);
        let shim = |report| Input::Shim { id: id(1), report };
        running(&mut state, 1);
        let given_up = step(&mut state, shim(ShimReport::GiveUp(ErrorWord::DaemonRestart)), NOW);
        assert_eq!(words(&given_up), ["stop tree"]);
        if stop {
            step(&mut state, Input::Stop { reply: ReplyId(8), actor: ada(), id: id(1) }, NOW);
        }
        assert!(step(&mut state, shim(ShimReport::Exited(end.clone())), NOW).is_empty());
        assert_eq!(words(&step(&mut state, shim(ShimReport::Ended(end)), NOW)), [expect]);
    };
    check(false, told(), "finish failed None daemon_restart task.exited");
    check(true, told(), "finish stopped None - task.stopped");
    check(false, own(), "finish failed Some(3) - task.exited");
}

#[test]
fn a_second_directory_with_an_id_is_refused_and_both_are_named() {
    let mut state = state(BackendKind::Pty);
    let project =
        Project { id: demo(), path: "/elsewhere".into(), tasks: Arc::default(), problems: Arc::default() };
    let add = |project: &Project, moved_from: Option<&str>| Input::AddProject {
        reply: ReplyId(1),
        project: project.clone(),
        moved_from: moved_from.map(Into::into),
    };
    let effects = step(&mut state, add(&project, None), NOW);
    assert_eq!(words(&effects), ["reply 1 id_taken"]);
    // A link that leads here from another directory than the registered one makes no difference; from that one it does.
    assert_eq!(words(&step(&mut state, add(&project, Some("/other")), NOW)), ["reply 1 id_taken"]);
    assert_eq!(words(&step(&mut state, add(&project, Some("/demo")), NOW)), ["record project"]);
    let Effect::Reply { answer, .. } = &effects[0] else { panic!("{effects:?}") };
    let message = &answer.as_ref().as_ref().unwrap_err().message;
    assert!(message.contains("/demo") && message.contains("/elsewhere"), "{message}");
}

#[test]
fn a_bad_edit_keeps_the_last_good_tasks_and_is_told_once() {
    let mut state = state(BackendKind::Pty);
    let problem = crate::project::Source::new("project.yaml", "x").problem(0..0, "bad");
    let read_at = |path: &str| Input::ProjectRead {
        id: demo(),
        path: path.into(),
        tasks: None,
        problems: vec![problem.clone()],
    };
    assert!(step(&mut state, read_at("/elsewhere"), NOW).is_empty(), "another directory's");
    let read = || read_at("/demo");
    assert_eq!(words(&step(&mut state, read(), NOW)), ["events"]);
    assert!(step(&mut state, read(), NOW).is_empty());
    let project = &state.projects[&demo()];
    assert_eq!((project.tasks.len(), project.problems.len()), (1, 1));
}

fn restart_in(state: &mut State, n: u128, old: u128) -> Vec<Effect> {
    let plan = Box::new(Plan { restarted_from: Some(id(old)), ..*plan(n, "demo") });
    step(state, Input::Restart { reply: ReplyId(n as u64), actor: ada(), plan }, NOW)
}

#[test]
fn of_many_callers_the_oldest_is_told_to_ask_again() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    let asked: Vec<Effect> = (100..300)
        .flat_map(|n| step(&mut state, Input::Stop { reply: ReplyId(n), actor: ada(), id: id(1) }, NOW))
        .collect();
    let waiting = state.live[&id(1)].waiting.clone();
    let told = words(&asked).into_iter().filter(|word| word.ends_with(" waiting"));
    let oldest = 300 - u64::try_from(waiting.len()).unwrap();
    assert_eq!(
        told.collect::<Vec<_>>(),
        (100..oldest).map(|n| format!("reply {n} waiting")).collect::<Vec<_>>()
    );
    assert!(waiting.len() < 100 && waiting.last() == Some(&ReplyId(299)));
}

fn record_and_finish(state: &mut State, n: u128) -> Vec<Effect> {
    let ended = ShimReport::Ended(record(Ending::Exited(Exit::Code(0)), Cause::Stop));
    step(state, Input::Shim { id: id(n), report: ended }, NOW);
    step(state, Input::Finished { id: id(n), result: Ok(()) }, NOW)
}

#[test]
fn a_restart_is_checked_and_recorded_before_anything_is_stopped() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    running(&mut state, 2);
    state.limits.per_project = 1;
    assert_eq!(words(&restart_in(&mut state, 3, 1)), ["reply 3 task_limit"]);
    assert!(state.live[&id(1)].run.stop.is_none());
    // Where two may run, the replacement takes the place of the run that it replaces.
    state.limits.per_project = 2;
    assert_eq!(words(&restart_in(&mut state, 4, 1)), ["record launch"]);
    assert_eq!(words(&launch_in(&mut state, 5, "demo")), ["reply 5 task_limit"]);
    let failed = Err(Refusal::new(Code::Unavailable, "no").reason("store"));
    let refused = step(&mut state, Input::Recorded { id: id(4), result: failed }, NOW);
    assert_eq!(words(&refused), ["reply 4 store"]);
    assert!(state.live[&id(1)].run.stop.is_none());

    assert_eq!(words(&restart_in(&mut state, 6, 1)), ["record launch"]);
    assert_eq!(words(&restart_in(&mut state, 7, 1)), ["reply 7 restarting"]);
    let recorded = step(&mut state, Input::Recorded { id: id(6), result: Ok(None) }, NOW);
    assert_eq!(words(&recorded), ["record running ", "stop tree"]);
    assert_eq!(words(&restart_in(&mut state, 8, 1)), ["reply 8 restarting"]);
    assert_eq!(words(&record_and_finish(&mut state, 1)), ["release", "cull", "reply 6 ok", "spawn pty"]);
    // What is over is restarted at once.
    step(&mut state, Input::Spawned { id: id(6), result: placed_on(BackendKind::Pty) }, NOW);
    step(&mut state, Input::Shim { id: id(6), report: ShimReport::Started { pid: 9 } }, NOW);
    record_and_finish(&mut state, 2);
    assert_eq!(words(&restart_in(&mut state, 9, 1)), ["record launch"]);
    let recorded = step(&mut state, Input::Recorded { id: id(9), result: Ok(None) }, NOW);
    assert_eq!(words(&recorded), ["reply 9 ok", "spawn pty"]);
}

#[test]
fn a_replacement_that_is_stopped_or_restarted_itself_is_not_started() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    restart_in(&mut state, 2, 1);
    step(&mut state, Input::Recorded { id: id(2), result: Ok(None) }, NOW);
    restart_in(&mut state, 3, 2);
    let recorded = step(&mut state, Input::Recorded { id: id(3), result: Ok(None) }, NOW);
    assert_eq!(words(&recorded), ["finish stopped None - task.stopped"]);
    // What is waited for is known all the time, so that the caller is told when it cannot be ended.
    let waited_for = |state: &State, n| crate::daemon::run::View::of(state).replaced_with(id(n));
    assert_eq!(waited_for(&state, 2), [id(2), id(1)]);
    // What the second one replaces is over, what that replaced is not.
    let finished = step(&mut state, Input::Finished { id: id(2), result: Ok(()) }, NOW);
    assert_eq!(words(&finished), ["release", "cull", "reply 2 ok"]);
    assert_eq!((waited_for(&state, 2), waited_for(&state, 1)), (vec![id(1)], Vec::new()));
    let stop = step(&mut state, Input::Stop { reply: ReplyId(9), actor: ada(), id: id(3) }, NOW);
    assert_eq!(words(&stop), ["finish stopped None - task.stopped"]);
    assert_eq!(crate::daemon::run::View::of(&state).runs_of(&demo()), [id(1), id(3)]);
    let finished = step(&mut state, Input::Finished { id: id(3), result: Ok(()) }, NOW);
    assert_eq!(words(&finished), ["reply 9 ok", "release", "cull", "reply 3 ok"]);
    assert_eq!(words(&record_and_finish(&mut state, 1)), ["release", "cull"]);
}

/// A state as after a start: run `n` is due, a restart of `old`.
fn due(state: &mut State, n: u128, old: Option<u128>) {
    let plan = Plan { restarted_from: old.map(id), ..*plan(n, "demo") };
    let run = Run::new(plan.instance(BackendKind::Tmux, "ada", NOW));
    state.live.insert(id(n), Live::due(run));
}

fn begin_in(state: &mut State, n: u128, old: Option<u128>, refused: Option<&str>) -> Vec<Effect> {
    let plan = Box::new(Plan { restarted_from: old.map(id), ..*plan(n, "demo") });
    step(state, Input::Begin { plan, refused: refused.map(str::to_owned) }, NOW)
}

#[test]
fn what_a_daemon_died_before_is_begun_in_order_within_the_limits_or_says_why_not() {
    let mut state = state(BackendKind::Pty);
    (1..=4).for_each(|n| due(&mut state, n, None));
    let failed = "finish failed None spawn_failed task.exited";
    assert_eq!(words(&begin_in(&mut state, 1, None, None)), ["clear", "spawn pty"]);
    assert_eq!(words(&begin_in(&mut state, 2, None, Some("it is gone"))), ["clear", failed]);
    assert_eq!(state.live[&id(2)].run.instance.error_text.as_deref(), Some("It is gone"));
    assert_eq!(words(&begin_in(&mut state, 3, None, None)), ["clear", "spawn pty"]);
    assert_eq!(words(&begin_in(&mut state, 4, None, None)), ["clear", failed]);
    let text = state.live[&id(4)].run.instance.error_text.clone().unwrap();
    assert!(text.contains("which is the limit"), "{text}");
    assert_eq!(words(&begin_in(&mut state, 1, None, None)), [""; 0], "once");
}

#[test]
fn a_replacement_that_a_daemon_died_before_ends_what_it_replaces_first() {
    let mut state = state(BackendKind::Pty);
    running(&mut state, 1);
    due(&mut state, 2, Some(1));
    assert_eq!(words(&begin_in(&mut state, 2, Some(1), None)), ["clear", "record running ", "stop tree"]);
    assert_eq!(words(&record_and_finish(&mut state, 1)), ["release", "cull", "spawn pty"]);
    due(&mut state, 3, Some(1));
    assert_eq!(words(&begin_in(&mut state, 3, Some(1), None)), ["clear", "spawn pty"]);
}
