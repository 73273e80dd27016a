//! Character sets that a program may switch to with `ESC (`, as xterm.js 6 has them (`Charsets.ts`).

/// A set by the byte that designates it; `B` is ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Charset(u8);

impl Charset {
    /// ASCII, which every terminal begins with.
    pub(super) const ASCII: Self = Self(b'B');

    /// The set that `byte` designates; `None` when there is none.
    pub(super) fn designated(byte: u8) -> Option<Self> {
        let known = byte == Self::ASCII.0 || byte == b'0' || national(byte).is_some();
        known.then_some(Self(byte))
    }

    /// The byte that designates it.
    pub(super) const fn byte(self) -> u8 {
        self.0
    }

    /// What an ASCII byte means in it.
    pub(super) fn character(self, byte: u8) -> char {
        let same = char::from(byte);
        if self.0 == b'0' {
            return if (0x60..0x7f).contains(&byte) { GRAPHICS[usize::from(byte - 0x60)] } else { same };
        }
        let pairs = national(self.0).unwrap_or_default();
        pairs.iter().find(|(from, _)| *from == byte).map_or(same, |&(_, to)| to)
    }
}

/// DEC special graphics, what bytes 0x60 to 0x7e mean in it (VT100 user guide, table 3-9).
const GRAPHICS: [char; 31] = [
    '◆', '▒', '␉', '␌', '␍', '␊', '°', '±', '␤', '␋', '┘', '┐', '┌', '└', '┼', '⎺', '⎻', '─', '⎼', '⎽', '├',
    '┤', '┴', '┬', '│', '≤', '≥', 'π', '≠', '£', '·',
];

type Pairs = &'static [(u8, char)];

/// The national sets by the bytes that designate them: where they differ from ASCII.
#[rustfmt::skip]
const NATIONAL: &[(&[u8], Pairs)] = &[
    (b"A", &[(b'#', '£')]),
    (b"4", &[(b'#', '£'), (b'@', '¾'), (b'[', 'i'), (b'\\', '½'), (b']', '|'), (b'{', '¨'), (b'|', 'f'), (b'}', '¼'), (b'~', '´')]),
    (b"C5", &[(b'[', 'Ä'), (b'\\', 'Ö'), (b']', 'Å'), (b'^', 'Ü'), (b'`', 'é'), (b'{', 'ä'), (b'|', 'ö'), (b'}', 'å'), (b'~', 'ü')]),
    (b"R", &[(b'#', '£'), (b'@', 'à'), (b'[', '°'), (b'\\', 'ç'), (b']', '§'), (b'{', 'é'), (b'|', 'ù'), (b'}', 'è'), (b'~', '¨')]),
    (b"Q", &[(b'@', 'à'), (b'[', 'â'), (b'\\', 'ç'), (b']', 'ê'), (b'^', 'î'), (b'`', 'ô'), (b'{', 'é'), (b'|', 'ù'), (b'}', 'è'), (b'~', 'û')]),
    (b"K", &[(b'@', '§'), (b'[', 'Ä'), (b'\\', 'Ö'), (b']', 'Ü'), (b'{', 'ä'), (b'|', 'ö'), (b'}', 'ü'), (b'~', 'ß')]),
    (b"Y", &[(b'#', '£'), (b'@', '§'), (b'[', '°'), (b'\\', 'ç'), (b']', 'é'), (b'`', 'ù'), (b'{', 'à'), (b'|', 'ò'), (b'}', 'è'), (b'~', 'ì')]),
    (b"E6", &[(b'@', 'Ä'), (b'[', 'Æ'), (b'\\', 'Ø'), (b']', 'Å'), (b'^', 'Ü'), (b'`', 'ä'), (b'{', 'æ'), (b'|', 'ø'), (b'}', 'å'), (b'~', 'ü')]),
    (b"Z", &[(b'#', '£'), (b'@', '§'), (b'[', '¡'), (b'\\', 'Ñ'), (b']', '¿'), (b'{', '°'), (b'|', 'ñ'), (b'}', 'ç')]),
    (b"H7", &[(b'@', 'É'), (b'[', 'Ä'), (b'\\', 'Ö'), (b']', 'Å'), (b'^', 'Ü'), (b'`', 'é'), (b'{', 'ä'), (b'|', 'ö'), (b'}', 'å'), (b'~', 'ü')]),
    (b"=", &[(b'#', 'ù'), (b'@', 'à'), (b'[', 'é'), (b'\\', 'ç'), (b']', 'ê'), (b'^', 'î'), (b'_', 'è'), (b'`', 'ô'), (b'{', 'ä'), (b'|', 'ö'), (b'}', 'ü'), (b'~', 'û')]),
];

fn national(byte: u8) -> Option<Pairs> {
    NATIONAL.iter().find(|(names, _)| names.contains(&byte)).map(|&(_, pairs)| pairs)
}
