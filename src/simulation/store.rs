//! The object store as one owner reaches it: every request goes over the wire of the simulation.
//!
//! Owns: what each outcome looks like to a client of a store. The other faulty store of the tests
//! (`lake::delta::tests::faulty`) is told its faults one by one; this one leaves them to the dice.
//! Does not own: the objects (`lake`).

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::operation::{Operation, Outcome};
use super::world::{OwnerId, World};
use crate::lake::delta::names::{LOG, commit_path};

#[derive(Clone)]
pub(super) struct SimulatedStore {
    pub world: World,
    pub owner: OwnerId,
}

fn broken(what: &'static str) -> Error {
    Error::Generic {
        store: "simulated",
        source: what.into(),
    }
}

/// The error that goes with an outcome.
fn error(outcome: Outcome, path: &Path) -> Error {
    match outcome {
        Outcome::Refused => Error::PermissionDenied {
            path: path.to_string(),
            source: "403".into(),
        },
        Outcome::Repeated => Error::AlreadyExists {
            path: path.to_string(),
            source: "412".into(),
        },
        Outcome::Delayed => broken("timed out"),
        _ => broken("connection reset"),
    }
}

fn operation_of(path: &Path, payload: &PutPayload) -> Operation {
    if !path.as_ref().starts_with(LOG) {
        return Operation::LakeFile;
    }
    let body = Bytes::from(payload.clone());
    if *path == commit_path(0) {
        Operation::LakeCreate
    } else if String::from_utf8_lossy(&body).contains("STREAMING START") {
        Operation::LakeAdopt
    } else {
        Operation::LakeCommit
    }
}

impl fmt::Debug for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimulatedStore")
    }
}

impl fmt::Display for SimulatedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated")
    }
}

#[async_trait]
impl ObjectStore for SimulatedStore {
    async fn put_opts(&self, location: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let operation = operation_of(location, &payload);
        let path = location.clone();
        let put = self.world.ask(self.owner, operation, move |services, outcome, _| {
            if outcome == Outcome::Refused {
                return Err(error(outcome, &path));
            }
            services.lake.put(&path, payload, options)
        });
        match put.await {
            (Outcome::Done | Outcome::Refused, Some(answer)) => answer,
            // Somebody else's object: the first try found it already.
            (Outcome::Repeated, Some(Err(answer))) => Err(answer),
            (outcome, _) => Err(error(outcome, location)),
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let path = location.clone();
        let get = self
            .world
            .ask(self.owner, Operation::LakeRead, move |services, outcome, _| {
                if outcome == Outcome::Refused {
                    return Err(error(outcome, &path));
                }
                let objects = &services.lake.objects;
                objects
                    .get_opts(&path, options)
                    .now_or_never()
                    .expect("memory does not wait")
            });
        match get.await {
            (_, Some(answer)) => answer,
            (outcome, None) => Err(error(outcome, location)),
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (store, prefix) = (self.clone(), prefix.cloned());
        let listed = async move {
            let root = Path::default();
            let list = store
                .world
                .ask(store.owner, Operation::LakeList, move |services, outcome, _| {
                    if outcome == Outcome::Refused {
                        return Err(error(outcome, &Path::default()));
                    }
                    let objects = services.lake.objects.list(prefix.as_ref());
                    objects.try_collect().now_or_never().expect("memory does not wait")
                });
            let found: Result<Vec<ObjectMeta>> = match list.await {
                (_, Some(answer)) => answer,
                (outcome, None) => Err(error(outcome, &root)),
            };
            found.map(|objects| stream::iter(objects).map(Ok))
        };
        stream::once(listed).try_flatten().boxed()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented {
            operation: "multipart".into(),
            implementer: self.to_string(),
        })
    }

    fn delete_stream(&self, _: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.world.violate("a sink deletes objects".to_owned());
        stream::empty().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(Error::NotImplemented {
            operation: "list by directory".into(),
            implementer: self.to_string(),
        })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented {
            operation: "copy".into(),
            implementer: self.to_string(),
        })
    }
}
