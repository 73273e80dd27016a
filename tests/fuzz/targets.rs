//! What must hold for any bytes. Used by the fuzzer, and by the test that replays the corpora.

use bytes::BytesMut;
use kas::control::notification::{Parsed, notification};
use kas::control::{Client, Event, Unparsed, escape};
use kas::terminal::Screen;

/// Panics if what must hold does not.
pub(crate) type Target = fn(&[u8]);

/// Each target's name is that of its corpus.
pub(crate) const TARGETS: [(&str, Target); 4] =
    [("parse", parse), ("escape", round_trip), ("chunks", chunks), ("screen", screen)];

fn events<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Vec<Event> {
    let mut client = Client::new();
    pieces.into_iter().for_each(|piece| client.handle_input(piece));
    client.handle_eof();
    std::iter::from_fn(|| client.poll_event()).collect()
}

/// Framing and parsing stop nowhere, invent nothing, and end with the one last event.
pub(crate) fn parse(data: &[u8]) {
    let events = events([data]);
    assert_eq!(events.iter().filter(|event| **event == Event::Closed).count(), 1);
    assert_eq!(events.last(), Some(&Event::Closed));
    let held = |event: &Event| match event {
        Event::Output { bytes, .. } => bytes.len(),
        Event::Block(block) => block.body.len(),
        Event::Unparsed(Unparsed { line, .. }) => line.len(),
        Event::Notification(_) | Event::Reply { .. } | Event::Closed => 0,
    };
    assert!(events.iter().map(held).sum::<usize>() <= data.len());
}

/// What is escaped as tmux does it comes back, whole and as a line of output.
pub(crate) fn round_trip(data: &[u8]) {
    let encoded = escape::encode(data);
    assert!(encoded.iter().all(|&b| b >= 0x20));
    let mut decoded = BytesMut::new();
    escape::value(&encoded, &mut decoded);
    assert_eq!(decoded, data);
    let line = [b"%output %1 ", &encoded[..]].concat();
    assert!(matches!(notification(&line), Ok(Parsed::Output(output)) if output.value == encoded));
    // Any bytes decode to something no longer than themselves.
    decoded.clear();
    escape::value(data, &mut decoded);
    assert!(decoded.len() <= data.len());
}

/// However the stream is cut, the events are the same. The first byte says where it is cut.
pub(crate) fn chunks(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let mut state = u32::from(seed) + 1;
    let mut rest = stream;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let len = rest.len().min(1 + (state >> 27) as usize);
        let (piece, after) = rest.split_at(len);
        pieces.push(piece);
        rest = after;
    }
    assert_eq!(events([stream]), events(pieces));
}

/// However a terminal's stream is cut, its screen is the same; a copy of it makes copies like itself; and none is bigger than a screen can be.
pub(crate) fn screen(data: &[u8]) {
    let Some((&seed, stream)) = data.split_first() else { return };
    let of = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let mut screen = Screen::new(20, 5, 30);
        pieces.for_each(|piece| screen.feed(piece));
        screen.dump()
    };
    let whole = of(&mut std::iter::once(stream));
    assert_eq!(whole, of(&mut stream.chunks(1 + usize::from(seed) % 7)));
    assert!(whole.len() < 64 * 1024);
    let copy = of(&mut std::iter::once(&whole[..]));
    assert_eq!(copy, of(&mut std::iter::once(&copy[..])));
}
