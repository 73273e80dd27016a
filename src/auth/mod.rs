//! Who is let in: tokens, tickets, browser sessions, and the rules for host and origin (`spec/protocol.md` §6).

mod admit;
mod failures;
mod keys;
mod peer;
mod record;
mod secret;
mod site;
mod tickets;
mod token_file;

pub use admit::{Access, Admitted, Refusal, RequestFacts, Surface, admit};
pub use failures::{Failures, ToldFailures};
pub use keys::{Keys, NewSession, NewToken, NoKey};
pub use peer::{PeerCred, check_peer, peer_cred};
pub use record::{SessionRecord, TokenRecord};
pub use secret::{Hash, fresh};
pub use site::Site;
pub use token_file::{TokenFileError, bootstrap_token};
