//! Which points there are.

macro_rules! points {
    ($($(#[$doc:meta])+ $name:ident = $word:literal),+ $(,)?) => {
        /// A step of a launch, an end, a stop or a start. Who passes it stands first: the daemon, a shim, or the child before it is the command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Failpoint {
            $($(#[$doc])+ $name,)+
        }

        impl Failpoint {
            /// Every point.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Its name in `KAS_FAILPOINTS`.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)+
                }
            }
        }
    };
}

points! {
    // ---- a launch
    /// Daemon: a launch was allowed, its row is about to be written.
    LaunchRecording = "launch_recording",
    /// Daemon: the row is committed, nobody was answered.
    LaunchRecorded = "launch_recorded",
    /// Daemon: the caller was answered; nothing is on disk but the row.
    SpawnBegun = "spawn_begun",
    /// Daemon: the instance directory with the spec is there.
    SpecWritten = "spec_written",
    /// Daemon: the shim was started, the window was made.
    ShimSpawned = "shim_spawned",
    /// Shim: its first step.
    ShimBegun = "shim_begun",
    /// Shim: it listens, and the ward is not there yet.
    ShimListening = "shim_listening",
    /// Shim: it is at its gate.
    ShimReady = "shim_ready",
    /// Shim: a client showed the nonce and was not answered.
    ShimGreeted = "shim_greeted",
    /// Daemon: the shim answered.
    ShimConnected = "shim_connected",
    /// Daemon: the shim's output has its way to viewers.
    ShimAttached = "shim_attached",
    /// Daemon: where the run is was committed.
    PlaceRecorded = "place_recorded",
    /// Daemon: the gate is about to be opened.
    GateOpening = "gate_opening",
    /// Daemon: the shim was asked to open its gate.
    GateAsked = "gate_asked",
    /// Shim: the gate is open, nothing was forked.
    GateOpened = "gate_opened",
    /// Child: forked, before the command is executed.
    ChildForked = "child_forked",
    /// Shim: the command runs, nobody was told.
    CommandStarted = "command_started",
    /// Shim: the command could not be started, nobody was told.
    SpawnRefused = "spawn_refused",
    /// Shim: the start was told.
    StartTold = "start_told",
    /// Daemon: it heard of the start.
    StartHeard = "start_heard",
    /// Daemon: `running` is committed.
    StartRecorded = "start_recorded",
    // ---- a stop
    /// Daemon: a stop was asked for, which is about to be written.
    StopRecording = "stop_recording",
    /// Daemon: the wish is committed.
    StopRecorded = "stop_recorded",
    /// Daemon: the shim was asked to stop.
    StopAsked = "stop_asked",
    /// Shim: it was asked to stop.
    StopHeard = "stop_heard",
    /// Shim: the tree was asked to end by TERM.
    StopTermed = "stop_termed",
    /// Shim: the tree was sent KILL.
    StopKilled = "stop_killed",
    /// Shim: nothing of the tree lives.
    TreeGone = "tree_gone",
    // ---- an end
    /// Shim: the command ended, its terminal is not read empty.
    ExitSeen = "exit_seen",
    /// Shim: the terminal is read empty.
    OutputDrained = "output_drained",
    /// Shim: the journal is on disk.
    JournalSynced = "journal_synced",
    /// Shim: the exit record is on disk under its temporary name.
    ExitWritten = "exit_written",
    /// Shim: the exit record has its name.
    ExitRenamed = "exit_renamed",
    /// Shim: the end was told.
    ExitTold = "exit_told",
    /// Daemon: it heard of the end.
    ExitHeard = "exit_heard",
    /// Daemon: the journal was read.
    TranscriptRead = "transcript_read",
    /// Daemon: the end and the transcript are committed.
    EndRecorded = "end_recorded",
    /// Daemon: the shim was told that it may leave.
    ShimLetGo = "shim_let_go",
    /// Shim: it was told that it may leave.
    AckHeard = "ack_heard",
    /// Daemon: the instance directory is gone.
    DirRemoved = "dir_removed",
    /// Daemon: history is about to be culled.
    CullBegun = "cull_begun",
    /// Daemon: a deleted run's window is closed, its row is there.
    WindowClosed = "window_closed",
    /// Daemon: deleted runs are gone from the store.
    DeletesRecorded = "deletes_recorded",
    // ---- a start of the daemon
    /// Daemon: it has the lock.
    LockTaken = "lock_taken",
    /// Daemon: the store is open.
    StoreOpened = "store_opened",
    /// Daemon: it looked at everything and did nothing about it.
    LookedAround = "looked_around",
    /// Daemon: it is about to do something about one run, directory or session that it found.
    TakingUp = "taking_up",
    /// Daemon: everything found is taken up, nothing that follows was recorded.
    TakenUp = "taken_up",
    /// Daemon: the ends it found are recorded, nobody was served.
    Settled = "settled",
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn words_are_told_apart() {
        let words: BTreeSet<_> = Failpoint::ALL.iter().map(|point| point.word()).collect();
        assert_eq!(words.len(), Failpoint::ALL.len());
        assert!(words.iter().all(|word| word.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')));
    }
}
