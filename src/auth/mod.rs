//! Who is let in: tokens, tickets, browser sessions, and the rules for host and origin (`spec/protocol.md` §6).

mod record;
mod secret;

pub use record::{SessionRecord, TokenRecord};
pub use secret::{Hash, fresh};
