//! The terminal's state at the journal's front, for who cannot see what was cut off.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use bytes::Bytes;

use crate::model::{Offset, Size};

const FILE: &str = "checkpoint";
const MAGIC: &[u8; 8] = b"kasckpt1";
const HEAD: usize = MAGIC.len() + 8 + 2 + 2 + 8;

/// A terminal's state at an offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The state is that before the byte at this offset.
    pub offset: Offset,
    /// The terminal's size there.
    pub size: Size,
    /// Bytes that make a freshly reset terminal show it.
    pub dump: Bytes,
}

impl Checkpoint {
    /// Replaces the checkpoint of an instance directory.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEAD + self.dump.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&self.offset.0.to_be_bytes());
        bytes.extend_from_slice(&self.size.cols().to_be_bytes());
        bytes.extend_from_slice(&self.size.rows().to_be_bytes());
        bytes.extend_from_slice(&(self.dump.len() as u64).to_be_bytes());
        bytes.extend_from_slice(&self.dump);
        let temporary = dir.join("checkpoint.tmp");
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&bytes)?;
        fs::rename(temporary, dir.join(FILE))
    }

    /// The checkpoint of an instance directory; `None` when there is none or it is damaged.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(FILE)) {
            Ok(bytes) => Ok(Self::parse(Bytes::from(bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    fn parse(bytes: Bytes) -> Option<Self> {
        let head = bytes.get(..HEAD)?.strip_prefix(MAGIC)?;
        let long = |at: usize| Some(u64::from_be_bytes(head.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(i64::from(u16::from_be_bytes(head.get(at..at + 2)?.try_into().ok()?)));
        let dump = bytes.slice(HEAD..);
        let whole = long(12)? == dump.len() as u64;
        let size = Size::clamped(short(8)?, short(10)?)?;
        whole.then_some(Self { offset: Offset(long(0)?), size, dump })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_damaged_checkpoint_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Checkpoint::read(dir.path()).unwrap(), None);
        let checkpoint =
            Checkpoint { offset: Offset(7), size: Size::DEFAULT, dump: Bytes::from_static(b"\x1b[m") };
        checkpoint.write(dir.path()).unwrap();
        assert_eq!(Checkpoint::read(dir.path()).unwrap(), Some(checkpoint));
        let bytes = fs::read(dir.path().join(FILE)).unwrap();
        for len in 0..bytes.len() {
            fs::write(dir.path().join(FILE), &bytes[..len]).unwrap();
            assert_eq!(Checkpoint::read(dir.path()).unwrap(), None, "{len}");
        }
    }
}
