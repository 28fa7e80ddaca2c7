//! Connecting, and the one demand on the deployment: it must run transactions.
//!
//! Owns: client options, the start-up check, the texts that tell a person how to meet it.
//! Does not own: authentication and TLS, which the URI configures. The URI's user info is never printed.

use std::time::Duration;

use bson::{Document, doc};
use mongodb::Client;
use mongodb::error::ErrorKind;
use mongodb::options::ClientOptions;

use super::abandoned::Mark;
use super::error::{CallError, call};
use crate::error::{Invariant, SinkError};

/// How long to look for a primary. An election takes up to ~12 s; the driver of the sink tries again, so a
/// shorter wait only makes an absent server visible sooner.
const SERVER_SELECTION_TIMEOUT: Duration = Duration::from_secs(5);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

const REPLICA_SET_HOWTO: &str = "start mongod with `--replSet rs0` and run `rs.initiate()` once in mongosh (one \
                                 member is enough), with `?replicaSet=rs0` in mongo.uri";

/// A client for `uri`; connects on first use. What the URI does not say is set for an ingestion. `mark`: of an owner.
pub(super) async fn client(uri: &str, mark: Option<&Mark>) -> Result<(Client, ClientOptions), SinkError> {
    let mut options = ClientOptions::parse(uri)
        .await
        .map_err(|error| unreadable(uri, &error))?;
    options.app_name.get_or_insert_with(|| "affluent".to_owned());
    options.driver_info = mark.map(Mark::driver_info);
    options.server_selection_timeout.get_or_insert(SERVER_SELECTION_TIMEOUT);
    options.connect_timeout.get_or_insert(CONNECT_TIMEOUT);
    let client = Client::with_options(options.clone()).map_err(|error| unreadable(uri, &error))?;
    Ok((client, options))
}

fn unreadable(uri: &str, error: &mongodb::error::Error) -> SinkError {
    // The driver quotes what it could not read, and around an `@` that may be a piece of a password.
    let why = if uri.contains('@') {
        "it holds user info, so the reason is not shown; are user name and password percent-encoded?".to_owned()
    } else {
        error.kind.to_string()
    };
    if matches!(*error.kind, ErrorKind::DnsResolve { .. }) {
        return SinkError::Infrastructure(anyhow::anyhow!("cannot resolve the hosts of mongo.uri: {why}"));
    }
    Invariant::new(format!("mongo.uri cannot be used: {why}"), "correct mongo.uri").into()
}

/// Refuses a deployment without transactions, and says how to fix it.
pub(super) async fn check(client: &Client, options: &ClientOptions) -> Result<(), SinkError> {
    let error = match hello(client).await {
        Ok(reply) => return judge(&reply, options.repl_set_name.as_deref()),
        Err(error) => error,
    };
    // A standalone server is no member of the replica set that the URI names, so the driver does not even
    // select it: ask each host directly before calling it absent.
    if error.is_server_selection() {
        for host in &options.hosts {
            let mut direct = options.clone();
            direct.hosts = vec![host.clone()];
            direct.direct_connection = Some(true);
            direct.repl_set_name = None;
            direct.server_selection_timeout = Some(Duration::from_secs(2));
            let Ok(client) = Client::with_options(direct) else {
                continue;
            };
            if let Ok(reply) = hello(&client).await {
                judge(&reply, options.repl_set_name.as_deref())?;
            }
        }
    }
    Err(error.classify("find a primary"))
}

async fn hello(client: &Client) -> Result<Document, CallError> {
    call(client.database("admin").run_command(doc! { "hello": 1 })).await
}

fn judge(reply: &Document, wanted_set: Option<&str>) -> Result<(), SinkError> {
    let set = reply.get_str("setName").ok();
    if reply.get_str("msg").is_ok_and(|msg| msg == "isdbgrid") {
        return Ok(());
    }
    if set.is_none() && reply.get_bool("isreplicaset").unwrap_or(false) {
        let what = "the mongodb server was started for a replica set that has not been initiated";
        return Err(Invariant::new(what, "run `rs.initiate()` once in mongosh, then start again").into());
    }
    match (set, wanted_set) {
        (None, _) => Err(Invariant::new(
            "the mongodb server is a standalone: it has no transactions, and exactly once needs them",
            REPLICA_SET_HOWTO,
        )
        .into()),
        (Some(set), Some(wanted)) if set != wanted => Err(Invariant::new(
            format!("the mongodb server belongs to replica set `{set}`, mongo.uri asks for `{wanted}`"),
            format!("write `replicaSet={set}` in mongo.uri, or name the right hosts"),
        )
        .into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stop(reply: Document, wanted: Option<&str>) -> Option<String> {
        judge(&reply, wanted).err().map(|error| error.to_string())
    }

    #[test]
    fn replica_sets_and_mongos_pass() {
        assert_eq!(stop(doc! { "setName": "rs0" }, Some("rs0")), None);
        assert_eq!(stop(doc! { "setName": "rs0" }, None), None);
        assert_eq!(stop(doc! { "msg": "isdbgrid" }, None), None);
    }

    #[test]
    fn anything_else_is_refused_with_the_way_out() {
        let standalone = stop(doc! { "isWritablePrimary": true }, Some("rs0")).expect("refused");
        assert!(
            standalone.contains("--replSet rs0") && standalone.contains("rs.initiate()"),
            "{standalone}"
        );
        let ghost = stop(doc! { "isreplicaset": true }, Some("rs0")).expect("refused");
        assert!(ghost.contains("rs.initiate()"), "{ghost}");
        let other = stop(doc! { "setName": "rs1" }, Some("rs0")).expect("refused");
        assert!(other.contains("replicaSet=rs1"), "{other}");
    }

    #[tokio::test]
    async fn no_piece_of_a_password_is_ever_printed() {
        for uri in [
            "mongodb://me:se:cret@/x@127.0.0.1/",
            "mongodb://me:secret@127.0.0.1:port/",
            "mongodb://me:secret@",
        ] {
            let Err(error) = client(uri, None).await else {
                panic!("{uri} was accepted")
            };
            assert!(!error.to_string().contains("cret"), "{error}");
        }
    }
}
