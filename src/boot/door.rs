//! The door of the API: the rules of `auth` over what HTTP brought, and credentials kept in the store.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use axum::http::header::{self, HeaderMap, HeaderName};
use axum::http::request::Parts;
use futures_util::future::BoxFuture;

use crate::api::{BrowserTicket, Gate, Need, NewSession, NewToken, SocketTicket, TokenInfo};
use crate::auth::{Access, Admitted, Keys, NoKey, RequestFacts, Site, Surface, TokenRecord, admit};
use crate::daemon::{Answer, Code, Refusal};
use crate::model::{Actor, Scope, TimeMs};
use crate::store::Store;

/// Where browsers reach the daemon, known once HTTP is bound.
struct Place {
    site: Site,
    port: u16,
    cookie: String,
    url: String,
}

/// Checks credentials and makes them.
pub struct Door {
    keys: Mutex<Keys>,
    store: Store,
    place: OnceLock<Place>,
}

impl Door {
    /// A door with these keys. It lets nobody in over HTTP before [`Door::serve_on`].
    #[must_use]
    pub const fn new(keys: Keys, store: Store) -> Self {
        Self { keys: Mutex::new(keys), store, place: OnceLock::new() }
    }

    /// Says on which address HTTP is served.
    pub fn serve_on(&self, address: std::net::SocketAddr) {
        let port = address.port();
        let place =
            Place { site: Site::new(port, &[]), port, cookie: format!("kas_{port}"), url: format!("http://{address}") };
        let _the_first_counts = self.place.set(place);
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn place(&self) -> Answer<&Place> {
        let off = || Refusal::new(Code::Unavailable, "HTTP is turned off; set http_addr in daemon.toml.");
        self.place.get().ok_or_else(|| off().reason("http_off"))
    }

    async fn store_sessions(&self) -> Answer<()> {
        let sessions = self.keys().sessions().to_vec();
        Ok(self.store.put_sessions(sessions).await?)
    }
}

impl Gate for Door {
    fn admit<'a>(&'a self, parts: &'a Parts, need: Need) -> BoxFuture<'a, Answer<Option<Actor>>> {
        Box::pin(async move {
            let place = self.place()?;
            let facts = facts(parts, need);
            let now = TimeMs::now();
            let admitted = admit(&mut self.keys(), &place.site, &place.cookie, Surface::Http, &facts, now);
            match admitted {
                Ok(Admitted::Anybody) => Ok(None),
                Ok(Admitted::Actor(actor)) => Ok(Some(actor)),
                Err(refused) => Err(refusal(refused)),
            }
        })
    }

    fn local(&self) -> Actor {
        self.keys().socket_actor()
    }

    fn open_session<'a>(&'a self, ticket: &'a str) -> BoxFuture<'a, Answer<NewSession>> {
        Box::pin(async move {
            let place = self.place()?;
            let opened = self.keys().open_session(ticket, TimeMs::now()).map_err(|error| no_key(&error))?;
            let Some(session) = opened else {
                let message = "This link was used or is older than a minute. Run `kas open` again.";
                return Err(Refusal::new(Code::Unauthorized, message).reason("ticket"));
            };
            self.store_sessions().await?;
            let set_cookie = format!(
                "{}={}; HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000",
                place.cookie, session.cookie
            );
            Ok(NewSession { set_cookie, key: session.key })
        })
    }

    fn socket_ticket(&self, actor: &Actor) -> Answer<SocketTicket> {
        let made = self.keys().socket_ticket(&actor.credential, TimeMs::now()).map_err(|error| no_key(&error))?;
        let only = || Refusal::new(Code::InvalidRequest, "Only a browser session needs a socket ticket.");
        let (ticket, expires_at) = made.ok_or_else(|| only().reason("no_session"))?;
        Ok(SocketTicket { ticket, expires_at })
    }

    fn browser_ticket(&self, actor: &Actor) -> Answer<BrowserTicket> {
        let place = self.place()?;
        let made = self.keys().page_ticket(actor.scope, TimeMs::now()).map_err(|error| no_key(&error))?;
        let (ticket, expires_at) = made;
        let url = format!("{}/#t={ticket}", place.url);
        tracing::debug!(port = place.port, "a page ticket was given");
        Ok(BrowserTicket { ticket, url, expires_at })
    }

    fn create_token(&self, name: String, scope: Scope) -> BoxFuture<'_, Answer<NewToken>> {
        Box::pin(async move {
            let made = self.keys().create_token(name, scope, None, TimeMs::now());
            let (record, token) = made.map_err(|error| no_key(&error))?;
            self.store.put_token(record.clone()).await?;
            Ok(NewToken { info: info(&record), token })
        })
    }

    fn tokens(&self) -> BoxFuture<'_, Answer<Vec<TokenInfo>>> {
        Box::pin(async move {
            let works = |token: &&TokenRecord| token.works(TimeMs::now());
            Ok(self.keys().tokens().iter().filter(works).map(info).collect())
        })
    }

    fn revoke_token<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Answer<()>> {
        Box::pin(async move {
            let revoked = self.keys().revoke_token(id, TimeMs::now());
            let record = revoked.ok_or_else(|| Refusal::new(Code::NotFound, format!("There is no token {id}.")))?;
            Ok(self.store.put_token(record).await?)
        })
    }
}

fn info(token: &TokenRecord) -> TokenInfo {
    TokenInfo { id: token.id.clone(), name: token.name.clone(), scope: token.scope, created_at: token.created_at }
}

fn no_key(error: &NoKey) -> Refusal {
    Refusal::new(Code::Unavailable, error.to_string())
}

fn refusal(refused: crate::auth::Refusal) -> Refusal {
    let code = match refused {
        crate::auth::Refusal::Host => Code::Misdirected,
        crate::auth::Refusal::Origin => Code::Forbidden,
        crate::auth::Refusal::Credential => Code::Unauthorized,
        crate::auth::Refusal::ContentType => Code::InvalidRequest,
    };
    Refusal::new(code, refused.to_string()).reason(refused.word())
}

fn facts(parts: &Parts, need: Need) -> RequestFacts<'_> {
    let headers = &parts.headers;
    RequestFacts {
        access: match need {
            Need::Site => Access::Page,
            Need::Exchange => Access::Exchange,
            Need::Credential => Access::Credential,
        },
        method: parts.method.as_str(),
        is_upgrade: headers.contains_key(header::UPGRADE),
        authority: parts.uri.authority().map(|authority| authority.as_str().as_bytes()),
        host: all(headers, header::HOST),
        origin: all(headers, header::ORIGIN),
        sec_fetch_site: first(headers, &HeaderName::from_static("sec-fetch-site")),
        sec_fetch_mode: first(headers, &HeaderName::from_static("sec-fetch-mode")),
        authorization: all(headers, header::AUTHORIZATION),
        cookie: all(headers, header::COOKIE),
        key: first(headers, &HeaderName::from_static("x-kas-key")),
        content_type: first(headers, &header::CONTENT_TYPE),
        protocols: all(headers, header::SEC_WEBSOCKET_PROTOCOL),
    }
}

fn all(headers: &HeaderMap, name: HeaderName) -> Vec<&[u8]> {
    headers.get_all(name).iter().map(axum::http::HeaderValue::as_bytes).collect()
}

fn first<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    headers.get(name).map(axum::http::HeaderValue::as_bytes)
}
