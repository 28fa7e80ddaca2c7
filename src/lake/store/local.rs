//! A local directory as an object store whose writes survive a power cut.
//!
//! Owns: durability on a local disk. `object_store`'s own local store syncs nothing, so a power cut could keep a commit
//! and lose the files it names. [`DurableLocal`] writes every object in this order:
//!
//! ```text
//!  temporary file ─▶ fsync ─▶ rename (or hard link, where it must not exist) ─▶ fsync directory
//!                                                        and, once, every directory above it
//! ```
//!
//! A temporary name starts with a dot and ends in `.tmp`: Hadoop-style readers skip the dot, globs over `*.parquet` and
//! readers of `_delta_log` skip the ending, and maintenance still sees what a crash left.
//! Does not own: which directory (`store`).

use std::collections::HashSet;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};

/// `LocalFileSystem` whose writes survive a power cut once they have returned. Reads are delegated.
#[derive(Debug)]
pub(super) struct DurableLocal {
    inner: LocalFileSystem,
    root: Arc<PathBuf>,
    /// Directories whose own entry is known to be on disk.
    known: Arc<Mutex<HashSet<PathBuf>>>,
}

/// Bound of the set of known directories: a table with years of dates would otherwise grow it for ever.
/// Forgetting costs a few superfluous syncs.
const MAX_KNOWN_DIRECTORIES: usize = 4096;

impl DurableLocal {
    /// On a directory that is there.
    pub(super) fn open(root: &FsPath) -> Result<Self> {
        Ok(Self {
            inner: LocalFileSystem::new_with_prefix(root)?,
            root: Arc::new(fs::canonicalize(root).map_err(|e| failed("resolve", root, e))?),
            known: Arc::default(),
        })
    }
}

impl fmt::Display for DurableLocal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DurableLocal({})", self.root.display())
    }
}

#[async_trait]
impl ObjectStore for DurableLocal {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let create = match opts.mode {
            PutMode::Create => true,
            PutMode::Overwrite => false,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "conditional update of an object".into(),
                    implementer: self.to_string(),
                });
            }
        };
        let target = self.inner.path_to_filesystem(location)?;
        let (root, known) = (Arc::clone(&self.root), Arc::clone(&self.known));
        blocking(move || put_durably(&root, &known, &target, &payload, create)).await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(&self, location: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        let target = self.inner.path_to_filesystem(location)?;
        let directory = target.parent().unwrap_or(&self.root).to_path_buf();
        let temporary = temporary_name(&directory, &target);
        let created = temporary.clone();
        let file = blocking(move || {
            fs::create_dir_all(&directory)
                .and_then(|()| OpenOptions::new().write(true).create_new(true).open(&created))
                .map_err(|e| failed("write", &created, e))
        });
        Ok(Box::new(DurableUpload {
            root: Arc::clone(&self.root),
            known: Arc::clone(&self.known),
            file: Some(Arc::new(file.await?)),
            temporary,
            target,
            end: 0,
        }))
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.inner.get_opts(location, options).await
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.inner.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    fn list_with_offset(&self, prefix: Option<&Path>, offset: &Path) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list_with_offset(prefix, offset)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }

    async fn rename_opts(&self, from: &Path, to: &Path, options: RenameOptions) -> Result<()> {
        self.inner.rename_opts(from, to, options).await
    }
}

/// Parts go straight into the temporary file, each to its place, and the whole is made durable at the end:
/// `object_store`'s own upload would rename a file nobody has synced.
#[derive(Debug)]
struct DurableUpload {
    root: Arc<PathBuf>,
    known: Arc<Mutex<HashSet<PathBuf>>>,
    /// `None` once it is complete or given up.
    file: Option<Arc<File>>,
    temporary: PathBuf,
    target: PathBuf,
    end: u64,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let start = self.end;
        self.end += data.content_length() as u64;
        let Some(file) = self.file.clone() else {
            return Box::pin(std::future::ready(Err(ended())));
        };
        let temporary = self.temporary.clone();
        Box::pin(blocking(move || {
            let mut at = start;
            for chunk in &data {
                file.write_all_at(chunk, at)
                    .map_err(|e| failed("write", &temporary, e))?;
                at += chunk.len() as u64;
            }
            Ok(())
        }))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let file = self.file.take().ok_or_else(ended)?;
        let (root, known) = (Arc::clone(&self.root), Arc::clone(&self.known));
        let (temporary, target) = (self.temporary.clone(), self.target.clone());
        let placed = blocking(move || {
            file.sync_all()
                .and_then(|()| fs::rename(&temporary, &target))
                .and_then(|()| sync_directories(&root, &known, target.parent().unwrap_or(&root)))
                .map_err(|e| failed("write", &target, e))
        });
        placed.await?;
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn abort(&mut self) -> Result<()> {
        self.file = None;
        let temporary = self.temporary.clone();
        blocking(move || fs::remove_file(&temporary).map_err(|e| failed("remove", &temporary, e))).await
    }
}

/// Dropped half-way, as when a task is cancelled: nobody else would know of the file.
impl Drop for DurableUpload {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

fn ended() -> Error {
    Error::Generic {
        store: "local directory",
        source: "the upload has ended".into(),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| Error::JoinError { source: e })?
}

fn put_durably(
    root: &FsPath,
    known: &Mutex<HashSet<PathBuf>>,
    target: &FsPath,
    payload: &PutPayload,
    create: bool,
) -> Result<()> {
    let directory = target.parent().unwrap_or(root);
    let temporary = temporary_name(directory, target);
    let written = write_synced(&temporary, payload).or_else(|e| {
        if e.kind() != ErrorKind::NotFound {
            return Err(e);
        }
        // The directory is new, or somebody removed it since we knew it.
        known.lock().unwrap_or_else(PoisonError::into_inner).clear();
        fs::create_dir_all(directory)?;
        write_synced(&temporary, payload)
    });
    let placed = written.and_then(|()| {
        if create {
            fs::hard_link(&temporary, target)
        } else {
            fs::rename(&temporary, target)
        }
    });
    if create || placed.is_err() {
        // What is left of it is an invisible file; the outcome does not depend on its going.
        let _ = fs::remove_file(&temporary);
    }
    placed
        .and_then(|()| sync_directories(root, known, directory))
        .map_err(|e| failed("write", target, e))
}

fn temporary_name(directory: &FsPath, target: &FsPath) -> PathBuf {
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    // Names have 255 bytes on most file systems: the unique part must survive, the speaking part may not.
    let speaking: String = name.chars().take(40).collect();
    directory.join(format!(".{speaking}.{}.tmp", uuid::Uuid::new_v4().simple()))
}

fn write_synced(path: &FsPath, payload: &PutPayload) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    for chunk in payload {
        file.write_all(chunk)?;
    }
    file.sync_all()
}

/// Syncs `directory`, and each directory above it up to the root that has not been synced since it came.
fn sync_directories(root: &FsPath, known: &Mutex<HashSet<PathBuf>>, directory: &FsPath) -> io::Result<()> {
    sync_directory(directory)?;
    let mut fresh = Vec::new();
    {
        let known = known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut current = directory;
        while current != root && current.starts_with(root) && !known.contains(current) {
            fresh.push(current.to_path_buf());
            let Some(parent) = current.parent() else { break };
            current = parent;
        }
    }
    for child in &fresh {
        if let Some(parent) = child.parent() {
            sync_directory(parent)?;
        }
    }
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() + fresh.len() > MAX_KNOWN_DIRECTORIES {
        known.clear();
    }
    known.extend(fresh);
    Ok(())
}

fn sync_directory(directory: &FsPath) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Creates a directory with all its parents, each entry durable.
pub(super) fn create_directory(directory: &FsPath) -> io::Result<()> {
    let missing: Vec<&FsPath> = directory.ancestors().take_while(|d| !d.exists()).collect();
    fs::create_dir_all(directory)?;
    for created in missing {
        if let Some(parent) = created.parent() {
            sync_directory(parent)?;
        }
    }
    Ok(())
}

fn failed(what: &str, path: &FsPath, source: io::Error) -> Error {
    let path = path.display().to_string();
    match source.kind() {
        ErrorKind::AlreadyExists => Error::AlreadyExists {
            path,
            source: source.into(),
        },
        ErrorKind::PermissionDenied => Error::PermissionDenied {
            path,
            source: source.into(),
        },
        _ => Error::Generic {
            store: "local directory",
            source: io::Error::new(source.kind(), format!("{what} {path}: {source}")).into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;
    use object_store::ObjectStoreExt;

    fn open(root: &FsPath) -> DurableLocal {
        let directory = root.join("sales");
        create_directory(&directory).expect("directory");
        DurableLocal::open(&directory).expect("opens")
    }

    fn create() -> PutOptions {
        PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        }
    }

    #[tokio::test]
    async fn what_is_put_can_be_read_and_lies_below_root_and_stream() {
        let root = tempfile::tempdir().expect("directory");
        let store = open(&root.path().join("deep/er"));
        let path = Path::parse("date=2026-01-01/region=Île %2F x/part.parquet").expect("valid");
        store.put(&path, "hello".into()).await.expect("put");
        let read = store.get(&path).await.expect("get").bytes().await.expect("bytes");
        assert_eq!(read, "hello".as_bytes());
        assert!(
            root.path()
                .join("deep/er/sales/date=2026-01-01/region=Île %2F x/part.parquet")
                .is_file()
        );
    }

    #[tokio::test]
    async fn of_many_creators_of_one_object_exactly_one_wins() {
        let root = tempfile::tempdir().expect("directory");
        let store = open(root.path());
        let path = Path::from("_delta_log/0.json");
        let puts = (0..16).map(|n| {
            let (objects, path) = (&store, path.clone());
            async move { objects.put_opts(&path, format!("{n}").into(), create()).await }
        });
        let outcomes = futures::future::join_all(puts).await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
        assert!(
            outcomes
                .iter()
                .all(|o| matches!(o, Ok(_) | Err(Error::AlreadyExists { .. })))
        );
        let names: Vec<_> = store.list(None).try_collect().await.expect("list");
        assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");
    }

    #[tokio::test]
    async fn a_directory_removed_behind_us_is_made_again() {
        let root = tempfile::tempdir().expect("directory");
        let store = open(root.path());
        for _ in 0..2 {
            store.put(&Path::from("a/b/c"), "x".into()).await.expect("put");
            fs::remove_dir_all(root.path().join("sales/a")).expect("remove");
        }
    }

    #[tokio::test]
    async fn a_multipart_upload_is_one_object() {
        let root = tempfile::tempdir().expect("directory");
        let store = open(root.path());
        let path = Path::from("x");
        let mut upload = store.put_multipart(&path).await.expect("starts");
        upload.put_part("ab".into()).await.expect("part");
        upload.put_part("cd".into()).await.expect("part");
        upload.complete().await.expect("completes");
        let read = store.get(&path).await.expect("get").bytes().await.expect("bytes");
        assert_eq!(read, "abcd".as_bytes());
    }
}
