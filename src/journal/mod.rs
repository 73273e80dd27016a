//! An instance on disk: its spec, its bytes with offsets and times, its exit record.

mod record;

pub use record::{Cause, Ending, ExitRecord, Nonce, RecordError, Spec, boot_id};
