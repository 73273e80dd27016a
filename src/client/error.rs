//! Why the daemon did not do what was asked.

use std::io;
use std::path::PathBuf;

use serde_json::{Map, Value};

/// An error answer of the daemon (`spec/protocol.md` §2).
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The code's word: `not_found`, `conflict`, ….
    pub code: String,
    /// For people.
    pub message: String,
    /// For programs; `reason` in it is a stable word.
    pub details: Map<String, Value>,
}

impl Refused {
    /// Reads an error body; a body that is none becomes `internal` with the status told.
    #[must_use]
    pub fn of_body(status: u16, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        Self::of(&value["error"]).unwrap_or_else(|| Self {
            code: "internal".to_owned(),
            message: format!("the daemon answered with status {status} and no reason"),
            details: Map::new(),
        })
    }

    /// Reads the `error` object.
    fn of(error: &Value) -> Option<Self> {
        Some(Self {
            code: error["code"].as_str()?.to_owned(),
            message: error["message"].as_str()?.to_owned(),
            details: error["details"].as_object().cloned().unwrap_or_default(),
        })
    }
}

/// Why a request has no answer, or not the wished one.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No process listens on the socket.
    #[error("daemon not running (nothing answers at {})", socket.display())]
    NotRunning {
        /// Where it was looked for.
        socket: PathBuf,
    },
    /// The socket cannot be used, for another reason.
    #[error("cannot connect to {}: {error}", socket.display())]
    Connect {
        /// The socket.
        socket: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The daemon said no.
    #[error("{}", .0.message)]
    Refused(Refused),
    /// The connection ended before the answer did.
    #[error("the connection to the daemon was lost: {0}")]
    Lost(String),
    /// No answer came in time.
    #[error("the daemon did not answer within {0} s")]
    TimedOut(u64),
    /// The daemon takes connections and answers none: it was stopped, or it hangs.
    #[error(
        "the daemon does not answer ({}): it was stopped, or it hangs. {} Runs go on meanwhile, and what was asked for may still happen",
        socket.display(), advice(*pid)
    )]
    Hangs {
        /// Where it listens.
        socket: PathBuf,
        /// Its process, if it can be seen from here.
        pid: Option<u32>,
    },
    /// An answer began and did not come to its end.
    #[error("the daemon's answer broke off: {0}; `kas daemon status` tells whether it still runs")]
    BrokeOff(String),
    /// An answer that is no stream is longer than any should be.
    #[error("the daemon's answer is longer than {0} bytes")]
    TooLong(usize),
    /// The answer is not what the contract says.
    #[error("the daemon's answer makes no sense: {0}")]
    Nonsense(String),
}

/// What to do about a daemon that hangs.
fn advice(pid: Option<u32>) -> String {
    let process = pid.map_or_else(|| "PID".to_owned(), |pid| pid.to_string());
    format!(
        "`kill -CONT {process}` wakes one that was stopped; else `kill -KILL {process}` and `kas daemon start`, which takes its runs over."
    )
}

impl Error {
    /// Whether what was asked for is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused(refused) if refused.code == "not_found")
    }

    /// Whether the same may work in a moment: the daemon is away or about to be.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NotRunning { .. } | Self::Lost(_) | Self::TimedOut(_) | Self::BrokeOff(_) => true,
            Self::Refused(refused) => refused.code == "unavailable",
            Self::Connect { .. } | Self::Hangs { .. } | Self::TooLong(_) | Self::Nonsense(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_error_bodies_and_survives_others() {
        let body = br#"{"error":{"code":"conflict","message":"no","details":{"reason":"not_running"}}}"#;
        let refused = Refused::of_body(409, body);
        assert_eq!((refused.code.as_str(), refused.message.as_str()), ("conflict", "no"));
        assert_eq!(refused.details["reason"], "not_running");
        for body in [&b""[..], b"<html>", b"{}", br#"{"error":{"code":3}}"#, b"[]"] {
            let refused = Refused::of_body(502, body);
            assert_eq!(refused.code, "internal");
            assert!(refused.message.contains("502"));
        }
    }
}
