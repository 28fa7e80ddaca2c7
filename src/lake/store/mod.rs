//! Where a table lies: resolves `lake.root` and a stream to an object store rooted at `<root>/<stream>/`.
//!
//! | root                                   | store                         | create if absent is              |
//! |----------------------------------------|-------------------------------|----------------------------------|
//! | a directory, `file:///…`               | `local`                       | a hard link                      |
//! | `s3://bucket/prefix` (also `s3a://`)   | `s3`                          | a conditional PUT, proved first  |
//! | `hdfs://host:port/path`, `hdfs://name service/path` | `hdfs`           | a rename that does not overwrite |
//!
//! Owns: which roots there are; what every one of them has to promise: a successful `put` is durable, of several who
//! create one object exactly one succeeds, and what is listed or read is what was last written.
//! Does not own: names of files (`layout`), the log (`delta`).

mod hdfs;
mod local;
mod s3;

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::mem;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, bail};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{Error, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, PutPayloadMut};
use tokio::task::JoinSet;
use url::Url;

use self::local::DurableLocal;
use crate::error::SinkError;

/// A larger object is sent to a remote store in parts, several at a time: one lost connection then costs a part, and no
/// request outlives its timeout.
const IN_ONE_REQUEST: usize = 16 << 20;
const PART: usize = 8 << 20;
const PARTS_IN_FLIGHT: usize = 4;

/// Where short-lived objects lie that ask a store about itself.
const PROBES: &str = "_affluent_probe";

/// Is it the name of a file on its way, which a writer leaves behind when it dies?
pub fn is_temporary(name: &str) -> bool {
    let numbered = || {
        let (_, number) = name.rsplit_once(".tmp.")?;
        Some(!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    name.starts_with('.') && (name.ends_with(".tmp") || numbered().unwrap_or_default())
}

/// The objects of one table.
#[derive(Clone, Debug)]
pub struct Store {
    objects: Arc<dyn ObjectStore>,
    location: String,
    is_bucket: bool,
}

impl Store {
    /// Opens `<root>/<stream>/` for writing: a missing directory is created, and a store whose promise is not certain has
    /// to prove it. `options` are the store's own (credentials, endpoints); a local directory has none.
    pub async fn open(root: &str, options: &BTreeMap<String, String>, stream: &str) -> Result<Self, SinkError> {
        let place = Place::resolve(root, stream).map_err(SinkError::Infrastructure)?;
        if let Place::Directory(directory) = &place {
            local::create_directory(directory)
                .with_context(|| format!("create the table's directory {}", directory.display()))
                .map_err(SinkError::Infrastructure)?;
        }
        let store = Self::at(&place, options).map_err(SinkError::Infrastructure)?;
        store.prove_exclusive().await?;
        Ok(store)
    }

    /// Makes sure that of several who create one object only one succeeds, where that is no matter of course. Before the
    /// first commit to a store that was opened for reading.
    pub async fn prove_exclusive(&self) -> Result<(), SinkError> {
        if self.is_bucket {
            s3::prove_conditional_put(self).await?;
        }
        Ok(())
    }

    /// Opens the same place for reading: `None` where it is certain that nothing has been written yet.
    pub fn open_existing(root: &str, options: &BTreeMap<String, String>, stream: &str) -> anyhow::Result<Option<Self>> {
        let place = Place::resolve(root, stream)?;
        if let Place::Directory(directory) = &place {
            match fs::metadata(directory) {
                Ok(_) => {}
                Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
                Err(e) => return Err(e).with_context(|| format!("open the table's directory {}", directory.display())),
            }
        }
        Self::at(&place, options).map(Some)
    }

    /// A store that is already there, for tests and for callers with a store of their own.
    pub fn from_objects(objects: Arc<dyn ObjectStore>, location: impl Into<String>) -> Self {
        Self {
            objects,
            location: location.into(),
            is_bucket: false,
        }
    }

    fn at(place: &Place, options: &BTreeMap<String, String>) -> anyhow::Result<Self> {
        let location = place.to_string();
        Ok(match place {
            Place::Directory(directory) => {
                warn_of_useless(options, &location);
                let store =
                    DurableLocal::open(directory).with_context(|| format!("open the table's directory {location}"))?;
                Self::from_objects(Arc::new(store), location)
            }
            Place::Bucket { bucket, prefix } => {
                let store = s3::open(bucket, options).with_context(|| format!("open the bucket {bucket}"))?;
                Self {
                    is_bucket: true,
                    ..Self::from_objects(Arc::new(PrefixStore::new(store, prefix.clone())), location)
                }
            }
            Place::Hdfs { name_node, directory } => {
                let store = hdfs::open(name_node, options).with_context(|| format!("open {name_node}"))?;
                Self::from_objects(Arc::new(PrefixStore::new(store, directory.clone())), location)
            }
        })
    }

    /// Stores a data file: durable once this returns, absent or whole whatever happens.
    pub async fn put_file(&self, path: &Path, payload: PutPayload) -> object_store::Result<()> {
        if !self.is_bucket || payload.content_length() <= IN_ONE_REQUEST {
            return self.objects.put(path, payload).await.map(drop);
        }
        let mut file = self.start_file(path).await?;
        for chunk in payload {
            file.write(chunk).await?;
        }
        file.finish().await
    }

    /// Stores a data file that is not known whole yet; nothing of it can be seen before `finish`.
    pub async fn start_file(&self, path: &Path) -> object_store::Result<FileUpload> {
        Ok(FileUpload {
            upload: self.objects.put_multipart(path).await?,
            part: PutPayloadMut::new(),
            running: JoinSet::new(),
        })
    }

    /// Now, by the clock that dates objects: a machine whose own clock is wrong must not take young files for old ones.
    pub async fn clock(&self) -> anyhow::Result<DateTime<Utc>> {
        let probe = Path::from(format!("{PROBES}/{}", uuid::Uuid::new_v4().simple()));
        let asked = || format!("ask for the time at {}", self.location);
        self.objects
            .put(&probe, PutPayload::from_static(b"now"))
            .await
            .with_context(asked)?;
        let found = self.objects.head(&probe).await;
        let deleted = self.objects.delete(&probe).await;
        let now = found.with_context(asked)?.last_modified;
        deleted.with_context(asked)?;
        Ok(now)
    }

    pub fn objects(&self) -> &Arc<dyn ObjectStore> {
        &self.objects
    }

    /// For people: where the table lies.
    pub fn location(&self) -> &str {
        &self.location
    }
}

/// A file on its way in parts, several at a time; at most [`PARTS_IN_FLIGHT`] and one of them are held.
#[derive(Debug)]
pub struct FileUpload {
    upload: Box<dyn MultipartUpload>,
    part: PutPayloadMut,
    running: JoinSet<object_store::Result<()>>,
}

impl FileUpload {
    /// Takes the next bytes; waits while too much is on its way. After an error the upload is over.
    pub async fn write(&mut self, mut bytes: Bytes) -> object_store::Result<()> {
        while !bytes.is_empty() {
            let room = PART - self.part.content_length();
            self.part.push(bytes.split_to(room.min(bytes.len())));
            if self.part.content_length() == PART {
                self.send();
                let outcome = self.wait_until_running(PARTS_IN_FLIGHT).await;
                self.or_abort(outcome).await?;
            }
        }
        Ok(())
    }

    pub async fn finish(mut self) -> object_store::Result<()> {
        if !self.part.is_empty() {
            self.send();
        }
        let mut outcome = self.wait_until_running(0).await;
        if outcome.is_ok() {
            outcome = self.upload.complete().await.map(drop);
        }
        self.or_abort(outcome).await
    }

    /// Nothing of it is kept.
    pub async fn abort(mut self) {
        self.give_up().await;
    }

    fn send(&mut self) {
        let part = mem::take(&mut self.part);
        self.running.spawn(self.upload.put_part(part.into()));
    }

    async fn wait_until_running(&mut self, most: usize) -> object_store::Result<()> {
        while self.running.len() > most {
            match self.running.join_next().await {
                Some(sent) => sent.map_err(|error| Error::JoinError { source: error })??,
                None => break,
            }
        }
        Ok(())
    }

    async fn or_abort(&mut self, outcome: object_store::Result<()>) -> object_store::Result<()> {
        if outcome.is_err() {
            self.give_up().await;
        }
        outcome
    }

    async fn give_up(&mut self) {
        self.running.shutdown().await;
        // Where even this fails, parts of a bucket stay until a life-cycle rule ends them.
        let _ = self.upload.abort().await;
    }
}

/// A table's place, by the kind of store.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// Absolute.
    Directory(PathBuf),
    Bucket {
        bucket: String,
        prefix: Path,
    },
    Hdfs {
        /// `hdfs://host:port` or `hdfs://name service`.
        name_node: String,
        directory: Path,
    },
}

impl Place {
    fn resolve(root: &str, stream: &str) -> anyhow::Result<Self> {
        if stream.is_empty() || stream == "." || stream == ".." || stream.contains(['/', '\\', '\0']) {
            bail!("stream name {stream:?} cannot name a directory below the lake root");
        }
        if !root.contains("://") {
            return Self::directory(PathBuf::from(root), stream);
        }
        let url = Url::parse(root).with_context(|| format!("lake root {} is no URL", without_user_info(root)))?;
        let below = || -> anyhow::Result<Path> {
            let prefix =
                Path::from_url_path(url.path()).with_context(|| format!("lake root {root:?} has an unusable path"))?;
            Ok(prefix.join(stream))
        };
        match (url.scheme(), url.host_str()) {
            ("file", _) => {
                let directory = url.to_file_path();
                let wanted = || format!("lake root {root:?} is no file URL of this machine (file:///directory)");
                Self::directory(directory.ok().with_context(wanted)?, stream)
            }
            ("s3" | "s3a", Some(bucket)) => Ok(Self::Bucket {
                bucket: bucket.to_owned(),
                prefix: below()?,
            }),
            ("hdfs", Some(host)) => Ok(Self::Hdfs {
                name_node: match url.port() {
                    Some(port) => format!("hdfs://{host}:{port}"),
                    None => format!("hdfs://{host}"),
                },
                directory: below()?,
            }),
            _ => bail!(
                "lake root {} is not supported: a directory, file:///…, s3://bucket/prefix or hdfs://host:port/path",
                without_user_info(root)
            ),
        }
    }

    fn directory(base: PathBuf, stream: &str) -> anyhow::Result<Self> {
        if base.as_os_str().is_empty() {
            bail!("lake root is empty; name a directory");
        }
        let absolute =
            std::path::absolute(&base).with_context(|| format!("make lake root {} absolute", base.display()))?;
        Ok(Self::Directory(absolute.join(stream)))
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(directory) => directory.display().fmt(f),
            Self::Bucket { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
            Self::Hdfs { name_node, directory } => write!(f, "{name_node}/{directory}"),
        }
    }
}

fn warn_of_useless(options: &BTreeMap<String, String>, location: &str) {
    if !options.is_empty() {
        tracing::warn!(
            location,
            "lake.storage options have no meaning for a local directory and are not used"
        );
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(root: &str) -> anyhow::Result<Place> {
        Place::resolve(root, "sales")
    }

    #[test]
    fn every_kind_of_root_is_told_apart() {
        let below = |path: &str| Path::parse(path).expect("valid");
        assert_eq!(
            resolve("/srv/lake").expect("resolves"),
            Place::Directory("/srv/lake/sales".into())
        );
        for (root, prefix) in [
            ("s3://bucket", "sales"),
            ("s3://bucket/", "sales"),
            ("s3a://bucket/a/b/", "a/b/sales"),
        ] {
            let bucket = "bucket".to_owned();
            assert_eq!(
                resolve(root).expect("resolves"),
                Place::Bucket {
                    bucket,
                    prefix: below(prefix)
                },
                "{root}"
            );
        }
        for (root, name_node) in [
            ("hdfs://127.0.0.1:9000/lake", "hdfs://127.0.0.1:9000"),
            ("hdfs://production/lake", "hdfs://production"),
        ] {
            let name_node = name_node.to_owned();
            let directory = below("lake/sales");
            assert_eq!(
                resolve(root).expect("resolves"),
                Place::Hdfs { name_node, directory },
                "{root}"
            );
        }
    }

    #[test]
    fn a_root_we_cannot_write_is_named_without_its_secrets() {
        let text = format!("{:#}", resolve("gs://key:hunter2@bucket/lake").expect_err("refused"));
        assert!(text.contains("gs://bucket/lake") && text.contains("s3://"), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    #[test]
    fn a_stream_name_cannot_leave_the_root() {
        for name in ["", ".", "..", "a/b", "../x"] {
            assert!(Place::resolve("lake", name).is_err(), "{name:?}");
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
        assert_eq!(
            resolve("file:///srv/the%20lake").expect("resolves"),
            resolve("/srv/the lake").expect("resolves")
        );
    }
}
