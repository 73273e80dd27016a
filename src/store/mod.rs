//! Domain verbs over SQLite: one writer thread, a few readers.
