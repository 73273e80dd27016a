//! A daemon of the test's own: the real binary in a private home, asked over both of its surfaces.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// How long anything may take before a test says that it will not happen.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

const PROJECT: &str = r#"
tasks:
  hello: {command: "printf 'one\\n\\033[31mtwo\\033[0m\\nthree\\n'", description: Says three lines}
  fails: {command: "echo no; exit 7"}
  waits: {command: "echo up; exec sleep 600", long_running: true}
  echoes: {command: "stty raw -echo; printf ready; exec cat"}
  asks: {command: "echo sure", confirm: true}
  bytes: {command: "stty raw -echo; perl -e 'for (1..300) { print map chr, 0..255 }'"}
"#;

/// A running daemon with the project `demo` on the PTY backend.
pub(crate) struct Served {
    home: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) token: String,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) bytes: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.bytes).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The error's code and its `details.reason`.
    pub(crate) fn error(&self) -> (String, String) {
        let error = &self.json()["error"];
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (word(&error["code"]), word(&error["details"]["reason"]))
    }
}

impl Served {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write(".config/kasmos/daemon.toml", "[task_runner]\nbackend = \"pty\"\n");
        write("demo/.kaged/project.yaml", PROJECT);
        write("run/.keep", "");
        let mut served = Self { home, port: 0, token: String::new() };
        let started = served.kas(&["daemon", "start", "--http", "127.0.0.1:0"]).output().unwrap();
        assert!(started.status.success(), "{started:?}");
        let status = served.control("GET", "/v1/status", "").await.json();
        let address = status["http_addr"].as_str().unwrap();
        served.port = address.rsplit_once(':').unwrap().1.parse().unwrap();
        let token = fs::read_to_string(served.home.path().join(".local/state/kasmos/token")).unwrap();
        served.token = token.trim().to_owned();
        let added = served.control("POST", "/v1/repos", &format!("{{\"path\":{:?}}}", served.demo())).await;
        assert_eq!(added.status, 201, "{added:?}");
        served
    }

    pub(crate) fn demo(&self) -> PathBuf {
        self.home.path().join("demo")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    pub(crate) fn kas(&self, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kas"));
        command.args(words).current_dir(self.home.path()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", self.home.path());
        command.env("XDG_RUNTIME_DIR", self.path("run")).env("TMUX_TMPDIR", self.home.path());
        command.stdin(Stdio::null());
        command
    }

    pub(crate) async fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }

    pub(crate) async fn unix(&self) -> UnixStream {
        UnixStream::connect(self.path("run/kasmos/kas.sock")).await.unwrap()
    }

    /// Asks over HTTP; `headers` are whole lines without the line end.
    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Reply {
        let host = format!("Host: 127.0.0.1:{}", self.port);
        let mut all = vec![host.as_str()];
        all.extend(headers);
        exchange(self.tcp().await, method, path, &all, body).await
    }

    /// The same with the bootstrap token, as JSON.
    pub(crate) async fn api(&self, method: &str, path: &str, body: &str) -> Reply {
        self.api_with(method, path, &[], body).await
    }

    /// The same with more headers.
    pub(crate) async fn api_with(&self, method: &str, path: &str, more: &[&str], body: &str) -> Reply {
        let bearer = format!("Authorization: Bearer {}", self.token);
        let mut headers = vec![bearer.as_str(), "Content-Type: application/json"];
        headers.extend(more);
        self.ask(method, &format!("/api/v1{path}"), &headers, body).await
    }

    /// Asks over the control socket.
    pub(crate) async fn control(&self, method: &str, path: &str, body: &str) -> Reply {
        exchange(self.unix().await, method, path, &["Host: kas"], body).await
    }

    /// Launches a task and answers its id.
    pub(crate) async fn launch(&self, task: &str) -> String {
        let body = format!("{{\"task\":{task:?}}}");
        let run = self.api("POST", "/projects/demo/tasks/run", &body).await;
        assert_eq!(run.status, 202, "{run:?}");
        run.json()["id"].as_str().unwrap().to_owned()
    }

    /// Waits for the end of an instance, as `kas wait` does, and answers it.
    pub(crate) async fn ended(&self, id: &str) -> Value {
        let waited = self.kas(&["wait", id, "--timeout", "60"]).output().unwrap();
        let instance = self.api("GET", &format!("/tasks/{id}"), "").await.json();
        assert!(instance["exited_at"].is_i64(), "{waited:?} {instance}");
        instance
    }
}

impl Drop for Served {
    /// Ends what still runs, then the daemon: nothing outlives the test.
    fn drop(&mut self) {
        let _ = self.kas(&["daemon", "remove", "demo"]).output();
        let _ = self.kas(&["daemon", "stop"]).output();
    }
}

pub(crate) async fn exchange(
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
    let end = reply.windows(4).position(|four| four == b"\r\n\r\n").expect("the end of a head");
    let head = String::from_utf8(reply[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body = reply.split_off(end + 4);
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Reply { status, head, bytes: if chunked { dechunk(&body) } else { body } }
}

/// The bytes of a chunked body (RFC 9112, §7.1), which must be whole.
fn dechunk(mut body: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&body[..end]).unwrap(), 16).unwrap();
        body = &body[end + 2..];
        if size == 0 {
            return all;
        }
        all.extend_from_slice(&body[..size]);
        body = &body[size + 2..];
    }
}
