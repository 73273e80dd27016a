//! The demo project does what its task descriptions say, on the tools of a bare Debian (sh, perl-base, coreutils).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_yaml::Value;

fn demo() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/demo-project")
}

/// The task's entry in the project file.
fn task(name: &str) -> Value {
    let text = std::fs::read_to_string(demo().join(".kaged/project.yaml")).unwrap();
    let project: Value = serde_yaml::from_str(&text).unwrap();
    project["tasks"][name].clone()
}

/// The task's command as kas starts it: `/bin/sh -c`, in its directory, with its variables.
fn command(task: &Value) -> Command {
    let mut command = Command::new("/bin/sh");
    command.arg("-c").arg(task["command"].as_str().unwrap()).stdin(Stdio::null());
    command.current_dir(demo().join(task["cwd"].as_str().unwrap_or(".")));
    for (name, value) in task["env"].as_mapping().into_iter().flatten() {
        command.env(name.as_str().unwrap(), value.as_str().unwrap());
    }
    command
}

fn run(name: &str) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = command(&task(name)).output().unwrap();
    assert!(stderr.is_empty(), "{}", String::from_utf8_lossy(&stderr));
    (status.code(), String::from_utf8(stdout).unwrap())
}

#[test]
fn every_task_names_a_program_of_the_project() {
    let text = std::fs::read_to_string(demo().join(".kaged/project.yaml")).unwrap();
    let project: Value = serde_yaml::from_str(&text).unwrap();
    for (name, task) in project["tasks"].as_mapping().unwrap() {
        let program = task["command"].as_str().unwrap().split(' ').next().unwrap();
        let path = demo().join(task["cwd"].as_str().unwrap_or(".")).join(program);
        let mode = path.metadata().unwrap_or_else(|error| panic!("{name:?}: {error}")).permissions().mode();
        assert_eq!(mode & 0o111, 0o111, "{name:?} is not executable");
        assert!(task["description"].is_string() && task["group"].is_string(), "{name:?} says too little");
    }
}

#[test]
fn one_passes_and_one_fails() {
    let (code, passed) = run("test");
    assert_eq!(code, Some(0));
    assert!(passed.ends_with("\x1b[32m5 passed\x1b[0m, 0 failed\n"), "{passed}");
    let (code, failed) = run("test-broken");
    assert_eq!(code, Some(3));
    assert!(failed.contains("\x1b[1;31merror:\x1b[0m expected an error"), "{failed}");
}

#[test]
fn directory_and_variables_arrive() {
    let (code, said) = run("check-env");
    assert_eq!(code, Some(0));
    assert_eq!(
        said,
        format!(
            "in   {}\nsays \x1b[36mhello, the demo project\x1b[0m\n",
            demo().canonicalize().unwrap().join("service").display()
        )
    );
}

#[test]
fn the_flood_is_twenty_megabytes_to_its_last_line() {
    let (code, flood) = run("flood");
    assert_eq!(code, Some(0));
    assert!(flood.len() >= 20_000_000, "{} bytes", flood.len());
    let lines = flood.lines().count() - 1;
    assert!(flood.ends_with(&format!("\x1b[1;32m{lines} lines\x1b[0m\n")));
}

#[test]
fn careful_and_colourful() {
    assert_eq!(task("wipe")["confirm"], Value::Bool(true));
    assert!(run("wipe").1.contains("deleting backups"));
    assert!(run("colours").1.contains("\x1b[48;2;255;0;128m"));
}

/// A started task that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn the_server_prints_what_it_is_asked() {
    let mut task = task("serve");
    assert_eq!(task["long_running"], Value::Bool(true));
    // With `exec` the shell becomes the server, so ending the child ends the server.
    task["command"] = format!("exec {}", task["command"].as_str().unwrap()).into();
    let mut server = Running(command(&task).env_remove("PORT").stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(server.0.stdout.take().unwrap()).lines().map(Result::unwrap);

    let told = lines.next().unwrap();
    let address = told.split("http://").nth(1).unwrap().split('/').next().unwrap().to_owned();
    let mut client = TcpStream::connect(address).unwrap();
    client.write_all(b"GET /here HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("this is request 1\n"), "{answer}");
    let printed = lines.next().unwrap();
    assert!(printed.ends_with("200\x1b[0m GET /here"), "{printed}");
}
