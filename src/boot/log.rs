//! The daemon's own log: lines on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Starts logging at `info`, or as `filter` says (`KAS_LOG`, in the syntax of `tracing_subscriber`'s `EnvFilter`).
pub(super) fn start(filter: Option<&str>) {
    let filter =
        filter.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_span_events(FmtSpan::NONE)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}
