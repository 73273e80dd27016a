//! What is known of the daemon itself, and its configuration.

use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};

use serde_json::json;

use super::refusal::{Code, Refusal};
use super::view::{ProjectSummary, ReloadReport, Status};
use crate::config::Config;
use crate::model::{BackendKind, TimeMs};
use crate::policy::TaskLimits;

/// Facts that do not change, and the configuration in force.
#[derive(Debug)]
pub struct Facts {
    /// Since when the daemon runs.
    pub started_at: TimeMs,
    /// The backend new runs are started on.
    pub backend: BackendKind,
    /// tmux's version as it tells it, when there is a tmux.
    pub tmux_version: Option<String>,
    /// The configuration file that was named, and the one read where none was.
    config_files: (Option<PathBuf>, PathBuf),
    /// The operator this daemon works for.
    pub operator: String,
    config: Mutex<Config>,
    config_problems: Mutex<Vec<String>>,
    http_addr: OnceLock<String>,
}

impl Facts {
    /// The facts of a daemon that is about to run.
    #[must_use]
    pub fn new(
        config: Config,
        config_files: (Option<PathBuf>, PathBuf),
        operator: String,
        backend: (BackendKind, Option<String>),
        started_at: TimeMs,
    ) -> Self {
        Self {
            started_at,
            backend: backend.0,
            tmux_version: backend.1,
            config_files,
            operator,
            config: Mutex::new(config),
            config_problems: Mutex::default(),
            http_addr: OnceLock::new(),
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says where HTTP is served; the first word counts.
    pub fn serving_http_on(&self, address: String) {
        let _ = self.http_addr.set(address);
    }

    /// The daemon in one look.
    #[must_use]
    pub fn status(&self, projects: Vec<ProjectSummary>) -> Status {
        Status {
            projects,
            started_at: self.started_at,
            pid: std::process::id(),
            http_addr: self.http_addr.get().cloned(),
            backend: self.backend,
            tmux_version: self.tmux_version.clone(),
            config_problems: self.problems().clone(),
        }
    }

    /// Reads the configuration again. A bad one is said here and in the status; the old one stays.
    ///
    /// # Errors
    /// `invalid_request` with every problem.
    pub async fn reload(&self) -> Result<(ReloadReport, TaskLimits), Refusal> {
        let (named, default) = self.config_files.clone();
        let read = tokio::task::spawn_blocking(move || crate::config::load(named.as_deref(), &default)).await;
        let read = read.map_err(|_| Refusal::new(Code::Internal, "Reading the configuration failed."))?;
        match read {
            Ok(new) => {
                self.problems().clear();
                let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
                let report = crate::config::reload_report(&config, &new);
                let limits = task_limits(&new);
                *config = new;
                tracing::info!(applied = ?report.applied, needs_restart = ?report.needs_restart, "configuration read again");
                let words = |keys: Vec<&'static str>| keys.into_iter().map(str::to_owned).collect();
                let (applied, needs_restart) = (words(report.applied), words(report.needs_restart));
                Ok((ReloadReport { applied, needs_restart }, limits))
            }
            Err(bad) => {
                let problems: Vec<String> = bad.to_string().lines().map(str::to_owned).collect();
                tracing::error!(?problems, "the configuration is bad; the old one stays in force");
                (*self.problems()).clone_from(&problems);
                let message = "The configuration is bad; the old one stays in force.";
                Err(Refusal::new(Code::InvalidRequest, message)
                    .reason("config_invalid")
                    .detail("problems", json!(problems)))
            }
        }
    }

    fn problems(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.config_problems.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The limits a configuration sets.
#[must_use]
pub fn task_limits(config: &Config) -> TaskLimits {
    let side = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    TaskLimits {
        per_project: side(config.limits.tasks_per_project),
        per_operator: side(config.limits.tasks_per_operator),
    }
}
