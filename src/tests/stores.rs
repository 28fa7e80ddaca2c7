//! What the lake asks of a store, asked of each kind of store: a directory, MinIO, HDFS.
//!
//! Owns: the contract, and the refusal of a bucket whose store does not keep it.
//! Does not own: the job on these stores (`lakes`).

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use affluent::error::SinkError;
use affluent::lake::store::Store;
use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use futures::TryStreamExt as _;
use futures::future::join_all;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload};
use tokio::net::TcpListener;

use crate::support::{hdfs_root, s3_options, s3_root};

const WRITERS: usize = 32;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_keeps_the_contract() {
    let root = tempfile::tempdir().unwrap();
    let store = open(root.path().to_str().unwrap(), &BTreeMap::new()).await;
    keeps_the_contract(&store).await;
    assert_eq!(leftovers(root.path()), Vec::<String>::new());
}

/// Files of a directory that no object stands for: what a listing hides.
fn leftovers(directory: &std::path::Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(leftovers(&path));
        } else if path.extension().is_some_and(|ending| ending == "tmp") {
            found.push(path.display().to_string());
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_keeps_the_contract() {
    let store = open(&s3_root("contract"), &s3_options()).await;
    keeps_the_contract(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hdfs_keeps_the_contract() {
    let store = open(&hdfs_root("contract"), &BTreeMap::new()).await;
    keeps_the_contract(&store).await;
}

async fn open(root: &str, options: &BTreeMap<String, String>) -> Store {
    Store::open(root, options, "sales").await.unwrap()
}

async fn keeps_the_contract(store: &Store) {
    what_is_written_is_read_listed_and_deleted(store).await;
    an_object_is_created_once(store).await;
    of_racing_creators_one_wins(store).await;
    a_large_file_arrives_whole(store).await;
    a_listing_goes_on_behind_a_name(store).await;
    let objects = names(store.objects().as_ref(), None).await;
    let strange: Vec<_> = objects.iter().filter(|name| name.contains("tmp")).collect();
    assert!(strange.is_empty(), "temporary files are left: {strange:?}");
}

async fn what_is_written_is_read_listed_and_deleted(store: &Store) {
    let objects = store.objects();
    // As `layout` escapes them: what a partition's value may come to.
    for name in [
        "plain",
        "Île de la Réunion",
        "a b",
        "100%25",
        "%3A%2F",
        "emoji-🦀",
        "plus+and&",
        "quote'\"",
    ] {
        let path = Path::parse(format!("date=2026-01-01/region={name}/part.parquet")).unwrap();
        objects.put(&path, name.to_owned().into()).await.unwrap();
        let read = objects.get(&path).await.unwrap();
        assert_eq!(read.meta.size as usize, name.len());
        assert_eq!(read.bytes().await.unwrap(), name.as_bytes(), "{name}");
        let below = Path::parse(format!("date=2026-01-01/region={name}")).unwrap();
        assert_eq!(
            names(objects.as_ref(), Some(&below)).await,
            [path.to_string()],
            "{name}"
        );
        objects.put(&path, "again".into()).await.unwrap();
        assert_eq!(objects.get(&path).await.unwrap().bytes().await.unwrap(), "again");
        objects.delete(&path).await.unwrap();
        assert!(is_missing(objects.head(&path).await), "{name}");
        assert!(is_missing(objects.get(&path).await), "{name}");
    }
}

fn is_missing<T>(outcome: object_store::Result<T>) -> bool {
    matches!(outcome, Err(Error::NotFound { .. }))
}

async fn names(objects: &dyn ObjectStore, below: Option<&Path>) -> Vec<String> {
    let objects: Vec<_> = objects.list(below).try_collect().await.unwrap();
    let mut names: Vec<_> = objects.into_iter().map(|object| object.location.to_string()).collect();
    names.sort();
    names
}

async fn create(objects: &dyn ObjectStore, path: &Path, text: String) -> object_store::Result<()> {
    let options = PutOptions {
        mode: PutMode::Create,
        ..PutOptions::default()
    };
    objects.put_opts(path, text.into(), options).await.map(drop)
}

async fn an_object_is_created_once(store: &Store) {
    let path = Path::from("_delta_log/00000000000000000000.json");
    create(store.objects().as_ref(), &path, "first".to_owned())
        .await
        .unwrap();
    let second = create(store.objects().as_ref(), &path, "second".to_owned()).await;
    assert!(matches!(second, Err(Error::AlreadyExists { .. })), "{second:?}");
    let read = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
    assert_eq!(read, "first");
}

async fn of_racing_creators_one_wins(store: &Store) {
    for round in 1..=10 {
        let path = Path::from(format!("_delta_log/{round:020}.json"));
        let racing = (0..WRITERS).map(|writer| {
            let (objects, path) = (Arc::clone(store.objects()), path.clone());
            // Long enough to take more than one packet.
            let body = format!("{writer}\n").repeat(10_000);
            tokio::spawn(async move { create(objects.as_ref(), &path, body).await })
        });
        let outcomes: Vec<_> = join_all(racing).await.into_iter().map(Result::unwrap).collect();
        let winners: Vec<_> = (0..WRITERS).filter(|writer| outcomes[*writer].is_ok()).collect();
        let [winner] = winners[..] else {
            panic!("round {round}: {winners:?} won: {outcomes:?}")
        };
        let others = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(Error::AlreadyExists { .. })));
        assert_eq!(others.count(), WRITERS - 1, "round {round}: {outcomes:?}");
        let read = store.objects().get(&path).await.unwrap().bytes().await.unwrap();
        assert_eq!(read, format!("{winner}\n").repeat(10_000), "round {round}");
    }
}

async fn a_large_file_arrives_whole(store: &Store) {
    let path = Path::from("large.parquet");
    let chunk = |n: u32| bytes::Bytes::from(n.to_le_bytes().repeat(1 << 18));
    let payload: PutPayload = (0..40).map(chunk).collect();
    store.put_file(&path, payload.clone()).await.unwrap();
    let whole: bytes::Bytes = payload.into();
    assert_eq!(store.objects().get(&path).await.unwrap().bytes().await.unwrap(), whole);
    let end = whole.len() as u64;
    let ranges = [0..4, 12_345_678..12_345_999, end - 8..end];
    let parts = store.objects().get_ranges(&path, &ranges).await.unwrap();
    for (range, part) in ranges.into_iter().zip(parts) {
        assert_eq!(part, whole[range.start as usize..range.end as usize]);
    }
}

async fn a_listing_goes_on_behind_a_name(store: &Store) {
    let log = Path::from("_delta_log");
    let behind = Path::from("_delta_log/00000000000000000008");
    let listed: Vec<_> = store
        .objects()
        .list_with_offset(Some(&log), &behind)
        .try_collect()
        .await
        .unwrap();
    let mut names: Vec<_> = listed.iter().filter_map(|object| object.location.filename()).collect();
    names.sort_unstable();
    let wanted = [8, 9, 10].map(|version| format!("{version:020}.json"));
    assert_eq!(names, wanted);
}

/// A server that speaks just enough of S3, and treats the condition as it likes.
struct Lax {
    objects: Mutex<HashMap<String, Bytes>>,
    /// `None`: the condition is not looked at. Else it is, and the object is written only so much later.
    checks_before: Option<Duration>,
}

async fn lax(State(server): State<Arc<Lax>>, method: Method, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let key = uri.path().to_owned();
    let find = || server.objects.lock().unwrap().get(&key).cloned();
    match method {
        Method::PUT => {
            if let Some(delay) = server.checks_before {
                if headers.contains_key("if-none-match") && find().is_some() {
                    return StatusCode::PRECONDITION_FAILED.into_response();
                }
                tokio::time::sleep(delay).await;
            }
            server.objects.lock().unwrap().insert(key, body);
            ([("etag", "\"1\"")], ()).into_response()
        }
        Method::GET => match find() {
            Some(body) => (
                [("etag", "\"1\""), ("last-modified", "Thu, 01 Jan 2026 00:00:00 GMT")],
                body,
            )
                .into_response(),
            None => StatusCode::NOT_FOUND.into_response(),
        },
        Method::DELETE => StatusCode::NO_CONTENT.into_response(),
        _ => StatusCode::METHOD_NOT_ALLOWED.into_response(),
    }
}

async fn refusal_of(checks_before: Option<Duration>) -> String {
    let server = Arc::new(Lax {
        objects: Mutex::default(),
        checks_before,
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let serving = tokio::spawn(axum::serve(listener, Router::new().fallback(lax).with_state(server)).into_future());
    let mut options = s3_options();
    options.insert("aws_endpoint".to_owned(), endpoint);
    let outcome = Store::open("s3://bucket/lake", &options, "sales").await;
    serving.abort();
    match outcome {
        Err(SinkError::Invariant(refusal)) => refusal.to_string(),
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test]
async fn a_store_that_ignores_the_condition_is_refused() {
    let refusal = refusal_of(None).await;
    assert!(
        refusal.contains("s3://bucket/lake/sales") && refusal.contains("If-None-Match"),
        "{refusal}"
    );
}

#[tokio::test]
async fn a_store_that_checks_the_condition_too_early_is_refused() {
    let refusal = refusal_of(Some(Duration::from_millis(100))).await;
    assert!(refusal.contains("at once"), "{refusal}");
}
