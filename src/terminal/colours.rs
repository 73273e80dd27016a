//! Colours that a program changes or asks for (OSC 4, 10, 11, 12 and their resets in xterm's ctlseqs).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::theme::{Rgb, Theme};

/// What has a colour of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Slot {
    /// One of the palette.
    Palette(u8),
    /// Text.
    Foreground,
    /// What is behind text.
    Background,
    /// The cursor.
    Cursor,
}

impl Slot {
    /// The one that OSC 10, 11 or 12 names.
    const fn special(number: u32) -> Option<Self> {
        match number {
            10 => Some(Self::Foreground),
            11 => Some(Self::Background),
            12 => Some(Self::Cursor),
            _ => None,
        }
    }

    /// The colour that no program changed: the theme's, and for the rest of the palette xterm's cube and greys.
    pub(super) fn of(self, theme: &Theme) -> Rgb {
        let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
        match self {
            Self::Foreground => theme.foreground,
            Self::Background => theme.background,
            Self::Cursor => theme.cursor,
            Self::Palette(index @ 0..16) => theme.palette[usize::from(index)],
            Self::Palette(index @ 16..232) => {
                let at = index - 16;
                [level(at / 36), level(at / 6 % 6), level(at % 6)]
            }
            Self::Palette(index) => [8 + 10 * (index - 232); 3],
        }
    }

    /// What stands before a colour in a sequence for it.
    fn head(self, out: &mut String) {
        match self {
            Self::Palette(index) => write!(out, "4;{index};"),
            Self::Foreground => write!(out, "10;"),
            Self::Background => write!(out, "11;"),
            Self::Cursor => write!(out, "12;"),
        }
        .expect("a String takes every write");
    }
}

/// What an OSC says of a slot: a colour's text, or `?`.
pub(super) fn pairs(number: u32, text: &str) -> Vec<(Slot, &str)> {
    let mut parts = text.split(';');
    if number == 4 {
        let mut pairs = Vec::new();
        while let (Some(index), Some(colour)) = (parts.next(), parts.next()) {
            if index.bytes().all(|b| b.is_ascii_digit())
                && let Ok(index) = index.parse()
            {
                pairs.push((Slot::Palette(index), colour));
            }
        }
        return pairs;
    }
    // Further colours are those of the numbers that follow.
    (number..).map_while(Slot::special).zip(parts).collect()
}

/// Keeps what an OSC sets, and forgets what it resets.
pub(super) fn apply(colours: &mut BTreeMap<Slot, Rgb>, number: u32, text: &str) {
    match number {
        4 | 10..=12 => {
            for (slot, colour) in pairs(number, text) {
                if let Some(rgb) = parse(colour) {
                    colours.insert(slot, rgb);
                }
            }
        }
        104 if text.is_empty() => colours.retain(|slot, _| !matches!(slot, Slot::Palette(_))),
        104 => text.split(';').filter_map(|index| index.parse().ok()).for_each(|index| {
            colours.remove(&Slot::Palette(index));
        }),
        110..=112 => {
            if let Some(slot) = Slot::special(number - 100) {
                colours.remove(&slot);
            }
        }
        _ => {}
    }
}

/// Sequences that set the colours.
pub(super) fn write(colours: &BTreeMap<Slot, Rgb>, out: &mut String) {
    for (&slot, &rgb) in colours {
        out.push_str("\x1b]");
        slot.head(out);
        out.push_str(&spec(rgb));
        out.push_str("\x1b\\");
    }
}

/// What a program is answered that asks for a slot's colour.
pub(super) fn report(slot: Slot, rgb: Rgb) -> String {
    let mut out = String::from("\x1b]");
    slot.head(&mut out);
    out + &spec(rgb) + "\x1b\\"
}

/// `rgb:rrrr/gggg/bbbb`.
fn spec([r, g, b]: Rgb) -> String {
    format!("rgb:{r:02x}{r:02x}/{g:02x}{g:02x}/{b:02x}{b:02x}")
}

/// Reads `rgb:r/g/b` of one to four digits each and `#rgb` likewise, as xterm.js does.
fn parse(text: &str) -> Option<Rgb> {
    let low = text.to_ascii_lowercase();
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    if let Some(rest) = low.strip_prefix("rgb:") {
        let parts: Vec<&str> = rest.split('/').collect();
        let len = parts.first()?.len();
        if parts.len() != 3
            || !(1..=4).contains(&len)
            || !parts.iter().all(|part| part.len() == len && digits(part))
        {
            return None;
        }
        let most = (1_u32 << (4 * len)) - 1;
        let scaled = |part: &str| {
            u32::from_str_radix(part, 16).ok().map(|value| (value * 255 * 2 + most) / (2 * most))
        };
        return rgb(&parts, scaled);
    }
    let rest = low.strip_prefix('#').filter(|rest| matches!(rest.len(), 3 | 6 | 9 | 12) && digits(rest))?;
    let len = rest.len() / 3;
    let parts: Vec<&str> = (0..3).map(|at| &rest[at * len..(at + 1) * len]).collect();
    let cut = |part: &str| {
        let value = u32::from_str_radix(part, 16).ok()?;
        Some(if len == 1 { value << 4 } else { value >> (4 * (len - 2)) })
    };
    rgb(&parts, cut)
}

fn rgb(parts: &[&str], value: impl Fn(&str) -> Option<u32>) -> Option<Rgb> {
    let mut out = [0; 3];
    for (place, part) in out.iter_mut().zip(parts) {
        *place = u8::try_from(value(part)?).ok()?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_read_as_xterm_reads_them() {
        for (text, expect) in [
            ("rgb:f/0/8", Some([255, 0, 136])),
            ("rgb:12/34/56", Some([0x12, 0x34, 0x56])),
            ("RGB:fff/000/800", Some([255, 0, 128])),
            ("rgb:1234/5678/9abc", Some([0x12, 0x56, 0x9a])),
            ("#abc", Some([0xa0, 0xb0, 0xc0])),
            ("#a1b2c3", Some([0xa1, 0xb2, 0xc3])),
            ("#123456789", Some([0x12, 0x45, 0x78])),
            ("#111122223333", Some([0x11, 0x22, 0x33])),
            ("rgb:1/2", None),
            ("rgb:1/22/3", None),
            ("red", None),
            ("?", None),
            ("#ff", None),
            ("", None),
        ] {
            assert_eq!(parse(text), expect, "{text}");
        }
    }

    #[test]
    fn what_is_set_is_written_until_it_is_reset() {
        let mut colours = BTreeMap::new();
        apply(&mut colours, 4, "1;#102030;300;#fff;2;rgb:1/1/1;3;?");
        apply(&mut colours, 10, "#000;#fff");
        let mut out = String::new();
        write(&colours, &mut out);
        let expect = "\x1b]4;1;rgb:1010/2020/3030\x1b\\\x1b]4;2;rgb:1111/1111/1111\x1b\\\x1b]10;rgb:0000/0000/0000\x1b\\\x1b]11;rgb:f0f0/f0f0/f0f0\x1b\\";
        assert_eq!(out, expect);
        apply(&mut colours, 104, "1");
        apply(&mut colours, 111, "");
        assert_eq!(colours.keys().copied().collect::<Vec<_>>(), [Slot::Palette(2), Slot::Foreground]);
        apply(&mut colours, 104, "");
        assert_eq!(colours.len(), 1);
    }
}
