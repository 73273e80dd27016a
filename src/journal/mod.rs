//! An instance on disk: its spec, its bytes with offsets and times, its exit record.
//!
//! The instance directory (0700) holds `spec.json`, segments of output `seg.<offset of the first byte>`, an `index` of times and sizes,
//! a `checkpoint` once the front was cut off, and at the end `exit.json`. A segment begins where the one before it ends; where it
//! begins later, the bytes between could not be written. The shim is the only writer; readers come and go in other processes.

mod checkpoint;
mod cutter;
mod directory;
mod index;
mod pinned;
mod reader;
mod record;
mod segment;
mod writer;

pub use checkpoint::Checkpoint;
pub use directory::{create, has_begun, list, remove, sweep};
pub use index::Index;
pub use pinned::Pinned;
pub use reader::{Found, Reader};
pub use record::{Cause, Ending, ExitRecord, Nonce, RecordError, Spec, boot_id};
pub use writer::Writer;
