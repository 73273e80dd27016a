//! Counters and gauges, and their text form.
