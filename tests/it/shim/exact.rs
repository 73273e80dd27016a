//! Every byte and every code, a thousand times and a hundred megabytes.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_instant_tasks_are_exact() {
    let work = (0..1000_usize).collect::<Vec<_>>();
    let next = std::sync::Arc::new(std::sync::Mutex::new(work.into_iter()));
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let next = std::sync::Arc::clone(&next);
        workers.spawn(async move {
            while let Some(n) = { next.lock().unwrap().next() } {
                instant_task(n).await;
            }
        });
    }
    while let Some(done) = workers.join_next().await {
        done.unwrap();
    }
    println!("1000 instant tasks, 8 at a time: {:?}", began.elapsed());
}

/// Runs one short task and compares every byte, live and on disk, and its end.
async fn instant_task(n: usize) {
    let size = [0, 1, 40, 3000, 4096, 60_000][n % 6] + n / 6;
    let line = format!("task {n} says this\n");
    let text: Vec<u8> = line.bytes().cycle().take(size).collect();
    let (end, ending) = match n % 5 {
        4 => ("kill -9 $$".to_owned(), Exit::Signal(9)),
        _ => (format!("exit {}", n % 256), Exit::Code((n % 256).try_into().unwrap())),
    };
    let mut spec = spec(&format!("stty -opost; yes 'task {n} says this' | head -c {size}; {end}"));
    spec.env[0].1 = "/usr/bin:/bin".into();
    let mut run = Run::start(&spec).await;
    let (output, record) = run.finish().await;
    assert_eq!(output, text, "task {n}");
    assert_eq!(record.ending, Ending::Exited(ending), "task {n}");
    assert_eq!((record.total_bytes, record.lost_bytes), (size as u64, 0));
    assert_eq!(stored(&run.dir, 0), text, "task {n} on disk");
    assert_eq!(ExitRecord::read(&run.dir).unwrap(), Some(record));
    run.client.ack().await.unwrap();
}

/// A spec that prints a file as it is.
fn spec_cat(file: &Path) -> Spec {
    spec(&format!("stty raw -echo; cat {}", file.display()))
}

#[tokio::test]
async fn every_byte_value_and_broken_utf8_come_through() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bytes");
    let all: Vec<u8> = (0..=255).cycle().take(2560).chain(*b"\xf0\x9f\xe2\x82\x1b[31\x1b]0;x").collect();
    std::fs::write(&file, &all).unwrap();
    let mut run = Run::start(&spec_cat(&file)).await;
    let (output, _) = run.finish().await;
    assert_eq!(output, all);
    assert_eq!(stored(&run.dir, 0), all);
}

#[tokio::test]
async fn a_hundred_megabytes_without_a_newline() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("bytes");
    let all = noise(100_000_000, false);
    std::fs::write(&file, &all).unwrap();
    let mut run = Run::start(&spec_cat(&file)).await;
    let began = Instant::now();
    let mut at = 0;
    let mut missed = 0;
    let record = loop {
        match run.next().await {
            Event::Output { offset, bytes } => {
                assert_eq!(offset.0, at, "contiguous");
                let from = usize::try_from(at).unwrap();
                assert!(all[from..from + bytes.len()] == bytes[..], "live bytes at {at}");
                at += bytes.len() as u64;
            }
            Event::Gap { from, to } => {
                assert_eq!(from.0, at);
                missed += to.0 - from.0;
                at = to.0;
            }
            Event::Exited(record) => break record,
            _ => {}
        }
    };
    println!("100 MB through the shim: {:?}, {missed} bytes not live", began.elapsed());
    println!("shim after 100 MB: {}", memory(run.shim.pid));
    assert_eq!((record.total_bytes, record.lost_bytes), (100_000_000, 0));
    let (start, end) = Reader::new(&run.dir).range().unwrap();
    assert_eq!(end.0, 100_000_000);
    assert!((8_000_000..=LIMIT).contains(&(end.0 - start.0)), "{start}..{end} is held");
    assert_eq!(sha(&stored(&run.dir, start.0)), sha(&all[usize::try_from(start.0).unwrap()..]));
    let checkpoint = Reader::new(&run.dir).checkpoint().unwrap().unwrap();
    assert_eq!(checkpoint.offset, start);
}
