//! The only place where a run's state changes.

use crate::model::{ErrorWord, EventKind, Exit, RunState, TimeMs, cause_text};

use super::run::{Run, StopRequest};

/// Something that happened to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The command runs as this process.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// The command could not be started, for this reason in words.
    SpawnFailed {
        /// What could not be done and why.
        text: String,
    },
    /// The kernel reported the command's end to the shim.
    Ended {
        /// How it ended.
        exit: Exit,
        /// The offset after its last byte of output.
        total: u64,
        /// When it ended, by the shim's clock.
        at: TimeMs,
    },
    /// The operator wants it to end.
    StopRequested {
        /// The operator's name.
        by: String,
    },
    /// Nothing of the process tree lives, and no exit record tells how it ended.
    TreeGone,
    /// Its end is unknown, for this reason; in these words where more is known than the reason says by itself.
    Lost(ErrorWord, Option<String>),
}

/// What an event made of a run, and what to write into the audit log in the same transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The run from now on.
    pub run: Run,
    /// One kind per state entered, in order. Empty when the state stayed.
    pub audit: Vec<EventKind>,
}

/// Why an event changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The run is over; a state never goes back.
    #[error("the run is already {0}")]
    Over(RunState),
    /// It was started before.
    #[error("the run is already running")]
    Started,
    /// Its processes went away although nobody asked for that, which is a loss, not a stop.
    #[error("nobody asked for the run to stop")]
    NotAsked,
}

/// What `event` makes of `run` at `now`. An end by itself is `done` or `failed`; an end after a stop was asked for is
/// `stopped` whatever the code was, and keeps how the program ended (`spec/protocol.md` §3).
///
/// # Errors
/// [`Refused`] when the event does not fit; the run stays as it is, so a repeated report does no harm.
pub fn transition(run: &Run, event: Event, now: TimeMs) -> Result<Step, Refused> {
    let state = run.instance.state;
    if state.is_terminal() {
        return Err(Refused::Over(state));
    }
    match event {
        Event::Started { .. } if state == RunState::Running => Err(Refused::Started),
        Event::Started { pid } => Ok(started(run, pid)),
        Event::SpawnFailed { text } => Ok(lost(run, ErrorWord::SpawnFailed, &text, now)),
        Event::Ended { exit, total, at } => Ok(ended(run, exit, total, at)),
        Event::StopRequested { by } => Ok(asked_to_stop(run, by, now)),
        Event::TreeGone if run.stop.is_none() => Err(Refused::NotAsked),
        Event::TreeGone => Ok(over(run.clone(), RunState::Stopped, now)),
        Event::Lost(word, text) => Ok(lost(run, word, text.as_deref().unwrap_or(word.text()), now)),
    }
}

fn started(run: &Run, pid: u32) -> Step {
    let mut run = run.clone();
    run.instance.state = RunState::Running;
    run.instance.pid = Some(pid);
    Step { run, audit: vec![EventKind::TaskLaunched] }
}

fn asked_to_stop(run: &Run, by: String, now: TimeMs) -> Step {
    let mut run = run.clone();
    run.stop.get_or_insert(StopRequest { at: now, by });
    Step { run, audit: Vec::new() }
}

fn lost(run: &Run, word: ErrorWord, text: &str, now: TimeMs) -> Step {
    let mut run = run.clone();
    run.instance.error = Some(word);
    run.instance.error_text = Some(cause_text(text));
    over(run, RunState::Failed, now)
}

/// A command that ended has run, so an end that arrives first (the exit record outlived a daemon) says both.
fn ended(run: &Run, exit: Exit, total: u64, at: TimeMs) -> Step {
    let mut run = run.clone();
    let unseen_start = run.instance.state == RunState::Starting;
    run.instance.output_bytes = total;
    let state = if run.stop.is_some() { RunState::Stopped } else { exit.state() };
    run.instance.exit = Some(exit);
    let mut step = over(run, state, at);
    if unseen_start {
        step.audit.insert(0, EventKind::TaskLaunched);
    }
    step
}

fn over(mut run: Run, state: RunState, at: TimeMs) -> Step {
    run.instance.state = state;
    run.instance.exited_at = Some(at);
    let kind = if state == RunState::Stopped {
        run.instance.stopped_at = Some(at);
        EventKind::TaskStopped
    } else {
        EventKind::TaskExited
    };
    Step { run, audit: vec![kind] }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::model::{BackendKind, Instance, InstanceId};

    fn new_run() -> Run {
        Run::new(Instance {
            id: InstanceId::from_parts(1, 1),
            project_id: "demo".parse().unwrap(),
            task_name: Some("test".parse().unwrap()),
            command: "true".to_owned(),
            cwd: PathBuf::from("/"),
            state: RunState::Starting,
            backend: BackendKind::Pty,
            tmux_session: None,
            tmux_window: None,
            pid: None,
            exit: None,
            error: None,
            error_text: None,
            launched_at: TimeMs(10),
            exited_at: None,
            stopped_at: None,
            launched_by: "op".to_owned(),
            output_bytes: 0,
            restarted_from: None,
            history: Some(3),
        })
    }

    fn exit(exit: Exit) -> Event {
        Event::Ended { exit, total: 5, at: TimeMs(90) }
    }

    fn stop() -> Event {
        Event::StopRequested { by: "op".to_owned() }
    }

    /// Runs the events, which must all be taken, and compares the end and the audit log.
    fn check(events: &[Event], state: RunState, code: Option<i32>, audit: &[&str]) -> Run {
        let mut run = new_run();
        let mut log = Vec::new();
        for event in events {
            let step = transition(&run, event.clone(), TimeMs(50)).unwrap();
            run = step.run;
            log.extend(step.audit.iter().map(|kind| kind.word()));
        }
        assert_eq!((run.instance.state, run.instance.exit_code()), (state, code), "{events:?}");
        assert_eq!(log, audit, "{events:?}");
        run
    }

    const LAUNCHED: &str = "task.launched";
    const EXITED: &str = "task.exited";

    #[test]
    fn a_run_that_ends_by_itself_is_done_or_failed() {
        let started = Event::Started { pid: 7 };
        let audit = [LAUNCHED, EXITED];
        let run = check(&[started.clone(), exit(Exit::Code(0))], RunState::Done, Some(0), &audit);
        assert_eq!((run.instance.pid, run.instance.output_bytes), (Some(7), 5));
        assert_eq!((run.instance.exited_at, run.instance.stopped_at), (Some(TimeMs(90)), None));
        check(&[started.clone(), exit(Exit::Code(3))], RunState::Failed, Some(3), &audit);
        check(&[started, exit(Exit::Signal(9))], RunState::Failed, Some(137), &audit);
        check(&[exit(Exit::Code(0))], RunState::Done, Some(0), &audit);
    }

    #[test]
    fn an_end_after_a_stop_was_asked_for_is_stopped() {
        let started = Event::Started { pid: 7 };
        let audit = [LAUNCHED, "task.stopped"];
        let run = check(
            &[started.clone(), stop(), stop(), exit(Exit::Code(0))],
            RunState::Stopped,
            Some(0),
            &audit,
        );
        assert_eq!(run.instance.stopped_at, Some(TimeMs(90)));
        check(&[started.clone(), stop(), exit(Exit::Code(3))], RunState::Stopped, Some(3), &audit);
        for (signal, name) in [(1, "SIGHUP"), (2, "SIGINT"), (9, "SIGKILL"), (15, "SIGTERM")] {
            let end = exit(Exit::Signal(signal));
            let run = check(&[stop(), started.clone(), end], RunState::Stopped, None, &audit);
            assert_eq!(run.instance.signal().as_deref(), Some(name));
        }
        // No stop sends it: the program broke while it ended.
        check(&[started.clone(), stop(), exit(Exit::Signal(11))], RunState::Stopped, Some(139), &audit);
        check(&[started, stop(), Event::TreeGone], RunState::Stopped, None, &audit);
        check(&[stop(), Event::TreeGone], RunState::Stopped, None, &["task.stopped"]);
    }

    #[test]
    fn an_unknown_end_is_failed_with_its_reason_and_no_code() {
        let started = Event::Started { pid: 7 };
        let failed = Event::SpawnFailed { text: "argument list too long".to_owned() };
        let run = check(&[failed], RunState::Failed, None, &[EXITED]);
        let why = |run: &Run| (run.instance.error, run.instance.error_text.clone());
        assert_eq!(why(&run), (Some(ErrorWord::SpawnFailed), Some("Argument list too long".to_owned())));
        let lost = Event::Lost(ErrorWord::ShimLost, None);
        let run = check(&[started, stop(), lost], RunState::Failed, None, &[LAUNCHED, EXITED]);
        assert_eq!(why(&run), (Some(ErrorWord::ShimLost), Some(ErrorWord::ShimLost.text().to_owned())));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let run = new_run();
        assert_eq!(transition(&run, Event::TreeGone, TimeMs(1)), Err(Refused::NotAsked));
        let running = transition(&run, Event::Started { pid: 1 }, TimeMs(1)).unwrap().run;
        assert_eq!(transition(&running, Event::Started { pid: 2 }, TimeMs(1)), Err(Refused::Started));
    }

    fn any_event() -> impl Strategy<Value = Event> {
        let exits = prop_oneof![any::<u8>().prop_map(Exit::Code), (1..64u8).prop_map(Exit::Signal)];
        prop_oneof![
            any::<u32>().prop_map(|pid| Event::Started { pid }),
            ".{0,20}".prop_map(|text| Event::SpawnFailed { text }),
            (exits, any::<u64>(), any::<i64>()).prop_map(|(exit, total, at)| Event::Ended {
                exit,
                total,
                at: TimeMs(at)
            }),
            Just(stop()),
            Just(Event::TreeGone),
            proptest::sample::select(ErrorWord::ALL.to_vec()).prop_map(|word| Event::Lost(word, None)),
        ]
    }

    proptest! {
        #[test]
        fn states_move_forward_with_one_audit_event_per_state(events in prop::collection::vec(any_event(), 0..12)) {
            let mut run = new_run();
            for event in events {
                let before = run.instance.state;
                let Ok(step) = transition(&run, event, TimeMs(50)) else { continue };
                let after = &step.run.instance;
                prop_assert!(!before.is_terminal() && after.state >= before);
                prop_assert_eq!(after.exited_at.is_some(), after.state.is_terminal());
                prop_assert_eq!(after.stopped_at.is_some(), after.state == RunState::Stopped);
                prop_assert_eq!(step.audit.is_empty(), after.state == before);
                let ends = step.audit.iter().filter(|&&kind| kind != EventKind::TaskLaunched).count();
                prop_assert_eq!(ends == 1, after.state.is_terminal());
                prop_assert!(after.exit.is_none() || after.error.is_none());
                prop_assert_eq!(after.error.is_some(), after.error_text.is_some());
                run = step.run;
            }
        }
    }
}
