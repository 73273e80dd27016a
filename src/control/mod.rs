//! tmux control mode, sans-IO: bytes in, events out; commands in, bytes out.
//!
//! `grammar/control.abnf` and `grammar/layout.abnf` say what tmux 3.2 to 3.7 writes; every parser here is named after its rule.
//! Nothing fails and nothing stops: what is not understood becomes [`Event::Unparsed`], and the next line is unaffected.

pub mod answer;
pub mod block;
mod client;
pub mod command;
pub mod escape;
mod event;
mod id;
pub mod layout;
pub mod line;
pub mod notification;
pub mod replay;

pub use answer::{Made, columns};
pub use block::{Block, Guard};
pub use client::{Client, PENDING_LIMIT, Ticket};
pub use command::Command;
pub use event::{Event, Outcome, Reason, Unparsed};
pub use id::{NotAnId, PaneId, SessionId, WindowId};
pub use layout::Layout;
pub use notification::Notification;
