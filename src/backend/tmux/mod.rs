//! temporary face
#![allow(missing_docs, clippy::unused_async, unused_variables)]
mod align;
use super::BackendError;
use crate::broker::Channel;
use crate::journal::Nonce;
use crate::model::{InstanceId, ProjectId, Size};
use crate::shim::Client;
pub use align::{Aligner, Piece};
use bytes::Bytes;
use std::ffi::OsString;
use std::sync::Arc;
#[derive(Clone)]
pub struct Tmux;
#[derive(Clone)]
pub struct Window {
    pub session_name: String,
    pub window_name: String,
}
pub struct WindowPlan {
    pub instance: InstanceId,
    pub name: String,
    pub or_else: String,
    pub argv: Vec<OsString>,
    pub size: Size,
    pub keep: bool,
}
pub struct FoundSession {
    pub name: String,
}
pub struct FoundForeign {
    pub pane: u32,
    pub window: u32,
    pub title: String,
    pub command: String,
    pub size: Size,
}
pub enum Report {
    ServerGone { projects: Vec<ProjectId> },
    ControlLost { project: ProjectId, why: String },
    PipeFallback { project: ProjectId, why: String },
    PaneOpened { project: ProjectId, pane: u32, window: u32 },
    PaneClosed { project: ProjectId, pane: u32 },
}
impl Tmux {
    pub async fn ping(&self) -> Result<(), BackendError> {
        Ok(())
    }
    pub async fn open_window(&self, project: &ProjectId, plan: &WindowPlan) -> Result<Window, BackendError> {
        Err(BackendError::Gone)
    }
    pub async fn adopt_window(
        &self,
        project: &ProjectId,
        id: InstanceId,
    ) -> Result<Option<Window>, BackendError> {
        Ok(None)
    }
    pub async fn follow(
        &self,
        window: &Window,
        nonce: &Nonce,
        channel: Arc<Channel>,
        shim: Client,
    ) -> Result<(), BackendError> {
        Ok(())
    }
    pub async fn resize(&self, window: &Window, size: Size) -> Result<(), BackendError> {
        Ok(())
    }
    pub async fn kill_window(&self, project: &ProjectId, id: InstanceId) -> Result<(), BackendError> {
        Ok(())
    }
    pub async fn destroy_session(&self, project: &ProjectId) -> Result<(), BackendError> {
        Ok(())
    }
    pub async fn scan(&self) -> Result<Vec<FoundSession>, BackendError> {
        Ok(vec![])
    }
    pub async fn foreign_panes(&self, project: &ProjectId) -> Result<Vec<FoundForeign>, BackendError> {
        Ok(vec![])
    }
    pub async fn pane_channel(&self, project: &ProjectId, pane: u32) -> Option<Arc<Channel>> {
        None
    }
    pub async fn type_into(&self, pane: u32, bytes: Bytes) -> Result<(), BackendError> {
        Ok(())
    }
    pub async fn resize_pane(&self, pane: u32, size: Size) -> Result<(), BackendError> {
        Ok(())
    }
    pub async fn serves_what_it_served(&self) -> bool {
        true
    }
}
pub struct Settings;
impl Settings {
    pub fn new(_: &crate::config::TaskRunner, _: &crate::config::Env, _: &std::path::Path, _: u64) -> Self {
        Self
    }
}
pub enum Probe {
    Missing,
}
#[derive(Clone, Copy)]
pub struct Version;
impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("x")
    }
}
impl Probe {
    pub fn version(&self) -> Option<Version> {
        None
    }
}
pub async fn probe(_: &Settings) -> Probe {
    Probe::Missing
}
pub struct Resolved {
    pub backend: crate::model::BackendKind,
    pub log: String,
    pub warning: Option<String>,
}
pub fn resolve(_: crate::config::BackendChoice, _: &Probe) -> Result<Resolved, String> {
    Ok(Resolved { backend: crate::model::BackendKind::Pty, log: "pty".into(), warning: None })
}
impl Tmux {
    pub fn new(_: Settings, _: Version, _: tokio::sync::mpsc::Sender<Report>) -> Self {
        Self
    }
}
