//! What must hold at each point.

use kas::failpoint::Failpoint;

/// What is done while the point is armed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scene {
    /// A task is launched, which runs by itself to its end.
    Launch,
    /// A task is launched whose command is too long to be executed.
    TooLong,
    /// A task is stopped.
    Stop,
    /// A task that ignores TERM is stopped.
    StopDeaf,
    /// A task that keeps one ended run is launched for the second time.
    Cull,
    /// The daemon was killed and is started again; one task lives, one ended meanwhile.
    Start,
}

/// Who meets the point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    Daemon,
    /// The shim, or the child that it forked.
    Shim,
}

/// What becomes of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    /// There is none: it was neither recorded nor answered for.
    Nothing,
    /// `failed` with `spawn_failed`, and the command did not run.
    NeverStarted,
    /// It ran once, and its code and its bytes are exact.
    Exact,
    /// `failed` with `shim_lost`: it ran once or not, and its bytes are a prefix.
    Lost,
    /// `stopped`.
    Stopped,
    /// The wish to stop was lost with the daemon, unanswered; asked again it is stopped.
    StillRunning,
    /// The kernel's word on the child: killed by signal 9. The command did not run.
    Killed,
}

/// One point, armed for one of its hits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    pub(super) point: Failpoint,
    pub(super) at: u32,
    pub(super) scene: Scene,
    pub(super) who: Who,
    /// What may become of the run; more than one only where two processes race.
    pub(super) then: &'static [Then],
}

/// The cases of a point where a process dies.
pub(super) fn cases(point: Failpoint) -> Vec<Case> {
    use Failpoint as P;
    use Scene::{Cull, Launch, Start, Stop, StopDeaf, TooLong};
    use Then::{Exact, Killed, Lost, NeverStarted, Nothing, StillRunning, Stopped};
    use Who::{Daemon, Shim};
    let (scene, who, then): (Scene, Who, &'static [Then]) = match point {
        P::LaunchRecording => (Launch, Daemon, &[Nothing]),
        // It is recorded, and nothing of it has run: the next start begins it.
        P::LaunchRecorded | P::SpawnBegun | P::SpecWritten | P::ShimSpawned => (Launch, Daemon, &[Exact]),
        P::ShimConnected | P::ShimAttached | P::PlaceRecorded | P::GateOpening | P::GateAsked => {
            (Launch, Daemon, &[Exact])
        }
        P::ShimBegun | P::ShimListening | P::ShimReady | P::ShimGreeted => (Launch, Shim, &[NeverStarted]),
        P::GateOpened => (Launch, Shim, &[Lost]),
        P::ChildForked => (Launch, Shim, &[Killed]),
        P::CommandStarted | P::StartTold => (Launch, Shim, &[Lost]),
        P::SpawnRefused => (TooLong, Shim, &[Lost]),
        P::StartHeard | P::StartRecorded => (Launch, Daemon, &[Exact]),
        P::StopRecording => (Stop, Daemon, &[StillRunning]),
        P::StopRecorded | P::StopAsked => (Stop, Daemon, &[Stopped]),
        P::StopHeard => (Stop, Shim, &[Lost]),
        P::StopTermed | P::StopKilled => (StopDeaf, Shim, &[Lost]),
        P::TreeGone => (Stop, Shim, &[Stopped]),
        P::ExitSeen | P::OutputDrained | P::JournalSynced | P::ExitWritten => (Launch, Shim, &[Lost]),
        P::ExitRenamed | P::ExitTold | P::AckHeard => (Launch, Shim, &[Exact]),
        P::ExitHeard | P::TranscriptRead | P::EndRecorded | P::ShimLetGo | P::DirRemoved => {
            (Launch, Daemon, &[Exact])
        }
        P::CullBegun | P::WindowClosed | P::DeletesRecorded => (Cull, Daemon, &[Exact]),
        P::LockTaken | P::StoreOpened | P::LookedAround | P::TakingUp | P::TakenUp | P::Settled => {
            (Start, Daemon, &[Exact])
        }
    };
    // The first run's end meets these two as well, and culls nothing.
    let at = if matches!(point, P::CullBegun | P::DeletesRecorded) { 2 } else { 1 };
    let first = Case { point, at, scene, who, then };
    // Between what is found: the first is taken up, the second is not.
    let second = (point == P::TakingUp).then_some(Case { at: 2, ..first });
    std::iter::once(first).chain(second).collect()
}

/// The case of a point where the daemon panics and goes on.
pub(super) fn panics(point: Failpoint) -> Option<Case> {
    use Failpoint as P;
    use Then::{Exact, NeverStarted, Nothing, Stopped};
    let case = cases(point).remove(0);
    let then: &'static [Then] = match point {
        P::LaunchRecording => &[Nothing],
        P::LaunchRecorded => &[Exact],
        // On tmux the run may go on a PTY instead.
        P::SpawnBegun | P::SpecWritten | P::ShimSpawned | P::ShimConnected | P::ShimAttached => {
            &[NeverStarted, Exact]
        }
        P::GateOpening => &[NeverStarted],
        P::PlaceRecorded | P::GateAsked | P::StartHeard | P::StartRecorded => &[Exact],
        P::StopRecording | P::StopRecorded | P::StopAsked => &[Stopped],
        P::ExitHeard | P::TranscriptRead | P::EndRecorded | P::ShimLetGo | P::DirRemoved => &[Exact],
        P::CullBegun | P::WindowClosed | P::DeletesRecorded => &[Exact],
        // A start that panics is a start that dies.
        P::LockTaken | P::StoreOpened | P::LookedAround | P::TakingUp | P::TakenUp | P::Settled => {
            return None;
        }
        P::ShimBegun
        | P::ShimListening
        | P::ShimReady
        | P::ShimGreeted
        | P::GateOpened
        | P::ChildForked
        | P::CommandStarted
        | P::SpawnRefused
        | P::StartTold
        | P::StopHeard
        | P::StopTermed
        | P::StopKilled
        | P::TreeGone
        | P::ExitSeen
        | P::OutputDrained
        | P::JournalSynced
        | P::ExitWritten
        | P::ExitRenamed
        | P::ExitTold
        | P::AckHeard => return None,
    };
    Some(Case { then, ..case })
}
