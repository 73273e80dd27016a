//! The words of the WebSocket are the same in the daemon, in the page and in what is written about them.

use std::collections::BTreeSet;

use super::text;

/// What stands between `before` and the next `after`, each time.
fn words(text: &str, before: &str, after: char) -> BTreeSet<String> {
    let found = text.split(before).skip(1).filter_map(|rest| rest.split_once(after));
    found.map(|(word, _)| word.to_owned()).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

#[test]
fn the_page_speaks_as_the_daemon() {
    let (page, heard) = (text("src/web/ui/src/stream/message.ts"), text("src/api/wire/frames.rs"));
    let says = text("src/api/socket/frame.rs");
    let mut daemon = words(&says, "\"type\": \"", '"');
    daemon.extend(words(&says, "insert(\"type\".into(), \"", '"'));
    let (client, interfaces) = page.split_once("export type ClientMessage").expect("the page's messages");
    assert_eq!(words(client, "\n  type: '", '\''), daemon, "what the daemon says");
    let spoken = words(interfaces, "{ type: '", '\'');
    let taken = words(&heard, "        Some(\"", '"');
    // Typing goes in binary frames.
    assert_eq!(spoken, &taken - &set(&["pty.input"]), "what the page says");
}

#[test]
fn what_is_asked_for_is_written_down() {
    let (docs, heard) = (text("docs/socket.md"), text("src/api/wire/frames.rs"));
    for word in ["pty.input.taken", "ping", "pong", "confirm_input", "input_full", "input_closed", "accepted"]
    {
        let code = [
            &heard,
            &text("src/api/socket/frame.rs"),
            &text("src/api/socket/input.rs"),
            &text("src/api/socket/hearing.rs"),
        ];
        assert!(code.iter().any(|code| code.contains(word)) && docs.contains(word), "{word}");
    }
    assert!(docs.contains("256 KiB for one program and 4 MiB for one connection"));
    let input = text("src/api/socket/input.rs");
    assert!(
        input.contains("TERMINAL_LIMIT: usize = 256 << 10")
            && input.contains("CONNECTION_LIMIT: usize = 4 << 20")
    );
}
