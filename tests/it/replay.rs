//! Recorded control streams of four tmux versions, cut in every way: the same events, and for each pane the recorded truth.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kas::cli::debug::{Style, replay};
use kas::control::notification::{Parsed, notification};
use kas::control::{Client, Event, PaneId};
use serde_json::Value as Json;
use sha2::{Digest, Sha256};

/// Recordings longer than this are cut at every 97th byte only.
const LARGE_BYTES: usize = 64 * 1024;

/// One recording: the stream, and what is known about it from elsewhere.
pub(crate) struct Recording {
    path: PathBuf,
    facts: Json,
}

/// All recordings, in a fixed order.
pub(crate) fn recordings() -> Vec<Recording> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/control");
    let mut found = Vec::new();
    for version in fs::read_dir(root).unwrap() {
        let version = version.unwrap().path();
        if version.is_dir() {
            let files = fs::read_dir(version).unwrap().map(|entry| entry.unwrap().path());
            found.extend(files.filter(|path| path.extension().is_some_and(|ext| ext == "json")));
        }
    }
    found.sort();
    assert!(found.len() >= 90, "only {} recordings", found.len());
    found.into_iter().map(Recording::open).collect()
}

impl Recording {
    fn open(json: PathBuf) -> Self {
        let facts = serde_json::from_slice(&fs::read(&json).unwrap()).unwrap();
        Self { path: json.with_extension("ctl"), facts }
    }

    fn named(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/control");
        Self::open(root.join(name).with_extension("json"))
    }

    /// The bytes tmux wrote.
    pub(crate) fn stream(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    fn beside(&self, file: &str) -> Vec<u8> {
        fs::read(self.path.with_file_name(file)).unwrap()
    }

    /// The sizes of the reads that made the recording.
    fn reads(&self) -> Vec<usize> {
        let reads = self.facts["reads"].as_array().unwrap().iter();
        reads.map(|read| read[1].as_u64().unwrap() as usize).collect()
    }
}

fn take(client: &mut Client, piece: &[u8]) -> Vec<Event> {
    client.handle_input(piece);
    std::iter::from_fn(|| client.poll_event()).collect()
}

fn finish(client: &mut Client) -> Vec<Event> {
    client.handle_eof();
    std::iter::from_fn(|| client.poll_event()).collect()
}

/// All events of a stream given in these pieces.
fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut client = Client::new();
    let mut events: Vec<_> = pieces.into_iter().flat_map(|piece| take(&mut client, piece)).collect();
    events.extend(finish(&mut client));
    events
}

fn decoded(events: &[Event]) -> BTreeMap<PaneId, Vec<u8>> {
    let mut panes: BTreeMap<_, Vec<u8>> = BTreeMap::new();
    for event in events {
        if let Event::Output { pane, bytes, .. } = event {
            panes.entry(*pane).or_default().extend_from_slice(bytes);
        }
    }
    panes
}

fn pane_id(name: &str) -> PaneId {
    PaneId(name.strip_prefix('%').unwrap().parse().unwrap())
}

fn hex_sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_recordings_are_the_ones_that_were_made() {
    for recording in recordings() {
        let stream = recording.stream();
        assert_eq!(recording.facts["ctl_sha256"], hex_sha256(&stream), "{}", recording.path.display());
    }
}

#[test]
fn every_pane_has_the_recorded_bytes() {
    let mut checked = 0;
    for recording in recordings() {
        let panes = decoded(&events([&recording.stream()[..]]));
        for (name, facts) in recording.facts["panes"].as_object().unwrap() {
            let seen = panes.get(&pane_id(name)).map_or(&[][..], Vec::as_slice);
            check_pane(&recording, facts, seen);
            checked += 1;
        }
    }
    assert!(checked >= 98, "only {checked} panes");
}

fn check_pane(recording: &Recording, facts: &Json, seen: &[u8]) {
    let at = recording.path.display();
    let written = recording.beside(facts["file"].as_str().unwrap());
    let stream_len = facts["stream_len"].as_u64().unwrap() as usize;
    if facts["stream_equals_expected"] == true {
        assert!(seen == written, "{at}: {} bytes of {}", seen.len(), written.len());
    } else if recording.facts["decoded_stream"].is_object() {
        let name = recording.path.file_stem().unwrap().to_str().unwrap();
        assert!(seen == recording.beside(&format!("{name}.stream.bin")), "{at}");
    } else {
        // The killed server's last line: the exit glued to it was counted as output when the recording was made.
        assert!(written.starts_with(seen), "{at}");
        assert_eq!(seen.len() + "%exit server exited unexpectedly".len(), stream_len, "{at}");
    }
}

#[test]
fn of_panes_that_died_at_once_what_came_is_right() {
    let mut complete = 0;
    for version in ["3.3a", "3.7c"] {
        let recording = Recording::named(&format!("{version}/short-lived-lost-tail"));
        let panes = decoded(&events([&recording.stream()[..]]));
        for (name, facts) in recording.facts["expected"].as_object().unwrap() {
            let seen = panes.get(&pane_id(name)).map_or(&[][..], Vec::as_slice);
            assert_eq!(facts["received"], seen.len(), "{version} {name}");
            if facts["received"] == facts["len"] {
                assert_eq!(facts["sha256"], hex_sha256(seen), "{version} {name}");
                complete += 1;
            }
        }
    }
    assert!(complete >= 30, "only {complete} complete panes");
}

#[test]
fn every_recorded_notification_comes_in_order() {
    for recording in recordings() {
        let events = events([&recording.stream()[..]]);
        let mut rest = events.iter();
        for line in recording.facts["notifications"].as_array().unwrap() {
            let line = line.as_str().unwrap();
            let mut seen = rest.clone();
            let found = seen.any(|event| match event {
                Event::Notification(seen) => {
                    notification(line.as_bytes()) == Ok(Parsed::Notification(seen.clone()))
                }
                // The list has the stray lines, too.
                Event::Unparsed(unparsed) => unparsed.line == line,
                Event::Output { .. } | Event::Reply { .. } | Event::Block(_) | Event::Closed => false,
            });
            assert!(found, "{}: {line}", recording.path.display());
            rest = seen;
        }
    }
}

#[test]
fn byte_by_byte_and_as_it_was_read_it_is_the_same() {
    for recording in recordings() {
        let stream = recording.stream();
        let whole = events([&stream[..]]);
        assert!(whole == events(stream.chunks(1)), "{}", recording.path.display());
        let mut rest = &stream[..];
        let pieces: Vec<_> = recording.reads().iter().map(|len| rest.split_off(..*len).unwrap()).collect();
        assert!(whole == events(pieces), "{}", recording.path.display());
    }
}

/// Each cut is made in a client that has read everything before the line, and followed for two lines more.
#[test]
fn cut_anywhere_it_is_the_same() {
    for recording in recordings() {
        let stream = recording.stream();
        let step = if stream.len() > LARGE_BYTES { 97 } else { 1 };
        let lines: Vec<&[u8]> = stream.split_inclusive(|&b| b == b'\n').collect();
        let mut before = Client::new();
        let mut from = 0;
        for i in 0..lines.len() {
            let window =
                &stream[from..from + lines[i..].iter().take(3).map(|line| line.len()).sum::<usize>()];
            let is_last = i + 3 >= lines.len();
            let whole = follow(&before, &[window], is_last);
            for at in (0..=lines[i].len()).filter(|at| (from + at) % step == 0) {
                let (head, tail) = window.split_at(at);
                assert!(
                    whole == follow(&before, &[head, tail], is_last),
                    "{} at {}",
                    recording.path.display(),
                    from + at
                );
            }
            take(&mut before, lines[i]);
            from += lines[i].len();
        }
    }
}

fn follow(before: &Client, pieces: &[&[u8]], is_last: bool) -> Vec<Event> {
    let mut client = before.clone();
    let mut events: Vec<_> = pieces.iter().flat_map(|piece| take(&mut client, piece)).collect();
    if is_last {
        events.extend(finish(&mut client));
    }
    events
}

#[test]
fn only_what_is_outside_the_protocol_is_unparsed() {
    let mut seen = BTreeMap::new();
    for recording in recordings() {
        let version = recording.facts["tmux_version"].as_str().unwrap().to_owned();
        for event in events([&recording.stream()[..]]) {
            if let Event::Unparsed(unparsed) = event {
                let line = String::from_utf8(unparsed.line.to_vec()).unwrap();
                seen.entry(line).or_insert_with(Vec::new).push(version.clone());
            }
        }
    }
    // The output of run-shell, which these versions print when it comes.
    let late = ["one", "two", "'echo one; echo two; exit 3' returned 3"];
    let lines: Vec<_> = seen.keys().map(String::as_str).collect();
    let mut expect = late;
    expect.sort_unstable();
    assert_eq!(lines, expect, "{seen:?}");
}

/// Standard output and standard error of `kas debug replay`.
fn shown(stream: &[u8], style: Style) -> (Vec<u8>, Vec<u8>) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    replay(stream, &mut out, &mut err, style).unwrap();
    (out, err)
}

#[test]
fn replay_shows_json_lines_and_ends_with_counts() {
    let recording = Recording::named("3.7c/plain-text");
    let (out, err) = shown(&recording.stream(), Style::Json(None));
    assert_eq!(err, b"");
    let lines: Vec<Json> =
        out.split_inclusive(|&b| b == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
    assert!(out.starts_with(b"{\"kind\":\"block\",\"number\":"));
    let (summary, events) = lines.split_last().unwrap();
    let bytes: u64 = events
        .iter()
        .filter(|e| e["kind"] == "output" && e["pane"] == 1)
        .map(|e| e["bytes"].as_u64().unwrap())
        .sum();
    assert_eq!(bytes, 265);
    assert!(events.contains(&serde_json::json!({"kind": "window_add", "window": 1})));
    assert_eq!(summary["kind"], "summary");
    assert_eq!(summary["panes"], serde_json::json!({"1": 265}));
    assert_eq!(summary["events"], events.len());
    assert_eq!(summary["stream_bytes"], 661);
}

#[test]
fn raw_replay_is_exactly_the_pane() {
    for name in ["3.2a/all-256-bytes", "3.3a/utf8-wide-split", "3.4/cc-dcs", "3.7c/evil-output"] {
        let recording = Recording::named(name);
        let (out, err) = shown(&recording.stream(), Style::Raw(PaneId(1)));
        assert_eq!(out, recording.beside(recording.facts["panes"]["%1"]["file"].as_str().unwrap()), "{name}");
        assert!(err.starts_with(b"summary "), "{name}");
    }
}

#[test]
fn replay_takes_any_bytes() {
    let garbage: Vec<u8> = (0..200_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for style in [Style::Words(None), Style::Json(None), Style::Raw(PaneId(0)), Style::Json(Some(PaneId(1)))]
    {
        let (out, err) = shown(&garbage, style);
        let shown = if style == Style::Raw(PaneId(0)) { err } else { out };
        let last = String::from_utf8(shown).unwrap().lines().last().unwrap().to_owned();
        assert!(last.contains("summary"), "{last}");
    }
    let (empty, _) = shown(b"", Style::Json(None));
    assert_eq!(empty.iter().filter(|&&b| b == b'\n').count(), 1);
}
