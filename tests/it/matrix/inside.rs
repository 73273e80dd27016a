//! A daemon inside the test: a real loop, store and API, asked through the router or over its sockets, and credentials of every kind.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use futures_util::future::BoxFuture;
use http_body_util::BodyExt as _;
use kas::api::{Api, Door, Listeners, Surface, Vault, Web, answer, bind_control, serve};
use kas::auth::{Keys, NewSession, NewToken, SessionRecord, Site, TokenRecord};
use kas::backend::Scopes;
use kas::config::{Config, task_env};
use kas::daemon::{self, Answer, AuditFilter, Facts, Handle, InstanceFilter, Parts, Places};
use kas::lifecycle::OnRestart;
use kas::model::{BackendKind, InstanceId, ProjectId, Scope, SharedTask, TimeMs};
use kas::store::Store;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::cell::{Cell, Lines};
use crate::harness::eventually;

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
const PROJECT: &str = "project: demo\ntasks: {shown: {command: 'true'}}";

/// Credentials of every kind, by their secrets.
pub(super) struct Minted {
    pub(super) port: u16,
    pub(super) bootstrap: String,
    pub(super) expired: String,
    pub(super) revoked: String,
    pub(super) link: String,
    pub(super) view: String,
    pub(super) run: String,
    pub(super) full: String,
    pub(super) session: NewSession,
    pub(super) other: NewSession,
    pub(super) link_session: NewSession,
    pub(super) expired_session: NewSession,
    pub(super) used_ticket: String,
    pub(super) expired_ticket: String,
    pub(super) page_ticket: String,
    pub(super) token_id: String,
}

/// A daemon, its credentials, and one run that has ended.
pub(super) struct Inside {
    api: Api,
    handle: Handle,
    kept: Arc<Kept>,
    pub(super) minted: Minted,
    pub(super) ended: InstanceId,
    pub(super) socket: PathBuf,
    home: tempfile::TempDir,
    close: watch::Sender<bool>,
}

/// How often something was given to be kept.
#[derive(Default)]
struct Kept(AtomicU64);

struct CountingVault(Arc<Kept>);

impl CountingVault {
    fn count(&self) -> BoxFuture<'_, Answer<()>> {
        self.0.0.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    }
}

impl Vault for CountingVault {
    fn put_token(&self, _token: TokenRecord) -> BoxFuture<'_, Answer<()>> {
        self.count()
    }

    fn put_sessions(&self, _sessions: Vec<SessionRecord>) -> BoxFuture<'_, Answer<()>> {
        self.count()
    }
}

/// What a change would change.
#[derive(Debug, PartialEq)]
pub(super) struct Traces {
    kept: u64,
    events: Vec<i64>,
    runs: Vec<InstanceId>,
    projects: usize,
    tokens: Value,
    directories: usize,
}

fn mint(keys: &mut Keys, port: u16) -> Minted {
    let now = TimeMs::now();
    let long_ago = TimeMs(now.0 - 40 * DAY_MS);
    let mut token = |scope, only, expires_at| {
        keys.create_token(NewToken { name: String::new(), scope, only, expires_at }, long_ago).unwrap()
    };
    let only = SharedTask { project: "demo".parse().unwrap(), task: "shown".parse().unwrap() };
    let (_, expired) = token(Scope::Full, None, Some(TimeMs(now.0 - 1)));
    let (revoked_token, revoked) = token(Scope::Full, None, None);
    let (_, link) = token(Scope::View, Some(only), None);
    let (_, view) = token(Scope::View, None, None);
    let (_, run) = token(Scope::Run, None, None);
    let (full_token, full) = token(Scope::Full, None, None);
    keys.revoke_token(&revoked_token.id, now).unwrap();
    let mut session = |at| {
        let (ticket, _) = keys.page_ticket(Scope::Full, at).unwrap();
        keys.open_session(&ticket, at).unwrap().unwrap()
    };
    let (session, other) = (session(now), session(now));
    let link_session = keys.open_shared_session(&link, now).unwrap().unwrap();
    let credential = format!("session:{}", session.record.id);
    let mut ticket = |at| keys.socket_ticket(&credential, at).unwrap().unwrap().0;
    let (expired_ticket, used_ticket) = (ticket(TimeMs(now.0 - 40_000)), ticket(now));
    keys.socket_session(&[&session.cookie], &used_ticket, now).unwrap();
    let (page_ticket, _) = keys.page_ticket(Scope::Full, long_ago).unwrap();
    let expired_session = keys.open_session(&page_ticket, long_ago).unwrap().unwrap();
    let (page_ticket, _) = keys.page_ticket(Scope::Full, now).unwrap();
    let bootstrap = "kas_bootstrap".to_owned();
    Minted {
        port,
        bootstrap,
        expired,
        revoked,
        link,
        view,
        run,
        full,
        session,
        other,
        link_session,
        expired_session,
        used_ticket,
        expired_ticket,
        page_ticket,
        token_id: full_token.id,
    }
}

impl Inside {
    pub(super) async fn start() -> Self {
        let home = tempfile::Builder::new().prefix("kas").tempdir().unwrap();
        let path = |name: &str| home.path().join(name);
        std::fs::create_dir_all(path("demo/.kaged")).unwrap();
        std::fs::create_dir_all(path("more/.kaged")).unwrap();
        std::fs::write(path("more/.kaged/project.yaml"), "project: more").unwrap();
        std::fs::create_dir(path("instances")).unwrap();
        std::fs::write(path("demo/.kaged/project.yaml"), PROJECT).unwrap();
        let database = path("runner.db");
        let store = tokio::task::spawn_blocking(move || Store::open(&database)).await.unwrap().unwrap();
        let facts = Facts::new(
            Config::default(),
            (None, path("daemon.toml")),
            "op".to_owned(),
            (BackendKind::Pty, None),
            TimeMs::now(),
        );
        let places = Places {
            instances: path("instances"),
            kas: kas::backend::Program::at(Path::new(env!("CARGO_BIN_EXE_kas"))).unwrap(),
            scopes: Scopes::default(),
            env: task_env(std::env::vars_os().filter(|(name, _)| name == "PATH"), &[]),
            scrollback_lines: 100,
            boot_id: kas::journal::boot_id().unwrap(),
        };
        let parts = Parts { facts, store, tmux: None, places, on_restart: OnRestart::Reattach };
        let handle = daemon::start(parts).await.unwrap();
        handle.add_project(path("demo")).await.unwrap();

        let http = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let port = http.local_addr().unwrap().port();
        let mut keys = Keys::new("op".to_owned(), "kas_bootstrap", Vec::new(), Vec::new());
        let minted = mint(&mut keys, port);
        let kept = Arc::<Kept>::default();
        let door = Door::new(keys, Some(Site::new(port, &[])), CountingVault(Arc::clone(&kept)));
        let (close, closing) = watch::channel(false);
        let api = Api::new(handle.clone(), door, handle.metrics(), closing);
        let socket = path("run/kas.sock");
        let control = bind_control(&socket).unwrap();
        let http = Some(Web { listener: http, tls: None });
        tokio::spawn(serve(api.clone(), Listeners { http, control: Some(control) }));
        let mut it =
            Self { api, handle, kept, minted, ended: InstanceId::from_parts(0, 0), socket, home, close };
        it.ended = it.run_to_the_end().await;
        it
    }

    async fn run_to_the_end(&self) -> InstanceId {
        let headers = Cell::PROGRAM.lines(&self.minted, "");
        let path = "/api/v1/projects/demo/tasks/run";
        let launched = self.ask(Surface::Http, "POST", path, &headers, r#"{"task":"shown"}"#).await;
        assert_eq!(launched.status(), 202);
        let id = body(launched).await["id"].as_str().unwrap().parse().unwrap();
        self.handle.ended(id).await.unwrap();
        eventually("the run's directory stays", || match self.directories() {
            0 => Ok(()),
            left => Err(left.to_string()),
        })
        .await;
        id
    }

    fn directories(&self) -> usize {
        std::fs::read_dir(self.home.path().join("instances")).unwrap().count()
    }

    /// Asks through the router, without a connection.
    pub(super) async fn ask(
        &self,
        surface: Surface,
        method: &str,
        target: &str,
        lines: &Lines,
        body: &str,
    ) -> Response<Body> {
        let request = Request::builder().method(method).uri(target);
        let mut request = request.body(Body::from(body.to_owned())).unwrap();
        *request.headers_mut() = headers(lines);
        answer(&self.api, surface, request).await
    }

    /// A socket ticket of a session, never used.
    pub(super) async fn fresh_ticket(&self, session: &NewSession) -> String {
        let mut headers =
            Cell { credential: super::cell::Credential::None, ..Cell::PAGE }.lines(&self.minted, "");
        headers.push(("cookie", format!("kas_{}={}", self.minted.port, session.cookie)));
        headers.push(("x-kas-key", session.key.clone()));
        let made = self.ask(Surface::Http, "POST", "/api/v1/session/ticket", &headers, "{}").await;
        assert_eq!(made.status(), 200);
        body(made).await["ticket"].as_str().unwrap().to_owned()
    }

    /// Everything that a request could leave behind. Only what tells of wrong credentials themselves may come.
    pub(super) async fn traces(&self) -> Traces {
        let demo: ProjectId = "demo".parse().unwrap();
        let mut events = Vec::new();
        let mut cursor = None;
        loop {
            let page = self.handle.audit(AuditFilter::default(), 500, cursor).await.unwrap();
            events.extend(page.items.iter().filter(|it| it.kind != "auth.failed").map(|it| it.id));
            cursor = page.next_cursor;
            if cursor.is_none() {
                break;
            }
        }
        let runs = self.handle.instances(&demo, InstanceFilter::default(), 500, None).await.unwrap();
        let tokens = self.ask(Surface::Control, "GET", "/v1/tokens", &Lines::new(), "").await;
        Traces {
            kept: self.kept.0.load(Ordering::Relaxed),
            events,
            runs: runs.items.iter().map(|run| run.id).collect(),
            projects: self.handle.projects().len(),
            tokens: body(tokens).await,
            directories: self.directories(),
        }
    }

    /// The id of a token that works.
    pub(super) fn token(&self) -> &str {
        &self.minted.token_id
    }

    /// The directory of a project that is not registered.
    pub(super) fn project(&self) -> PathBuf {
        self.home.path().join("more")
    }

    /// Begins to end.
    pub(super) fn close(&self) {
        self.close.send_replace(true);
    }
}

fn headers(lines: &Lines) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// An answer's body, which is JSON.
pub(super) async fn body(response: Response<Body>) -> Value {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}: {bytes:?}"))
}
