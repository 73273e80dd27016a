//! What a command finds when it starts, and every way not to start.

use super::*;

#[tokio::test]
async fn every_way_not_to_start_has_its_reason() {
    let failed = |spec: Spec| async move {
        let mut run = Run::start(&spec).await;
        let told = run.until(|event| match event {
            Event::SpawnFailed { text } => Some(text.clone()),
            Event::Started { .. } => panic!("it was said to run"),
            _ => None,
        });
        let told = told.await;
        let (_, record) = run.finish().await;
        assert_eq!(record.pid, None);
        match record.ending {
            Ending::SpawnFailed { errno, text } => {
                assert_eq!(text, told);
                (errno, text)
            }
            other => panic!("{other:?}"),
        }
    };
    let (errno, text) = failed(Spec { cwd: "/nowhere/at all".into(), ..spec("true") }).await;
    assert_eq!(errno, Some(2));
    assert!(text.contains("/nowhere/at all") && text.contains("No such file"), "{text}");
    let (errno, text) = failed(Spec { cwd: "/etc/passwd".into(), ..spec("true") }).await;
    assert_eq!(errno, Some(20), "{text}");
    let (errno, text) = failed(spec("echo a\0b")).await;
    assert_eq!((errno, text.as_str()), (None, "the command contains a NUL byte"));
    let (errno, text) = failed(spec(&format!(": {}", "x".repeat(128 * 1024)))).await;
    assert_eq!(errno, Some(7), "{text}");
    assert!(text.contains("too large"), "{text}");
    let huge = Spec { env: vec![("A".into(), "x".repeat(3_000_000).into())], ..spec("true") };
    let (errno, _) = failed(huge).await;
    assert_eq!(errno, Some(7));
    let nul = Spec { env: vec![("A".into(), "x\0".into())], ..spec("true") };
    assert_eq!(failed(nul).await.0, None);
}

#[tokio::test]
async fn the_shell_itself_says_126_and_127() {
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name).display().to_string();
    let make = |name: &str, text: &str, mode: u32| {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(home.path().join(name), text).unwrap();
        std::fs::set_permissions(home.path().join(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    make("plain", "echo no", 0o644);
    make("script", "echo a script without a first line\n", 0o755);
    make("interpreter", "#!/no/such/interpreter\n", 0o755);
    let code = |command: String| async move { outcome(&spec(&command)).await };
    assert_eq!(code(path("plain")).await.1, Ending::Exited(Exit::Code(126)));
    assert_eq!(code("no-such-command".into()).await.1, Ending::Exited(Exit::Code(127)));
    assert_eq!(code(path("interpreter")).await.1, Ending::Exited(Exit::Code(127)));
    // ENOEXEC: the shell runs it as a script of its own.
    let (output, ending) = code(path("script")).await;
    assert_eq!((output.as_str(), ending), ("a script without a first line\n", Ending::Exited(Exit::Code(0))));
    assert_eq!(code("-t".into()).await.1, Ending::Exited(Exit::Code(127)));
    assert_eq!(code("kill -SEGV $$".into()).await.1, Ending::Exited(Exit::Signal(11)));
}

#[tokio::test]
async fn the_command_finds_a_clean_house() {
    let cwd = tempfile::tempdir().unwrap();
    let cwd = cwd.path().join("x#(touch PWNED)\n-t;");
    std::fs::create_dir(&cwd).unwrap();
    let command = "ls -m /proc/$$/fd; grep -E '^Sig(Blk|Ign|Cgt|Pnd)|^ShdPnd' /proc/self/status; \
        tty; ls -l /proc/$$/fd/0 /proc/$$/fd/1 /proc/$$/fd/2 | sed 's/.*-> /fd: /'; \
        cut -d' ' -f1,5,6,8 /proc/$$/stat | sed 's/^/ids: /'; stty size; pwd -P | od -An -tx1 | tr -d ' \\n'; echo; \
        sed 's/^/oom: /' /proc/$$/oom_score_adj; \
        tr '\\0' '\\n' < /proc/$$/environ";
    let mut spec = spec(command);
    spec.cwd = cwd.clone();
    spec.env.push(("ODD".into(), "a b\"'$x".into()));
    spec.size = Size::clamped(91, 17).unwrap();
    let (output, _) = outcome(&spec).await;
    let lines: Vec<&str> = output.lines().collect();
    let has = |wanted: &str| assert!(lines.contains(&wanted), "{wanted:?} is not in {output}");
    has("0, 1, 2");
    has("SigBlk:\t0000000000000000");
    has("SigIgn:\t0000000000000000");
    has("17 91");
    let tty = lines.iter().find(|l| l.starts_with("/dev/pts/")).expect("a terminal");
    assert_eq!(lines.iter().filter(|l| **l == format!("fd: {tty}")).count(), 3, "{output}");
    let ids: Vec<&str> = lines.iter().find_map(|l| l.strip_prefix("ids: ")).unwrap().split(' ').collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "leads its group and session, in the foreground: {ids:?}");
    let oom = lines.iter().find_map(|l| l.strip_prefix("oom: ")).unwrap();
    assert!(oom.parse::<u32>().unwrap() >= 500, "the kernel ends commands before who records them: {oom}");
    let hex: String =
        std::os::unix::ffi::OsStrExt::as_bytes(cwd.as_os_str()).iter().map(|b| format!("{b:02x}")).collect();
    has(&(hex + "0a"));
    let mut env: Vec<&str> = lines.iter().copied().filter(|l| l.contains('=')).collect();
    env.sort_unstable();
    assert_eq!(env, ["ODD=a b\"'$x", "PATH=/usr/bin:/bin", "TERM=xterm-256color"]);
    assert!(!cwd.join("PWNED").exists());
}

#[tokio::test]
async fn a_gate_that_is_not_opened_runs_nothing() {
    let home = tempfile::tempdir().unwrap();
    let proof = home.path().join("ran");
    let spec = spec(&format!("touch {}", proof.display()));
    let run = Run::gated(&spec).await;
    run.client.abort().await.unwrap();
    ended(&run.shim.pidfd).await;
    assert_eq!(ExitRecord::read(&run.dir).unwrap().unwrap().ending, Ending::NeverStarted);
    assert!(!proof.exists());
}

#[tokio::test]
async fn a_stranger_is_not_served() {
    let spec = spec("true");
    let run = Run::gated(&spec).await;
    let wrong = Client::connect(&run.dir, &Nonce::random().unwrap(), soon()).await;
    assert!(matches!(wrong, Err(kas::shim::ClientError::Refused)), "{wrong:?}");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |name: &str| std::fs::metadata(run.dir.join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(""), mode("spec.json"), mode("shim.sock"), mode("index")], [0o700, 0o600, 0o600, 0o600]);
    run.client.abort().await.unwrap();
}

#[tokio::test]
async fn a_directory_with_a_long_name_has_a_socket_too() {
    let home = tempfile::tempdir().unwrap();
    let spec = spec("echo fine");
    let dir = journal::create(&home.path().join("d".repeat(120)).join("e".repeat(120)), &spec).unwrap();
    let _shim = kas::backend::pty::spawn(Path::new(KAS), &dir).unwrap();
    let (client, mut events) = Client::connect(&dir, &spec.nonce, soon()).await.unwrap();
    client.open_gate().await.unwrap();
    assert!(matches!(events.next().await.unwrap(), Some(Event::Started { .. })));
}
