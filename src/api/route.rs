//! The table of contents: every route there is.

use axum::http::Method;
use axum::response::Response;
use futures_util::future::BoxFuture;

use super::request::Request;
use super::{
    audit, daemon, events, health, instances, projects, session, socket, tasks, terminals, transcript,
};
use crate::daemon::Answer;
use crate::model::Scope;

/// Who may use a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody who can connect.
    Open,
    /// Who brings a ticket in the body.
    Ticket,
    /// Any credential, also one that shows a single task; the handler hides the rest from that one.
    Shared,
    /// A credential of at least this scope that shows everything.
    Needs(Scope),
}

/// Where a route is served, and where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Surface {
    /// TCP; as a route's place: both surfaces.
    Http,
    /// The control socket.
    Control,
}

/// One route.
pub struct Route {
    /// The method; GET answers HEAD too.
    pub method: Method,
    /// The path; `:name` stands for one segment.
    pub path: &'static str,
    /// Who may use it.
    pub access: Access,
    /// Where it is served.
    pub surface: Surface,
    pub(super) run: fn(Request) -> BoxFuture<'static, Answer<Response>>,
}

const SHARED: Access = Access::Shared;
const VIEW: Access = Access::Needs(Scope::View);
const RUN: Access = Access::Needs(Scope::Run);
const FULL: Access = Access::Needs(Scope::Full);

macro_rules! routes {
    ($($method:ident $path:literal $access:expr, $surface:ident => $handler:path;)*) => {
        &[$(Route {
            method: Method::$method,
            path: $path,
            access: $access,
            surface: Surface::$surface,
            run: |request| Box::pin($handler(request)),
        }),*]
    };
}

/// Every route of `spec/protocol.md` §1 and §3. What is not here needs a credential to learn so.
#[rustfmt::skip]
pub static ROUTES: &[Route] = routes! {
    GET    "/healthz"                                   Access::Open,   Http    => health::alive;
    GET    "/readyz"                                    VIEW,           Http    => health::ready;
    GET    "/metrics"                                   VIEW,           Http    => health::metrics;
    GET    "/openapi.json"                              VIEW,           Http    => health::openapi;

    POST   "/api/v1/session"                            Access::Ticket, Http    => session::open;
    POST   "/api/v1/session/ticket"                     SHARED,         Http    => session::socket_ticket;

    GET    "/api/v1/projects"                           SHARED,         Http    => projects::list;
    GET    "/api/v1/projects/:id"                       SHARED,         Http    => projects::show;
    GET    "/api/v1/projects/:id/tasks"                 SHARED,         Http    => tasks::list;
    POST   "/api/v1/projects/:id/tasks/run"             RUN,            Http    => tasks::run;
    POST   "/api/v1/projects/:id/tasks/run/confirm"     RUN,            Http    => tasks::confirm;
    GET    "/api/v1/projects/:id/tasks/instances"       SHARED,         Http    => instances::list;
    POST   "/api/v1/projects/:id/tasks/cleanup"         RUN,            Http    => instances::cleanup;
    GET    "/api/v1/projects/:id/tasks/socket"          SHARED,         Http    => socket::upgrade;
    GET    "/api/v1/projects/:id/panes"                 SHARED,         Http    => terminals::panes;

    GET    "/api/v1/tasks/:tid"                         SHARED,         Http    => instances::show;
    DELETE "/api/v1/tasks/:tid"                         RUN,            Http    => instances::delete;
    POST   "/api/v1/tasks/:tid/stop"                    RUN,            Http    => instances::stop;
    POST   "/api/v1/tasks/:tid/restart"                 RUN,            Http    => instances::restart;
    GET    "/api/v1/tasks/:tid/transcript"              SHARED,         Http    => transcript::show;

    GET    "/api/v1/audit-events"                       VIEW,           Http    => audit::list;

    GET    "/v1/ping"                                   VIEW,           Control => daemon::ping;
    GET    "/v1/status"                                 VIEW,           Control => daemon::status;
    GET    "/v1/repos"                                  VIEW,           Control => daemon::repos;
    POST   "/v1/repos"                                  FULL,           Control => daemon::add_repo;
    DELETE "/v1/repos/:project"                         FULL,           Control => daemon::remove_repo;
    POST   "/v1/reload"                                 FULL,           Control => daemon::reload;
    GET    "/v1/events"                                 VIEW,           Control => events::stream;
    POST   "/v1/ticket"                                 FULL,           Control => session::browser_ticket;
    GET    "/v1/tokens"                                 FULL,           Control => session::tokens;
    POST   "/v1/tokens"                                 FULL,           Control => session::create_token;
    DELETE "/v1/tokens/:token"                          FULL,           Control => session::revoke_token;
};

/// The values of a path's `:name` segments.
pub(super) type Params = Vec<(&'static str, String)>;

/// What the table says about a method and a path.
pub(super) enum Found {
    /// This route.
    Route(&'static Route, Params),
    /// The path exists, with these methods.
    WrongMethod(Vec<&'static str>),
    /// No such path.
    Unknown,
}

/// Looks a request up.
pub(super) fn find(surface: Surface, method: &Method, path: &str) -> Found {
    let served = |route: &&Route| surface == Surface::Control || route.surface == Surface::Http;
    let wanted = if method == Method::HEAD { &Method::GET } else { method };
    let mut others = Vec::new();
    for route in ROUTES.iter().filter(served) {
        let Some(params) = matched(route.path, path) else { continue };
        if route.method == *wanted {
            return Found::Route(route, params);
        }
        others.push(route.method.as_str());
    }
    if others.is_empty() { Found::Unknown } else { Found::WrongMethod(others) }
}

/// Whether a path belongs to the API, known or not; every other path is the page's.
pub(super) fn is_api(path: &str) -> bool {
    let first = path.trim_start_matches('/').split('/').next().unwrap_or_default();
    matches!(first, "api" | "v1" | "healthz" | "readyz" | "metrics" | "openapi.json")
}

fn matched(pattern: &'static str, path: &str) -> Option<Params> {
    let mut params = Params::new();
    let mut given = path.split('/');
    for part in pattern.split('/') {
        let segment = given.next()?;
        match part.strip_prefix(':') {
            Some(name) if !segment.is_empty() => params.push((name, segment.to_owned())),
            None if part == segment => {}
            Some(_) | None => return None,
        }
    }
    given.next().is_none().then_some(params)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(surface: Surface, method: &Method, path: &str, expect: &str) {
        let found = match find(surface, method, path) {
            Found::Route(route, params) => format!("{} {params:?}", route.path),
            Found::WrongMethod(allow) => allow.join(","),
            Found::Unknown => "unknown".into(),
        };
        assert_eq!(found, expect, "{method} {path}");
    }

    #[test]
    fn finds_routes_methods_and_nothing() {
        let http = Surface::Http;
        check(http, &Method::GET, "/api/v1/projects", "/api/v1/projects []");
        check(http, &Method::HEAD, "/api/v1/tasks/X", r#"/api/v1/tasks/:tid [("tid", "X")]"#);
        check(http, &Method::POST, "/api/v1/tasks/X", "GET,DELETE");
        check(http, &Method::OPTIONS, "/api/v1/projects", "GET");
        for path in ["/api/v1/projects/", "/api/v1", "//api/v1/projects", "/api/v1/tasks//stop", "/x", ""] {
            check(http, &Method::GET, path, "unknown");
        }
        check(http, &Method::GET, "/v1/status", "unknown");
        check(Surface::Control, &Method::GET, "/v1/status", "/v1/status []");
        check(Surface::Control, &Method::GET, "/api/v1/projects", "/api/v1/projects []");
    }

    #[test]
    fn changes_need_more_than_looking_and_little_is_open() {
        let open: Vec<_> = ROUTES
            .iter()
            .filter(|it| matches!(it.access, Access::Open | Access::Ticket))
            .map(|r| r.path)
            .collect();
        assert_eq!(open, ["/healthz", "/api/v1/session"]);
        let looks = |route: &&Route| matches!(route.access, VIEW | SHARED) && route.method != Method::GET;
        for route in ROUTES.iter().filter(looks) {
            assert_eq!(route.path, "/api/v1/session/ticket", "a change with view scope");
        }
        assert!(ROUTES.iter().all(|route| is_api(route.path)));
        assert!(is_api("//api/v1/x") && is_api("/v1") && !is_api("/") && !is_api("/assets/x.js"));
    }

    #[test]
    fn no_route_hides_another() {
        for (n, a) in ROUTES.iter().enumerate() {
            let path = a.path.replace(':', "");
            assert!(
                ROUTES[..n].iter().all(|b| b.method != a.method || matched(b.path, &path).is_none()),
                "{}",
                a.path
            );
        }
    }
}
