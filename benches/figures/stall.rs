//! How long a command that writes is held up by a daemon that hangs, or a database that is locked.

use std::fs;
use std::time::Duration;

use rusqlite::Connection;
use rustix::process::Signal;

use crate::figure::Figure;
use crate::harness::{Backend, World, eventually};
use crate::producer::WORD;
use crate::scene::roomy;

/// How long the fault lasts in a round; the undisturbed control lasts as long.
const LASTS: Duration = Duration::from_secs(8);

/// The daemon gets SIGSTOP.
pub(crate) async fn stopped(rounds: usize) -> Vec<Figure> {
    let mut figures = Vec::new();
    for backend in [Backend::Pty, Backend::Tmux] {
        let (mut held, mut control) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            control.push(longest_write(backend, |_| ()).await);
            held.push(longest_write(backend, |world| world.signal(Signal::STOP)).await);
        }
        figures.push(figure("daemon stopped", backend, held, control));
    }
    figures
}

/// Another program has the database to itself.
pub(crate) async fn locked(rounds: usize) -> Vec<Figure> {
    let (mut held, mut control) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        control.push(longest_write(Backend::Pty, |_| ()).await);
        held.push(longest_write(Backend::Pty, lock).await);
    }
    vec![figure("database locked", Backend::Pty, held, control)]
}

fn figure(fault: &str, backend: Backend, held: Vec<f64>, control: Vec<f64>) -> Figure {
    Figure::new(format!("longest write, {fault}, {}", backend.word()), "ms", held)
        .beside("undisturbed", control)
}

/// Locks the database until it is dropped.
pub(crate) fn lock(world: &World) -> Connection {
    let database = Connection::open(world.state_dir().join("runner.db")).unwrap();
    database.busy_timeout(Duration::from_secs(5)).unwrap();
    database.execute_batch("BEGIN EXCLUSIVE").unwrap();
    database
}

/// The longest single write of a producer while a fault is there; milliseconds.
async fn longest_write<T>(backend: Backend, fault: impl FnOnce(&World) -> T) -> f64 {
    let world = roomy(backend, 8);
    let demo = world.project("demo", "tasks: {}").await;
    let own = std::env::current_exe().unwrap();
    let account = world.path("account");
    let command = format!("exec '{}' {WORD} '{}'", own.display(), account.display());
    let id = world.run_command(&demo, &command).await;
    world.until_running(&id).await;
    let read = || fs::read_to_string(&account).ok().map(|text| account_of(&text));
    eventually("the producer does not begin", || read().map(drop).ok_or_else(String::new)).await;
    let (_, before) = read().unwrap();
    let held = fault(&world);
    tokio::time::sleep(LASTS).await;
    let (longest, after) = read().unwrap();
    drop(held);
    world.signal(Signal::CONT);
    assert!(after > before, "the producer wrote nothing at all");
    longest
}

/// The longest write in milliseconds, and how many lines there were.
fn account_of(text: &str) -> (f64, u64) {
    let (longest, lines) = text.split_once(' ').unwrap();
    (longest.parse::<f64>().unwrap() / 1000.0, lines.parse().unwrap())
}
