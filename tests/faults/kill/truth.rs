//! Commands that say themselves what is right: which bytes, which code, and that they ran once.

use std::fs::File;
use std::io::Write as _;

use bytes::Bytes;
use serde_json::Value;

use crate::harness::World;

/// In the environment of every command here.
pub(super) const MARK: &str = "KASTEST_MARK=held";

/// Prints who it is, waits for its word, prints lines that name it, and ends as it was told.
const SCRIPT: &str = r#"
echo "$1" >> ledger
echo "task $1"
read -r go < "fifo/$1"
seq -f "$1 line %g of $3" 1 "$3"
case $2 in
    KILL | SEGV) kill -s "$2" $$ ;;
    *) exit "$2" ;;
esac
"#;

/// How a command ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Code(u8),
    Kill,
    Segv,
}

impl End {
    fn word(self) -> String {
        match self {
            Self::Code(code) => code.to_string(),
            Self::Kill => "KILL".to_owned(),
            Self::Segv => "SEGV".to_owned(),
        }
    }

    /// What the API says of it: state, code, signal.
    fn told(self) -> (&'static str, u64, Option<&'static str>) {
        match self {
            Self::Code(0) => ("done", 0, None),
            Self::Code(code) => ("failed", code.into(), None),
            Self::Kill => ("failed", 137, Some("SIGKILL")),
            Self::Segv => ("failed", 139, Some("SIGSEGV")),
        }
    }
}

/// One command, and what is true of it.
#[derive(Debug)]
pub(super) struct Truth {
    /// Its name, which is its idempotency key as well.
    pub(super) name: String,
    pub(super) project: String,
    end: End,
    lines: u32,
    fifo: File,
}

/// Makes a project whose commands are [`Truth`]s.
pub(super) async fn project(world: &World, name: &str) {
    world.write(&format!("{name}/truth.sh"), SCRIPT);
    std::fs::create_dir(world.path(&format!("{name}/fifo"))).unwrap();
    world.project(name, &format!("project: {name}\ntasks: {{}}")).await;
}

impl Truth {
    pub(super) fn new(world: &World, project: &str, name: &str, end: End, lines: u32) -> Self {
        let fifo = world.fifo(&format!("{project}/fifo/{name}"));
        Self { name: name.to_owned(), project: project.to_owned(), end, lines, fifo }
    }

    pub(super) fn command(&self) -> String {
        format!("exec env {MARK} sh truth.sh {} {} {}", self.name, self.end.word(), self.lines)
    }

    /// Gives it its word: it goes on to its end.
    pub(super) fn release(&self) {
        (&self.fifo).write_all(b"go\n").unwrap();
    }

    fn bytes(&self) -> Vec<u8> {
        let lines = (1..=self.lines).map(|n| format!("{} line {n} of {}\r\n", self.name, self.lines));
        let whole = std::iter::once(format!("task {}\r\n", self.name)).chain(lines);
        whole.collect::<String>().into_bytes()
    }

    /// Whether these are its bytes, all of them or the first ones.
    fn is_prefix(&self, start: u64, bytes: &Bytes) -> bool {
        // A stop on tmux types ^C, which the terminal echoes.
        let bytes = bytes.strip_suffix(b"^C").unwrap_or(bytes);
        start == 0 && self.bytes().starts_with(bytes)
    }

    /// How often it ran.
    pub(super) fn ran(&self, world: &World) -> usize {
        let ledger = world.path(&format!("{}/ledger", self.project));
        let ledger = std::fs::read_to_string(ledger).unwrap_or_default();
        ledger.lines().filter(|line| *line == self.name).count()
    }

    /// It ended by itself: the code is the one it gave, the bytes are those it wrote.
    pub(super) async fn is_exact(&self, world: &World, run: &Value) {
        let (state, code, signal) = self.end.told();
        let told = (run["state"].as_str(), run["exit_code"].as_u64(), run["signal"].as_str());
        assert_eq!(told, (Some(state), Some(code), signal), "{self:?}: {run}");
        assert!(run["error"].is_null(), "{run}");
        let (start, bytes) = world.transcript(run["id"].as_str().unwrap()).await;
        let expect = self.bytes();
        assert!(start == 0 && bytes == expect, "{} of {} bytes of {}", bytes.len(), expect.len(), self.name);
        assert_eq!(self.ran(world), 1, "{}", self.name);
    }

    /// It was stopped, or never came to run, and nothing of what it wrote is wrong.
    pub(super) async fn is_cut_off(&self, world: &World, run: &Value) {
        let (start, bytes) = world.transcript(run["id"].as_str().unwrap()).await;
        assert!(self.is_prefix(start, &bytes), "{}: {bytes:?}", self.name);
        match (run["state"].as_str().unwrap(), run["error"].as_str()) {
            ("stopped", None) => assert!(self.ran(world) <= 1, "{} ran twice", self.name),
            ("failed", Some("spawn_failed")) => assert_eq!(self.ran(world), 0, "{}", self.name),
            _ => panic!("{self:?} became {run}"),
        }
    }
}
