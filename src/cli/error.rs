//! Why a command failed, and the exit code that says so (`spec/protocol.md` §5).

use std::io;

use serde_json::{Value, json};

use super::output::{Failure, code, problem_json};
use crate::{boot, client, config};

/// Any failure of a command.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    #[error(transparent)]
    Client(#[from] client::Error),
    #[error(transparent)]
    Config(#[from] config::Error),
    /// The arguments make no sense together or here.
    #[error("{message}")]
    Usage { message: String, reason: &'static str },
    /// What was named is not there.
    #[error("{message}")]
    NotFound { message: String, reason: &'static str },
    #[error("{0}")]
    TimedOut(String),
    #[error("{message}")]
    NotPermitted { message: String, reason: &'static str },
    #[error("{message}")]
    Failed { message: String, reason: &'static str },
    /// The daemon could not start; everything is said already.
    #[error("{message}")]
    Start { exit: u8, code: String, message: String, details: Value },
    #[error(transparent)]
    Boot(#[from] boot::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Error {
    pub(super) fn usage(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), reason }
    }

    pub(super) fn not_found(reason: &'static str, message: impl Into<String>) -> Self {
        Self::NotFound { message: message.into(), reason }
    }

    pub(super) fn failed(reason: &'static str, message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), reason }
    }

    /// Whether the reader of our output went away, which is no fault.
    pub(super) fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Io(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    pub(super) fn exit(&self) -> u8 {
        match self {
            Self::Client(error) => client_exit(error),
            Self::Config(error) => error.exit_code(),
            Self::Boot(error) => error.exit_code(),
            Self::Usage { .. } => code::USAGE,
            Self::NotFound { .. } => code::NOT_FOUND,
            Self::TimedOut(_) => code::TIMED_OUT,
            Self::NotPermitted { .. } => code::NOT_PERMITTED,
            Self::Failed { .. } | Self::Io(_) => code::FAILED,
            Self::Start { exit, .. } => *exit,
        }
    }

    /// The parts of the error body.
    pub(super) fn failure(&self) -> Failure<'_> {
        let (code, details) = match self {
            Self::Client(client::Error::Refused(it)) => (it.code.as_str(), Value::Object(it.details.clone())),
            Self::Client(error) => client_body(error),
            Self::Config(error) | Self::Boot(boot::Error::Config(error)) => {
                ("invalid_request", config_details(error))
            }
            Self::Boot(boot::Error::Locked { .. }) => ("conflict", json!({"reason": "locked"})),
            Self::Boot(boot::Error::Tls(_)) => ("forbidden", json!({"reason": "tls"})),
            Self::Boot(boot::Error::NoTmux(_)) => ("unavailable", json!({"reason": "no_tmux"})),
            Self::Boot(boot::Error::Failed(_)) => ("internal", json!({"reason": "start"})),
            Self::Usage { reason, .. } => ("invalid_request", json!({ "reason": reason })),
            Self::NotFound { reason, .. } => ("not_found", json!({ "reason": reason })),
            Self::TimedOut(_) => ("unavailable", json!({"reason": "timed_out"})),
            Self::NotPermitted { reason, .. } => ("forbidden", json!({ "reason": reason })),
            Self::Failed { reason, .. } => ("internal", json!({ "reason": reason })),
            Self::Start { code, details, .. } => (code.as_str(), details.clone()),
            Self::Io(_) => ("internal", json!({"reason": "io"})),
        };
        Failure { code, message: self.message(), details }
    }

    /// One line; the problems of a file are told beside it.
    fn message(&self) -> String {
        let (Self::Config(config::Error::Invalid(it))
        | Self::Boot(boot::Error::Config(config::Error::Invalid(it)))) = self
        else {
            return self.to_string();
        };
        let count = it.problems.len();
        let noun = if count == 1 { "problem" } else { "problems" };
        format!("{count} {noun} in {}", it.source.name)
    }
}

fn client_body(error: &client::Error) -> (&'static str, Value) {
    let (code, reason) = match error {
        client::Error::NotRunning { .. } => ("unavailable", "not_running"),
        client::Error::Connect { .. } => ("unavailable", "connect"),
        client::Error::Lost(_) => ("unavailable", "lost"),
        client::Error::TimedOut(_) => ("unavailable", "timed_out"),
        client::Error::Hangs { .. } => ("unavailable", "hangs"),
        client::Error::BrokeOff(_) => ("internal", "broke_off"),
        client::Error::TooLong(_) => ("internal", "too_long"),
        client::Error::Nonsense(_) | client::Error::Refused(_) => ("internal", "protocol"),
    };
    (code, json!({ "reason": reason }))
}

fn client_exit(error: &client::Error) -> u8 {
    match error {
        client::Error::NotRunning { .. } | client::Error::Lost(_) => code::UNREACHABLE,
        client::Error::Connect { error, .. } if error.kind() == io::ErrorKind::PermissionDenied => {
            code::NOT_PERMITTED
        }
        client::Error::Connect { .. } => code::UNREACHABLE,
        client::Error::TimedOut(_) | client::Error::Hangs { .. } => code::TIMED_OUT,
        // The daemon did answer.
        client::Error::BrokeOff(_) | client::Error::TooLong(_) | client::Error::Nonsense(_) => code::FAILED,
        client::Error::Refused(refused) => refused_exit(refused),
    }
}

/// A refused request: what is wrong with a file is 4, what is wrong with the request itself is 2.
fn refused_exit(refused: &client::Refused) -> u8 {
    let problems = refused.details.get("problems").and_then(Value::as_array);
    let reason = refused.details.get("reason").and_then(Value::as_str);
    let file = reason == Some("no_project_file") || problems.is_some_and(|it| !it.is_empty());
    match refused.code.as_str() {
        "invalid_request" if file => code::INVALID,
        "invalid_request" | "payload_too_large" => code::USAGE,
        "not_found" => code::NOT_FOUND,
        "conflict" | "gone" | "rate_limited" => code::CONFLICT,
        "unauthorized" | "forbidden" => code::NOT_PERMITTED,
        "unavailable" if matches!(reason, Some("lives_on" | "stop_waits" | "end_waits")) => code::TIMED_OUT,
        "unavailable" => code::UNREACHABLE,
        "timeout" => code::TIMED_OUT,
        _ => code::FAILED,
    }
}

fn config_details(error: &config::Error) -> Value {
    match error {
        config::Error::Invalid(invalid) => {
            let problems: Vec<_> = invalid.problems.iter().map(problem_json).collect();
            json!({"reason": "config_invalid", "problems": problems})
        }
        config::Error::Moved { .. } => json!({"reason": crate::project::PROJECT_MOVED}),
        config::Error::Advised { .. }
        | config::Error::NotFound { .. }
        | config::Error::NotAFile { .. }
        | config::Error::Io { .. }
        | config::Error::NotLoopback { .. }
        | config::Error::HalfTls { .. }
        | config::Error::NoName { .. }
        | config::Error::NotPrivate { .. }
        | config::Error::UnsafeDir { .. }
        | config::Error::BadAddress { .. }
        | config::Error::SocketPathTooLong { .. }
        | config::Error::NoHome { .. } => json!({"reason": "config"}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_exit_codes() {
        let check = |code: &str, details: Value, expect: u8| {
            let details = details.as_object().unwrap().clone();
            let refused = client::Refused { code: code.into(), message: "m".into(), details };
            assert_eq!(Error::from(client::Error::Refused(refused)).exit(), expect, "{code}");
        };
        check("invalid_request", json!({}), 2);
        check("invalid_request", json!({"problems": [{}]}), 4);
        check("invalid_request", json!({"reason": "no_project_file"}), 4);
        check("not_found", json!({}), 3);
        check("conflict", json!({}), 7);
        check("gone", json!({}), 7);
        check("rate_limited", json!({}), 7);
        check("forbidden", json!({}), 8);
        check("unavailable", json!({}), 5);
        for reason in ["lives_on", "stop_waits", "end_waits"] {
            check("unavailable", json!({ "reason": reason }), 6);
        }
        check("internal", json!({}), 1);
    }

    #[test]
    fn a_refusal_passes_through_whole() {
        let body = br#"{"error":{"code":"rate_limited","message":"8 run already","details":{"limit":8}}}"#;
        let error = Error::from(client::Error::Refused(client::Refused::of_body(429, body)));
        let failure = error.failure();
        assert_eq!((failure.code, failure.message.as_str()), ("rate_limited", "8 run already"));
        assert_eq!(failure.details, json!({"limit": 8}));
    }
}
