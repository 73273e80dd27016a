//! What does not fit into a cell: links, and characters with others joined to them. Cells hold numbers in these tables.

use super::cell::{Cell, Text};

/// Bytes of a cell's text; what else joins it is not kept.
const MAX_TEXT: usize = 64;
/// Texts at a time; at the cap nothing joins any more.
const MAX_TEXTS: usize = 1 << 16;
/// Bytes of all links; at the cap further text is linked to nothing.
const MAX_LINK_BYTES: usize = 1 << 20;
/// Links at a time, likewise.
const MAX_LINKS: usize = 1 << 14;
/// A table of fewer entries is not searched for those that no cell has.
const FEW: usize = 512;
/// So many of the newest links are looked at for one that is the same.
const RECENT: usize = 16;

/// A link that a program made with OSC 8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    /// `id=…` and what else stands before the address.
    pub(super) parameters: String,
    pub(super) address: String,
}

impl Link {
    fn len(&self) -> usize {
        self.parameters.len() + self.address.len()
    }
}

/// The tables of one terminal.
#[derive(Debug, Clone, Default)]
pub(super) struct Tables {
    texts: Vec<String>,
    /// At so many it is time to look which of them are in use.
    texts_due: usize,
    /// Link 1 is the first.
    links: Vec<Link>,
    links_due: usize,
    link_bytes: usize,
    /// Something was not kept for want of room.
    full: bool,
}

impl Tables {
    /// The text of a cell, without that of a blank one.
    pub(super) fn push_text(&self, cell: Cell, out: &mut String) {
        match cell.text() {
            Text::Empty => {}
            Text::One(character) => out.push(character),
            Text::Joined(number) => out.push_str(self.texts.get(number as usize).map_or("", String::as_str)),
        }
    }

    /// Joins a character to a cell's text; of so many cells is the whole.
    pub(super) fn join(&mut self, cell: &mut Cell, character: char, width: u8) {
        match cell.text() {
            Text::Empty => *cell = Cell::new(character, width, cell.look),
            Text::One(first) if self.texts.len() < MAX_TEXTS => {
                let number = u32::try_from(self.texts.len()).unwrap_or(0);
                self.texts.push(String::from_iter([first, character]));
                cell.set_joined(number, width);
            }
            Text::One(_) => self.full = true,
            Text::Joined(number) => {
                if let Some(text) = self.texts.get_mut(number as usize)
                    && text.len() + character.len_utf8() <= MAX_TEXT
                {
                    text.push(character);
                }
                cell.set_joined(number, width);
            }
        }
    }

    /// The number of a link; 0 when there is no room for one more.
    pub(super) fn link(&mut self, parameters: &str, address: &str) -> u16 {
        let link = Link { parameters: parameters.to_owned(), address: address.to_owned() };
        let from = self.links.len().saturating_sub(RECENT);
        let same = self.links[from..].iter().rposition(|it| *it == link).map(|at| from + at);
        let at = same.unwrap_or(self.links.len());
        if same.is_none() {
            if self.links.len() >= MAX_LINKS || self.link_bytes + link.len() > MAX_LINK_BYTES {
                self.full = true;
                return 0;
            }
            self.link_bytes += link.len();
            self.links.push(link);
        }
        u16::try_from(at + 1).unwrap_or(0)
    }

    /// Whether there is any link.
    pub(super) fn has_links(&self) -> bool {
        !self.links.is_empty()
    }

    /// The link of a number.
    pub(super) fn linked(&self, number: u16) -> Option<&Link> {
        self.links.get(usize::from(number).checked_sub(1)?)
    }

    /// Whether so much was added that it is time for [`Tables::sweep`].
    pub(super) fn is_due(&self) -> bool {
        let links_due = self.links.len() >= self.links_due.max(FEW) || self.link_bytes > MAX_LINK_BYTES / 2;
        self.full
            || self.texts.len() >= self.texts_due.max(FEW)
            || links_due && self.links.len() > self.links_due / 2
    }

    /// Forgets what no cell has, and numbers the rest anew; `pen` is the link that text is written with.
    pub(super) fn sweep<'a>(&mut self, cells: impl Iterator<Item = &'a mut Cell>, pen: &mut u16) {
        let mut texts = Vec::new();
        let mut numbers = vec![0_u16; self.links.len() + 1];
        let mut links = Vec::new();
        let mut keep = |link: &mut u16, old: &[Link]| {
            let Some(number) = numbers.get_mut(usize::from(*link)).filter(|_| *link > 0) else { return };
            if *number == 0 {
                links.extend(old.get(usize::from(*link) - 1).cloned());
                *number = u16::try_from(links.len()).unwrap_or(0);
            }
            *link = *number;
        };
        keep(pen, &self.links);
        for cell in cells {
            keep(&mut cell.look.link, &self.links);
            if let Text::Joined(number) = cell.text() {
                let width = cell.width();
                let text = self.texts.get_mut(number as usize).map(std::mem::take).unwrap_or_default();
                cell.set_joined(u32::try_from(texts.len()).unwrap_or(0), width);
                texts.push(text);
            }
        }
        self.link_bytes = links.iter().map(Link::len).sum();
        (self.texts_due, self.links_due) = (2 * texts.len(), 2 * links.len());
        (self.texts, self.links, self.full) = (texts, links, false);
    }
}
