//! Select Graphic Rendition (ECMA-48 8.3.117, and what xterm and kitty added): read as xterm.js 6 reads it, and written.

use std::fmt::Write as _;

use super::cell::{
    BLINK, BOLD, COLOUR, Colour, DIM, HIDDEN, INVERSE, ITALIC, Look, OVERLINE, PROTECTED, STRIKE, UNSET,
};
use super::parser::{EMPTY, Sequence};

/// Applies a sequence to a look.
pub(super) fn apply(look: &mut Look, sequence: &Sequence) {
    let mut at = 0;
    while at < sequence.len() {
        at += 1 + one(look, sequence, at);
    }
}

/// Applies one parameter; says how many of those that follow belong to it.
fn one(look: &mut Look, sequence: &Sequence, at: usize) -> usize {
    let number = sequence.value(at);
    let small = u8::try_from(number).unwrap_or(u8::MAX);
    match small {
        0 => {
            *look = Look { link: look.link, ..Look::default() };
            look.extend();
        }
        1 => look.fg |= BOLD,
        2 => look.bg |= DIM,
        3 => look.bg |= ITALIC,
        4 => look.set_underline(style(sequence.subs(at).first().copied().unwrap_or(1))),
        5 => look.fg |= BLINK,
        7 => look.fg |= INVERSE,
        8 => look.fg |= HIDDEN,
        9 => look.fg |= STRIKE,
        21 => look.set_underline(2),
        22 => (look.fg, look.bg) = (look.fg & !BOLD, look.bg & !DIM),
        23 => look.bg &= !ITALIC,
        24 => look.set_underline(0),
        25 => look.fg &= !BLINK,
        27 => look.fg &= !INVERSE,
        28 => look.fg &= !HIDDEN,
        29 => look.fg &= !STRIKE,
        30..=37 => look.fg = Colour::Named(small - 30).on(look.fg),
        40..=47 => look.bg = Colour::Named(small - 40).on(look.bg),
        90..=97 => look.fg = Colour::Named(small - 90 + 8).on(look.fg),
        100..=107 => look.bg = Colour::Named(small - 100 + 8).on(look.bg),
        39 => look.fg &= !COLOUR,
        49 => look.bg &= !COLOUR,
        38 | 48 | 58 => return colour(look, sequence, at),
        53 => look.bg |= OVERLINE,
        55 => look.bg &= !OVERLINE,
        59 => {
            look.line = look.line & !COLOUR | UNSET;
            look.extend();
        }
        _ => {}
    }
    0
}

/// A style that there is; any other is a plain underline.
fn style(number: i32) -> u32 {
    u32::try_from(number).ok().filter(|n| *n <= 5).unwrap_or(1)
}

/// Reads `38;5;n`, `38;2;r;g;b` and their forms with colons, where a colour space may stand before the values, and mixtures.
fn colour(look: &mut Look, sequence: &Sequence, at: usize) -> usize {
    // What is set, the kind, the colour space, and the values.
    let mut all = [0, 0, EMPTY, 0, 0, 0];
    let mut space = 0;
    let mut more = 0;
    loop {
        all[more + space] = sequence.value(at + more);
        let subs = sequence.subs(at + more);
        if !subs.is_empty() {
            for (index, &value) in subs.iter().enumerate() {
                if all[1] == 5 {
                    space = 1;
                }
                let Some(place) = all.get_mut(more + index + 1 + space) else { break };
                *place = value;
            }
            break;
        }
        if all[1] == 5 && more + space >= 2 || all[1] == 2 && more + space >= 5 {
            break;
        }
        if all[1] != 0 {
            space = 1;
        }
        more += 1;
        if at + more >= sequence.len() || more + space >= all.len() {
            break;
        }
    }
    // As much as a colour has, and an empty value is none of it.
    let value = |index: usize| all[index].max(0).to_le_bytes()[0];
    let set = match all[1] {
        2 => Colour::Rgb(value(3), value(4), value(5)),
        5 => Colour::Indexed(value(3)),
        _ => return more,
    };
    match all[0] {
        38 => look.fg = set.on(look.fg),
        48 => look.bg = set.on(look.bg),
        _ => look.line = set.on(look.line & !UNSET),
    }
    more
}

/// The sequence that gives a terminal whose look is reset this one, without its link; nothing for the look it has then.
pub(super) fn write(look: Look, out: &mut String) {
    out.push_str("\x1b[0");
    let flags = [
        (look.fg & BOLD, ";1"),
        (look.bg & DIM, ";2"),
        (look.bg & ITALIC, ";3"),
        (look.fg & BLINK, ";5"),
        (look.fg & INVERSE, ";7"),
        (look.fg & HIDDEN, ";8"),
        (look.fg & STRIKE, ";9"),
        (look.bg & OVERLINE, ";53"),
        (look.line & UNSET, ";59"),
    ];
    flags.into_iter().filter(|(on, _)| *on != 0).for_each(|(_, parameter)| out.push_str(parameter));
    let underline = look.underline();
    match underline {
        0 => {}
        1 => out.push_str(";4"),
        style => write!(out, ";4:{style}").expect("a String takes every write"),
    }
    // Colons, for a terminal that does not know it must not take its values for others.
    let written = match Colour::of(look.line) {
        Colour::Default | Colour::Named(_) => Ok(()),
        Colour::Indexed(index) => write!(out, ";58:5:{index}"),
        Colour::Rgb(r, g, b) => write!(out, ";58:2::{r}:{g}:{b}"),
    };
    written.expect("a String takes every write");
    for (bits, base) in [(look.fg, 30), (look.bg, 40)] {
        let written = match Colour::of(bits) {
            Colour::Default => Ok(()),
            Colour::Named(index @ 0..8) => write!(out, ";{}", base + index),
            Colour::Named(index) => write!(out, ";{}", base + 52 + index),
            Colour::Indexed(index) => write!(out, ";{};5;{index}", base + 8),
            Colour::Rgb(r, g, b) => write!(out, ";{};2;{r};{g};{b}", base + 8),
        };
        written.expect("a String takes every write");
    }
    out.push('m');
    // Afterwards, for in xterm.js resetting the look ends the protection, too.
    if look.bg & PROTECTED != 0 {
        out.push_str("\x1b[1\"q");
    }
}

#[cfg(test)]
mod tests {
    use super::super::parser::{Parser, Perform};
    use super::*;

    #[derive(Default)]
    struct Pen(Look);

    impl Perform for Pen {
        fn ascii(&mut self, _: &[u8]) {}
        fn character(&mut self, _: char) {}
        fn control(&mut self, _: u8) {}
        fn escape(&mut self, _: u32, _: u8) {}
        fn csi(&mut self, sequence: &Sequence, _: u8) {
            apply(&mut self.0, sequence);
        }
        fn osc(&mut self, _: u32, _: &str) {}
        fn dcs(&mut self, _: &Sequence, _: u8, _: &str) {}
    }

    fn read(text: &str) -> Look {
        let mut pen = Pen::default();
        Parser::default().feed(text.as_bytes(), &mut pen);
        pen.0
    }

    #[test]
    fn what_is_read_is_written() {
        let check = |text: &str, expect: &str| {
            let look = read(&format!("\x1b[{text}m"));
            let mut out = String::new();
            write(look, &mut out);
            assert_eq!(out, format!("\x1b[0{expect}m"), "{text}");
            assert_eq!(read(&out), look, "{text}");
        };
        check("", "");
        check("1;2;3;5;7;8;9;53", ";1;2;3;5;7;8;9;53");
        check("4:3;58:2::1:2:3", ";4:3;58:2::1:2:3");
        check("4:0", "");
        check("4:9", ";4");
        check("21", ";4:2");
        check("38:2::1:2:3", ";38;2;1;2;3");
        check("38:2:1:2:3", ";38;2;2;3;0");
        check("38;2;1;2;3;1", ";1;38;2;1;2;3");
        check("48:5:200", ";48;5;200");
        check("48;5;200;4", ";4;48;5;200");
        check("97;107", ";97;107");
        check("38;7;1", "");
        check("58;5;9;59;4", ";59;4");
        check("58;5;9", ";58:5:9");
        check("1;;31", ";31");
    }
}
