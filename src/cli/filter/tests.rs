//! What each policy lets through, in every cutting.

use super::*;

fn filtered(policy: Policy, input: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Filter::new(policy).feed(input, &mut out);
    out
}

/// In every cutting, since a pipe cuts where it likes.
fn check(policy: Policy, input: &[u8], expect: &[u8]) {
    for size in 1..=input.len() {
        let (mut filter, mut out) = (Filter::new(policy), Vec::new());
        input.chunks(size).for_each(|chunk| filter.feed(chunk, &mut out));
        let (left, right) = (String::from_utf8_lossy(&out), String::from_utf8_lossy(expect));
        assert_eq!(left, right, "{:?} in pieces of {size}", String::from_utf8_lossy(input));
    }
}

#[test]
fn text_is_only_text() {
    let check = |input: &[u8], expect: &str| check(Policy::Text, input, expect.as_bytes());
    check(b"a\x1b[31mr\x1b[0md\r\n", "ard\n");
    check(b"10%\r20%\r\ndone", "10%\n20%\ndone");
    check(b"a\r\r\nb", "a\nb");
    check(b"\x1b]0;title\x07x\x1b]52;c;AAAA\x1b\\y", "xy");
    check(b"\x1bPq#0;2\x07;0\x1b\\z\x1b(Bk\x1b7l", "zkl");
    check(b"be\x07ll\x08\x00\x7f\tq", "bell\tq");
    check("é€😀\u{9b}31m\u{202e}x".as_bytes(), "é€😀31m\\u{202e}x");
    check(b"\xff\xc3(\xe2\x82", "\u{fffd}\u{fffd}(");
    check(b"\x1b[3\x18ok\x1b[\x1b[mok", "okok");
}

#[test]
fn what_kas_says_has_styles_and_lines_and_no_more() {
    let check = |input: &str, expect: &str| check(Policy::Styled, input.as_bytes(), expect.as_bytes());
    check("\x1b[1m\x1b[38;5;9mred\x1b[0m\r\nx\ny\rz", "\x1b[1m\x1b[38;5;9mred\x1b[0m\r\nx\ny\nz");
    check("a\x1b[2J\x1b[>4m\x1b[?1mb\x1b]0;t\x07\x1b]52;c;QQ==\x1b\\c\x1bcd\x07", "abcd");
    check("\u{9b}31m\u{9d}0;t\u{9c}\u{202e}x", "31m0;t\\u{202e}x");
}

#[test]
fn mute_drops_questions_and_nothing_else() {
    for question in [
        &b"\x1b[c"[..],
        b"\x1b[>0c",
        b"\x1b[=c",
        b"\x1b[6n",
        b"\x1b[?6n",
        b"\x1b[5n",
        b"\x1bZ",
        b"\x05",
        b"\x1b[?2026$p",
        b"\x1b[>q",
        b"\x1b[?u",
        b"\x1b[18t",
        b"\x1b[14;2t",
        b"\x1b]10;?\x07",
        b"\x1b]4;1;?\x1b\\",
        b"\x1b]52;c;?\x07",
        b"\x1bP$qm\x1b\\",
        b"\x1bP+q544e\x1b\\",
        b"\x1b_Gi=1,a=q;AAAA\x1b\\",
        b"\xc2\x9b6n",
        b"\x1b[0x",
        b"\x1b[1;1;1;1;1;1*y",
        b"\x1b[?1;1S",
        b"\x1b[018t",
        b"\x1b[#R",
        b"\x1b[1#|",
        b"\x1b[\"v",
        b"\x1bP+Q544e\x1b\\",
        b"\x1b]60\x07",
        b"\x1b]1337;ReportCellSize\x07",
        b"\x1b[?\x00u",
        b"\x1b[\x7f6n",
    ] {
        let rest: &[u8] = match question {
            [0xc2, ..] => b"a6nb",
            // A control counts where it stands.
            [.., 0, b'u'] => b"a\0b",
            _ => b"ab",
        };
        check(Policy::Mute, &[b"a", question, b"b"].concat(), rest);
        check(Policy::Open, &[b"a", question, b"b"].concat(), &[b"a", question, b"b"].concat());
    }
    for kept in [
        &b"\x1b[31mred\x1b[0m"[..],
        b"\x1b[2J\x1b[H",
        b"\x1b[?1049h",
        b"\x1b[2 q",
        b"\x1b[!p",
        b"\x1b]0;a?\x07",
        b"\x1b[22;0t",
        b"\x1b[8;24;80t",
        b"\x1b]8;;http://x/?q\x1b\\l",
        b"\x1bPq#0\x1b\\",
        b"\x1b[u",
        b"\x1b[5S",
        b"\x1b[1;2$x",
        b"\x1b]8;;http://x/;?\x07l",
        "\x1b]0;é\x07".as_bytes(),
        b"\x1b(B",
        "é\u{202e}".as_bytes(),
        b"\xff\r\x00\n",
    ] {
        check(Policy::Mute, &[kept, b"."].concat(), &[kept, b"."].concat());
    }
}

#[test]
fn a_screen_gets_what_shows_something_and_no_more() {
    for kept in [
        &b"\x1b[31mred\x1b[0m"[..],
        b"10%\r55%\x1b[K\r\n\x08\t\x07",
        b"\x1b[1A\x1b[2K\x1b[12;3H\x1b[2J\x1b[3C",
        b"\x1b[?25l\x1b[?25h\x1b[?1049h\x1b[?1049l\x1b[?2026h\x1b[?2026l",
        b"\x1b]8;;http://x/?q\x1b\\link\x1b]8;;\x07",
        b"\x1b7\x1b8\x1b[38:2::1:2:3m\x1b[0m",
        "é\u{202e}😀".as_bytes(),
    ] {
        check(Policy::Screen, &[kept, b"."].concat(), &[kept, b"."].concat());
    }
    for dropped in [
        &b"\x1b[c"[..],
        b"\x1b[6n",
        b"\x1b[?u",
        b"\x1b[>q",
        b"\x1b[18t",
        b"\x1b[3J",
        b"\x1b[?1000h",
        b"\x1b[?1004h",
        b"\x1b[?2004h",
        b"\x1b[?25;1003h",
        b"\x1b[?1h",
        b"\x1b[>4m",
        b"\x1b[>1u",
        b"\x1b[!p",
        b"\x1b[?2026$p",
        b"\x1b[4h",
        b"\x1b=",
        b"\x1bc",
        b"\x1bZ",
        b"\x05",
        b"\x1b]0;title\x07",
        b"\x1b]52;c;QQ==\x1b\\",
        b"\x1b]10;?\x07",
        b"\x1bPq#0\x1b\\",
        b"\x1b_Gi=1,a=q;AAAA\x1b\\",
    ] {
        check(Policy::Screen, &[b"a", dropped, b"b"].concat(), b"ab");
    }
    check(Policy::Screen, b"\xc2\x9b6n", b"6n");
}

#[test]
fn nothing_hides_in_a_string() {
    // ESC ends each of them, and what it begins counts for itself.
    for string in
        [&b"\x1b]8;;x"[..], b"\x1b]0;x", b"\x1b]52;c;x", b"\x1bPqx", b"\x1bXx", b"\x1b^x", b"\x1b_x"]
    {
        for policy in [Policy::Screen, Policy::Mute, Policy::Text] {
            for hidden in [
                &b"\x1b[c"[..],
                b"\x1b[6n",
                b"\x1bZ",
                b"\x1b]10;?",
                b"\x1b\x1b[c",
                b"\x1b[\x1b[c",
                b"\xc2\x9c\xc2\x9bc",
                b"\xc2\x9b6n",
                b"\x9c\x9bc",
                b"\xe2\x9bc",
                b"\x05",
                b"\n\x00",
            ] {
                let input = [b"a", string, hidden, b"\x1b\\b"].concat();
                let out = filtered(policy, &input);
                let shown = out.strip_suffix(b"\x1b\\b").map_or(out.clone(), |it| [it, b"b"].concat());
                assert_eq!(shown.escape_ascii().to_string(), "ab", "{policy:?} {}", input.escape_ascii());
            }
        }
        check(Policy::Screen, &[b"a", string, b"\x1b[31mb"].concat(), b"a\x1b[31mb");
        check(Policy::Screen, &[b"a", string, b"\x1b]52;c;QQ==\x07b"].concat(), b"ab");
        check(Policy::Screen, &[b"a", string, b"\x1b[?1003hb"].concat(), b"ab");
        check(Policy::Text, &[b"a", string, b"\x1b[31mb"].concat(), b"ab");
        check(Policy::Mute, &[b"a", string, b"\x1b[31mb"].concat(), b"a\x1b[31mb");
        check(Policy::Mute, &[b"a", string, b"\x18b"].concat(), b"ab");
    }
    check(Policy::Screen, "\x1b]8;;http://é\x07b".as_bytes(), b"b");
    // The same in one that is passed on as it comes: the terminal is told where it ends.
    let picture = [b"\x1bPq", vec![b'~'; 2 * MAX_SEQUENCE_BYTES].as_slice()].concat();
    for (hidden, rest) in [
        (&b"\x1b[cb"[..], &b"\x1b\\b"[..]),
        (b"\x18b", b"\x1b\\b"),
        (b"\xc2\x9c\xc2\x9bc\x1b\\b", b"\x1b\\b"),
        (b"\x9bc\x1b[31mb", b"\x1b\\\x1b[31mb"),
    ] {
        let out = filtered(Policy::Mute, &[&picture, hidden].concat());
        assert_eq!(out[picture.len()..].escape_ascii().to_string(), rest.escape_ascii().to_string());
    }
    let kitty = [b"\x1b_Ga=q;", vec![b'A'; 2 * MAX_SEQUENCE_BYTES].as_slice(), b"\x1b\\b"].concat();
    assert_eq!(filtered(Policy::Mute, &kitty), b"b", "a question is none the less for being long");
}

#[test]
fn bytes_that_are_controls_where_utf_8_is_not_read_do_not_pass() {
    for policy in [Policy::Screen, Policy::Mute] {
        check(policy, b"a\x9b6n\x90b\xe2\x9bc\xc0\x9bc\xe0\x82\x9bc", b"a6nb\xe2c\xc0c\xe0c");
        check(policy, "a€é😀b".as_bytes(), "a€é😀b".as_bytes());
        check(policy, b"a\x1b[\x9b6nb\x1b\xc2\x9b6n", b"a6nb6n");
    }
}

#[test]
fn what_a_program_left_behind_is_undone() {
    let check = |input: &[u8], expect: &[u8]| {
        let mut filter = Filter::new(Policy::Screen);
        filter.feed(input, &mut Vec::new());
        assert_eq!(filter.undo(), expect, "{:?}", input.escape_ascii().to_string());
        assert_eq!(filter.undo(), b"");
    };
    check(b"\x1b[31mred\x1b[m 10%\r55%\x1b[K\n", b"");
    check(b"\x1b[31mred", b"\x1b[0m");
    check(b"\x1b[?25l\x1b[?1049hx", b"\x1b[?1049l\x1b[?25h");
    check(b"\x1b[?25l\x1b[?1049hx\x1b[?1049l\x1b[?25h", b"");
    check(b"\x1b]8;;http://x/;\x07l", b"\x1b]8;;\x1b\\");
    check(b"\x1b]8;id=1;http://x/;\x1b\\l\x1b]8;;\x1b\\", b"");
    check(b"\x1b[2;5r\x1b(0\x1b[?7l", b"\x1b(B\x1b)B\x0f\x1b[?7h\x1b7\x1b[r\x1b8");
}

#[test]
fn long_strings_cost_little_and_pictures_pass() {
    let picture = [b"\x1bPq", vec![b'~'; 3 * MAX_SEQUENCE_BYTES].as_slice(), b"\x1b\\x"].concat();
    let secret = [b"\x1b]52;c;", vec![b'A'; 3 * MAX_SEQUENCE_BYTES].as_slice(), b"\x07x"].concat();
    for (input, policy, expect) in [
        (&picture, Policy::Mute, picture.as_slice()),
        (&picture, Policy::Text, b"x"),
        (&secret, Policy::Mute, b"x"),
        (&secret, Policy::Open, secret.as_slice()),
    ] {
        let (mut filter, mut out) = (Filter::new(policy), Vec::new());
        for chunk in input.chunks(100) {
            filter.feed(chunk, &mut out);
            assert!(filter.held.capacity() <= 2 * MAX_SEQUENCE_BYTES);
        }
        assert!(out == expect, "{policy:?}: {} bytes for {}", out.len(), expect.len());
    }
}
