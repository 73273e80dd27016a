//! What is counted, and how it is written down.

use std::fmt::{Display, Write};

use super::{Counter, Gauge};
use crate::model::RunState;

/// The media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Everything that is counted. One per daemon, shared by all its parts; a field is counted where the thing happens.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Runs recorded.
    pub launches: Counter,
    /// Runs that ended `done`.
    pub exits_done: Counter,
    /// Runs that ended `failed`.
    pub exits_failed: Counter,
    /// Runs that ended `stopped`.
    pub exits_stopped: Counter,
    /// Bytes that ended runs wrote.
    pub output_bytes: Counter,
    /// Gaps that viewers were told of.
    pub gaps: Counter,
    /// WebSockets opened.
    pub websockets: Counter,
    /// HTTP requests answered, on both surfaces.
    pub http_requests: Counter,
    /// Connections that were open and are not any more, on both surfaces.
    pub connections_closed: Counter,
    /// Connections refused, or cut to make room for others.
    pub connections_refused: Counter,
    /// Requests turned away before they were routed.
    pub refusals: Counter,
    /// Panics caught.
    pub panics: Counter,
    /// Runs that are starting or running.
    pub running: Gauge,
    /// Subscriptions to terminals.
    pub subscribers: Gauge,
    /// Open connections, on both surfaces; WebSockets too.
    pub connections: Gauge,
}

impl Metrics {
    /// Counts a run's end; a state that is no end counts nothing.
    pub fn count_end(&self, state: RunState) {
        match state {
            RunState::Done => self.exits_done.inc(),
            RunState::Failed => self.exits_failed.inc(),
            RunState::Stopped => self.exits_stopped.inc(),
            RunState::Starting | RunState::Running => {}
        }
    }

    /// All of it as OpenMetrics 1.0 text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = Text(String::with_capacity(2048));
        text.counter("kas_launches", "Runs recorded.", &[("", &self.launches)]);
        let exits = [
            ("{state=\"done\"}", &self.exits_done),
            ("{state=\"failed\"}", &self.exits_failed),
            ("{state=\"stopped\"}", &self.exits_stopped),
        ];
        text.counter("kas_exits", "Runs ended, by state.", &exits);
        text.counter("kas_output_bytes", "Bytes that ended runs wrote.", &[("", &self.output_bytes)]);
        text.counter("kas_gaps", "Gaps that viewers were told of.", &[("", &self.gaps)]);
        text.counter("kas_websockets", "WebSockets opened.", &[("", &self.websockets)]);
        text.counter("kas_http_requests", "HTTP requests answered.", &[("", &self.http_requests)]);
        text.counter("kas_refusals", "Requests turned away before routing.", &[("", &self.refusals)]);
        let closed = [("", &self.connections_closed)];
        text.counter("kas_connections_closed", "Connections that were open.", &closed);
        let refused = [("", &self.connections_refused)];
        text.counter("kas_connections_refused", "Connections refused or cut to make room.", &refused);
        text.counter("kas_panics", "Panics caught.", &[("", &self.panics)]);
        text.gauge("kas_running", "Runs that are starting or running.", &self.running);
        text.gauge("kas_subscribers", "Subscriptions to terminals.", &self.subscribers);
        text.gauge("kas_connections", "Open connections.", &self.connections);
        text.0.push_str("# EOF\n");
        text.0
    }
}

struct Text(String);

impl Text {
    fn counter(&mut self, name: &str, help: &str, samples: &[(&str, &Counter)]) {
        self.head(name, "counter", help);
        for (labels, counter) in samples {
            self.line(format_args!("{name}_total{labels} {}", counter.get()));
        }
    }

    fn gauge(&mut self, name: &str, help: &str, gauge: &Gauge) {
        self.head(name, "gauge", help);
        self.line(format_args!("{name} {}", gauge.get()));
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# TYPE {name} {kind}"));
        self.line(format_args!("# HELP {name} {help}"));
    }

    fn line(&mut self, line: impl Display) {
        writeln!(self.0, "{line}").expect("a string takes all that is written to it");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_openmetrics() {
        let metrics = Metrics::default();
        metrics.launches.add(3);
        metrics.count_end(RunState::Stopped);
        metrics.count_end(RunState::Running);
        metrics.running.inc();
        metrics.running.inc();
        metrics.running.dec();
        let text = metrics.render();
        for line in ["kas_launches_total 3", "kas_exits_total{state=\"stopped\"} 1", "kas_running 1"] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
        assert!(text.ends_with("# EOF\n"));
        assert_eq!(text.matches("# TYPE").count(), 13);
        assert_eq!(text.lines().filter(|line| !line.starts_with('#')).count(), 15);
    }
}
