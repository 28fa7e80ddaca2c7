//! HDFS as an object store.
//!
//! Owns: how an object is written, since a file of HDFS can be seen while it grows:
//!
//! ```text
//!  temporary file beside it ─▶ close (every block at its replicas) ─▶ rename, over what is there or not
//! ```
//!
//! The NameNode decides a rename alone, so of several who create one object exactly one succeeds. What a crash leaves is a
//! temporary file (`.….tmp`; `.….tmp.<n>` of a file in parts, which the crate below writes): `is_temporary` knows both, so
//! that vacuum and the log's clean-up take them once they are old. What fails is removed at once.
//! Does not own: the protocol, name services and failover (`hdfs-native`, from `HADOOP_CONF_DIR`'s `core-site.xml` and
//! `hdfs-site.xml` or from `lake.storage`), reading (`hdfs-native-object-store`). Whether a DataNode syncs its disk when a
//! file is closed is the cluster's to say (`dfs.datanode.synconclose`).

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use anyhow::bail;
use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use hdfs_native::{Client, ClientBuilder, HdfsError, WriteOptions};
use hdfs_native_object_store::HdfsObjectStore;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, RenameOptions, Result,
};

/// Opens a name node or a name service; `options` are Hadoop's, by their usual names (`dfs.nameservices`, …).
pub(super) fn open(name_node: &str, options: &BTreeMap<String, String>) -> anyhow::Result<Arc<dyn ObjectStore>> {
    if let Some(strange) = options.keys().find(|name| !name.contains('.')) {
        bail!("lake.storage has no option {strange} for HDFS; Hadoop's are called like dfs.nameservices");
    }
    let client = ClientBuilder::new()
        .with_url(name_node)
        .with_config(options.iter().map(|(name, value)| (name.as_str(), value.as_str())))
        .build()?;
    Ok(Arc::new(Hdfs {
        inner: HdfsObjectStore::new(client.clone()),
        client,
    }))
}

#[derive(Debug)]
struct Hdfs {
    client: Client,
    inner: HdfsObjectStore,
}

impl Hdfs {
    /// The temporary file whole and closed, then the rename.
    async fn write(
        &self,
        temporary: &str,
        target: &str,
        payload: PutPayload,
        overwrite: bool,
    ) -> Result<(), HdfsError> {
        let mut file = self.client.create(temporary, WriteOptions::default()).await?;
        for chunk in payload {
            file.write(chunk).await?;
        }
        file.close().await?;
        self.client.rename(temporary, target, overwrite).await
    }
}

impl fmt::Display for Hdfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HDFS")
    }
}

#[async_trait]
impl ObjectStore for Hdfs {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let overwrite = match opts.mode {
            PutMode::Create => false,
            PutMode::Overwrite => true,
            PutMode::Update(_) => {
                return Err(Error::NotImplemented {
                    operation: "conditional update of an object".into(),
                    implementer: self.to_string(),
                });
            }
        };
        let (target, temporary) = (format!("/{location}"), temporary_name(location));
        let written = self.write(&temporary, &target, payload, overwrite).await;
        if let Err(error) = written {
            // Where it is gone already, or cannot be removed: an invisible file, whose going decides nothing.
            let _ = self.client.delete(&temporary, false).await;
            return Err(failed(&target, error));
        }
        Ok(PutResult {
            e_tag: None,
            version: None,
        })
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(location, opts).await
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

fn temporary_name(location: &Path) -> String {
    let name = location.filename().unwrap_or_default();
    let directory = location.as_ref().strip_suffix(name).unwrap_or_default();
    // A component has 255 bytes at most: the unique part must survive, the speaking part may not.
    let speaking: String = name.chars().take(40).collect();
    format!("/{directory}.{speaking}.{}.tmp", uuid::Uuid::new_v4().simple())
}

fn failed(path: &str, error: HdfsError) -> Error {
    let path = path.to_owned();
    match error {
        HdfsError::AlreadyExists(_) => Error::AlreadyExists {
            path,
            source: error.into(),
        },
        HdfsError::FileNotFound(_) => Error::NotFound {
            path,
            source: error.into(),
        },
        error => Error::Generic {
            store: "HDFS",
            source: error.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_file_lies_beside_its_target_and_is_invisible() {
        let name = temporary_name(&Path::from("lake/sales/_delta_log/00000000000000000007.json"));
        assert!(
            name.starts_with("/lake/sales/_delta_log/.00000000000000000007.json."),
            "{name}"
        );
        assert!(name.ends_with(".tmp"), "{name}");
        assert!(temporary_name(&Path::from("x")).starts_with("/.x."));
    }

    #[test]
    fn an_option_of_another_store_is_named() {
        let options = BTreeMap::from([("aws_region".to_owned(), "eu".to_owned())]);
        let error = open("hdfs://127.0.0.1:9000", &options).expect_err("no Hadoop option");
        assert!(error.to_string().contains("aws_region"), "{error}");
    }
}
