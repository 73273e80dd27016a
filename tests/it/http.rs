//! The API over HTTP and over the control socket, by the real daemon.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use kas::api::{Access, ROUTES, ServeError, bind_control};
use kas::auth::Keys;
use kas::model::{Scope, TimeMs};
use kas::store::Store;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::promised;
use crate::served::{DEADLINE, Served, exchange};

fn bearer(it: &Served) -> String {
    format!("Authorization: Bearer {}", it.token)
}

#[tokio::test]
async fn a_scope_opens_what_it_names_and_no_more() {
    let it = Served::start().await;
    let made = it.control("POST", "/v1/tokens", r#"{"scope":"view","name":"eyes"}"#).await;
    assert_eq!(made.status, 201, "{made:?}");
    let made = made.json();
    let bearer = format!("Authorization: Bearer {}", made["token"].as_str().unwrap());
    let headers = [bearer.as_str(), "Content-Type: application/json"];
    assert_eq!(it.ask("GET", "/openapi.json", &headers, "").await.status, 200);
    let run = Access::Needs(Scope::Run);
    for route in ROUTES.iter().filter(|route| route.access == run) {
        let reply = it.ask(route.method.as_str(), route.path, &headers, "").await;
        assert_eq!(
            (reply.status, reply.error()),
            (403, ("forbidden".into(), "scope".into())),
            "{}",
            route.path
        );
    }

    let list = it.control("GET", "/v1/tokens", "").await.json();
    assert_eq!((&list["items"][0]["name"], &list["has_more"]), (&json!("eyes"), &json!(false)));
    assert_eq!(list["items"][0].get("token"), None);
    let path = format!("/v1/tokens/{}", made["id"].as_str().unwrap());
    assert_eq!(it.control("DELETE", &path, "").await.status, 204);
    assert_eq!(it.ask("GET", "/openapi.json", &headers, "").await.status, 401);
    assert_eq!(it.control("DELETE", "/v1/tokens/none", "").await.status, 404);
    assert_eq!(it.control("POST", "/v1/tokens", r#"{"scope":"root"}"#).await.status, 400);
}

#[tokio::test]
async fn a_browser_gets_in_with_a_ticket_and_then_needs_cookie_and_key() {
    let it = Served::start().await;
    let ticket = it.control("POST", "/v1/ticket", "").await.json();
    let url = format!("http://127.0.0.1:{}/#t={}", it.port, ticket["ticket"].as_str().unwrap());
    assert_eq!(ticket["url"], url);
    let origin = format!("Origin: http://127.0.0.1:{}", it.port);
    let headers = [origin.as_str(), "Content-Type: application/json"];
    let body = json!({ "ticket": ticket["ticket"] }).to_string();
    let opened = it.ask("POST", "/api/v1/session", &headers, &body).await;
    assert_eq!(opened.status, 200, "{opened:?}");
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    assert!(cookie.starts_with(&format!("kas_{}=", it.port)));
    assert!(cookie.contains("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
    assert_eq!(it.ask("POST", "/api/v1/session", &headers, &body).await.status, 401, "used");

    let cookie = format!("Cookie: {}", cookie.split(';').next().unwrap());
    let key = format!("X-Kas-Key: {}", opened.json()["key"].as_str().unwrap());
    let status = async |headers: &[&str]| it.ask("GET", "/openapi.json", headers, "").await.status;
    assert_eq!(status(&[&cookie, &key]).await, 200);
    assert_eq!(status(&[&cookie]).await, 401);
    assert_eq!(status(&[&key]).await, 401);
    let all = [origin.as_str(), "Content-Type: application/json", &cookie, &key];
    let ticket = it.ask("POST", "/api/v1/session/ticket", &all, "{}").await;
    assert!(ticket.json()["ticket"].is_string() && ticket.json()["expires_at"].is_i64(), "{ticket:?}");
    let other = it.api("POST", "/session/ticket", "{}").await;
    assert_eq!((other.status, other.error().1.as_str()), (403, "not_a_session"));
}

/// A link is opened any number of times, and the operator's page goes on: now, and with what the next daemon finds in the database.
#[tokio::test]
async fn a_link_opened_often_logs_nobody_out() {
    let it = Served::start().await;
    let origin = format!("Origin: http://127.0.0.1:{}", it.port);
    let headers = [origin.as_str(), "Content-Type: application/json"];
    let open = async |body: Value| {
        let opened = it.ask("POST", "/api/v1/session", &headers, &body.to_string()).await;
        assert_eq!(opened.status, 200, "{opened:?}");
        let cookie = opened.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        [format!("Cookie: {cookie}"), format!("X-Kas-Key: {}", opened.json()["key"].as_str().unwrap())]
    };
    let status = async |[cookie, key]: &[String; 2]| {
        it.ask("GET", "/api/v1/projects", &[cookie, key], "").await.status
    };
    let ticket = it.control("POST", "/v1/ticket", "").await.json();
    let operator = open(json!({ "ticket": ticket["ticket"] })).await;
    let made =
        it.control("POST", "/v1/tokens", r#"{"scope":"view","project":"demo","task":"hello"}"#).await.json();
    let first = open(json!({ "token": made["token"] })).await;
    assert_eq!((status(&operator).await, status(&first).await), (200, 200));
    let mut last = first.clone();
    for _ in 0..70 {
        last = open(json!({ "token": made["token"] })).await;
    }
    assert_eq!([status(&operator).await, status(&first).await, status(&last).await], [200, 401, 200]);
    let stopped = it.kas(&["daemon", "stop"]).output().unwrap();
    assert!(stopped.status.success(), "{stopped:?}");
    let (store, now) = (Store::open(&it.path(".local/state/kasmos/runner.db")).unwrap(), TimeMs::now());
    let (tokens, sessions) = (store.tokens().await.unwrap(), store.sessions(now).await.unwrap());
    let keys = Keys::new("op".to_owned(), &it.token, tokens, sessions);
    let works = |[cookie, key]: &[String; 2]| {
        let (_, cookie) = cookie.split_once('=').unwrap();
        keys.session(cookie, key.strip_prefix("X-Kas-Key: ").unwrap(), now).is_some()
    };
    assert_eq!([works(&operator), works(&first), works(&last)], [true, false, true]);
}

#[tokio::test]
async fn methods_and_bodies_are_checked() {
    let it = Served::start().await;
    let wrong = it.api("PUT", "/projects", "{}").await;
    assert_eq!((wrong.status, wrong.error().0.as_str()), (405, "method_not_allowed"));
    assert_eq!(wrong.header("allow"), Some("GET, HEAD"));
    // Whatever it says its body is; and without a credential nobody learns which methods there are.
    let token = bearer(&it);
    for method in ["TRACE", "OPTIONS", "PATCH", "POST", "DELETE"] {
        for headers in [&[token.as_str()][..], &[&token, "Content-Type: text/plain"]] {
            let reply = it.ask(method, "/api/v1/projects", headers, "").await;
            let got = (reply.status, reply.error().0, reply.header("allow"));
            assert_eq!(
                got,
                (405, "method_not_allowed".to_owned(), Some("GET, HEAD")),
                "{method} {headers:?}"
            );
        }
        let reply = it.ask(method, "/api/v1/projects", &[], "").await;
        assert_eq!((reply.status, reply.header("allow")), (401, None), "{method}");
    }
    let both = it.ask("PUT", "/api/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV", &[&token], "").await;
    assert_eq!((both.status, both.header("allow")), (405, Some("GET, HEAD, DELETE")));
    // A DELETE has no body of which it could say that it is JSON; one that has must.
    let delete = async |headers: &[&str], body: &str| {
        let reply = it.ask("DELETE", "/api/v1/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV", headers, body).await;
        (reply.status, reply.error().1)
    };
    assert_eq!(delete(&[&token], "").await.0, 404);
    assert_eq!(delete(&[&token], "{}").await, (400, "content_type".to_owned()));
    assert_eq!(delete(&[&token, "Content-Type: text/plain"], "").await, (400, "content_type".to_owned()));
    assert_eq!(delete(&[], "").await.0, 401);
    let head = it.ask("HEAD", "/openapi.json", &[&bearer(&it)], "").await;
    assert_eq!((head.status, head.bytes.len()), (200, 0));
    assert!(head.header("content-length").unwrap().parse::<usize>().unwrap() > 100);

    let check = async |path: &str, headers: &[&str], body: &str, expect: (u16, &str, Option<&str>)| {
        let reply = it.api_with("POST", path, headers, body).await;
        let field = reply.json()["error"]["details"]["field"].clone();
        let got = (reply.status, reply.error().1);
        assert_eq!((got.0, got.1.as_str(), field.as_str()), expect, "{path} {body:.60}");
    };
    let run = "/projects/demo/tasks/run";
    check(run, &[], r#"{"task":"hello","colls":80}"#, (400, "unknown_field", Some("colls"))).await;
    check(run, &[], r#"{"task":"hello","command":"ls"}"#, (400, "wrong_field", None)).await;
    check(run, &[], "task=hello", (400, "not_json", None)).await;
    check(run, &[], r#"{"task":"none","cwd":null}"#, (404, "unknown_task", None)).await;
    check(run, &[], r#"["hello"]"#, (400, "wrong_type", None)).await;
    check(run, &[], &" ".repeat(70_000), (413, "", None)).await;
    let key = format!("Idempotency-Key: {}", "k".repeat(129));
    check(run, &[&key], r#"{"task":"hello"}"#, (400, "idempotency_key", None)).await;
    check("/projects/demo/tasks/run/confirm", &[], "{}", (400, "missing_field", Some("confirm_id"))).await;
    check("/projects/demo/tasks/cleanup", &[], r#"{"all":1}"#, (400, "unknown_field", Some("all"))).await;
    for query in ["limit=501", "limit=0", "limit=x"] {
        let reply = it.api("GET", &format!("/projects?{query}"), "").await;
        assert_eq!((reply.status, reply.json()["error"]["details"]["field"].clone()), (400, json!("limit")));
    }
    let reply = it.api("GET", "/projects/demo/tasks/instances?state=gone", "").await;
    assert_eq!((reply.status, reply.json()["error"]["details"]["field"].clone()), (400, json!("state")));
    for path in ["/projects/none", "/projects/UPPER", "/tasks/nonsense", "/tasks/01ARZ3NDEKTSV4RRFFQ69G5FAV"]
    {
        assert_eq!(it.api("GET", path, "").await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let it = Served::start().await;
    for path in ["/", "/healthz", "/metrics", "/api/v1/projects", "/nothing.js"] {
        let reply = it.ask("GET", path, &[], "").await;
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'") && !policy.contains("unsafe"));
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(reply.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(reply.header("cross-origin-opener-policy"), Some("same-origin"));
        assert_eq!(reply.header("cross-origin-resource-policy"), Some("same-origin"));
        assert_eq!(reply.header("access-control-allow-origin"), None);
        let cache = if path == "/" || path == "/nothing.js" { "no-cache" } else { "no-store" };
        assert_eq!(reply.header("cache-control"), Some(cache), "{path}");
    }
}

#[tokio::test]
async fn the_page_needs_the_right_site_and_nothing_else() {
    let it = Served::start().await;
    let page = it.ask("GET", "/", &[], "").await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert_eq!(it.ask("GET", "/projects/demo", &[], "").await.bytes, page.bytes, "the page's own address");
    assert_eq!(it.ask("GET", "/assets/none.js", &[], "").await.status, 404);
    let again = format!("If-None-Match: {}", page.header("etag").unwrap());
    let again = it.ask("GET", "/", &[&again], "").await;
    assert_eq!((again.status, again.bytes.len()), (304, 0));
    let rebound = exchange(it.tcp().await, "GET", "/", &["Host: evil.test"], "").await;
    assert_eq!(rebound.status, 421);
    let health = it.ask("GET", "/healthz", &[], "").await;
    assert_eq!((health.status, health.bytes.len()), (200, 0));
}

#[tokio::test]
async fn the_control_socket_is_ours_alone() {
    let it = Served::start().await;
    let socket = it.path("run/kasmos/kas.sock");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&socket), mode(socket.parent().unwrap())), (0o600, 0o700));
    let ping = it.control("GET", "/v1/ping", "").await;
    assert_eq!((ping.status, ping.bytes.len()), (200, 0));
    assert_eq!(it.control("GET", "/api/v1/projects", "").await.status, 200, "the whole API is here too");
    assert!(matches!(bind_control(&socket), Err(ServeError::InUse(_))));
}

#[tokio::test]
async fn a_control_socket_is_opened_only_in_a_safe_place() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).join("kas.sock");
    let make = |name: &str, mode: u32| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    make("open", 0o755);
    assert!(matches!(bind_control(&at("open")), Err(ServeError::UnsafeDirectory(_))));
    let private = make("private", 0o700);
    std::os::unix::fs::symlink(&private, dir.path().join("link")).unwrap();
    assert!(matches!(bind_control(&at("link")), Err(ServeError::UnsafeDirectory(_))));
    std::fs::write(at("private"), "not a socket").unwrap();
    assert!(matches!(bind_control(&at("private")), Err(ServeError::InTheWay(_))));
    std::fs::remove_file(at("private")).unwrap();
    drop(bind_control(&at("private")).unwrap());
    assert!(bind_control(&at("private")).is_ok(), "a leftover is replaced");
    let long = private.join("x".repeat(100)).join("y".repeat(100));
    assert!(bind_control(&long.join("kas.sock")).is_ok(), "longer than a socket address");
}

#[tokio::test]
async fn slow_heads_are_cut_and_do_not_disturb_others() {
    let it = Served::start().await;
    let mut slow = Vec::new();
    for _ in 0..100 {
        let mut stream = it.tcp().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: ").await.unwrap();
        slow.push(stream);
    }
    slow.push(it.tcp().await);
    let began = tokio::time::Instant::now();
    assert_eq!(it.ask("GET", "/healthz", &[], "").await.status, 200);
    assert!(began.elapsed() < promised(Duration::from_secs(2)));
    for mut stream in slow {
        let mut rest = Vec::new();
        tokio::time::timeout(DEADLINE, stream.read_to_end(&mut rest)).await.expect("cut in time").ok();
    }
    assert!(began.elapsed() < promised(Duration::from_secs(10)), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_head_has_limits() {
    let it = Served::start().await;
    let long = format!("X-Long: {}", "x".repeat(20 << 10));
    assert_eq!(it.ask("GET", "/healthz", &[&long], "").await.status, 431);
    let many: Vec<String> = (0..200).map(|n| format!("X-{n}: 1")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert_eq!(it.ask("GET", "/healthz", &many, "").await.status, 431);
}

#[tokio::test]
async fn stopping_the_daemon_ends_idle_connections() {
    let it = Served::start().await;
    let mut idle = it.tcp().await;
    let request = format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:{}\r\n\r\n", it.port);
    idle.write_all(request.as_bytes()).await.unwrap();
    assert!(idle.read_u8().await.is_ok());
    assert!(it.kas(&["daemon", "stop"]).output().unwrap().status.success());
    let mut rest = Vec::new();
    tokio::time::timeout(DEADLINE, idle.read_to_end(&mut rest)).await.expect("closed in time").unwrap();
}

#[tokio::test]
async fn a_task_is_run_read_restarted_and_deleted() {
    let it = Served::start().await;
    let id = it.launch("hello").await;
    let done = it.ended(&id).await;
    assert_eq!(
        (&done["state"], &done["exit_code"], &done["signal"]),
        (&json!("done"), &json!(0), &Value::Null)
    );
    assert_eq!((&done["task_name"], &done["backend"]), (&json!("hello"), &json!("pty")));
    let again = it.api("POST", &format!("/tasks/{id}/restart"), "{}").await;
    assert_eq!((again.status, &again.json()["restarted_from"]), (202, &json!(id)));
    it.ended(again.json()["id"].as_str().unwrap()).await;
    let list =
        it.api("GET", "/projects/demo/tasks/instances?task_name=hello&state=done&limit=1", "").await.json();
    assert_eq!(
        (&list["items"][0]["id"], &list["has_more"]),
        (&again.json()["id"], &json!(true)),
        "newest first"
    );
    let next = list["next_cursor"].as_str().unwrap();
    let path = format!("/projects/demo/tasks/instances?task_name=hello&limit=1&cursor={next}");
    let list = it.api("GET", &path, "").await.json();
    assert_eq!((&list["items"][0]["id"], &list["next_cursor"]), (&json!(id), &Value::Null));
    let gone = it.api("DELETE", &format!("/tasks/{id}"), "").await;
    assert_eq!((gone.status, gone.bytes.len()), (204, 0));
    assert_eq!(it.api("GET", &format!("/tasks/{id}"), "").await.status, 404);
    assert_eq!(it.api("POST", "/projects/demo/tasks/cleanup", "").await.json(), json!({ "deleted": 1 }));
}

#[tokio::test]
async fn a_running_task_is_stopped_and_not_deleted_before() {
    let it = Served::start().await;
    let id = it.launch("waits").await;
    let early = it.api("DELETE", &format!("/tasks/{id}"), "").await;
    assert_eq!((early.status, early.error().1.as_str()), (409, "still_running"));
    let stopped = it.api("POST", &format!("/tasks/{id}/stop"), "").await;
    assert_eq!((stopped.status, &stopped.json()["state"]), (200, &json!("stopped")), "{stopped:?}");
    assert!(stopped.json()["stopped_at"].is_i64());
    let again = it.api("POST", &format!("/tasks/{id}/stop"), "{}").await;
    assert_eq!((again.status, again.error().1.as_str()), (409, "not_running"));
}

#[tokio::test]
async fn a_confirmation_is_asked_and_answered_once() {
    let it = Served::start().await;
    let ask = async || it.api("POST", "/projects/demo/tasks/run", r#"{"task":"asks"}"#).await;
    let question = ask().await;
    assert_eq!((question.status, &question.json()["confirm_required"]), (200, &json!(true)));
    let answer = async |question: &Value, proceed: bool| {
        let body = json!({ "confirm_id": question["confirm_id"], "proceed": proceed }).to_string();
        it.api("POST", "/projects/demo/tasks/run/confirm", &body).await
    };
    let yes = answer(&question.json(), true).await;
    assert_eq!((yes.status, &yes.json()["task_name"]), (202, &json!("asks")));
    it.ended(yes.json()["id"].as_str().unwrap()).await;
    assert_eq!(answer(&question.json(), true).await.status, 410);
    let no = answer(&ask().await.json(), false).await;
    assert_eq!((no.status, no.json()), (200, json!({ "cancelled": true })));
}

#[tokio::test]
async fn the_same_idempotency_key_launches_once() {
    let it = Served::start().await;
    let body = r#"{"task":"hello"}"#;
    let key = ["Idempotency-Key: once"];
    let runs = (0..10).map(|_| it.api_with("POST", "/projects/demo/tasks/run", &key, body));
    let runs = futures_util::future::join_all(runs).await;
    let ids: std::collections::BTreeSet<String> =
        runs.iter().map(|run| run.json()["id"].to_string()).collect();
    assert_eq!(ids.len(), 1, "{runs:?}");
    it.ended(runs[0].json()["id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_transcript_comes_in_four_forms_and_in_parts() {
    let it = Served::start().await;
    let id = it.launch("hello").await;
    it.ended(&id).await;
    let get = async |query: &str, headers: &[&str]| {
        it.api_with("GET", &format!("/tasks/{id}/transcript{query}"), headers, "").await
    };
    let raw = get("", &[]).await;
    let bytes = "one\r\n\x1b[31mtwo\x1b[0m\r\nthree\r\n";
    assert_eq!((raw.status, raw.text(), raw.header("x-kas-start-offset")), (200, bytes, Some("0")));
    let part = get("?format=raw", &["Range: bytes=5-16"]).await;
    assert_eq!((part.status, part.text()), (206, &bytes[5..17]));
    assert_eq!(part.header("content-range"), Some(format!("bytes 5-16/{}", bytes.len()).as_str()));
    assert_eq!(get("", &["Range: bytes=-7"]).await.text(), "three\r\n");
    let none = get("", &["Range: bytes=999-"]).await;
    assert_eq!((none.status, none.error()), (416, ("range_not_satisfiable".into(), "range".into())));
    assert_eq!(get("?format=text", &[]).await.text(), "one\ntwo\nthree\n");

    let lines = get("?format=json", &[]).await.json();
    assert_eq!((&lines["start_offset"], &lines["end_offset"]), (&json!(0), &json!(bytes.len())));
    let texts: Vec<_> = lines["lines"].as_array().unwrap().iter().map(|line| line["text"].clone()).collect();
    assert_eq!(texts, ["one", "two", "three"]);
    assert!(lines["lines"][2]["at"].is_i64() && lines["lines"][2]["offset"] == 19);

    let cast = get("?format=asciicast", &[]).await;
    let mut cast = cast.text().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let head = cast.next().unwrap();
    assert_eq!((&head["version"], &head["width"], &head["height"]), (&json!(2), &json!(80), &json!(24)));
    let shown: String = cast.map(|event| event[2].as_str().unwrap().to_owned()).collect();
    assert_eq!(shown, bytes);
    assert_eq!(get("?format=pdf", &[]).await.status, 400);
    assert_eq!(get("?fmt=raw", &[]).await.status, 400);
}

#[tokio::test]
async fn events_are_listed_and_streamed_from_any_id() {
    let it = Served::start().await;
    let id = it.launch("fails").await;
    it.ended(&id).await;
    let list = it.api("GET", "/audit-events?project=demo&kind=task.exited", "").await.json();
    let exited = list["items"][0].clone();
    assert_eq!((&exited["task_id"], &exited["exit_code"]), (&json!(id), &json!(7)));
    let last = exited["id"].as_i64().unwrap();

    let mut stream = it.unix().await;
    let head = format!("GET /v1/events HTTP/1.1\r\nHost: kas\r\nLast-Event-ID: {}\r\n\r\n", last - 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut seen = String::new();
    let second = it.launch("hello").await;
    let read = async {
        while !(seen.contains("event: task.exited") && seen.contains(&second)) {
            let mut piece = [0; 4096];
            let n = stream.read(&mut piece).await.unwrap();
            assert!(n > 0, "the stream ended: {seen}");
            seen.push_str(std::str::from_utf8(&piece[..n]).unwrap());
        }
    };
    tokio::time::timeout(DEADLINE, read).await.expect("events in time");
    assert!(seen.contains("content-type: text/event-stream"));
    assert!(seen.contains(&format!("id: {last}\n")) && !seen.contains(&format!("id: {}\n", last - 1)));
    it.ended(&second).await;
}

#[tokio::test]
async fn the_daemons_own_routes_tell_and_change_it() {
    let it = Served::start().await;
    let status = it.control("GET", "/v1/status", "").await.json();
    assert_eq!((&status["running"], &status["repo_count"]), (&json!(true), &json!(1)));
    assert_eq!((&status["backend"], &status["repos"][0]["project"]), (&json!("pty"), &json!("demo")));
    let again = it.control("POST", "/v1/repos", &json!({ "path": it.demo() }).to_string()).await;
    assert_eq!((again.status, again.error().0.as_str()), (409, "conflict"));
    let none = it.control("POST", "/v1/repos", r#"{"path":"/nonexistent"}"#).await;
    assert_eq!(none.status, 400);
    assert_eq!(it.control("POST", "/v1/reload", "").await.json()["status"], "reloaded");
    let removed = it.control("DELETE", "/v1/repos/demo", "").await;
    assert_eq!(removed.json(), json!({ "status": "removed", "project": "demo" }));
    assert_eq!(it.control("DELETE", "/v1/repos/demo", "").await.status, 404);
    assert_eq!(it.control("GET", "/v1/repos", "").await.json(), json!([]));
    let page = it.api("GET", "/projects", "").await.json();
    assert_eq!(page, json!({ "items": [], "next_cursor": null, "has_more": false }));
}

/// Every route of the table is described, with its parameters, and nothing else is.
#[test]
fn openapi_describes_the_table() {
    let document: Value = serde_json::from_str(include_str!("../../src/api/openapi.json")).unwrap();
    let described: std::collections::BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().keys().filter(|key| *key != "parameters");
            methods.map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    let served: std::collections::BTreeSet<String> = ROUTES
        .iter()
        .map(|route| {
            let path: Vec<_> = route
                .path
                .split('/')
                .map(|part| part.strip_prefix(':').map_or(part.to_owned(), |name| format!("{{{name}}}")))
                .collect();
            format!("{} {}", route.method, path.join("/"))
        })
        .collect();
    assert_eq!(described, served);
    for (path, item) in document["paths"].as_object().unwrap() {
        let named: Vec<&str> = path.split(['{', '}']).skip(1).step_by(2).collect();
        let empty = vec![];
        let given = item["parameters"].as_array().unwrap_or(&empty).iter();
        let given: Vec<&str> = given.map(|it| it["name"].as_str().unwrap()).collect();
        assert_eq!(given, named, "{path}");
    }
    references(&document, &document);
}

/// The document that is served is the table of the surface that serves it, and its words are the daemon's.
#[tokio::test]
async fn openapi_tells_what_is_served_where_it_is_asked() {
    let it = Served::start().await;
    let paths = |document: &Value| {
        document["paths"].as_object().unwrap().keys().cloned().collect::<std::collections::BTreeSet<_>>()
    };
    let whole: Value = serde_json::from_str(include_str!("../../src/api/openapi.json")).unwrap();
    assert_eq!(it.control("GET", "/openapi.json", "").await.json(), whole);
    let over_http = it.ask("GET", "/openapi.json", &[&bearer(&it)], "").await.json();
    let only_control = paths(&whole).into_iter().filter(|path| path.starts_with("/v1/"));
    assert_eq!(
        paths(&over_http),
        paths(&whole).into_iter().filter(|path| !path.starts_with("/v1/")).collect()
    );
    for path in only_control {
        assert_eq!(it.ask("GET", &path, &[&bearer(&it)], "").await.status, 404, "{path}");
    }
    // A POST takes a body, a DELETE none, and where it is done without one it is done.
    for (path, item) in whole["paths"].as_object().unwrap() {
        assert!(item.get("post").is_none_or(|post| post["requestBody"]["required"] == true), "{path}");
        assert!(item.get("delete").is_none_or(|delete| delete.get("requestBody").is_none()), "{path}");
    }
    // Cursors that are told fit the patterns that are told of them.
    let cursor = |path: &str| {
        let all = whole["paths"][path]["get"]["parameters"].as_array().unwrap();
        let schema = &all.iter().find(|it| it["name"] == "cursor").unwrap()["schema"];
        assert!(schema["pattern"].is_string(), "{path}");
        jsonschema::validator_for(schema).unwrap()
    };
    for _ in 0..2 {
        it.api("POST", "/projects/demo/tasks/run", r#"{"command":"true","cwd":null}"#).await;
    }
    for (path, asked) in [
        ("/api/v1/projects/{id}/tasks/instances", "/projects/demo/tasks/instances?limit=1"),
        ("/api/v1/audit-events", "/audit-events?limit=1"),
    ] {
        let next = it.api("GET", asked, "").await.json()["next_cursor"].as_str().unwrap().to_owned();
        assert!(cursor(path).is_valid(&json!(next)), "{next}");
        assert_eq!(it.api("GET", &format!("{asked}&cursor={next}"), "").await.status, 200);
    }
}

/// Every `$ref` leads somewhere.
fn references(document: &Value, part: &Value) {
    if let Some(target) = part["$ref"].as_str() {
        let pointer = target.trim_start_matches('#');
        assert!(document.pointer(pointer).is_some(), "{target}");
    }
    let parts: Vec<&Value> = match part {
        Value::Array(parts) => parts.iter().collect(),
        Value::Object(parts) => parts.values().collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
    };
    parts.into_iter().for_each(|part| references(document, part));
}
