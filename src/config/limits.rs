//! Resource limits (setrlimit(2)): raised for kas itself, and as they were for all that it starts.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// No load needs more descriptors; where the hard limit is higher, the soft one is not raised above this.
const DESCRIPTORS: u64 = 65_536;
/// A limit that was raised, and what it was before.
type Raised = (Resource, Rlimit);

/// What this process raised. Set once, before it starts anything.
static RAISED: OnceLock<Vec<Raised>> = OnceLock::new();

/// Raises the soft limits of the daemon: descriptors, and the size of a file.
pub fn raise_for_daemon() {
    raise(&[(Resource::Nofile, Some(DESCRIPTORS)), (Resource::Fsize, None)]);
}

/// Raises the soft limits of a shim: the size of a file.
pub fn raise_for_shim() {
    raise(&[(Resource::Fsize, None)]);
}

/// Raises soft limits to the hard ones, or to as much of them as is wanted.
fn raise(wanted: &[(Resource, Option<u64>)]) {
    let raised = wanted.iter().filter_map(|&(resource, most)| {
        let before = getrlimit(resource);
        let current = match (before.maximum, most) {
            (None, most) => most,
            (Some(hard), most) => Some(most.map_or(hard, |most| hard.min(most))),
        };
        let is_more = before.current.is_some_and(|now| current.is_none_or(|then| then > now));
        let after = Rlimit { current, maximum: before.maximum };
        // Where it is refused the limit stays as it is, and is met as an error like any other.
        (is_more && setrlimit(resource, after).is_ok()).then_some((resource, before))
    });
    let _ = RAISED.set(raised.collect());
}

/// Lowers what this process raised, between fork and exec of something else. Only makes system calls.
///
/// # Errors
/// What the system says.
pub fn restore() -> std::io::Result<()> {
    for (resource, before) in RAISED.get().into_iter().flatten() {
        setrlimit(*resource, Rlimit { current: before.current, maximum: before.maximum })?;
    }
    Ok(())
}

/// How many bytes a file of this process may have; `None` when there is no limit.
#[must_use]
pub fn file_size() -> Option<u64> {
    getrlimit(Resource::Fsize).current
}
