//! Domain verbs over SQLite: one writer thread that groups commits, a few readers.
//!
//! A verb that changes something answers after its commit. A failed verb leaves nothing behind, and its error says why.

mod credentials;
mod db;
mod error;
mod events;
mod open;
mod page;
mod projects;
mod readers;
mod row;
mod runs;
mod snapshot;
mod transcripts;
mod types;
mod writer;

pub use db::Store;
pub use error::Error;
use page::{limit, page};
pub use snapshot::{KeyRow, Log, RunRow, Snapshot, TranscriptRow, Unreadable};
pub use types::{
    Change, Earlier, EventFilter, IdempotencyKey, NewEvent, OfTask, Page, Record, Recorded, Registered,
    RunFilter, StoredEvent, Transcript,
};
