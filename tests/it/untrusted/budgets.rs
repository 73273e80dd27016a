//! Project files of a cloned repository: each limit of size, depth, count, expansion and time is told with its place, and none is passed.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Backend, World};

/// Far more than any of these files needs, and far less than one that explodes would take.
const CPU_S: u64 = 20;
const MEMORY_KB: u64 = 512 * 1024;

/// What `kas check` says of this text, within bounds of time and memory that the kernel holds it to.
fn check(world: &World, text: &str) -> Value {
    world.write("p/.kaged/project.yaml", text);
    let limits = format!("ulimit -t {CPU_S} -v {MEMORY_KB}; exec \"$@\"");
    let mut command: Command =
        world.command("/bin/sh", &["-c", &limits, "sh", env!("CARGO_BIN_EXE_kas"), "check", "--json"]);
    let done = command.current_dir(world.path("p")).output().unwrap();
    assert_eq!(done.status.code(), Some(4), "{done:?}");
    serde_json::from_slice(&done.stdout).unwrap()
}

fn laughs() -> String {
    let line = |n: usize| format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "));
    "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned() + &(1..12).map(line).collect::<String>()
}

#[test]
fn each_budget_of_a_project_file_is_told_with_its_place() {
    let world = World::asleep(Backend::Pty, "");
    let merges = |n: usize| format!("m{n}: &m{n} {{<<: [*m{0}, *m{0}]}}\n", n - 1);
    let merges = "m0: &m0 {k: 1}\n".to_owned() + &(1..60).map(merges).collect::<String>();
    let cases: [(&str, String, (u64, u64), &str); 9] = [
        ("size", "#".repeat(256 * 1024 + 1), (1, 1), "larger than 256 KiB"),
        ("depth", format!("x: 1\na: {}", "[".repeat(40)), (2, 35), "nested more than 32 deep"),
        ("count", format!("a: [{}]", "b,".repeat(10_001)), (1, 20_003), "more than 10000 keys and values"),
        ("aliases", laughs(), (5, 10), "too large when written out"),
        ("merges", merges, (12, 17), "too large when written out"),
        ("cycle", "tasks:\n  a: &a [*a]".to_owned(), (2, 10), "part of"),
        ("duplicate", "tasks:\n  test: {command: a}\n  test: {command: b}".to_owned(), (3, 3), "test"),
        ("tag", "tasks: !python/object/apply:os.system [x]".to_owned(), (1, 8), "tag"),
        ("documents", "tasks: {}\n---\ntasks: {}".to_owned(), (2, 1), "second document"),
    ];
    for (what, text, (line, column), message) in cases {
        let said = check(&world, &text);
        let problem = &said["error"]["details"]["problems"][0];
        assert_eq!(problem["file"], json!(".kaged/project.yaml"), "{what}: {said}");
        assert_eq!(
            (&problem["line"], &problem["column"]),
            (&json!(line), &json!(column)),
            "{what}: {problem}"
        );
        assert!(problem["message"].as_str().unwrap().contains(message), "{what}: {problem}");
    }
}

/// Texts on which a backtracking engine takes time that doubles with each character, at every place that has a pattern.
#[test]
fn no_pattern_takes_long_on_any_text() {
    let world = World::asleep(Backend::Pty, "");
    for unit in ["a", "a-", "-", "a/", "../", "A_", "\u{e9}"] {
        let long = unit.repeat(60_000 / unit.len());
        let tasks = json!({"project": long, "tasks": {&long: {"command": "x"},
            "ab": {"command": "x", "cwd": long, "group": long, "env": {&long: "v"}}}});
        let start = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let said = check(&world, &tasks.to_string());
        let end = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        println!("{unit:?}: {:?}", Duration::from_secs((end.tv_sec - start.tv_sec).unsigned_abs()));
        assert!(
            said["error"]["details"]["problems"].as_array().is_some_and(|it| !it.is_empty()),
            "{unit:?}: {said}"
        );
    }
}
