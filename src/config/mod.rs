//! `daemon.toml`, the environment and flags; the only reader of the environment.
