//! The one gate that every request passes before it is routed.

use super::{Keys, Site};
use crate::model::{Actor, TimeMs};

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// The control socket; the peer's uid was checked on accept.
    Socket,
    /// HTTP on a TCP port.
    Http,
}

/// What a route asks of its callers. A route that says nothing asks for a credential.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Access {
    /// `/healthz`: nothing to learn, nothing to do.
    Open,
    /// The page's own files, which are the same for everybody.
    Page,
    /// The exchange of a page ticket for a session: the ticket in the body is the credential.
    Exchange,
    /// No such address, or not with this method: only a credential learns so, whatever is said of the body, which is not read.
    Absent,
    /// Everything else.
    #[default]
    Credential,
}

/// What the gate looks at. Lists hold every header of the name, as sent.
#[derive(Debug, Clone, Default)]
pub struct RequestFacts<'a> {
    /// What the route asks for.
    pub access: Access,
    /// `GET`, `POST`, …
    pub method: &'a str,
    /// Whether it asks to become a WebSocket.
    pub is_upgrade: bool,
    /// The authority of an absolute request target.
    pub authority: Option<&'a [u8]>,
    /// `Host`
    pub host: Vec<&'a [u8]>,
    /// `Origin`
    pub origin: Vec<&'a [u8]>,
    /// `Sec-Fetch-Site`
    pub sec_fetch_site: Option<&'a [u8]>,
    /// `Sec-Fetch-Mode`
    pub sec_fetch_mode: Option<&'a [u8]>,
    /// `Authorization`
    pub authorization: Vec<&'a [u8]>,
    /// `Cookie`
    pub cookie: Vec<&'a [u8]>,
    /// `X-Kas-Key`
    pub key: Option<&'a [u8]>,
    /// `Content-Type`
    pub content_type: Option<&'a [u8]>,
    /// Whether anything follows the head.
    pub has_body: bool,
    /// `Sec-WebSocket-Protocol`
    pub protocols: Vec<&'a [u8]>,
}

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admitted {
    /// Anybody: the route is open.
    Anybody,
    /// Somebody whose credential was checked; what they may do is in their scope.
    Actor(Actor),
}

/// Why a request is turned away. It says no more than which rule, and never a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refusal {
    /// 421: sent to a name that is not ours.
    #[error("this daemon does not answer to that Host")]
    Host,
    /// 403: sent by a page that is not ours.
    #[error("requests from other sites are not taken")]
    Origin,
    /// 401: no credential, or not all of one.
    #[error("a credential is needed: a bearer token, or run `kas open`")]
    Credential,
    /// 401: a credential that does not work. Only these count as failures of whoever sent them.
    #[error("this credential does not work: bring another bearer token, or run `kas open`")]
    Wrong,
    /// 400: a change must say that it is JSON, which no foreign form can.
    #[error("send Content-Type: application/json")]
    ContentType,
}

impl Refusal {
    /// The HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Host => 421,
            Self::Origin => 403,
            Self::Credential | Self::Wrong => 401,
            Self::ContentType => 400,
        }
    }

    /// `details.reason` of the answer.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Origin => "origin",
            Self::Credential | Self::Wrong => "credential",
            Self::ContentType => "content_type",
        }
    }
}

/// Values of our cookie that are looked at: other ports of the same host can set it too, so there may be several.
const COOKIES: usize = 8;
/// What a WebSocket ticket is offered as.
const TICKET_PROTOCOL: &str = "kas.ticket.";

/// Decides about a request: host, then origin, then credential, then form. `cookie_name` is `kas_<port>`.
///
/// # Errors
/// The first rule that is not met.
pub fn admit(
    keys: &mut Keys,
    site: &Site,
    cookie_name: &str,
    surface: Surface,
    facts: &RequestFacts<'_>,
    now: TimeMs,
) -> Result<Admitted, Refusal> {
    if surface == Surface::Socket {
        return Ok(Admitted::Actor(keys.socket_actor()));
    }
    let host = site.host(&facts.host, facts.authority).ok_or(Refusal::Host)?;
    check_origin(site, facts, host)?;
    let admitted = match facts.access {
        Access::Open | Access::Page | Access::Exchange => Admitted::Anybody,
        Access::Credential | Access::Absent => Admitted::Actor(credential(keys, cookie_name, facts, now)?),
    };
    if is_change(facts.method) && !form_ok(facts) {
        return Err(Refusal::ContentType);
    }
    Ok(admitted)
}

/// Whether a change says that it is JSON. A DELETE without a body has nothing to say that of, and no form can send one.
fn form_ok(facts: &RequestFacts<'_>) -> bool {
    match facts.content_type {
        _ if facts.access == Access::Absent => true,
        Some(content_type) => is_json(content_type),
        None => facts.method == "DELETE" && !facts.has_body,
    }
}

/// A browser tells where a request comes from in `Origin` or `Sec-Fetch-Site`; what it tells must be our own page. Who
/// tells nothing is no browser, or one on a plain read, and needs a credential that no foreign page can send along:
/// a bearer token or the page's key. A link from elsewhere to the page itself may be followed.
fn check_origin(ours: &Site, facts: &RequestFacts<'_>, host: &str) -> Result<(), Refusal> {
    let followed = facts.access == Access::Page && facts.sec_fetch_mode == Some(b"navigate");
    let typed = facts.sec_fetch_site == Some(b"none") && !facts.is_upgrade && !is_change(facts.method);
    let site_ok = facts.sec_fetch_site.is_none_or(|site| site == b"same-origin") || followed || typed;
    let needs_origin = (is_change(facts.method) || facts.is_upgrade) && facts.authorization.is_empty();
    let origin_ok = match ours.is_own_origin(&facts.origin, host) {
        Some(own) => own,
        None => !needs_origin || facts.cookie.is_empty(),
    };
    if site_ok && origin_ok { Ok(()) } else { Err(Refusal::Origin) }
}

fn credential(
    keys: &mut Keys,
    cookie_name: &str,
    facts: &RequestFacts<'_>,
    now: TimeMs,
) -> Result<Actor, Refusal> {
    match facts.authorization.as_slice() {
        [] => session(keys, cookie_name, facts, now),
        [header] => bearer(header).and_then(|secret| keys.bearer(secret, now)).ok_or(Refusal::Wrong),
        _ => Err(Refusal::Wrong),
    }
}

/// A cookie comes along by itself, also to a page that was never let in, so it is no attempt without its other half.
fn session(
    keys: &mut Keys,
    cookie_name: &str,
    facts: &RequestFacts<'_>,
    now: TimeMs,
) -> Result<Actor, Refusal> {
    let cookies = cookies(&facts.cookie, cookie_name);
    if facts.is_upgrade {
        let ticket = ticket(&facts.protocols).ok_or(Refusal::Credential)?;
        return keys.socket_session(&cookies, ticket, now).ok_or(Refusal::Wrong);
    }
    let key = facts.key.ok_or(Refusal::Credential)?;
    if cookies.is_empty() {
        return Err(Refusal::Credential);
    }
    let key = std::str::from_utf8(key).map_err(|_| Refusal::Wrong)?;
    cookies.into_iter().find_map(|cookie| keys.session(cookie, key, now)).ok_or(Refusal::Wrong)
}

/// The secret of `Bearer <secret>`; the scheme's case does not matter (RFC 9110, §11.1).
fn bearer(header: &[u8]) -> Option<&str> {
    let (scheme, secret) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(secret)
}

/// Every value of the cookie of this name, at most [`COOKIES`].
fn cookies<'a>(headers: &[&'a [u8]], name: &str) -> Vec<&'a str> {
    let texts = headers.iter().filter_map(|header| std::str::from_utf8(header).ok());
    let pairs = texts.flat_map(|text| text.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(found, _)| *found == name).map(|(_, value)| value).take(COOKIES).collect()
}

fn ticket<'a>(headers: &[&'a [u8]]) -> Option<&'a str> {
    let texts = headers.iter().filter_map(|header| std::str::from_utf8(header).ok());
    texts.flat_map(|text| text.split(',')).find_map(|offer| offer.trim().strip_prefix(TICKET_PROTOCOL))
}

fn is_change(method: &str) -> bool {
    !matches!(method, "GET" | "HEAD")
}

fn is_json(content_type: &[u8]) -> bool {
    let essence = content_type.split(|byte| *byte == b';').next().unwrap_or_default();
    essence.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::NewSession;
    use crate::model::Scope;

    const NOW: TimeMs = TimeMs(1000);
    const OWN: &[u8] = b"http://127.0.0.1:7440";

    struct Fixture {
        keys: Keys,
        session: NewSession,
        cookie: String,
    }

    fn fixture() -> Fixture {
        let mut keys = Keys::new("op".to_owned(), "kas_boot", Vec::new(), Vec::new());
        let (ticket, _) = keys.page_ticket(Scope::Run, NOW).unwrap();
        let session = keys.open_session(&ticket, NOW).unwrap().unwrap();
        let cookie = format!("theme=dark; kas_7440=tossed; kas_7440={}; x", session.cookie);
        Fixture { keys, session, cookie }
    }

    impl Fixture {
        fn admit(&mut self, facts: &RequestFacts<'_>) -> Result<Admitted, Refusal> {
            let site = Site::new(7440, &[]);
            admit(&mut self.keys, &site, "kas_7440", Surface::Http, facts, NOW)
        }
    }

    fn get() -> RequestFacts<'static> {
        RequestFacts { method: "GET", host: vec![b"127.0.0.1:7440"], ..RequestFacts::default() }
    }

    fn post() -> RequestFacts<'static> {
        RequestFacts { method: "POST", content_type: Some(b"application/json"), ..get() }
    }

    fn bearer(facts: RequestFacts<'static>) -> RequestFacts<'static> {
        RequestFacts { authorization: vec![b"Bearer kas_boot"], ..facts }
    }

    fn check(facts: &RequestFacts<'_>, expect: Option<Refusal>) {
        assert_eq!(fixture().admit(facts).err(), expect, "{facts:?}");
    }

    #[test]
    fn a_bearer_token_is_enough_without_a_browser() {
        check(&bearer(get()), None);
        check(&bearer(post()), None);
        check(&RequestFacts { authorization: vec![b"bEARER kas_boot"], ..get() }, None);
        let ws = RequestFacts { is_upgrade: true, ..bearer(get()) };
        check(&ws, None);
        let refused: [&[u8]; 7] =
            [b"", b"kas_boot", b"Bearer", b"Bearer ", b"Bearer  kas_boot", b"Basic kas_boot", b"Bearer \xff"];
        for header in refused {
            check(&RequestFacts { authorization: vec![header], ..get() }, Some(Refusal::Wrong));
        }
        let twice = RequestFacts { authorization: vec![b"Bearer kas_boot"; 2], ..get() };
        check(&twice, Some(Refusal::Wrong));
    }

    #[test]
    fn rules_are_checked_in_order() {
        let all_wrong = RequestFacts {
            method: "POST",
            host: vec![b"evil.test"],
            origin: vec![b"http://evil.test"],
            ..RequestFacts::default()
        };
        check(&all_wrong, Some(Refusal::Host));
        let here = RequestFacts { host: vec![b"127.0.0.1:7440"], ..all_wrong };
        check(&here, Some(Refusal::Origin));
        let own = RequestFacts { origin: vec![OWN], ..here };
        check(&own, Some(Refusal::Credential));
        let token = RequestFacts { authorization: vec![b"Bearer kas_boot"], ..own };
        check(&token, Some(Refusal::ContentType));
        check(
            &RequestFacts { content_type: Some(b"Application/JSON; charset=utf-8"), ..token.clone() },
            None,
        );
        // What is not there is not there, whatever the body is.
        check(&RequestFacts { access: Access::Absent, ..token }, None);
    }

    #[test]
    fn a_delete_without_a_body_says_nothing_of_it() {
        let delete = || RequestFacts { method: "DELETE", content_type: None, ..bearer(post()) };
        check(&delete(), None);
        check(&RequestFacts { has_body: true, ..delete() }, Some(Refusal::ContentType));
        check(&RequestFacts { content_type: Some(b"text/plain"), ..delete() }, Some(Refusal::ContentType));
        check(&RequestFacts { method: "POST", ..delete() }, Some(Refusal::ContentType));
        check(&RequestFacts { authorization: vec![], ..delete() }, Some(Refusal::Credential));
    }

    #[test]
    fn a_change_must_be_json_even_without_a_body() {
        for kind in [
            None,
            Some(&b"text/plain"[..]),
            Some(b"application/jsonx"),
            Some(b""),
            Some(b"x;application/json"),
        ] {
            for method in ["POST", "DELETE", "PUT", "PATCH", "OPTIONS", "get"] {
                let has_body = method == "DELETE";
                let facts = RequestFacts { method, content_type: kind, has_body, ..bearer(get()) };
                check(&facts, Some(Refusal::ContentType));
            }
            check(&RequestFacts { content_type: kind, ..bearer(get()) }, None);
        }
    }

    #[test]
    fn only_our_own_page_gets_through_a_browser() {
        for site in ["cross-site", "same-site", "bogus"] {
            let facts = RequestFacts { sec_fetch_site: Some(site.as_bytes()), ..bearer(get()) };
            check(&facts, Some(Refusal::Origin));
        }
        check(&RequestFacts { sec_fetch_site: Some(b"same-origin"), ..bearer(post()) }, None);
        check(&RequestFacts { sec_fetch_site: Some(b"none"), ..bearer(get()) }, None);
        check(&RequestFacts { sec_fetch_site: Some(b"none"), ..bearer(post()) }, Some(Refusal::Origin));
        let rebound = RequestFacts {
            host: vec![b"evil.test:7440"],
            origin: vec![b"http://evil.test:7440"],
            sec_fetch_site: Some(b"same-origin"),
            ..bearer(get())
        };
        check(&rebound, Some(Refusal::Host));
        check(&RequestFacts { origin: vec![b"null"], ..bearer(post()) }, Some(Refusal::Origin));
        check(&RequestFacts { origin: vec![OWN, OWN], ..bearer(post()) }, Some(Refusal::Origin));
        let other_name = RequestFacts { origin: vec![b"http://localhost:7440"], ..bearer(post()) };
        check(&other_name, Some(Refusal::Origin));
    }

    #[test]
    fn a_session_needs_cookie_and_key_and_for_changes_the_origin() {
        let mut it = fixture();
        let (cookie, key) = (it.cookie.clone(), it.session.key.clone());
        let with = |facts: RequestFacts<'static>| RequestFacts {
            cookie: vec![cookie.as_bytes()],
            key: Some(key.as_bytes()),
            ..facts
        };
        let read = it.admit(&with(get())).unwrap();
        let Admitted::Actor(actor) = read else { panic!("{read:?}") };
        assert_eq!(
            (actor.credential, actor.scope),
            (format!("session:{}", it.session.record.id), Scope::Run)
        );
        assert!(it.admit(&RequestFacts { origin: vec![OWN], ..with(post()) }).is_ok());
        assert_eq!(it.admit(&with(post())), Err(Refusal::Origin));
        assert_eq!(it.admit(&RequestFacts { key: None, ..with(get()) }), Err(Refusal::Credential));
        assert_eq!(it.admit(&RequestFacts { cookie: Vec::new(), ..with(get()) }), Err(Refusal::Credential));
        assert_eq!(it.admit(&RequestFacts { key: Some(b"guess"), ..with(get()) }), Err(Refusal::Wrong));
        let renamed = cookie.replace("kas_7440", "kas_7441");
        let other_port = RequestFacts { cookie: vec![renamed.as_bytes()], ..with(get()) };
        assert_eq!(it.admit(&other_port), Err(Refusal::Credential));
    }

    #[test]
    fn a_websocket_of_a_page_needs_cookie_origin_and_a_fresh_ticket() {
        let mut it = fixture();
        let (cookie, key) = (it.cookie.clone(), it.session.key.clone());
        let credential = format!("session:{}", it.session.record.id);
        let offer = |it: &mut Fixture| {
            let (ticket, _) = it.keys.socket_ticket(&credential, NOW).unwrap().unwrap();
            format!("kas.v1, {TICKET_PROTOCOL}{ticket}")
        };
        let upgrade = RequestFacts {
            is_upgrade: true,
            origin: vec![OWN],
            cookie: vec![cookie.as_bytes()],
            key: Some(key.as_bytes()),
            ..get()
        };
        let offered = offer(&mut it);
        let with = |protocols| RequestFacts { protocols, ..upgrade.clone() };
        assert!(it.admit(&with(vec![offered.as_bytes()])).is_ok());
        assert_eq!(it.admit(&with(vec![offered.as_bytes()])), Err(Refusal::Wrong), "used");
        assert_eq!(it.admit(&with(vec![b"kas.v1"])), Err(Refusal::Credential), "cookie and key do not do");
        let offered = offer(&mut it);
        let no_origin = RequestFacts { origin: Vec::new(), ..with(vec![offered.as_bytes()]) };
        assert_eq!(it.admit(&no_origin), Err(Refusal::Origin));
        let no_cookie = RequestFacts { cookie: Vec::new(), ..with(vec![offered.as_bytes()]) };
        assert_eq!(it.admit(&no_cookie), Err(Refusal::Wrong));
    }

    #[test]
    fn open_routes_still_want_our_host_and_origin() {
        for access in [Access::Open, Access::Page, Access::Exchange] {
            check(&RequestFacts { access, ..get() }, None);
            check(&RequestFacts { access, host: Vec::new(), ..get() }, Some(Refusal::Host));
            let foreign = RequestFacts { access, origin: vec![b"http://evil.test"], ..post() };
            check(&foreign, Some(Refusal::Origin));
        }
        let link = RequestFacts {
            sec_fetch_site: Some(b"cross-site"),
            sec_fetch_mode: Some(b"navigate"),
            access: Access::Page,
            ..get()
        };
        check(&link, None);
        check(&RequestFacts { access: Access::Open, ..link.clone() }, Some(Refusal::Origin));
        check(&RequestFacts { sec_fetch_mode: Some(b"no-cors"), ..link }, Some(Refusal::Origin));
    }

    /// Every combination of these, so that no rule is undone by another.
    #[test]
    fn nobody_is_somebody_without_host_origin_credential_and_form() {
        let hosts: [&[u8]; 3] = [b"127.0.0.1:7440", b"evil.test:7440", b"127.0.0.1:7441"];
        let origins: [&[u8]; 5] = [b"", OWN, b"http://evil.test:7440", b"null", b"http://127.0.0.1:7441"];
        let sites = [None, Some(&b"same-origin"[..]), Some(b"none"), Some(b"same-site"), Some(b"cross-site")];
        let tokens: [&[u8]; 3] = [b"", b"Bearer kas_boot", b"Bearer kas_guess"];
        let mut it = fixture();
        let (cookie, key) = (it.cookie.clone(), it.session.key.clone());
        let mut admitted = 0;
        for n in 0..3 * 5 * 5 * 3 * 2 * 2 * 2 * 2 * 2 {
            let mut rest = n;
            let mut pick = |of: usize| {
                let digit = rest % of;
                rest /= of;
                digit
            };
            let (host, origin, site, token) =
                (hosts[pick(3)], origins[pick(5)], sites[pick(5)], tokens[pick(3)]);
            let flags = [pick(2), pick(2), pick(2), pick(2), pick(2)].map(|bit| bit == 1);
            let [has_cookie, has_key, change, json, is_upgrade] = flags;
            let one = |value: &'static [u8]| if value.is_empty() { Vec::new() } else { vec![value] };
            let facts = RequestFacts {
                method: if change { "POST" } else { "GET" },
                is_upgrade,
                host: vec![host],
                origin: one(origin),
                sec_fetch_site: site,
                authorization: one(token),
                cookie: if has_cookie { vec![cookie.as_bytes()] } else { Vec::new() },
                key: has_key.then_some(key.as_bytes()),
                content_type: json.then_some(b"application/json"),
                ..RequestFacts::default()
            };
            let verdict = it.admit(&facts);
            assert_eq!(verdict == Err(Refusal::Host), host != hosts[0], "{facts:?}");
            if verdict.is_ok() {
                admitted += 1;
                assert!(origin.is_empty() || origin == OWN, "{facts:?}");
                assert!(!matches!(site, Some(b"same-site" | b"cross-site")), "{facts:?}");
                let page = token.is_empty() && has_cookie && has_key && !is_upgrade;
                assert!(token == tokens[1] || page && (origin == OWN || !change), "{facts:?}");
                assert!(json || !change, "{facts:?}");
            }
        }
        assert!(admitted > 100, "the rules let the right ones in");
    }

    #[test]
    fn the_control_socket_is_its_own_credential() {
        let mut keys = fixture().keys;
        let site = Site::new(7440, &[]);
        let facts = RequestFacts { method: "POST", ..RequestFacts::default() };
        let admitted = admit(&mut keys, &site, "kas_7440", Surface::Socket, &facts, NOW);
        assert_eq!(admitted, Ok(Admitted::Actor(keys.socket_actor())));
    }
}
