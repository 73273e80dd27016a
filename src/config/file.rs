//! `daemon.toml`: every key of `seeds/002` and of `spec/protocol.md` §7, all optional, none unknown.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::{DeTable, DeValue};

use super::keys::{Keys, Wrong, boolean, choice, integer, list, seconds, text, wrong};
use super::task_env::is_pattern;
use super::{Error, Invalid, read_source};
use crate::project::{Problem, Source};

/// The most names a daemon may have; more are refused.
const MAX_NAMES: usize = 16;

/// Where HTTP is served; `None` when it is off. Port 0 takes any free one.
pub type HttpAddr = Option<SocketAddr>;

/// The configuration with its defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Time between two scans of the repositories for signals.
    pub poll_interval_sec: Duration,
    /// Directories of the projects to manage from the start; absolute.
    pub repos: Vec<PathBuf>,
    /// Whether plans go from planning to ready by themselves.
    pub auto_advance: bool,
    /// Whether the next wave starts when all tasks of one are complete.
    pub auto_advance_waves: bool,
    /// Whether a fixer starts when a review asks for changes.
    pub auto_review_fix: bool,
    /// Whether the readiness gate runs after a reviewer's approval.
    pub auto_readiness_review: bool,
    /// The most rounds of review and fix; 0 is no limit.
    pub max_review_fix_cycles: u64,
    /// The most net lines the readiness gate may change itself in one attempt.
    pub readiness_self_fix_max_lines: u64,
    /// After how many failed verifications a plan is approved anyway.
    pub readiness_max_verify_cycles: u64,
    /// The control socket, when it is not at its default place; absolute.
    pub socket_path: Option<PathBuf>,
    /// Where HTTP is served.
    pub http_addr: HttpAddr,
    /// How HTTP is served there.
    pub http: Http,
    /// Watching of pull requests.
    pub pr_monitor: PrMonitor,
    /// How tasks are run.
    pub task_runner: TaskRunner,
    /// Limits of tasks and their output.
    pub limits: Limits,
}

/// `[http]`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Http {
    /// The certificate for TLS with those that lead from it to a root, PEM; absolute. With one there is no plain HTTP.
    pub tls_cert: Option<PathBuf>,
    /// Its private key, PEM, readable by its owner only; absolute.
    pub tls_key: Option<PathBuf>,
    /// Names and addresses under which browsers reach the page, as they stand in a `Host` header; links lead to the first one. At most
    /// [`MAX_NAMES`].
    pub names: Vec<String>,
}

impl Http {
    /// The files for TLS, if it is on.
    #[must_use]
    pub fn tls(&self) -> Option<(&Path, &Path)> {
        self.tls_cert.as_deref().zip(self.tls_key.as_deref())
    }
}

/// `[pr_monitor]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrMonitor {
    /// Whether pull requests are polled.
    pub enabled: bool,
    /// Time between two polls.
    pub poll_interval_sec: Duration,
    /// Reactions added to comments that were not worked on yet.
    pub reactions: Vec<String>,
}

/// `[task_runner]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskRunner {
    /// What tasks run in.
    pub backend: BackendChoice,
    /// What becomes of running PTY tasks when the daemon starts again.
    pub pty_on_restart: PtyOnRestart,
    /// Variables of the daemon's environment that tasks inherit besides the usual ones; `PREFIX*` is all that begin so.
    pub pass_env: Vec<String>,
    /// `[task_runner.tmux]`.
    pub tmux: TmuxSettings,
}

/// `[task_runner.tmux]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TmuxSettings {
    /// Which server.
    pub socket: TmuxSocket,
    /// Which configuration a server that kas has to start gets.
    pub config: TmuxConfig,
    /// Where the live output of a task's pane comes from.
    pub output: TmuxOutput,
}

/// What the operator wants tasks to run in (`seeds/004`, "Backend resolution").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendChoice {
    /// tmux if there is a usable one, else PTYs.
    Auto,
    /// tmux, and no start without it.
    Tmux,
    /// PTYs.
    Pty,
}

/// What becomes of PTY tasks that run while the daemon restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PtyOnRestart {
    /// They are taken over.
    Reattach,
    /// They are marked failed.
    Fail,
}

/// Which tmux server is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TmuxSocket {
    /// The one plain `tmux attach` reaches.
    Default,
    /// The one `tmux -L <name>` reaches; letters, digits, `.`, `_`, `-`.
    Named(String),
}

/// Which configuration a tmux server started by kas reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TmuxConfig {
    /// The operator's if there is one, else kas's own small one.
    Auto,
    /// kas's own small one.
    Min,
    /// The operator's.
    User,
}

/// Where the live output of a task's pane comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TmuxOutput {
    /// tmux's control mode.
    Control,
    /// The shim in the pane.
    Shim,
}

/// `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Unfinished tasks of one project.
    pub tasks_per_project: u64,
    /// Unfinished tasks of one operator in all projects.
    pub tasks_per_operator: u64,
    /// Bytes of output kept of one run.
    pub transcript_bytes: u64,
    /// Lines of scrollback of a terminal.
    pub scrollback_lines: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            poll_interval_sec: Duration::from_secs(2),
            repos: Vec::new(),
            auto_advance: false,
            auto_advance_waves: true,
            auto_review_fix: true,
            auto_readiness_review: true,
            max_review_fix_cycles: 0,
            readiness_self_fix_max_lines: 80,
            readiness_max_verify_cycles: 2,
            socket_path: None,
            http_addr: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 7440))),
            http: Http::default(),
            pr_monitor: PrMonitor {
                enabled: false,
                poll_interval_sec: Duration::from_secs(60),
                reactions: vec!["eyes".to_owned()],
            },
            task_runner: TaskRunner {
                backend: BackendChoice::Auto,
                pty_on_restart: PtyOnRestart::Reattach,
                pass_env: Vec::new(),
                tmux: TmuxSettings {
                    socket: TmuxSocket::Default,
                    config: TmuxConfig::Auto,
                    output: TmuxOutput::Control,
                },
            },
            limits: Limits {
                tasks_per_project: 8,
                tasks_per_operator: 32,
                transcript_bytes: 10 * 1024 * 1024,
                scrollback_lines: 10_000,
            },
        }
    }
}

impl Config {
    /// Whether HTTP may be served: to this machine only, or with TLS and under known names. A credential is asked for in any case.
    ///
    /// # Errors
    /// [`Error::NotLoopback`], [`Error::HalfTls`], [`Error::NoName`].
    pub fn check_http(&self) -> Result<(), Error> {
        let Some(addr) = self.http_addr else { return Ok(()) };
        let Http { tls_cert, tls_key, names } = &self.http;
        match (tls_cert, tls_key) {
            (Some(_), None) => Err(Error::HalfTls { set: "tls_cert", missing: "tls_key" }),
            (None, Some(_)) => Err(Error::HalfTls { set: "tls_key", missing: "tls_cert" }),
            (None, None) if !addr.ip().is_loopback() => Err(Error::NotLoopback { addr }),
            (Some(_), Some(_)) if addr.ip().is_unspecified() && names.is_empty() => {
                Err(Error::NoName { addr })
            }
            (Some(_), Some(_)) | (None, None) => Ok(()),
        }
    }
}

/// Reads the configuration: of `explicit` (`--config`), which must exist, or of `default`, which need not.
///
/// # Errors
/// Everything that is wrong with the file at once ([`Error::Invalid`]), or why it cannot be read, or [`Error::NotLoopback`].
pub fn load(explicit: Option<&Path>, default: &Path) -> Result<Config, Error> {
    let source = match read_source(explicit.unwrap_or(default)) {
        Err(Error::NotFound { .. }) if explicit.is_none() => return Ok(Config::default()),
        other => other?,
    };
    let config = parse(source).map_err(Error::Invalid)?;
    config.check_http()?;
    Ok(config)
}

/// Reads the text of a `daemon.toml`.
///
/// # Errors
/// All its problems.
pub fn parse(source: Source) -> Result<Config, Invalid> {
    let mut problems = Vec::new();
    let mut config = Config::default();
    match source.text() {
        Err(problem) => problems.push(problem),
        Ok(text) => {
            let (table, errors) = DeTable::parse_recoverable(text);
            for error in &errors {
                let span = error.span().unwrap_or(0..0);
                let problem = source.problem(span, format!("not valid TOML: {}", error.message()));
                // One slip often breaks several rules; the first one told of a line is the telling one.
                if problems.last().is_none_or(|last: &Problem| last.line != problem.line) {
                    problems.push(problem);
                }
            }
            // After a syntax error the rest of the table is a guess, and so would be problems found in it.
            if errors.is_empty() {
                let mut keys = Keys::top(&source, table.get_ref(), &mut problems);
                read_keys(&mut keys, &mut config);
                keys.finish();
            }
        }
    }
    problems.sort_by_key(|problem| problem.span.start);
    if problems.is_empty() { Ok(config) } else { Err(Invalid { source, problems }) }
}

fn read_keys(keys: &mut Keys<'_>, config: &mut Config) {
    keys.key("poll_interval_sec", &mut config.poll_interval_sec, seconds);
    keys.key("repos", &mut config.repos, list(absolute));
    keys.key("auto_advance", &mut config.auto_advance, boolean);
    keys.key("auto_advance_waves", &mut config.auto_advance_waves, boolean);
    keys.key("auto_review_fix", &mut config.auto_review_fix, boolean);
    keys.key("auto_readiness_review", &mut config.auto_readiness_review, boolean);
    keys.key("max_review_fix_cycles", &mut config.max_review_fix_cycles, integer(0..=1_000_000));
    keys.key(
        "readiness_self_fix_max_lines",
        &mut config.readiness_self_fix_max_lines,
        integer(0..=1_000_000),
    );
    keys.key("readiness_max_verify_cycles", &mut config.readiness_max_verify_cycles, integer(0..=1_000_000));
    keys.key("socket_path", &mut config.socket_path, path_or_none);
    keys.key("http_addr", &mut config.http_addr, http_addr);
    keys.table("http", |keys| {
        keys.key("tls_cert", &mut config.http.tls_cert, path_or_none);
        keys.key("tls_key", &mut config.http.tls_key, path_or_none);
        keys.key("names", &mut config.http.names, names);
    });
    keys.table("pr_monitor", |keys| {
        let it = &mut config.pr_monitor;
        keys.key("enabled", &mut it.enabled, boolean);
        keys.key("poll_interval_sec", &mut it.poll_interval_sec, seconds);
        keys.key("reactions", &mut it.reactions, list(text));
    });
    keys.table("task_runner", |keys| read_task_runner(keys, &mut config.task_runner));
    keys.table("limits", |keys| {
        let it = &mut config.limits;
        keys.key("tasks_per_project", &mut it.tasks_per_project, integer(1..=1000));
        keys.key("tasks_per_operator", &mut it.tasks_per_operator, integer(1..=1000));
        keys.key("transcript_bytes", &mut it.transcript_bytes, integer(65_536..=1_073_741_824));
        keys.key("scrollback_lines", &mut it.scrollback_lines, integer(0..=100_000));
    });
}

fn read_task_runner(keys: &mut Keys<'_>, config: &mut TaskRunner) {
    let backends =
        [("auto", BackendChoice::Auto), ("tmux", BackendChoice::Tmux), ("pty", BackendChoice::Pty)];
    keys.key("backend", &mut config.backend, choice(&backends));
    let restarts = [("reattach", PtyOnRestart::Reattach), ("fail", PtyOnRestart::Fail)];
    keys.key("pty_on_restart", &mut config.pty_on_restart, choice(&restarts));
    keys.key("pass_env", &mut config.pass_env, list(variable));
    keys.table("tmux", |keys| {
        let it = &mut config.tmux;
        keys.key("socket", &mut it.socket, tmux_socket);
        let configs = [("auto", TmuxConfig::Auto), ("min", TmuxConfig::Min), ("user", TmuxConfig::User)];
        keys.key("config", &mut it.config, choice(&configs));
        let outputs = [("control", TmuxOutput::Control), ("shim", TmuxOutput::Shim)];
        keys.key("output", &mut it.output, choice(&outputs));
    });
}

fn variable(value: &DeValue<'_>) -> Result<String, Wrong> {
    let name = text(value)?;
    if is_pattern(&name) {
        return Ok(name);
    }
    let hint = Some("write `NAME`, or `PREFIX*` for all that begin so".to_owned());
    Err(Wrong { message: format!("must be the name of a variable, not \"{}\"", name.escape_debug()), hint })
}

fn absolute(value: &DeValue<'_>) -> Result<PathBuf, Wrong> {
    let path = PathBuf::from(text(value)?);
    if path.is_absolute() {
        return Ok(path);
    }
    let hint = Some("`~` and variables are not expanded here".to_owned());
    Err(Wrong { message: format!("must be an absolute path, not \"{}\"", path.display()), hint })
}

fn path_or_none(value: &DeValue<'_>) -> Result<Option<PathBuf>, Wrong> {
    if text(value)?.is_empty() { Ok(None) } else { absolute(value).map(Some) }
}

fn names(value: &DeValue<'_>) -> Result<Vec<String>, Wrong> {
    let names = list(name)(value)?;
    if names.len() <= MAX_NAMES { Ok(names) } else { wrong(format!("may have {MAX_NAMES} names")) }
}

/// A host name, or an address, as browsers write it into `Host`: in lower case, an IPv6 address in brackets.
fn name(value: &DeValue<'_>) -> Result<String, Wrong> {
    let text = text(value)?;
    match text.trim_start_matches('[').trim_end_matches(']').parse() {
        Ok(IpAddr::V4(it)) if !it.is_unspecified() => return Ok(it.to_string()),
        Ok(IpAddr::V6(it)) if !it.is_unspecified() => return Ok(format!("[{it}]")),
        Ok(_) | Err(_) => {}
    }
    let of_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let label = |it: &str| (1..=63).contains(&it.len()) && it.bytes().all(of_name);
    // A name whose last part is a number is an address to browsers.
    let last = text.rsplit('.').next().unwrap_or_default();
    if text.len() <= 253 && text.split('.').all(label) && !last.bytes().all(|it| it.is_ascii_digit()) {
        return Ok(text);
    }
    let hint = Some(
        "write it as in the address bar, such as \"kas.example.org\", in lower case and without a port"
            .to_owned(),
    );
    Err(Wrong { message: "must be a host name or an address".to_owned(), hint })
}

fn http_addr(value: &DeValue<'_>) -> Result<HttpAddr, Wrong> {
    parse_http_addr(&text(value)?).or_else(|error| wrong(format!("is not right: {error}")))
}

fn tmux_socket(value: &DeValue<'_>) -> Result<TmuxSocket, Wrong> {
    let name = text(value)?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name == "default" {
        Ok(TmuxSocket::Default)
    } else if (1..=64).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with(['.', '-']) {
        Ok(TmuxSocket::Named(name))
    } else {
        wrong(
            "must be \"default\" or a socket name: 1 to 64 letters, digits, `.`, `_`, `-`, no `.` or `-` first",
        )
    }
}

/// Reads `127.0.0.1:7440`, `[::1]:0`, `localhost:7440`, or nothing for no HTTP. Any address passes here; [`Config::check_http`]
/// says whether it may be served.
///
/// # Errors
/// [`Error::BadAddress`].
pub fn parse_http_addr(text: &str) -> Result<HttpAddr, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let port = text.strip_prefix("localhost:").and_then(|port| port.parse::<u16>().ok());
    let local = port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
    let bad = || Error::BadAddress { text: text.chars().take(80).flat_map(char::escape_debug).collect() };
    local.or_else(|| text.parse().ok()).map(Some).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expect: &[&str]) {
        let problems = parse(Source::new("t", text)).map_or_else(|invalid| invalid.problems, |_| Vec::new());
        let shown: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert_eq!(shown, expect, "{text}");
    }

    #[test]
    fn nothing_written_is_the_defaults() {
        assert_eq!(parse(Source::new("t", "")), Ok(Config::default()));
    }

    #[test]
    fn the_documented_file_is_the_defaults() {
        let text = r#"
poll_interval_sec = 2.0
repos = []
auto_advance = false
auto_advance_waves = true
auto_review_fix = true
auto_readiness_review = true
max_review_fix_cycles = 0
readiness_self_fix_max_lines = 80
readiness_max_verify_cycles = 2
socket_path = ""
http_addr = "127.0.0.1:7440"
[http]
tls_cert = ""
tls_key = ""
names = []
[pr_monitor]
enabled = false
poll_interval_sec = 60.0
reactions = ["eyes"]
[task_runner]
backend = "auto"
pty_on_restart = "reattach"
[task_runner.tmux]
socket = "default"
config = "auto"
output = "control"
[limits]
tasks_per_project = 8
tasks_per_operator = 32
transcript_bytes = 10485760
scrollback_lines = 10000
"#;
        assert_eq!(parse(Source::new("t", text)), Ok(Config::default()));
    }

    #[test]
    fn every_key_can_be_set() {
        let text = r#"
poll_interval_sec = 1
repos = ["/a", "/b"]
socket_path = "/s/kas.sock"
http_addr = ""
[http]
tls_cert = "/c.pem"
tls_key = "/k.pem"
names = ["kas.lan", "192.168.1.5", "fd00::1", "[fd00::2]"]
[task_runner]
backend = "pty"
pty_on_restart = "fail"
pass_env = ["SSH_AUTH_SOCK", "AWS_*"]
tmux = { socket = "kas-test", config = "min", output = "shim" }
[limits]
transcript_bytes = 0x10_0000
"#;
        let config = parse(Source::new("t", text)).unwrap();
        assert_eq!(config.poll_interval_sec, Duration::from_secs(1));
        assert_eq!(config.repos, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(config.socket_path, Some(PathBuf::from("/s/kas.sock")));
        assert_eq!(config.http_addr, None);
        assert_eq!(config.http.tls(), Some((Path::new("/c.pem"), Path::new("/k.pem"))));
        assert_eq!(config.http.names, ["kas.lan", "192.168.1.5", "[fd00::1]", "[fd00::2]"]);
        let tmux = TmuxSettings {
            socket: TmuxSocket::Named("kas-test".to_owned()),
            config: TmuxConfig::Min,
            output: TmuxOutput::Shim,
        };
        let pass_env = vec!["SSH_AUTH_SOCK".to_owned(), "AWS_*".to_owned()];
        let expect =
            TaskRunner { backend: BackendChoice::Pty, pty_on_restart: PtyOnRestart::Fail, pass_env, tmux };
        assert_eq!(config.task_runner, expect);
        assert_eq!(config.limits.transcript_bytes, 1_048_576);
    }

    #[test]
    fn all_problems_are_told_with_their_places() {
        check(
            "pol_interval_sec = 1\nrepos = [\"a\"]\n[task_runner]\nbackend = \"tmx\"\n[task_runner.tmux]\nsocket = \"a/b\"\n[limit]\n",
            &[
                "t:1:1: there is no key `pol_interval_sec` (did you mean `poll_interval_sec`?)",
                "t:2:9: `repos` item 1: must be an absolute path, not \"a\" (`~` and variables are not expanded here)",
                "t:4:11: `task_runner.backend` must be one of \"auto\", \"tmux\", \"pty\", not \"tmx\" (did you mean \"tmux\"?)",
                "t:6:10: `task_runner.tmux.socket` must be \"default\" or a socket name: 1 to 64 letters, digits, `.`, `_`, `-`, no `.` or `-` first",
                "t:7:2: there is no key `limit` (did you mean `limits`?)",
            ],
        );
        check(
            "auto_advance = \"yes\"\nlimits = 3\nhttp_addr = 7440\npoll_interval_sec = -1.0\n",
            &[
                "t:1:16: `auto_advance` must be true or false, not \"yes\"",
                "t:2:10: `limits` is a table (write its keys below `[limits]`)",
                "t:3:13: `http_addr` must be text, not the number 7440 (write it in double quotes)",
                "t:4:21: `poll_interval_sec` must be more than 0 and at most 86400 seconds",
            ],
        );
        check(
            "[limits]\ntasks_per_project = 0\ntranscript_bytes = -1\nscrollback_lines = 1.5\n",
            &[
                "t:2:21: `limits.tasks_per_project` must be 1 to 1000",
                "t:3:20: `limits.transcript_bytes` must be 65536 to 1073741824",
                "t:4:20: `limits.scrollback_lines` must be a whole number, not the number 1.5",
            ],
        );
    }

    #[test]
    fn broken_toml_is_told_by_line() {
        let lines = |text: &str| match parse(Source::new("t", text)) {
            Ok(_) => Vec::new(),
            Err(invalid) => invalid.problems.iter().map(|it| it.line).collect::<Vec<_>>(),
        };
        assert_eq!(lines("a = \n"), [1]);
        assert!(lines("auto_advance = true\nauto_advance = false\n").contains(&2));
        assert_eq!(lines("# ok\n\u{0}"), [2]);
        assert!(parse(Source::new("t", b"a = \"\xff\"".to_vec())).is_err());
    }

    #[test]
    fn addresses() {
        let shown = |text: &str| match parse_http_addr(text) {
            Ok(addr) => format!("{addr:?}"),
            Err(_) => "bad".to_owned(),
        };
        assert_eq!(shown(""), "None");
        assert_eq!(shown("127.0.0.1:0"), "Some(127.0.0.1:0)");
        assert_eq!(shown("localhost:80"), "Some(127.0.0.1:80)");
        assert_eq!(shown("[::1]:7440"), "Some([::1]:7440)");
        for bad in ["127.0.0.1", ":7440", "7440", "example.org:80", "127.0.0.1:99999", " "] {
            assert_eq!(shown(bad), "bad", "{bad}");
        }
    }

    #[test]
    fn only_loopback_may_be_served() {
        let exit = |text: &str| {
            let config = Config { http_addr: parse_http_addr(text).unwrap(), ..Config::default() };
            config.check_http().map_or_else(|error| error.exit_code(), |()| 0)
        };
        assert_eq!([exit(""), exit("127.1.2.3:1"), exit("[::1]:1")], [0, 0, 0]);
        assert_eq!(
            [exit("0.0.0.0:1"), exit("[::]:1"), exit("192.168.0.1:1"), exit("[::ffff:127.0.0.1]:1")],
            [8; 4]
        );
    }

    #[test]
    fn others_are_served_with_tls_and_under_a_name() {
        let check = |addr: &str, http: &str, expect: &str| {
            let text = format!("http_addr = \"{addr}\"\n[http]\n{http}");
            let told = parse(Source::new("t", &*text))
                .unwrap()
                .check_http()
                .map_or_else(|error| error.to_string(), |()| "ok".to_owned());
            assert!(told.contains(expect), "{text}: {told}");
        };
        let (cert, key) = ("tls_cert = '/c'", "tls_key = '/k'");
        let both = format!("{cert}\n{key}\n");
        check("192.168.0.1:1", "", "set `tls_cert` and `tls_key`");
        check("127.0.0.1:1", cert, "`tls_key`");
        check("127.0.0.1:1", key, "`tls_cert`");
        check("", cert, "ok");
        check("192.168.0.1:1", &both, "ok");
        check("127.0.0.1:1", &both, "ok");
        for all in ["0.0.0.0:1", "[::]:1"] {
            check(all, &both, "set `names`");
            check(all, &format!("{both}names = ['kas.lan']"), "ok");
            check(all, "names = ['kas.lan']", "set `tls_cert` and `tls_key`");
        }
    }

    #[test]
    fn names_are_as_browsers_write_them() {
        for bad in [
            "",
            "Kas.lan",
            "kas.lan:7440",
            "https://kas.lan",
            "a..b",
            "a b",
            ".lan",
            "kas.lan.",
            "0.0.0.0",
            "[::]",
            "1.2.3",
            "*",
        ] {
            let told = parse(Source::new("t", &*format!("[http]\nnames = [{bad:?}]"))).unwrap_err();
            assert!(told.problems[0].to_string().contains("item 1: must be a host name"), "{bad}");
        }
        let many = vec!["\"a\""; 17].join(", ");
        assert!(parse(Source::new("t", &*format!("[http]\nnames = [{many}]"))).is_err());
    }

    #[test]
    fn a_named_file_must_exist_and_the_default_one_need_not() {
        let temp = tempfile::tempdir().unwrap();
        let missing = temp.path().join("daemon.toml");
        assert_eq!(load(None, &missing).unwrap(), Config::default());
        assert_eq!(load(Some(&missing), &missing).unwrap_err().exit_code(), 3);
        std::fs::write(&missing, "http_addr = \"0.0.0.0:1\"").unwrap();
        assert_eq!(load(None, &missing).unwrap_err().exit_code(), 8);
        std::fs::write(&missing, "nonsense").unwrap();
        assert_eq!(load(None, &missing).unwrap_err().exit_code(), 4);
        assert_eq!(load(Some(temp.path()), &missing).unwrap_err().exit_code(), 4);
    }
}
