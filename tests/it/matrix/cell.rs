//! The dimensions of the matrix: each value says what is sent.

use kas::api::Surface;
use kas::model::Scope;

use super::inside::Minted;

/// Header lines to be sent: name and value.
pub(super) type Lines = Vec<(&'static str, String)>;

macro_rules! dimension {
    ($(#[$doc:meta])* $name:ident { $($value:ident),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum $name { $($value),* }

        impl $name {
            pub(super) const ALL: &[Self] = &[$(Self::$value),*];
        }
    };
}

dimension! {
    /// What proves who asks. `Session` is cookie and key.
    Credential {
        None, Query, KeyOnly, CookieOnly, WrongBearer, ExpiredBearer, RevokedBearer, Scheme, Malformed, TwoBearers, LinkBearer, ViewBearer,
        RunBearer, FullBearer, Bootstrap, Session, LinkSession, WrongKey, ExpiredSession, OtherPort, Ticket, TicketAlone, TicketReused,
        TicketExpired, TicketOfOther, SessionAndWrongBearer,
    }
}
dimension! {
    /// `Host`, and the target of the request.
    Host {
        Address, Name, Six, Foreign, Rebinding, OtherPort, NoPort, Twice, AndForeign, Empty, Missing, TrailingDot, UpperCase, UserInfo,
        OtherTarget,
    }
}
dimension! {
    /// `Origin`
    Origin { Absent, Own, Foreign, Null, OtherPort, OtherName, Https, Twice }
}
dimension! {
    /// `Sec-Fetch-Site`; `Sibling` is its word `same-site`, `Elsewhere` `cross-site`, `Typed` `none`, `Link` a navigation from elsewhere.
    Site { Absent, SameOrigin, Sibling, Elsewhere, Typed, Link, Twice }
}
dimension! {
    /// `Content-Type`
    ContentType { Json, JsonUtf8, Text, Form, Multipart, Missing, Twice }
}

/// What a credential opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holder {
    Nobody,
    /// One task, to look at.
    Link,
    Scope(Scope),
}

/// One cell of the matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Cell {
    pub(super) surface: Surface,
    pub(super) credential: Credential,
    pub(super) host: Host,
    pub(super) origin: Origin,
    pub(super) site: Site,
    pub(super) content: ContentType,
    /// Whether it asks to become a WebSocket.
    pub(super) upgrade: bool,
}

impl Cell {
    /// A program with the daemon's own token.
    pub(super) const PROGRAM: Self = Self {
        surface: Surface::Http,
        credential: Credential::Bootstrap,
        host: Host::Address,
        origin: Origin::Absent,
        site: Site::Absent,
        content: ContentType::Json,
        upgrade: false,
    };
    /// The page.
    pub(super) const PAGE: Self = Self {
        credential: Credential::Session,
        origin: Origin::Own,
        site: Site::SameOrigin,
        ..Self::PROGRAM
    };
    /// The page's WebSocket.
    pub(super) const SOCKET: Self = Self { credential: Credential::Ticket, upgrade: true, ..Self::PAGE };

    /// Every header of the request, in the order sent.
    pub(super) fn lines(&self, it: &Minted, ticket: &str) -> Lines {
        let mut lines: Lines = self.host.texts(it.port).into_iter().map(|host| ("host", host)).collect();
        lines.extend(self.origin.texts(self.host, it.port).into_iter().map(|origin| ("origin", origin)));
        lines.extend(self.site.lines());
        lines.extend(self.content.texts().iter().map(|content| ("content-type", (*content).to_owned())));
        lines.extend(self.credential.lines(it));
        if self.upgrade {
            let offered =
                self.credential.ticket(it, ticket).map_or(String::new(), |it| format!(", kas.ticket.{it}"));
            lines.extend(
                [("upgrade", "websocket"), ("connection", "Upgrade")]
                    .map(|(name, value)| (name, value.to_owned())),
            );
            lines.push(("sec-websocket-version", "13".to_owned()));
            lines.push(("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==".to_owned()));
            lines.push(("sec-websocket-protocol", format!("kas.v1{offered}")));
        }
        lines
    }
}

impl Credential {
    fn bearer(self, it: &Minted) -> Option<&str> {
        match self {
            Self::WrongBearer | Self::SessionAndWrongBearer => Some("kas_wrong"),
            Self::ExpiredBearer => Some(&it.expired),
            Self::RevokedBearer => Some(&it.revoked),
            Self::LinkBearer => Some(&it.link),
            Self::ViewBearer => Some(&it.view),
            Self::RunBearer => Some(&it.run),
            Self::FullBearer => Some(&it.full),
            Self::Bootstrap | Self::Scheme | Self::Malformed | Self::TwoBearers => Some(&it.bootstrap),
            Self::None
            | Self::Query
            | Self::KeyOnly
            | Self::CookieOnly
            | Self::Session
            | Self::LinkSession
            | Self::WrongKey
            | Self::ExpiredSession
            | Self::OtherPort
            | Self::Ticket
            | Self::TicketAlone
            | Self::TicketReused
            | Self::TicketExpired
            | Self::TicketOfOther => None,
        }
    }

    /// The cookie's name ends with the port; cookie and key.
    fn pair(self, it: &Minted) -> (Option<(u16, &str)>, Option<&str>) {
        let (session, port) = (&it.session, it.port);
        let cookie = Some((port, session.cookie.as_str()));
        match self {
            Self::KeyOnly => (None, Some(&session.key)),
            Self::CookieOnly
            | Self::Ticket
            | Self::TicketReused
            | Self::TicketExpired
            | Self::TicketOfOther => (cookie, None),
            Self::Session | Self::SessionAndWrongBearer => (cookie, Some(&session.key)),
            Self::LinkSession => (Some((port, &it.link_session.cookie)), Some(&it.link_session.key)),
            Self::WrongKey => (cookie, Some(&it.other.key)),
            Self::ExpiredSession => (Some((port, &it.expired_session.cookie)), Some(&it.expired_session.key)),
            Self::OtherPort => (Some((port ^ 1, &session.cookie)), Some(&session.key)),
            Self::None
            | Self::Query
            | Self::WrongBearer
            | Self::ExpiredBearer
            | Self::RevokedBearer
            | Self::Scheme
            | Self::Malformed
            | Self::TwoBearers
            | Self::LinkBearer
            | Self::ViewBearer
            | Self::RunBearer
            | Self::FullBearer
            | Self::Bootstrap
            | Self::TicketAlone => (None, None),
        }
    }

    fn lines(self, it: &Minted) -> Lines {
        let mut lines = Lines::new();
        if let Some(secret) = self.bearer(it) {
            let scheme = if self == Self::Scheme { "Basic " } else { "Bearer " };
            let text = format!("{}{secret}", if self == Self::Malformed { "" } else { scheme });
            let times = if self == Self::TwoBearers { 2 } else { 1 };
            lines.extend(std::iter::repeat_n(("authorization", text), times));
        }
        let (cookie, key) = self.pair(it);
        lines.extend(cookie.map(|(port, value)| ("cookie", format!("theme=dark; kas_{port}={value}"))));
        lines.extend(key.map(|key| ("x-kas-key", key.to_owned())));
        lines
    }

    /// What is put behind the path.
    pub(super) fn query(self, it: &Minted) -> String {
        let secret = &it.bootstrap;
        if self == Self::Query {
            format!("?token={secret}&access_token={secret}&key={secret}")
        } else {
            String::new()
        }
    }

    /// The ticket that is offered; `fresh` is one that was never used.
    fn ticket<'a>(self, it: &'a Minted, fresh: &'a str) -> Option<&'a str> {
        if self == Self::TicketReused {
            return Some(&it.used_ticket);
        }
        if self == Self::TicketExpired {
            return Some(&it.expired_ticket);
        }
        self.takes_a_fresh_ticket().then_some(fresh)
    }

    pub(super) fn takes_a_fresh_ticket(self) -> bool {
        matches!(self, Self::Ticket | Self::TicketAlone | Self::TicketOfOther)
    }

    pub(super) fn sends_authorization(self) -> bool {
        matches!(self, Self::Scheme | Self::Malformed | Self::TwoBearers | Self::SessionAndWrongBearer)
            || self.is_one_bearer()
    }

    fn is_one_bearer(self) -> bool {
        matches!(
            self,
            Self::WrongBearer
                | Self::ExpiredBearer
                | Self::RevokedBearer
                | Self::LinkBearer
                | Self::ViewBearer
                | Self::RunBearer
                | Self::FullBearer
                | Self::Bootstrap
        )
    }

    pub(super) fn sends_cookie(self) -> bool {
        matches!(
            self,
            Self::CookieOnly
                | Self::Session
                | Self::LinkSession
                | Self::WrongKey
                | Self::ExpiredSession
                | Self::OtherPort
                | Self::Ticket
                | Self::TicketReused
                | Self::TicketExpired
                | Self::TicketOfOther
                | Self::SessionAndWrongBearer
        )
    }

    /// Whom it stands for. A page's WebSocket cannot send the key and has a ticket instead, which is good for nothing else.
    pub(super) fn opens(self, upgrade: bool) -> Holder {
        let openers = [
            (Self::LinkBearer, None, Holder::Link),
            (Self::ViewBearer, None, Holder::Scope(Scope::View)),
            (Self::RunBearer, None, Holder::Scope(Scope::Run)),
            (Self::FullBearer, None, Holder::Scope(Scope::Full)),
            (Self::Bootstrap, None, Holder::Scope(Scope::Full)),
            (Self::Session, Some(false), Holder::Scope(Scope::Full)),
            (Self::LinkSession, Some(false), Holder::Link),
            (Self::Ticket, Some(true), Holder::Scope(Scope::Full)),
        ];
        let fits = |only: Option<bool>| only.is_none_or(|only| only == upgrade);
        let mut fitting = openers.into_iter().filter(|(it, only, _)| *it == self && fits(*only));
        fitting.next().map_or(Holder::Nobody, |(_, _, holder)| holder)
    }
}

impl Host {
    fn texts(self, port: u16) -> Vec<String> {
        let address = format!("127.0.0.1:{port}");
        match self {
            Self::Address | Self::OtherTarget => vec![address],
            Self::Name => vec![format!("localhost:{port}")],
            Self::Six => vec![format!("[::1]:{port}")],
            Self::Foreign => vec!["evil.test".to_owned()],
            Self::Rebinding => vec![format!("127.0.0.1.nip.io:{port}")],
            Self::OtherPort => vec![format!("127.0.0.1:{}", port ^ 1)],
            Self::NoPort => vec!["127.0.0.1".to_owned()],
            Self::Twice => vec![address.clone(), address],
            Self::AndForeign => vec![address, "evil.test".to_owned()],
            Self::Empty => vec![String::new()],
            Self::Missing => vec![],
            Self::TrailingDot => vec![format!("localhost.:{port}")],
            Self::UpperCase => vec![format!("LOCALHOST:{port}")],
            Self::UserInfo => vec![format!("kas@127.0.0.1:{port}")],
        }
    }

    /// The authority of the request's target.
    pub(super) fn target(self) -> &'static str {
        if self == Self::OtherTarget { "http://evil.test" } else { "" }
    }
}

impl Origin {
    /// What a page at this host says; a page that made its name ours has an origin that equals the host.
    fn texts(self, host: Host, port: u16) -> Vec<String> {
        let at = host.texts(port).pop().unwrap_or_default();
        let own = format!("http://{at}");
        match self {
            Self::Absent => vec![],
            Self::Own => vec![own],
            Self::Foreign => vec!["http://evil.test".to_owned()],
            Self::Null => vec!["null".to_owned()],
            Self::OtherPort => vec![format!("http://127.0.0.1:{}", port ^ 1)],
            Self::OtherName if host == Host::Name => vec![format!("http://127.0.0.1:{port}")],
            Self::OtherName => vec![format!("http://localhost:{port}")],
            Self::Https => vec![format!("https://{at}")],
            Self::Twice => vec![own, "http://evil.test".to_owned()],
        }
    }
}

impl Site {
    fn lines(self) -> Lines {
        let words: &[&str] = match self {
            Self::Absent => &[],
            Self::SameOrigin => &["same-origin"],
            Self::Sibling => &["same-site"],
            Self::Elsewhere | Self::Link => &["cross-site"],
            Self::Typed => &["none"],
            Self::Twice => &["same-origin", "cross-site"],
        };
        let mode = (self == Self::Link).then_some(("sec-fetch-mode", "navigate".to_owned()));
        words.iter().map(|word| ("sec-fetch-site", (*word).to_owned())).chain(mode).collect()
    }
}

impl ContentType {
    fn texts(self) -> &'static [&'static str] {
        match self {
            Self::Json => &["application/json"],
            Self::JsonUtf8 => &["Application/JSON; charset=utf-8"],
            Self::Text => &["text/plain"],
            Self::Form => &["application/x-www-form-urlencoded"],
            Self::Multipart => &["multipart/form-data; boundary=x"],
            Self::Missing => &[],
            Self::Twice => &["application/json", "text/plain"],
        }
    }
}

/// Values of every dimension, of which cells are made.
#[derive(Clone, Copy)]
pub(super) struct Values {
    pub(super) credentials: &'static [Credential],
    pub(super) hosts: &'static [Host],
    pub(super) origins: &'static [Origin],
    pub(super) sites: &'static [Site],
    pub(super) contents: &'static [ContentType],
}

impl Values {
    pub(super) const ALL: Self = Self {
        credentials: Credential::ALL,
        hosts: Host::ALL,
        origins: Origin::ALL,
        sites: Site::ALL,
        contents: ContentType::ALL,
    };
    /// All credentials, and of the other dimensions one value for each way in which it can matter. At a host that is not ours nothing else
    /// does.
    pub(super) const KINDS: Self = Self {
        hosts: &[Host::Address],
        origins: &[Origin::Absent, Origin::Own, Origin::Foreign],
        sites: &[Site::Absent, Site::Typed, Site::Elsewhere],
        contents: &[ContentType::Json, ContentType::Text],
        ..Self::ALL
    };

    const DIMENSIONS: usize = 6;

    fn count(&self, dimension: usize) -> usize {
        match dimension {
            0 => self.credentials.len(),
            1 => self.hosts.len(),
            2 => self.origins.len(),
            3 => self.sites.len(),
            4 => self.contents.len(),
            _upgrade => 2,
        }
    }

    fn set(&self, cell: &mut Cell, dimension: usize, value: usize) {
        match dimension {
            0 => cell.credential = self.credentials[value],
            1 => cell.host = self.hosts[value],
            2 => cell.origin = self.origins[value],
            3 => cell.site = self.sites[value],
            4 => cell.content = self.contents[value],
            _upgrade => cell.upgrade = value == 1,
        }
    }

    /// Every combination.
    pub(super) fn product(&self) -> impl Iterator<Item = Cell> {
        let all: usize = (0..Self::DIMENSIONS).map(|dimension| self.count(dimension)).product();
        (0..all).map(|number| {
            let (mut rest, mut cell) = (number, Cell::PROGRAM);
            for dimension in 0..Self::DIMENSIONS {
                self.set(&mut cell, dimension, rest % self.count(dimension));
                rest /= self.count(dimension);
            }
            cell
        })
    }

    /// Every pair of values of two dimensions, the rest as in a cell.
    pub(super) fn pairs(&self, from: Cell) -> Vec<Cell> {
        let mut cells = Vec::new();
        for one in 0..Self::DIMENSIONS {
            for other in one + 1..Self::DIMENSIONS {
                for (a, b) in (0..self.count(one)).flat_map(|a| (0..self.count(other)).map(move |b| (a, b))) {
                    let mut cell = from;
                    self.set(&mut cell, one, a);
                    self.set(&mut cell, other, b);
                    cells.push(cell);
                }
            }
        }
        cells
    }

    /// Every value of one dimension, the rest as in a cell.
    pub(super) fn singles(&self, from: Cell) -> Vec<Cell> {
        let mut cells = vec![from];
        for dimension in 0..Self::DIMENSIONS {
            cells.extend((0..self.count(dimension)).map(|value| {
                let mut cell = from;
                self.set(&mut cell, dimension, value);
                cell
            }));
        }
        cells
    }
}
