//! Whether what is recorded, on disk, alive and shown agrees with what is promised: the invariants I1 to I12.
//!
//! [`gather()`] reads and changes nothing; [`verify()`] is pure; [`examine()`] does both until only what lasts is left, for a daemon at work
//! changes things between one read and the next. Each invariant is judged on what can be seen from outside:
//!
//! | | promise | evidence |
//! |---|---|---|
//! | I1 | a run is launched once | `task.launched` events of a run; living shims of one directory; keys and the runs they stand for |
//! | I2 | states only move forward | a row's own columns; one event per state entered, in order, with the row's state in it |
//! | I3 | no orphans, no ghosts | living shims (`kas shim DIR` in `/proc`) against rows in both directions, with pid, boot and start time; panes that carry a run's id; the command of an ended run by its pid and start time |
//! | I4 | exits are true | row, exit record (nonce and boot too), event, and what clients were told |
//! | I5 | bytes are exact | row, transcript, journal, its index and exit record; each recorded client stream byte by byte |
//! | I6 | no cross-talk | a stream's bytes that are not its run's but another's |
//! | I7 | input arrives once | nothing outside shows what was typed: never judged |
//! | I8 | nothing without authority | modes of private files; the daemon's token in events or log. Denied attempts are recorded as numbers: not judged |
//! | I9 | everything is bounded | zombies of daemon and shims; their memory, descriptors and threads against what no load needs; length of the audit log, size of ended journals. Whether what a load took was given back needs a baseline: not judged |
//! | I10 | it recovers by itself | runs that stay unrecorded beside a working daemon; panics in the daemon's log |
//! | I11 | nothing else is touched | kas's marks on a whole tmux server. Other processes need a witness: not judged |
//! | I12 | what was answered lasts | SQLite's own check; gaps in the audit log; runs told of that have neither row nor deletion |
//!
//! A process that fled from a shim that is gone carries no mark of its run: only the run's own command is known, by its pid. What else a
//! living shim has started is found through the shim, which adopts its descendants.
//!
//! # Recorded streams
//!
//! What a client was sent of one terminal, in order: lines of text, and bytes as they are after a line that says how many.
//!
//! ```text
//! kas-stream 1 <instance>
//! from <offset>                the subscription's `from`; missing when it had none
//! output <offset> <length>     followed by that many bytes and a newline
//! snapshot <offset>
//! gap <from> <to>
//! exit <offset> <state> <code, or - for none>
//! cut                          more came and was not recorded
//! ```
//!
//! The last record may be incomplete: whoever wrote it may have been ended.

mod evidence;
mod examine;
mod gather;
mod verify;
mod violation;

pub use evidence::{
    Database, Directory, Evidence, Frame, Health, Holding, Journal, Process, Spec, Stored, Stream, Windows,
};
pub use examine::{Report, examine};
pub use gather::{Error, Sources, gather};
pub use verify::{unjudged, verify};
pub use violation::{Invariant, Unjudged, Violation};
