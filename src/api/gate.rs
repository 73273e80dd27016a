//! The door: who asks, and the credentials the API hands out.

use axum::http::request::Parts;
use futures_util::future::BoxFuture;

use crate::daemon::Answer;
use crate::model::{Actor, Scope, TimeMs};

/// How much of `spec/protocol.md` §6 a request has to pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// The right `Host` and `Origin`: the page's own files, which hold no data.
    Site,
    /// The same and a JSON body: the exchange of a ticket, which is its own credential.
    Exchange,
    /// All of it.
    Credential,
}

/// A browser session just opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// The whole `Set-Cookie` value.
    pub set_cookie: String,
    /// What the page sends as `X-Kas-Key`.
    pub key: String,
}

/// A ticket for one WebSocket upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketTicket {
    /// Offered as sub-protocol `kas.ticket.<ticket>`.
    pub ticket: String,
    /// When it stops working.
    pub expires_at: TimeMs,
}

/// A ticket that opens a browser session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrowserTicket {
    /// The ticket.
    pub ticket: String,
    /// The page's address with the ticket in its fragment.
    pub url: String,
    /// When it stops working.
    pub expires_at: TimeMs,
}

/// A stored token without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenInfo {
    /// Its id.
    pub id: String,
    /// What its maker called it.
    pub name: String,
    /// What it may do.
    pub scope: Scope,
    /// When it was made.
    pub created_at: TimeMs,
}

/// A token just made; its secret is shown this once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// What is kept of it.
    pub info: TokenInfo,
    /// The secret.
    pub token: String,
}

/// Who is let in over HTTP, and how credentials come to be.
pub trait Gate: Send + Sync + 'static {
    /// Checks a request in the order of `spec/protocol.md` §6; `None` where `need` asks for no credential.
    fn admit<'a>(&'a self, parts: &'a Parts, need: Need) -> BoxFuture<'a, Answer<Option<Actor>>>;
    /// Who speaks on the control socket.
    fn local(&self) -> Actor;
    /// Exchanges a browser ticket for a session.
    fn open_session<'a>(&'a self, ticket: &'a str) -> BoxFuture<'a, Answer<NewSession>>;
    /// A ticket for one WebSocket upgrade by this actor.
    fn socket_ticket(&self, actor: &Actor) -> Answer<SocketTicket>;
    /// A ticket for a browser session.
    fn browser_ticket(&self, actor: &Actor) -> Answer<BrowserTicket>;
    /// Makes a token.
    fn create_token(&self, name: String, scope: Scope) -> BoxFuture<'_, Answer<NewToken>>;
    /// All tokens.
    fn tokens(&self) -> BoxFuture<'_, Answer<Vec<TokenInfo>>>;
    /// Makes a token useless.
    fn revoke_token<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Answer<()>>;
}
