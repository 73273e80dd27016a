//! Commands that cannot start as they should, and what they inherit.

use std::path::Path;
use std::time::Duration;

use kas::journal::{self, Ending, Nonce, Spec};
use kas::model::{BackendKind, InstanceId, Size, TimeMs};
use kas::shim::{Client, Event};
use serde_json::json;

use crate::harness::{Backend, World};

pub(crate) fn spec(command: &str, cwd: &Path) -> Spec {
    let nonce = Nonce::random().unwrap();
    Spec {
        id: InstanceId::from_parts(TimeMs::now().0.cast_unsigned(), u128::from_be_bytes(*nonce.as_bytes())),
        nonce,
        command: command.into(),
        cwd: cwd.to_owned(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into())],
        size: Size::DEFAULT,
        limit_bytes: 10 << 20,
        scrollback_lines: 100,
        backend: BackendKind::Pty,
        keep_window: false,
        boot_id: journal::boot_id().unwrap(),
    }
}

/// The directory is there when the run is checked and gone when its gate opens: the reason is said and nothing has run.
#[tokio::test]
async fn a_directory_that_goes_before_the_gate_opens_is_the_reason() {
    let home = tempfile::tempdir().unwrap();
    let (cwd, proof) = (home.path().join("work"), home.path().join("ran"));
    std::fs::create_dir(&cwd).unwrap();
    let spec = spec(&format!("touch {}", proof.display()), &cwd);
    let dir = journal::create(&home.path().join("instances"), &spec).unwrap();
    let _shim = kas::backend::pty::spawn(Path::new(env!("CARGO_BIN_EXE_kas")), &dir).unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let (client, mut events) = Client::connect(&dir, &spec.nonce, deadline).await.unwrap();
    std::fs::remove_dir(&cwd).unwrap();
    client.open_gate().await.unwrap();
    let record = loop {
        match crate::harness::soon("the end", events.next()).await.unwrap() {
            Some(Event::Exited(record)) => break record,
            Some(Event::Started { .. }) | None => panic!("it was said to run"),
            Some(_) => {}
        }
    };
    let Ending::SpawnFailed { errno, text } = record.ending else { panic!("{record:?}") };
    assert!(errno == Some(2) && text.contains("work"), "{errno:?} {text}");
    assert!(!proof.exists());
    client.ack().await.unwrap();
}

/// A limit, a mask and ignored signals of whoever started the daemon: the first two are the operator's own, the last is nobody's wish.
async fn the_operators_limits_hold_and_nothing_else_is_inherited(backend: Backend) {
    let mut world = World::asleep(backend, "");
    world.wrap(&[
        "sh",
        "-c",
        "umask 027; ulimit -n 300; ulimit -f 4096; trap '' USR1 XFSZ TSTP; exec \"$@\"",
        "sh",
    ]);
    world.start();
    world.project("demo", "project: demo\ntasks: {}").await;
    let (seen, _) = world
        .outcome(
            "demo",
            "umask; ulimit -n; ulimit -f; grep -E '^Sig(Ign|Blk)' /proc/self/status; ls /proc/self/fd",
        )
        .await;
    let text = seen.text();
    let words: Vec<&str> = text.split_whitespace().collect();
    assert_eq!(words[..3], ["0027", "300", "4096"], "{text}");
    let masks = words.iter().filter(|word| **word == "0000000000000000").count();
    assert_eq!(masks, 2, "{text}");
    assert_eq!(words[7..], ["0", "1", "2", "3"], "{text}");
    let (seen, _) = world.outcome("demo", "cat /proc/self/oom_score_adj").await;
    assert_eq!(seen.text(), "500\r\n", "who goes first when memory runs out");
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_command_inherits_is_the_operators() {
    the_operators_limits_hold_and_nothing_else_is_inherited(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_command_in_a_window_inherits_is_the_operators() {
    the_operators_limits_hold_and_nothing_else_is_inherited(Backend::Tmux).await;
}

/// What only the soft limits say, kas does not keep to and passes on as it was.
async fn soft_limits_are_the_commands_alone(backend: Backend) {
    let mut world = World::asleep(backend, "");
    world.wrap(&["sh", "-c", "ulimit -S -n 300; ulimit -S -f 4096; exec \"$@\"", "sh"]);
    world.start();
    world.project("demo", "project: demo\ntasks: {}").await;
    let (seen, _) = world.outcome("demo", "ulimit -S -n; ulimit -S -f; ulimit -H -f").await;
    assert_eq!(seen.text(), "300\r\n4096\r\nunlimited\r\n");
    let (_, done) = world.outcome("demo", "stty raw; yes | head -c 9000000; exit 3").await;
    let told = (&done["exit_code"], &done["output_bytes"]);
    assert_eq!(told, (&json!(3), &json!(9_000_000)), "{done}");
    let (start, bytes) = world.transcript(done["id"].as_str().unwrap()).await;
    assert_eq!((start, bytes.len()), (0, 9_000_000));
    world.fsck();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_limit_costs_no_byte_pty() {
    soft_limits_are_the_commands_alone(Backend::Pty).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_soft_limit_costs_no_byte_tmux() {
    soft_limits_are_the_commands_alone(Backend::Tmux).await;
}

/// A limit below what a database needs is named, and nothing is made; a small stack is room enough.
#[test]
fn a_limit_that_is_too_low_is_named() {
    let mut world = World::asleep(Backend::Pty, "");
    world.wrap(&["sh", "-c", "ulimit -f 400; exec \"$@\"", "sh"]);
    let (status, said) = world.start_in_vain();
    assert!(
        !status.success() && said.contains("`ulimit -f`, RLIMIT_FSIZE") && said.contains("204800"),
        "{said}"
    );
    assert!(!world.state_dir().exists());
    world.wrap(&["sh", "-c", "ulimit -s 256; ulimit -f 4096; exec \"$@\"", "sh"]);
    world.start();
    world.logged("files may not grow beyond this (the hard limit of `ulimit -f`, RLIMIT_FSIZE)");
}

/// A command that its file size limit ends, ends with the signal's own name; the daemon and the shim have the same limit and live.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_size_limit_ends_the_command_and_nobody_else() {
    let mut world = World::asleep(Backend::Pty, "");
    world.start();
    // 2 MiB, set from outside when the daemon has raised its own: room for the database, not for all of a command's output.
    let limit = |current| {
        let daemon = super::pid(u64::from(world.daemon_pid()));
        let limit = rustix::process::Rlimit { current, maximum: None };
        rustix::process::prlimit(Some(daemon), rustix::process::Resource::Fsize, limit).unwrap();
    };
    limit(Some(2 << 20));
    world.project("demo", "project: demo\ntasks: {}").await;
    let (_, done) = world.outcome("demo", "ulimit -f 4096; exec head -c 9000000 /dev/zero > big").await;
    assert_eq!(
        (&done["state"], &done["signal"], &done["exit_code"]),
        (&json!("failed"), &json!("SIGXFSZ"), &json!(153))
    );
    // Nine megabytes of transcript do not fit into a database of two: the end waits, the daemon says so and lives.
    let id = world.run_command("demo", "stty raw; yes | head -c 9000000").await;
    world.logged("a change waits for the database");
    world.get("/v1/status").await.expect(200);
    limit(None);
    let done = world.until_ended(&id).await;
    assert_eq!((&done["exit_code"], &done["output_bytes"]), (&json!(0), &json!(9_000_000)));
    assert_eq!(world.transcript(&id).await.1.len(), 9_000_000);
    world.fsck();
}
