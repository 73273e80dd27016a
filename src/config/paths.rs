//! Where things are (`spec/protocol.md` §1 and §7).

use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use super::dirs::ensure_private_dir;
use super::{Env, Error};

/// The longest path a socket can have: `sun_path` holds 108 bytes with its final NUL (unix(7)).
pub const MAX_SOCKET_PATH_BYTES: usize = 107;

/// Every path of one user's `kas`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paths {
    /// `$XDG_CONFIG_HOME/kasmos`.
    pub config_dir: PathBuf,
    /// `daemon.toml` in it.
    pub config_file: PathBuf,
    /// `daemon.pid` in it, of a detached daemon.
    pub pid_file: PathBuf,
    /// `$XDG_STATE_HOME/kasmos`, private.
    pub state_dir: PathBuf,
    /// `runner.db` in it.
    pub database: PathBuf,
    /// The bootstrap token in it.
    pub token: PathBuf,
    /// The directory of instance directories in it.
    pub instances: PathBuf,
    /// The log of a detached daemon in it.
    pub log: PathBuf,
    /// The file one daemon holds locked in it.
    pub lock: PathBuf,
    /// The directory of the control socket, private.
    pub runtime_dir: PathBuf,
    /// The control socket.
    pub socket: PathBuf,
}

impl Paths {
    /// The paths under this environment; `socket` overrides the control socket's (`--socket`, `socket_path`).
    ///
    /// # Errors
    /// [`Error::NoHome`], [`Error::SocketPathTooLong`].
    pub fn new(env: &Env, socket: Option<&Path>) -> Result<Self, Error> {
        let paths = Self::before_configuration(env)?.with_socket(socket);
        let length = paths.socket.as_os_str().as_bytes().len();
        if length > MAX_SOCKET_PATH_BYTES {
            return Err(Error::SocketPathTooLong { path: paths.socket, length });
        }
        Ok(paths)
    }

    fn with_socket(mut self, socket: Option<&Path>) -> Self {
        if let Some(socket) = socket {
            self.runtime_dir = socket.parent().map_or(self.runtime_dir, Path::to_path_buf);
            self.socket = socket.to_owned();
        }
        self
    }

    /// The paths before anything was read that may give the control socket another one; this one may be too long to be used.
    ///
    /// # Errors
    /// [`Error::NoHome`].
    pub fn before_configuration(env: &Env) -> Result<Self, Error> {
        let config_dir = base(env, "XDG_CONFIG_HOME", ".config")?.join("kasmos");
        let state_dir = base(env, "XDG_STATE_HOME", ".local/state")?.join("kasmos");
        let runtime = env.absolute("XDG_RUNTIME_DIR").map(|dir| dir.join("kasmos"));
        let runtime = runtime.unwrap_or_else(|| PathBuf::from(format!("/tmp/kasmos-{}", env.uid())));
        Ok(Self {
            config_file: config_dir.join("daemon.toml"),
            pid_file: config_dir.join("daemon.pid"),
            config_dir,
            database: state_dir.join("runner.db"),
            token: state_dir.join("token"),
            instances: state_dir.join("instances"),
            log: state_dir.join("daemon.log"),
            lock: state_dir.join("lock"),
            state_dir,
            socket: runtime.join("kas.sock"),
            runtime_dir: runtime,
        })
    }
}

impl Paths {
    /// Makes the state directory and that of the instances in it, private, or finds them so.
    ///
    /// # Errors
    /// As [`ensure_private_dir`], with what to do.
    pub fn ensure_state_dir(&self) -> Result<(), Error> {
        let advice = "set XDG_STATE_HOME to a directory of yours that can be written";
        let made = ensure_private_dir(&self.state_dir).and_then(|_| ensure_private_dir(&self.instances));
        made.map(drop).map_err(|error| error.advise(advice))
    }

    /// Makes the control socket's directory, private, or finds it so.
    ///
    /// # Errors
    /// As [`ensure_private_dir`], with what to do.
    pub fn ensure_runtime_dir(&self) -> Result<(), Error> {
        let advice =
            "set XDG_RUNTIME_DIR to a directory that only you can use, or name a socket with --socket";
        ensure_private_dir(&self.runtime_dir).map(drop).map_err(|error| error.advise(advice))
    }
}

fn base(env: &Env, variable: &'static str, below_home: &str) -> Result<PathBuf, Error> {
    let home = || env.absolute("HOME").map(|home| home.join(below_home));
    env.absolute(variable).or_else(home).ok_or(Error::NoHome { variable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(vars: &[(&str, &str)], socket: Option<&str>, expect: &str) {
        let paths = Paths::new(&Env::from_vars(vars.iter().copied()), socket.map(Path::new));
        let shown = paths.map(|it| {
            format!("{} {} {}", it.config_file.display(), it.database.display(), it.socket.display())
        });
        assert_eq!(shown.unwrap_or_else(|error| error.to_string()), expect);
    }

    #[test]
    fn follow_the_environment() {
        let fallback = format!("/tmp/kasmos-{}/kas.sock", rustix::process::getuid().as_raw());
        let home = "/h/.config/kasmos/daemon.toml /h/.local/state/kasmos/runner.db";
        check(&[("HOME", "/h")], None, &format!("{home} {fallback}"));
        check(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "/r")], None, &format!("{home} /r/kasmos/kas.sock"));
        check(&[("HOME", "/h"), ("XDG_RUNTIME_DIR", "r")], None, &format!("{home} {fallback}"));
        let xdg = [("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r")];
        check(&xdg, Some("/x/y.sock"), "/c/kasmos/daemon.toml /s/kasmos/runner.db /x/y.sock");
        check(
            &[("HOME", "")],
            None,
            "neither XDG_CONFIG_HOME nor HOME is set to an absolute path; set one of them",
        );
    }

    #[test]
    fn a_socket_path_must_fit_the_kernel() {
        let env = Env::from_vars([("HOME", "/h")]);
        let path = |length: usize| PathBuf::from(format!("/{}", "s".repeat(length - 1)));
        assert!(Paths::new(&env, Some(&path(107))).is_ok());
        let error = Paths::new(&env, Some(&path(108))).unwrap_err();
        assert!(matches!(error, Error::SocketPathTooLong { length: 108, .. }));
    }
}
