//! What a run is made from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Size;

/// The resolved definition of a run: enough to launch the same again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// The shell command, verbatim.
    pub command: String,
    /// The absolute directory it runs in.
    pub cwd: PathBuf,
    /// Variables set over the daemon's environment.
    pub env: BTreeMap<String, String>,
    /// The terminal's first size.
    pub size: Size,
}
