//! One line outside a block: one parser per notification of tmux 3.2 to 3.7, each named after its grammar rule.

use bytes::Bytes;
use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::combinator::{all_consuming, map, opt, rest, value, verify};
use nom::error::{Error, ErrorKind, ParseError};
use nom::multi::many0_count;
use nom::sequence::{preceded, separated_pair};
use nom::{IResult, Parser};

use super::block::count;
use super::id::{PaneId, SessionId, WindowId, number, pane, session, window};
use super::layout::{Layout, layout};

/// What tmux tells without being asked. Names and texts are raw bytes: tmux does not promise UTF-8.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "each variant is the notification of that name in tmux(1), its fields in order"
)]
pub enum Notification {
    ClientDetached { client: Bytes },
    ClientSessionChanged { client: Bytes, session: SessionId, name: Bytes },
    ConfigError { text: Bytes },
    Continue { pane: PaneId },
    Exit { reason: Option<Bytes> },
    LayoutChange { window: WindowId, layout: Box<Layout>, visible: Box<Layout>, flags: Bytes },
    Message { text: Bytes },
    PaneModeChanged { pane: PaneId },
    PasteBufferChanged { name: Bytes },
    PasteBufferDeleted { name: Bytes },
    Pause { pane: PaneId },
    SessionChanged { session: SessionId, name: Bytes },
    SessionRenamed { session: SessionId, name: Bytes },
    SessionWindowChanged { session: SessionId, window: WindowId },
    SessionsChanged,
    SubscriptionChanged(Subscription),
    UnlinkedWindowAdd { window: WindowId },
    UnlinkedWindowClose { window: WindowId },
    UnlinkedWindowRenamed { window: WindowId, name: Bytes },
    WindowAdd { window: WindowId },
    WindowClose { window: WindowId },
    WindowPaneChanged { window: WindowId, pane: PaneId },
    WindowRenamed { window: WindowId, name: Bytes },
}

/// A watched format has a new value. A field is `None` where tmux prints `-`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of %subscription-changed in tmux(1), in order")]
pub struct Subscription {
    pub name: Bytes,
    pub session: SessionId,
    pub window: Option<WindowId>,
    pub index: Option<u32>,
    pub pane: Option<PaneId>,
    pub value: Bytes,
}

/// Bytes of a pane, still escaped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Output<'a> {
    /// Whose.
    pub pane: PaneId,
    /// How long they waited in tmux, ms; `None` for `%output`.
    pub age_ms: Option<u64>,
    /// Decode with [`super::escape::value`].
    pub value: &'a [u8],
}

/// A line that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// `%output` or `%extended-output`.
    Output(Output<'a>),
    /// Anything else.
    Notification(Notification),
}

/// Why a line is no notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// No `%` and a keyword: late output of an asynchronous command, or an error of a hook.
    #[error("not a notification")]
    Stray,
    /// A keyword that tmux 3.2 to 3.7 does not have.
    #[error("unknown notification")]
    Unknown,
    /// A known keyword, but its arguments do not follow the grammar.
    #[error("malformed notification")]
    Malformed,
}

type Rule = fn(&[u8]) -> IResult<&[u8], Notification>;

/// The rules by their keyword. Output is not among them: it is tried first.
const RULES: [(&[u8], Rule); 23] = [
    (b"client-detached", client_detached),
    (b"client-session-changed", client_session_changed),
    (b"config-error", config_error),
    (b"continue", r#continue),
    (b"exit", exit),
    (b"layout-change", layout_change),
    (b"message", message),
    (b"pane-mode-changed", pane_mode_changed),
    (b"paste-buffer-changed", paste_buffer_changed),
    (b"paste-buffer-deleted", paste_buffer_deleted),
    (b"pause", pause),
    (b"session-changed", session_changed),
    (b"session-renamed", session_renamed),
    (b"session-window-changed", session_window_changed),
    (b"sessions-changed", sessions_changed),
    (b"subscription-changed", subscription_changed),
    (b"unlinked-window-add", unlinked_window_add),
    (b"unlinked-window-close", unlinked_window_close),
    (b"unlinked-window-renamed", unlinked_window_renamed),
    (b"window-add", window_add),
    (b"window-close", window_close),
    (b"window-pane-changed", window_pane_changed),
    (b"window-renamed", window_renamed),
];

/// Understands one line without its end.
///
/// # Errors
///
/// Says what kind of line it is if it is none of these.
///
/// ```abnf
/// notification = output / extended-output / client-detached / client-session-changed / config-error
///              / continue / exit / layout-change / message / pane-mode-changed / paste-buffer-changed
///              / paste-buffer-deleted / pause / session-changed / session-renamed / session-window-changed
///              / sessions-changed / subscription-changed / unlinked-window-add / unlinked-window-close
///              / unlinked-window-renamed / window-add / window-close / window-pane-changed / window-renamed
/// ```
pub fn notification(line: &[u8]) -> Result<Parsed<'_>, Rejected> {
    if let Ok((_, output)) = alt((output, extended_output)).parse(line) {
        return Ok(Parsed::Output(output));
    }
    let (_, name) = keyword(line).map_err(|_| Rejected::Stray)?;
    if name == b"output" || name == b"extended-output" {
        return Err(Rejected::Malformed);
    }
    let (_, rule) = RULES.iter().find(|(known, _)| *known == name).ok_or(Rejected::Unknown)?;
    let whole = all_consuming(rule).parse(line);
    whole.map(|(_, parsed)| Parsed::Notification(parsed)).map_err(|_| Rejected::Malformed)
}

/// A notification of a version to come, and what else looks like one.
///
/// ```abnf
/// keyword = "%" 1*( %x61-7A / "-" )
/// unknown = keyword [ SP body ]
/// stray = body
/// ```
fn keyword(line: &[u8]) -> IResult<&[u8], &[u8]> {
    let (after, name) =
        preceded(tag("%"), take_while1(|b: u8| b.is_ascii_lowercase() || b == b'-')).parse(line)?;
    match after {
        [] | [b' ', ..] => Ok((after, name)),
        [_, ..] => Err(nom::Err::Error(Error::from_error_kind(line, ErrorKind::Tag))),
    }
}

/// ```abnf
/// output = "%output" SP pane SP value
/// ```
fn output(line: &[u8]) -> IResult<&[u8], Output<'_>> {
    let whole = (preceded(tag("%output "), pane), preceded(tag(" "), rest));
    map(whole, |(pane, value)| Output { pane, age_ms: None, value }).parse(line)
}

/// Words between the age and the colon are left for versions to come.
///
/// ```abnf
/// extended-output = "%extended-output" SP pane SP count *( SP word ) SP ":" SP value
/// ```
fn extended_output(line: &[u8]) -> IResult<&[u8], Output<'_>> {
    let head = separated_pair(preceded(tag("%extended-output "), pane), tag(" "), count);
    let whole = (head, preceded((other_words, tag(" : ")), rest));
    map(whole, |((pane, age), value)| Output { pane, age_ms: Some(age), value }).parse(line)
}

fn other_words(input: &[u8]) -> IResult<&[u8], usize> {
    many0_count(preceded(tag(" "), verify(word, |text: &[u8]| text != b":"))).parse(input)
}

/// ```abnf
/// pause = "%pause" SP pane
/// ```
fn pause(line: &[u8]) -> IResult<&[u8], Notification> {
    map(preceded(tag("%pause "), pane), |pane| Notification::Pause { pane }).parse(line)
}

/// ```abnf
/// continue = "%continue" SP pane
/// ```
fn r#continue(line: &[u8]) -> IResult<&[u8], Notification> {
    map(preceded(tag("%continue "), pane), |pane| Notification::Continue { pane }).parse(line)
}

/// ```abnf
/// pane-mode-changed = "%pane-mode-changed" SP pane
/// ```
fn pane_mode_changed(line: &[u8]) -> IResult<&[u8], Notification> {
    map(preceded(tag("%pane-mode-changed "), pane), |pane| Notification::PaneModeChanged { pane }).parse(line)
}

/// The layout, the layout that is visible (another one while a pane is zoomed), the window's flags.
///
/// ```abnf
/// layout-change = "%layout-change" SP window SP layout SP layout SP window-flags
/// ```
fn layout_change(line: &[u8]) -> IResult<&[u8], Notification> {
    let tree = || preceded(tag(" "), word.and_then(all_consuming(layout)));
    let whole = (preceded(tag("%layout-change "), window), tree(), tree(), preceded(tag(" "), window_flags));
    map(whole, |(window, layout, visible, flags)| Notification::LayoutChange {
        window,
        layout: Box::new(layout),
        visible: Box::new(visible),
        flags,
    })
    .parse(line)
}

/// Of `# ! ~ * - M Z`, and none for an ordinary window.
///
/// ```abnf
/// window-flags = *%x21-7E
/// ```
fn window_flags(input: &[u8]) -> IResult<&[u8], Bytes> {
    map(verify(rest, |flags: &[u8]| flags.iter().all(u8::is_ascii_graphic)), Bytes::copy_from_slice)
        .parse(input)
}

/// ```abnf
/// window-add = "%window-add" SP window
/// ```
fn window_add(line: &[u8]) -> IResult<&[u8], Notification> {
    map(preceded(tag("%window-add "), window), |window| Notification::WindowAdd { window }).parse(line)
}

/// ```abnf
/// window-close = "%window-close" SP window
/// ```
fn window_close(line: &[u8]) -> IResult<&[u8], Notification> {
    map(preceded(tag("%window-close "), window), |window| Notification::WindowClose { window }).parse(line)
}

/// ```abnf
/// window-renamed = "%window-renamed" SP window SP name
/// ```
fn window_renamed(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = separated_pair(preceded(tag("%window-renamed "), window), tag(" "), name);
    map(whole, |(window, name)| Notification::WindowRenamed { window, name }).parse(line)
}

/// A window of another session.
///
/// ```abnf
/// unlinked-window-add = "%unlinked-window-add" SP window
/// ```
fn unlinked_window_add(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = preceded(tag("%unlinked-window-add "), window);
    map(whole, |window| Notification::UnlinkedWindowAdd { window }).parse(line)
}

/// Also how the ordinary end of a window of this session is told: it is unlinked before it is announced.
///
/// ```abnf
/// unlinked-window-close = "%unlinked-window-close" SP window
/// ```
fn unlinked_window_close(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = preceded(tag("%unlinked-window-close "), window);
    map(whole, |window| Notification::UnlinkedWindowClose { window }).parse(line)
}

/// ```abnf
/// unlinked-window-renamed = "%unlinked-window-renamed" SP window SP name
/// ```
fn unlinked_window_renamed(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = separated_pair(preceded(tag("%unlinked-window-renamed "), window), tag(" "), name);
    map(whole, |(window, name)| Notification::UnlinkedWindowRenamed { window, name }).parse(line)
}

/// ```abnf
/// window-pane-changed = "%window-pane-changed" SP window SP pane
/// ```
fn window_pane_changed(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = preceded(tag("%window-pane-changed "), separated_pair(window, tag(" "), pane));
    map(whole, |(window, pane)| Notification::WindowPaneChanged { window, pane }).parse(line)
}

/// ```abnf
/// session-changed = "%session-changed" SP session SP name
/// ```
fn session_changed(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = separated_pair(preceded(tag("%session-changed "), session), tag(" "), name);
    map(whole, |(session, name)| Notification::SessionChanged { session, name }).parse(line)
}

/// ```abnf
/// session-renamed = "%session-renamed" SP session SP name
/// ```
fn session_renamed(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = separated_pair(preceded(tag("%session-renamed "), session), tag(" "), name);
    map(whole, |(session, name)| Notification::SessionRenamed { session, name }).parse(line)
}

/// ```abnf
/// session-window-changed = "%session-window-changed" SP session SP window
/// ```
fn session_window_changed(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = preceded(tag("%session-window-changed "), separated_pair(session, tag(" "), window));
    map(whole, |(session, window)| Notification::SessionWindowChanged { session, window }).parse(line)
}

/// ```abnf
/// sessions-changed = "%sessions-changed"
/// ```
fn sessions_changed(line: &[u8]) -> IResult<&[u8], Notification> {
    value(Notification::SessionsChanged, tag("%sessions-changed")).parse(line)
}

/// Another client; its name is the path of its tty, or `client-` and its pid.
///
/// ```abnf
/// client-session-changed = "%client-session-changed" SP word SP session SP name
/// ```
fn client_session_changed(line: &[u8]) -> IResult<&[u8], Notification> {
    let client = map(preceded(tag("%client-session-changed "), word), Bytes::copy_from_slice);
    let whole = (client, preceded(tag(" "), session), preceded(tag(" "), name));
    map(whole, |(client, session, name)| Notification::ClientSessionChanged { client, session, name })
        .parse(line)
}

/// ```abnf
/// client-detached = "%client-detached" SP word
/// ```
fn client_detached(line: &[u8]) -> IResult<&[u8], Notification> {
    let client = map(preceded(tag("%client-detached "), word), Bytes::copy_from_slice);
    map(client, |client| Notification::ClientDetached { client }).parse(line)
}

/// The name may hold spaces and dollars: it ends where the rest of the line first fits.
///
/// ```abnf
/// subscription-changed = "%subscription-changed" SP subscription-name SP session SP ( window / "-" )
///                        SP ( number / "-" ) SP ( pane / "-" ) *( SP word ) SP ":" SP body
/// ```
fn subscription_changed(line: &[u8]) -> IResult<&[u8], Notification> {
    let (input, _) = tag("%subscription-changed ").parse(line)?;
    let fits = |at: usize| {
        let (left, name) = all_consuming(subscription_name).parse(&input[..at]).ok()?;
        debug_assert!(left.is_empty());
        let (_, (session, window, index, pane, value)) = subscribed(&input[at..]).ok()?;
        Some(Subscription { name, session, window, index, pane, value })
    };
    match memchr::memchr_iter(b' ', input).find_map(fits) {
        Some(found) => Ok((&[], Notification::SubscriptionChanged(found))),
        None => Err(nom::Err::Error(Error::from_error_kind(line, ErrorKind::Alt))),
    }
}

type Subscribed = (SessionId, Option<WindowId>, Option<u32>, Option<PaneId>, Bytes);

fn subscribed(input: &[u8]) -> IResult<&[u8], Subscribed> {
    let dash = || value((), tag("-"));
    let window = preceded(tag(" "), alt((map(window, Some), map(dash(), |()| None))));
    let index = preceded(tag(" "), alt((map(number, Some), map(dash(), |()| None))));
    let pane = preceded(tag(" "), alt((map(pane, Some), map(dash(), |()| None))));
    let text = preceded((other_words, tag(" : ")), map(rest, Bytes::copy_from_slice));
    (preceded(tag(" "), session), window, index, pane, text).parse(input)
}

/// ```abnf
/// subscription-name = 1*( %x00-09 / %x0B-39 / %x3B-FF )
/// ```
fn subscription_name(input: &[u8]) -> IResult<&[u8], Bytes> {
    map(take_while1(|b| b != b':' && b != b'\n'), Bytes::copy_from_slice).parse(input)
}

/// ```abnf
/// paste-buffer-changed = "%paste-buffer-changed" SP name
/// ```
fn paste_buffer_changed(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = preceded(tag("%paste-buffer-changed "), name);
    map(whole, |name| Notification::PasteBufferChanged { name }).parse(line)
}

/// ```abnf
/// paste-buffer-deleted = "%paste-buffer-deleted" SP name
/// ```
fn paste_buffer_deleted(line: &[u8]) -> IResult<&[u8], Notification> {
    let whole = preceded(tag("%paste-buffer-deleted "), name);
    map(whole, |name| Notification::PasteBufferDeleted { name }).parse(line)
}

/// ```abnf
/// message = "%message" SP body
/// ```
fn message(line: &[u8]) -> IResult<&[u8], Notification> {
    map(preceded(tag("%message "), name), |text| Notification::Message { text }).parse(line)
}

/// May come before the first block.
///
/// ```abnf
/// config-error = "%config-error" SP body
/// ```
fn config_error(line: &[u8]) -> IResult<&[u8], Notification> {
    map(preceded(tag("%config-error "), name), |text| Notification::ConfigError { text }).parse(line)
}

/// Written by the client process when it ends.
///
/// ```abnf
/// exit = "%exit" [ SP body ]
/// ```
fn exit(line: &[u8]) -> IResult<&[u8], Notification> {
    let reason = opt(preceded(tag(" "), name));
    map(preceded(tag("%exit"), reason), |reason| Notification::Exit { reason }).parse(line)
}

/// Of a window, session or buffer, as tmux made it safe (vis(3)) up to 3.6; may hold spaces, may be empty.
///
/// ```abnf
/// name = body
/// ```
fn name(input: &[u8]) -> IResult<&[u8], Bytes> {
    map(rest, Bytes::copy_from_slice).parse(input)
}

/// ```abnf
/// word = 1*( %x00-09 / %x0B-1F / %x21-FF )
/// ```
fn word(input: &[u8]) -> IResult<&[u8], &[u8]> {
    take_while1(|b| b != b' ' && b != b'\n').parse(input)
}

/// What the commands that pause, continue and print messages emit between their own `%begin` and `%end` (tmux up to 3.7).
///
/// Taken out of every block: nothing kas asks for can hold other text.
#[must_use]
pub fn inside_block(line: &[u8]) -> Option<Notification> {
    all_consuming(alt((pause, r#continue, message))).parse(line).ok().map(|(_, parsed)| parsed)
}

impl Notification {
    /// tmux's name for it, with underscores.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::ClientDetached { .. } => "client_detached",
            Self::ClientSessionChanged { .. } => "client_session_changed",
            Self::ConfigError { .. } => "config_error",
            Self::Continue { .. } => "continue",
            Self::Exit { .. } => "exit",
            Self::LayoutChange { .. } => "layout_change",
            Self::Message { .. } => "message",
            Self::PaneModeChanged { .. } => "pane_mode_changed",
            Self::PasteBufferChanged { .. } => "paste_buffer_changed",
            Self::PasteBufferDeleted { .. } => "paste_buffer_deleted",
            Self::Pause { .. } => "pause",
            Self::SessionChanged { .. } => "session_changed",
            Self::SessionRenamed { .. } => "session_renamed",
            Self::SessionWindowChanged { .. } => "session_window_changed",
            Self::SessionsChanged => "sessions_changed",
            Self::SubscriptionChanged(_) => "subscription_changed",
            Self::UnlinkedWindowAdd { .. } => "unlinked_window_add",
            Self::UnlinkedWindowClose { .. } => "unlinked_window_close",
            Self::UnlinkedWindowRenamed { .. } => "unlinked_window_renamed",
            Self::WindowAdd { .. } => "window_add",
            Self::WindowClose { .. } => "window_close",
            Self::WindowPaneChanged { .. } => "window_pane_changed",
            Self::WindowRenamed { .. } => "window_renamed",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], expect: Notification) {
        assert_eq!(notification(line), Ok(Parsed::Notification(expect)), "{}", line.escape_ascii());
    }

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn output_is_taken_apart_but_not_decoded() {
        let plain = Output { pane: PaneId(1), age_ms: None, value: b"a\\015 \xff" };
        assert_eq!(notification(b"%output %1 a\\015 \xff"), Ok(Parsed::Output(plain)));
        let late = Output { pane: PaneId(2), age_ms: Some(940), value: b" : x" };
        assert_eq!(notification(b"%extended-output %2 940 :  : x"), Ok(Parsed::Output(late)));
        assert_eq!(notification(b"%extended-output %2 940 new words :  : x"), Ok(Parsed::Output(late)));
    }

    #[test]
    fn arguments() {
        check(b"%sessions-changed", Notification::SessionsChanged);
        check(b"%window-renamed @0 ", Notification::WindowRenamed { window: WindowId(0), name: text("") });
        check(
            b"%session-renamed $3 a b",
            Notification::SessionRenamed { session: SessionId(3), name: text("a b") },
        );
        check(b"%exit", Notification::Exit { reason: None });
        check(b"%exit too far behind", Notification::Exit { reason: Some(text("too far behind")) });
        let moved = Notification::ClientSessionChanged {
            client: text("/dev/pts/3"),
            session: SessionId(1),
            name: text("other2"),
        };
        check(b"%client-session-changed /dev/pts/3 $1 other2", moved);
    }

    #[test]
    fn a_subscription_name_may_hold_spaces_and_dollars() {
        let of = |name, window, index, pane, value| {
            Notification::SubscriptionChanged(Subscription {
                name,
                session: SessionId(0),
                window,
                index,
                pane,
                value,
            })
        };
        check(b"%subscription-changed sess $0 - - - : k 1", of(text("sess"), None, None, None, text("k 1")));
        let pane = of(text("a $1 b"), Some(WindowId(1)), Some(4), Some(PaneId(2)), text(""));
        check(b"%subscription-changed a $1 b $0 @1 4 %2 : ", pane);
        let colon = of(text("x"), Some(WindowId(0)), Some(0), None, text("b : c"));
        check(b"%subscription-changed x $0 @0 0 - more : b : c", colon);
    }

    #[test]
    fn what_is_none_of_them_is_said() {
        for (line, why) in [
            (&b""[..], Rejected::Stray),
            (b"one", Rejected::Stray),
            (b"%", Rejected::Stray),
            (b"%1 @1", Rejected::Stray),
            (b"%Output %1 x", Rejected::Stray),
            (b"%exit\r", Rejected::Stray),
            (b"%window-added @1", Rejected::Unknown),
            (b"%end 1 2 3", Rejected::Unknown),
            (b"%output", Rejected::Malformed),
            (b"%output %1", Rejected::Malformed),
            (b"%output @1 x", Rejected::Malformed),
            (b"%window-add @1 ", Rejected::Malformed),
            (b"%window-add @99999999999", Rejected::Malformed),
            (b"%layout-change @0 0000,80x24,0,0,0 0000,80x24,0,0,0 *", Rejected::Malformed),
            (b"%subscription-changed a:b $0 - - - : v", Rejected::Malformed),
        ] {
            assert_eq!(notification(line), Err(why), "{}", line.escape_ascii());
        }
    }
}
