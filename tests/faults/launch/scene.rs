//! Plays a case: the point is armed, the scene is played, the process dies, a daemon is started unarmed, and what is left is looked at.

use rustix::process::Signal;
use serde_json::{Value, json};

use super::table::{Case, Scene, Then, Who};
use crate::harness::{Backend, World, eventually};

/// In the environment of every command here, and of nothing else.
const MARK: &str = "KASTEST_MARK=held";
const RUN: &str = "/api/v1/projects/demo/tasks/run";

/// How each task ends that is not stopped.
const CODE: u64 = 3;

fn tasks() -> String {
    let env = "env: {KASTEST_MARK: held}, history: false";
    let long = "x".repeat(140_000);
    format!(
        "project: demo\ntasks:\n  ends: {{command: 'echo ran >> ledger; echo begin; seq 1 2000; exit {CODE}', {env}}}\n  \
         waits: {{command: 'echo ran >> ledger; echo up; exec sleep 1000', {env}}}\n  \
         deaf: {{command: \"trap '' INT TERM HUP; echo ran >> ledger; echo up; while :; do sleep 0.1; done\", {env}}}\n  \
         told: {{command: 'echo ran >> ledger; echo up; read -r go < fifo; exit {CODE}', {env}}}\n  \
         kept: {{command: 'echo ran >> ledger; echo begin; seq 1 2000; exit {CODE}', env: {{KASTEST_MARK: held}}, history_count: 1}}\n  \
         long: {{command: ': {long}', {env}}}\n"
    )
}

fn bytes_of(task: &str) -> Vec<u8> {
    match task {
        "ends" | "kept" => {
            let lines: String = (1..=2000).map(|n| format!("{n}\r\n")).collect();
            format!("begin\r\n{lines}").into_bytes()
        }
        // A stop on tmux types ^C, which the terminal echoes.
        _ => b"up\r\n^C".to_vec(),
    }
}

/// A played case.
struct Stage {
    world: World,
    case: Case,
    panics: bool,
}

pub(super) async fn play(backend: Backend, action: &'static str, case: Case) {
    let world = World::asleep(backend, "");
    let mut stage = Stage { world, case, panics: action == "panic" };
    let armed = format!("{}={action}@{}", case.point.word(), case.at);
    if stage.panics {
        stage.world.expect_panics();
    }
    if case.scene != Scene::Start {
        stage.world.set_env("KAS_FAILPOINTS", &armed);
    }
    stage.world.start();
    stage.world.project("demo", &tasks()).await;
    let told = match case.scene {
        Scene::Launch => stage.launch("ends").await,
        Scene::TooLong => stage.launch("long").await,
        Scene::Stop => stage.stop("waits").await,
        Scene::StopDeaf => stage.stop("deaf").await,
        Scene::Cull => stage.cull().await,
        Scene::Start => return stage.start(&armed).await,
    };
    stage.come_back().await;
    stage.judge(told).await;
    stage.rest().await;
}

impl Stage {
    fn daemon_dies(&self) -> bool {
        self.case.who == Who::Daemon && !self.panics
    }

    /// Launches, and answers the id if it was told.
    async fn launch(&self, task: &str) -> Option<String> {
        let answer = self.world.try_post(RUN, None, &json!({"task": task})).await?;
        if answer.status == 500 && self.panics {
            return None;
        }
        Some(answer.expect(202)["id"].as_str().unwrap().to_owned())
    }

    async fn stop(&self, task: &str) -> Option<String> {
        let id = self.world.run_task("demo", task).await;
        self.world.until_running(&id).await;
        self.until_written(&id).await;
        let stop = format!("/api/v1/tasks/{id}/stop");
        let stopped = self.world.try_post(&stop, None, &json!({})).await;
        assert_eq!(stopped.is_none(), self.daemon_dies(), "{stopped:?}");
        Some(id)
    }

    /// Waits until the task's first line is in its journal.
    async fn until_written(&self, id: &str) {
        let mut viewer = crate::harness::Viewer::open(&self.world, "demo").await;
        let mut seen = viewer.watch(id, json!({"from": 0})).await;
        viewer.follow(&mut seen, |seen| seen.bytes.ends_with(b"up\r\n")).await;
    }

    /// The second run of a task that keeps one: the first is culled at its end.
    async fn cull(&self) -> Option<String> {
        let first = self.launch("kept").await.unwrap();
        self.world.until_ended(&first).await;
        self.launch("kept").await
    }

    /// Waits for the death, and starts a daemon that is not armed. A shim's death is met by the daemon that lives.
    async fn come_back(&mut self) {
        if self.daemon_dies() {
            let status = self.world.died();
            assert!(!status.success(), "{status}");
            self.world.unset_env("KAS_FAILPOINTS");
            self.world.start();
        } else if self.panics {
            self.world.logged(&format!("failpoint {}: panic", self.case.point.word()));
        } else {
            let met = self.world.state_dir().join("failpoints.met");
            let line = format!("failpoint {}: exit\n", self.case.point.word());
            eventually("the point is not met", || {
                let text = std::fs::read_to_string(&met).unwrap_or_default();
                if text.contains(&line) { Ok(()) } else { Err(text) }
            })
            .await;
        }
    }

    async fn runs(&self) -> Vec<Value> {
        let listed = self.world.get("/api/v1/projects/demo/tasks/instances").await.expect(200);
        listed["items"].as_array().unwrap().clone()
    }

    async fn judge(&self, told: Option<String>) {
        let runs = self.runs().await;
        // Whoever was told of a run finds it, and nobody finds more.
        if self.case.scene == Scene::Cull {
            return self.judge_culled(told).await;
        }
        if let Some(id) = &told {
            assert!(runs.iter().any(|run| run["id"] == id.as_str()), "{id} is not among {runs:?}");
        }
        assert!(runs.len() <= 1, "{runs:?}");
        let Some(run) = runs.first() else {
            assert!(self.case.then.contains(&Then::Nothing), "nothing was recorded");
            return assert_eq!((told, self.ran()), (None, 0));
        };
        let id = run["id"].as_str().unwrap();
        if self.case.then == [Then::StillRunning] {
            assert_eq!(run["state"], "running", "{run}");
            assert_eq!(self.world.stop(id).await["state"], "stopped");
            return assert_eq!(self.ran(), 1);
        }
        let run = self.world.until_ended(id).await;
        let bytes = self.world.transcript(id).await;
        let became = self.became(&run, &bytes);
        assert!(became.is_some_and(|it| self.case.then.contains(&it)), "{became:?}: {run}, {bytes:?}");
    }

    fn ran(&self) -> usize {
        let ledger = std::fs::read_to_string(self.world.path("demo/ledger")).unwrap_or_default();
        ledger.lines().count()
    }

    /// What became of the run; `None` when it is none of what may become of any.
    fn became(&self, run: &Value, (start, bytes): &(u64, bytes::Bytes)) -> Option<Then> {
        let task = run["task_name"].as_str().unwrap();
        let full = bytes_of(task);
        let is_prefix = *start == 0 && full.starts_with(bytes);
        let is_whole = is_prefix && full.len() == bytes.len();
        let (code, error) = (run["exit_code"].as_u64(), run["error"].as_str());
        match (run["state"].as_str().unwrap(), code, error, self.ran()) {
            ("failed", None, Some("spawn_failed"), 0) if bytes.is_empty() => Some(Then::NeverStarted),
            ("failed", Some(CODE), None, 1) if is_whole => Some(Then::Exact),
            ("failed", None, Some("shim_lost"), 0 | 1) if is_prefix => Some(Then::Lost),
            ("failed", Some(137), None, 0) if bytes.is_empty() => Some(Then::Killed),
            ("stopped", None, None, 1) if is_prefix => Some(Then::Stopped),
            _ => None,
        }
    }

    /// However the culling was cut off, the next end makes it good.
    async fn judge_culled(&self, told: Option<String>) {
        let told = told.expect("it was launched before the first one's end could be culled");
        let second = self.world.until_ended(&told).await;
        assert_eq!(second["exit_code"], CODE, "{second}");
        let third = self.world.run_task("demo", "kept").await;
        let third = self.world.until_ended(&third).await;
        assert_eq!((third["exit_code"].as_u64(), self.ran()), (Some(CODE), 3));
        let mut events = self.world.events(None).await;
        while self.runs().await.len() > 1 {
            events.next().await;
        }
    }

    /// Nothing is left but what history keeps.
    async fn rest(&self) {
        let world = &self.world;
        world.nothing_is_held(MARK).await;
        let kept = usize::from(self.case.scene == Scene::Cull);
        if world.backend == Backend::Tmux {
            eventually("a window stays", || {
                let listed = world.tmux(&["list-windows", "-a", "-F", "#{window_name}"]).stdout;
                let windows: Vec<&str> = listed.lines().filter(|name| name.starts_with("task-")).collect();
                if windows.len() <= kept { Ok(()) } else { Err(listed) }
            })
            .await;
        }
        if self.panics {
            let metrics = world.get("/metrics").await;
            let text = String::from_utf8(metrics.body.to_vec()).unwrap();
            assert!(text.contains("\nkas_panics_total 1\n"), "{text}");
            world.logged("a panic, which the daemon survives");
            // Nothing else is touched: the next run is like any other.
            let next = world.run_task("demo", "ends").await;
            assert_eq!(world.until_ended(&next).await["exit_code"], CODE);
        }
        world.fsck();
    }

    /// A start that dies changes nothing that the next one does not make good.
    async fn start(mut self, armed: &str) {
        let mut told = self.world.fifo("demo/fifo");
        let ends = self.world.run_task("demo", "told").await;
        self.until_written(&ends).await;
        let lives = self.world.run_task("demo", "waits").await;
        self.until_written(&lives).await;
        self.world.end(Signal::KILL);
        std::io::Write::write_all(&mut told, b"go\n").unwrap();
        let record = self.world.state_dir().join("instances").join(&ends).join("exit.json");
        eventually("no exit record", || if record.exists() { Ok(()) } else { Err(String::new()) }).await;

        self.world.set_env("KAS_FAILPOINTS", armed);
        self.world.spawn();
        let status = self.world.died();
        assert!(!status.success(), "{status}");
        self.world.unset_env("KAS_FAILPOINTS");
        self.world.start();
        let ended = self.world.until_ended(&ends).await;
        assert_eq!((&ended["state"], ended["exit_code"].as_u64()), (&json!("failed"), Some(CODE)), "{ended}");
        assert_eq!(&self.world.transcript(&ends).await.1[..], b"up\r\n");
        assert_eq!(self.world.instance(&lives).await["state"], "running");
        assert_eq!(self.world.stop(&lives).await["state"], "stopped");
        assert_eq!(self.ran(), 2);
        let audit = self.world.get("/api/v1/audit-events?kind=task.exited").await.expect(200);
        assert_eq!(audit["items"].as_array().unwrap().len(), 1, "one end, one event");
        self.rest().await;
    }
}
