//! The file of the program is removed, or another one takes its place, while the daemon runs.

use std::fs;

use crate::harness::{Backend, World};

async fn runs_go_on_without_the_programs_file(backend: Backend) {
    let mut world = World::asleep(backend, "");
    let copy = world.path("bin/kas");
    fs::create_dir(world.path("bin")).unwrap();
    // By another process: what this one has open for writing, a child that another test just forked has open too.
    let done = std::process::Command::new("cp").arg(env!("CARGO_BIN_EXE_kas")).arg(&copy).status().unwrap();
    assert!(done.success());
    world.wrap(&["sh", "-c", "shift; exec \"$KAS_COPY\" \"$@\"", "sh"]);
    world.set_env("KAS_COPY", copy.to_str().unwrap());
    world.start();
    world.project("demo", "project: demo\ntasks: {}").await;
    let before = world.run_command("demo", "until [ -e ../go ]; do sleep 0.02; done; echo old; exit 5").await;
    world.until_running(&before).await;
    let check = async |world: &World| {
        let (seen, run) = world.outcome("demo", "echo new; exit 6").await;
        assert_eq!((seen.text().as_str(), run["exit_code"].as_i64()), ("new\r\n", Some(6)), "{run}");
        assert_eq!(run["backend"], backend.word(), "{run}");
    };
    fs::remove_file(&copy).unwrap();
    check(&world).await;
    // A program that is no kas: whoever starts it instead of the daemon's own learns nothing of the run.
    world.program("bin/other", "exit 1");
    fs::rename(world.path("bin/other"), &copy).unwrap();
    check(&world).await;
    let shim = world.run_command("demo", "read x").await;
    world.until_running(&shim).await;
    let held = world.held("\0no command\0").into_iter().filter(|line| line.contains(&shim));
    for line in held {
        let pid = line.split_once(':').unwrap().0;
        assert_eq!(fs::read_to_string(format!("/proc/{pid}/comm")).unwrap(), "kas\n", "{line}");
    }
    world.write("go", "");
    assert_eq!(world.until_ended(&before).await["exit_code"], 5);
    world.stop(&shim).await;
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_file_is_gone_starts_its_own_shims_pty() {
    runs_go_on_without_the_programs_file(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_whose_file_is_gone_starts_its_own_shims_tmux() {
    runs_go_on_without_the_programs_file(Backend::Tmux).await;
}
