//! Somebody who presents one wrong credential after another: answered late, told of, and in nobody's way.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::net::TcpStream;

use crate::harness::{Backend, Caller, World};
use crate::served::exchange;

/// Wrong credentials of a minute that are answered at once, and how late the others are.
const AT_ONCE: usize = 10;
const LATE: Duration = Duration::from_millis(250);
const GUESS: &str = "a-guess-that-nobody-must-read";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_credentials_are_answered_late_and_told_without_the_secret() {
    let mut world = World::new(Backend::Pty);
    let mut events = world.events(None).await;
    let wrong = world.with_token(GUESS.to_owned()).await;
    let ask = async || {
        let began = Instant::now();
        wrong.get("/api/v1/projects").await.refused(401, "unauthorized", "credential");
        began.elapsed()
    };
    ask().await;
    let told = loop {
        let (_, kind, event) = events.next().await;
        if kind == "auth.failed" {
            break event;
        }
    };
    assert_eq!((&told["failures"], &told["peers"]), (&json!(1), &json!({"127.0.0.1": 1})), "{told}");
    drop(events);

    for _ in 1..AT_ONCE {
        ask().await;
    }
    assert!(ask().await >= LATE);
    // What opens a page counts too, a ticket and the token of a link.
    let began = Instant::now();
    wrong.post("/api/v1/session", json!({"ticket": GUESS})).await.refused(401, "unauthorized", "ticket");
    assert!(began.elapsed() >= LATE);
    wrong.post("/api/v1/session", json!({"token": GUESS})).await.refused(401, "unauthorized", "token");

    // Who brings nothing has guessed nothing, and who knocks at the wrong door neither.
    let Caller::Tcp { address, .. } = &wrong else { panic!("{wrong:?}") };
    let (host, bearer) = (format!("Host: {address}"), format!("Authorization: Bearer {GUESS}"));
    let bare = |lines: Vec<String>| async move {
        let stream = TcpStream::connect(address).await.unwrap();
        let lines: Vec<_> = lines.iter().map(String::as_str).collect();
        exchange(stream, "GET", "/api/v1/projects", &lines, "").await.status
    };
    assert_eq!(bare(vec![host.clone()]).await, 401);
    assert_eq!(bare(vec![host.clone(), "X-Kas-Key: lost".to_owned()]).await, 401);
    assert_eq!(bare(vec!["Host: evil.test".to_owned(), bearer.clone()]).await, 421);
    assert_eq!(bare(vec![host, bearer, "Origin: http://evil.test".to_owned()]).await, 403);
    // The right one is let in as ever.
    world.over_tcp().await.get("/api/v1/projects").await.expect(200);

    let log = world.log();
    assert!(log.contains("credentials were presented that do not work") && !log.contains(GUESS), "{log}");
    world.end(rustix::process::Signal::TERM);
    world.start();
    let list = world.get("/api/v1/audit-events?kind=auth.failed").await.expect(200);
    let all: Vec<_> =
        list["items"].as_array().unwrap().iter().map(|it| it["failures"].as_u64().unwrap()).collect();
    assert_eq!(
        all.iter().sum::<u64>(),
        AT_ONCE as u64 + 3,
        "each is told once, what was left when the daemon ended too"
    );
    assert!(all.len() < AT_ONCE, "summed up: {all:?}");
    for file in fs::read_dir(world.state_dir()).unwrap().flatten().filter(|it| it.path().is_file()) {
        let bytes = fs::read(file.path()).unwrap();
        assert!(memchr::memmem::find(&bytes, GUESS.as_bytes()).is_none(), "{file:?}");
    }
}
