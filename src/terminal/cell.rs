//! What one place of a screen holds: a character and how it looks.

/// The bits of a colour: its kind and its value, as in xterm.js.
pub(super) const COLOUR: u32 = 0x03ff_ffff;
const KIND: u32 = 0x0300_0000;
const SIXTEEN: u32 = 0x0100_0000;
const PALETTE: u32 = 0x0200_0000;
const RGB: u32 = 0x0300_0000;

/// Flags beside the foreground colour.
pub(super) const INVERSE: u32 = 1 << 26;
pub(super) const BOLD: u32 = 1 << 27;
pub(super) const UNDERLINE: u32 = 1 << 28;
pub(super) const BLINK: u32 = 1 << 29;
pub(super) const HIDDEN: u32 = 1 << 30;
pub(super) const STRIKE: u32 = 1 << 31;

/// Flags beside the background colour.
pub(super) const ITALIC: u32 = 1 << 26;
pub(super) const DIM: u32 = 1 << 27;
/// The underline's style and colour and the link count only with this, as in xterm.js: DECRC may bring a look without.
pub(super) const EXTENDED: u32 = 1 << 28;
pub(super) const PROTECTED: u32 = 1 << 29;
pub(super) const OVERLINE: u32 = 1 << 30;

/// Beside the underline's colour: the colour was taken back with SGR 59. xterm.js 6 then draws it white, so a copy says the same again.
pub(super) const UNSET: u32 = 1 << 29;
const STYLE_SHIFT: u32 = 26;
const STYLE: u32 = 7 << STYLE_SHIFT;

/// A colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Colour {
    Default,
    /// One of the 16 that have names.
    Named(u8),
    /// One of a palette of 256.
    Indexed(u8),
    Rgb(u8, u8, u8),
}

impl Colour {
    pub(super) fn of(bits: u32) -> Self {
        let [_, r, g, b] = bits.to_be_bytes();
        match bits & KIND {
            SIXTEEN => Self::Named(b),
            PALETTE => Self::Indexed(b),
            RGB => Self::Rgb(r, g, b),
            _ => Self::Default,
        }
    }

    /// These bits, and in a colour's place this colour.
    pub(super) const fn on(self, bits: u32) -> u32 {
        let colour = match self {
            Self::Default => 0,
            Self::Named(n) => SIXTEEN | n as u32,
            Self::Indexed(n) => PALETTE | n as u32,
            Self::Rgb(r, g, b) => RGB | (r as u32) << 16 | (g as u32) << 8 | b as u32,
        };
        bits & !COLOUR | colour
    }
}

/// How a character looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Look {
    /// Foreground colour and flags.
    pub(super) fg: u32,
    /// Background colour and flags.
    pub(super) bg: u32,
    /// The underline's colour and style.
    pub(super) line: u32,
    /// The link it belongs to; 0 for none.
    pub(super) link: u16,
}

impl Look {
    /// The style of the underline, 1 to 5; 0 when there is none.
    pub(super) const fn underline(self) -> u32 {
        match (self.fg & UNDERLINE != 0, self.bg & EXTENDED != 0) {
            (false, _) => 0,
            (true, false) => 1,
            (true, true) => (self.line & STYLE) >> STYLE_SHIFT,
        }
    }

    pub(super) const fn set_underline(&mut self, style: u32) {
        self.line = self.line & !STYLE | (style << STYLE_SHIFT) & STYLE;
        self.fg = if style == 0 { self.fg & !UNDERLINE } else { self.fg | UNDERLINE };
        self.extend();
    }

    /// Makes style and link count, if there are any.
    pub(super) const fn extend(&mut self) {
        let any = self.line & STYLE != 0 || self.link != 0;
        self.bg = if any { self.bg | EXTENDED } else { self.bg & !EXTENDED };
    }

    /// How text looks that is written with it.
    pub(super) const fn of_text(self) -> Self {
        if self.bg & EXTENDED == 0 { Self { line: 0, link: 0, ..self } } else { self }
    }

    /// The same without the link.
    pub(super) const fn unlinked(self) -> Self {
        Self { link: 0, ..self }
    }

    /// What erasing leaves behind: the background's colour.
    pub(super) fn erased(self) -> Self {
        Self { bg: self.bg & COLOUR, ..Self::default() }
    }

    /// Whether only the background is another than a reset terminal's.
    pub(super) const fn is_background(self) -> bool {
        self.fg == 0 && self.line == 0 && self.link == 0 && self.bg & !COLOUR == 0
    }
}

/// What a cell's text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Text {
    /// Nothing was written there.
    Empty,
    One(char),
    /// A character with others joined to it: their number in the screen's table.
    Joined(u32),
}

const CODE: u32 = 0x001f_ffff;
const JOINED: u32 = 1 << 21;
const WIDTH_SHIFT: u32 = 22;

/// One place of a screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cell {
    content: u32,
    pub(super) look: Look,
}

impl Cell {
    /// As a reset terminal has it.
    pub(super) const BLANK: Self = Self::empty(Look { fg: 0, bg: 0, line: 0, link: 0 });

    /// Nothing, with a look.
    pub(super) const fn empty(look: Look) -> Self {
        Self { content: 1 << WIDTH_SHIFT, look }
    }

    /// The second half of a wide character.
    pub(super) const fn second(look: Look) -> Self {
        Self { content: 0, look }
    }

    /// A character of so many cells.
    pub(super) const fn new(character: char, width: u8, look: Look) -> Self {
        Self { content: character as u32 | (width as u32) << WIDTH_SHIFT, look }
    }

    pub(super) const fn width(self) -> u8 {
        #[expect(clippy::cast_possible_truncation, reason = "two bits")]
        let width = (self.content >> WIDTH_SHIFT) as u8;
        width
    }

    pub(super) const fn has_text(self) -> bool {
        self.content & (CODE | JOINED) != 0
    }

    pub(super) fn text(self) -> Text {
        let code = self.content & CODE;
        if self.content & JOINED != 0 {
            return Text::Joined(code);
        }
        char::from_u32(code).filter(|&c| c != '\0').map_or(Text::Empty, Text::One)
    }

    /// Puts a text of the table in a cell's place; of so many cells.
    pub(super) const fn set_joined(&mut self, number: u32, width: u8) {
        self.content = number & CODE | JOINED | (width as u32) << WIDTH_SHIFT;
    }

    /// Whether it is the half of a wide character that has no text.
    pub(super) const fn is_second(self) -> bool {
        self.width() == 0 && !self.has_text()
    }
}

/// A line: its cells as far as anything is on them, and whether it goes on the one above.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Line {
    cells: Vec<Cell>,
    pub(super) wrapped: bool,
}

impl Line {
    /// An empty line that goes on the one above, or not.
    pub(super) const fn going_on(wrapped: bool) -> Self {
        Self { cells: Vec::new(), wrapped }
    }

    /// An empty line, with this in all its `cols` cells.
    pub(super) fn filled(cell: Cell, cols: usize) -> Self {
        let mut line = Self::default();
        line.fill(cell, cols);
        line
    }

    /// Makes it such a line; what memory it has is used again.
    pub(super) fn fill(&mut self, cell: Cell, cols: usize) {
        self.cells.clear();
        self.wrapped = false;
        if cell != Cell::BLANK {
            self.cells.resize(cols, cell);
        }
    }

    /// Its cells; those after them are blank.
    pub(super) fn cells(&self) -> &[Cell] {
        &self.cells
    }

    pub(super) fn cells_mut(&mut self) -> &mut [Cell] {
        &mut self.cells
    }

    pub(super) fn get(&self, col: usize) -> Cell {
        self.cells.get(col).copied().unwrap_or(Cell::BLANK)
    }

    pub(super) fn set(&mut self, col: usize, cell: Cell) {
        self.reach(col + 1);
        self.cells[col] = cell;
    }

    /// Writes ASCII text from `col` on.
    pub(super) fn write(&mut self, col: usize, text: &[u8], look: Look) {
        self.reach(col);
        let cell = |&byte: &u8| Cell::new(char::from(byte), 1, look);
        let over = text.len().min(self.cells.len() - col);
        for (old, byte) in self.cells[col..col + over].iter_mut().zip(text) {
            *old = cell(byte);
        }
        self.cells.extend(text[over..].iter().map(cell));
    }

    fn reach(&mut self, len: usize) {
        if self.cells.len() < len {
            self.cells.resize(len, Cell::BLANK);
        }
    }

    /// Puts `cell` in the place of those from `from` to before `to`, in a line of `cols`.
    pub(super) fn replace(&mut self, from: usize, to: usize, cols: usize, cell: Cell) {
        let to = to.min(cols);
        if from >= to {
            return;
        }
        if from > 0 && self.get(from - 1).width() == 2 {
            self.set(from - 1, Cell::empty(cell.look));
        }
        if to < cols && self.get(to - 1).width() == 2 {
            self.set(to, Cell::empty(cell.look));
        }
        self.put(from, to, cols, cell);
    }

    fn put(&mut self, from: usize, to: usize, cols: usize, cell: Cell) {
        if to == cols && cell == Cell::BLANK {
            self.cells.truncate(from);
        } else {
            self.reach(to);
            self.cells[from..to].fill(cell);
        }
    }

    /// Moves what is at `at` by `count` cells to the right, out of a line of `cols`.
    pub(super) fn insert(&mut self, at: usize, count: usize, cols: usize, cell: Cell) {
        let at = at % cols;
        if at > 0 && self.get(at - 1).width() == 2 {
            self.set(at - 1, Cell::empty(cell.look));
        }
        let count = count.min(cols - at);
        self.reach(at);
        self.cells.splice(at..at, std::iter::repeat_n(cell, count));
        self.cells.truncate(cols);
        if self.get(cols - 1).width() == 2 {
            self.set(cols - 1, Cell::empty(cell.look));
        }
    }

    /// Takes `count` cells out at `at` and moves what is behind them there, in a line of `cols`.
    pub(super) fn delete(&mut self, at: usize, count: usize, cols: usize, cell: Cell) {
        let at = at % cols;
        let count = count.min(cols - at);
        let end = self.cells.len();
        self.cells.drain(at.min(end)..(at + count).min(end));
        self.put(cols - count, cols, cols, cell);
        if at > 0 && self.get(at - 1).width() == 2 {
            self.set(at - 1, Cell::empty(cell.look));
        }
        if self.get(at).is_second() {
            self.set(at, Cell::empty(cell.look));
        }
    }

    /// Up to where there is text.
    pub(super) fn text_len(&self) -> usize {
        let last = self.cells.iter().rposition(|cell| cell.has_text());
        last.map_or(0, |at| at + usize::from(self.cells[at].width()))
    }

    /// Cuts it off, or leaves it as it is: what is after its cells is blank.
    pub(super) fn narrow(&mut self, cols: usize) {
        self.cells.truncate(cols);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_is_small() {
        assert_eq!(size_of::<Cell>(), 20);
    }

    #[test]
    fn colours_keep_their_flags() {
        for colour in [Colour::Default, Colour::Named(15), Colour::Indexed(200), Colour::Rgb(1, 2, 3)] {
            assert_eq!(Colour::of(colour.on(BOLD | STRIKE)), colour);
            assert_eq!(colour.on(BOLD | STRIKE | COLOUR) & !COLOUR, BOLD | STRIKE);
        }
    }
}
