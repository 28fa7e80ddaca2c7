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

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{anyhow, bail};
use futures::future::join_all;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path;
use object_store::{ClientConfigKey, Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig};

use super::{PROBES, Store};
use crate::error::{Invariant, SinkError};

/// The caller holds and tries again for as long as it takes, and says so; in here a request is repeated only so often
/// that a lost connection does not show.
const RETRIES: usize = 3;
const RETRY_FOR: Duration = Duration::from_secs(30);
/// Creators of one object in the proof.
const RACERS: usize = 8;

/// What belongs together: of two sources they would be nobody's key.
const KEY: [AmazonS3ConfigKey; 3] = [
    AmazonS3ConfigKey::AccessKeyId,
    AmazonS3ConfigKey::SecretAccessKey,
    AmazonS3ConfigKey::Token,
];

type Options = HashMap<AmazonS3ConfigKey, String>;

/// Opens a bucket with `lake.storage`'s options, by their usual names (`aws_endpoint`, `aws_access_key_id`, …).
pub(super) fn open(bucket: &str, options: &BTreeMap<String, String>) -> anyhow::Result<Arc<dyn ObjectStore>> {
    let given = options.iter().map(|(name, value)| {
        let key = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>();
        let key = key.map_err(|_| anyhow!("lake.storage has no option {name} for S3"))?;
        Ok((key, value.clone()))
    });
    let mut all = given.collect::<anyhow::Result<Options>>()?;
    let variables =
        std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
    add(&mut all, environment(variables), "lake.storage")?;
    if !KEY.iter().any(|key| all.contains_key(key)) && !has_identity(&all) {
        let profile = profile::read()?.map(of_profile).unwrap_or_default();
        add(&mut all, profile, "the environment")?;
    }
    whole_key(&all, "the profile")?;
    let with = |builder: AmazonS3Builder, (key, value)| builder.with_config(key, value);
    let mut builder = all
        .into_iter()
        .fold(AmazonS3Builder::new(), with)
        .with_bucket_name(bucket);
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

/// Adds what a later source says and no earlier one did; of a key all parts or none. `before`: the source that has had its
/// say.
fn add(all: &mut Options, more: Options, before: &str) -> anyhow::Result<()> {
    whole_key(all, before)?;
    let has_key = KEY.iter().any(|key| all.contains_key(key));
    for (key, value) in more {
        if !(has_key && KEY.contains(&key)) {
            all.entry(key).or_insert(value);
        }
    }
    Ok(())
}

fn whole_key(all: &Options, source: &str) -> anyhow::Result<()> {
    let has = |key: &AmazonS3ConfigKey| all.contains_key(key);
    match (
        has(&AmazonS3ConfigKey::AccessKeyId),
        has(&AmazonS3ConfigKey::SecretAccessKey),
    ) {
        (true, false) => bail!("{source} gives an access key id without its secret: set aws_secret_access_key too"),
        (false, true) => bail!("{source} gives a secret access key without its id: set aws_access_key_id too"),
        (false, false) if has(&AmazonS3ConfigKey::Token) => bail!("{source} gives a session token without a key"),
        _ => Ok(()),
    }
}

fn environment(variables: impl Iterator<Item = (String, String)>) -> Options {
    let of_aws = variables.filter(|(name, value)| name.starts_with("AWS_") && !value.is_empty());
    let known = of_aws.filter_map(|(name, value)| Some((name.to_ascii_lowercase().parse().ok()?, value)));
    known.collect()
}

/// What is asked for credentials by itself, before the instance.
fn has_identity(options: &Options) -> bool {
    [
        AmazonS3ConfigKey::WebIdentityTokenFile,
        AmazonS3ConfigKey::ContainerCredentialsRelativeUri,
        AmazonS3ConfigKey::ContainerCredentialsFullUri,
        AmazonS3ConfigKey::SkipSignature,
    ]
    .iter()
    .any(|key| options.contains_key(key))
}

fn of_profile(profile: profile::Profile) -> Options {
    let values = [
        (AmazonS3ConfigKey::AccessKeyId, profile.access_key_id),
        (AmazonS3ConfigKey::SecretAccessKey, profile.secret_access_key),
        (AmazonS3ConfigKey::Token, profile.session_token),
        (AmazonS3ConfigKey::Region, profile.region),
        (AmazonS3ConfigKey::Endpoint, profile.endpoint_url),
    ];
    values
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect()
}

/// Makes sure that of several who create one object at once exactly one succeeds, and none after it, here, in the
/// table's own place; and that what can be read then is what the winner wrote.
pub(super) async fn prove_conditional_put(store: &Store) -> Result<(), SinkError> {
    let objects = store.objects();
    let path = Path::from_iter([PROBES.to_owned(), uuid::Uuid::new_v4().simple().to_string()]);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn options(given: &[(&str, &str)]) -> Options {
        let parsed = given
            .iter()
            .map(|(name, value)| (name.parse().expect("an option"), (*value).to_owned()));
        parsed.collect()
    }

    #[test]
    fn a_key_comes_from_one_source_whole_and_the_rest_from_the_first_that_says_it() {
        let mut all = options(&[("aws_access_key_id", "ours"), ("aws_secret_access_key", "s")]);
        let variables = [
            ("AWS_ACCESS_KEY_ID", "theirs"),
            ("AWS_SESSION_TOKEN", "theirs"),
            ("AWS_REGION", "eu-west-3"),
            ("AWS_PAGER", "less"),
            ("HOME", "/"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        add(&mut all, environment(variables.into_iter()), "lake.storage").expect("whole");
        let expected = options(&[
            ("aws_access_key_id", "ours"),
            ("aws_secret_access_key", "s"),
            ("aws_region", "eu-west-3"),
        ]);
        assert_eq!(all, expected);
    }

    #[test]
    fn half_a_key_is_refused_and_its_source_named() {
        for (half, missing) in [
            ("aws_access_key_id", "aws_secret_access_key"),
            ("aws_secret_access_key", "aws_access_key_id"),
            ("aws_session_token", "a key"),
        ] {
            let error = add(&mut options(&[(half, "x")]), Options::new(), "lake.storage").expect_err(half);
            let text = error.to_string();
            assert!(text.contains("lake.storage") && text.contains(missing), "{text}");
        }
    }
}
