//! The daemon, a shim or the whole machine goes away at any moment.
