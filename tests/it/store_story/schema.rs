//! Schemas: every one that was shipped opens, and what was in it is told as before.

use super::*;
use kas::model::ErrorWord;

/// Every schema that was shipped.
pub(super) const SHIPPED: [&str; 3] = ["v1", "v2", "v3"];

pub(super) fn shipped(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/state/{version}.sqlite"))
}

pub(super) fn fixture_copy(dir: &Path, version: &str) -> PathBuf {
    let path = dir.join(format!("{version}.db"));
    fs::copy(shipped(version), &path).unwrap();
    path
}

fn schema(path: &Path) -> Vec<String> {
    let raw = rusqlite::Connection::open(path).unwrap();
    let mut query = raw.prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY name").unwrap();
    query.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn every_shipped_schema_opens_with_all_that_is_in_it() {
    for version in SHIPPED {
        opens_with_all_that_is_in_it(version).await;
    }
}

async fn opens_with_all_that_is_in_it(version: &str) {
    let dir = tempfile::tempdir().unwrap();
    let path = fixture_copy(dir.path(), version);
    let was = schema(&path);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.projects().await.unwrap().len(), 1);
    assert_eq!(store.run(id(1)).await.unwrap().unwrap().run.instance.exit, Some(Exit::Code(3)));
    assert_eq!(store.transcript(id(1)).await.unwrap(), Some(transcript()));
    assert_eq!(*store.latest_event().borrow(), 2);
    drop(store);
    let copy = dir.path().join(format!("{version}.db.{version}"));
    assert_eq!(
        copy.exists(),
        version != SHIPPED[SHIPPED.len() - 1],
        "whoever goes back needs the database as it was"
    );
    if copy.exists() {
        assert_eq!(schema(&copy), was);
    }
    let fresh = dir.path().join("fresh.db");
    drop(Store::open(&fresh).unwrap());
    assert_eq!(schema(&path), schema(&fresh));
}

/// A kas before schema 3 kept the word only; the words for it are the word's own, and a stopped run's code may be 0 from then on.
#[tokio::test]
async fn what_an_older_kas_did_not_keep_is_told_by_its_word() {
    let dir = tempfile::tempdir().unwrap();
    let path = fixture_copy(dir.path(), "v2");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute_batch("UPDATE task_instances SET exit_code = NULL, error = 'shim_lost'").unwrap();
    drop(raw);
    let store = Store::open(&path).unwrap();
    let old = store.run(id(1)).await.unwrap().unwrap().run.instance;
    assert_eq!(
        (old.error, old.error_text.as_deref()),
        (Some(ErrorWord::ShimLost), Some(ErrorWord::ShimLost.text()))
    );
    assert_eq!(store.transcript(id(1)).await.unwrap(), Some(transcript()));
    let run = record(2, Some("test"));
    store.insert(run.clone(), None).await.unwrap();
    let stopped = live_through(
        &store,
        run.run,
        &[&[Event::StopRequested { by: "op".to_owned() }], &ended(Exit::Code(0))[..]].concat(),
    )
    .await;
    assert_eq!(store.run(id(2)).await.unwrap().unwrap().run, stopped);
    assert_eq!((stopped.instance.state, stopped.instance.exit_code()), (RunState::Stopped, Some(0)));
}

/// Makes the fixture of the newest schema, when given a path where no file is.
#[tokio::test]
async fn child_writes_a_fixture() {
    let Some(path) = child_path() else { return };
    assert!(!path.exists(), "a shipped schema never changes");
    let store = new_store(&path).await;
    let run = record(1, Some("test"));
    store.insert(run.clone(), None).await.unwrap();
    live_through(&store, run.run, &ended(Exit::Code(3))).await;
    store.record(Change { transcripts: vec![(id(1), transcript())], ..Change::default() }).await.unwrap();
}
