//! `kas logs`: what a run wrote, and writes.

use std::collections::VecDeque;
use std::io::{self, IsTerminal as _};
use std::time::Duration;

use tokio::time::sleep;

use super::context::Context;
use super::error::Error;
use super::filter::{Filter, Policy};
use super::output::{code, harmless, harmless_json};
use super::signals::or_signal;
use super::tty;
use crate::client::{End, Error as ClientError, Mode, Run, Seen, Watch};
use crate::terminal::{Plain, TextPiece};

/// How long a line that is not over may be held back for being written over.
const SHOW_AFTER: Duration = Duration::from_millis(300);

/// Show what a run wrote: on a terminal with its colours, elsewhere as lines of text
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

pub(super) async fn run(args: Args, context: Context<'_>) -> Result<u8, Error> {
    or_signal(show(args, context)).await
}

async fn show(args: Args, mut context: Context<'_>) -> Result<u8, Error> {
    let run = context.find_run(&args.name).await?;
    if context.global.json {
        return as_json(&run, args.follow, &mut context).await;
    }
    let mut printer = Printer::new(Form::of(args.raw.then_some(Policy::Open)), args.lines);
    if args.follow {
        let watch = Watch::open(&context.client, &run.project, run.id, Some(0), Mode::View).await?;
        follow(watch, printer, &mut context).await?;
    } else {
        let path = format!("/api/v1/tasks/{}/transcript?format=raw", run.id);
        let mut download = context.client.download(&path).await?;
        tell_gap(download.start_offset(), &mut context)?;
        let whole = loop {
            match download.next().await {
                Ok(Some(bytes)) => printer.print(&bytes)?,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        // What came is shown, also where the rest did not.
        printer.end()?;
        whole?;
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
    let mut download = context.client.download(&path).await?;
    tell_gap(download.start_offset(), context)?;
    // As it comes, for it may be longer than should be held: one line of JSON, made harmless piece by piece.
    let mut text = JsonText::default();
    write!(context.output.out, "{{\"instance\":{},\"transcript\":", harmless(&run.json))?;
    let done = loop {
        match download.next().await {
            Ok(Some(bytes)) => write!(context.output.out, "{}", text.feed(&bytes)?)?,
            Ok(None) => break text.end().map_err(Error::from),
            Err(error) => break Err(error.into()),
        }
    };
    // A part of it stands on a line of its own, before what is said of it.
    writeln!(context.output.out, "{}", if done.is_ok() { "}" } else { "" })?;
    done.map(|()| code::OK)
}

/// Says what is missing before the first line.
fn tell_gap(missing: u64, context: &mut Context<'_>) -> Result<(), Error> {
    if missing == 0 {
        return Ok(());
    }
    context.remark(&format!("the first {missing} bytes of the output are not kept any more"))?;
    Ok(context.output.err.flush()?)
}

/// JSON text that comes in pieces, made harmless; a character may be cut.
#[derive(Default)]
struct JsonText(Vec<u8>);

impl JsonText {
    fn feed(&mut self, bytes: &[u8]) -> Result<String, ClientError> {
        self.0.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.0) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(error) => return Err(ClientError::Nonsense(error.to_string())),
        };
        let rest = self.0.split_off(whole);
        let text = std::mem::replace(&mut self.0, rest);
        Ok(harmless_json(&String::from_utf8_lossy(&text)))
    }

    fn end(self) -> Result<(), ClientError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(ClientError::Nonsense("it ends within a character".to_owned()))
        }
    }
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
        let seen = tokio::select! {
            seen = watch.next() => seen?,
            // A question without an end of line waits for an answer, and so would its reader.
            () = sleep(SHOW_AFTER), if printer.holds_back() => {
                printer.show_unfinished()?;
                continue;
            }
        };
        match seen {
            Seen::Began { live: at } if at == 0 || !nothing_yet => {
                live = at;
                printer.go_live()?;
            }
            Seen::Began { live: at } => live = at,
            Seen::Bytes { offset, bytes } => {
                nothing_yet = false;
                printer.print(&bytes)?;
                if offset + bytes.len() as u64 >= live {
                    printer.go_live()?;
                }
            }
            // A screen in the middle of a text would repeat what stands there already.
            Seen::Snapshot(bytes) if nothing_yet || printer.shows_bytes() => {
                nothing_yet = false;
                printer.print(&bytes)?;
                printer.go_live()?;
            }
            Seen::Snapshot(_) | Seen::Size(..) => {}
            Seen::Gap { from: 0, to } => tell_gap(to, context)?,
            Seen::Gap { from, to } => {
                context.remark(&format!("{} bytes of the output are not kept any more", to - from))?;
            }
            Seen::Complaint(message) => context.remark(&message)?,
            Seen::Lost => context.remark("the daemon is away; waiting for it")?,
            Seen::End(end) => {
                printer.end()?;
                watch.close().await;
                return Ok(end);
            }
        }
    }
}

/// How output is shown.
pub(super) enum Form {
    /// The bytes, but for what the policy drops.
    Bytes(Filter),
    /// The lines as a terminal shows them in the end.
    Lines {
        plain: Box<Plain>,
        filter: Filter,
        /// What was shown of the line that is not over.
        shown: String,
    },
}

impl Form {
    /// In the form that was asked for; else as it is where a terminal shows it, and as lines of text elsewhere.
    pub(super) fn of(asked: Option<Policy>) -> Self {
        let on_terminal = io::stdout().is_terminal().then_some(Policy::Screen);
        asked.or(on_terminal).map_or_else(Self::lines, |policy| Self::Bytes(Filter::new(policy)))
    }

    fn lines() -> Self {
        Self::Lines { plain: Box::default(), filter: Filter::new(Policy::Text), shown: String::new() }
    }

    fn feed(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        match self {
            Self::Bytes(filter) => filter.feed(bytes, out),
            Self::Lines { plain, filter, shown } => {
                for TextPiece { text, ends } in plain.feed(bytes) {
                    rest(&std::mem::take(shown), &text, filter, out);
                    filter.feed(if ends { b"\n" } else { b"" }, out);
                }
            }
        }
    }

    /// Shows the line so far. If it is written over afterwards, its new state is a line of its own.
    fn unfinished(&mut self, out: &mut Vec<u8>) {
        if let Self::Lines { plain, filter, shown } = self {
            let now = plain.unfinished();
            rest(shown, &now, filter, out);
            *shown = now;
        }
    }

    fn holds_back(&self) -> bool {
        match self {
            Self::Bytes(_) => false,
            Self::Lines { plain, shown, .. } => !plain.is_at_line_start() && plain.unfinished() != *shown,
        }
    }

    /// Of what was let through, only this reached the terminal.
    fn shown_only(&mut self, bytes: &[u8]) {
        if let Self::Bytes(filter) = self {
            filter.shown_only(bytes);
        }
    }

    /// What makes the terminal again one that shows lines.
    fn undo(&mut self) -> Vec<u8> {
        match self {
            Self::Bytes(filter) => filter.undo(),
            Self::Lines { .. } => Vec::new(),
        }
    }
}

/// Shows a line of which this much was shown.
fn rest(shown: &str, line: &str, filter: &mut Filter, out: &mut Vec<u8>) {
    let rest = line.strip_prefix(shown).unwrap_or_else(|| {
        out.push(b'\n');
        line
    });
    filter.feed(rest.as_bytes(), out);
}

/// Writes output to stdout in some form; at first, if so wished, only its last lines. However its use ends, what is held back is written
/// and the terminal made again one that shows lines.
pub(super) struct Printer {
    form: Form,
    tail: Option<Tail>,
}

impl Printer {
    pub(super) fn new(form: Form, last_lines: Option<usize>) -> Self {
        Self { form, tail: last_lines.map(Tail::new) }
    }

    const fn shows_bytes(&self) -> bool {
        matches!(self.form, Form::Bytes(_))
    }

    fn print(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut text = Vec::with_capacity(bytes.len());
        self.form.feed(bytes, &mut text);
        self.write(&text)
    }

    fn write(&mut self, text: &[u8]) -> io::Result<()> {
        match &mut self.tail {
            Some(tail) => {
                tail.feed(text);
                Ok(())
            }
            None if text.is_empty() => Ok(()),
            None => tty::write(text),
        }
    }

    fn holds_back(&self) -> bool {
        self.tail.is_none() && self.form.holds_back()
    }

    fn show_unfinished(&mut self) -> io::Result<()> {
        let mut text = Vec::new();
        self.form.unfinished(&mut text);
        self.write(&text)
    }

    /// From here on everything is printed; before it, the last lines so far.
    fn go_live(&mut self) -> io::Result<()> {
        let Some(tail) = self.tail.take() else { return Ok(()) };
        let bytes = tail.into_bytes();
        self.form.shown_only(&bytes);
        tty::write(&bytes)
    }

    /// The last line, and the end of it all.
    fn end(&mut self) -> io::Result<()> {
        self.show_unfinished()?;
        self.go_live()?;
        let undo = self.form.undo();
        self.write(&undo)
    }
}

impl Drop for Printer {
    fn drop(&mut self) {
        // An error was told by the call that met it first, or the command ends for another reason.
        self.end().unwrap_or_default();
    }
}

/// The last lines of a text; as large as those lines, and a transcript is limited. Escape sequences alone, after the last end of line, are
/// none.
struct Tail {
    keep: usize,
    lines: VecDeque<Vec<u8>>,
    /// What the last piece shows: a line only if that is something.
    text: Filter,
    shows: bool,
}

impl Tail {
    fn new(keep: usize) -> Self {
        Self { keep, lines: VecDeque::new(), text: Filter::new(Policy::Text), shows: true }
    }

    fn feed(&mut self, text: &[u8]) {
        for piece in text.split_inclusive(|&byte| byte == b'\n') {
            match self.lines.back_mut().filter(|line| !line.ends_with(b"\n")) {
                Some(line) => line.extend_from_slice(piece),
                None => {
                    self.shows = false;
                    self.lines.push_back(piece.to_vec());
                }
            }
            if !self.shows {
                let mut shown = Vec::new();
                self.text.feed(piece, &mut shown);
                self.shows = !shown.is_empty();
                if self.shows {
                    self.text = Filter::new(Policy::Text);
                }
            }
            if self.lines.len() > self.keep + usize::from(!self.shows) {
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
        check(1, b"a\nb\n\x1b[0m", b"b\n\x1b[0m");
        check(1, b"a\nb\n\r\x1b[2K\x1b[1mc", b"\r\x1b[2K\x1b[1mc");
        check(2, b"a\n\x1b[0m\n\x1b[?25h", b"a\n\x1b[0m\n\x1b[?25h");
    }
}
