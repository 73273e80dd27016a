//! The screen of an operator's pane as bytes, taken by a one-shot process that also lets the pane's output flow again.

use super::oneshot::{self, Sequence};
use super::settings::Settings;
use crate::backend::BackendError;
use crate::control::PaneId;
use crate::model::Size;

/// Lines above the screen that are taken.
const HISTORY_LINES: &str = "-2000";

/// The state that is asked for, in this order.
const STATE: &str = "#{pane_width} #{pane_height} #{cursor_x} #{cursor_y} #{alternate_on} #{cursor_flag} #{keypad_cursor_flag} #{keypad_flag} #{mouse_standard_flag} #{mouse_button_flag} #{mouse_all_flag} #{mouse_sgr_flag}";

/// The modes behind the flags after the cursor's place: what is written when a flag is 1, and when it is 0.
const MODES: [(&str, &str); 7] = [
    ("", "\x1b[?25l"),
    ("\x1b[?1h", ""),
    ("\x1b=", ""),
    ("\x1b[?1000h", ""),
    ("\x1b[?1002h", ""),
    ("\x1b[?1003h", ""),
    ("\x1b[?1006h", ""),
];

/// A pane's screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Screen {
    /// Its size.
    pub(super) size: Size,
    /// Written to any terminal of that size, shows it.
    pub(super) bytes: Vec<u8>,
}

/// Takes the screen of a pane whose output to control client `client` is paused, and lets it flow from there on.
pub(super) async fn take(settings: &Settings, pane: PaneId, client: u32) -> Result<Screen, BackendError> {
    let (pane, client) = (pane.to_string(), format!("client-{client}"));
    let sequence = Sequence::default()
        .then(["display-message", "-p", "-t", &pane, STATE])
        .then(["capture-pane", "-p", "-e", "-t", &pane, "-S", HISTORY_LINES])
        .then(["refresh-client", "-t", &client, "-A", &format!("{pane}:continue")]);
    let answer = oneshot::ask(settings, sequence).await?;
    understood(&answer).ok_or_else(|| BackendError::Tmux("a screen that makes no sense".to_owned()))
}

fn understood(answer: &[u8]) -> Option<Screen> {
    let line = memchr::memchr(b'\n', answer)?;
    let state = std::str::from_utf8(&answer[..line]).ok()?;
    let numbers: Vec<u32> = state.split(' ').map(str::parse).collect::<Result<_, _>>().ok()?;
    let (&[cols, rows, x, y, alternate], flags) = numbers.split_first_chunk::<5>()?;
    let size = Size::clamped(cols.into(), rows.into())?;
    let text = answer[line + 1..].strip_suffix(b"\n").unwrap_or(&answer[line + 1..]);
    let mut bytes = b"\x1bc".to_vec();
    if alternate == 1 {
        bytes.extend_from_slice(b"\x1b[?1049h");
    }
    for (i, line) in text.split(|&b| b == b'\n').enumerate() {
        bytes.extend_from_slice(if i == 0 { b"" } else { b"\r\n" });
        bytes.extend_from_slice(line);
    }
    bytes.extend_from_slice(format!("\x1b[m\x1b[{};{}H", y + 1, x + 1).as_bytes());
    for ((on, off), flag) in MODES.iter().zip(flags) {
        bytes.extend_from_slice(if *flag == 1 { on } else { off }.as_bytes());
    }
    Some(Screen { size, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_state_become_bytes() {
        let check = |answer: &str, expect: &str| {
            let screen = understood(answer.as_bytes()).map(|screen| String::from_utf8(screen.bytes).unwrap());
            assert_eq!(screen.as_deref().unwrap_or("none"), expect);
        };
        check("80 24 2 1 0 1 0 0 0 0 0 0\na\nb \x1b[1mc\n", "\x1bca\r\nb \x1b[1mc\x1b[m\x1b[2;3H");
        check(
            "80 24 0 0 1 0 1 0 0 1 0 1\nx\n",
            "\x1bc\x1b[?1049hx\x1b[m\x1b[1;1H\x1b[?25l\x1b[?1h\x1b[?1002h\x1b[?1006h",
        );
        check("eighty\n", "none");
        check("80 24\n", "none");
    }
}
