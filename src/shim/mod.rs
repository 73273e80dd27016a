//! The process that holds a command on its own PTY, and the protocol spoken with it.
