//! The whole API over real sockets, as far as it goes without a daemon behind it: the door, the table, limits, the page.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::route::{Access, ROUTES, Surface};
use super::{Api, Door, Listeners, ServeError, Vault, bind_control, serve};
use crate::auth::{Keys, SessionRecord, TokenRecord};
use crate::daemon::{Answer, Handle};
use crate::model::Scope;

const DEADLINE: Duration = Duration::from_secs(20);
const BOOT: &str = "kas_boot";

/// Remembers how much was put.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<(Vec<TokenRecord>, Vec<SessionRecord>)>>);

impl Vault for Memory {
    fn put_token(&self, token: TokenRecord) -> BoxFuture<'_, Answer<()>> {
        self.0.lock().unwrap().0.push(token);
        async { Ok(()) }.boxed()
    }
    fn put_sessions(&self, sessions: Vec<SessionRecord>) -> BoxFuture<'_, Answer<()>> {
        self.0.lock().unwrap().1 = sessions;
        async { Ok(()) }.boxed()
    }
}

struct Server {
    port: u16,
    socket: PathBuf,
    vault: Memory,
    closing: watch::Sender<bool>,
    tasks: JoinSet<()>,
    _dir: TempDir,
}

impl Server {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/kas.sock");
        let control = bind_control(&socket).unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = http.local_addr().unwrap().port();
        let vault = Memory::default();
        let keys = Keys::new("op".into(), BOOT, vec![], vec![]);
        let door = Door::new(keys, Some(port), &[], vault.clone());
        let (closing, closes) = watch::channel(false);
        let api = Api::new(Handle {}, door, Arc::default(), closes);
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(api, Listeners { http: Some(http), control: Some(control) }));
        Self { port, socket, vault, closing, tasks, _dir: dir }
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    /// Asks over HTTP; `headers` are whole lines without the line end.
    async fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        let host = format!("Host: 127.0.0.1:{}", self.port);
        let mut all = vec![host.as_str()];
        all.extend(headers);
        exchange(self.tcp().await, method, path, &all, body).await
    }

    /// The same with the bootstrap token and as JSON.
    async fn ask_in(&self, method: &str, path: &str, body: &str) -> Reply {
        let headers = ["Authorization: Bearer kas_boot", "Content-Type: application/json"];
        self.ask(method, path, &headers, body).await
    }

    /// Asks over the control socket.
    async fn control(&self, method: &str, path: &str, body: &str) -> Reply {
        let stream = UnixStream::connect(&self.socket).await.unwrap();
        exchange(stream, method, path, &["Host: kas"], body).await
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    head: String,
    body: String,
}

impl Reply {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }

    fn code(&self) -> String {
        self.json()["error"]["code"].as_str().unwrap_or_default().to_owned()
    }
}

async fn exchange(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    method: &str,
    path: &str,
    headers: &[&str],
    body: &str,
) -> Reply {
    let lines: String = headers.iter().map(|line| format!("{line}\r\n")).collect();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\n{lines}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    tokio::time::timeout(DEADLINE, stream.read_to_end(&mut reply)).await.expect("an answer in time").unwrap();
    let reply = String::from_utf8(reply).unwrap();
    let (head, body) = reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {reply:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

#[tokio::test]
async fn every_route_but_healthz_is_shut() {
    let server = Server::start().await;
    let json = "Content-Type: application/json";
    for route in ROUTES.iter().filter(|route| route.surface == Surface::Http) {
        let (method, path) = (route.method.as_str(), route.path);
        let bare = server.ask(method, path, &[json], "").await.status;
        let expect = match route.access {
            Access::Open => 200,
            Access::Ticket => 400,
            Access::Needs(_) => 401,
        };
        assert_eq!(bare, expect, "{method} {path} without a credential");
        let wrong = server.ask(method, path, &[json, "Authorization: Bearer kas_wrong"], "").await.status;
        assert_eq!(wrong, expect, "{method} {path} with a wrong credential");
        let evil = ["Host: evil.test", json, "Authorization: Bearer kas_boot"];
        assert_eq!(
            exchange(server.tcp().await, method, path, &evil, "").await.status,
            421,
            "{method} {path}"
        );
        let origin = [json, "Origin: http://evil.test", "Authorization: Bearer kas_boot"];
        assert_eq!(server.ask(method, path, &origin, "").await.status, 403, "{method} {path} from elsewhere");
        if method != "GET" {
            let form = ["Content-Type: text/plain", "Authorization: Bearer kas_boot"];
            assert_eq!(server.ask(method, path, &form, "").await.status, 400, "{method} {path} as a form");
        }
    }
    for path in ["/api", "/api/v2/x", "/v1/status", "/v1/tokens", "//api/v1/projects", "/api/v1/nothing"] {
        assert_eq!(server.ask("GET", path, &[], "").await.status, 401, "{path} without a credential");
        assert_eq!(server.ask_in("GET", path, "").await.status, 404, "{path} with one");
    }
}

#[tokio::test]
async fn a_scope_opens_what_it_names_and_no_more() {
    let server = Server::start().await;
    let made = server.control("POST", "/v1/tokens", r#"{"scope":"view","name":"eyes"}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let bearer = format!("Authorization: Bearer {}", made["token"].as_str().unwrap());
    let headers = [bearer.as_str(), "Content-Type: application/json"];
    assert_eq!(server.ask("GET", "/openapi.json", &headers, "").await.status, 200);
    let run = Access::Needs(Scope::Run);
    for route in ROUTES.iter().filter(|route| route.access == run) {
        let reply = server.ask(route.method.as_str(), route.path, &headers, "").await;
        assert_eq!((reply.status, reply.code()), (403, "forbidden".into()), "{}", route.path);
    }

    let list = server.control("GET", "/v1/tokens", "").await.json();
    assert_eq!((&list["items"][0]["name"], &list["has_more"]), (&json!("eyes"), &json!(false)));
    assert_eq!(list["items"][0].get("token"), None);
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(server.control("DELETE", &path, "").await.status, 204);
    assert_eq!(server.ask("GET", "/openapi.json", &headers, "").await.status, 401);
    assert_eq!(server.vault.0.lock().unwrap().0.len(), 2, "made and revoked");
    assert_eq!(server.control("DELETE", "/v1/tokens/none", "").await.status, 404);
    assert_eq!(server.control("POST", "/v1/tokens", r#"{"scope":"root"}"#).await.status, 400);
}

#[tokio::test]
async fn a_browser_gets_in_with_a_ticket_and_then_needs_cookie_and_key() {
    let server = Server::start().await;
    let ticket = server.control("POST", "/v1/ticket", "").await.json();
    let url = format!("http://127.0.0.1:{}/#t={}", server.port, ticket["ticket"].as_str().unwrap());
    assert_eq!(ticket["url"], url);
    let origin = format!("Origin: http://127.0.0.1:{}", server.port);
    let headers = [origin.as_str(), "Content-Type: application/json"];
    let body = json!({ "ticket": ticket["ticket"] }).to_string();
    let opened = server.ask("POST", "/api/v1/session", &headers, &body).await;
    assert_eq!(opened.status, 200, "{opened:?}");
    assert_eq!(server.vault.0.lock().unwrap().1.len(), 1);
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with(&format!("kas_{}=", server.port)));
    assert!(cookie.contains("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
    assert_eq!(server.ask("POST", "/api/v1/session", &headers, &body).await.status, 401, "used");

    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    let key = format!("X-Kas-Key: {}", opened.json()["key"].as_str().unwrap());
    let status = async |headers: &[&str]| server.ask("GET", "/openapi.json", headers, "").await.status;
    assert_eq!(status(&[&cookie, &key]).await, 200);
    assert_eq!(status(&[&cookie]).await, 401);
    assert_eq!(status(&[&key]).await, 401);
    let all = [origin.as_str(), "Content-Type: application/json", &cookie, &key];
    let ticket = server.ask("POST", "/api/v1/session/ticket", &all, "{}").await;
    assert!(ticket.json()["ticket"].is_string() && ticket.json()["expires_at"].is_i64(), "{ticket:?}");
    let bearer = server.ask_in("POST", "/api/v1/session/ticket", "{}").await;
    assert_eq!(
        (bearer.status, bearer.json()["error"]["details"]["reason"].clone()),
        (400, json!("not_a_session"))
    );
}

#[tokio::test]
async fn methods_and_bodies_are_checked() {
    let server = Server::start().await;
    let wrong = server.ask_in("PUT", "/api/v1/projects", "{}").await;
    assert_eq!((wrong.status, wrong.code()), (405, "method_not_allowed".into()));
    assert_eq!(wrong.header("allow"), Some("GET, HEAD"));
    let wrong = server.ask_in("POST", "/some/page", "{}").await;
    assert_eq!((wrong.status, wrong.code()), (405, "method_not_allowed".into()));
    let head = server.ask_in("HEAD", "/openapi.json", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 100);

    let large = json!({ "ticket": "x".repeat(64 << 10) }).to_string();
    let large = server.ask_in("POST", "/api/v1/session", &large).await;
    assert_eq!((large.status, large.code()), (413, "payload_too_large".into()));
    let unknown = server.ask_in("POST", "/api/v1/session", r#"{"ticket":"a","tikcet":"b"}"#).await;
    assert_eq!((unknown.status, &unknown.json()["error"]["details"]["field"]), (400, &json!("tikcet")));
    let key = format!("Idempotency-Key: {}", "k".repeat(129));
    let headers = ["Authorization: Bearer kas_boot", "Content-Type: application/json", &key];
    let key = server.ask("POST", "/api/v1/projects/demo/tasks/run", &headers, r#"{"task":"test"}"#).await;
    assert_eq!(key.json()["error"]["details"]["reason"], "idempotency_key");
    let limit = server.ask_in("GET", "/api/v1/projects?limit=501", "").await;
    assert_eq!((limit.status, &limit.json()["error"]["details"]["field"]), (400, &json!("limit")));
    assert_eq!(server.ask_in("GET", "/api/v1/tasks/nonsense", "").await.status, 404);
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let server = Server::start().await;
    for path in ["/", "/healthz", "/metrics", "/api/v1/projects", "/nothing.js"] {
        let reply = server.ask("GET", path, &[], "").await;
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(reply.header("cross-origin-opener-policy"), Some("same-origin"));
        assert_eq!(reply.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(reply.header("access-control-allow-origin"), None);
        let cache = if path == "/" || path == "/nothing.js" { "no-cache" } else { "no-store" };
        assert_eq!(reply.header("cache-control"), Some(cache), "{path}");
    }
}

#[tokio::test]
async fn the_page_needs_the_right_site_and_nothing_else() {
    let server = Server::start().await;
    let page = server.ask("GET", "/", &[], "").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(server.ask("GET", "/projects/demo", &[], "").await.body, page.body, "the page's own address");
    assert_eq!(server.ask("GET", "/assets/none.js", &[], "").await.status, 404);
    let again = format!("If-None-Match: {}", page.header("etag").unwrap());
    let again = server.ask("GET", "/", &[&again], "").await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    let rebound = exchange(server.tcp().await, "GET", "/", &["Host: evil.test"], "").await;
    assert_eq!(rebound.status, 421);
    let health = server.ask("GET", "/healthz", &[], "").await;
    assert_eq!((health.status, health.body.as_str()), (200, ""));
}

#[tokio::test]
async fn the_control_socket_is_ours_alone() {
    let server = Server::start().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&server.socket), mode(server.socket.parent().unwrap())), (0o600, 0o700));
    assert_eq!(server.control("GET", "/v1/ping", "").await.status, 200);
    assert_eq!(server.control("GET", "/openapi.json", "").await.status, 200, "the whole API is here too");
    assert!(matches!(bind_control(&server.socket), Err(ServeError::InUse(_))));
}

#[tokio::test]
async fn a_control_socket_is_opened_only_in_a_safe_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).join("kas.sock");
    let make = |name: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    make("open", 0o755);
    assert!(matches!(bind_control(&at("open")), Err(ServeError::UnsafeDirectory(_))));
    let private = make("private", 0o700);
    std::os::unix::fs::symlink(&private, dir.path().join("link")).unwrap();
    assert!(matches!(bind_control(&at("link")), Err(ServeError::UnsafeDirectory(_))));
    std::fs::write(at("private"), "not a socket").unwrap();
    assert!(matches!(bind_control(&at("private")), Err(ServeError::InTheWay(_))));
    std::fs::remove_file(at("private")).unwrap();
    drop(bind_control(&at("private")).unwrap());
    assert!(bind_control(&at("private")).is_ok(), "a leftover is replaced");
    let long = private.join("x".repeat(100)).join("y".repeat(100));
    assert!(bind_control(&long.join("kas.sock")).is_ok(), "longer than a socket address");
}

#[tokio::test]
async fn slow_heads_are_cut_and_do_not_disturb_others() {
    let server = Server::start().await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = server.tcp().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.unwrap();
        slow.push(stream);
    }
    slow.push(server.tcp().await);
    let began = tokio::time::Instant::now();
    assert_eq!(server.ask("GET", "/healthz", &[], "").await.status, 200);
    assert!(began.elapsed() < Duration::from_secs(2));
    for mut stream in slow {
        let mut rest = Vec::new();
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("cut in time").ok();
    }
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_head_has_limits() {
    let server = Server::start().await;
    let long = format!("X-Long: {}", "x".repeat(20 << 10));
    assert_eq!(server.ask("GET", "/healthz", &[&long], "").await.status, 431);
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(server.ask("GET", "/healthz", &many, "").await.status, 431);
}

#[tokio::test]
async fn closing_ends_idle_connections_and_the_listeners() {
    let mut server = Server::start().await;
    let mut idle = server.tcp().await;
    let host = format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", server.port);
    idle.write_all(host.as_bytes()).await.unwrap();
    assert!(idle.read_u8().await.is_ok());
    server.closing.send_replace(true);
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, idle.read_to_end(&mut rest)).await.expect("closed in time").unwrap();
    tokio::time::timeout(DEADLINE, server.tasks.join_next()).await.expect("served in time").unwrap().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", server.port)).await.is_err());
}

/// Every route of the table is described, with its parameters, and nothing else is.
#[test]
fn openapi_describes_the_table() {
    let document: Value = serde_json::from_str(include_str!("openapi.json")).unwrap();
    let described: std::collections::BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let served: std::collections::BTreeSet<String> = ROUTES
        .iter()
        .map(|route| {
            let path: Vec<_> = route
                .path
                .split('/')
                .map(|part| part.strip_prefix(':').map_or(part.to_owned(), |name| format!("{{{name}}}")))
                .collect();
            format!("{} {}", route.method, path.join("/"))
        })
        .collect();
    assert_eq!(described, served);
    for (path, item) in document["paths"].as_object().unwrap() {
        let named: Vec<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
        let empty = vec![];
        let given = item["parameters"].as_array().unwrap_or(&empty).iter();
        let given: Vec<&str> = given.map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(given, named, "{path}");
    }
    references(&document, &document);
}

/// Every `$ref` leads somewhere.
fn references(document: &Value, part: &Value) {
    if let Some(target) = part["$ref"].as_str() {
        let pointer = target.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
    let parts: Vec<&Value> = match part {
        Value::Array(parts) => parts.iter().collect(),
        Value::Object(parts) => parts.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
    };
    parts.into_iter().for_each(|part| references(document, part));
}
