//! A real daemon for each test: a home of its own, a tmux of its own, and what talks to it.

mod done;
mod http;
mod log;
mod recording;
mod viewer;
mod wait;
mod world;

pub(crate) use done::Done;
pub(crate) use http::{Answer, Caller, Wire};
pub(crate) use viewer::{Frame, Seen, Viewer};
pub(crate) use wait::{PATIENCE, eventually, promised, soon};
pub(crate) use world::{Backend, World, ended, everything, program};
