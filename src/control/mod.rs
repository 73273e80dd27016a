//! tmux control mode, sans-IO: bytes in, events out; commands in, bytes out.
