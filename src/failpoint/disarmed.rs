//! A release build: no point does anything.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use super::Failpoint;

/// There is none.
pub type BadFailpoint = Infallible;

/// Nothing.
#[inline]
pub const fn hit(_: Failpoint) {}

/// Nothing.
///
/// # Errors
/// None.
#[inline]
pub const fn arm(_: Option<&OsStr>) -> Result<(), BadFailpoint> {
    Ok(())
}

/// Nothing.
///
/// # Errors
/// None.
#[inline]
pub const fn hand_down(_: &Path) -> io::Result<()> {
    Ok(())
}

/// Nothing.
///
/// # Errors
/// None.
#[inline]
pub const fn take_over(_: &Path) -> io::Result<()> {
    Ok(())
}
