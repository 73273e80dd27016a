//! A client of the daemon over its control socket: JSON requests, downloads, and live terminals that outlive a lost connection.

mod error;
mod frame;
mod http;
mod socket;
mod view;
mod watch;

pub use error::{Error, Refused};
pub use frame::{End, Frame};
pub use http::{Client, Download};
pub use socket::Socket;
pub use view::{Question, Registered, Run, Started};
pub use watch::{Mode, Seen, Watch};
