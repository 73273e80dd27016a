//! What a viewer is sent, written down as it comes, for `kas debug fsck --stream`.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Frame;

/// How much of a stream is recorded, in bytes; what comes after is not.
const LIMIT: u64 = 32 * 1024 * 1024;

/// Recordings of this process so far; each has a name of its own.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// The recording of one subscription. The default one goes nowhere.
#[derive(Debug, Default)]
pub(super) struct Recording {
    file: Option<File>,
    len: u64,
}

impl Recording {
    /// Begins one of an instance; `from` is what was asked for. What is no id has no recording.
    pub(super) fn begin(dir: &Path, id: &str, from: Option<u64>) -> Self {
        if id.len() != 26 {
            return Self::default();
        }
        fs::create_dir_all(dir).unwrap();
        let path = dir.join(format!("{}.kas", COUNT.fetch_add(1, Ordering::Relaxed)));
        let mut recording = Self { file: Some(File::create(path).unwrap()), len: 0 };
        let from = from.map(|from| format!("from {from}\n")).unwrap_or_default();
        recording.put(format!("kas-stream 1 {id}\n{from}").as_bytes());
        recording
    }

    /// Adds what came, in one write each, so that a reader meanwhile finds whole records and the last one's beginning.
    pub(super) fn add(&mut self, frame: &Frame) {
        if self.len > LIMIT {
            self.put(b"cut\n");
            self.file = None;
        }
        match frame {
            Frame::Output { offset, bytes, .. } => {
                let head = format!("output {offset} {}\n", bytes.len());
                self.put(&[head.as_bytes(), bytes, b"\n"].concat());
            }
            Frame::Snapshot { offset, .. } => self.put(format!("snapshot {offset}\n").as_bytes()),
            Frame::Text(text) if text["type"] == "pty.gap" => {
                self.put(format!("gap {} {}\n", text["from"], text["to"]).as_bytes());
            }
            Frame::Text(text) if text["type"] == "pty.exit" => {
                let code = text["exit_code"].as_i64().map_or_else(|| "-".to_owned(), |code| code.to_string());
                let state = text["state"].as_str().unwrap();
                self.put(format!("exit {} {state} {code}\n", text["offset"]).as_bytes());
            }
            Frame::Text(_) => {}
        }
    }

    fn put(&mut self, bytes: &[u8]) {
        if let Some(file) = &mut self.file {
            file.write_all(bytes).unwrap();
            self.len += bytes.len() as u64;
        }
    }
}
