//! The forms of a transcript, each a machine that takes the bytes piece by piece.

use serde_json::json;

use super::decode::Utf8;
use crate::daemon::Transcript;
use crate::model::{Offset, Size};
use crate::terminal::Plain;

/// The most bytes of text in one `lines` item; a longer line comes in several.
const LINE_LIMIT: usize = 64 << 10;

/// Something that turns the bytes of a stream into another form.
pub(super) trait Render {
    /// Appends the form of the next bytes, whose first has offset `at`.
    fn piece(&mut self, at: Offset, bytes: &[u8], out: &mut Vec<u8>);
    /// Appends what is left at the end.
    fn end(&mut self, out: &mut Vec<u8>);
}

/// The bytes as they are.
pub(super) struct Raw;

impl Render for Raw {
    fn piece(&mut self, _at: Offset, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
    }

    fn end(&mut self, _out: &mut Vec<u8>) {}
}

// ---- text

/// Text without escape sequences.
#[derive(Default)]
pub(super) struct Text {
    plain: Plain,
    utf8: Utf8,
}

/// A transcript as text.
pub(super) fn text(_transcript: &Transcript) -> Text {
    Text::default()
}

impl Render for Text {
    fn piece(&mut self, _at: Offset, bytes: &[u8], out: &mut Vec<u8>) {
        let (mut stripped, mut text) = (Vec::new(), String::new());
        self.plain.feed(bytes, &mut stripped);
        self.utf8.feed(&stripped, &mut text);
        out.extend_from_slice(text.as_bytes());
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        let mut text = String::new();
        self.utf8.end(&mut text);
        out.extend_from_slice(text.as_bytes());
    }
}

// ---- times

/// When bytes were written.
struct Clock {
    times: Vec<(Offset, i64)>,
    launched_at: i64,
}

impl Clock {
    fn of(transcript: &Transcript) -> Self {
        Self { times: transcript.history.times(), launched_at: transcript.instance.launched_at.0 }
    }

    /// The time of the byte at `at`, epoch milliseconds.
    fn at(&self, at: Offset) -> i64 {
        let after = self.times.partition_point(|(offset, _)| *offset <= at);
        after.checked_sub(1).map_or(self.launched_at, |index| self.times[index].1)
    }

    /// The first offset after `at` that has a time of its own.
    fn next_after(&self, at: Offset) -> Option<Offset> {
        self.times.get(self.times.partition_point(|(offset, _)| *offset <= at)).map(|(offset, _)| *offset)
    }
}

// ---- asciicast

/// asciicast v2 (docs.asciinema.org/manual/asciicast/v2): a header line, then output and resize events.
pub(super) struct Asciicast {
    clock: Clock,
    utf8: Utf8,
    /// Sizes still to come, the last first.
    sizes: Vec<(Offset, Size)>,
    head: Option<Vec<u8>>,
}

/// A transcript as asciicast. Where the front was dropped it begins with the state of the screen there.
pub(super) fn asciicast(transcript: &Transcript) -> Asciicast {
    let start = transcript.history.range().start;
    let clock = Clock::of(transcript);
    let mut sizes = transcript.history.sizes();
    sizes.reverse();
    let mut size = Size::DEFAULT;
    while let Some((_, at_start)) = sizes.pop_if(|(at, _)| *at <= start) {
        size = at_start;
    }
    let header = json!({
        "version": 2, "width": size.cols(), "height": size.rows(),
        "timestamp": clock.launched_at.div_euclid(1000), "command": transcript.instance.command,
    });
    let mut it = Asciicast { clock, utf8: Utf8::default(), sizes, head: None };
    let mut head = format!("{header}\n").into_bytes();
    if let Some(point) = transcript.history.checkpoint().filter(|_| start > Offset(0)) {
        it.event(start, "o", &String::from_utf8_lossy(&point.dump), &mut head);
    }
    it.head = Some(head);
    it
}

impl Asciicast {
    fn event(&self, at: Offset, kind: &str, data: &str, out: &mut Vec<u8>) {
        let seconds = (self.clock.at(at) - self.clock.launched_at).max(0) as f64 / 1000.0;
        out.extend_from_slice(json!([seconds, kind, data]).to_string().as_bytes());
        out.push(b'\n');
    }

    fn resizes(&mut self, at: Offset, out: &mut Vec<u8>) {
        while let Some((_, size)) = self.sizes.pop_if(|(offset, _)| *offset <= at) {
            self.event(at, "r", &format!("{}x{}", size.cols(), size.rows()), out);
        }
    }
}

impl Render for Asciicast {
    fn piece(&mut self, mut at: Offset, mut bytes: &[u8], out: &mut Vec<u8>) {
        out.extend(self.head.take().unwrap_or_default());
        while !bytes.is_empty() {
            self.resizes(at, out);
            let resize = self.sizes.last().map(|(offset, _)| *offset);
            let next = self.clock.next_after(at).into_iter().chain(resize).min();
            let room = next.map_or(usize::MAX, |next| usize::try_from(next.0 - at.0).unwrap_or(usize::MAX));
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            let mut text = String::new();
            self.utf8.feed(now, &mut text);
            if !text.is_empty() {
                self.event(at, "o", &text, out);
            }
            at = at.after(now.len());
            bytes = later;
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend(self.head.take().unwrap_or_default());
        let mut text = String::new();
        self.utf8.end(&mut text);
        if !text.is_empty() {
            self.event(Offset(u64::MAX), "o", &text, out);
        }
    }
}

// ---- lines

/// `{"start_offset","end_offset","lines":[{"offset","at","text"}…]}`; a piece of a line that goes on has `"continues":true`.
pub(super) struct Lines {
    clock: Clock,
    plain: Plain,
    range: std::ops::Range<Offset>,
    line: Vec<u8>,
    line_start: Offset,
    begun: bool,
    first: bool,
}

/// A transcript as lines with times.
pub(super) fn lines(transcript: &Transcript) -> Lines {
    let range = transcript.history.range();
    Lines {
        clock: Clock::of(transcript),
        plain: Plain::default(),
        line_start: range.start,
        range,
        line: Vec::new(),
        begun: false,
        first: true,
    }
}

impl Lines {
    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            let (start, end) = (self.range.start, self.range.end);
            let head = format!("{{\"start_offset\":{start},\"end_offset\":{end},\"lines\":[");
            out.extend_from_slice(head.as_bytes());
        }
    }

    /// Ends the line, or the piece of it, before `next`.
    fn flush(&mut self, next: Offset, continues: bool, out: &mut Vec<u8>) {
        let text = String::from_utf8_lossy(&self.line);
        let mut item = json!({
            "offset": self.line_start.0, "at": self.clock.at(self.line_start), "text": text,
        });
        if continues {
            item["continues"] = true.into();
        }
        if !std::mem::take(&mut self.first) {
            out.push(b',');
        }
        out.extend_from_slice(item.to_string().as_bytes());
        self.line.clear();
        self.line_start = next;
    }
}

impl Render for Lines {
    fn piece(&mut self, at: Offset, bytes: &[u8], out: &mut Vec<u8>) {
        self.begin(out);
        let mut at = at;
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            for part in part.chunks(LINE_LIMIT / 2) {
                let (text, ends) = part.strip_suffix(b"\n").map_or((part, false), |text| (text, true));
                self.plain.feed(text, &mut self.line);
                at = at.after(part.len());
                if ends {
                    // The stripper must see it too: it ends an unterminated sequence or belongs into a string.
                    self.plain.feed(b"\n", &mut Vec::new());
                    self.flush(at, false, out);
                } else if self.line.len() > LINE_LIMIT / 2 {
                    self.flush(at, true, out);
                }
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        if !self.line.is_empty() {
            self.flush(self.range.end, false, out);
        }
        out.extend_from_slice(b"]}");
    }
}
