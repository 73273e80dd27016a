//! The `Range` header over offsets (RFC 9110, §14).

use std::ops::Range;

/// What of the held bytes is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All that are held.
    Whole,
    /// These, at least one.
    Part(Range<u64>),
    /// Some, but none of them is held.
    Nothing,
}

/// Reads a `Range` header against the held offsets `start..end`. A range that begins before what is held is cut to it, which the
/// answer's `Content-Range` tells. What is not one byte range is ignored, as the RFC allows.
pub(super) fn wanted(header: Option<&str>, start: u64, end: u64) -> Wanted {
    match header.and_then(parse) {
        None => Wanted::Whole,
        Some(Ends::From(first, last)) => {
            let part = first.max(start)..last.map_or(end, |last| end.min(last.saturating_add(1)));
            if part.is_empty() { Wanted::Nothing } else { Wanted::Part(part) }
        }
        Some(Ends::Last(n)) => {
            let part = end.saturating_sub(n).max(start)..end;
            if part.is_empty() { Wanted::Nothing } else { Wanted::Part(part) }
        }
    }
}

enum Ends {
    From(u64, Option<u64>),
    Last(u64),
}

fn parse(header: &str) -> Option<Ends> {
    let (unit, range) = header.split_once('=')?;
    let (first, last) = range.trim().split_once('-')?;
    let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok()).flatten();
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    match (first, last) {
        ("", last) => number(last).map(Ends::Last),
        (first, "") => number(first).map(|first| Ends::From(first, None)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Ends::From(first, Some(last)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_offsets() {
        let check =
            |header: &str, expect: Wanted| assert_eq!(wanted(Some(header), 10, 100), expect, "{header}");
        check("bytes=20-29", Wanted::Part(20..30));
        check("bytes=20-", Wanted::Part(20..100));
        check("bytes=99-5000", Wanted::Part(99..100));
        check("Bytes = 0-14", Wanted::Part(10..15));
        check("bytes=-5", Wanted::Part(95..100));
        check("bytes=-500", Wanted::Part(10..100));
        check("bytes=0-9", Wanted::Nothing);
        check("bytes=100-", Wanted::Nothing);
        check("bytes=-0", Wanted::Nothing);
        for ignored in
            ["", "bytes", "bytes=", "bytes=-", "bytes=9-8", "bytes=1-2,4-5", "lines=1-2", "bytes=+1-2"]
        {
            check(ignored, Wanted::Whole);
        }
        assert_eq!(wanted(None, 10, 100), Wanted::Whole);
        assert_eq!(wanted(Some("bytes=0-"), 0, 0), Wanted::Nothing);
    }
}
