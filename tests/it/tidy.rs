//! The architecture, held by a test.
