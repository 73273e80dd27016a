//! Text of others as one line that cannot write to a terminal.

/// Whether a character could move the cursor, change the terminal, or change the order of the text around it.
#[must_use]
pub fn is_harmful(c: char) -> bool {
    let mark = matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}' | '\u{2029}' | '\u{feff}');
    c.is_control() || mark || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A name or command as one harmless line: such characters are escaped.
#[must_use]
pub fn shown(text: &str) -> String {
    let escaped = |c: char| {
        if is_harmful(c) { c.escape_default().to_string() } else { c.to_string() }
    };
    text.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_harmful_is_left_and_nothing_else_is_touched() {
        for (text, expect) in [
            ("é€😀 a\\b'\"", "é€😀 a\\b'\""),
            ("a\x1b[2J\r\n\u{7f}", r"a\u{1b}[2J\r\n\u{7f}"),
            ("\u{9b}31m\u{202e}x\u{2066}\u{2028}", r"\u{9b}31m\u{202e}x\u{2066}\u{2028}"),
        ] {
            assert_eq!(shown(text), expect);
        }
    }
}
