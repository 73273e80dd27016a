//! Commands that misbehave: escapees, deaf ones, floods, and what cannot be started.
