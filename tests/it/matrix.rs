//! The authority matrix: every route, every kind of credential, host, origin, site and content type, over HTTP, the WebSocket upgrade and
//! the control socket, each cell against one oracle.
//!
//! Through the router, without a connection, every address is asked the product of the kinds of values and every value by itself, one address
//! of each sort every pair of values, and one change an even sample of the whole product of all values; `KAS_FAULTS=long` asks each sort
//! the whole of it. Over real connections every address is asked every value by itself, a change and the WebSocket every pair.

mod cell;
mod inside;
mod oracle;
mod wire;

use std::collections::{BTreeSet, HashSet};

use kas::api::{Access, ROUTES, Surface};
use kas::model::Scope;
use serde_json::json;

use cell::{Cell, ContentType, Credential, Lines, Values};
use inside::{Inside, body};
use oracle::{Needs, Outcome, oracle};
use wire::{Line, To};

use Needs::{Any, Open, Page, Scope as Of, Ticket};

const RUN: Needs = Of(Scope::Run);
const VIEW: Needs = Of(Scope::View);
const FULL: Needs = Of(Scope::Full);

/// Who may use what, as `spec/protocol.md` §1, §3 and §6 say. It repeats the table of routes on purpose: a new route is thought of twice.
#[rustfmt::skip]
const AUTHORITY: &[(&str, Needs, Surface)] = &[
    ("GET /healthz",                                    Open,   Surface::Http),
    ("GET /readyz",                                     VIEW,   Surface::Http),
    ("GET /metrics",                                    VIEW,   Surface::Http),
    ("GET /openapi.json",                               VIEW,   Surface::Http),
    ("POST /api/v1/session",                            Ticket, Surface::Http),
    ("POST /api/v1/session/ticket",                     Any,    Surface::Http),
    ("GET /api/v1/projects",                            Any,    Surface::Http),
    ("GET /api/v1/projects/:id",                        Any,    Surface::Http),
    ("GET /api/v1/projects/:id/tasks",                  Any,    Surface::Http),
    ("POST /api/v1/projects/:id/tasks/run",             RUN,    Surface::Http),
    ("POST /api/v1/projects/:id/tasks/run/confirm",     RUN,    Surface::Http),
    ("GET /api/v1/projects/:id/tasks/instances",        Any,    Surface::Http),
    ("POST /api/v1/projects/:id/tasks/cleanup",         RUN,    Surface::Http),
    ("GET /api/v1/projects/:id/tasks/socket",           Any,    Surface::Http),
    ("GET /api/v1/projects/:id/panes",                  Any,    Surface::Http),
    ("GET /api/v1/tasks/:tid",                          Any,    Surface::Http),
    ("DELETE /api/v1/tasks/:tid",                       RUN,    Surface::Http),
    ("POST /api/v1/tasks/:tid/stop",                    RUN,    Surface::Http),
    ("POST /api/v1/tasks/:tid/restart",                 RUN,    Surface::Http),
    ("GET /api/v1/tasks/:tid/transcript",               Any,    Surface::Http),
    ("GET /api/v1/audit-events",                        VIEW,   Surface::Http),
    ("GET /v1/ping",                                    VIEW,   Surface::Control),
    ("GET /v1/status",                                  VIEW,   Surface::Control),
    ("GET /v1/repos",                                   VIEW,   Surface::Control),
    ("POST /v1/repos",                                  FULL,   Surface::Control),
    ("DELETE /v1/repos/:project",                       FULL,   Surface::Control),
    ("POST /v1/reload",                                 FULL,   Surface::Control),
    ("GET /v1/events",                                  VIEW,   Surface::Control),
    ("POST /v1/ticket",                                 FULL,   Surface::Control),
    ("GET /v1/tokens",                                  FULL,   Surface::Control),
    ("POST /v1/tokens",                                 FULL,   Surface::Control),
    ("DELETE /v1/tokens/:token",                        FULL,   Surface::Control),
];

/// What is asked beside the table: the page, and what is not there, which only a credential learns.
#[rustfmt::skip]
const BESIDE: &[(&str, Needs)] = &[
    ("GET /", Page), ("HEAD /", Page), ("GET /projects/demo", Page), ("GET /assets/none.js", Page), ("POST /", Any),
    ("HEAD /readyz", VIEW), ("HEAD /healthz", Open), ("POST /healthz", Any), ("OPTIONS /api/v1/projects", Any),
    ("PUT /api/v1/projects", Any), ("TRACE /api/v1/projects", Any), ("DELETE /api/v1/projects/:id/tasks/run", Any), ("GET /api/v1/nothing", Any), ("POST /api/v1/nothing", Any), ("GET //api/v1/projects", Any),
    ("GET /api", Any), ("GET /v1", Any),
];

const RUN_ROUTE: &str = "POST /api/v1/projects/:id/tasks/run";
const SOCKET_ROUTE: &str = "GET /api/v1/projects/:id/tasks/socket";

/// An address that is asked, and what it asks.
#[derive(Debug, Clone, Copy)]
struct Target {
    route: &'static str,
    needs: Needs,
    /// Whether it is served where it is asked.
    served: bool,
}

impl Target {
    fn method(&self) -> &'static str {
        self.route.split_once(' ').unwrap().0
    }

    fn is_change(&self) -> bool {
        !matches!(self.method(), "GET" | "HEAD")
    }

    /// The path to what is there; for a change that is let in, to what is not.
    fn path(&self, it: &Inside, spare: bool) -> String {
        let ended = if spare { kas::model::InstanceId::from_parts(0, 0) } else { it.ended };
        let demo = if spare { "none" } else { "demo" };
        let path = self.route.split_once(' ').unwrap().1.replace(":tid", &ended.to_string());
        let token = if spare { "none" } else { it.token() };
        path.replace(":id", demo).replace(":project", demo).replace(":token", token)
    }

    /// A body with which the change would be made; for a change that is let in, one that no route takes.
    fn body(&self, it: &Inside, spare: bool) -> String {
        if spare {
            return r#"{"none_has_this":1}"#.to_owned();
        }
        let path = self.route.split_once(' ').unwrap().1;
        match path.rsplit('/').next() {
            _ if !self.is_change() => String::new(),
            Some("run") => r#"{"task":"shown"}"#.to_owned(),
            Some("session") => json!({ "ticket": it.minted.page_ticket }).to_string(),
            Some("repos") => json!({ "path": it.project() }).to_string(),
            Some(_) | None => "{}".to_owned(),
        }
    }
}

/// Everything there is to ask over HTTP. What only the control socket serves is nothing here, and only a credential learns so.
fn over_http() -> Vec<Target> {
    let table = AUTHORITY.iter().map(|&(route, needs, surface)| {
        let served = surface == Surface::Http;
        Target { route, needs: if served { needs } else { Any }, served }
    });
    table.chain(BESIDE.iter().map(|&(route, needs)| Target { route, needs, served: false })).collect()
}

fn over_the_control_socket() -> Vec<Target> {
    AUTHORITY.iter().map(|&(route, needs, _)| Target { route, needs, served: true }).collect()
}

/// What an answer is, by its status and the reason it gives.
fn outcome(status: u16, reason: &str) -> Outcome {
    match (status, reason) {
        (421, "host") => Outcome::Misdirected,
        (403, "origin") => Outcome::Foreign,
        (401, "credential") => Outcome::Unauthorized,
        (400, "content_type") => Outcome::NotJson,
        (403, "scope" | "shared") => Outcome::Beyond,
        (401 | 403 | 421 | 500.., _) => panic!("{status} {reason}"),
        (_, _) => Outcome::In,
    }
}

/// How a request goes to the daemon.
enum Way<'a> {
    Router,
    Line(&'a mut Line),
}

/// A daemon that is asked cell after cell.
struct Asker<'a> {
    it: &'a Inside,
    way: Way<'a>,
    /// A ticket that is not used yet, and for which credential.
    ticket: Option<(Credential, String)>,
    asked: usize,
    unauthorized: usize,
}

impl<'a> Asker<'a> {
    fn new(it: &'a Inside, way: Way<'a>) -> Self {
        Self { it, way, ticket: None, asked: 0, unauthorized: 0 }
    }

    /// Asks every cell once, and looks whether that left any trace.
    async fn ask_all(&mut self, target: &Target, cells: impl IntoIterator<Item = Cell>) {
        let before = self.it.traces().await;
        let mut seen = HashSet::new();
        for cell in cells.into_iter().filter(|cell| seen.insert(*cell)) {
            self.ask(target, &cell).await;
        }
        self.asked += seen.len();
        assert_eq!(self.it.traces().await, before, "{}", target.route);
    }

    async fn ask(&mut self, target: &Target, cell: &Cell) {
        let expect = oracle(target.needs, target.is_change(), target.served, cell);
        let ticket = self.ticket(cell).await;
        let spare = expect == Outcome::In && target.served && target.is_change();
        let path = target.path(self.it, spare);
        let uri = format!("{}{path}{}", cell.host.target(), cell.credential.query(&self.it.minted));
        let (lines, body) = (cell.lines(&self.it.minted, &ticket), target.body(self.it, spare));
        let (status, reason) = self.send(cell.surface, target.method(), &uri, &lines, &body).await;
        let reason = if target.method() == "HEAD" { word(status, expect) } else { &reason };
        let got = outcome(status, reason);
        assert_eq!(got, expect, "{status} {reason} for {} by {cell:?}", target.route);
        let connected = matches!(self.way, Way::Line(_)) && cell.upgrade && expect == Outcome::In;
        if connected && target.route == SOCKET_ROUTE {
            assert_eq!(status, 101, "{cell:?}");
        }
        if cell.credential.takes_a_fresh_ticket()
            && !matches!(expect, Outcome::Misdirected | Outcome::Foreign)
        {
            self.ticket = None;
        }
        self.spread(expect);
    }

    /// A peer with many wrong credentials is answered late, so what is asked here comes from many.
    fn spread(&mut self, got: Outcome) {
        self.unauthorized += usize::from(got == Outcome::Unauthorized);
        if let Way::Line(line) = &mut self.way
            && self.unauthorized == 10
        {
            self.unauthorized = 0;
            line.elsewhere();
        }
    }

    async fn ticket(&mut self, cell: &Cell) -> String {
        if !cell.upgrade || !cell.credential.takes_a_fresh_ticket() {
            return String::new();
        }
        if let Some((_, ticket)) = self.ticket.as_ref().filter(|(whose, _)| *whose == cell.credential) {
            return ticket.clone();
        }
        let minted = &self.it.minted;
        let session =
            if cell.credential == Credential::TicketOfOther { &minted.other } else { &minted.session };
        let ticket = self.it.fresh_ticket(session).await;
        self.ticket = Some((cell.credential, ticket.clone()));
        ticket
    }

    async fn send(
        &mut self,
        surface: Surface,
        method: &str,
        uri: &str,
        lines: &Lines,
        text: &str,
    ) -> (u16, String) {
        let Way::Line(line) = &mut self.way else {
            let answer = self.it.ask(surface, method, uri, lines, text).await;
            let status = answer.status().as_u16();
            if method == "HEAD" || !matches!(status, 400 | 403) {
                return (status, word(status, Outcome::In).to_owned());
            }
            let reason = body(answer).await["error"]["details"]["reason"].take();
            return (status, reason.as_str().unwrap_or_default().to_owned());
        };
        line.ask(method, uri, lines, text).await
    }
}

/// The reason of an answer without a body: the status has one alone, but for 403.
fn word(status: u16, expect: Outcome) -> &'static str {
    match status {
        421 => "host",
        403 if expect == Outcome::Beyond => "scope",
        403 => "origin",
        401 => "credential",
        _other => "",
    }
}

#[test]
fn every_route_has_its_authority_here() {
    let needs = |access: Access| match access {
        Access::Open => Open,
        Access::Ticket => Ticket,
        Access::Shared => Any,
        Access::Needs(scope) => Of(scope),
    };
    let told = |route: &str, needs: Needs, surface: Surface| format!("{route} {needs:?} {surface:?}");
    let table: BTreeSet<_> = ROUTES
        .iter()
        .map(|it| told(&format!("{} {}", it.method, it.path), needs(it.access), it.surface))
        .collect();
    let here: BTreeSet<_> =
        AUTHORITY.iter().map(|(route, needs, surface)| told(route, *needs, *surface)).collect();
    assert_eq!(table, here, "the table of routes against what the contract says");
    let routes: BTreeSet<_> = AUTHORITY.iter().map(|(route, ..)| route).collect();
    assert_eq!(routes.len(), AUTHORITY.len(), "each once");
}

/// A program, the page, and the page's WebSocket, each let in where its scope reaches.
const LET_IN: [Cell; 3] = [Cell::PROGRAM, Cell::PAGE, Cell::SOCKET];
/// One address of each sort: a file of the page, a read, a change, the WebSocket.
const SORTS: [&str; 4] = ["GET /", "GET /api/v1/projects/:id", RUN_ROUTE, SOCKET_ROUTE];
/// Of the whole product CI asks every so-manieth cell. It has no factor in common with the number of values of a dimension, so that every
/// value meets every other.
const STEP: usize = 97;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_is_as_the_contract_says() {
    let it = Inside::start().await;
    let mut asker = Asker::new(&it, Way::Router);
    let long = std::env::var_os("KAS_FAULTS").is_some_and(|value| value == "long");
    for target in over_http() {
        let singles = LET_IN.into_iter().flat_map(|cell| Values::ALL.singles(cell));
        // Of what a read says its body is, any one value is enough here.
        let kinds =
            Values::KINDS.product().filter(|it| target.is_change() || it.content == ContentType::Json);
        asker.ask_all(&target, kinds.chain(singles)).await;
        if SORTS.contains(&target.route) {
            asker.ask_all(&target, LET_IN.into_iter().flat_map(|cell| Values::ALL.pairs(cell))).await;
            let step = if long { 1 } else { STEP };
            if long || target.route == RUN_ROUTE {
                asker.ask_all(&target, Values::ALL.product().step_by(step)).await;
            }
        }
    }
    let http = asker.asked;
    for target in over_the_control_socket() {
        let cells = LET_IN.into_iter().flat_map(|cell| Values::ALL.singles(cell));
        asker.ask_all(&target, cells.map(on_the_control_socket)).await;
    }
    println!("{} cells agree through the router, {http} of them over HTTP", asker.asked);
}

fn on_the_control_socket(cell: Cell) -> Cell {
    Cell { surface: Surface::Control, ..cell }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_cell_is_so_over_a_connection_too() {
    let it = Inside::start().await;
    let mut line = Line::new(To::Port(it.minted.port, 1));
    let mut asker = Asker::new(&it, Way::Line(&mut line));
    for target in over_http() {
        asker.ask_all(&target, LET_IN.into_iter().flat_map(|cell| Values::ALL.singles(cell))).await;
        let wide = [(RUN_ROUTE, Cell::PAGE), (SOCKET_ROUTE, Cell::SOCKET)];
        for (_, cell) in wide.into_iter().filter(|(route, _)| *route == target.route) {
            asker.ask_all(&target, Values::ALL.pairs(cell)).await;
        }
    }
    let tcp = asker.asked;
    let mut line = Line::new(To::Socket(it.socket.clone()));
    let mut asker = Asker::new(&it, Way::Line(&mut line));
    for target in over_the_control_socket() {
        let cells = [Cell::PROGRAM, Cell::SOCKET].into_iter().flat_map(|cell| Values::ALL.singles(cell));
        asker.ask_all(&target, cells.map(on_the_control_socket)).await;
    }
    println!("{tcp} cells agree over TCP, {} over the control socket", asker.asked);
    it.close();
}
