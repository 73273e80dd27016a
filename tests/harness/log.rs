//! What a daemon says on its standard error, line by line.

use std::io::{BufRead as _, BufReader};
use std::process::ChildStderr;
use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// The lines so far, and whether there will be more.
#[derive(Default)]
struct Lines {
    all: Vec<String>,
    over: bool,
}

/// A log that is being written.
#[derive(Clone, Default)]
pub(super) struct Log(Arc<(Mutex<Lines>, Condvar)>);

impl Log {
    pub(super) fn of(stderr: ChildStderr) -> Self {
        let log = Self::default();
        let writer = log.clone();
        std::thread::spawn(move || {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Some(Ok(line)) = lines.next() {
                writer.change(|it| it.all.push(String::from_utf8_lossy(&line).into_owned()));
            }
            writer.change(|it| it.over = true);
        });
        log
    }

    fn change(&self, change: impl FnOnce(&mut Lines)) {
        change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
    }

    /// Waits for a line that contains `text`.
    pub(super) fn wait_for(&self, text: &str) -> String {
        self.wait(text).unwrap_or_else(|| panic!("the daemon never said {text:?}:\n{}", self.text()))
    }

    /// A line that contains `text`, once there is one; `None` when there will be none.
    pub(super) fn wait(&self, text: &str) -> Option<String> {
        let found = |it: &Lines| it.all.iter().find(|line| line.contains(text)).cloned();
        let lines = self.0.0.lock().unwrap();
        let waiting = |it: &mut Lines| found(it).is_none() && !it.over;
        found(&self.0.1.wait_timeout_while(lines, PATIENCE, waiting).unwrap().0)
    }

    /// Waits for a line that contains `text`, or for the end; whether it came.
    pub(super) fn tells(&self, text: &str) -> bool {
        let found = |it: &Lines| it.all.iter().any(|line| line.contains(text));
        let lines = self.0.0.lock().unwrap();
        found(&self.0.1.wait_timeout_while(lines, PATIENCE, |it| !found(it) && !it.over).unwrap().0)
    }

    /// All of it, once whoever writes it has ended.
    pub(super) fn whole(&self) -> String {
        let lines = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(lines, PATIENCE, |it| !it.over).unwrap());
        self.text()
    }

    pub(super) fn text(&self) -> String {
        self.0.0.lock().unwrap().all.join("\n")
    }
}
