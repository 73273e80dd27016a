//! Named steps at which a process can be made to die, panic or stop, so that a test can look at what is left.
//!
//! Only debug builds have them; in a release build [`hit`] is an empty function and nothing reads the variable. A daemon is armed by its
//! environment, `KAS_FAILPOINTS="end_recorded=exit;child_forked=stop@2"`: a name of [`Failpoint`], what happens there, and optionally at which
//! hit (the first, if not said). `exit` is SIGKILL to itself, so nothing is cleaned up; `panic` panics; `stop` is SIGSTOP to itself, and the
//! process goes on after a SIGCONT. Each says so in one line first: a daemon on standard error, a shim in
//! `failpoints.met` of the state directory. The daemon hands its points down to its shims in a file of
//! the instance directory, not by their environment, which nobody but a shim ever sees.
//!
//! A point is armed in every process that passes it. To look at one step in a debugger, arm it with `stop` and attach.

#[cfg(debug_assertions)]
mod armed;
#[cfg(not(debug_assertions))]
mod disarmed;
mod point;

#[cfg(debug_assertions)]
pub use armed::{BadFailpoint, arm, hand_down, hit, take_over};
#[cfg(not(debug_assertions))]
pub use disarmed::{BadFailpoint, arm, hand_down, hit, take_over};
pub use point::Failpoint;
