//! One instance from launch to its end, and what to do with it after a restart.
