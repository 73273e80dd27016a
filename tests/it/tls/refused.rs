//! What stands between a daemon and an address that others reach: each thing is told in a sentence, and the daemon exits with 8.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::issued::Issued;
use crate::harness::{Backend, World};

/// Starts a daemon on this address with this configuration, which must be refused with these words.
#[track_caller]
fn check(world: &World, address: &str, configuration: &str, words: &[&str]) {
    world.configure(configuration);
    for how in [&["--foreground"][..], &[]] {
        let done = world.kas(&[&["daemon", "start", "--http", address], how].concat());
        assert_eq!(done.code, Some(8), "{done:?}");
        let told = done.stderr.lines().last().unwrap();
        for word in words {
            assert!(told.contains(word), "{word:?} is not in: {told}");
        }
    }
}

#[test]
fn an_address_that_others_reach_takes_tls_and_a_name() {
    let world = World::asleep(Backend::Pty, "");
    let good = Issued::new(&world, "good");
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:7440", "[2001:db8::1]:7440", "[::ffff:127.0.0.1]:0"] {
        check(&world, address, "", &[address, "loopback", "`tls_cert` and `tls_key`"]);
        check(&world, address, "[http]\nnames = [\"kas.test\"]", &["`tls_cert` and `tls_key`"]);
    }
    let nameless = good.configuration().lines().take(3).collect::<Vec<_>>().join("\n");
    for address in ["0.0.0.0:0", "[::]:0"] {
        check(&world, address, &nameless, &[address, "`names`"]);
    }
    let half = nameless.lines().take(2).collect::<Vec<_>>().join("\n");
    for address in ["0.0.0.0:0", "127.0.0.1:0"] {
        check(&world, address, &half, &["`tls_cert` is set without `tls_key`"]);
    }
    // What the file says counts as what the command line says.
    check(&world, "127.0.0.1:0", "http_addr = \"0.0.0.0:7440\"", &["0.0.0.0:7440", "`tls_cert`"]);
    assert_eq!(world.kas(&["daemon", "status"]).code, Some(5));
}

#[test]
fn a_certificate_that_browsers_would_stumble_over_is_told_before() {
    let world = World::asleep(Backend::Pty, "");
    let (good, other) = (Issued::new(&world, "good"), Issued::new(&world, "other"));
    let (old, new) =
        (Issued::at(&world, "old", "2020-01-01 00:00:00"), Issued::at(&world, "new", "2120-01-01 00:00:00"));
    let file = |name: &str, text: &str| {
        let path = world.write(name, text);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    let of = |cert: &std::path::Path, key: &std::path::Path| Issued { cert: cert.into(), key: key.into() };
    let text = |path| fs::read_to_string(path).unwrap();
    let absent = world.path("absent");
    let half = file("half", &text(&good.cert)[..200]);
    let garbage = file("garbage", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
    let open = file("open", &text(&good.key));
    let checks = [
        (of(&absent, &good.key), "`tls_cert` in daemon.toml: HOME/absent does not exist"),
        (of(&good.cert, &absent), "`tls_key` in daemon.toml: HOME/absent does not exist"),
        (of(&world.path("run"), &good.key), "HOME/run is a directory"),
        (of(&good.key, &good.key), "HOME/good.key holds no certificate"),
        (of(&half, &good.key), "HOME/half holds no certificate"),
        (of(&good.cert, &good.cert), "HOME/good.cert may be read by others"),
        (of(&good.cert, &file("empty", "")), "HOME/empty holds no private key"),
        (of(&garbage, &good.key), "HOME/garbage with the key in HOME/good.key cannot be used"),
        (of(&good.cert, &other.key), "HOME/other.key does not belong to the certificate in HOME/good.cert"),
        (old, "HOME/old.cert has expired"),
        (new, "HOME/new.cert is not valid yet"),
    ];
    let home = world.path("");
    let home = home.to_str().unwrap().trim_end_matches('/');
    for (issued, words) in &checks {
        let told = issued.read().unwrap_err().to_string();
        assert!(told.replace(home, "HOME").contains(words), "{words:?} is not in: {told}");
        assert!(!told.contains('\n'), "{told}");
    }
    for mode in [0o640, 0o604, 0o620, 0o611] {
        fs::set_permissions(&open, fs::Permissions::from_mode(mode)).unwrap();
        let told = of(&good.cert, &open).read().unwrap_err().to_string();
        assert!(told.contains("may be read by others") && told.contains("chmod 600"), "{mode:o}: {told}");
    }
    // And by the daemon itself, wherever it would serve.
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let (expired, _) = &checks[9];
        check(&world, address, &expired.configuration(), &["old.cert has expired"]);
        check(&world, address, &of(&good.cert, &open).configuration(), &["open may be read by others"]);
    }
    assert!(good.read().is_ok());
}
