//! Every credential that opens something now, in memory; the daemon writes changes to the store.

use super::secret::base64url;
use super::tickets::Tickets;
use super::{Hash, SessionRecord, TokenRecord, fresh};
use crate::model::{Actor, Scope, TimeMs};

/// Tokens remembered at one time: at the cap the oldest that works no more is forgotten; when all work, one more is
/// refused.
const TOKENS: usize = 256;
/// Browser sessions at one time; one more ends the oldest.
const SESSIONS: usize = 64;
/// How long a browser stays logged in.
const SESSION_LIFE_MS: i64 = 30 * 24 * 60 * 60 * 1000;
const PAGE_TICKET_LIFE_MS: i64 = 60_000;
const SOCKET_TICKET_LIFE_MS: i64 = 30_000;

/// Why no credential was made.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// There are too many.
    #[error("there are {TOKENS} tokens already; revoke one first")]
    Full,
    /// The kernel gave no randomness.
    #[error("no randomness: {0}")]
    Random(#[from] std::io::Error),
}

/// A browser session just opened; the two secrets are told once and not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// What is kept.
    pub record: SessionRecord,
    /// The value of the cookie `kas_<port>`.
    pub cookie: String,
    /// What the page sends in `X-Kas-Key`.
    pub key: String,
}

/// The credentials of one daemon. There is one operator; a credential says how they came and what they may do.
#[derive(Debug)]
pub struct Keys {
    operator: String,
    bootstrap: Hash,
    tokens: Vec<TokenRecord>,
    sessions: Vec<SessionRecord>,
    page_tickets: Tickets<Scope>,
    socket_tickets: Tickets<String>,
}

impl Keys {
    /// The credentials the store has, and the secret of the token file.
    #[must_use]
    pub fn new(
        operator: String,
        bootstrap: &str,
        tokens: Vec<TokenRecord>,
        sessions: Vec<SessionRecord>,
    ) -> Self {
        Self {
            operator,
            bootstrap: Hash::of(bootstrap),
            tokens,
            sessions,
            page_tickets: Tickets::new(PAGE_TICKET_LIFE_MS),
            socket_tickets: Tickets::new(SOCKET_TICKET_LIFE_MS),
        }
    }

    /// Who comes over the control socket, whose peer was checked on accept.
    #[must_use]
    pub fn socket_actor(&self) -> Actor {
        self.actor("socket".to_owned(), Scope::Full)
    }

    fn actor(&self, credential: String, scope: Scope) -> Actor {
        Actor { operator: self.operator.clone(), credential, scope }
    }

    // ---- tokens

    /// Makes a token and tells its secret, `kas_` and 43 characters; to be stored before it is told on.
    ///
    /// # Errors
    /// [`NoKey`].
    pub fn create_token(
        &mut self,
        name: String,
        scope: Scope,
        expires_at: Option<TimeMs>,
        now: TimeMs,
    ) -> Result<(TokenRecord, String), NoKey> {
        if self.tokens.len() >= TOKENS {
            let spent = self.tokens.iter().position(|token| !token.works(now)).ok_or(NoKey::Full)?;
            self.tokens.remove(spent);
        }
        let secret = fresh_token()?;
        let hash = Hash::of(&secret);
        let token =
            TokenRecord { id: fresh_id()?, name, hash, scope, created_at: now, expires_at, revoked_at: None };
        self.tokens.push(token.clone());
        Ok((token, secret))
    }

    /// Ends a token; `None` when there is none of that id. To be stored.
    pub fn revoke_token(&mut self, id: &str, now: TimeMs) -> Option<TokenRecord> {
        let token = self.tokens.iter_mut().find(|token| token.id == id)?;
        token.revoked_at.get_or_insert(now);
        Some(token.clone())
    }

    /// Every token, revoked ones too.
    #[must_use]
    pub fn tokens(&self) -> &[TokenRecord] {
        &self.tokens
    }

    /// Whose bearer token this is.
    #[must_use]
    pub fn bearer(&self, secret: &str, now: TimeMs) -> Option<Actor> {
        let hash = Hash::of(secret);
        if hash == self.bootstrap {
            return Some(self.actor("token:bootstrap".to_owned(), Scope::Full));
        }
        let token = self.tokens.iter().find(|token| token.hash == hash)?;
        token.works(now).then(|| self.actor(format!("token:{}", token.id), token.scope))
    }

    // ---- browser sessions

    /// A ticket that opens one browser session with `scope`, within 60 s; and when it expires.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub fn page_ticket(&mut self, scope: Scope, now: TimeMs) -> Result<(String, TimeMs), NoKey> {
        let ticket = fresh()?;
        let expires_at = self.page_tickets.give(&ticket, scope, now);
        Ok((ticket, expires_at))
    }

    /// Opens a session for a ticket, which is used up; `None` for one that does not work. [`Keys::sessions`] is to be
    /// stored then.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub fn open_session(&mut self, ticket: &str, now: TimeMs) -> Result<Option<NewSession>, NoKey> {
        let (id, cookie, key) = (fresh_id()?, fresh()?, fresh()?);
        let Some(scope) = self.page_tickets.take(ticket, now) else { return Ok(None) };
        let record = SessionRecord {
            id,
            cookie: Hash::of(&cookie),
            key: Hash::of(&key),
            scope,
            created_at: now,
            expires_at: now.plus_ms(SESSION_LIFE_MS),
        };
        self.sessions.retain(|session| now < session.expires_at);
        if self.sessions.len() >= SESSIONS {
            self.sessions.remove(0);
        }
        self.sessions.push(record.clone());
        Ok(Some(NewSession { record, cookie, key }))
    }

    /// Ends the session of the credential `session:<id>`; whether there was one. [`Keys::sessions`] is to be stored then.
    pub fn close_session(&mut self, credential: &str) -> bool {
        let before = self.sessions.len();
        self.sessions.retain(|session| session_credential(session) != credential);
        self.sessions.len() < before
    }

    /// Browser sessions, oldest first, as [`Keys::new`] wants them after a restart.
    #[must_use]
    pub fn sessions(&self) -> &[SessionRecord] {
        &self.sessions
    }

    /// Whose session the cookie and the key belong to; both are needed.
    #[must_use]
    pub fn session(&self, cookie: &str, key: &str, now: TimeMs) -> Option<Actor> {
        let (cookie, key) = (Hash::of(cookie), Hash::of(key));
        let mut live = self.sessions.iter().filter(|session| session.works(now));
        let session = live.find(|session| session.cookie == cookie && session.key == key)?;
        Some(self.actor(session_credential(session), session.scope))
    }

    /// A ticket for one WebSocket of the session with this credential, within 30 s; `None` when it is not a session's.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub fn socket_ticket(
        &mut self,
        credential: &str,
        now: TimeMs,
    ) -> Result<Option<(String, TimeMs)>, NoKey> {
        if !self.sessions.iter().any(|session| session_credential(session) == credential) {
            return Ok(None);
        }
        let ticket = fresh()?;
        let expires_at = self.socket_tickets.give(&ticket, credential.to_owned(), now);
        Ok(Some((ticket, expires_at)))
    }

    /// Whose session the cookie belongs to, when the ticket was made for that session; the ticket is used up.
    pub fn socket_session(&mut self, cookies: &[&str], ticket: &str, now: TimeMs) -> Option<Actor> {
        let credential = self.socket_tickets.take(ticket, now)?;
        let session = self.sessions.iter().find(|session| session_credential(session) == credential)?;
        let same = cookies.iter().any(|cookie| Hash::of(cookie) == session.cookie);
        (same && session.works(now)).then(|| self.actor(credential, session.scope))
    }
}

fn session_credential(session: &SessionRecord) -> String {
    format!("session:{}", session.id)
}

/// A new token's secret.
pub(super) fn fresh_token() -> std::io::Result<String> {
    Ok(format!("kas_{}", fresh()?))
}

/// An id to be shown, of 16 characters.
fn fresh_id() -> std::io::Result<String> {
    let mut bytes = [0; 12];
    getrandom::fill(&mut bytes).map_err(std::io::Error::other)?;
    Ok(base64url(&bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: TimeMs = TimeMs(1000);

    fn keys() -> Keys {
        Keys::new("op".to_owned(), "kas_boot", Vec::new(), Vec::new())
    }

    #[test]
    fn a_token_works_until_it_expires_or_is_revoked() {
        let mut keys = keys();
        let (token, secret) =
            keys.create_token("ci".to_owned(), Scope::View, Some(TimeMs(2000)), NOW).unwrap();
        assert!(secret.starts_with("kas_") && secret.len() == 47);
        let actor = keys.bearer(&secret, NOW).unwrap();
        assert_eq!((actor.credential, actor.scope), (format!("token:{}", token.id), Scope::View));
        assert_eq!(keys.bearer(&secret, TimeMs(2000)), None);
        assert_eq!(keys.bearer(&secret[..46], NOW), None);
        assert_eq!(keys.bearer("", NOW), None);
        assert_eq!(keys.bearer("kas_boot", NOW).map(|actor| actor.scope), Some(Scope::Full));
        assert_eq!(keys.revoke_token(&token.id, NOW).and_then(|token| token.revoked_at), Some(NOW));
        assert_eq!((keys.bearer(&secret, NOW), keys.revoke_token("none", NOW)), (None, None));
    }

    #[test]
    fn a_session_needs_cookie_and_key_and_survives_a_restart() {
        let mut first = keys();
        let (ticket, expires_at) = first.page_ticket(Scope::Run, NOW).unwrap();
        assert_eq!(expires_at, TimeMs(61_000));
        let session = first.open_session(&ticket, NOW).unwrap().unwrap();
        assert_eq!(first.open_session(&ticket, NOW).unwrap(), None);
        let mut keys = Keys::new("op".to_owned(), "kas_boot", Vec::new(), first.sessions().to_vec());
        let actor = keys.session(&session.cookie, &session.key, NOW).unwrap();
        assert_eq!(actor.scope, Scope::Run);
        assert_eq!(keys.session(&session.cookie, "", NOW), None);
        assert_eq!(keys.session(&session.key, &session.cookie, NOW), None);
        assert_eq!(keys.session(&session.cookie, &session.key, session.record.expires_at), None);
        assert!(keys.close_session(&actor.credential) && !keys.close_session(&actor.credential));
        assert_eq!(keys.session(&session.cookie, &session.key, NOW), None);
    }

    #[test]
    fn a_socket_ticket_belongs_to_its_session() {
        let mut keys = keys();
        let mut open = || {
            let (ticket, _) = keys.page_ticket(Scope::Full, NOW).unwrap();
            keys.open_session(&ticket, NOW).unwrap().unwrap()
        };
        let (one, two) = (open(), open());
        let credential = format!("session:{}", one.record.id);
        let mut check = |cookies: &[&str], now: i64, ok: bool| {
            let (ticket, _) = keys.socket_ticket(&credential, NOW).unwrap().unwrap();
            assert_eq!(keys.socket_session(cookies, &ticket, TimeMs(now)).is_some(), ok, "{cookies:?} {now}");
            assert_eq!(keys.socket_session(cookies, &ticket, NOW), None, "used");
        };
        check(&[&one.cookie], 30_999, true);
        check(&["tossed by another port", &one.cookie], 1000, true);
        check(&[&one.cookie], 31_000, false);
        check(&[&two.cookie], 1000, false);
        check(&[], 1000, false);
        assert_eq!(keys.socket_ticket("token:bootstrap", NOW).unwrap(), None);
    }

    #[test]
    fn the_tables_are_bounded() {
        let mut keys = keys();
        let mut newest = None;
        for _ in 0..=SESSIONS {
            let (ticket, _) = keys.page_ticket(Scope::Full, NOW).unwrap();
            newest = keys.open_session(&ticket, NOW).unwrap();
        }
        assert_eq!(keys.sessions().len(), SESSIONS);
        assert_eq!(keys.sessions().last(), newest.map(|session| session.record).as_ref());
        for _ in 0..TOKENS {
            keys.create_token(String::new(), Scope::View, None, NOW).unwrap();
        }
        let spent = keys.tokens()[7].id.clone();
        keys.revoke_token(&spent, NOW);
        keys.create_token(String::new(), Scope::View, None, NOW).unwrap();
        assert!(keys.tokens().len() == TOKENS && keys.tokens().iter().all(|token| token.id != spent));
        assert!(matches!(keys.create_token(String::new(), Scope::View, None, NOW), Err(NoKey::Full)));
    }
}
