//! The daemon dies, or a step fails, at each named point of a launch and of a stop.
