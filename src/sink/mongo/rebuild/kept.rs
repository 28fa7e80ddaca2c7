//! A collection that is dropped and made anew: what of it stays.
//!
//! Owns: options and indexes, also those that people have added; and the new collection's identity, by which a second drop
//! is noticed.
//! Does not own: which collections, and when (`rebuild`).

use bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};

use super::{documents_of, raw, written};
use crate::error::{Invariant, SinkError};
use crate::sink::mongo::deployment::Deployment;

const NAMESPACE_EXISTS: i32 = 48;
const NAMESPACE_NOT_FOUND: i32 = 26;
/// Of dropping and creating one collection.
const TRIES: usize = 5;

/// A collection as it was before it was dropped.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub name: String,
    options: Document,
    indexes: Vec<Document>,
    /// Of the collection made anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<Bson>,
}

impl Kept {
    /// One that is not there yet.
    pub fn plain(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            options: Document::new(),
            indexes: Vec::new(),
            uuid: None,
        }
    }

    /// The collection's options and indexes; `None` where there is none.
    pub async fn of(deployment: &impl Deployment, name: &str) -> Result<Option<Self>, SinkError> {
        let Some(listed) = listed(deployment, name).await? else {
            return Ok(None);
        };
        let command = doc! { "listIndexes": name, "cursor": { "batchSize": 1000 } };
        let reply = deployment.run(raw(&command)).await;
        let reply = reply.map_err(|e| e.classify(format!("list the indexes of {name}")))?;
        let mut indexes = documents_of(&reply);
        indexes.retain(|index| index.get_str("name").ok() != Some("_id_"));
        for index in &mut indexes {
            index.remove("ns");
        }
        Ok(Some(Self {
            name: name.to_owned(),
            options: listed.get_document("options").cloned().unwrap_or_default(),
            indexes,
            uuid: None,
        }))
    }

    pub fn forget_expiry(&mut self) {
        self.indexes.retain(|index| !index.contains_key("expireAfterSeconds"));
    }

    pub async fn make_anew(&mut self, deployment: &impl Deployment) -> Result<(), SinkError> {
        // An insert that was on its way may bring the collection back, without its options.
        for _ in 0..TRIES {
            self.drop(deployment).await?;
            if create(deployment, &self.name, &self.options).await? {
                self.uuid = uuid_of(deployment, &self.name).await?;
                return self.create_indexes(deployment).await;
            }
        }
        Err(SinkError::Infrastructure(anyhow::anyhow!(
            "the collection {} comes back whenever it is dropped: something writes into it",
            self.name
        )))
    }

    async fn drop(&self, deployment: &impl Deployment) -> Result<(), SinkError> {
        match deployment.run(raw(&doc! { "drop": &self.name })).await {
            Err(error) if error.code() != Some(NAMESPACE_NOT_FOUND) => {
                Err(error.classify(format!("drop the collection {}", self.name)))
            }
            _ => Ok(()),
        }
    }

    async fn create_indexes(&self, deployment: &impl Deployment) -> Result<(), SinkError> {
        if self.indexes.is_empty() {
            return Ok(());
        }
        let indexes: Vec<Bson> = self.indexes.iter().cloned().map(Bson::Document).collect();
        let command = doc! { "createIndexes": &self.name, "indexes": indexes };
        let attempted = format!("create the indexes of {}", self.name);
        written(deployment, &command, attempted).await.map(drop)
    }

    /// Is the collection still the one that was made?
    pub async fn check(&self, deployment: &impl Deployment) -> Result<(), SinkError> {
        if uuid_of(deployment, &self.name).await? == self.uuid {
            return Ok(());
        }
        Err(Invariant::new(
            format!(
                "the collection {} was dropped or replaced while it was being rebuilt",
                self.name
            ),
            "start over with --restart, and see that no second rebuild runs meanwhile",
        )
        .into())
    }
}

/// Creates a collection; was it absent?
pub(super) async fn create(deployment: &impl Deployment, name: &str, options: &Document) -> Result<bool, SinkError> {
    let mut command = doc! { "create": name };
    command.extend(options.clone());
    match deployment.run(raw(&command)).await {
        Err(error) if error.code() == Some(NAMESPACE_EXISTS) => Ok(false),
        Err(error) => Err(error.classify(format!("create the collection {name}"))),
        Ok(_) => Ok(true),
    }
}

async fn uuid_of(deployment: &impl Deployment, name: &str) -> Result<Option<Bson>, SinkError> {
    let listed = listed(deployment, name).await?;
    Ok(listed.and_then(|listed| listed.get_document("info").ok()?.get("uuid").cloned()))
}

async fn listed(deployment: &impl Deployment, name: &str) -> Result<Option<Document>, SinkError> {
    let command = doc! { "listCollections": 1, "filter": { "name": name } };
    let reply = deployment.run(raw(&command)).await;
    let reply = reply.map_err(|e| e.classify(format!("look for the collection {name}")))?;
    Ok(documents_of(&reply).into_iter().next())
}
