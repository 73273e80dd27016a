//! HTTP inside TLS: what browsers of other machines get, and what is kept from them.

mod issued;
mod refused;

use std::fs;
use std::sync::Arc;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, SupportedProtocolVersion};

use crate::harness::{Backend, Caller, Viewer, World, soon};
use issued::{Issued, NAME};

const PROJECT: &str = "project: demo\ntasks: {greet: {command: 'echo hello from afar'}}";

/// A daemon with TLS on any port of 127.0.0.1, and its certificate.
fn served() -> (World, Issued) {
    let mut world = World::asleep(Backend::Pty, "");
    let issued = Issued::new(&world, "first");
    world.configure(&format!("http_addr = \"127.0.0.1:0\"\n{}", issued.configuration()));
    world.start();
    (world, issued)
}

async fn status(world: &World) -> Value {
    world.get("/v1/status").await.expect(200)
}

/// The daemon's port.
async fn port(world: &World) -> u16 {
    let status = status(world).await;
    status["http_addr"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
}

/// Somebody who trusts this certificate and has the daemon's token.
async fn caller(world: &World, address: &str, issued: &Issued) -> Caller {
    let token = fs::read_to_string(world.state_dir().join("token")).unwrap();
    Caller::Tls {
        address: format!("{address}:{}", port(world).await),
        name: NAME.to_owned(),
        config: issued.client(),
        token: token.trim().to_owned(),
        recordings: world.path("recordings"),
    }
}

/// What comes of bytes sent without TLS, until the daemon closes.
async fn sent_plainly(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // What was sent and not read makes the kernel end the connection with a reset, after what it had to say.
    let _ = soon("the end of a connection", stream.read_to_end(&mut answer)).await;
    answer
}

/// A handshake; the certificate that was shown, the version, and the protocol inside.
async fn handshake(
    port: u16,
    config: Arc<ClientConfig>,
) -> std::io::Result<(Vec<u8>, String, Option<Vec<u8>>)> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let stream = soon("a handshake", TlsConnector::from(config).connect(name, stream)).await?;
    let (_, session) = stream.get_ref();
    Ok((
        session.peer_certificates().unwrap()[0].to_vec(),
        format!("{:?}", session.protocol_version().unwrap()),
        session.alpn_protocol().map(<[u8]>::to_vec),
    ))
}

/// On every address of the machine, under the name that was configured: the page, the API, a terminal, and the links.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_are_served_under_the_name_of_the_certificate() {
    let world = World::asleep(Backend::Pty, "");
    let issued = Issued::new(&world, "first");
    world.configure(&issued.configuration());
    let started = world.kas(&["daemon", "start", "--http", "0.0.0.0:0"]);
    let port = port(&world).await;
    assert!(started.stdout.contains(&format!("https://{NAME}:{port}")), "{started:?}");
    assert_eq!(status(&world).await["http_url"], format!("https://{NAME}:{port}"));
    assert!(world.kas(&["daemon", "status"]).stdout.contains(&format!("https://{NAME}:{port}")));
    world.project("demo", PROJECT).await;

    let far = caller(&world, "127.0.0.2", &issued).await;
    let page = far.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").unwrap().contains("connect-src 'self'"));
    assert_eq!(page.header("strict-transport-security"), None, "it would hold for every port of the name");
    let launched = far.post("/api/v1/projects/demo/tasks/run", json!({"task": "greet"})).await.expect(202);
    let seen = Viewer::open(&far, "demo").await.whole(launched["id"].as_str().unwrap()).await;
    assert_eq!(seen.bytes, b"hello from afar\r\n");

    let link = world.kas(&["open", "--no-browser"]).stdout;
    let ticket = link.trim().strip_prefix(&format!("https://{NAME}:{port}/#t=")).unwrap().to_owned();
    let shared = world.kas(&["token", "create", "--scope", "view"]).stderr;
    assert!(shared.contains(&format!("https://{NAME}:{port}/#s=")), "{shared}");
    let origin = format!("https://{NAME}:{port}");
    let exchange = |origin: String, ticket: String| {
        let far = far.clone();
        async move {
            let body = json!({ "ticket": ticket });
            let headers = [("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
            far.ask(hyper::Method::POST, "/api/v1/session", &headers, Some(&body)).await
        }
    };
    for foreign in
        [format!("http://{NAME}:{port}"), "https://evil.test".to_owned(), format!("https://{NAME}")]
    {
        exchange(foreign, ticket.clone()).await.refused(403, "forbidden", "origin");
    }
    let session = exchange(origin, ticket).await;
    session.expect(200);
    let cookie = session.header("set-cookie").unwrap();
    assert!(cookie.starts_with(&format!("kas_{port}=")), "{cookie}");
    for part in ["; Secure", "; HttpOnly", "; SameSite=Strict", "; Path=/"] {
        assert!(cookie.contains(part), "{part} is not in {cookie}");
    }
    for host in
        [format!("evil.test:{port}"), format!("0.0.0.0:{port}"), NAME.to_owned(), format!("127.0.0.2:{port}")]
    {
        let answer =
            over_tls(port, issued.client(), &format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 421 "), "{host}: {answer}");
    }
    assert_eq!(world.kas(&["daemon", "stop"]).code, Some(0));
}

/// The first bytes of the answer to a request inside TLS.
async fn over_tls(port: u16, config: Arc<ClientConfig>, request: &str) -> String {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let name = ServerName::try_from(NAME).unwrap();
    let mut stream = soon("a handshake", TlsConnector::from(config).connect(name, stream)).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let count = soon("an answer", stream.read(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer[..count]).into_owned()
}

/// Nothing is told and nobody is let in without a credential, also inside TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_is_no_credential() {
    let (world, issued) = served();
    let port = port(&world).await;
    for path in ["/api/v1/projects", "/api/v1/audit-events", "/metrics", "/readyz"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {NAME}:{port}\r\n\r\n");
        let answer = over_tls(port, issued.client(), &request).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{path}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_tls_is_told_so_and_closed() {
    let (world, issued) = served();
    let port = port(&world).await;
    let request = format!("GET / HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n\r\n");
    let answer = String::from_utf8(sent_plainly(port, request.as_bytes()).await).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("https://"), "{answer}");
    assert!(answer.contains("connection: close") && !answer.contains("<script"), "{answer}");
    // A hello that breaks off in nonsense gets an alert, or nothing.
    let answer = sent_plainly(port, b"\x16\x03\x01\x00\x05nonsense that is no hello at all").await;
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
    assert!(handshake(port, issued.client()).await.is_ok());
}

/// Old versions are refused, the two new ones served, and HTTP/1.1 is what is spoken inside.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_and_protocols() {
    let (world, issued) = served();
    let port = port(&world).await;
    let with = |versions: &[&'static SupportedProtocolVersion], protocols: &[&str]| {
        let trusting = issued.client();
        let builder = ClientConfig::builder_with_provider(trusting.crypto_provider().clone());
        let builder = builder.with_protocol_versions(versions).unwrap();
        let mut config = builder.with_root_certificates(issued.roots()).with_no_client_auth();
        config.alpn_protocols = protocols.iter().map(|word| word.as_bytes().to_vec()).collect();
        Arc::new(config)
    };
    let http = Some(b"http/1.1".to_vec());
    for (version, name) in [(&TLS12, "TLSv1_2"), (&TLS13, "TLSv1_3")] {
        let (_, spoken, protocol) = handshake(port, with(&[version], &["h2", "http/1.1"])).await.unwrap();
        assert_eq!((spoken.as_str(), &protocol), (name, &http));
    }
    assert_eq!(handshake(port, with(&[&TLS13], &[])).await.unwrap().2, None);
    assert!(handshake(port, with(&[&TLS13], &["h2"])).await.is_err(), "HTTP/2 is not spoken");
    for old in ["-tls1", "-tls1_1"] {
        let words = ["s_client", "-connect", &format!("127.0.0.1:{port}"), old, "-cipher", "ALL:@SECLEVEL=0"];
        let done = world.command("openssl", &words).output().unwrap();
        let said =
            String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
        assert!(
            !done.status.success() && said.contains("SSL alert") && said.contains("Cipher is (NONE)"),
            "{old}: {said}"
        );
    }
}

/// Connections that stop in the middle of their hello are cut, and nobody waits for them meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handshake_that_stalls_is_cut_and_holds_up_nobody() {
    let (world, issued) = served();
    let port = port(&world).await;
    let mut stalled = Vec::new();
    for part in [&b""[..], b"\x16", b"\x16\x03\x01\x02\x00\x01\x00"].repeat(20) {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        stream.write_all(part).await.unwrap();
        stalled.push(stream);
    }
    let near = caller(&world, "127.0.0.1", &issued).await;
    near.get("/api/v1/projects").await.expect(200);
    for mut stream in stalled {
        let mut rest = Vec::new();
        let _ = soon("the end of a stalled handshake", stream.read_to_end(&mut rest)).await;
    }
    near.get("/api/v1/projects").await.expect(200);
}

/// A new certificate in the same files is taken at the next reload, by either way of asking; a bad one is told, and the one before stays.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_certificate_is_taken_up_by_a_reload() {
    let (world, issued) = served();
    let port = port(&world).await;
    let first = issued.client();
    let before = caller(&world, "127.0.0.1", &issued).await;
    world.project("demo", PROJECT).await;
    let mut open = Viewer::open(&before, "demo").await;
    assert!(handshake(port, first.clone()).await.is_ok());

    let [second, third] = ["second", "third"].map(|name| Issued::new(&world, name));
    second.replace(&issued);
    assert!(handshake(port, first.clone()).await.is_ok(), "nothing changes before the reload");
    let reloaded = world.kas(&["daemon", "reload"]);
    assert_eq!(reloaded.stdout.trim(), "reloaded; changed: http.tls_cert");
    assert!(handshake(port, first).await.is_err(), "the new one is not the old one");
    assert!(handshake(port, second.client()).await.is_ok());
    assert_eq!(world.kas(&["daemon", "reload"]).stdout.trim(), "reloaded");

    fs::write(&issued.cert, "no certificate").unwrap();
    let refused = world.post("/v1/reload", json!({})).await;
    let details = refused.refused(400, "invalid_request", "config_invalid");
    assert!(details["problems"].to_string().contains("holds no certificate"), "{details}");
    assert!(handshake(port, second.client()).await.is_ok());

    third.replace(&issued);
    let more = "[limits]\ntasks_per_project = 5";
    world.configure(&format!("http_addr = \"127.0.0.1:0\"\n{}{more}", issued.configuration()));
    world.signal(Signal::HUP);
    world.logged("applied=[\"limits.tasks_per_project\", \"http.tls_cert\"]");
    assert!(handshake(port, third.client()).await.is_ok());

    // A connection keeps the certificate it began with.
    let launched = world.launch("demo", json!({"task": "greet"})).await;
    let mut seen = open.watch(launched["id"].as_str().unwrap(), json!({})).await;
    open.follow(&mut seen, |seen| seen.exit.is_some()).await;
    assert_eq!(seen.bytes, b"hello from afar\r\n");
}

/// What the daemon says of a certificate that is not for its names, and what kinds of keys it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_of_certificates() {
    let mut world = World::asleep(Backend::Pty, "");
    for kind in ["rsa:2048", "ed25519", "ec"] {
        let issued = Issued::of(&world, kind.split(':').next().unwrap(), kind);
        let certificate = issued.read().unwrap();
        let names = [NAME, "127.0.0.1", "[::1]", "other.test"].map(str::to_owned);
        assert_eq!(certificate.lacks(&names), ["[::1]", "other.test"]);
        let more = issued.configuration().replace(NAME, "other.test");
        world.configure(&more);
        world.start();
        world.logged("is not for other.test");
        let port = port(&world).await;
        assert!(handshake(port, issued.client()).await.is_ok(), "{kind}");
        let log = world.log();
        assert!(!log.contains("PRIVATE KEY"), "{log}");
        assert!(world.end(Signal::TERM).success());
    }
}
