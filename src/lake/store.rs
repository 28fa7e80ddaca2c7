//! Where a table lies: resolves `lake.root` and a stream to an object store rooted at `<root>/<stream>/`.
//!
//! Owns: which roots this build understands, and durability on a local disk. `object_store`'s own local
//! store syncs nothing, so a power cut could keep a commit and lose the files it names. [`DurableLocal`]
//! writes every object in this order:
//!
//! ```text
//!  temporary file ─▶ fsync ─▶ rename (or hard link, where it must not exist) ─▶ fsync directory
//!                                                        and, once, every directory above it
//! ```
//!
//! A temporary name starts with a dot and ends in `.tmp`: Hadoop-style readers skip the dot, globs over
//! `*.parquet` and readers of `_delta_log` skip the ending, and maintenance still sees what a crash left.
//!
//! Does not own: names of files (`layout`), the log (`delta`).

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::path::{Path as FsPath, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result, UploadPart,
};
use url::Url;

/// The objects of one table.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    location: String,
}

impl Store {
    /// Opens `<root>/<stream>/` for writing; a missing directory is created. `options` are the store's own
    /// (credentials, endpoints); a local directory has none.
    pub fn open(root: &str, options: &BTreeMap<String, String>, stream: &str) -> anyhow::Result<Self> {
        let directory = resolve(root, options, stream)?;
        create_directory(&directory)
            .with_context(|| format!("create the table's directory {}", directory.display()))?;
        Self::local(&directory)
    }

    /// Opens the same place for reading: `None` where nothing has been written yet.
    pub fn open_existing(root: &str, options: &BTreeMap<String, String>, stream: &str) -> anyhow::Result<Option<Self>> {
        let directory = resolve(root, options, stream)?;
        match fs::metadata(&directory) {
            Ok(_) => Self::local(&directory).map(Some),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e).with_context(|| format!("open the table's directory {}", directory.display())),
        }
    }

    /// A store that is already there, for tests and for callers with a store of their own.
    pub fn from_objects(objects: Arc<dyn ObjectStore>, location: impl Into<String>) -> Self {
        Self {
            objects,
            location: location.into(),
        }
    }

    fn local(directory: &FsPath) -> anyhow::Result<Self> {
        let store = DurableLocal::new(directory)
            .with_context(|| format!("open the table's directory {}", directory.display()))?;
        Ok(Self::from_objects(Arc::new(store), directory.display().to_string()))
    }

    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// For people: where the table lies.
    pub fn location(&self) -> &str {
        &self.location
    }
}

/// The table's directory, absolute.
fn resolve(root: &str, options: &BTreeMap<String, String>, stream: &str) -> anyhow::Result<PathBuf> {
    if stream.is_empty() || stream == "." || stream == ".." || stream.contains(['/', '\\', '\0']) {
        bail!("stream name {stream:?} cannot name a directory below the lake root");
    }
    let base = match root.split_once("://") {
        None => PathBuf::from(root),
        Some(("file", _)) => Url::parse(root)
            .ok()
            .and_then(|url| url.to_file_path().ok())
            .with_context(|| format!("lake root {root:?} is no file URL of this machine (file:///directory)"))?,
        Some(_) => bail!(
            "lake root {} is not supported: this build writes to local directories only (a path or file://…)",
            without_user_info(root)
        ),
    };
    if base.as_os_str().is_empty() {
        bail!("lake root is empty; name a directory");
    }
    if !options.is_empty() {
        tracing::warn!(
            root,
            "lake.storage options have no meaning for a local directory and are not used"
        );
    }
    let base = std::path::absolute(&base).with_context(|| format!("make lake root {root:?} absolute"))?;
    Ok(base.join(stream))
}

/// User info in a URL is a secret wherever it is printed.
fn without_user_info(root: &str) -> String {
    let Ok(mut url) = Url::parse(root) else {
        return root.split_once("://").map_or("URL", |(scheme, _)| scheme).to_owned();
    };
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// `LocalFileSystem` whose writes survive a power cut once they have returned. Reads are delegated.
#[derive(Debug)]
struct DurableLocal {
    inner: LocalFileSystem,
    root: Arc<PathBuf>,
    /// Directories whose own entry is known to be on disk.
    known: Arc<Mutex<HashSet<PathBuf>>>,
}

/// Bound of the set of known directories: a table with years of dates would otherwise grow it for ever.
/// Forgetting costs a few superfluous syncs.
const MAX_KNOWN_DIRECTORIES: usize = 4096;

impl DurableLocal {
    fn new(root: &FsPath) -> Result<Self> {
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
        Ok(Box::new(DurableUpload {
            store: Self {
                inner: self.inner.clone(),
                root: Arc::clone(&self.root),
                known: Arc::clone(&self.known),
            },
            location: location.clone(),
            parts: Vec::new(),
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

/// Parts are kept in memory and written as one durable object: `object_store`'s own upload would rename
/// a file nobody has synced.
#[derive(Debug)]
struct DurableUpload {
    store: DurableLocal,
    location: Path,
    parts: Vec<PutPayload>,
}

#[async_trait]
impl MultipartUpload for DurableUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        self.parts.push(data);
        Box::pin(std::future::ready(Ok(())))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let whole: PutPayload = std::mem::take(&mut self.parts)
            .iter()
            .flat_map(|p| p.iter().cloned())
            .collect();
        self.store.put_opts(&self.location, whole, PutOptions::default()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.parts.clear();
        Ok(())
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
fn create_directory(directory: &FsPath) -> io::Result<()> {
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

    fn open(root: &FsPath) -> Store {
        Store::open(root.to_str().expect("UTF-8"), &BTreeMap::new(), "sales").expect("opens")
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
        store.objects().put(&path, "hello".into()).await.expect("put");
        let read = store
            .objects()
            .get(&path)
            .await
            .expect("get")
            .bytes()
            .await
            .expect("bytes");
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
            let (objects, path) = (Arc::clone(store.objects()), path.clone());
            async move { objects.put_opts(&path, format!("{n}").into(), create()).await }
        });
        let outcomes = futures::future::join_all(puts).await;
        assert_eq!(outcomes.iter().filter(|o| o.is_ok()).count(), 1);
        assert!(
            outcomes
                .iter()
                .all(|o| matches!(o, Ok(_) | Err(Error::AlreadyExists { .. })))
        );
        let names: Vec<_> = store.objects().list(None).try_collect().await.expect("list");
        assert_eq!(names.len(), 1, "no temporary file is left: {names:?}");
    }

    #[tokio::test]
    async fn a_directory_removed_behind_us_is_made_again() {
        let root = tempfile::tempdir().expect("directory");
        let store = open(root.path());
        for _ in 0..2 {
            store
                .objects()
                .put(&Path::from("a/b/c"), "x".into())
                .await
                .expect("put");
            fs::remove_dir_all(root.path().join("sales/a")).expect("remove");
        }
    }

    #[tokio::test]
    async fn a_multipart_upload_is_one_object() {
        let root = tempfile::tempdir().expect("directory");
        let store = open(root.path());
        let path = Path::from("x");
        let mut upload = store.objects().put_multipart(&path).await.expect("starts");
        upload.put_part("ab".into()).await.expect("part");
        upload.put_part("cd".into()).await.expect("part");
        upload.complete().await.expect("completes");
        let read = store
            .objects()
            .get(&path)
            .await
            .expect("get")
            .bytes()
            .await
            .expect("bytes");
        assert_eq!(read, "abcd".as_bytes());
    }

    #[test]
    fn a_root_this_build_cannot_write_is_named_without_its_secrets() {
        let error = Store::open("s3://key:hunter2@bucket/lake", &BTreeMap::new(), "sales").expect_err("refused");
        let text = format!("{error:#}");
        assert!(
            text.contains("s3://") && text.contains("local directories only"),
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_stream_name_cannot_leave_the_root() {
        for name in ["", ".", "..", "a/b", "../x"] {
            assert!(Store::open("lake", &BTreeMap::new(), name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn reading_creates_nothing() {
        let root = tempfile::tempdir().expect("directory");
        let path = root.path().join("lake");
        let found = Store::open_existing(path.to_str().expect("UTF-8"), &BTreeMap::new(), "sales").expect("reads");
        assert!(found.is_none() && !path.exists());
    }

    #[test]
    fn a_file_url_names_the_same_directory_as_its_path() {
        let options = BTreeMap::new();
        assert_eq!(
            resolve("file:///srv/the%20lake", &options, "s").expect("resolves"),
            resolve("/srv/the lake", &options, "s").expect("resolves")
        );
    }
}
