//! `kas wait`: until a run has ended.

use std::time::Duration;

use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::context::Context;
use super::error::Error;
use super::output::code;
use super::table::span;
use crate::client::{Client, Error as ClientError, Frame, Refused, Run, Socket};
use crate::model::{RunState, signal_number};

/// How long a daemon that went away is looked for.
const RECONNECT_FOR: Duration = Duration::from_secs(60);
/// Time between two attempts.
const RECONNECT_EVERY: Duration = Duration::from_millis(200);
/// How many events before the first one heard may tell of an end that came before it.
const LOOK_BACK: u64 = 10_000;
/// An event lost on the way costs no more than this.
const LOOK_AGAIN_EVERY: Duration = Duration::from_secs(5);

/// Wait until a run has ended, and end with its code (128+n for a signal)
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A task's name (its newest run) or a run's id
    #[arg(value_name = "NAME|ID")]
    name: String,
    /// Give up after so many seconds, with exit code 6
    #[arg(long, value_name = "S", value_parser = seconds)]
    timeout: Option<Duration>,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())
}

pub(super) async fn run(args: Args, mut context: Context<'_>) -> Result<u8, Error> {
    let waiting = async {
        let run = context.find_run(&args.name).await?;
        Ok::<_, Error>(ended(&context.client, run).await?)
    };
    let run = match args.timeout {
        None => waiting.await?,
        Some(limit) => timeout(limit, waiting).await.map_err(|_| {
            Error::TimedOut(format!("{} has not ended after {} s", args.name, limit.as_secs_f64()))
        })??,
    };
    let sentence = format!("{} {}", run.name(), outcome(&run));
    context.print(&run.json, &sentence)?;
    Ok(exit_code(run.state, run.exit_code, run.signal.as_deref()))
}

/// How far the events are heard.
#[derive(Default)]
struct Heard {
    /// The newest one's id.
    last: Option<u64>,
    /// The kept ones were asked for once more.
    looked_back: bool,
}

/// The run once it has ended: its record, and where that is gone by then, the end as it was told.
pub(super) async fn ended(client: &Client, mut run: Run) -> Result<Run, ClientError> {
    let mut lost_since: Option<Instant> = None;
    let mut heard = Heard::default();
    while !run.state.is_terminal() {
        match watch(client, &run, &mut heard).await {
            Ok(now) => run = now.unwrap_or(run),
            Err(error) if error.is_passing() => {
                if lost_since.get_or_insert_with(Instant::now).elapsed() > RECONNECT_FOR {
                    return Err(error);
                }
                sleep(RECONNECT_EVERY).await;
                if client.get("/v1/ping").await.is_ok() {
                    lost_since = None;
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(run)
}

/// Listens before it looks, so that no end falls between the two; after a lost connection, from the last event heard. `None`: ask once
/// more.
async fn watch(client: &Client, run: &Run, heard: &mut Heard) -> Result<Option<Run>, ClientError> {
    let mut socket = Socket::open(client, &run.project).await?;
    let mut subscribe = json!({"type": "subscribe", "channel": "events"});
    if let Some(last) = heard.last {
        subscribe["since"] = last.into();
    }
    socket.send(&subscribe).await?;
    let mut gone = None;
    loop {
        let told = match timeout(LOOK_AGAIN_EVERY, next_end(&mut socket, run, heard)).await {
            Ok(told) => told?,
            Err(_) => match gone {
                Some(error) => return Err(error),
                None => None,
            },
        };
        match client.get(&format!("/api/v1/tasks/{}", run.id)).await {
            Ok(record) => {
                let record = Run::of(record)?;
                if record.state.is_terminal() {
                    socket.close().await;
                    return Ok(Some(record));
                }
            }
            Err(error) if error.is_not_found() => match told {
                Some(ended) => return Ok(Some(ended)),
                None if heard.looked_back => gone = Some(error),
                // It ended, and was deleted, before anything was heard: the events that are kept tell of it.
                None => {
                    heard.looked_back = true;
                    heard.last = heard.last.map(|last| last.saturating_sub(LOOK_BACK));
                    return Ok(None);
                }
            },
            Err(error) => return Err(error),
        }
    }
}

/// The run's end, when an event tells it; nothing at first, when the subscription stands.
async fn next_end(socket: &mut Socket, run: &Run, heard: &mut Heard) -> Result<Option<Run>, ClientError> {
    let id = run.id.to_string();
    loop {
        match socket.next().await? {
            Frame::Subscribed { offset, .. } => {
                heard.last.get_or_insert(offset);
                return Ok(None);
            }
            Frame::Event { id: event, task_id, told } => {
                heard.last = Some(event);
                let its_own = task_id.as_ref() == Some(&id);
                if let Some(ended) = its_own.then(|| run.ended_as(&told)).flatten() {
                    return Ok(Some(ended));
                }
            }
            Frame::Error { code, message, .. } => {
                return Err(ClientError::Refused(Refused { code, message, details: serde_json::Map::new() }));
            }
            Frame::Gap { .. }
            | Frame::Size { .. }
            | Frame::Exit(_)
            | Frame::Output { .. }
            | Frame::Snapshot { .. }
            | Frame::InputTaken { .. }
            | Frame::Unknown => {}
        }
    }
}

/// The exit code that stands for the end of a run: its own if it has one, 128+n if signal n ended it.
pub(super) fn exit_code(state: RunState, own: Option<i32>, signal: Option<&str>) -> u8 {
    let own = own.and_then(|own| u8::try_from(own).ok());
    match own.or_else(|| signal.and_then(signal_number).map(|number| 128 + number)) {
        Some(own) => own,
        None if state == RunState::Done => code::OK,
        None => code::FAILED,
    }
}

/// How a run ended, in words.
pub(super) fn outcome(run: &Run) -> String {
    let how = match (&run.signal, run.exit_code, &run.error) {
        (Some(signal), ..) => format!(" ({signal})"),
        (None, Some(0), _) => String::new(),
        (None, Some(own), _) => format!(" (exit code {own})"),
        (None, None, Some(error)) => format!(" ({error})"),
        (None, None, None) => String::new(),
    };
    let why = run.error_text.as_ref().map(|text| format!(": {text}"));
    let time = run.duration_ms.map(|ms| format!(" after {}", span(ms)));
    format!("{}{how}{}{}", run.state, time.unwrap_or_default(), why.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_code_wins() {
        assert_eq!(exit_code(RunState::Done, Some(0), None), 0);
        assert_eq!(exit_code(RunState::Failed, Some(137), Some("SIGKILL")), 137);
        assert_eq!(exit_code(RunState::Stopped, Some(0), None), 0);
        assert_eq!(exit_code(RunState::Stopped, Some(3), None), 3);
        assert_eq!(exit_code(RunState::Stopped, None, Some("SIGTERM")), 143);
        assert_eq!(exit_code(RunState::Stopped, None, Some("SIGKILL")), 137);
        assert_eq!(exit_code(RunState::Stopped, None, None), 1);
        assert_eq!(exit_code(RunState::Failed, None, None), 1);
    }

    #[test]
    fn seconds_are_whole_or_not() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for bad in ["-1", "x", "NaN", "inf", ""] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
