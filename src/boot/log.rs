//! The daemon's own log: lines on standard error.

use std::io::{self, Write};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::terminal::shown;

/// Starts logging at `info`, or as `filter` says (`KAS_LOG`, in the syntax of `tracing_subscriber`'s `EnvFilter`).
///
/// An event is one line whatever names, paths and errors are quoted in it: without colours, nothing in it may act on a terminal.
pub(super) fn start(filter: Option<&str>) {
    let filter =
        filter.and_then(|text| EnvFilter::try_new(text).ok()).unwrap_or_else(|| EnvFilter::new("info"));
    let started = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| OneLine(io::stderr()))
        .with_ansi(false)
        .with_target(false)
        .with_span_events(FmtSpan::NONE)
        .try_init();
    if started.is_err() {
        tracing::debug!("logging was started before");
    }
}

/// Makes one line of each event, which comes in one piece with a newline at its end.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = event.strip_suffix(b"\n").unwrap_or(event);
        let line = shown(&String::from_utf8_lossy(text)) + "\n";
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let kept = Kept::default();
        let make = {
            let kept = kept.clone();
            move || OneLine(kept.clone())
        };
        let subscriber = tracing_subscriber::fmt().with_writer(make).with_ansi(false).without_time().finish();
        let bad = "x\n2026-01-01T00:00:00Z  INFO ready\r\x1b[2J\u{9b}1m\u{202e}é";
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(display = %bad, debug = ?bad, "said {bad}");
            tracing::info!("second");
        });
        let text = String::from_utf8(kept.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.replace('\n', "").chars().any(crate::terminal::is_harmful), "{text:?}");
        assert!(text.contains("display=x\\n2026") && text.contains("said x\\n2026"), "{text}");
    }
}
