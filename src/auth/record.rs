//! Credentials as they are stored: hashes, never secrets.

use super::Hash;
use crate::model::{Scope, SharedTask, TimeMs};

/// A bearer token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRecord {
    /// Shown in lists and in `token:<id>`.
    pub id: String,
    /// What its maker called it.
    pub name: String,
    /// The hash of its secret.
    pub hash: Hash,
    /// What it may do.
    pub scope: Scope,
    /// The one task it shows; `None` for all of them.
    pub only: Option<SharedTask>,
    /// Since when it exists.
    pub created_at: TimeMs,
    /// When it stops working by itself, if ever.
    pub expires_at: Option<TimeMs>,
    /// Since when it works no more.
    pub revoked_at: Option<TimeMs>,
}

impl TokenRecord {
    /// Whether it opens something at `now`.
    #[must_use]
    pub fn works(&self, now: TimeMs) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

/// A browser session: a cookie and a key, both needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Shown in `session:<id>`.
    pub id: String,
    /// The hash of the cookie's value.
    pub cookie: Hash,
    /// The hash of the key that the page keeps.
    pub key: Hash,
    /// What it may do.
    pub scope: Scope,
    /// Since when it exists.
    pub created_at: TimeMs,
    /// When it stops working.
    pub expires_at: TimeMs,
    /// The token it was opened with, when it was one: the session shows what the token shows, and ends with it.
    pub token: Option<String>,
}

impl SessionRecord {
    /// Whether it opens something at `now`. A clock that was set back by more than a session's life ends it too: opened while the clock
    /// was far ahead, it would else live for as long.
    #[must_use]
    pub const fn works(&self, now: TimeMs) -> bool {
        let life = self.expires_at.0.saturating_sub(self.created_at.0);
        self.created_at.0.saturating_sub(life) <= now.0 && now.0 < self.expires_at.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_works_for_its_life_and_ends_with_a_clock_set_back_far() {
        let hash = Hash::of("x");
        let (created_at, expires_at) = (TimeMs(1000), TimeMs(1100));
        let session = SessionRecord {
            id: String::new(),
            cookie: hash,
            key: hash,
            scope: Scope::Full,
            created_at,
            expires_at,
            token: None,
        };
        let check = |now: i64, expect: bool| assert_eq!(session.works(TimeMs(now)), expect, "{now}");
        check(1000, true);
        check(1099, true);
        check(1100, false);
        check(900, true);
        check(899, false);
        check(-5, false);
    }
}
