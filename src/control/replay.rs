//! A recorded control stream, told event by event: what `kas debug replay` shows. Plain records, for any format.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::block::Block;
use super::client::Client;
use super::event::{Event, Outcome, Reason, Unparsed};
use super::id::PaneId;
use super::notification::{Notification, Subscription};

/// Panes that are counted one by one; output of further ones is only in the total.
const PANES_LIMIT: usize = 10_000;

/// How much of an unparsed line is shown.
const SHOWN_BYTES: usize = 200;

/// A value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A number.
    Number(u64),
    /// Yes or no.
    Flag(bool),
    /// Bytes that are mostly text.
    Text(Bytes),
}

/// One event: what it is, and its fields in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// tmux's name of the notification with underscores; or `block`, `unparsed`, `reply`, `closed`.
    pub kind: &'static str,
    /// Names and values.
    pub fields: Vec<(&'static str, Value)>,
}

/// What was seen, counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// How often each kind came.
    pub events: BTreeMap<&'static str, u64>,
    /// Decoded bytes of each pane.
    pub panes: BTreeMap<PaneId, u64>,
    /// Bytes of the stream.
    pub stream_bytes: u64,
    /// Decoded bytes of all panes.
    pub output_bytes: u64,
}

/// Reads a recording piece by piece, in bounded memory.
#[derive(Debug, Default)]
pub struct Replay {
    client: Client,
    summary: Summary,
}

impl Replay {
    /// A replay of a stream of which nothing has been read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece. Call [`Replay::next_event`] until it has no more before the next.
    pub fn feed(&mut self, piece: &[u8]) {
        self.summary.stream_bytes += piece.len() as u64;
        self.client.handle_input(piece);
    }

    /// Takes note that there is no more.
    pub fn finish(&mut self) {
        self.client.handle_eof();
    }

    /// The next event, counted. The end of the stream is none.
    pub fn next_event(&mut self) -> Option<Event> {
        let event = self.client.poll_event().filter(|event| *event != Event::Closed)?;
        self.summary.count(&event);
        Some(event)
    }

    /// The counts so far.
    #[must_use]
    pub const fn summary(&self) -> &Summary {
        &self.summary
    }
}

impl Summary {
    fn count(&mut self, event: &Event) {
        *self.events.entry(event.kind()).or_default() += 1;
        let Event::Output { pane, bytes, .. } = event else { return };
        self.output_bytes += bytes.len() as u64;
        if self.panes.len() < PANES_LIMIT || self.panes.contains_key(pane) {
            *self.panes.entry(*pane).or_default() += bytes.len() as u64;
        }
    }
}

impl Event {
    /// What kind of event it is, in snake case.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Output { age_ms: None, .. } => "output",
            Self::Output { age_ms: Some(_), .. } => "extended_output",
            Self::Notification(notification) => notification.kind(),
            Self::Reply { .. } => "reply",
            Self::Block(_) => "block",
            Self::Unparsed(_) => "unparsed",
            Self::Closed => "closed",
        }
    }
}

/// An event as a record.
#[must_use]
pub fn describe(event: &Event) -> Record {
    let fields = match event {
        Event::Output { pane, age_ms, bytes } => {
            let mut fields = vec![("pane", number(pane.0)), ("bytes", Value::Number(bytes.len() as u64))];
            fields.extend(age_ms.map(|age| ("age_ms", Value::Number(age))));
            fields
        }
        Event::Notification(notification) => of_notification(notification),
        Event::Reply { outcome, .. } => of_outcome(outcome),
        Event::Block(block) => of_block(block),
        Event::Unparsed(unparsed) => of_unparsed(unparsed),
        Event::Closed => vec![],
    };
    Record { kind: event.kind(), fields }
}

type Fields = Vec<(&'static str, Value)>;

fn number(value: u32) -> Value {
    Value::Number(u64::from(value))
}

fn text(value: &Bytes) -> Value {
    Value::Text(value.clone())
}

fn of_notification(notification: &Notification) -> Fields {
    use Notification as N;
    match notification {
        N::ClientDetached { client } => vec![("client", text(client))],
        N::ClientSessionChanged { client, session, name } => {
            vec![("client", text(client)), ("session", number(session.0)), ("name", text(name))]
        }
        N::ConfigError { text: words } | N::Message { text: words } => vec![("text", text(words))],
        N::Continue { pane } | N::PaneModeChanged { pane } | N::Pause { pane } => {
            vec![("pane", number(pane.0))]
        }
        N::Exit { reason } => reason.iter().map(|reason| ("reason", text(reason))).collect(),
        N::LayoutChange { window, layout, visible, flags } => vec![
            ("window", number(window.0)),
            ("panes", Value::Number(layout.panes().len() as u64)),
            ("visible_panes", Value::Number(visible.panes().len() as u64)),
            ("cols", number(layout.root.cols)),
            ("rows", number(layout.root.rows)),
            ("flags", text(flags)),
        ],
        N::PasteBufferChanged { name } | N::PasteBufferDeleted { name } => vec![("name", text(name))],
        N::SessionChanged { session, name } | N::SessionRenamed { session, name } => {
            vec![("session", number(session.0)), ("name", text(name))]
        }
        N::SessionWindowChanged { session, window } => {
            vec![("session", number(session.0)), ("window", number(window.0))]
        }
        N::SessionsChanged => vec![],
        N::SubscriptionChanged(subscription) => of_subscription(subscription),
        N::UnlinkedWindowAdd { window }
        | N::UnlinkedWindowClose { window }
        | N::WindowAdd { window }
        | N::WindowClose { window } => vec![("window", number(window.0))],
        N::WindowPaneChanged { window, pane } => vec![("window", number(window.0)), ("pane", number(pane.0))],
        N::UnlinkedWindowRenamed { window, name } | N::WindowRenamed { window, name } => {
            vec![("window", number(window.0)), ("name", text(name))]
        }
    }
}

fn of_subscription(subscription: &Subscription) -> Fields {
    let Subscription { name, session, window, index, pane, value } = subscription;
    let mut fields = vec![("name", text(name)), ("session", number(session.0))];
    fields.extend(window.map(|window| ("window", number(window.0))));
    fields.extend(index.map(|index| ("index", number(index))));
    fields.extend(pane.map(|pane| ("pane", number(pane.0))));
    fields.push(("value", text(value)));
    fields
}

fn of_outcome(outcome: &Outcome) -> Fields {
    match outcome {
        Outcome::Done(block) | Outcome::Failed(block) => of_block(block),
        Outcome::NotRun | Outcome::Lost | Outcome::Refused => vec![],
    }
}

fn of_block(block: &Block) -> Fields {
    vec![
        ("number", Value::Number(block.guard.number)),
        ("flags", number(block.guard.flags)),
        ("ok", Value::Flag(block.ok)),
        ("lines", Value::Number(block.lines().count() as u64)),
        ("bytes", Value::Number(block.body.len() as u64)),
    ]
}

fn of_unparsed(unparsed: &Unparsed) -> Fields {
    let Unparsed { line, dropped, reason } = unparsed;
    let shown = line.slice(..line.len().min(SHOWN_BYTES));
    let dropped = dropped + (line.len() - shown.len()) as u64;
    let mut fields =
        vec![("reason", Value::Text(Bytes::from(reason.to_string()))), ("line", Value::Text(shown))];
    if dropped > 0 || *reason == Reason::BlockTooLong {
        fields.push(("dropped", Value::Number(dropped)));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_become_records_and_counts() {
        let mut replay = Replay::new();
        replay.feed(b"%output %3 a\\012\n%window-add @2\nstray\n");
        replay.finish();
        let records: Vec<_> =
            std::iter::from_fn(|| replay.next_event()).map(|event| describe(&event)).collect();
        let output = vec![("pane", Value::Number(3)), ("bytes", Value::Number(2))];
        assert_eq!(records[0], Record { kind: "output", fields: output });
        assert_eq!(records[1], Record { kind: "window_add", fields: vec![("window", Value::Number(2))] });
        assert_eq!(records[2].kind, "unparsed");
        assert_eq!(records.len(), 3);
        let summary = replay.summary();
        assert_eq!((summary.stream_bytes, summary.output_bytes), (38, 2));
        assert_eq!(summary.panes, BTreeMap::from([(PaneId(3), 2)]));
        assert_eq!(summary.events, BTreeMap::from([("output", 1), ("unparsed", 1), ("window_add", 1)]));
    }
}
