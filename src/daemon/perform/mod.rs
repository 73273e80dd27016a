//! Carries out effects. Each run has one actor, so that what concerns a run happens in order; the rest is independent.

mod adopt;
mod find;
mod holder;
mod performer;
mod remains;
mod removal;
mod run;
mod salvage;
mod transcript;

pub(super) use performer::Performer;
pub use performer::Places;
pub(super) use run::{earlier_run, ended};
