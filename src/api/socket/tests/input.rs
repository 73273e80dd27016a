//! What is typed: in order, once, or not at all and said.

use super::*;

const PANE: &str = "pty:pane:1";

fn typed(handle: u8, bytes: &[u8]) -> Message {
    Message::binary([&[3, 0, 0, 0, handle, 0, 0, 0, 0, 0, 0, 0, 0], bytes].concat())
}

/// A server with a program that does not read until the notice.
async fn busy() -> (Server, Client, Arc<Notify>) {
    let server = Server::start().await;
    server.terminal(1, 100);
    let blocked = Arc::new(Notify::new());
    server.desk.0.blocked.lock().unwrap().insert(TerminalId::Pane(1), Arc::clone(&blocked));
    let client = server.client().await;
    (server, client, blocked)
}

fn goes_on(server: &Server, blocked: &Notify) {
    server.desk.0.blocked.lock().unwrap().clear();
    blocked.notify_one();
}

#[tokio::test]
async fn after_a_refusal_nothing_follows_until_the_client_subscribes_again() {
    let (mut server, mut client, blocked) = busy().await;
    client.subscribe(PANE, json!({ "mode": "interactive" })).await;
    for n in 0..8_u8 {
        client.socket.send(typed(1, &[b'a' + n; 60_000])).await.unwrap();
    }
    for n in 4..8 {
        let error = client.text().await;
        let reason = if n == 4 { "input_full" } else { "input_closed" };
        assert_eq!((&error["details"]["reason"], &error["channel"]), (&json!(reason), &json!(PANE)), "{n}");
        assert_eq!(error["details"]["accepted"], if n == 4 { json!(240_000) } else { Value::Null });
    }
    goes_on(&server, &blocked);
    for n in 0..4_u8 {
        let said = server.said().await;
        assert_eq!((said.len(), said.as_bytes()[7]), ("input \"\"".len() + 60_000, b'a' + n));
    }
    // There is room again, and still nothing of the old subscription is taken, in either form.
    client.socket.send(typed(1, b"late")).await.unwrap();
    assert_eq!(client.text().await["details"]["reason"], "input_closed");
    client.send(json!({ "type": "pty.input", "channel": PANE, "data": "late" })).await;
    assert_eq!(client.text().await["details"]["reason"], "input_closed");
    client.subscribe(PANE, json!({ "mode": "interactive" })).await;
    client.socket.send(typed(1, b"late")).await.unwrap();
    let late = client.text().await;
    assert_eq!((&late["code"], &late["channel"]), (&json!("not_found"), &json!(PANE)), "an old handle");
    client.socket.send(typed(2, b"new")).await.unwrap();
    assert_eq!(server.said().await, "input \"new\"");
}

#[tokio::test]
async fn what_was_typed_before_the_client_left_is_not_among_what_is_still_to_be_confirmed() {
    const PIECE: usize = 32 << 10;
    let (mut server, mut client, blocked) = busy().await;
    let wish = || json!({ "mode": "interactive", "confirm_input": true });
    client.subscribe(PANE, wish()).await;
    for _ in 0..4 {
        client.socket.send(typed(1, &[b'o'; PIECE])).await.unwrap();
    }
    client.send(json!({ "type": "unsubscribe", "channel": PANE })).await;
    client.subscribe(PANE, wish()).await;
    for _ in 0..4 {
        client.socket.send(typed(2, &[b'n'; PIECE])).await.unwrap();
    }
    let error = client.text().await;
    assert_eq!(error["details"], json!({ "reason": "input_full", "accepted": 3 * PIECE }));
    goes_on(&server, &blocked);
    for letter in *b"oooonnn" {
        let said = server.said().await;
        assert_eq!((said.len(), said.as_bytes()[7]), ("input \"\"".len() + PIECE, letter));
    }
    let mut taken = 0;
    while taken < 3 * PIECE as u64 {
        taken += client.text().await["bytes"].as_u64().unwrap();
    }
    assert_eq!(taken, 3 * PIECE as u64);
    client.barrier().await;
}

#[tokio::test]
async fn an_error_names_the_type_of_the_frame_that_it_answers() {
    let (_server, mut client, _blocked) = busy().await;
    client.subscribe(PANE, json!({ "mode": "view" })).await;
    let frames = [
        json!({ "type": "subscribe", "channel": PANE, "from": 9 }),
        json!({ "type": "unsubscribe", "channel": "pty:pane:9" }),
        json!({ "type": "pty.input", "channel": PANE, "data": "x" }),
        json!({ "type": "pty.resize", "channel": PANE, "cols": 0, "rows": 0 }),
        json!({ "type": "pty.ack", "channel": "pty:pane:9", "offset": 0 }),
    ];
    for frame in frames {
        client.send(frame.clone()).await;
        let error = client.text().await;
        assert_eq!((&error["type"], &error["request"]), (&json!("error"), &frame["type"]));
    }
    client.socket.send(typed(1, b"x")).await.unwrap();
    assert_eq!(client.text().await.get("request"), None, "a binary frame has no type");
}

#[tokio::test]
async fn after_a_loss_nothing_follows_either() {
    let mut server = Server::start().await;
    server.terminal(1, 100);
    let mut client = server.client().await;
    client.subscribe(PANE, json!({ "mode": "interactive" })).await;
    for text in [&b"before"[..], FAILS, b"after"] {
        client.socket.send(typed(1, text)).await.unwrap();
    }
    assert_eq!(server.said().await, "input \"before\"");
    let error = client.text().await;
    assert_eq!((&error["code"], &error["channel"]), (&json!("unavailable"), &json!(PANE)));
    assert_eq!(error["details"]["reason"], "input_lost");
    client.socket.send(typed(1, b"later")).await.unwrap();
    // What was typed before the loss was told of is either lost with it or refused.
    while client.text().await["details"]["reason"] != "input_closed" {}
    client.subscribe(PANE, json!({ "mode": "interactive" })).await;
    client.socket.send(typed(2, b"new")).await.unwrap();
    assert_eq!(server.said().await, "input \"new\"");
}

#[tokio::test]
async fn a_program_that_does_not_read_stops_only_its_own_input() {
    let (mut server, mut client, _blocked) = busy().await;
    server.terminal(2, 100);
    client.subscribe(PANE, json!({ "mode": "interactive" })).await;
    client.subscribe("pty:pane:2", json!({ "mode": "interactive" })).await;
    for _ in 0..5 {
        client.socket.send(typed(1, &[b'x'; 60_000])).await.unwrap();
    }
    assert_eq!(client.text().await["details"]["reason"], "input_full");
    client.socket.send(typed(2, &[b'y'; 60_000])).await.unwrap();
    assert_eq!(server.said().await.len(), "input \"\"".len() + 60_000);
}

#[tokio::test]
async fn who_asks_is_told_what_was_taken_and_nobody_else() {
    let (mut server, mut client, blocked) = busy().await;
    client.subscribe(PANE, json!({ "mode": "interactive", "confirm_input": true })).await;
    client.socket.send(typed(1, b"four")).await.unwrap();
    client.send(json!({ "type": "pty.input", "channel": PANE, "data": "six..." })).await;
    client.barrier().await;
    goes_on(&server, &blocked);
    let mut taken = 0;
    while taken < 10 {
        let told = client.text().await;
        assert_eq!((&told["type"], &told["channel"]), (&json!("pty.input.taken"), &json!(PANE)));
        taken += told["bytes"].as_u64().unwrap();
    }
    assert_eq!(taken, 10);
    for text in ["four", "six..."] {
        assert_eq!(server.said().await, format!("input {text:?}"));
    }
    client.subscribe(PANE, json!({ "mode": "interactive" })).await;
    client.socket.send(typed(2, b"quiet")).await.unwrap();
    assert_eq!(server.said().await, "input \"quiet\"");
    client.barrier().await;
}

#[tokio::test]
async fn what_a_former_subscription_typed_is_told_to_the_one_in_its_place() {
    let (server, mut client, blocked) = busy().await;
    let wish = || json!({ "mode": "interactive", "confirm_input": true });
    client.subscribe(PANE, wish()).await;
    client.socket.send(typed(1, b"three")).await.unwrap();
    client.subscribe(PANE, wish()).await;
    goes_on(&server, &blocked);
    let told = client.text().await;
    assert_eq!((&told["type"], &told["bytes"]), (&json!("pty.input.taken"), &json!(5)));

    let (server, mut client, blocked) = busy().await;
    client.subscribe(PANE, wish()).await;
    client.socket.send(typed(1, b"gone")).await.unwrap();
    client.send(json!({ "type": "unsubscribe", "channel": PANE })).await;
    client.subscribe(PANE, wish()).await;
    goes_on(&server, &blocked);
    client.socket.send(typed(2, b"mine..")).await.unwrap();
    assert_eq!(client.text().await["bytes"], 6, "what was typed before it left is nobody's");
}

#[tokio::test]
async fn a_frame_of_another_kind_is_refused_by_its_channels_name() {
    let (_server, mut client, _blocked) = busy().await;
    client.subscribe(PANE, json!({ "mode": "interactive" })).await;
    client.socket.send(Message::binary(b"\x01\0\0\0\x01\0\0\0\0\0\0\0\0x".to_vec())).await.unwrap();
    let error = client.text().await;
    assert_eq!((&error["details"]["reason"], &error["channel"]), (&json!("unknown_type"), &json!(PANE)));
    client.subscribe(PANE, json!({ "mode": "view" })).await;
    client.socket.send(typed(2, b"x")).await.unwrap();
    let error = client.text().await;
    assert_eq!((&error["details"]["reason"], &error["channel"]), (&json!("view_mode"), &json!(PANE)));
    client.socket.send(Message::binary(b"\x03\0".to_vec())).await.unwrap();
    assert_eq!(client.text().await["channel"], Value::Null);
}

#[tokio::test]
async fn a_ping_is_answered_with_its_number() {
    let server = Server::start().await;
    let mut client = server.client().await;
    client.send(json!({ "type": "ping", "id": 7 })).await;
    assert_eq!(client.text().await, json!({ "type": "pong", "id": 7 }));
    client.send(json!({ "type": "ping" })).await;
    assert_eq!(client.text().await["code"], "invalid_request");
}
