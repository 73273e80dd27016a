//! Every credential that opens something now, in memory; the daemon writes changes to the store.

use super::secret::base64url;
use super::tickets::Tickets;
use super::{Hash, SessionRecord, TokenRecord, fresh};
use crate::model::{Actor, Scope, SharedTask, TimeMs};

/// Tokens remembered at one time: at the cap the oldest that works no more is forgotten; when all work, one more is
/// refused.
const TOKENS: usize = 256;
/// Browser sessions at one time that the operator opened; one more ends the oldest of them.
const SESSIONS: usize = 64;
/// Browser sessions at one time that one shared link opened; one more ends the oldest of the same link, and no other. So all of them
/// together are at most [`TOKENS`] times as many.
const SESSIONS_OF_A_LINK: usize = 16;
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

/// A token to be made.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// What it is for, in its maker's words.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// The one task it shows.
    pub only: Option<SharedTask>,
    /// When it stops working by itself.
    pub expires_at: Option<TimeMs>,
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
    /// All are the operator's own.
    page_tickets: Tickets<(), Scope>,
    /// Of the operator's sessions each has its own; those of one link share theirs.
    socket_tickets: Tickets<String, String>,
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
        self.actor("socket".to_owned(), Scope::Full, None)
    }

    fn actor(&self, credential: String, scope: Scope, only: Option<SharedTask>) -> Actor {
        Actor { operator: self.operator.clone(), credential, scope, only }
    }

    // ---- tokens

    /// Makes a token and tells its secret, `kas_` and 43 characters; to be stored before it is told on.
    ///
    /// # Errors
    /// [`NoKey`].
    pub fn create_token(&mut self, new: NewToken, now: TimeMs) -> Result<(TokenRecord, String), NoKey> {
        if self.tokens.len() >= TOKENS {
            let spent = self.tokens.iter().position(|token| !token.works(now)).ok_or(NoKey::Full)?;
            self.tokens.remove(spent);
        }
        let secret = fresh_token()?;
        let hash = Hash::of(&secret);
        let NewToken { name, scope, only, expires_at } = new;
        let id = fresh_id()?;
        let token =
            TokenRecord { id, name, hash, scope, only, created_at: now, expires_at, revoked_at: None };
        self.tokens.push(token.clone());
        Ok((token, secret))
    }

    /// Ends a token and every session opened with it; `None` when there is none of that id. To be stored.
    pub fn revoke_token(&mut self, id: &str, now: TimeMs) -> Option<TokenRecord> {
        let token = self.tokens.iter_mut().find(|token| token.id == id)?;
        token.revoked_at.get_or_insert(now);
        self.sessions.retain(|session| session.token.as_deref() != Some(id));
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
        if Hash::of(secret) == self.bootstrap {
            return Some(self.actor("token:bootstrap".to_owned(), Scope::Full, None));
        }
        let token = self.token(secret, now)?;
        Some(self.actor(format!("token:{}", token.id), token.scope, token.only.clone()))
    }

    /// The token with this secret, if it works.
    fn token(&self, secret: &str, now: TimeMs) -> Option<&TokenRecord> {
        let hash = Hash::of(secret);
        self.tokens.iter().find(|token| token.hash == hash).filter(|token| token.works(now))
    }

    /// Whether a credential that was checked before still opens what it opened: it was not revoked and has not expired.
    #[must_use]
    pub fn still_works(&self, credential: &str, now: TimeMs) -> bool {
        let token = |id: &str| id == "bootstrap" || self.tokens.iter().any(|it| it.id == id && it.works(now));
        match credential.split_once(':') {
            Some(("token", id)) => token(id),
            Some(("session", id)) => {
                let session = self.sessions.iter().find(|session| session.id == id);
                session.is_some_and(|it| it.works(now) && it.token.as_deref().is_none_or(token))
            }
            // The control socket's peer was checked when it came.
            Some(_) | None => credential == "socket",
        }
    }

    // ---- browser sessions

    /// A ticket that opens one browser session with `scope`, within 60 s; and when it expires.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub fn page_ticket(&mut self, scope: Scope, now: TimeMs) -> Result<(String, TimeMs), NoKey> {
        let ticket = fresh()?;
        let expires_at = self.page_tickets.give(&ticket, (), scope, now);
        Ok((ticket, expires_at))
    }

    /// Opens a session for a ticket, which is used up; `None` for one that does not work. [`Keys::sessions`] is to be
    /// stored then.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub fn open_session(&mut self, ticket: &str, now: TimeMs) -> Result<Option<NewSession>, NoKey> {
        let Some(scope) = self.page_tickets.take(ticket, now) else { return Ok(None) };
        self.add_session(scope, now.plus_ms(SESSION_LIFE_MS), None, now).map(Some)
    }

    /// Opens a session for whoever was given a token that may only look: what a shared link does. It shows what the token
    /// shows and ends when the token does. `None` for a token that does not work or may do more, which has no business
    /// in an address.
    ///
    /// # Errors
    /// When the kernel has no randomness to give.
    pub fn open_shared_session(&mut self, secret: &str, now: TimeMs) -> Result<Option<NewSession>, NoKey> {
        let Some(token) = self.token(secret, now).filter(|token| token.scope == Scope::View) else {
            return Ok(None);
        };
        let life = now.plus_ms(SESSION_LIFE_MS);
        let (id, ends) = (token.id.clone(), token.expires_at.map_or(life, |end| end.min(life)));
        self.add_session(Scope::View, ends, Some(id), now).map(Some)
    }

    fn add_session(
        &mut self,
        scope: Scope,
        expires_at: TimeMs,
        token: Option<String>,
        now: TimeMs,
    ) -> Result<NewSession, NoKey> {
        let (id, cookie, key) = (fresh_id()?, fresh()?, fresh()?);
        let (cookie_hash, key_hash) = (Hash::of(&cookie), Hash::of(&key));
        let record = SessionRecord {
            id,
            cookie: cookie_hash,
            key: key_hash,
            scope,
            created_at: now,
            expires_at,
            token,
        };
        self.sessions.retain(|session| now < session.expires_at);
        let cap = if record.token.is_some() { SESSIONS_OF_A_LINK } else { SESSIONS };
        let alike = |session: &SessionRecord| session.token == record.token;
        if self.sessions.iter().filter(|session| alike(session)).count() >= cap
            && let Some(oldest) = self.sessions.iter().position(alike)
        {
            self.sessions.remove(oldest);
        }
        self.sessions.push(record.clone());
        Ok(NewSession { record, cookie, key })
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
        let session = self.sessions.iter().find(|session| session.cookie == cookie && session.key == key)?;
        self.of_session(session, now)
    }

    /// Who a session stands for, while it and the token it was opened with work.
    fn of_session(&self, session: &SessionRecord, now: TimeMs) -> Option<Actor> {
        let credential = session_credential(session);
        if !self.still_works(&credential, now) {
            return None;
        }
        let token = session.token.as_ref().and_then(|id| self.tokens.iter().find(|token| token.id == *id));
        Some(self.actor(credential, session.scope, token.and_then(|token| token.only.clone())))
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
        let of = self.sessions.iter().find(|session| session_credential(session) == credential);
        let Some(session) = of else { return Ok(None) };
        let owner = session.token.clone().unwrap_or_else(|| credential.to_owned());
        let ticket = fresh()?;
        let expires_at = self.socket_tickets.give(&ticket, owner, credential.to_owned(), now);
        Ok(Some((ticket, expires_at)))
    }

    /// Whose session the cookie belongs to, when the ticket was made for that session; the ticket is used up.
    pub fn socket_session(&mut self, cookies: &[&str], ticket: &str, now: TimeMs) -> Option<Actor> {
        let credential = self.socket_tickets.take(ticket, now)?;
        let session = self.sessions.iter().find(|session| session_credential(session) == credential)?;
        let same = cookies.iter().any(|cookie| Hash::of(cookie) == session.cookie);
        self.of_session(session, now).filter(|_| same)
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

    fn view(expires_at: Option<TimeMs>) -> NewToken {
        NewToken { name: "ci".to_owned(), scope: Scope::View, only: None, expires_at }
    }

    #[test]
    fn a_shared_session_shows_what_its_token_shows_and_ends_with_it() {
        let only = SharedTask { project: "demo".parse().unwrap(), task: "test".parse().unwrap() };
        let shared = |expires_at| NewToken { only: Some(only.clone()), ..view(expires_at) };
        let mut keys = keys();
        let (token, secret) = keys.create_token(shared(Some(TimeMs(5000))), NOW).unwrap();
        let session = keys.open_shared_session(&secret, NOW).unwrap().unwrap();
        assert_eq!(session.record.expires_at, TimeMs(5000));
        let who = |keys: &Keys, now: i64| keys.session(&session.cookie, &session.key, TimeMs(now));
        let actor = who(&keys, 4999).unwrap();
        assert_eq!((actor.scope, actor.only), (Scope::View, Some(only.clone())));
        assert!(keys.still_works(&actor.credential, TimeMs(4999)) && who(&keys, 5000).is_none());
        // A restart knows it too.
        let mut keys =
            Keys::new("op".to_owned(), "kas_boot", keys.tokens().to_vec(), keys.sessions().to_vec());
        assert_eq!(who(&keys, 4999).and_then(|actor| actor.only), Some(only.clone()));
        keys.revoke_token(&token.id, NOW);
        assert!(who(&keys, 1001).is_none() && !keys.still_works(&actor.credential, NOW));
        assert_eq!((keys.open_shared_session(&secret, NOW).unwrap(), keys.sessions().len()), (None, 0));
        // Only a token that may no more than look is taken from an address.
        let (_, secret) = keys.create_token(NewToken { scope: Scope::Run, ..view(None) }, NOW).unwrap();
        assert_eq!(keys.open_shared_session(&secret, NOW).unwrap(), None);
        assert_eq!(keys.open_shared_session("kas_boot", NOW).unwrap(), None);
    }

    #[test]
    fn a_token_works_until_it_expires_or_is_revoked() {
        let mut keys = keys();
        let (token, secret) = keys.create_token(view(Some(TimeMs(2000))), NOW).unwrap();
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

    /// A link that is opened any number of times costs the sessions and tickets of that link, and no other's.
    #[test]
    fn a_link_takes_nothing_from_anybody_else() {
        let mut keys = keys();
        let (ticket, _) = keys.page_ticket(Scope::Full, NOW).unwrap();
        let operator = keys.open_session(&ticket, NOW).unwrap().unwrap();
        let credential = format!("session:{}", operator.record.id);
        let (operators, _) = keys.socket_ticket(&credential, NOW).unwrap().unwrap();
        let mut link = || keys.create_token(view(None), NOW).unwrap().1;
        let (mine, other) = (link(), link());
        let elsewhere = keys.open_shared_session(&other, NOW).unwrap().unwrap();
        let mut opened = Vec::new();
        for _ in 0..5 * SESSIONS {
            let session = keys.open_shared_session(&mine, NOW).unwrap().unwrap();
            for _ in 0..4 {
                keys.socket_ticket(&format!("session:{}", session.record.id), NOW).unwrap().unwrap();
            }
            opened.push(session);
        }
        let mut works = |it: &NewSession| keys.session(&it.cookie, &it.key, NOW).is_some();
        assert!(works(&operator) && works(&elsewhere));
        let (gone, kept) = opened.split_at(opened.len() - SESSIONS_OF_A_LINK);
        assert!(
            !gone.iter().any(&mut works) && kept.iter().all(&mut works),
            "the oldest of the link make room"
        );
        assert_eq!(keys.sessions().len(), SESSIONS_OF_A_LINK + 2);
        assert!(
            keys.socket_session(&[&operator.cookie], &operators, NOW).is_some(),
            "its ticket was pushed out"
        );
        // The other way round just as little.
        for _ in 0..2 * SESSIONS {
            let (ticket, _) = keys.page_ticket(Scope::Full, NOW).unwrap();
            keys.open_session(&ticket, NOW).unwrap().unwrap();
        }
        assert_eq!(keys.sessions().len(), SESSIONS + SESSIONS_OF_A_LINK + 1);
        assert!(keys.session(&elsewhere.cookie, &elsewhere.key, NOW).is_some());
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
            keys.create_token(view(None), NOW).unwrap();
        }
        let spent = keys.tokens()[7].id.clone();
        keys.revoke_token(&spent, NOW);
        keys.create_token(view(None), NOW).unwrap();
        assert!(keys.tokens().len() == TOKENS && keys.tokens().iter().all(|token| token.id != spent));
        assert!(matches!(keys.create_token(view(None), NOW), Err(NoKey::Full)));
    }
}
