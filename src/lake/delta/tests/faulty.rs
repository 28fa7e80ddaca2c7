//! An object store in memory whose next writes go wrong in chosen ways.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What happens to one write.
#[derive(Debug)]
pub(crate) enum Fault {
    /// Stored, but the writer is told otherwise.
    ReplyLost,
    /// Not stored, and the writer is told so.
    NotDone,
    /// The writer is told that it failed; it is stored by [`Faulty::land`], if the place is free then.
    Delayed,
    /// This object comes first, at the same place.
    Rival(String),
}

#[derive(Debug, Default)]
pub(crate) struct Faulty {
    inner: InMemory,
    faults: Mutex<VecDeque<Fault>>,
    delayed: Mutex<Vec<(Path, PutPayload, PutOptions)>>,
    /// Reads that fail before they work again.
    failing_reads: Mutex<usize>,
}

impl Faulty {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The next writes, in order; those after them work.
    pub(crate) fn next_writes(&self, faults: impl IntoIterator<Item = Fault>) {
        self.faults.lock().expect("not poisoned").extend(faults);
    }

    pub(crate) fn fail_reads(&self, count: usize) {
        *self.failing_reads.lock().expect("not poisoned") = count;
    }

    /// Delayed writes arrive at last; how many of them found their place free.
    pub(crate) async fn land(&self) -> usize {
        let delayed = std::mem::take(&mut *self.delayed.lock().expect("not poisoned"));
        let mut landed = 0;
        for (path, payload, options) in delayed {
            landed += usize::from(self.inner.put_opts(&path, payload, options).await.is_ok());
        }
        landed
    }

    pub(crate) async fn set(&self, path: &str, content: &str) {
        let content = PutPayload::from(content.to_owned());
        self.inner.put(&Path::from(path), content).await.expect("in memory");
    }

    pub(crate) async fn remove(&self, path: &str) {
        self.inner.delete(&Path::from(path)).await.expect("in memory");
    }

    pub(crate) async fn text(&self, path: &str) -> Option<String> {
        let bytes = self.inner.get(&Path::from(path)).await.ok()?.bytes().await.ok()?;
        Some(String::from_utf8(bytes.to_vec()).expect("UTF-8"))
    }
}

fn broken(what: &'static str) -> Error {
    Error::Generic {
        store: "faulty",
        source: what.into(),
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let fault = self.faults.lock().expect("not poisoned").pop_front();
        match fault {
            None => self.inner.put_opts(location, payload, opts).await,
            Some(Fault::NotDone) => Err(broken("connection refused")),
            Some(Fault::ReplyLost) => {
                self.inner.put_opts(location, payload, opts).await?;
                Err(broken("timed out"))
            }
            Some(Fault::Delayed) => {
                let mut delayed = self.delayed.lock().expect("not poisoned");
                delayed.push((location.clone(), payload, opts));
                Err(broken("timed out"))
            }
            Some(Fault::Rival(content)) => {
                self.inner.put(location, content.into()).await?;
                self.inner.put_opts(location, payload, opts).await
            }
        }
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fails = {
            let mut left = self.failing_reads.lock().expect("not poisoned");
            let fails = *left > 0;
            *left = left.saturating_sub(1);
            fails
        };
        if fails {
            return Err(broken("connection reset"));
        }
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}
