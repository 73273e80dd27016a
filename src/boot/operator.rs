//! Whom the daemon works for: the user it runs as.

/// The user's name as `/etc/passwd` has it, else `uid-<number>`.
#[must_use]
pub fn name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    find(&passwd, uid).unwrap_or_else(|| format!("uid-{uid}"))
}

fn find(passwd: &str, uid: u32) -> Option<String> {
    let of_uid = |line: &&str| line.split(':').nth(2).and_then(|field| field.parse().ok()) == Some(uid);
    let line = passwd.lines().find(of_uid)?;
    line.split(':').next().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_that_of_the_uid() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nada:x:1000:1000::/home/ada:/bin/sh\n:x:7::::\n";
        assert_eq!(find(passwd, 1000).as_deref(), Some("ada"));
        assert_eq!(find(passwd, 7), None);
        assert_eq!(find(passwd, 5), None);
    }
}
