//! Measures a release build: how soon it answers, how soon tasks live again, what it costs them, what it needs.
//!
//! `scripts/bench [NAME…] [--rounds N]`. Each figure is one line: the median of its rounds, the least and the most, and beside it what the
//! same machine does at the same time without kas or without the fault, which is what to compare with: absolute times are the machine's.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a program that measures, starts processes, reads clocks and stops at the first surprise"
)]

mod cost;
mod figure;
#[allow(dead_code, unused_imports, reason = "shared with the test binaries, each of which uses a part of it")]
#[path = "../../tests/harness/mod.rs"]
mod harness;
mod producer;
mod scene;
mod screen;
mod speed;
mod stall;

use figure::Figure;

/// What can be measured, in the order it is measured in.
const NAMES: [&str; 14] = [
    "start",
    "start-500",
    "reattach-50",
    "reattach-50-tmux",
    "reattach-500",
    "terminate-50",
    "stop",
    "recover",
    "stall-stopped",
    "stall-locked",
    "memory",
    "throughput-pty",
    "throughput-tmux",
    "screen",
];

fn main() {
    let mut args: Vec<String> = std::env::args().skip(1).filter(|arg| arg != "--bench").collect();
    if args.first().is_some_and(|arg| arg == producer::WORD) {
        return producer::run(&args[1..]);
    }
    let mut rounds = None;
    if let Some(at) = args.iter().position(|arg| arg == "--rounds") {
        rounds = args.get(at + 1).and_then(|count| count.parse().ok());
        assert!(rounds.is_some_and(|count: usize| count > 0), "--rounds needs a number");
        args.drain(at..at + 2);
    }
    if let Some(unknown) = args.iter().find(|name| !NAMES.contains(&name.as_str())) {
        println!("There is no figure {unknown}. There are: {}", NAMES.join(", "));
        std::process::exit(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for name in NAMES.iter().filter(|name| args.is_empty() || args.iter().any(|arg| arg == *name)) {
        for figure in runtime.block_on(measure(name, rounds)) {
            println!("{figure}");
        }
    }
}

async fn measure(name: &str, rounds: Option<usize>) -> Vec<Figure> {
    use harness::Backend::{Pty, Tmux};
    let few = rounds.unwrap_or(3);
    match name {
        "start" => speed::start(0, rounds.unwrap_or(10)).await,
        "start-500" => speed::start(500, few).await,
        "reattach-50" => speed::reattach(Pty, 50, rounds.unwrap_or(5)).await,
        "reattach-50-tmux" => speed::reattach(Tmux, 50, rounds.unwrap_or(5)).await,
        "reattach-500" => speed::reattach(Pty, 500, few).await,
        "terminate-50" => speed::terminate(50, rounds.unwrap_or(5)).await,
        "stop" => speed::stop(rounds.unwrap_or(5)).await,
        "recover" => speed::recover(few).await,
        "stall-stopped" => stall::stopped(few).await,
        "stall-locked" => stall::locked(few).await,
        "memory" => cost::memory(rounds.unwrap_or(1)).await,
        "throughput-pty" => cost::throughput(Pty, few).await,
        "throughput-tmux" => cost::throughput(Tmux, few).await,
        "screen" => screen::followed(few),
        other => unreachable!("{other} is not in the list"),
    }
}
