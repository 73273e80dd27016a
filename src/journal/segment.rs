//! Segment files: their names and their list.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const PREFIX: &str = "seg.";

/// A segment file: bytes `start..start + len` of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Segment {
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Segment {
    pub(super) const fn end(self) -> u64 {
        self.start + self.len
    }
}

/// The path of the segment that begins at `start`.
pub(super) fn path(dir: &Path, start: u64) -> PathBuf {
    dir.join(format!("{PREFIX}{start}"))
}

/// All segments of a directory in order. One that disappears meanwhile is left out.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let start =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|text| text.parse().ok());
        if let (Some(start), Ok(metadata)) = (start, entry.metadata()) {
            segments.push(Segment { start, len: metadata.len() });
        }
    }
    segments.sort_unstable();
    Ok(segments)
}
