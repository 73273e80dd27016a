//! Live output by offset: a bounded ring per terminal, history behind it, subscribers that pull.
//!
//! Nobody is pushed to. A producer appends to the [`Channel`]; each subscriber keeps its own position and reads from there,
//! out of the ring while it is near the end and out of the [`History`] when it is not. So a viewer that stops reading costs
//! nothing but its position, and one that falls behind what is held is told so and starts again from a [`Snapshot`].

mod channel;
mod history;
mod ring;
mod snapshot;

pub use channel::{Channel, Ended, GapReason, Pushed, Read};
pub use history::{Checkpoint, History};
pub use snapshot::{Lease, Snapshot};
