//! How many cells characters take: the list of `fixtures/terminal/widths.json`, in kas's own terminal and in tmux. The page is held to the same list.

use kas::terminal::Screen;
use serde::Deserialize;

use crate::harness::{Backend, World};

/// Where a mark is put behind each text; between them are as many empty cells as the text leaves.
const MARK_COL: usize = 12;

#[derive(Deserialize)]
struct Row {
    text: String,
    cells: usize,
}

fn rows() -> Vec<Row> {
    serde_json::from_str(include_str!("../../fixtures/terminal/widths.json")).unwrap()
}

/// A text and the mark in a line of its own.
fn line(row: &Row) -> String {
    format!("{}\x1b[{}GX", row.text, MARK_COL + 1)
}

#[test]
fn kas_counts_them_so() {
    for row in rows() {
        let mut screen = Screen::new(40, 2, 0);
        screen.feed(line(&row).as_bytes());
        let dump = String::from_utf8(screen.dump()).unwrap();
        // After a joiner that joins nothing a sequence that changes nothing says so.
        let first = dump.split("\r\n").next().unwrap().replace("\x1b[m", "");
        let expect = format!("{}\x1b[{}CX", row.text, MARK_COL - row.cells);
        assert_eq!(first, expect, "{:?}", row.text);
    }
}

#[tokio::test]
async fn tmux_counts_them_so() {
    let world = World::new(Backend::Tmux);
    world.project("demo", "project: demo\ntasks: {}").await;
    let rows = rows();
    let text: String = rows.iter().map(|row| line(row) + "\n").collect();
    world.write("demo/text", text + "all is printed");
    let command = "cat text; exec sleep 1000";
    let body = serde_json::json!({ "command": command, "cols": 40, "rows": rows.len() + 4 });
    let answer = world.post("/api/v1/projects/demo/tasks/run", body).await;
    let id = answer.json()["id"].as_str().unwrap().to_owned();
    let run = world.until_running(&id).await;
    let target =
        format!("={}:={}", run["tmux_session"].as_str().unwrap(), run["tmux_window"].as_str().unwrap());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let shown = loop {
        let shown = world.tmux(&["-u", "capture-pane", "-p", "-t", &target]).stdout;
        if shown.contains("all is printed") {
            break shown;
        }
        assert!(std::time::Instant::now() < deadline, "{shown}");
        tokio::task::yield_now().await;
    };
    for (row, line) in rows.iter().zip(shown.lines()) {
        let (text, _) = line.split_once('X').unwrap_or((line, ""));
        let empty = text.len() - text.trim_end_matches(' ').len();
        assert_eq!(MARK_COL - empty, row.cells, "{:?}: {line:?}", row.text);
    }
    world.stop(&id).await;
}
