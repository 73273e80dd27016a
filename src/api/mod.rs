//! HTTP and WebSocket: routes, wire types, errors.
//!
//! [`ROUTES`] is the table of contents. Every request, whatever its path, passes one door: the [`Door`] decides who asks before the
//! table is obeyed, and what the table does not open needs a credential. The control socket has its own door, the peer's uid.

mod audit;
mod control_socket;
mod daemon;
mod dispatch;
mod door;
mod error;
mod events;
mod failures;
mod headers;
mod health;
mod instances;
mod page;
mod projects;
mod query;
mod request;
mod route;
mod seats;
mod serve;
mod session;
mod socket;
mod stall;
mod state;
mod tasks;
mod terminals;
mod transcript;
mod wire;

pub use control_socket::{ControlSocket, ServeError, bind_control};
pub use dispatch::answer;
pub use door::{Door, Vault};
pub use route::{Access, ROUTES, Route, Surface};
pub use serve::{Listeners, Web, serve};
pub use state::Api;
