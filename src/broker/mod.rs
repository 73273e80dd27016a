//! Live output by offset: a bounded ring per terminal, history behind it, subscribers that pull.

mod channel;

pub use channel::{Channel, Checkpoint, History};
