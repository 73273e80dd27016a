//! Which shims live, by what processes call themselves: for directories whose socket nobody answers.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use crate::model::InstanceId;

/// The instances under `instances` of which some process says that it is the shim. It is no proof of being one, but a process that
/// does not say so is none.
///
/// # Errors
///
/// When `/proc` cannot be read.
pub fn running(instances: &Path) -> io::Result<BTreeSet<InstanceId>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        if entry.file_name().as_bytes().iter().all(u8::is_ascii_digit) {
            // A process that ended meanwhile has no command line any more.
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            found.extend(instance_of(&line, instances));
        }
    }
    Ok(found)
}

/// The instance whose shim has this command line: `kas shim DIR`, each word ended by a NUL (proc(5)).
fn instance_of(line: &[u8], instances: &Path) -> Option<InstanceId> {
    let mut words = line.split(|&byte| byte == 0).skip(1);
    let dir = words.next().filter(|word| *word == b"shim").and_then(|_| words.next())?;
    let dir = Path::new(OsStr::from_bytes(dir));
    if dir.parent()? != instances { None } else { dir.file_name()?.to_str()?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_shims_of_these_directories_are_found() {
        const ID: &str = "01HZX3KQ4RM8T9V0W1X2Y3Z4A5";
        let check = |line: String, expect: bool| {
            let found = instance_of(line.replace(' ', "\0").as_bytes(), Path::new("/state/instances"));
            assert_eq!(found.is_some(), expect, "{line}");
        };
        check(format!("/bin/kas shim /state/instances/{ID} "), true);
        check(format!("/bin/kas shim /state/instances/{ID}"), true);
        check(format!("/bin/kas shim /other/instances/{ID} "), false);
        check(format!("/bin/kas logs /state/instances/{ID} "), false);
        check("/bin/kas shim /state/instances/else ".to_owned(), false);
        check("/bin/kas shim".to_owned(), false);
        check(String::new(), false);
    }
}
