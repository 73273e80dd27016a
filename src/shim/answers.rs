//! Answers what the command asks its terminal: at once, in the order asked, with or without a viewer. Nothing else does, so no question is answered
//! twice and none that is shown again. In a tmux window tmux answers what every tmux answers.
//!
//! The terminal's state is followed only when a question needs it: from the journal's front, and later from the question before. A command that
//! asks nothing costs a search for ESC.

use std::io;
use std::path::Path;

use super::supply::{Next, Piece};
use crate::journal::Reader;
use crate::model::Size;
use crate::terminal::{Question, Questions, Replies, Screen, Theme};

/// Of output that was not followed yet, so many bytes before a question are read wholly, and of what is before them only escape sequences: more
/// than a screenful, and little enough to answer soon.
const FED_WHOLLY: u64 = 64 * 1024;
/// What is further back than this is passed over: no program asks after so much output where its cursor is, and cares.
const MAX_BEHIND: u64 = 8 * 1024 * 1024;

/// What the command asked, and the terminal as it is at the last question that needed it.
#[derive(Debug)]
pub(super) struct Answers {
    questions: Questions,
    replies: Replies,
    reader: Reader,
    /// The screen before the byte at this offset.
    followed: Option<(Screen, u64)>,
    /// The colours that are told where the command set none.
    pub(super) theme: Theme,
    /// Whether tmux answers, too.
    tmux: bool,
}

impl Answers {
    pub(super) fn new(dir: &Path, tmux: bool) -> Self {
        Self {
            questions: Questions::default(),
            replies: Replies::default(),
            reader: Reader::new(dir),
            followed: None,
            theme: Theme::NIGHT,
            tmux,
        }
    }

    /// The answers to what is asked in the piece that was just read; it ends at `total`.
    pub(super) fn to(&mut self, piece: &mut Piece, total: u64, size: Size) -> Vec<u8> {
        let begin = total - piece.bytes().len() as u64;
        let asked = self.questions.feed(piece.bytes());
        let mut out = Vec::new();
        for (end, question) in asked {
            if self.tmux && question.tmux_answers() {
                continue;
            }
            match question.fixed_answer() {
                Some(answer) => out.extend_from_slice(answer.as_bytes()),
                None => out.extend_from_slice(
                    self.followed(piece, begin + end as u64, total, size, &question).as_bytes(),
                ),
            }
        }
        out
    }

    /// The terminal has another size from `total` on.
    pub(super) fn resized(&mut self, piece: &mut Piece, total: u64, size: Size) {
        if let Some((screen, _)) = self.follow(piece, total, total, None) {
            screen.resize(size.cols(), size.rows());
        }
    }

    /// What is left of a window's input without answers of tmux to questions that are not its own.
    pub(super) fn strip(&mut self, input: &[u8], more: bool) -> Vec<u8> {
        self.replies.strip(input, more)
    }

    fn followed(
        &mut self,
        piece: &mut Piece,
        at: u64,
        total: u64,
        size: Size,
        question: &Question,
    ) -> String {
        let theme = self.theme;
        let followed = self.follow(piece, at, total, Some(size));
        followed.map(|(screen, _)| question.answer(screen, &theme)).unwrap_or_default()
    }

    /// Follows the output up to `end`; with a size also when nothing was followed so far.
    fn follow(
        &mut self,
        piece: &mut Piece,
        end: u64,
        total: u64,
        begin: Option<Size>,
    ) -> Option<&mut (Screen, u64)> {
        if self.followed.is_none() {
            let size = begin?;
            self.followed =
                Some(self.begin(size).unwrap_or_else(|_| (Screen::new(size.cols(), size.rows(), 0), 0)));
        }
        let (screen, at) = self.followed.as_mut()?;
        *at = (*at).max(end.saturating_sub(MAX_BEHIND));
        while *at < end {
            match piece.next(&mut self.reader, *at, total) {
                Next::Gap(to) => *at = to.clamp(*at + 1, end),
                Next::Bytes(bytes) => {
                    let behind = end - *at;
                    let wholly = behind <= FED_WHOLLY;
                    let most = if wholly { behind } else { behind - FED_WHOLLY };
                    let len = bytes.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                    if wholly {
                        screen.feed(&bytes[..len])
                    } else {
                        screen.feed_escapes(&bytes[..len])
                    }
                    *at += len as u64;
                }
            }
        }
        self.followed.as_mut()
    }

    /// The screen at the journal's front.
    fn begin(&self, size: Size) -> io::Result<(Screen, u64)> {
        let mut screen = Screen::new(size.cols(), size.rows(), 0);
        let (start, _) = self.reader.range()?;
        let mut at = start.0;
        if let Some(point) = self.reader.checkpoint()?.filter(|_| at > 0) {
            screen.resize(point.size.cols(), point.size.rows());
            screen.feed(&point.dump);
            screen.resize(size.cols(), size.rows());
            at = point.offset.0;
        }
        Ok((screen, at))
    }
}
