//! Signals, service managers, upgrades and downgrades.
