//! `kas logs`: what a run wrote, and writes.

use std::collections::VecDeque;
use std::io;

use serde_json::json;

use super::context::Context;
use super::error::Error;
use super::filter::{Filter, Policy};
use super::output::code;
use super::tty;
use crate::client::{End, Mode, Run, Seen, Watch};

/// Show what a run wrote, without the sequences that move cursors and change terminals
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A task's name (its newest run) or a run's id
    #[arg(value_name = "NAME|ID")]
    name: String,
    /// Go on until the run ends
    #[arg(long, short)]
    follow: bool,
    /// The bytes exactly as they were written
    #[arg(long, conflicts_with = "json")]
    raw: bool,
    /// Only the last lines
    #[arg(long, short = 'n', value_name = "N")]
    lines: Option<usize>,
}

pub(super) async fn run(args: Args, mut context: Context<'_>) -> Result<u8, Error> {
    let run = context.find_run(&args.name).await?;
    if context.global.json {
        return as_json(&run, args.follow, &mut context).await;
    }
    let policy = if args.raw { Policy::Open } else { Policy::Text };
    let mut printer = Printer::new(policy, args.lines);
    if args.follow {
        let watch = Watch::open(&context.client, &run.project, run.id, Some(0), Mode::View).await?;
        follow(watch, printer, &mut context).await?;
    } else {
        let path = format!("/api/v1/tasks/{}/transcript?format=raw", run.id);
        let mut download = context.client.download(&path).await?;
        while let Some(bytes) = download.next().await? {
            printer.print(&bytes)?;
        }
        printer.go_live()?;
    }
    say_why(&run, args.follow, &mut context).await?;
    Ok(code::OK)
}

async fn as_json(run: &Run, follow: bool, context: &mut Context<'_>) -> Result<u8, Error> {
    if follow {
        let run = super::wait::ended(&context.client, run.clone()).await?;
        return Box::pin(as_json(&run, false, context)).await;
    }
    let path = format!("/api/v1/tasks/{}/transcript?format=json", run.id);
    let lines = context.client.get(&path).await?;
    context.output.json(&json!({"instance": run.json, "transcript": lines}))?;
    Ok(code::OK)
}

/// A run that never began, or was lost, has less output than its reader expects: the cause is said beside it.
async fn say_why(run: &Run, followed: bool, context: &mut Context<'_>) -> Result<(), Error> {
    let path = format!("/api/v1/tasks/{}", run.id);
    let ended = match followed && !run.state.is_terminal() {
        // It may be deleted by now; what it wrote was shown.
        true => context.client.get(&path).await.ok().map(Run::of).transpose()?,
        false => Some(run.clone()),
    };
    let why = ended.filter(|run| run.error.is_some());
    why.map_or(Ok(()), |run| context.remark(&format!("{} {}", run.name(), super::wait::outcome(&run))))
}

/// Prints a watched run to its end, and says how that was told.
pub(super) async fn follow(
    mut watch: Watch,
    mut printer: Printer,
    context: &mut Context<'_>,
) -> Result<End, Error> {
    let mut live = u64::MAX;
    let mut nothing_yet = true;
    loop {
        match watch.next().await? {
            Seen::Began { live: at } if at == 0 || !nothing_yet => {
                live = at;
                printer.go_live()?;
            }
            Seen::Began { live: at } => live = at,
            Seen::Bytes { offset, bytes, .. } => {
                nothing_yet = false;
                printer.print(&bytes)?;
                if offset + bytes.len() as u64 >= live {
                    printer.go_live()?;
                }
            }
            // A screen in the middle of a text would repeat what stands there already.
            Seen::Snapshot(bytes) if nothing_yet || printer.is_raw() => {
                nothing_yet = false;
                printer.print(&bytes)?;
                printer.go_live()?;
            }
            Seen::Snapshot(_) | Seen::Size(..) => {}
            Seen::Gap { from, to } => {
                context.remark(&format!("{} bytes are not kept any more", to - from))?
            }
            Seen::Complaint(message) => context.remark(&message)?,
            Seen::Lost => context.remark("the daemon is away; waiting for it")?,
            Seen::End(end) => {
                printer.go_live()?;
                watch.close().await;
                return Ok(end);
            }
        }
    }
}

/// Filters output and writes it to stdout; at first, if so wished, only its last lines.
pub(super) struct Printer {
    filter: Filter,
    tail: Option<Tail>,
}

impl Printer {
    pub(super) fn new(policy: Policy, last_lines: Option<usize>) -> Self {
        Self { filter: Filter::new(policy), tail: last_lines.map(Tail::new) }
    }

    fn is_raw(&self) -> bool {
        matches!(self.filter.policy, Policy::Mute | Policy::Open)
    }

    fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut text = Vec::with_capacity(bytes.len());
        self.filter.feed(bytes, &mut text);
        match &mut self.tail {
            Some(tail) => {
                tail.feed(&text);
                Ok(())
            }
            None => tty::write(&text),
        }
    }

    /// From here on everything is printed; before it, the last lines so far.
    fn go_live(&mut self) -> io::Result<()> {
        self.tail.take().map_or(Ok(()), |tail| tty::write(&tail.into_bytes()))
    }
}

/// The last lines of a text; as large as those lines, and a transcript is limited.
struct Tail {
    keep: usize,
    lines: VecDeque<Vec<u8>>,
}

impl Tail {
    const fn new(keep: usize) -> Self {
        Self { keep, lines: VecDeque::new() }
    }

    fn feed(&mut self, text: &[u8]) {
        for piece in text.split_inclusive(|&byte| byte == b'\n') {
            match self.lines.back_mut().filter(|line| !line.ends_with(b"\n")) {
                Some(line) => line.extend_from_slice(piece),
                None => self.lines.push_back(piece.to_vec()),
            }
            if self.lines.len() > self.keep {
                self.lines.pop_front();
            }
        }
    }

    fn into_bytes(self) -> Vec<u8> {
        self.lines.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_are_whole() {
        let check = |keep: usize, text: &[u8], expect: &[u8]| {
            for size in 1..=text.len() {
                let mut tail = Tail::new(keep);
                text.chunks(size).for_each(|chunk| tail.feed(chunk));
                assert_eq!(tail.into_bytes(), expect, "{keep} of {text:?} in pieces of {size}");
            }
        };
        check(2, b"a\nb\nc\n", b"b\nc\n");
        check(2, b"a\nb\nc", b"b\nc");
        check(9, b"a\n\nb", b"a\n\nb");
        check(1, b"a\n\n", b"\n");
        check(0, b"a\nb", b"");
    }
}
