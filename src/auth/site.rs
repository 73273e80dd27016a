//! Where a request was sent to and which page sent it (`spec/protocol.md` §6).

/// The names under which this daemon is reached over HTTP, each with its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    hosts: Vec<String>,
}

impl Site {
    /// The loopback names and the configured ones, at the bound port.
    #[must_use]
    pub fn new(port: u16, names: &[String]) -> Self {
        let loopback = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned);
        let all = loopback.iter().chain(names);
        let mut hosts: Vec<_> = all.clone().map(|name| format!("{name}:{port}")).collect();
        if port == 80 {
            // Browsers leave out the port that HTTP has anyway (RFC 9110, §4.2.3).
            hosts.extend(all.cloned());
        }
        Self { hosts }
    }

    /// The one `Host` of a request if it is a name of this site. `hosts` are all its `Host` headers, `authority` is the
    /// one of an absolute request target. Against DNS rebinding: a page of any other name does not know these.
    #[must_use]
    pub fn host(&self, hosts: &[&[u8]], authority: Option<&[u8]>) -> Option<&str> {
        let [host] = hosts else { return None };
        if authority.is_some_and(|authority| authority != *host) {
            return None;
        }
        self.hosts.iter().map(String::as_str).find(|known| known.as_bytes() == *host)
    }
}

/// Whether the one `Origin` of a request is the page that `host` serves; `None` when there is no such header.
#[must_use]
pub fn is_own_origin(origins: &[&[u8]], host: &str) -> Option<bool> {
    match origins {
        [] => None,
        [origin] => Some(origin.strip_prefix(b"http://") == Some(host.as_bytes())),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_host_of_this_site_at_its_port() {
        let site = Site::new(7440, &["kas.lan".to_owned()]);
        let check = |hosts: &[&str], ok: bool| {
            let bytes: Vec<_> = hosts.iter().map(|host| host.as_bytes()).collect();
            assert_eq!(site.host(&bytes, None).is_some(), ok, "{hosts:?}");
        };
        for good in ["localhost:7440", "127.0.0.1:7440", "[::1]:7440", "kas.lan:7440"] {
            check(&[good], true);
            check(&[good, good], false);
            check(&[good, "evil.test"], false);
        }
        let bad = [
            "",
            "evil.test",
            "evil.test:7440",
            "localhost",
            "localhost:",
            "localhost:7441",
            "localhost.:7440",
            "LOCALHOST:7440",
            "::1:7440",
            "[::1]",
            "[::]:7440",
            "127.0.0.2:7440",
            "127.1:7440",
            "0.0.0.0:7440",
            "localhost:07440",
            " localhost:7440",
            "localhost:7440 ",
            "localhost:7440,localhost:7440",
            "x@localhost:7440",
            "localhost:7440.evil.test",
            "localhost\u{0}:7440",
            "2130706433:7440",
        ];
        for host in bad {
            check(&[host], false);
        }
        check(&[], false);
    }

    #[test]
    fn an_absolute_target_must_agree() {
        let site = Site::new(7440, &[]);
        let host: &[&[u8]] = &[b"localhost:7440"];
        assert!(site.host(host, Some(b"localhost:7440")).is_some());
        assert!(site.host(host, Some(b"evil.test")).is_none());
        assert!(site.host(host, Some(b"127.0.0.1:7440")).is_none());
    }

    #[test]
    fn the_port_may_be_left_out_only_where_it_is_the_usual_one() {
        let site = Site::new(80, &[]);
        assert!(site.host(&[b"localhost"], None).is_some() && site.host(&[b"localhost:80"], None).is_some());
        assert!(Site::new(7440, &[]).host(&[b"localhost"], None).is_none());
    }

    #[test]
    fn the_origin_is_that_of_the_host_asked() {
        let check = |origins: &[&str], expect: Option<bool>| {
            let bytes: Vec<_> = origins.iter().map(|origin| origin.as_bytes()).collect();
            assert_eq!(is_own_origin(&bytes, "localhost:7440"), expect, "{origins:?}");
        };
        check(&[], None);
        check(&["http://localhost:7440"], Some(true));
        let bad = [
            "",
            "null",
            "http://localhost",
            "https://localhost:7440",
            "http://localhost:7441",
            "http://127.0.0.1:7440",
            "http://localhost:7440/",
            "http://localhost:7440.evil.test",
            "HTTP://localhost:7440",
            "http://evil.test",
            "http://x@localhost:7440",
            "file://",
            "http://localhost:7440 http://evil.test",
        ];
        for origin in bad {
            check(&[origin], Some(false));
        }
        check(&["http://localhost:7440", "http://localhost:7440"], Some(false));
    }
}
