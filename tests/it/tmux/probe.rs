//! Which tmux is used, and how its server is started.

use super::*;

/// A directory with a `tmux` that is a shell script.
pub(super) fn fake(home: &Path, script: &str) {
    crate::harness::program(&home.join("tmux"), script);
}

fn fake_settings(home: &Path) -> Settings {
    let path = format!("{}:/usr/bin:/bin", home.display());
    let env = Env::from_vars([("PATH", path.as_str()), ("HOME", home.to_str().unwrap())]);
    Settings::new(&Config::default().task_runner, &env, home, 1000)
}

#[tokio::test]
async fn what_calls_itself_tmux_is_looked_at_first() {
    let home = tempfile::tempdir().unwrap();
    let why = |script: &str| {
        fake(home.path(), script);
        let settings = fake_settings(home.path());
        async move {
            match tmux::probe(&settings).await {
                Probe::Unusable { why } => why.split_once("tmux ").unwrap().1.to_owned(),
                Probe::Found { version } => format!("found {version}"),
                Probe::Missing => "missing".to_owned(),
            }
        }
    };
    assert_eq!(why("echo tmux 3.2a").await, "found 3.2a");
    assert_eq!(why("echo tmux next-3.8").await, "found next-3.8");
    assert_eq!(why("echo tmux 3.1c").await, "is tmux 3.1c, and 3.2 is the oldest that can be used");
    assert_eq!(why("exec sleep 1000").await, "did not answer within 2 s");
    assert_eq!(why("exec yes junk").await, "does not tell its version: it says more than 4194304 bytes");
    assert_eq!(why("exit 3").await, "does not tell its version: it ended without a word (exit status: 3)");
    let none = Env::from_vars([("PATH", "/nowhere")]);
    let none = Settings::new(&Config::default().task_runner, &none, home.path(), 1000);
    assert_eq!(tmux::probe(&none).await, Probe::Missing);
}

#[tokio::test]
async fn the_six_rows_of_the_table_with_real_programs() {
    let home = tempfile::tempdir().unwrap();
    fake(home.path(), "echo tmux 3.4");
    let yes = tmux::probe(&fake_settings(home.path())).await;
    let log = |choice, probe: &Probe| match tmux::resolve(choice, probe) {
        Ok(resolved) => resolved.log,
        Err(error) => error.to_string(),
    };
    assert_eq!(log(BackendChoice::Tmux, &yes), "task_runner: backend=tmux (tmux 3.4 found)");
    assert_eq!(log(BackendChoice::Auto, &yes), "task_runner: backend=tmux (auto-detected)");
    assert_eq!(log(BackendChoice::Pty, &yes), "task_runner: backend=pty (tmux available but not selected)");
    fake(home.path(), "echo tmux 2.9");
    let no = tmux::probe(&fake_settings(home.path())).await;
    assert!(log(BackendChoice::Tmux, &no).contains("install the package `tmux`"));
    assert_eq!(log(BackendChoice::Auto, &no), "task_runner: backend=pty (tmux not found)");
    assert_eq!(log(BackendChoice::Pty, &no), "task_runner: backend=pty");
}

#[tokio::test]
async fn under_systemd_the_server_is_started_outside_the_daemons_unit() {
    let home = tempfile::tempdir().unwrap();
    let script = home.path().join("systemd-run");
    let log = home.path().join("asked");
    let recorder = format!("echo \"$*\" >>{}\nshift 6\nexec \"$@\"", log.display());
    crate::harness::program(&script, &recorder);
    let dir = home.path().to_str().unwrap();
    let path = format!("{dir}:/usr/bin:/bin");
    let pid = std::process::id().to_string();
    let vars = [
        ("PATH", path.as_str()),
        ("HOME", dir),
        ("TMUX_TMPDIR", dir),
        ("INVOCATION_ID", "1"),
        ("SYSTEMD_EXEC_PID", pid.as_str()),
    ];
    let settings = Settings::new(&Config::default().task_runner, &Env::from_vars(vars), home.path(), 1000);
    let version = tmux::probe(&settings).await.version().unwrap();
    let (report, reports) = mpsc::channel(100);
    let world = World { home, tmux: Tmux::new(settings, version, report), reports };
    let mut task = world.run(&project("p"), "task-x", "echo scoped").await;
    assert_eq!(task.finish().await.0, b"scoped\r\n");
    let asked = fs::read_to_string(log).unwrap();
    assert!(asked.starts_with("--user --scope --quiet --collect --unit=kas-tmux-"), "{asked}");
    assert_eq!(asked.lines().filter(|line| line.starts_with("--user")).count(), 1, "{asked}");
}
