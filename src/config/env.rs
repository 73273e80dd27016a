//! The environment, read once.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// A snapshot of the process's environment and user.
#[derive(Debug, Clone)]
pub struct Env {
    vars: Vec<(OsString, OsString)>,
    uid: u32,
}

impl Env {
    /// This process's.
    #[must_use]
    pub fn of_process() -> Self {
        Self { vars: std::env::vars_os().collect(), uid: rustix::process::getuid().as_raw() }
    }

    /// One made up, for this process's user.
    #[must_use]
    pub fn from_vars<K: Into<OsString>, V: Into<OsString>>(vars: impl IntoIterator<Item = (K, V)>) -> Self {
        let vars = vars.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        Self { vars, uid: rustix::process::getuid().as_raw() }
    }

    /// The value of a variable.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.vars.iter().find(|(it, _)| it == name).map(|(_, value)| value.as_os_str())
    }

    /// The value as a path, if it is absolute: the XDG rules ignore others.
    #[must_use]
    pub fn absolute(&self, name: &str) -> Option<PathBuf> {
        self.get(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// All variables.
    pub fn vars(&self) -> impl Iterator<Item = (OsString, OsString)> + '_ {
        self.vars.iter().cloned()
    }

    /// The user's id.
    #[must_use]
    pub const fn uid(&self) -> u32 {
        self.uid
    }
}
