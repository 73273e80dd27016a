//! A command that writes steadily and keeps account of how long its writes take. It is this very program, started by kas.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The argument that makes this program the producer; the file for the account follows.
pub(crate) const WORD: &str = "--produce";
/// A line each so often: about 1 MB/s, so that what nobody reads would fill every buffer on the way within the first seconds.
const EVERY: Duration = Duration::from_millis(1);
const LINE: [u8; 1024] = {
    let mut line = [b'x'; 1024];
    line[1023] = b'\n';
    line
};
/// The account is written so often.
const ACCOUNT_EVERY: usize = 50;

/// Writes until it is ended. The account: the longest single write in microseconds, and how many lines there were.
pub(crate) fn run(args: &[String]) {
    let account = PathBuf::from(&args[0]);
    let temporary = account.with_extension("new");
    let mut out = std::io::stdout().lock();
    let (mut longest, mut next) = (Duration::ZERO, Instant::now());
    for lines in 1.. {
        let begun = Instant::now();
        if out.write_all(&LINE).is_err() {
            return;
        }
        longest = longest.max(begun.elapsed());
        if lines % ACCOUNT_EVERY == 0 {
            fs::write(&temporary, format!("{} {lines}", longest.as_micros())).unwrap();
            fs::rename(&temporary, &account).unwrap();
        }
        next = (next + EVERY).max(Instant::now() - EVERY);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
