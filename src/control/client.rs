//! One end of a control stream: matches answers to commands. No I/O, no clock.

use std::collections::VecDeque;
use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};
use memchr::memmem;

use super::block::{Block, Open};
use super::command::Command;
use super::escape;
use super::event::{Event, Outcome, Reason, Unparsed};
use super::line::{Line, Stream};
use super::notification::{Notification, Output, Parsed, inside_block, notification};

/// Commands that may wait for an answer; further ones are [`Outcome::Refused`].
pub const PENDING_LIMIT: usize = 4096;

/// Decoded output is cut from buffers of this size, bytes.
const ARENA_BYTES: usize = 64 * 1024;

/// What the client process may append to a line the server did not live to finish.
const GLUED_EXITS: [&[u8]; 3] = [b"%exit server exited unexpectedly", b"%exit terminated", b"%exit lost tty"];

/// Stands for one command that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// A control client without I/O: feed it what tmux writes, write to tmux what it gives.
///
/// Take all events after each piece of input: they are the only thing here that grows with it. An event comes as soon as its line
/// is whole, but for a line that ends in an exit glued to it: that one waits until the next line, or the end, tells which it is.
#[derive(Debug, Clone, Default)]
pub struct Client {
    stream: Stream,
    reader: Reader,
    transmit: BytesMut,
    sent: u64,
}

impl Client {
    /// A client of a stream of which nothing has been read yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sends one command; its [`Event::Reply`] carries the ticket.
    pub fn send(&mut self, command: Command) -> Ticket {
        self.send_sequence(&[command])[0]
    }

    /// Sends several commands as one line: tmux runs them without doing anything else between.
    ///
    /// Each gets a ticket and a reply. When one fails, those after it are [`Outcome::NotRun`].
    pub fn send_sequence(&mut self, commands: &[Command]) -> Vec<Ticket> {
        let tickets: Vec<_> = (self.sent..).map(Ticket).take(commands.len()).collect();
        self.sent += commands.len() as u64;
        if self.reader.closed || self.reader.pending.len() + commands.len() > PENDING_LIMIT {
            let refused = |&ticket: &Ticket| Event::Reply { ticket, outcome: Outcome::Refused };
            self.reader.events.extend(tickets.iter().map(refused));
            return tickets;
        }
        for (i, (&ticket, command)) in tickets.iter().zip(commands).enumerate() {
            let separator = if i == 0 { "" } else { " ; " };
            write!(self.transmit, "{separator}{command}").expect("writing to memory cannot fail");
            self.reader.pending.push_back(Pending { ticket, is_last: i + 1 == commands.len() });
        }
        if !commands.is_empty() {
            self.transmit.extend_from_slice(b"\n");
        }
        tickets
    }

    /// Asks tmux to let this client go: it answers with `%exit`.
    pub fn detach(&mut self) {
        self.transmit.extend_from_slice(b"\n");
    }

    /// What has to be written to tmux next, all of it. At most [`PENDING_LIMIT`] commands' worth.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        (!self.transmit.is_empty()).then(|| self.transmit.split().freeze())
    }

    /// Takes what tmux wrote, cut anywhere.
    pub fn handle_input(&mut self, mut input: &[u8]) {
        if self.reader.closed {
            return;
        }
        while let Some(line) = self.stream.next_line(&mut input) {
            self.reader.line(line);
        }
    }

    /// Takes note that tmux will write no more. Every open ticket gets its reply, and [`Event::Closed`] follows.
    pub fn handle_eof(&mut self) {
        if !self.reader.closed {
            self.reader.finish(self.stream.finish());
        }
    }

    /// The next event, if any.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.reader.events.pop_front()
    }

    /// How many commands wait for their answer.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.reader.pending.len()
    }
}

/// A command whose block has not come yet.
#[derive(Debug, Clone)]
struct Pending {
    ticket: Ticket,
    is_last: bool,
}

/// Turns lines into events: outside a block, or inside one.
#[derive(Debug, Clone)]
struct Reader {
    open: Option<Open>,
    /// A line that ends like a glued exit: it is one only if the stream ends here.
    held: Option<Vec<u8>>,
    pending: VecDeque<Pending>,
    events: VecDeque<Event>,
    arena: BytesMut,
    closed: bool,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            open: None,
            held: None,
            pending: VecDeque::new(),
            events: VecDeque::new(),
            arena: BytesMut::with_capacity(ARENA_BYTES),
            closed: false,
        }
    }
}

impl Reader {
    /// ```abnf
    /// line = block / ( notification / unknown / stray ) eol
    /// ```
    fn line(&mut self, line: Line<'_>) {
        self.release_held();
        let is_whole = line.dropped == 0;
        if is_whole && glued_exit(line.bytes, self.open.is_some()).is_some() {
            self.held = Some(line.bytes.to_vec());
        } else {
            self.understand(line.bytes, line.dropped);
        }
    }

    fn release_held(&mut self) {
        if let Some(line) = self.held.take() {
            self.understand(&line, 0);
        }
    }

    fn understand(&mut self, line: &[u8], dropped: u64) {
        if self.open.is_some() {
            self.inside(line, dropped);
        } else if dropped > 0 {
            self.unparsed(line, dropped, Reason::LineTooLong);
        } else {
            self.outside(line);
        }
    }

    fn outside(&mut self, line: &[u8]) {
        match notification(line) {
            Ok(Parsed::Output(output)) => self.output(output),
            Ok(Parsed::Notification(other)) => self.events.push_back(Event::Notification(other)),
            Err(why) => match Open::from_line(line) {
                Some(open) => self.open = Some(open),
                None => self.unparsed(line, 0, why.into()),
            },
        }
    }

    fn inside(&mut self, line: &[u8], dropped: u64) {
        let Some(mut open) = self.open.take() else { return };
        if let Some(ok) = open.ends(line) {
            self.close(open.close(ok));
            return;
        }
        match inside_block(line) {
            Some(inner) => self.events.push_back(Event::Notification(inner)),
            None => open.push(line, dropped),
        }
        self.open = Some(open);
    }

    fn output(&mut self, output: Output<'_>) {
        escape::value(output.value, &mut self.arena);
        let bytes = self.arena.split().freeze();
        self.events.push_back(Event::Output { pane: output.pane, age_ms: output.age_ms, bytes });
    }

    fn close(&mut self, block: Block) {
        if block.dropped > 0 {
            self.unparsed(&[], block.dropped, Reason::BlockTooLong);
        }
        let asked = if block.guard.is_own() { self.pending.pop_front() } else { None };
        let Some(Pending { ticket, is_last }) = asked else {
            self.events.push_back(Event::Block(block));
            return;
        };
        let failed = !block.ok;
        let outcome = if failed { Outcome::Failed(block) } else { Outcome::Done(block) };
        self.events.push_back(Event::Reply { ticket, outcome });
        if failed && !is_last {
            self.drop_rest_of_sequence();
        }
    }

    fn drop_rest_of_sequence(&mut self) {
        while let Some(Pending { ticket, is_last }) = self.pending.pop_front() {
            self.events.push_back(Event::Reply { ticket, outcome: Outcome::NotRun });
            if is_last {
                break;
            }
        }
    }

    fn finish(&mut self, tail: Option<Line<'_>>) {
        if let Some(tail) = tail {
            self.release_held();
            self.last_line(tail.bytes, tail.dropped);
        } else if let Some(held) = self.held.take() {
            self.last_line(&held, 0);
        }
        if let Some(open) = self.open.take() {
            let block = open.close(false);
            self.unparsed(&block.body, block.dropped, Reason::BlockCut);
        }
        let lost = |Pending { ticket, .. }| Event::Reply { ticket, outcome: Outcome::Lost };
        self.events.extend(self.pending.drain(..).map(lost));
        self.events.push_back(Event::Closed);
        self.closed = true;
    }

    /// The last line may be two: one the server did not finish, and the exit its client wrote after it.
    fn last_line(&mut self, line: &[u8], dropped: u64) {
        let at = if line.starts_with(b"%exit") { Some(0) } else { glued_exit(line, self.open.is_some()) };
        let (unfinished, exit) = line.split_at(at.unwrap_or(line.len()));
        self.unfinished(unfinished, dropped);
        if exit.is_empty() {
            return;
        }
        match notification(exit) {
            Ok(Parsed::Notification(exit @ Notification::Exit { .. })) => {
                self.events.push_back(Event::Notification(exit));
            }
            Ok(_) | Err(_) => self.unparsed(exit, 0, Reason::LineCut),
        }
    }

    /// Output that did arrive is output; of anything else the missing part could change the meaning.
    fn unfinished(&mut self, line: &[u8], dropped: u64) {
        if line.is_empty() {
            return;
        }
        match notification(line) {
            Ok(Parsed::Output(output)) if self.open.is_none() && dropped == 0 => {
                self.output(Output { value: escape::whole_escapes(output.value), ..output });
            }
            Ok(_) | Err(_) => self.unparsed(line, dropped, Reason::LineCut),
        }
    }

    fn unparsed(&mut self, line: &[u8], dropped: u64, reason: Reason) {
        self.events.push_back(Event::Unparsed(Unparsed::new(line, dropped, reason)));
    }
}

/// Where in `line` an exit begins that may have been glued to it, or may have been written inside a block.
fn glued_exit(line: &[u8], inside: bool) -> Option<usize> {
    if inside && line.starts_with(b"%exit") {
        return Some(0);
    }
    let exit = GLUED_EXITS.iter().find(|exit| line.ends_with(exit))?;
    let at = line.len() - exit.len();
    debug_assert_eq!(memmem::rfind(line, b"%exit"), Some(at));
    (at > 0).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::command::Field;
    use crate::control::{Guard, PaneId, WindowId};

    fn events(client: &mut Client) -> Vec<Event> {
        std::iter::from_fn(|| client.poll_event()).collect()
    }

    fn after(client: &mut Client, input: &[u8]) -> Vec<Event> {
        client.handle_input(input);
        events(client)
    }

    fn output(pane: u32, bytes: &'static [u8]) -> Event {
        Event::Output { pane: PaneId(pane), age_ms: None, bytes: Bytes::from_static(bytes) }
    }

    fn block(number: u64, flags: u32, ok: bool, body: &'static [u8]) -> Block {
        let guard = Guard { time: 1, number, flags };
        Block { guard, ok, body: Bytes::from_static(body), dropped: 0 }
    }

    fn ask() -> Command {
        Command::ListWindows { session: None, fields: vec![Field::WindowId] }
    }

    fn unparsed(line: &[u8], reason: Reason) -> Event {
        Event::Unparsed(Unparsed::new(line, 0, reason))
    }

    #[test]
    fn answers_find_their_command_among_other_blocks_and_notifications() {
        let mut client = Client::new();
        let (first, second) = (client.send(ask()), client.send(ask()));
        let line = "list-window -a -F '#{window_id}'\n";
        assert_eq!(client.poll_transmit(), Some(Bytes::from(line.repeat(2))));
        assert_eq!(client.poll_transmit(), None);
        let seen = after(
            &mut client,
            b"%begin 1 5 0\n%end 1 5 0\n%output %1 a\n%begin 1 6 1\n@1\n%end 1 6 1\n\
              %window-add @1\n%begin 1 7 0\nhook\n%error 1 7 0\n%begin 1 9 1\nno\n%error 1 9 1\n",
        );
        let expect = [
            Event::Block(block(5, 0, true, b"")),
            output(1, b"a"),
            Event::Reply { ticket: first, outcome: Outcome::Done(block(6, 1, true, b"@1\n")) },
            Event::Notification(Notification::WindowAdd { window: WindowId(1) }),
            Event::Block(block(7, 0, false, b"hook\n")),
            Event::Reply { ticket: second, outcome: Outcome::Failed(block(9, 1, false, b"no\n")) },
        ];
        assert_eq!(seen, expect);
        assert_eq!(client.pending(), 0);
    }

    #[test]
    fn after_an_error_the_rest_of_the_line_gets_no_answer() {
        let mut client = Client::new();
        let tickets = client.send_sequence(&[ask(), ask(), ask()]);
        let next = client.send(ask());
        let seen = after(
            &mut client,
            b"%begin 1 1 1\n%end 1 1 1\n%begin 1 2 1\n%error 1 2 1\n%begin 1 3 1\n%end 1 3 1\n",
        );
        let outcomes = [
            (tickets[0], Outcome::Done(block(1, 1, true, b""))),
            (tickets[1], Outcome::Failed(block(2, 1, false, b""))),
            (tickets[2], Outcome::NotRun),
            (next, Outcome::Done(block(3, 1, true, b""))),
        ];
        let expect = outcomes.map(|(ticket, outcome)| Event::Reply { ticket, outcome });
        assert_eq!(seen, expect);
    }

    #[test]
    fn notifications_inside_a_block_come_out_and_lookalikes_stay_in() {
        let mut client = Client::new();
        let ticket = client.send(Command::ContinueOutput(PaneId(1)));
        let body = b"%begin 1 2 1\n%continue %1\n%output %1 x\n%end 1 2 2\n%end 1 2 1\n";
        let expect = [
            Event::Notification(Notification::Continue { pane: PaneId(1) }),
            Event::Reply { ticket, outcome: Outcome::Done(block(2, 1, true, b"%output %1 x\n%end 1 2 2\n")) },
        ];
        assert_eq!(after(&mut client, body), expect);
    }

    #[test]
    fn damage_is_an_event_and_the_next_line_is_unaffected() {
        let mut client = Client::new();
        let seen = after(&mut client, b"stray\n%begin 1 2\n%new-thing x\n%output %1 ok\n%end 1 2 1\n\n");
        use crate::control::notification::Rejected::{Stray, Unknown};
        let expect = [
            unparsed(b"stray", Stray.into()),
            unparsed(b"%begin 1 2", Unknown.into()),
            unparsed(b"%new-thing x", Unknown.into()),
            output(1, b"ok"),
            unparsed(b"%end 1 2 1", Unknown.into()),
            unparsed(b"", Stray.into()),
        ];
        assert_eq!(seen, expect);
    }

    #[test]
    fn a_killed_server_leaves_output_and_an_exit_on_one_line() {
        let exit = Event::Notification(Notification::Exit {
            reason: Some(Bytes::from_static(b"server exited unexpectedly")),
        });
        for end in ["\n", ""] {
            let mut client = Client::new();
            let ticket = client.send(ask());
            let input = format!("%output %1 ab\\01%exit server exited unexpectedly{end}");
            assert_eq!(after(&mut client, input.as_bytes()), []);
            client.handle_eof();
            let lost = Event::Reply { ticket, outcome: Outcome::Lost };
            assert_eq!(events(&mut client), [output(1, b"ab"), exit.clone(), lost, Event::Closed]);
        }
    }

    #[test]
    fn a_program_may_print_what_looks_like_a_glued_exit() {
        let mut client = Client::new();
        let input = b"%output %1 %exit server exited unexpectedly\n%output %1 more\n";
        let expect = [output(1, b"%exit server exited unexpectedly"), output(1, b"more")];
        assert_eq!(after(&mut client, input), expect);
    }

    #[test]
    fn an_exit_inside_a_block_counts_only_at_the_end() {
        let mut client = Client::new();
        let seen = after(&mut client, b"%begin 1 2 0\n%exit\n%end 1 2 0\n%begin 1 3 0\nx\n%exit\n");
        assert_eq!(seen, [Event::Block(block(2, 0, true, b"%exit\n"))]);
        client.handle_eof();
        let exit = Event::Notification(Notification::Exit { reason: None });
        assert_eq!(events(&mut client), [exit, unparsed(b"x\n", Reason::BlockCut), Event::Closed]);
    }

    #[test]
    fn after_the_end_commands_are_refused_and_input_is_ignored() {
        let mut client = Client::new();
        client.handle_input(b"%window-add @1");
        client.handle_eof();
        client.handle_eof();
        assert_eq!(events(&mut client), [unparsed(b"%window-add @1", Reason::LineCut), Event::Closed]);
        assert_eq!(after(&mut client, b"%sessions-changed\n"), []);
        let ticket = client.send(ask());
        assert_eq!(events(&mut client), [Event::Reply { ticket, outcome: Outcome::Refused }]);
        assert_eq!(client.poll_transmit(), None);
    }

    #[test]
    fn too_many_waiting_commands_are_refused() {
        let mut client = Client::new();
        for _ in 0..PENDING_LIMIT {
            client.send(ask());
        }
        let ticket = client.send(ask());
        assert_eq!(events(&mut client), [Event::Reply { ticket, outcome: Outcome::Refused }]);
        assert_eq!(client.pending(), PENDING_LIMIT);
    }

    #[test]
    fn a_long_reply_is_cut_and_the_next_line_unaffected() {
        let mut client = Client::new();
        client.handle_input(b"%begin 1 2 0\n");
        for _ in 0..2048 {
            client.handle_input(&[b'x'; 1023]);
            client.handle_input(b"\n");
        }
        let seen = after(&mut client, b"%end 1 2 0\n%sessions-changed\n");
        let [Event::Unparsed(note), Event::Block(block), Event::Notification(_)] = &seen[..] else {
            panic!("{}", seen.len())
        };
        assert_eq!((note.reason, note.dropped), (Reason::BlockTooLong, 1024 * 1024));
        assert_eq!(block.body.len(), 1024 * 1024);
    }
}
