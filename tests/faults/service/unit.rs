//! `kas daemon install` and the unit it writes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Backend, Done, World};

const UNIT: &str = ".config/systemd/user/kas.service";

fn install(world: &World, words: &[&str]) -> Done {
    world.kas(&[&["daemon", "install"], words].concat())
}

#[test]
fn it_is_shown_written_and_written_again() {
    let world = World::asleep(Backend::Pty, "");
    let file = world.path(UNIT);
    let shown = install(&world, &["--dry-run"]);
    assert_eq!((shown.code, shown.stderr.as_str()), (Some(0), ""), "{shown:?}");
    assert!(!world.path(".config/systemd").exists(), "a dry run changes nothing");
    let done = install(&world, &[]);
    assert_eq!(done.code, Some(0), "{done:?}");
    let text = fs::read_to_string(&file).unwrap();
    assert!(shown.stdout.starts_with(&text), "{shown:?}");
    let kas = fs::canonicalize(env!("CARGO_BIN_EXE_kas")).unwrap();
    let start = format!("ExecStart=\"{}\" daemon start --foreground", kas.display());
    for line in [
        start.as_str(),
        "Type=notify",
        "NotifyAccess=main",
        "WatchdogSec=60",
        "Restart=on-failure",
        "KillMode=process",
        "WantedBy=default.target",
    ] {
        assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
    }
    assert!(done.stdout.contains("systemctl --user daemon-reload && systemctl --user enable --now kas"));
    let lingers = std::path::Path::new("/var/lib/systemd/linger/root").exists();
    assert_eq!(done.stdout.contains("loginctl enable-linger"), !lingers, "{done:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    let files: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
    assert_eq!(files.len(), 1, "nothing else is left there: {files:?}");

    // A newer kas in another place replaces what an older one wrote.
    fs::write(&file, text.replace(&start, "ExecStart=/old/kas")).unwrap();
    assert_eq!(install(&world, &[]).code, Some(0));
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
}

#[test]
fn a_unit_of_somebody_elses_is_left_alone() {
    let world = World::asleep(Backend::Pty, "");
    for theirs in [&b"[Service]\nExecStart=/bin/true\n"[..], b"\xff\xfe"] {
        let file = world.write(UNIT, theirs);
        let refused = install(&world, &[]);
        assert_eq!(refused.code, Some(8), "{refused:?}");
        assert!(refused.stderr.contains("--force") && refused.stderr.lines().count() == 1, "{refused:?}");
        assert!(install(&world, &["--dry-run"]).stdout.contains("would not replace"));
        assert_eq!(fs::read(&file).unwrap(), theirs);
        assert_eq!(install(&world, &["--force"]).code, Some(0));
        assert_ne!(fs::read(&file).unwrap(), theirs);
    }
}

#[test]
fn a_place_that_cannot_be_written_is_said_in_a_line() {
    let world = World::asleep(Backend::Pty, "");
    world.write(".config/systemd", "a file");
    let refused = install(&world, &[]);
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.starts_with("kas: cannot ") && refused.stderr.lines().count() == 1);
}

/// Puts the program somewhere else. Another process writes it: what this one has open for writing, a child started meanwhile by another
/// test could hold open, and then it cannot be run.
fn put_program(world: &World, to: &std::path::Path) {
    let copied = world.command("cp", &[env!("CARGO_BIN_EXE_kas"), to.to_str().unwrap()]).status().unwrap();
    assert!(copied.success());
}

/// systemd's own word on the unit, as written for a path with everything in it that has a meaning there.
#[test]
fn systemd_accepts_it() {
    let world = World::asleep(Backend::Pty, "");
    let odd = world.path("o p 100% $x é;#");
    fs::create_dir(&odd).unwrap();
    let kas = odd.join("kas");
    put_program(&world, &kas);
    let mut command = world.command(kas.to_str().unwrap(), &["daemon", "install"]);
    assert!(command.output().unwrap().status.success());
    let quote = world.path("it's");
    fs::create_dir(&quote).unwrap();
    put_program(&world, &quote.join("kas"));
    let refused =
        world.command(quote.join("kas").to_str().unwrap(), &["daemon", "install"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "systemd takes no quotes in a program's path");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("move kas elsewhere"));
    let unit = world.path(UNIT);
    let verify = |unit: &std::path::Path| {
        let verified =
            world.command("systemd-analyze", &["--user", "verify", unit.to_str().unwrap()]).output();
        let verified = verified.expect("systemd-analyze is installed by scripts/test");
        (verified.status.success(), String::from_utf8_lossy(&verified.stderr).into_owned())
    };
    let about = |said: String| said.lines().filter(|line| line.contains("kas.service")).count();
    let (accepted, said) = verify(&unit);
    assert!(accepted && about(said.clone()) == 0, "{said}");
    // It does find what is wrong.
    let text = fs::read_to_string(&unit).unwrap();
    fs::write(&unit, text.replace("KillMode=process", "KillMode=perhaps")).unwrap();
    let (_, said) = verify(&unit);
    assert!(about(said.clone()) > 0, "{said}");
}
