//! A bucket of S3, or of a store that speaks its protocol.
//!
//! Owns: where credentials come from, in this order:
//!
//! ```text
//!  lake.storage ─▶ environment (AWS_…) ─▶ profile (~/.aws) ─▶ web identity, container or instance metadata
//! ```
//!
//! and the proof that the store honours `If-None-Match: *`. A store that ignores it would let two instances both write
//! one version of the table, and the loser's rows would be lost without a word.
//! Does not own: the protocol (`object_store`), signing, retries of a single request.

mod profile;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures::future::join_all;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{ClientConfigKey, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig};

use super::Store;
use crate::error::{Invariant, SinkError};

/// The caller holds and tries again for as long as it takes, and says so; in here a request is repeated only so often
/// that a lost connection does not show.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(30);
/// Creators of one object in the proof.
const RACERS: usize = 8;
/// A folder that no reader of the table looks into: its name begins with an underscore.
const PROOF: &str = "_affluent_probe";

/// Opens a bucket with `lake.storage`'s options, by their usual names (`aws_endpoint`, `aws_access_key_id`, …).
pub(super) fn open(bucket: &str, options: &BTreeMap<String, String>) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let mut builder = AmazonS3Builder::from_env().with_bucket_name(bucket);
    for (name, value) in options {
        let key = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
        let key = key.map_err(|_| anyhow!("lake.storage has no option {name} for S3"))?;
        builder = builder.with_config(key, value);
    }
    let given = |builder: &AmazonS3Builder, key: AmazonS3ConfigKey| builder.get_config_value(&key).is_some();
    if !given(&builder, AmazonS3ConfigKey::AccessKeyId) && !has_identity(&builder) {
        builder = with_profile(builder)?;
    }
    match (
        given(&builder, AmazonS3ConfigKey::AccessKeyId),
        given(&builder, AmazonS3ConfigKey::SecretAccessKey),
    ) {
        (true, false) => bail!("an access key id is given without its secret: set aws_secret_access_key too"),
        (false, true) => bail!("a secret access key is given without its id: set aws_access_key_id too"),
        _ => {}
    }
    // Whoever writes http:// means it.
    let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
    if endpoint.is_some_and(|endpoint| endpoint.starts_with("http://")) {
        builder = builder.with_config(AmazonS3ConfigKey::Client(ClientConfigKey::AllowHttp), "true");
    }
    let retry = RetryConfig {
        max_retries: RETRIES,
        retry_timeout: RETRY_FOR,
        ..RetryConfig::default()
    };
    Ok(Arc::new(builder.with_retry(retry).build()?))
}

/// What is asked for credentials by itself, before the instance.
fn has_identity(builder: &AmazonS3Builder) -> bool {
    [
        AmazonS3ConfigKey::WebIdentityTokenFile,
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
        AmazonS3ConfigKey::SkipSignature,
    ]
    .iter()
    .any(|key| builder.get_config_value(key).is_some())
}

fn with_profile(mut builder: AmazonS3Builder) -> anyhow::Result<AmazonS3Builder> {
    let Some(profile) = profile::read()? else {
        return Ok(builder);
    };
    for (key, value) in [
        (AmazonS3ConfigKey::AccessKeyId, profile.access_key_id),
        (AmazonS3ConfigKey::SecretAccessKey, profile.secret_access_key),
        (AmazonS3ConfigKey::Token, profile.session_token),
        (AmazonS3ConfigKey::Region, profile.region),
        (AmazonS3ConfigKey::Endpoint, profile.endpoint_url),
    ] {
        if let Some(value) = value.filter(|_| builder.get_config_value(&key).is_none()) {
            builder = builder.with_config(key, value);
        }
    }
    Ok(builder)
}

/// Makes sure that of several who create one object at once exactly one succeeds, and none after it, here, in the
/// table's own place; and that what can be read then is what the winner wrote.
pub(super) async fn prove_conditional_put(store: &Store) -> Result<(), SinkError> {
    let objects = store.objects();
    let path = Path::from_iter([PROOF.to_owned(), uuid::Uuid::new_v4().simple().to_string()]);
    let outcome = prove(objects.as_ref(), &path, store.location()).await;
    // An object of a few bytes that nobody looks at, if it cannot be deleted now.
    let _ = objects.delete(&path).await;
    outcome
}

async fn prove(objects: &dyn ObjectStore, path: &Path, location: &str) -> Result<(), SinkError> {
    let create = |name: usize| async move {
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        objects.put_opts(path, name.to_string().into(), options).await
    };
    let failed = |error: Error| {
        let error = anyhow::Error::new(error).context(format!("try a conditional PUT at {location}"));
        SinkError::Infrastructure(error)
    };
    let racing = join_all((0..RACERS).map(create)).await;
    let mut winners = Vec::new();
    for (name, outcome) in racing.into_iter().enumerate() {
        match outcome {
            Ok(_) => winners.push(name),
            Err(Error::AlreadyExists { .. }) => {}
            Err(error) if is_refusal(&error) => return Err(refused(location, &format!("it answers {error}"))),
            Err(error) => return Err(failed(error)),
        }
    }
    match create(RACERS).await {
        Ok(_) => return Err(refused(location, "it wrote over an object that was there")),
        Err(Error::AlreadyExists { .. }) => {}
        Err(error) => return Err(failed(error)),
    }
    let read = async { objects.get(path).await?.bytes().await }.await.map_err(failed)?;
    match winners.as_slice() {
        // Its reply was lost and the request repeated: the store did keep its word, to one of them.
        [] => Ok(()),
        [winner] if read == winner.to_string() => Ok(()),
        [winner] => Err(refused(
            location,
            &format!(
                "writer {winner} was told that it won, and {} can be read",
                String::from_utf8_lossy(&read)
            ),
        )),
        several => Err(refused(
            location,
            &format!("of {RACERS} who created one object at once {} succeeded", several.len()),
        )),
    }
}

/// The server does not know the header, and says so.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::NotImplemented { .. }) || error.to_string().contains("501 Not Implemented")
}

fn refused(location: &str, what: &str) -> SinkError {
    Invariant::new(
        format!(
            "the store at {location} does not honour `If-None-Match: *` ({what}), so it cannot keep two writers apart"
        ),
        "use a store that does (AWS S3, MinIO, Ceph from Squid on, Cloudflare R2), a local directory, or HDFS",
    )
    .into()
}
