//! An instance on disk: its spec, its bytes with offsets and times, its exit record.
