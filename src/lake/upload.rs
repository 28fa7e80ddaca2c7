//! Closed files on their way into the store, while the next ones are being encoded.
//!
//! Owns: how many are sent at a time, the memory they hold, and sending again what failed.
//! Does not own: when to wait for them (`sink::lake`), what makes a stored file part of the table (`delta`).

use std::collections::VecDeque;
use std::time::Instant;

use chrono::{DateTime, Utc};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use object_store::path::Path;
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::open::ClosedFile;
use super::store::Store;
use crate::failpoint;

/// Files sent at a time: hides the latency of a store, or of a disk's sync, without crowding either.
const IN_FLIGHT: usize = 4;

type Sent = (ClosedFile, object_store::Result<()>);

/// The uploads of one table.
pub struct Uploads {
    store: Store,
    waiting: VecDeque<ClosedFile>,
    running: FuturesUnordered<BoxFuture<'static, Sent>>,
    /// Of files waiting and running.
    bytes: u64,
    done: Vec<StoredFile>,
    /// What went wrong last; nothing is sent until `finish` asks for it again.
    failure: Option<String>,
}

/// In the store, not yet in the log.
#[derive(Clone, Debug)]
pub struct StoredFile {
    pub file: ClosedFile,
    pub at: DateTime<Utc>,
    pub since: Instant,
}

impl Uploads {
    pub fn new(store: Store) -> Self {
        Self {
            store,
            waiting: VecDeque::new(),
            running: FuturesUnordered::new(),
            bytes: 0,
            done: Vec::new(),
            failure: None,
        }
    }

    /// Sends a file as soon as there is a place for it. Does not wait.
    pub fn push(&mut self, file: ClosedFile) {
        self.bytes += file.file.size();
        self.waiting.push_back(file);
        self.start();
    }

    /// Encoded bytes that are still in memory.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// What is in the store so far.
    pub fn stored(&self) -> &[StoredFile] {
        &self.done
    }

    /// Takes note of what has ended, without waiting.
    pub fn reap(&mut self) {
        while let Some(Some(sent)) = self.running.next().now_or_never() {
            self.note(sent);
        }
    }

    /// Waits until no more than `bytes` are in memory, or nothing is being sent any more.
    pub async fn shrink_to(&mut self, bytes: u64) {
        while self.bytes > bytes
            && let Some(sent) = self.running.next().await
        {
            self.note(sent);
        }
    }

    /// Waits until everything is stored. What failed stays, and is sent again by the next call.
    pub async fn finish(&mut self) -> anyhow::Result<()> {
        self.failure = None;
        self.start();
        while let Some(sent) = self.running.next().await {
            self.note(sent);
        }
        match &self.failure {
            None => Ok(()),
            Some(what) => Err(anyhow::anyhow!("{what}")),
        }
    }

    /// Drops everything; what was begun may still arrive in the store.
    pub fn clear(&mut self) {
        *self = Self::new(self.store.clone());
    }

    fn start(&mut self) {
        while self.failure.is_none()
            && self.running.len() < IN_FLIGHT
            && let Some(file) = self.waiting.pop_front()
        {
            self.running.push(in_background(send(self.store.clone(), file)));
        }
    }

    fn note(&mut self, (file, sent): Sent) {
        match sent {
            Ok(()) => {
                self.bytes -= file.file.size();
                self.done.push(StoredFile {
                    file: file.without_bytes(),
                    at: Utc::now(),
                    since: Instant::now(),
                });
            }
            Err(error) => {
                // In one line: the store's error repeats its own cause.
                let what = format!("cannot write {}: {error}", file.path);
                if self.failure.is_none() {
                    tracing::warn!("a closed file has to wait for its upload: {what}");
                }
                self.failure = Some(what);
                self.waiting.push_back(file);
            }
        }
        self.start();
    }
}

async fn send(store: Store, file: ClosedFile) -> Sent {
    // Nobody else writes this name: overwriting can only repeat our own earlier try.
    let put = match Path::parse(&file.path) {
        Ok(path) => store.put_file(&path, file.file.payload.clone()).await,
        Err(error) => Err(error.into()),
    };
    failpoint!("lake.upload.sent");
    (file, put)
}

/// Where there is a runtime, the work goes on while nobody looks; elsewhere (the simulation) when it is looked at.
fn in_background(work: impl Future<Output = Sent> + Send + 'static) -> BoxFuture<'static, Sent> {
    match Handle::try_current() {
        Ok(runtime) => {
            let task = AbortOnDropHandle::new(runtime.spawn(work));
            task.map(|ended| ended.expect("an upload neither panics nor is cancelled while we wait for it"))
                .boxed()
        }
        Err(_) => work.boxed(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::lake::parquet::EncodedFile;
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt as _, PutPayload};

    fn file(name: &str) -> ClosedFile {
        ClosedFile {
            path: name.into(),
            values: Vec::new(),
            file: EncodedFile::new(PutPayload::from_static(b"0123456789"), 1, String::new()),
        }
    }

    fn names(uploads: &Uploads) -> Vec<String> {
        let mut names: Vec<String> = uploads.stored().iter().map(|f| f.file.path.clone()).collect();
        names.sort();
        names
    }

    #[tokio::test]
    async fn everything_is_stored_and_its_memory_is_let_go() {
        let objects = Arc::new(InMemory::new());
        let mut uploads = Uploads::new(Store::from_objects(objects.clone(), "a test"));
        (0..10).for_each(|n| uploads.push(file(&format!("f{n}"))));
        assert_eq!(uploads.bytes(), 100);
        uploads.finish().await.expect("memory takes everything");
        assert_eq!(
            (uploads.bytes(), uploads.stored().len(), uploads.is_idle()),
            (0, 10, true)
        );
        for name in names(&uploads) {
            let stored = objects
                .get(&Path::from(name))
                .await
                .expect("there")
                .bytes()
                .await
                .expect("readable");
            assert_eq!(&stored[..], b"0123456789");
        }
    }

    #[tokio::test]
    async fn what_failed_is_kept_and_sent_again() {
        let objects = Arc::new(InMemory::new());
        let mut uploads = Uploads::new(Store::from_objects(objects, "a test"));
        // A path that no store can hold.
        uploads.push(file("a//b"));
        uploads.push(file("good"));
        let error = uploads.finish().await.expect_err("one cannot be written");
        assert!(error.to_string().starts_with("cannot write a//b: "), "{error}");
        assert_eq!((names(&uploads), uploads.bytes()), (vec!["good".to_owned()], 10));
        uploads.push(file("later"));
        assert!(
            uploads.running.is_empty(),
            "who cannot store a file is not asked about the next one"
        );
        uploads.waiting[0].path = "better".into();
        uploads.finish().await.expect("sent again");
        assert_eq!(names(&uploads), ["better", "good", "later"]);
    }

    #[tokio::test]
    async fn waiting_for_memory_ends_also_when_nothing_can_be_stored() {
        let mut uploads = Uploads::new(Store::from_objects(Arc::new(InMemory::new()), "a test"));
        (0..10).for_each(|_| uploads.push(file("a//b")));
        uploads.shrink_to(50).await;
        assert_eq!(uploads.bytes(), 100);
    }
}
