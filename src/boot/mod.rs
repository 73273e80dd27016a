//! Builds everything and runs until shutdown.
