//! Reading the evidence: streams first and the database last, so that what was told is looked for in what is newer.

mod database;
mod directories;
mod files;
mod processes;
mod streams;

use std::path::{Path, PathBuf};

use super::evidence::{Evidence, Windows};
use crate::backend::tmux::{self, Settings};
use crate::journal::boot_id;
use crate::store;

/// Where to look.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The state directory.
    pub state_dir: PathBuf,
    /// How tmux is asked.
    pub tmux: Settings,
    /// Recorded client streams.
    pub streams: Vec<PathBuf>,
    /// Whether bytes that the disk did not take are no violation.
    pub disk_was_full: bool,
}

impl Sources {
    fn at(&self, name: &str) -> PathBuf {
        self.state_dir.join(name)
    }
}

/// Why there is no evidence.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no state directory.
    #[error("there is no state directory {}", .0.display())]
    NoStateDir(PathBuf),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A recorded stream is not one.
    #[error("{}, byte {at}: {why}", path.display())]
    Stream {
        /// Which file.
        path: PathBuf,
        /// Where in it.
        at: usize,
        /// What is wrong there.
        why: &'static str,
    },
    /// The system said no.
    #[error("{}: {source}", path.display())]
    Io {
        /// Of what.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
}

impl Error {
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source }
    }
}

/// Reads everything and changes nothing.
///
/// # Errors
/// When there is no state directory, the database is damaged, foreign or of a newer kas, or a stream is malformed.
pub async fn gather(sources: &Sources) -> Result<Evidence, Error> {
    if !sources.state_dir.is_dir() {
        return Err(Error::NoStateDir(sources.state_dir.clone()));
    }
    let streams = sources.streams.iter().map(|path| streams::read(path)).collect::<Result<Vec<_>, _>>()?;
    let windows = windows(&sources.tmux).await;
    let instances = sources.at("instances");
    let directories = directories::read(&instances)?;
    let processes = processes::read(&instances)?;
    let daemon = processes::daemon(&sources.at("lock"), &processes);
    let holdings = processes::holdings(&processes, daemon);
    let compared = streams.iter().map(|it| it.instance).chain(directories.iter().map(|it| it.id)).collect();
    let secret = files::secret(&sources.at("token"));
    let read = database::read(&sources.at("runner.db"), &compared, secret.as_deref())?;
    let (database, told) = read.map_or((None, None), |(database, told)| (Some(database), told));
    let log = files::log(&sources.at("daemon.log"), secret.as_deref());
    let mut exposed = files::exposed(&sources.state_dir);
    exposed.extend(told);
    exposed.extend(log.exposed);
    Ok(Evidence {
        daemon,
        boot_id: boot_id().map_err(Error::io(Path::new("/proc/sys/kernel/random/boot_id")))?,
        database,
        directories,
        processes,
        holdings,
        windows,
        streams,
        panics: log.panics,
        exposed,
        disk_was_full: sources.disk_was_full,
    })
}

async fn windows(settings: &Settings) -> Windows {
    if settings.exe().is_none() {
        return Windows::NoTmux;
    }
    match tmux::census(settings).await {
        Ok(census) => Windows::Seen(census),
        Err(error) => Windows::Unknown(error.to_string()),
    }
}
