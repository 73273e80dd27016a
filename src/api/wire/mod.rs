//! What goes over the wire as JSON, in both directions: the only serializable types of the API.

pub(super) mod frames;
mod http;

pub(super) use http::*;
