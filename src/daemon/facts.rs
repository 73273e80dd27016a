//! What is known of the daemon itself, and its configuration.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use serde_json::json;

use super::refusal::{Code, Refusal};
use super::view::{ProjectSummary, ReloadReport, Status};
use crate::config::Config;
use crate::model::{BackendKind, TimeMs};
use crate::policy::TaskLimits;
use crate::tls::Tls;

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
    serving: OnceLock<Serving>,
}

/// Where HTTP is served, and how.
#[derive(Debug)]
pub struct Serving {
    /// The bound address.
    pub address: SocketAddr,
    /// The page's address as a browser is to use it, without a path.
    pub url: String,
    /// What it is encrypted with.
    pub tls: Option<Arc<Tls>>,
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
            serving: OnceLock::new(),
        }
    }

    /// The configuration in force.
    #[must_use]
    pub fn config(&self) -> Config {
        self.config.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says where HTTP is served; the first word counts.
    pub fn serving_http(&self, serving: Serving) {
        let _ = self.serving.set(serving);
    }

    /// The daemon in one look.
    #[must_use]
    pub fn status(&self, projects: Vec<ProjectSummary>) -> Status {
        Status {
            projects,
            started_at: self.started_at,
            pid: std::process::id(),
            http_addr: self.serving.get().map(|it| it.address.to_string()),
            http_url: self.serving.get().map(|it| it.url.clone()),
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
        let tls = self.serving.get().and_then(|it| it.tls.clone());
        let read = move || {
            let config = crate::config::load(named.as_deref(), &default).map_err(|bad| bad.to_string())?;
            let renewed = renew(tls.as_deref(), &config).map_err(|bad| bad.to_string())?;
            Ok::<_, String>((config, renewed))
        };
        let read = tokio::task::spawn_blocking(read).await;
        let read = read.map_err(|_| Refusal::new(Code::Internal, "Reading the configuration failed."))?;
        match read {
            Ok((new, renewed)) => {
                self.problems().clear();
                let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
                let mut report = crate::config::reload_report(&config, &new);
                if renewed && !report.applied.contains(&"http.tls_cert") {
                    report.applied.push("http.tls_cert");
                }
                let limits = task_limits(&new);
                *config = new;
                tracing::info!(applied = ?report.applied, needs_restart = ?report.needs_restart, "configuration read again");
                let words = |keys: Vec<&'static str>| keys.into_iter().map(str::to_owned).collect();
                let (applied, needs_restart) = (words(report.applied), words(report.needs_restart));
                Ok((ReloadReport { applied, needs_restart }, limits))
            }
            Err(bad) => {
                let problems: Vec<String> = bad.lines().map(str::to_owned).collect();
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

/// Takes up what is in the certificate's files now; whether that is another certificate.
fn renew(tls: Option<&Tls>, config: &Config) -> Result<bool, crate::tls::Error> {
    match (tls, config.http.tls()) {
        (Some(tls), Some((cert, key))) => tls.renew(cert, key, TimeMs::now()),
        _ => Ok(false),
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
