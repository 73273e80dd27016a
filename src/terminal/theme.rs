//! The colours of a terminal.

/// Red, green and blue.
pub type Rgb = [u8; 3];

/// The colours that a page draws a terminal with, as far as its program changes none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    /// Text.
    pub foreground: Rgb,
    /// What is behind text.
    pub background: Rgb,
    /// The cursor.
    pub cursor: Rgb,
    /// The first 16 colours of the palette.
    pub palette: [Rgb; 16],
}

impl Theme {
    /// The page's by night (`theme.ts`), for programs that ask before a page told its own.
    pub const NIGHT: Self = Self {
        foreground: [0xe2, 0xe8, 0xf0],
        background: [0x0d, 0x11, 0x17],
        cursor: [0x7a, 0xa2, 0xf7],
        palette: [
            [0x1b, 0x22, 0x30],
            [0xff, 0x6b, 0x7f],
            [0x5f, 0xd3, 0x8d],
            [0xe8, 0xc2, 0x68],
            [0x6e, 0xa8, 0xfe],
            [0xd9, 0x90, 0xf0],
            [0x5c, 0xc9, 0xd6],
            [0xc9, 0xd3, 0xe0],
            [0x6b, 0x7a, 0x90],
            [0xff, 0x8f, 0xa0],
            [0x86, 0xe6, 0xad],
            [0xf5, 0xd9, 0x8a],
            [0x9c, 0xc4, 0xff],
            [0xe8, 0xb4, 0xfa],
            [0x8a, 0xe0, 0xea],
            [0xff, 0xff, 0xff],
        ],
    };

    /// All of them in the order of the fields.
    pub fn colours(&self) -> impl Iterator<Item = Rgb> {
        [self.foreground, self.background, self.cursor].into_iter().chain(self.palette)
    }

    /// The inverse of [`Theme::colours`].
    #[must_use]
    pub fn from_colours(colours: [Rgb; 19]) -> Self {
        let [foreground, background, cursor, palette @ ..] = colours;
        Self { foreground, background, cursor, palette }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_colours_are_the_page_s() {
        let page = include_str!("../web/ui/src/terminal/theme.ts");
        let night = page.split("const LIGHT").next().unwrap();
        let names = ["black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"];
        let bright = names.map(|name| format!("bright{}{}", name[..1].to_uppercase(), &name[1..]));
        let others = ["foreground", "background", "cursor"].map(str::to_owned);
        let names = others.into_iter().chain(names.map(str::to_owned)).chain(bright);
        for (name, [r, g, b]) in names.zip(Theme::NIGHT.colours()) {
            assert!(night.contains(&format!("{name}: '#{r:02x}{g:02x}{b:02x}'")), "{name} in theme.ts");
        }
        assert_eq!(Theme::NIGHT.colours().count(), 19);
    }
}
