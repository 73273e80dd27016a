//! The daemon among other programs: systemd, signals, earlier and later versions of itself, and the places it is given.

mod clock;
mod container;
mod database;
mod notify;
mod places;
mod program;
mod scopes;
mod signals;
mod tmux_env;
mod unit;
mod upgrade;

use std::path::PathBuf;

use crate::harness::World;

const PROJECT: &str = "project: demo\ntasks: {kept: {command: 'echo kept', history: true}}";

/// Puts a shell script of this name first on the daemon's `PATH`.
fn script(world: &mut World, name: &str, body: &str) -> PathBuf {
    let path = world.program(&format!("bin/{name}"), body);
    let dir = path.parent().unwrap().to_str().unwrap();
    world.set_env("PATH", &format!("{dir}:{}", std::env::var("PATH").unwrap()));
    path
}

/// As systemd does it: the variables of a service, with the process id that only the process itself can know.
fn as_a_service(world: &mut World) {
    world.set_env("INVOCATION_ID", "0123456789abcdef0123456789abcdef");
    world.set_env("JOURNAL_STREAM", "8:12345");
    world.wrap(&["/bin/sh", "-c", "SYSTEMD_EXEC_PID=$$ exec \"$@\"", "sh"]);
}
