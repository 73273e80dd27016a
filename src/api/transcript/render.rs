//! The forms of a transcript, each a machine that takes the bytes piece by piece.

use serde_json::json;

use super::decode::Utf8;
use crate::daemon::Transcript;
use crate::model::{Offset, Size};
use crate::terminal::{Plain, TextPiece};

/// So many bytes at most are made text at once; what a line model gives of them is bounded, too.
const PART_BYTES: usize = 32 << 10;

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

/// Lines as a terminal shows them in the end ([`Plain`]).
#[derive(Default)]
pub(super) struct Text {
    plain: Plain,
    head: String,
}

/// A transcript as text. Where the front was dropped, the first line says so.
pub(super) fn text(transcript: &Transcript) -> Text {
    Text {
        plain: Plain::new(),
        head: gap(transcript).map(|gap| format!("[kas: {gap}]\n")).unwrap_or_default(),
    }
}

impl Render for Text {
    fn piece(&mut self, _at: Offset, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(std::mem::take(&mut self.head).as_bytes());
        for TextPiece { text, ends } in self.plain.feed(bytes) {
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(if ends { b"\n" } else { b"" });
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(std::mem::take(&mut self.head).as_bytes());
        out.extend(self.plain.end().into_iter().flat_map(|piece| piece.text.into_bytes()));
    }
}

/// What is missing at the front, in words.
fn gap(transcript: &Transcript) -> Option<String> {
    let start = transcript.history.range().start;
    (start > Offset(0)).then(|| format!("the first {start} bytes are not kept any more"))
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

/// A transcript as asciicast. Where the front was dropped it begins with a marker that says so, and with the state of the screen there.
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
    if let Some(gap) = gap(transcript) {
        it.event(start, "m", &format!("kas: {gap}"), &mut head);
    }
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

/// `{"missing_bytes","start_offset","end_offset","lines":[{"offset","at","text"}…]}`; a piece of a line that goes on has `"continues":true`.
/// `missing_bytes` were dropped at the front, before the first line.
pub(super) struct Lines {
    clock: Clock,
    plain: Plain,
    range: std::ops::Range<Offset>,
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
        begun: false,
        first: true,
    }
}

impl Lines {
    fn begin(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.begun, true) {
            let (start, end) = (self.range.start, self.range.end);
            let head = format!(
                "{{\"missing_bytes\":{start},\"start_offset\":{start},\"end_offset\":{end},\"lines\":["
            );
            out.extend_from_slice(head.as_bytes());
        }
    }

    fn item(&mut self, TextPiece { text, ends }: TextPiece, out: &mut Vec<u8>) {
        let mut item =
            json!({"offset": self.line_start.0, "at": self.clock.at(self.line_start), "text": text});
        if !ends {
            item["continues"] = true.into();
        }
        if !std::mem::take(&mut self.first) {
            out.push(b',');
        }
        out.extend_from_slice(item.to_string().as_bytes());
    }
}

impl Render for Lines {
    fn piece(&mut self, mut at: Offset, bytes: &[u8], out: &mut Vec<u8>) {
        self.begin(out);
        // A line has the offset of its first byte, whatever moved on it meanwhile.
        for part in bytes.split_inclusive(|byte| *byte == b'\n').flat_map(|line| line.chunks(PART_BYTES)) {
            at = at.after(part.len());
            let pieces = self.plain.feed(part);
            let given = !pieces.is_empty();
            for piece in pieces {
                self.item(piece, out);
            }
            if given {
                self.line_start = at;
            }
        }
    }

    fn end(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
        if let Some(last) = self.plain.end() {
            self.item(TextPiece { ends: true, ..last }, out);
        }
        out.extend_from_slice(b"]}");
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::ops::Range;
    use std::sync::Arc;

    use bytes::Bytes;
    use serde_json::Value;

    use super::*;
    use crate::broker::{Checkpoint, History};
    use crate::model::{BackendKind, Instance, InstanceId, RunState, TimeMs};

    const LAUNCHED: i64 = 1_000_000;

    /// The bytes `abc\r\ndef…` with a time and a resize in the middle, and the front dropped where asked.
    struct Held {
        bytes: &'static [u8],
        start: u64,
    }

    impl History for Held {
        fn range(&self) -> Range<Offset> {
            Offset(self.start)..Offset(self.bytes.len() as u64)
        }
        fn read_at(&self, _from: Offset, _max: usize) -> io::Result<Bytes> {
            unreachable!("renders are fed")
        }
        fn checkpoint(&self) -> Option<Checkpoint> {
            let dump = Bytes::from_static(b"before");
            (self.start > 0).then_some(Checkpoint { offset: Offset(self.start), size: Size::DEFAULT, dump })
        }
        fn times(&self) -> Vec<(Offset, i64)> {
            vec![(Offset(0), LAUNCHED + 100), (Offset(5), LAUNCHED + 2500)]
        }
        fn sizes(&self) -> Vec<(Offset, Size)> {
            vec![(Offset(0), Size::DEFAULT), (Offset(7), Size::clamped(100, 30).unwrap())]
        }
    }

    fn transcript(bytes: &'static [u8], start: u64) -> Transcript {
        let instance = Instance {
            id: InstanceId::from_parts(1, 1),
            project_id: "demo".parse().unwrap(),
            task_name: None,
            command: "cmd".into(),
            cwd: "/".into(),
            state: RunState::Done,
            backend: BackendKind::Pty,
            tmux_session: None,
            tmux_window: None,
            pid: None,
            exit: None,
            error: None,
            error_text: None,
            launched_at: TimeMs(LAUNCHED),
            exited_at: None,
            stopped_at: None,
            launched_by: "op".into(),
            output_bytes: 0,
            restarted_from: None,
            history: None,
        };
        Transcript { instance, history: Arc::new(Held { bytes, start }) }
    }

    /// Renders whole and byte by byte, which must agree on `same`.
    fn rendered<R: Render, T: PartialEq + std::fmt::Debug>(
        transcript: &Transcript,
        bytes: &[u8],
        make: fn(&Transcript) -> R,
        same: fn(&[u8]) -> T,
    ) -> T {
        let start = transcript.history.range().start;
        let bytes = &bytes[usize::try_from(start.0).unwrap()..];
        let feed = |size: usize| {
            let (mut render, mut out, mut at) = (make(transcript), Vec::new(), start);
            for piece in bytes.chunks(size) {
                render.piece(at, piece, &mut out);
                at = at.after(piece.len());
            }
            render.end(&mut out);
            same(&out)
        };
        let whole = feed(usize::MAX);
        for size in 1..=bytes.len() {
            assert_eq!(feed(size), whole, "pieces of {size}");
        }
        whole
    }

    fn casts(out: &[u8]) -> Vec<Value> {
        let text = std::str::from_utf8(out).unwrap();
        let events: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        // Events of the same kind and time belong together, however the bytes were cut.
        events.into_iter().fold(Vec::new(), |mut all: Vec<Value>, event| {
            match all.last_mut() {
                Some(last) if event[1] == "o" && last[1] == "o" && last[0] == event[0] => {
                    last[2] = [last[2].as_str().unwrap(), event[2].as_str().unwrap()].concat().into();
                }
                Some(_) | None => all.push(event),
            }
            all
        })
    }

    const BYTES: &[u8] = b"abc\r\nd\xc3\xa9f\x1b[1mg";

    #[test]
    fn asciicast_has_output_at_its_time_and_resizes_between() {
        let got = rendered(&transcript(BYTES, 0), BYTES, asciicast, casts);
        let header = json!({ "version": 2, "width": 80, "height": 24, "timestamp": 1000, "command": "cmd" });
        let expect = [
            header,
            json!([0.1, "o", "abc\r\n"]),
            json!([2.5, "o", "d"]),
            json!([2.5, "r", "100x30"]),
            json!([2.5, "o", "\u{e9}f\u{1b}[1mg"]),
        ];
        assert_eq!(got, expect);
    }

    #[test]
    fn asciicast_begins_with_the_screen_where_the_front_is_gone() {
        let got = rendered(&transcript(BYTES, 5), BYTES, asciicast, casts);
        assert_eq!(got[2], json!([2.5, "o", "befored"]));
    }

    #[test]
    fn lines_have_offsets_and_times_and_no_escapes() {
        let parse = |out: &[u8]| serde_json::from_slice::<Value>(out).unwrap();
        let got = rendered(&transcript(BYTES, 0), BYTES, lines, parse);
        let expect = json!({ "missing_bytes": 0, "start_offset": 0, "end_offset": BYTES.len(), "lines": [
            { "offset": 0, "at": LAUNCHED + 100, "text": "abc" },
            { "offset": 5, "at": LAUNCHED + 2500, "text": "d\u{e9}fg" },
        ] });
        assert_eq!(got, expect);
        let nothing = rendered(&transcript(b"", 0), b"", lines, parse);
        assert_eq!(nothing, json!({ "missing_bytes": 0, "start_offset": 0, "end_offset": 0, "lines": [] }));
    }

    #[test]
    fn an_endless_line_comes_in_pieces() {
        let mut render = lines(&transcript(b"", 0));
        let mut out = Vec::new();
        render.piece(Offset(0), &vec![b'x'; 200_000], &mut out);
        assert!(render.plain.unfinished().len() <= PART_BYTES);
        render.end(&mut out);
        let got: Value = serde_json::from_slice(&out).unwrap();
        let lines = got["lines"].as_array().unwrap();
        let total: usize = lines.iter().map(|line| line["text"].as_str().unwrap().len()).sum();
        assert_eq!((total, &lines[0]["continues"]), (200_000, &json!(true)));
        assert!(lines.iter().all(|line| line["text"].as_str().unwrap().len() <= PART_BYTES));
    }

    #[test]
    fn text_is_utf8_without_escapes() {
        let own = |out: &[u8]| String::from_utf8(out.to_vec()).unwrap();
        assert_eq!(rendered(&transcript(BYTES, 0), BYTES, text, own), "abc\nd\u{e9}fg");
        const BAD: &[u8] = b"a\xffb\xc3";
        assert_eq!(rendered(&transcript(BAD, 0), BAD, text, own), "a\u{fffd}b");
    }

    const BARS: &[u8] = b"x\r\n10% done\r55% done\r\nend";

    #[test]
    fn a_progress_bar_is_its_last_state() {
        let own = |out: &[u8]| String::from_utf8(out.to_vec()).unwrap();
        assert_eq!(rendered(&transcript(BARS, 0), BARS, text, own), "x\n55% done\nend");
        let got =
            rendered(&transcript(BARS, 0), BARS, lines, |out| serde_json::from_slice::<Value>(out).unwrap());
        let texts: Vec<_> =
            got["lines"].as_array().unwrap().iter().map(|it| (&it["text"], &it["offset"])).collect();
        assert_eq!(
            texts,
            [(&json!("x"), &json!(0)), (&json!("55% done"), &json!(3)), (&json!("end"), &json!(22))]
        );
    }

    #[test]
    fn a_missing_front_is_the_first_thing_told() {
        let own = |out: &[u8]| String::from_utf8(out.to_vec()).unwrap();
        let told = rendered(&transcript(BYTES, 5), BYTES, text, own);
        assert_eq!(told, "[kas: the first 5 bytes are not kept any more]\nd\u{e9}fg");
        let told = rendered(&transcript(BYTES, 5), BYTES, lines, own);
        assert!(told.starts_with("{\"missing_bytes\":5,\"start_offset\":5,"), "{told}");
        let told = rendered(&transcript(BYTES, 5), BYTES, asciicast, casts);
        assert_eq!(told[1], json!([2.5, "m", "kas: the first 5 bytes are not kept any more"]));
    }
}
