//! Where a request was sent to and which page sent it (`spec/protocol.md` §6).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The names under which this daemon is reached over HTTP, each with its port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Site {
    scheme: &'static str,
    port: u16,
    hosts: Vec<String>,
    /// The host that links lead to.
    link: String,
}

impl Site {
    /// Plain HTTP on 127.0.0.1, under the loopback names and the configured ones.
    #[must_use]
    pub fn new(port: u16, names: &[String]) -> Self {
        Self::at(SocketAddr::from((Ipv4Addr::LOCALHOST, port)), names, false)
    }

    /// The loopback names, the address itself and the configured names, at the bound port; `secure` where there is TLS.
    #[must_use]
    pub fn at(bound: SocketAddr, names: &[String], secure: bool) -> Self {
        let port = bound.port();
        let (scheme, usual_port) = if secure { ("https", 443) } else { ("http", 80) };
        let address = match bound.ip() {
            IpAddr::V4(it) => it.to_string(),
            IpAddr::V6(it) => format!("[{it}]"),
        };
        let link = format!("{}:{port}", names.first().unwrap_or(&address));
        let mut all = ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec();
        all.extend((!bound.ip().is_unspecified()).then_some(address));
        all.extend_from_slice(names);
        let mut hosts: Vec<_> = all.iter().map(|name| format!("{name}:{port}")).collect();
        if port == usual_port {
            // Browsers leave out the port that the scheme has anyway (RFC 9110, §4.2.3).
            hosts.extend(all);
        }
        Self { scheme, port, hosts, link }
    }

    /// The bound port.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Whether browsers reach it by TLS only.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.scheme == "https"
    }

    /// The address of the page, without a path, under the first configured name, else where it was bound.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.link)
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

    /// Whether the one `Origin` of a request is the page that `host` serves; `None` when there is no such header.
    #[must_use]
    pub fn is_own_origin(&self, origins: &[&[u8]], host: &str) -> Option<bool> {
        match origins {
            [] => None,
            [origin] => {
                let authority =
                    origin.strip_prefix(self.scheme.as_bytes()).and_then(|rest| rest.strip_prefix(b"://"));
                Some(authority == Some(host.as_bytes()))
            }
            _ => Some(false),
        }
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
            assert_eq!(Site::new(7440, &[]).is_own_origin(&bytes, "localhost:7440"), expect, "{origins:?}");
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

    #[test]
    fn with_tls_the_origin_is_https() {
        let site = Site::at("192.168.0.5:443".parse().unwrap(), &["kas.lan".to_owned()], true);
        let check = |origin: &str, host: &str, ok: bool| {
            assert_eq!(site.is_own_origin(&[origin.as_bytes()], host), Some(ok), "{origin}");
        };
        check("https://kas.lan", "kas.lan", true);
        for bad in ["http://kas.lan", "https://kas.lan:443", "https:kas.lan", "kas.lan", "https://evil.test"]
        {
            check(bad, "kas.lan", false);
        }
        for good in ["kas.lan", "kas.lan:443", "192.168.0.5", "192.168.0.5:443", "localhost"] {
            assert!(site.host(&[good.as_bytes()], None).is_some(), "{good}");
        }
        assert!(site.host(&[b"kas.lan:80"], None).is_none());
    }

    #[test]
    fn links_lead_to_the_first_name_or_to_where_it_was_bound() {
        let check = |bound: &str, names: &[&str], secure: bool, expect: &str| {
            let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
            let site = Site::at(bound.parse().unwrap(), &names, secure);
            assert_eq!(site.url(), expect);
            let (_, host) = expect.split_once("://").unwrap();
            assert!(site.host(&[host.as_bytes()], None).is_some(), "{host} is not answered");
            assert!(
                site.host(&[b"0.0.0.0:7440"], None).is_none() && site.host(&[b"[::]:7440"], None).is_none()
            );
        };
        check("127.0.0.1:7440", &[], false, "http://127.0.0.1:7440");
        check("127.0.0.2:7440", &[], false, "http://127.0.0.2:7440");
        check("[::1]:7440", &[], false, "http://[::1]:7440");
        check("127.0.0.1:7440", &["kas.lan"], false, "http://kas.lan:7440");
        check("0.0.0.0:7440", &["kas.lan", "10.0.0.1"], true, "https://kas.lan:7440");
        check("[::]:7440", &["[fd00::1]"], true, "https://[fd00::1]:7440");
        check("10.0.0.1:7440", &[], true, "https://10.0.0.1:7440");
    }
}
