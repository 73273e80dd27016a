//! What is typed reaches the program.

use super::*;

#[tokio::test]
async fn input_arrives_byte_for_byte() {
    let bytes = noise(3_000_000, true);
    let spec = spec("stty raw -echo; echo ready; head -c 3000000 | sha256sum");
    let mut run = Run::start(&spec).await;
    run.until_output("ready").await;
    let typed = Bytes::from(bytes.clone());
    let client = run.client.clone();
    let typing = async move { client.input(typed).await.unwrap() };
    let (end, (output, _)) = tokio::join!(typing, run.finish());
    assert_eq!(end, 3_000_000);
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect();
    assert!(String::from_utf8_lossy(&output).contains(&hex));
}

#[tokio::test]
async fn input_waits_for_a_program_that_does_not_read_yet() {
    let text: String = (0..60_000).map(|n| format!("line number {n} of the paste\n")).collect();
    let spec =
        spec("stty -echo; echo ready; while [ ! -e \"$GO\" ]; do sleep 0.05; done; sha256sum; echo end");
    let home = tempfile::tempdir().unwrap();
    let go = home.path().join("go");
    let spec = Spec { env: [spec.env.clone(), vec![("GO".into(), go.clone().into())]].concat(), ..spec };
    let mut run = Run::start(&spec).await;
    run.until_output("ready").await;
    let client = run.client.clone();
    let paste = Bytes::from(text.clone() + "\x04");
    let typing = tokio::spawn(async move { client.input(paste).await });
    // Every other request is still served while the paste waits.
    run.client.resize(Size::clamped(100, 40).unwrap()).await.unwrap();
    run.until(|e| matches!(e, Event::Resized(_)).then_some(())).await;
    assert!(!typing.is_finished(), "more than the credit cannot have been sent");
    let client = run.client.clone();
    let taken = tokio::spawn(async move { client.taken(1_000_000).await });
    std::fs::write(&go, "").unwrap();
    let (output, _) = run.finish().await;
    typing.await.unwrap().unwrap();
    taken.await.unwrap().unwrap();
    let client = run.client.clone();
    drop(run);
    assert!(client.taken(u64::MAX).await.is_err(), "a shim that nobody hears takes nothing more");
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(&text).iter().map(|b| format!("{b:02x}")).collect();
    assert!(String::from_utf8_lossy(&output).contains(&hex), "{}", String::from_utf8_lossy(&output));
}

#[tokio::test]
async fn a_resize_reaches_the_program() {
    let spec = spec("trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done");
    let mut run = Run::start(&spec).await;
    run.until_output("ready").await;
    run.client.resize(Size::clamped(132, 44).unwrap()).await.unwrap();
    let (output, record) = run.finish().await;
    assert!(String::from_utf8_lossy(&output).contains("44 132"));
    assert_eq!(record.ending, Ending::Exited(Exit::Code(0)));
    let sizes = Reader::new(&run.dir).index().unwrap().sizes;
    assert_eq!(sizes.iter().map(|(_, s)| (s.cols(), s.rows())).collect::<Vec<_>>(), [(80, 24), (132, 44)]);
}
