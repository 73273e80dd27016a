//! What `scripts/test` says of a step: its counts are true also when it is cut, and what it did not run is named.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::{Done, eventually};

/// Three tests that end, two that never do, and two behind them. With two threads the second of those that hang begins when all before it
/// are told; then the limit is over, for timeout(1) takes the signal of its own clock from the test.
const FIXTURE: &str = r#"
#[test] fn a_passes() {}
#[test] fn b_fails() { panic!("why") }
#[test] fn c_is_ignored_no() {}
#[test] fn d_hangs() { loop { std::thread::park() } }
#[test] fn e_hangs() {
    let timeout = std::os::unix::process::parent_id().to_string();
    assert!(std::process::Command::new("kill").args(["-ALRM", &timeout]).status().unwrap().success());
    loop { std::thread::park() }
}
#[test] fn f_waits_its_turn() {}
#[test] fn g_waits_its_turn() {}
"#;
/// A test program as `cargo test` runs it: each binary is announced. The second one takes its process with it.
const CARGO: &str = r#"#!/usr/bin/env bash
[ "$1" = -- ] && shift
echo "     Running unittests src/lib.rs (target/debug/deps/kas-1)"
"$(dirname "$0")/whole" "$@"
echo "     Running tests/it/main.rs (target/debug/deps/it-2)"
exec "$(dirname "$0")/fixture" "$@"
"#;

fn compile(dir: &Path, name: &str, source: &str) {
    let path = dir.join(format!("{name}.rs"));
    fs::write(&path, source).unwrap();
    let mut rustc = Command::new("rustc");
    rustc.args(["--test", "--edition", "2024", "-o"]).args([&dir.join(name), &path]);
    let done = Done::of(rustc);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
}

/// A script in `dir` that runs `steps` as scripts/test does.
fn script(dir: &Path, steps: &str) -> Command {
    let machinery = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/steps.sh");
    let finish = "finish() { local code=$?; kill $(jobs -p) 2>/dev/null || true; totals \"$0\" || exit 1; exit $code; }\n\
        trap finish EXIT\ntrap 'exit 143' TERM";
    let path = dir.join("test");
    fs::write(&path, format!("set -eu\nexport LOGS={}\n. {machinery}\n{finish}\n{steps}\n", dir.display()))
        .unwrap();
    let mut bash = Command::new("bash");
    bash.arg(path).env("RUST_TEST_THREADS", "2").stdin(Stdio::null());
    bash
}

fn last_line(done: &Done) -> &str {
    done.stdout.lines().next_back().unwrap_or_default()
}

#[test]
fn a_cut_step_counts_what_ran_and_names_what_did_not() {
    let temp = tempfile::tempdir().unwrap();
    compile(temp.path(), "whole", "#[test] fn is_whole() {}");
    compile(temp.path(), "fixture", FIXTURE);
    fs::write(temp.path().join("cargo.sh"), CARGO).unwrap();
    let steps = "step first true\ntests cut 5m cargo bash \"$LOGS/cargo.sh\"\nstep after true";
    let done = Done::of(script(temp.path(), steps));
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(last_line(&done), "3 passed, 3 failed", "{}", done.stdout);
    let ran = "cut: these tests ran and did not come to an end:\n    d_hangs\n    e_hangs\n";
    let unrun = "cut: these 2 tests were not run:\n    f_waits_its_turn\n    g_waits_its_turn\n";
    for said in ["cut: cut after 5m\n", ran, unrun, "test b_fails ... FAILED", "after          ok"] {
        assert!(done.stdout.contains(said), "{said}:\n{}", done.stdout);
    }
    assert!(!done.stdout.contains("steps that were not run"), "{}", done.stdout);
}

#[test]
fn a_binary_that_dies_hides_nothing_of_the_next() {
    let temp = tempfile::tempdir().unwrap();
    compile(
        temp.path(),
        "whole",
        "#[test] fn a() { std::process::abort() } #[test] fn b() {} #[test] fn c() {}",
    );
    compile(temp.path(), "fixture", "#[test] fn is_whole() {}");
    fs::write(temp.path().join("cargo.sh"), CARGO).unwrap();
    let mut bash = script(temp.path(), "tests died 60s cargo bash \"$LOGS/cargo.sh\"");
    bash.env("RUST_TEST_THREADS", "1");
    let done = Done::of(bash);
    assert_eq!((done.code, last_line(&done)), (Some(1), "1 passed, 1 failed"), "{}", done.stdout);
    let unrun = "died: these 2 tests were not run:\n    b\n    c\n";
    assert!(done.stdout.contains("\n    a\n") && done.stdout.contains(unrun), "{}", done.stdout);
}

#[test]
fn reporters_lines_are_counted_like_libtests() {
    let temp = tempfile::tempdir().unwrap();
    let said = "kas-test listed x > one\nkas-test listed x > two\nkas-test listed x > three\nkas-test listed x > four\n\
        kas-test began x > one\nkas-test passed x > one\nkas-test began x > two\nkas-test failed x > two\nkas-test began x > three\n";
    fs::write(temp.path().join("said"), said).unwrap();
    let steps =
        "tests cut 5m events bash -c 'cat \"$0\"; kill -ALRM $PPID; exec tail -f /dev/null' \"$LOGS/said\"";
    let done = Done::of(script(temp.path(), steps));
    assert_eq!((done.code, last_line(&done)), (Some(1), "1 passed, 2 failed"), "{}", done.stdout);
    for said in ["come to an end:\n    x > three\n", "these 1 tests were not run:\n    x > four\n"] {
        assert!(done.stdout.contains(said), "{said}:\n{}", done.stdout);
    }
}

#[test]
fn a_step_counts_as_one_failure_where_nothing_else_failed() {
    let check = |steps: &str, code: i32, last: &str| {
        let temp = tempfile::tempdir().unwrap();
        let done = Done::of(script(temp.path(), steps));
        assert_eq!((done.code, last_line(&done)), (Some(code), last), "{steps}:\n{}", done.stdout);
        done.stdout
    };
    check("step good true", 0, "0 passed, 0 failed");
    check("step bad false\nstep good true", 1, "0 passed, 1 failed");
    check("step told echo 'test result: FAILED. 4 passed; 2 failed; 0 ignored'", 1, "4 passed, 2 failed");
    check("tests none 9s events true", 1, "0 passed, 1 failed");
    check("step build false\npassed build || not_run faults 'the build failed'", 1, "0 passed, 2 failed");
    let said =
        check("step good true\nexit 3\nstep later true\ntests last 9s cargo true", 1, "0 passed, 1 failed");
    assert!(said.contains("steps that were not run: later last\n"), "{said}");
}

#[tokio::test]
async fn a_script_that_is_ended_says_what_it_did_not_run() {
    let temp = tempfile::tempdir().unwrap();
    let steps =
        "step good true\nstep waits bash -c '>\"$LOGS/begun\"; exec tail -f /dev/null'\nstep later true";
    let mut child = script(temp.path(), steps).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().starts_with("good"));
    let begun = || temp.path().join("begun").exists().then_some(()).ok_or_else(String::new);
    eventually("the step that waits begins", begun).await;
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert_eq!(rest, ["steps that were not run: later", "0 passed, 1 failed"]);
}
