//! Why the daemon will not do what was asked, in the contract's words.

use std::fmt;

use serde_json::{Map, Value};

/// The error codes of `spec/protocol.md` §2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// 400
    InvalidRequest,
    /// 401
    Unauthorized,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 408
    Timeout,
    /// 409
    Conflict,
    /// 410
    Gone,
    /// 413
    PayloadTooLarge,
    /// 416
    RangeNotSatisfiable,
    /// 421
    Misdirected,
    /// 429
    RateLimited,
    /// 500
    Internal,
    /// 503
    Unavailable,
}

/// A refusal: a code, a sentence for people, and facts for programs.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusal {
    /// Which kind.
    pub code: Code,
    /// What is wrong and what to do, plain and short.
    pub message: String,
    /// `details` of the error body; `reason` in it is a stable machine word.
    pub details: Map<String, Value>,
}

impl Refusal {
    /// A refusal without details.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Map::new() }
    }

    /// The same with `details.reason` set.
    #[must_use]
    pub fn reason(self, word: &str) -> Self {
        self.detail("reason", word)
    }

    /// The same with one more fact in `details`.
    #[must_use]
    pub fn detail(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.details.insert(key.to_owned(), value.into());
        self
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Refusal {}

impl From<crate::store::Error> for Refusal {
    fn from(error: crate::store::Error) -> Self {
        use crate::store::Error;
        let message = error.to_string();
        match error {
            Error::Busy | Error::Full | Error::Undone | Error::Closed | Error::Io(_) | Error::ReadOnly(_) => {
                Self::new(Code::Unavailable, message).reason("store")
            }
            Error::NoInstance => Self::new(Code::NotFound, message),
            Error::Conflict(_) => Self::new(Code::Conflict, message).reason("store"),
            Error::Cursor => Self::new(Code::InvalidRequest, message).reason("cursor"),
            Error::Open { .. }
            | Error::Newer { .. }
            | Error::Foreign(_)
            | Error::Corrupt(_)
            | Error::Sql(_) => Self::new(Code::Internal, message).reason("store"),
        }
    }
}

impl From<crate::backend::BackendError> for Refusal {
    fn from(error: crate::backend::BackendError) -> Self {
        Self::new(Code::Unavailable, error.to_string()).reason("backend")
    }
}
