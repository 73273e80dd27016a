//! `spec.json`, what a shim is told, and `exit.json`, what it leaves behind.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::model::{BackendKind, Exit, InstanceId, Size, TimeMs};

/// Why a record cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("{path}: {why}")]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// A run's secret: proves to a shim that a client is its daemon, and makes the marks in its stream unforgeable.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Nonce([u8; 16]);

impl Nonce {
    /// A new nonce from the system's random source.
    ///
    /// # Errors
    ///
    /// When the system has no random source.
    pub fn random() -> std::io::Result<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
        Ok(Self(bytes))
    }

    /// The nonce with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// 32 hexadecimal digits, as used in marks and records.
    #[must_use]
    pub fn hex(&self) -> String {
        use fmt::Write as _;
        self.0.iter().fold(String::with_capacity(32), |mut text, byte| {
            write!(text, "{byte:02x}").expect("a String takes every write");
            text
        })
    }

    /// The nonce written as 32 hexadecimal digits.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        if text.len() != 32 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }
}

impl fmt::Debug for Nonce {
    /// Shows nothing of it: it is a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonce(..)")
    }
}

/// Everything a shim must know to run a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// The run's id.
    pub id: InstanceId,
    /// The run's secret.
    pub nonce: Nonce,
    /// What `/bin/sh -c` is given, any bytes.
    pub command: OsString,
    /// The directory it runs in.
    pub cwd: PathBuf,
    /// Its whole environment; nothing is added and nothing inherited.
    pub env: Vec<(OsString, OsString)>,
    /// The terminal's size until somebody resizes it (a window's own size comes before it).
    pub size: Size,
    /// How much output is kept, in bytes.
    pub limit_bytes: u64,
    /// How many lines above the screen the checkpoint of a cut journal holds.
    pub scrollback_lines: u32,
    /// Whether the shim has a window or is on its own.
    pub backend: BackendKind,
    /// Stay in the window after the end, so that it can be read there.
    pub keep_window: bool,
    /// The boot in which the instance was launched.
    pub boot_id: String,
}

impl Spec {
    /// The file's name in an instance directory.
    pub const FILE: &str = "spec.json";

    /// The spec in an instance directory.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not a spec.
    pub fn read(dir: &Path) -> Result<Self, RecordError> {
        let path = dir.join(Self::FILE);
        let bytes = std::fs::read(&path).map_err(|source| RecordError::Io { path: path.clone(), source })?;
        Self::from_bytes(&bytes, &path)
    }

    /// The spec as the file's bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let file = SpecFile {
            id: self.id.to_string(),
            nonce: self.nonce.hex(),
            command: Text::from(self.command.as_os_str()),
            cwd: Text::from(self.cwd.as_os_str()),
            env: self
                .env
                .iter()
                .map(|(name, value)| (name.as_os_str().into(), value.as_os_str().into()))
                .collect(),
            cols: self.size.cols(),
            rows: self.size.rows(),
            limit_bytes: self.limit_bytes,
            scrollback_lines: self.scrollback_lines,
            backend: self.backend.word().to_owned(),
            keep_window: self.keep_window,
            boot_id: self.boot_id.clone(),
        };
        serde_json::to_vec(&file).expect("strings and numbers always serialize")
    }

    /// Reads a spec from the file's bytes; `path` is for the error.
    ///
    /// # Errors
    ///
    /// When the bytes are not a spec.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, RecordError> {
        let invalid = |why: String| RecordError::Invalid { path: path.to_owned(), why };
        let file: SpecFile = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
        Ok(Self {
            id: file.id.parse().map_err(|e| invalid(format!("{e}")))?,
            nonce: Nonce::from_hex(&file.nonce).ok_or_else(|| invalid("the nonce is not one".into()))?,
            command: file.command.into(),
            cwd: PathBuf::from(OsString::from(file.cwd)),
            env: file.env.into_iter().map(|(name, value)| (name.into(), value.into())).collect(),
            size: Size::clamped(file.cols.into(), file.rows.into())
                .ok_or_else(|| invalid("a side of the terminal is 0".into()))?,
            limit_bytes: file.limit_bytes,
            scrollback_lines: file.scrollback_lines,
            backend: file.backend.parse().map_err(|e| invalid(format!("{e}")))?,
            keep_window: file.keep_window,
            boot_id: file.boot_id,
        })
    }
}

/// How a run came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The command ran and the kernel said how it ended.
    Exited(Exit),
    /// The command could not be started.
    SpawnFailed {
        /// The system's error number, where it was the system.
        errno: Option<i32>,
        /// For people: what could not be done and why.
        text: String,
    },
    /// The gate was never opened: the command did not run.
    NeverStarted,
}

/// What ended a run other than the command itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Nothing: it ended by itself.
    Itself,
    /// A stop was asked for first.
    Stop,
    /// Its window went away first.
    WindowClosed,
}

/// What a shim leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExitRecord {
    /// How it ended.
    pub ending: Ending,
    /// What had been asked before it ended.
    pub cause: Cause,
    /// The offset after the last byte.
    pub total_bytes: u64,
    /// How many of these bytes could not be written to disk.
    pub lost_bytes: u64,
    /// When the command was started.
    pub started_at: TimeMs,
    /// When it ended.
    pub ended_at: TimeMs,
    /// Its process id.
    pub pid: Option<u32>,
    /// The run's secret.
    pub nonce: Nonce,
    /// The boot in which it ended.
    pub boot_id: String,
}

impl ExitRecord {
    /// The file's name in an instance directory.
    pub const FILE: &str = "exit.json";

    /// The record as the file's bytes, at most 4 KiB.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut file = ExitFile {
            code: None,
            signal: None,
            spawn_error: None,
            never_started: false,
            cause: self.cause,
            total_bytes: self.total_bytes,
            lost_bytes: self.lost_bytes,
            started_at: self.started_at.0,
            ended_at: self.ended_at.0,
            pid: self.pid,
            nonce: self.nonce.hex(),
            boot_id: self.boot_id.clone(),
        };
        match &self.ending {
            Ending::Exited(Exit::Code(code)) => file.code = Some(*code),
            Ending::Exited(Exit::Signal(signal)) => file.signal = Some(*signal),
            Ending::SpawnFailed { errno, text } => {
                file.spawn_error = Some(SpawnError { errno: *errno, text: text.chars().take(400).collect() });
            }
            Ending::NeverStarted => file.never_started = true,
        }
        serde_json::to_vec(&file).expect("strings and numbers always serialize")
    }

    /// The record in an instance directory; `None` when there is none (yet).
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is not an exit record.
    pub fn read(dir: &Path) -> Result<Option<Self>, RecordError> {
        let path = dir.join(Self::FILE);
        match std::fs::read(&path) {
            Ok(bytes) => Self::from_bytes(&bytes, &path).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(RecordError::Io { path, source }),
        }
    }

    /// Reads a record from the file's bytes; `path` is for the error.
    ///
    /// # Errors
    ///
    /// When the bytes are not an exit record.
    pub fn from_bytes(bytes: &[u8], path: &Path) -> Result<Self, RecordError> {
        let invalid = |why: String| RecordError::Invalid { path: path.to_owned(), why };
        let file: ExitFile = serde_json::from_slice(bytes).map_err(|e| invalid(e.to_string()))?;
        let ending = match (file.code, file.signal, file.spawn_error, file.never_started) {
            (Some(code), None, None, false) => Ending::Exited(Exit::Code(code)),
            (None, Some(signal), None, false) => Ending::Exited(Exit::Signal(signal)),
            (None, None, Some(e), false) => Ending::SpawnFailed { errno: e.errno, text: e.text },
            (None, None, None, true) => Ending::NeverStarted,
            other => return Err(invalid(format!("not exactly one ending: {other:?}"))),
        };
        Ok(Self {
            ending,
            cause: file.cause,
            total_bytes: file.total_bytes,
            lost_bytes: file.lost_bytes,
            started_at: TimeMs(file.started_at),
            ended_at: TimeMs(file.ended_at),
            pid: file.pid,
            nonce: Nonce::from_hex(&file.nonce).ok_or_else(|| invalid("the nonce is not one".into()))?,
            boot_id: file.boot_id,
        })
    }
}

/// This boot's id, by which records of an earlier boot are known. Source: random(4), `/proc/sys/kernel/random/boot_id`.
///
/// # Errors
///
/// When `/proc` is not mounted.
pub fn boot_id() -> std::io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim_end().to_owned())
}

/// Any bytes in JSON: a string where they are UTF-8, else a list of numbers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Utf8(String),
    Bytes(Vec<u8>),
}

impl From<&OsStr> for Text {
    fn from(text: &OsStr) -> Self {
        text.to_str()
            .map_or_else(|| Self::Bytes(text.as_bytes().to_vec()), |utf8| Self::Utf8(utf8.to_owned()))
    }
}

impl From<Text> for OsString {
    fn from(text: Text) -> Self {
        match text {
            Text::Utf8(text) => Self::from(text),
            Text::Bytes(bytes) => Self::from_vec(bytes),
        }
    }
}

// Shims and daemons of other versions read and write these: a field that is not known is passed over, and one added later needs
// `#[serde(default)]`, for those before did not write it.
#[derive(Serialize, Deserialize)]
struct SpecFile {
    id: String,
    nonce: String,
    command: Text,
    cwd: Text,
    env: Vec<(Text, Text)>,
    cols: u16,
    rows: u16,
    limit_bytes: u64,
    scrollback_lines: u32,
    backend: String,
    keep_window: bool,
    boot_id: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct SpawnError {
    errno: Option<i32>,
    text: String,
}

#[derive(Serialize, Deserialize)]
struct ExitFile {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    signal: Option<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    spawn_error: Option<SpawnError>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    never_started: bool,
    cause: Cause,
    total_bytes: u64,
    lost_bytes: u64,
    started_at: i64,
    ended_at: i64,
    pid: Option<u32>,
    nonce: String,
    boot_id: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Spec {
        Spec {
            id: InstanceId::from_parts(1, 2),
            nonce: Nonce::from_bytes([7; 16]),
            command: OsString::from_vec(b"echo \xff\0 \"'".to_vec()),
            cwd: PathBuf::from("/x#(touch PWNED)\n"),
            env: vec![("A".into(), OsString::from_vec(vec![0xfe]))],
            size: Size::DEFAULT,
            limit_bytes: 10,
            scrollback_lines: 5,
            backend: BackendKind::Tmux,
            keep_window: true,
            boot_id: "b".into(),
        }
    }

    #[test]
    fn specs_hold_any_bytes() {
        let spec = spec();
        assert_eq!(Spec::from_bytes(&spec.to_bytes(), Path::new("spec.json")).unwrap(), spec);
    }

    #[test]
    fn exit_records_round_trip_and_stay_small() {
        let endings = [
            Ending::Exited(Exit::Code(255)),
            Ending::Exited(Exit::Signal(9)),
            Ending::SpawnFailed { errno: Some(2), text: "\u{1}".repeat(400) },
            Ending::NeverStarted,
        ];
        for ending in endings {
            let record = ExitRecord {
                ending,
                cause: Cause::Stop,
                total_bytes: u64::MAX,
                lost_bytes: 0,
                started_at: TimeMs(1),
                ended_at: TimeMs(2),
                pid: Some(3),
                nonce: Nonce::from_bytes([255; 16]),
                boot_id: "c9f3".into(),
            };
            let bytes = record.to_bytes();
            assert!(bytes.len() <= 4096, "{}", bytes.len());
            assert_eq!(ExitRecord::from_bytes(&bytes, Path::new("exit.json")).unwrap(), record);
        }
        let two = br#"{"code":1,"signal":2,"cause":"itself","total_bytes":0,"lost_bytes":0,"started_at":0,"ended_at":0,"pid":null,"nonce":"00000000000000000000000000000000","boot_id":""}"#;
        assert!(ExitRecord::from_bytes(two, Path::new("exit.json")).is_err());
    }

    #[test]
    fn nonces_are_32_hexadecimal_digits() {
        let nonce = Nonce::random().unwrap();
        assert_eq!(Nonce::from_hex(&nonce.hex()), Some(nonce));
        assert_ne!(Nonce::random().unwrap(), nonce);
        assert_eq!(Nonce::from_hex("+1"), None);
        assert_eq!(format!("{nonce:?}"), "Nonce(..)");
    }
}
