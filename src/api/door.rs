//! The door: who asks, and the credentials the API hands out.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::header;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use futures_util::future::BoxFuture;
use tokio::sync::{Notify, watch};

use super::error::not_found;
use super::route::Surface;
use crate::auth::{
    self, Access, Admitted, Failures, Keys, NewToken, NoKey, RequestFacts, SessionRecord, Site, TokenRecord,
    ToldFailures,
};
use crate::daemon::{Answer, Code, Refusal};
use crate::model::{Actor, Scope, TimeMs};

/// Where credentials are kept; what was put there survives the daemon.
pub trait Vault: Send + Sync + 'static {
    /// Keeps a token, new or changed.
    fn put_token(&self, token: TokenRecord) -> BoxFuture<'_, Answer<()>>;
    /// Keeps these browser sessions and no others.
    fn put_sessions(&self, sessions: Vec<SessionRecord>) -> BoxFuture<'_, Answer<()>>;
}

/// Checks who asks, and makes tickets, sessions and tokens.
pub struct Door {
    keys: Mutex<Keys>,
    site: Site,
    /// Whether there is HTTP.
    serves_pages: bool,
    vault: Box<dyn Vault>,
    /// Held while the sessions are kept, so that an older list never replaces a newer one.
    keeping: tokio::sync::Mutex<()>,
    /// Told whenever a credential was taken back.
    changed: watch::Sender<()>,
    failures: Mutex<Failures>,
    /// Told whenever a credential did not work.
    failed: Notify,
}

/// How often somebody who stays is asked whether their credential has expired.
const EXPIRY_PAUSE: Duration = Duration::from_secs(1);

/// How late an answer is to somebody who presents one wrong credential after another.
const LATE: Duration = Duration::from_millis(250);

/// What opens a browser session.
pub(super) enum Entry {
    /// The ticket of `kas open`, good for one use.
    Ticket(String),
    /// The token in a shared link.
    Shared(String),
}

/// A ticket and when it stops working.
pub(super) struct Ticket {
    pub(super) ticket: String,
    pub(super) expires_at: TimeMs,
}

impl Door {
    /// A door with these keys, for HTTP at this site, if there is any.
    #[must_use]
    pub fn new(keys: Keys, site: Option<Site>, vault: impl Vault) -> Self {
        let serves_pages = site.is_some();
        let site = site.unwrap_or_else(|| Site::new(0, &[]));
        Self {
            keys: Mutex::new(keys),
            site,
            serves_pages,
            vault: Box::new(vault),
            keeping: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(()),
            failures: Mutex::default(),
            failed: Notify::new(),
        }
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        // No change of the keys is left half done by a panic.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cookie_name(&self) -> String {
        format!("kas_{}", self.site.port())
    }

    /// Lets a request in or turns it away; nobody in particular where `access` asks for no credential.
    pub(super) fn admit(
        &self,
        surface: Surface,
        (parts, has_body): (&Parts, bool),
        access: Access,
        now: TimeMs,
    ) -> Result<Option<Actor>, auth::Refusal> {
        let surface = match surface {
            Surface::Http => auth::Surface::Http,
            Surface::Control => auth::Surface::Socket,
        };
        let facts = RequestFacts { has_body, ..facts(parts, access) };
        match auth::admit(&mut self.keys(), &self.site, &self.cookie_name(), surface, &facts, now)? {
            Admitted::Anybody => Ok(None),
            Admitted::Actor(actor) => Ok(Some(actor)),
        }
    }

    // ---- credentials that do not work

    fn failures(&self) -> MutexGuard<'_, Failures> {
        // No count is left half done by a panic.
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a credential that did not work, and holds its answer back when this peer presented many. Who comes without an address was
    /// let in already.
    pub(super) async fn failed(&self, peer: Option<IpAddr>) {
        let Some(peer) = peer else { return };
        let late = self.failures().note(peer, TimeMs::now());
        self.failed.notify_one();
        if late {
            tokio::time::sleep(LATE).await;
        }
    }

    /// Waits until there is a failure that was not taken; at once when there is one already.
    pub(super) async fn failures_to_tell(&self) {
        self.failed.notified().await;
    }

    /// The failures since this was last asked.
    pub(super) fn take_failures(&self) -> Option<ToldFailures> {
        self.failures().take()
    }

    /// Exchanges a ticket, or a shared token, for a session: the `Set-Cookie` value, the page's key and the scope.
    pub(super) async fn open_session(&self, entry: Entry) -> Answer<(String, String, Scope)> {
        let session = {
            let (mut keys, now) = (self.keys(), TimeMs::now());
            let (session, word, why) = match &entry {
                Entry::Ticket(ticket) => (
                    keys.open_session(ticket, now),
                    "ticket",
                    "this ticket was used or is too old: run `kas open` again",
                ),
                Entry::Shared(secret) => (
                    keys.open_shared_session(secret, now),
                    "token",
                    "this link does not work any more: ask for a new one",
                ),
            };
            let session = session.map_err(no_key)?;
            session.ok_or_else(|| Refusal::new(Code::Unauthorized, why).reason(word))?
        };
        self.keep_sessions().await?;
        let life = (session.record.expires_at.0 - session.record.created_at.0) / 1000;
        let name = self.cookie_name();
        let cookie = session.cookie;
        let secure = if self.site.is_secure() { "; Secure" } else { "" };
        let cookie = format!("{name}={cookie}; HttpOnly; SameSite=Strict; Path=/; Max-Age={life}{secure}");
        Ok((cookie, session.key, session.record.scope))
    }

    async fn keep_sessions(&self) -> Answer<()> {
        let _turn = self.keeping.lock().await;
        let all = self.keys().sessions().to_vec();
        self.vault.put_sessions(all).await
    }

    /// A ticket for one WebSocket of the session that asks.
    pub(super) fn socket_ticket(&self, actor: &Actor) -> Answer<Ticket> {
        let made = self.keys().socket_ticket(&actor.credential, TimeMs::now()).map_err(no_key)?;
        let message = "a socket ticket is a browser session's; a bearer token opens the WebSocket by itself";
        let none = || Refusal::new(Code::Forbidden, message).reason("not_a_session");
        made.map(|(ticket, expires_at)| Ticket { ticket, expires_at }).ok_or_else(none)
    }

    /// A ticket for a browser session that may do everything, and the page's address with it.
    pub(super) fn page_ticket(&self) -> Answer<(Ticket, String)> {
        if !self.serves_pages {
            return Err(Refusal::new(Code::Unavailable, "HTTP is off").reason("no_http"));
        }
        let (ticket, expires_at) = self.keys().page_ticket(Scope::Full, TimeMs::now()).map_err(no_key)?;
        let url = format!("{}/#t={ticket}", self.site.url());
        Ok((Ticket { ticket, expires_at }, url))
    }

    /// Makes a token; its secret is told this once.
    pub(super) async fn create_token(&self, new: NewToken, now: TimeMs) -> Answer<(TokenRecord, String)> {
        let (token, secret) = self.keys().create_token(new, now).map_err(no_key)?;
        self.vault.put_token(token.clone()).await?;
        Ok((token, secret))
    }

    /// The page's address for whoever is given a token that may only look; `None` without HTTP.
    pub(super) fn shared_link(&self, secret: &str) -> Option<String> {
        self.serves_pages.then(|| format!("{}/#s={secret}", self.site.url()))
    }

    /// Every token, revoked ones too.
    pub(super) fn tokens(&self) -> Vec<TokenRecord> {
        self.keys().tokens().to_vec()
    }

    /// Makes a token useless, and what was opened with it.
    pub(super) async fn revoke_token(&self, id: &str) -> Answer<()> {
        let revoked = self.keys().revoke_token(id, TimeMs::now());
        let token = revoked.ok_or_else(|| not_found("there is no such token").detail("id", id))?;
        self.changed.send_replace(());
        self.vault.put_token(token).await?;
        self.keep_sessions().await
    }

    /// Waits until a credential opens nothing any more: it was revoked or has expired.
    pub(super) async fn until_useless(&self, credential: String) {
        let mut changed = self.changed.subscribe();
        while self.keys().still_works(&credential, TimeMs::now()) {
            // What expires by itself is noticed within the pause, which is short beside how long anything is given for.
            let _ = tokio::time::timeout(EXPIRY_PAUSE, changed.changed()).await;
        }
    }
}

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");
const KEY: HeaderName = HeaderName::from_static("x-kas-key");

/// What the gate looks at, taken from a request's head.
fn facts(parts: &Parts, access: Access) -> RequestFacts<'_> {
    let all = |name: HeaderName| parts.headers.get_all(name).iter().map(|it| it.as_bytes()).collect();
    let one = |name: HeaderName| sole(&parts.headers, &name);
    RequestFacts {
        access,
        method: parts.method.as_str(),
        is_upgrade: parts.headers.contains_key(header::UPGRADE),
        authority: parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
        host: all(header::HOST),
        origin: all(header::ORIGIN),
        sec_fetch_site: one(SEC_FETCH_SITE),
        sec_fetch_mode: one(SEC_FETCH_MODE),
        authorization: all(header::AUTHORIZATION),
        cookie: all(header::COOKIE),
        key: one(KEY),
        content_type: one(header::CONTENT_TYPE),
        protocols: all(header::SEC_WEBSOCKET_PROTOCOL),
        has_body: false,
    }
}

/// What a header says that is sent once. Several say something that no rule knows, so none of them is believed.
fn sole<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?.as_bytes();
    Some(if values.next().is_none() { first } else { b"" })
}

/// A refusal of the gate as the API tells it.
pub(super) fn refusal(refused: auth::Refusal) -> Refusal {
    let code = match refused {
        auth::Refusal::Host => Code::Misdirected,
        auth::Refusal::Origin => Code::Forbidden,
        auth::Refusal::Credential | auth::Refusal::Wrong => Code::Unauthorized,
        auth::Refusal::ContentType => Code::InvalidRequest,
    };
    Refusal::new(code, refused.to_string()).reason(refused.word())
}

fn no_key(error: NoKey) -> Refusal {
    let code = match error {
        NoKey::Full => Code::RateLimited,
        NoKey::Random(_) => Code::Internal,
    };
    Refusal::new(code, error.to_string()).reason("no_key")
}
