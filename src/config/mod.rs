//! What the operator and the machine say: `daemon.toml`, the environment, paths, private directories, project files on disk.
//!
//! The only reader of the environment: [`Env`] is taken once at the start and passed on.

mod cwd;
mod dirs;
mod env;
mod error;
mod file;
mod keys;
pub mod limits;
mod listener;
mod paths;
mod read;
mod reload;
mod task_env;

pub use cwd::{Cwd, CwdError, project_cwd, recorded_cwd};
pub use dirs::{ensure_private_dir, ensure_safe_dir, is_unmapped};
pub use env::Env;
pub use error::{Error, Invalid};
pub use file::{
    BackendChoice, Config, Http, HttpAddr, Limits, PrMonitor, PtyOnRestart, TaskRunner, TmuxConfig,
    TmuxOutput, TmuxSettings, TmuxSocket, load, parse, parse_http_addr,
};
pub use listener::{connect_now, is_listened_at, private_listener};
pub use paths::{MAX_SOCKET_PATH_BYTES, Paths};
pub use read::{
    ProjectSources, find_project, read_project, read_project_at, read_registered, read_secret, read_source,
};
pub use reload::{ReloadReport, reload_report};
pub use task_env::task_env;
