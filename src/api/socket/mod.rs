//! The WebSocket: many terminals and the event stream over one connection (`spec/protocol.md` §4).
//!
//! One task per connection holds everything. Nothing is queued per subscriber: each has a position in its channel and takes its
//! turn, one slice at a time, when the peer can take a frame. So the cost of a viewer is its position, one
//! frame and, after it fell behind, one snapshot.

mod connection;
mod desk;
mod frame;
mod hearing;
mod input;
mod owners;
mod peer;
mod subscription;
#[cfg(test)]
mod tests;
mod upgrade;
mod waiting;

pub(super) use owners::Owners;
pub(super) use upgrade::upgrade;
