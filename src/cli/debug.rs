//! `kas debug`: tools for looking at kas's own data.

mod fsck;
mod screen;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, Subcommand};
use serde_json::Value as Json;

use super::output::harmless_json;
use crate::control::replay::{Record, Replay, Summary, Value, describe};
use crate::control::{Event, PaneId};

/// How much is read at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// Arguments of `kas debug`.
#[derive(Debug, Args)]
pub struct DebugArgs {
    #[command(subcommand)]
    command: DebugCommand,
}

#[derive(Debug, Subcommand)]
enum DebugCommand {
    /// Show what a recorded tmux control stream says, an event a line
    Replay(ReplayArgs),
    /// Show a terminal's stream as the state that a late viewer is sent
    Screen(screen::ScreenArgs),
    /// Check that records, directories, processes and windows agree, and say which promise is broken
    Fsck(fsck::FsckArgs),
    /// List the runs that have a directory, without the database; changes nothing
    Salvage,
}

/// Arguments of `kas debug replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// What `tmux -C` wrote; `-` is standard input
    file: PathBuf,
    /// Events as JSON lines
    #[arg(long, conflicts_with = "raw")]
    json: bool,
    /// Only what this pane wrote
    #[arg(long, value_name = "N")]
    pane: Option<u32>,
    /// Exactly the bytes the pane wrote
    #[arg(long, requires = "pane")]
    raw: bool,
}

/// How events are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// A line of words for each, of one pane or of all.
    Words(Option<PaneId>),
    /// A line of JSON for each, of one pane or of all.
    Json(Option<PaneId>),
    /// The decoded bytes of one pane and nothing else.
    Raw(PaneId),
}

/// Runs `kas debug`; answers the exit code.
///
/// # Errors
///
/// When a file cannot be read or standard output not be written. What a recording says is never an error.
pub fn run(args: DebugArgs, as_json: bool) -> anyhow::Result<u8> {
    match args.command {
        DebugCommand::Replay(args) => run_replay(args),
        DebugCommand::Screen(args) => screen::run(&args),
        DebugCommand::Salvage => super::salvage::run(as_json),
        DebugCommand::Fsck(args) => fsck::run(args),
    }
}

fn run_replay(ReplayArgs { file, json, pane, raw }: ReplayArgs) -> anyhow::Result<u8> {
    let style = match (raw, json, pane.map(PaneId)) {
        (true, _, Some(pane)) => Style::Raw(pane),
        (_, true, pane) => Style::Json(pane),
        (_, false, pane) => Style::Words(pane),
    };
    let mut out = BufWriter::with_capacity(PIECE_BYTES, io::stdout().lock());
    let shown = replay(open(&file)?, &mut out, &mut io::stderr().lock(), style);
    match shown {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(0),
        other => other.map(|()| 0).with_context(|| format!("cannot replay {}", file.display())),
    }
}

fn open(file: &Path) -> anyhow::Result<Box<dyn Read>> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin().lock()));
    }
    let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    Ok(Box::new(opened))
}

/// Shows the stream `input` on `out`. The summary follows on `out`, or on `err` if `out` has raw bytes.
///
/// # Errors
///
/// Those of reading and writing.
pub fn replay(
    mut input: impl Read,
    out: &mut impl Write,
    err: &mut impl Write,
    style: Style,
) -> io::Result<()> {
    let mut replay = Replay::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let len = match input.read(&mut piece) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        if len == 0 {
            break;
        }
        replay.feed(&piece[..len]);
        show_events(&mut replay, out, style)?;
        out.flush()?;
    }
    replay.finish();
    show_events(&mut replay, out, style)?;
    match style {
        Style::Words(_) => show_summary(replay.summary(), out)?,
        Style::Json(_) => writeln!(out, "{}", json_of_summary(replay.summary()))?,
        Style::Raw(_) => show_summary(replay.summary(), err)?,
    }
    out.flush()
}

fn show_events(replay: &mut Replay, out: &mut impl Write, style: Style) -> io::Result<()> {
    while let Some(event) = replay.next_event() {
        let pane = if let Event::Output { pane, .. } = &event { Some(*pane) } else { None };
        match (style, &event) {
            (Style::Raw(wanted), Event::Output { pane, bytes, .. }) if *pane == wanted => {
                out.write_all(bytes)?
            }
            (Style::Words(wanted), event) if wanted.is_none() || wanted == pane => {
                writeln!(out, "{}", words(&describe(event)))?;
            }
            (Style::Json(wanted), event) if wanted.is_none() || wanted == pane => {
                writeln!(out, "{}", harmless_json(&json(&describe(event))))?;
            }
            (Style::Raw(_) | Style::Words(_) | Style::Json(_), _) => {}
        }
    }
    Ok(())
}

fn words(record: &Record) -> String {
    let mut line = record.kind.to_owned();
    for (name, value) in &record.fields {
        let shown = match value {
            Value::Number(number) => number.to_string(),
            Value::Flag(flag) => flag.to_string(),
            Value::Text(text) => format!("\"{}\"", text.escape_ascii()),
        };
        line += &format!(" {name}={shown}");
    }
    line
}

/// The kind comes first, so lines can be read and searched by eye.
fn json(record: &Record) -> String {
    let mut line = format!("{{\"kind\":{}", Json::from(record.kind));
    for (name, value) in &record.fields {
        let value = match value {
            Value::Number(number) => Json::from(*number),
            Value::Flag(flag) => Json::from(*flag),
            Value::Text(text) => Json::from(String::from_utf8_lossy(text)),
        };
        line += &format!(",{}:{value}", Json::from(*name));
    }
    line + "}"
}

fn json_of_summary(summary: &Summary) -> String {
    let events: BTreeMap<_, _> = summary.events.iter().map(|(kind, n)| (*kind, *n)).collect();
    let panes: BTreeMap<_, _> = summary.panes.iter().map(|(pane, n)| (pane.0.to_string(), *n)).collect();
    let total: u64 = events.values().sum();
    format!(
        "{{\"kind\":\"summary\",\"stream_bytes\":{},\"output_bytes\":{},\"events\":{total},\"counts\":{},\"panes\":{}}}",
        summary.stream_bytes,
        summary.output_bytes,
        serde_json::json!(events),
        serde_json::json!(panes)
    )
}

fn show_summary(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    write!(out, "summary stream_bytes={} output_bytes={}", summary.stream_bytes, summary.output_bytes)?;
    summary.events.iter().try_for_each(|(kind, n)| write!(out, " {kind}={n}"))?;
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        debug: DebugArgs,
    }

    fn check(line: &str, good: bool) {
        let words = ["debug", "replay"].into_iter().chain(line.split(' '));
        assert_eq!(Line::try_parse_from(words).is_ok(), good, "{line}");
    }

    #[test]
    fn arguments() {
        for good in ["x.ctl", "-", "x.ctl --json", "x.ctl --pane 3 --raw", "--json --pane 3 x.ctl"] {
            check(good, true);
        }
        for bad in ["--json", "x.ctl --raw", "x.ctl --json --raw --pane 1", "x.ctl --pane %1", "x.ctl y.ctl"]
        {
            check(bad, false);
        }
    }

    #[test]
    fn a_missing_file_is_an_error_that_names_it() {
        let line = Line::try_parse_from(["debug", "replay", "/nonexistent/x.ctl"]).unwrap();
        assert!(run(line.debug, false).unwrap_err().to_string().contains("/nonexistent/x.ctl"));
    }
}
