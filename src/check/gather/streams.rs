//! Recorded client streams, in the format that the module's documentation gives.

use std::fs;
use std::path::Path;

use bytes::Bytes;

use super::Error;
use crate::check::evidence::{Frame, Stream};

/// Reads a recording; its last record may be incomplete.
pub(super) fn read(path: &Path) -> Result<Stream, Error> {
    let bytes = fs::read(path).map_err(Error::io(path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    parse(name, bytes.into()).map_err(|(at, why)| Error::Stream { path: path.to_owned(), at, why })
}

fn parse(name: String, all: Bytes) -> Result<Stream, (usize, &'static str)> {
    let mut at = 0;
    let head = line(&all, &mut at).ok_or((0, "it has no first line"))?;
    let id = head.strip_prefix("kas-stream 1 ").ok_or((0, "it does not begin with `kas-stream 1 `"))?;
    let instance = id.parse().map_err(|_| (0, "its first line names no instance"))?;
    let mut stream = Stream { name, instance, from: None, frames: Vec::new() };
    loop {
        let start = at;
        let Some(line) = line(&all, &mut at) else { return Ok(stream) };
        if let Some(from) = line.strip_prefix("from ") {
            stream.from = Some(from.parse().map_err(|_| (start, "not an offset"))?);
        } else if let Some((offset, len)) = output(line) {
            let Some(end) = at.checked_add(len).filter(|end| *end < all.len()) else { return Ok(stream) };
            if all[end] != b'\n' {
                return Err((end, "the bytes are longer than their line says"));
            }
            stream.frames.push(Frame::Output { offset, bytes: all.slice(at..end) });
            at = end + 1;
        } else {
            stream.frames.push(frame(line).ok_or((start, "not a record"))?);
        }
    }
}

/// The next whole line, without its end.
fn line<'a>(all: &'a Bytes, at: &mut usize) -> Option<&'a str> {
    let rest = &all[*at..];
    let len = memchr::memchr(b'\n', rest)?;
    *at += len + 1;
    // What is not UTF-8 is no record, and is told so.
    Some(std::str::from_utf8(&rest[..len]).unwrap_or("\u{fffd}"))
}

fn output(line: &str) -> Option<(u64, usize)> {
    let (offset, len) = line.strip_prefix("output ")?.split_once(' ')?;
    Some((offset.parse().ok()?, len.parse().ok()?))
}

fn frame(line: &str) -> Option<Frame> {
    let words: Vec<&str> = line.split(' ').collect();
    Some(match words[..] {
        ["snapshot", offset] => Frame::Snapshot { offset: offset.parse().ok()? },
        ["gap", from, to] => Frame::Gap { from: from.parse().ok()?, to: to.parse().ok()? },
        ["exit", offset, state, code] => Frame::Exit {
            offset: offset.parse().ok()?,
            state: state.to_owned(),
            code: if code == "-" { None } else { Some(code.parse().ok()?) },
        },
        ["cut"] => Frame::Cut,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "kas-stream 1 01ARZ3NDEKTSV4RRFFQ69G5FAV\n";

    fn check(rest: &[u8], expect: Result<usize, &str>) {
        let all = [HEAD.as_bytes(), rest].concat();
        let parsed = parse("x".to_owned(), all.into());
        assert_eq!(parsed.map(|it| it.frames.len()).map_err(|(_, why)| why), expect, "{rest:?}");
    }

    #[test]
    fn records_are_read_and_an_incomplete_last_one_is_left_out() {
        check(b"from 3\noutput 3 4\n\n\xff\0\n\ngap 7 9\nsnapshot 9\nexit 9 failed 3\n", Ok(4));
        check(b"exit 0 stopped -\n", Ok(1));
        check(b"cut\n", Ok(1));
        for incomplete in ["", "from", "output 0 3", "output 0 3\n", "output 0 3\nab", "output 0 3\nabc"] {
            check(incomplete.as_bytes(), Ok(0));
        }
    }

    #[test]
    fn what_is_no_record_is_an_error() {
        check(b"from x\n", Err("not an offset"));
        check(b"what 1\n", Err("not a record"));
        check(b"output 0 2\nabc\n", Err("the bytes are longer than their line says"));
        check(b"\xff\xff\n", Err("not a record"));
        assert!(parse("x".to_owned(), Bytes::from_static(b"kas-stream 2 x\n")).is_err());
    }
}
