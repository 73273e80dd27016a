//! `/tasks/:tid/transcript`: what an instance wrote, as bytes, text, asciicast or lines; also while it runs.
//!
//! The range is fixed when the request comes; the bytes are read from the journal or the store while they are sent, so a
//! transcript costs one piece of memory however long it is.

mod decode;
mod pieces;
mod range;
mod render;
mod show;

pub(super) use show::show;
