//! Counters and gauges, and their text for a scraper.

mod cell;
mod registry;

pub use cell::{Counter, Gauge};
pub use registry::{CONTENT_TYPE, Metrics};
