//! Runs in tmux windows: one session per project, its control client, and what the operator does there besides.
//!
//! Windows are made, found and ended by one-shot processes ([`Tmux::open_window`] and its like), so that none of it depends on the control
//! client. That one carries live output, sizes, and what is typed into the operator's own panes; while it is away, or has lost its
//! place, each run streams from its shim.

mod actor;
mod align;
mod census;
mod guard;
mod handle;
mod link;
mod listing;
mod oneshot;
mod pane;
mod probe;
mod resolve;
mod scan;
mod screen;
mod server;
mod session;
mod settings;
mod shared;
mod told;
mod tracker;
mod types;

pub use align::{Aligner, Piece};
pub use census::{Census, Pane, census};
pub use handle::{Followed, Tmux};
pub use probe::{NoVersion, Probe, Version, probe};
pub use resolve::{ResolveError, Resolved, resolve};
pub use scan::Scan;
pub use settings::Settings;
pub use types::{FoundForeign, FoundSession, FoundWindow, Report, Window, WindowPlan};
