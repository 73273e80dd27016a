//! A command line as typed, made a shell command that runs exactly that.

/// Words that a shell takes as its own at the start of a command (POSIX.1-2024, XCU 2.4).
const RESERVED: [&str; 16] = [
    "!", "{", "}", "case", "do", "done", "elif", "else", "esac", "fi", "for", "if", "in", "then", "until",
    "while",
];

/// One word is a shell command already and stays as it is; of several each is quoted where it must be.
pub(super) fn command(words: &[String]) -> String {
    match words {
        [one] => one.clone(),
        [first, rest @ ..] => {
            let own = RESERVED.contains(&first.as_str()) || first.contains('=');
            let first = if own { quoted(first) } else { word(first) };
            std::iter::once(first).chain(rest.iter().map(|it| word(it))).collect::<Vec<_>>().join(" ")
        }
        [] => String::new(),
    }
}

fn word(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"@%+=:,./_-".contains(&b);
    if !text.is_empty() && text.bytes().all(plain) { text.to_owned() } else { quoted(text) }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn check(words: &[&str], expect: &str) {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(command(&words), expect);
    }

    #[test]
    fn quotes_what_must_be() {
        check(&["make -j2 && echo $HOME"], "make -j2 && echo $HOME");
        check(&["make", "-j2", "--x=y"], "make -j2 --x=y");
        check(&["echo", "a b", "", "it's"], r"echo 'a b' '' 'it'\''s'");
        check(&["A=1", "x"], "'A=1' x");
        check(&["if", "x"], "'if' x");
        check(&["echo", "é", "~", "*"], "echo 'é' '~' '*'");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "the shell is the judge")]
    fn a_shell_gives_the_words_back() {
        let words = [
            "printf", "%s|", "a b", "", "it's", "$HOME", "`id`", "\\", "\n", "*", "~", "é\u{1b}", "-n", "#",
            "\"", "!", "&;()<>",
        ];
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        let output = Command::new("/bin/sh").arg("-c").arg(command(&words)).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), words[2..].join("|") + "|");
    }
}
