//! The journal on a real disk: what is held, what is cut, what is missing.

use std::path::{Path, PathBuf};

use kas::journal::{self, Cause, Ending, ExitRecord, Found, Nonce, Reader, Spec, Writer};
use kas::model::{BackendKind, Exit, InstanceId, Offset, Size, TimeMs};
use kas::terminal::Screen;

const LIMIT: u64 = 1024 * 1024;

fn spec() -> Spec {
    Spec {
        id: InstanceId::from_parts(1, 1),
        nonce: Nonce::from_bytes([3; 16]),
        command: "true".into(),
        cwd: PathBuf::from("/"),
        env: Vec::new(),
        size: Size::DEFAULT,
        limit_bytes: LIMIT,
        scrollback_lines: 200,
        backend: BackendKind::Pty,
        keep_window: false,
        boot_id: "boot".into(),
    }
}

fn record(total_bytes: u64, lost_bytes: u64) -> ExitRecord {
    ExitRecord {
        ending: Ending::Exited(Exit::Code(0)),
        cause: Cause::Itself,
        total_bytes,
        lost_bytes,
        started_at: TimeMs(0),
        ended_at: TimeMs(0),
        pid: None,
        nonce: Nonce::from_bytes([3; 16]),
        boot_id: "boot".into(),
    }
}

/// An instance directory of its own, and the writer of its journal.
fn journal() -> (tempfile::TempDir, PathBuf, Writer) {
    let home = tempfile::tempdir().unwrap();
    let dir = journal::create(home.path(), &spec()).unwrap();
    let writer = Writer::create(&dir, &spec(), Size::DEFAULT).unwrap();
    (home, dir, writer)
}

/// Reads from `from` to the end; missing ranges as pairs.
fn read_all(dir: &Path, from: u64) -> (Vec<u8>, Vec<(u64, u64)>) {
    let mut reader = Reader::new(dir);
    let (mut at, mut bytes, mut missing) = (from, Vec::new(), Vec::new());
    loop {
        match reader.read_at(Offset(at), 100_000).unwrap() {
            Found::Bytes(more) => {
                at += more.len() as u64;
                bytes.extend_from_slice(&more);
            }
            Found::Missing { to, .. } => {
                missing.push((at, to.0));
                at = to.0;
            }
            Found::End => return (bytes, missing),
        }
    }
}

/// Coloured lines with wide characters, some long enough to wrap.
fn lines(count: usize) -> Vec<u8> {
    let line = |n: usize| format!("\x1b[3{}mline {n}\x1b[m 漢字 {}\r\n", n % 8, "x".repeat(n * 7 % 120));
    (0..count).map(line).collect::<String>().into_bytes()
}

#[test]
fn what_is_held_is_the_end_in_whole_lines_and_the_checkpoint_continues_it() {
    let (_home, dir, mut writer) = journal();
    let mut all = lines(60_000);
    // A resize moves the saved cursor by what was above the screen then.
    all.extend_from_slice(b"\x1b7");
    let larger = Size::clamped(100, 30).unwrap();
    for (n, chunk) in all.chunks(4096).enumerate() {
        if n == 300 {
            writer.resized(larger);
        }
        writer.append(chunk, TimeMs(n.try_into().unwrap()));
    }
    let total = all.len() as u64;
    assert_eq!(writer.total(), total);
    writer.finish(&record(total, 0)).unwrap();
    let (start, end) = Reader::new(&dir).range().unwrap();
    assert_eq!((writer.start(), end.0), (start.0, total));
    assert!((LIMIT * 3 / 4..=LIMIT).contains(&(end.0 - start.0)), "{}", end.0 - start.0);
    let front = usize::try_from(start.0).unwrap();
    assert_eq!(all[front - 1], b'\n', "it begins with a line");
    let (held, missing) = read_all(&dir, 0);
    assert!(held == all[front..]);
    assert_eq!(missing, [(0, start.0)]);
    let checkpoint = Reader::new(&dir).checkpoint().unwrap().unwrap();
    assert_eq!((checkpoint.offset, checkpoint.size), (start, larger));
    let mut resumed = Screen::new(100, 30, 200);
    resumed.feed(&checkpoint.dump);
    resumed.feed(&held);
    let mut direct = Screen::new(100, 30, 200);
    direct.feed(&all);
    assert_eq!(resumed.dump().escape_ascii().to_string(), direct.dump().escape_ascii().to_string());
}

#[test]
fn modes_survive_a_flood_that_is_skipped() {
    let (_home, dir, mut writer) = journal();
    let now = TimeMs(0);
    writer.append(b"\x1b[?2004h\x1b[?1049h\x1b]2;title\x07", now);
    (0..1000).for_each(|_| writer.append(&[b'x'; 8192], now));
    writer.append(b"\x1b[?1h\x1b[35m", now);
    (0..1000).for_each(|_| writer.append(&[b'y'; 8192], now));
    writer.finish(&record(writer.total(), 0)).unwrap();
    let dump = Reader::new(&dir).checkpoint().unwrap().unwrap().dump;
    let dump = String::from_utf8_lossy(&dump);
    for part in ["\x1b[?47h", "\x1b[?2004h", "\x1b[?1h", "35m", "\x1b]2;title\x1b\\"] {
        assert!(dump.contains(part), "{part:?}");
    }
}

#[test]
fn a_line_without_end_is_cut_where_no_character_is() {
    let (_home, dir, mut writer) = journal();
    let all = "é漢😀".repeat(500_000).into_bytes();
    all.chunks(65_536 / 9 * 9).for_each(|chunk| writer.append(chunk, TimeMs(0)));
    writer.finish(&record(writer.total(), 0)).unwrap();
    let (start, end) = Reader::new(&dir).range().unwrap();
    assert!(end.0 - start.0 <= LIMIT, "{}", end.0 - start.0);
    let front = usize::try_from(start.0).unwrap();
    assert!(std::str::from_utf8(&all[front..]).is_ok());
}

#[test]
fn a_reader_goes_on_while_the_front_is_cut_under_it() {
    let (_home, dir, mut writer) = journal();
    let all = lines(100_000);
    let length = all.len();
    let copy = all.clone();
    let done = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let flag = std::sync::Arc::clone(&done);
    let reading = std::thread::spawn(move || {
        let mut reader = Reader::new(&dir);
        let mut at = 0_u64;
        let mut compared = 0;
        loop {
            let over = flag.load(std::sync::atomic::Ordering::SeqCst);
            match reader.read_at(Offset(at), 10_000).unwrap() {
                Found::Bytes(bytes) => {
                    let from = usize::try_from(at).unwrap();
                    assert!(copy[from..from + bytes.len()] == bytes[..], "bytes at {at}");
                    at += bytes.len() as u64;
                    compared += bytes.len();
                }
                Found::Missing { to, evicted } => {
                    assert!(evicted && to.0 > at);
                    at = to.0;
                }
                Found::End if over => return (at, compared),
                Found::End => std::thread::yield_now(),
            }
        }
    });
    all.chunks(5000).for_each(|chunk| writer.append(chunk, TimeMs(0)));
    writer.finish(&record(writer.total(), 0)).unwrap();
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    let (end, compared) = reading.join().unwrap();
    assert_eq!(end, length as u64);
    assert!(compared >= usize::try_from(LIMIT / 2).unwrap());
}

#[test]
fn what_the_disk_does_not_take_is_a_gap_and_writing_goes_on_afterwards() {
    let (_home, dir, mut writer) = journal();
    writer.append(b"before\n", TimeMs(0));
    // A directory in the place of the next segment makes it impossible to begin it.
    let filler = vec![b'\n'; 65_530];
    writer.append(&filler, TimeMs(1));
    let at = writer.total();
    let blocked = dir.join(format!("seg.{at}"));
    std::fs::create_dir(&blocked).unwrap();
    writer.append(b"lost one\n", TimeMs(2));
    writer.append(b"lost two\n", TimeMs(50));
    assert_eq!(writer.lost(), 18);
    std::fs::remove_dir(&blocked).unwrap();
    writer.append(b"still within the pause\n", TimeMs(60));
    writer.append(b"after\n", TimeMs(200));
    assert_eq!(writer.lost(), 41);
    writer.finish(&record(writer.total(), writer.lost())).unwrap();
    let (bytes, missing) = read_all(&dir, 0);
    assert_eq!(bytes, [b"before\n", filler.as_slice(), b"after\n"].concat());
    assert_eq!(missing, [(at, at + 41)]);
    let index = Reader::new(&dir).index().unwrap();
    assert_eq!(index.gaps, [(Offset(at), Offset(at + 41))]);
    assert_eq!(ExitRecord::read(&dir).unwrap().unwrap().lost_bytes, 41);
}

#[test]
fn times_and_sizes_are_indexed() {
    let (_home, dir, mut writer) = journal();
    writer.append(b"one", TimeMs(1000));
    writer.append(b"two", TimeMs(1001));
    writer.resized(Size::clamped(90, 20).unwrap());
    writer.append(b"three", TimeMs(2000));
    let index = Reader::new(&dir).index().unwrap();
    assert_eq!(index.times, [(Offset(0), TimeMs(1000)), (Offset(6), TimeMs(2000))]);
    assert_eq!(index.sizes, [(Offset(0), Size::DEFAULT), (Offset(6), Size::clamped(90, 20).unwrap())]);
}

#[test]
fn instances_are_listed_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let instances = home.path().join("not/there/yet");
    assert_eq!(journal::list(&instances).unwrap(), []);
    let dir = journal::create(&instances, &spec()).unwrap();
    assert!(journal::create(&instances, &spec()).is_err(), "an instance has one directory");
    assert!(Spec::read(&dir).is_ok());
    std::fs::create_dir(instances.join("something else")).unwrap();
    assert_eq!(journal::list(&instances).unwrap(), [spec().id]);
    journal::remove(&dir).unwrap();
    journal::remove(&dir).unwrap();
    assert_eq!(journal::list(&instances).unwrap(), []);
}
