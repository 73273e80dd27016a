//! Which tmux is used, and how.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use crate::backend::{Scopes, find_program};
use crate::config::{Env, TaskRunner, TmuxConfig, TmuxOutput, TmuxSocket};
use crate::journal::Nonce;

/// What a server gets when its operator has no configuration.
const MINIMAL: &str = include_str!("../../../tmux.conf.min");
const MINIMAL_NAME: &str = "tmux.conf.min";
/// The file in the state directory that holds its mark, and the directory it was made for.
const IDENTITY: &str = "tmux.id";
const MARK_DIGITS: usize = 16;

/// Variables tmux is started with, besides `LC_*` and `XDG_*`. Everything else stays out: a server outlives the daemon, and what
/// an operator opens in it must not see the daemon's secrets.
const KEPT: [&str; 9] = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TMUX_TMPDIR", "TZ"];

/// Which tmux is used, and how. Taken once at the start.
#[derive(Debug, Clone)]
pub struct Settings {
    exe: Option<PathBuf>,
    scopes: Scopes,
    socket: TmuxSocket,
    config: TmuxConfig,
    output: TmuxOutput,
    env: Vec<(OsString, OsString)>,
    state_dir: PathBuf,
    mark: String,
    path_mark: String,
    history_limit: u32,
}

impl Settings {
    /// Looks `tmux` up on `env`'s `PATH`. `state_dir` takes the configuration of servers whose operator has none, and [`Settings::identify`]
    /// gives it a mark; `history_limit` is in lines.
    #[must_use]
    pub fn new(task_runner: &TaskRunner, env: &Env, state_dir: &Path, history_limit: u64) -> Self {
        Self {
            exe: env.get("PATH").and_then(|path| find_program(path, "tmux")),
            scopes: Scopes::new(env),
            socket: task_runner.tmux.socket.clone(),
            config: task_runner.tmux.config,
            output: task_runner.tmux.output,
            env: env.vars().filter(|(name, _)| is_kept(name)).collect(),
            state_dir: state_dir.to_owned(),
            mark: identity(state_dir).unwrap_or_else(|| path_mark(state_dir)),
            path_mark: path_mark(state_dir),
            history_limit: u32::try_from(history_limit).unwrap_or(u32::MAX).min(i32::MAX as u32),
        }
    }

    /// The program, if there is one.
    #[must_use]
    pub fn exe(&self) -> Option<&Path> {
        self.exe.as_deref()
    }

    /// What starts a program outside the daemon's unit, so that a server does not end with it (systemd.kill(5), `KillMode=`).
    pub(super) const fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    pub(super) fn env(&self) -> &[(OsString, OsString)] {
        &self.env
    }

    pub(super) const fn output(&self) -> TmuxOutput {
        self.output
    }

    pub(super) const fn history_limit(&self) -> u32 {
        self.history_limit
    }

    /// Gives the state directory a mark that stays with it where it is moved, if it has none. A copy gets another.
    ///
    /// # Errors
    /// When it cannot be written; sessions are then marked with the directory's path.
    pub fn identify(&mut self) -> io::Result<()> {
        if identity(&self.state_dir).is_none() {
            let mark = Nonce::random()?.hex()[..MARK_DIGITS].to_owned();
            write_private(
                &self.state_dir,
                IDENTITY,
                format!("{mark} {}\n", inode(&self.state_dir)?).as_bytes(),
            )?;
            self.mark = mark;
        }
        Ok(())
    }

    /// What sessions of this state directory carry as `@kas-home`, so that no other daemon of the same user takes them for its own.
    pub(super) fn mark(&self) -> &str {
        &self.mark
    }

    /// A filter for sessions that a daemon of this state directory marked. An older kas marked them with the directory's path.
    pub(super) fn is_home(&self) -> String {
        let (mark, path) = (&self.mark, &self.path_mark);
        format!("#{{||:#{{==:#{{@kas-home}},{mark}}},#{{==:#{{@kas-home}},{path}}}}}")
    }

    /// The words that choose the server.
    pub(super) fn socket_args(&self) -> Vec<OsString> {
        match &self.socket {
            TmuxSocket::Default => Vec::new(),
            TmuxSocket::Named(name) => vec!["-L".into(), name.into()],
        }
    }

    /// The configuration for a server that has to be started; `None` for the operator's own. Writes kas's own if it is that.
    pub(super) fn config_file(&self) -> io::Result<Option<PathBuf>> {
        let minimal = match self.config {
            TmuxConfig::User => false,
            TmuxConfig::Min => true,
            TmuxConfig::Auto => !self.operator_configs().iter().any(|path| path.exists()),
        };
        if minimal { write_minimal(&self.state_dir).map(Some) } else { Ok(None) }
    }

    /// Where tmux looks for its configuration (tmux(1), `-f`).
    fn operator_configs(&self) -> Vec<PathBuf> {
        let var =
            |name: &str| self.env.iter().find(|(it, _)| it == name).map(|(_, value)| PathBuf::from(value));
        let home = var("HOME");
        let below = |dir: Option<PathBuf>, name: &str| dir.map(|dir| dir.join(name));
        let found = [
            Some(PathBuf::from("/etc/tmux.conf")),
            below(home.clone(), ".tmux.conf"),
            below(var("XDG_CONFIG_HOME"), "tmux/tmux.conf"),
            below(home, ".config/tmux/tmux.conf"),
        ];
        found.into_iter().flatten().collect()
    }
}

/// The mark of a state directory, if it was written in this very directory and not where it was copied from.
fn identity(state_dir: &Path) -> Option<String> {
    let text = fs::read_to_string(state_dir.join(IDENTITY)).ok()?;
    let (mark, place) = text.trim_end().split_once(' ')?;
    let is_mark = mark.len() == MARK_DIGITS && mark.bytes().all(|digit| digit.is_ascii_hexdigit());
    (is_mark && place == inode(state_dir).ok()?).then(|| mark.to_owned())
}

/// What a directory keeps when it is moved within its file system, and no copy has.
fn inode(dir: &Path) -> io::Result<String> {
    let found = fs::metadata(dir)?;
    Ok(format!("{}:{}", found.dev(), found.ino()))
}

/// The digits that stand for the path of a state directory.
fn path_mark(state_dir: &Path) -> String {
    let digest = Sha256::digest(state_dir.as_os_str().as_encoded_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn is_kept(name: &OsStr) -> bool {
    name.to_str()
        .is_some_and(|name| KEPT.contains(&name) || name.starts_with("LC_") || name.starts_with("XDG_"))
}

fn write_minimal(dir: &Path) -> io::Result<PathBuf> {
    let path = dir.join(MINIMAL_NAME);
    if fs::read(&path).is_ok_and(|found| found == MINIMAL.as_bytes()) {
        return Ok(path);
    }
    write_private(dir, MINIMAL_NAME, MINIMAL.as_bytes())
}

/// Writes a file whole or not at all. Several may do this at once.
fn write_private(dir: &Path, name: &str, text: &[u8]) -> io::Result<PathBuf> {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.{}", Nonce::random()?.hex())));
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&new)?;
    let written = file.write_all(text).and_then(|()| fs::rename(&new, &path));
    // Nothing half-written stays.
    written.inspect_err(|_| drop(fs::remove_file(&new)))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::config::Config;

    fn settings(config: TmuxConfig, home: &Path, vars: &[(&str, &str)]) -> Settings {
        let mut all = vec![("HOME".to_owned(), home.to_str().unwrap().to_owned())];
        all.extend(vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let mut task_runner = Config::default().task_runner;
        task_runner.tmux.config = config;
        Settings::new(&task_runner, &Env::from_vars(all), home, 5)
    }

    #[test]
    fn only_harmless_variables_are_passed_on() {
        let vars = [
            ("PATH", "/nowhere"),
            ("TMUX", "x"),
            ("KAS_TOKEN", "x"),
            ("LC_ALL", "C"),
            ("XDG_STATE_HOME", "/s"),
        ];
        let settings = settings(TmuxConfig::User, Path::new("/h"), &vars);
        let names: Vec<_> = settings.env().iter().map(|(name, _)| name.to_str().unwrap()).collect();
        assert_eq!(names, ["HOME", "PATH", "LC_ALL", "XDG_STATE_HOME"]);
        assert_eq!(settings.exe(), None);
    }

    #[test]
    fn a_mark_goes_with_its_directory_and_not_with_a_copy() {
        let temp = tempfile::tempdir().unwrap();
        let (here, there) = (temp.path().join("here"), temp.path().join("there"));
        let of = |dir: &Path| {
            let mut settings = settings(TmuxConfig::Min, dir, &[]);
            settings.identify().unwrap();
            settings.mark
        };
        fs::create_dir(&here).unwrap();
        let mark = of(&here);
        assert_ne!(mark, path_mark(&here));
        assert_eq!(of(&here), mark);
        fs::rename(&here, &there).unwrap();
        assert_eq!(of(&there), mark);
        fs::create_dir(&here).unwrap();
        fs::copy(there.join(IDENTITY), here.join(IDENTITY)).unwrap();
        let copy = of(&here);
        assert!(copy != mark && copy == of(&here) && of(&there) == mark);
        let mode = fs::metadata(there.join(IDENTITY)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn the_operators_configuration_comes_first_unless_told_otherwise() {
        let home = tempfile::tempdir().unwrap();
        let file = |config| settings(config, home.path(), &[]).config_file().unwrap();
        let minimal = home.path().join(MINIMAL_NAME);
        if !Path::new("/etc/tmux.conf").exists() {
            assert_eq!(file(TmuxConfig::Auto), Some(minimal.clone()));
        }
        assert_eq!(file(TmuxConfig::Min), Some(minimal.clone()));
        assert_eq!(file(TmuxConfig::User), None);
        assert_eq!(fs::metadata(&minimal).unwrap().permissions().mode() & 0o777, 0o600);
        fs::create_dir_all(home.path().join(".config/tmux")).unwrap();
        fs::write(home.path().join(".config/tmux/tmux.conf"), "").unwrap();
        assert_eq!(file(TmuxConfig::Auto), None);
        assert_eq!(file(TmuxConfig::Min), Some(minimal));
    }
}
