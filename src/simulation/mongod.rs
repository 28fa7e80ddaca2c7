//! A replica set in memory, as much of it as the sink talks to.
//!
//! Owns: the primary's documents and the state a majority has, which trails it; transactions over one snapshot with
//! write conflicts, that outlive their client until they are ended or expire; a failover, which takes the primary
//! back to the majority. Commands are the sink's own; what they do here follows the server's manual.
//! Does not own: the wire and its faults (`deployment`).

use std::collections::BTreeMap;
use std::sync::Arc;

use bson::{Bson, DateTime, Document, RawDocumentBuf, doc};

use crate::sink::mongo::PROGRESS_COLLECTION;

pub(super) const DUPLICATE_KEY: i32 = 11000;
const WRITE_CONFLICT: i32 = 112;
const NO_SUCH_TRANSACTION: i32 = 251;

/// An `_id` with an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Id {
    Long(i64),
    Text(String),
    Bytes(Vec<u8>),
}

type Key = (String, Id);

/// All documents as of one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Data(BTreeMap<Key, Stored>);

#[derive(Clone, Debug)]
struct Stored {
    document: Arc<Document>,
    /// When it was written.
    at: u64,
}

#[derive(Default)]
pub(super) struct Mongod {
    primary: Arc<Data>,
    majority: Arc<Data>,
    clock: u64,
    majority_clock: u64,
    sessions: BTreeMap<u64, Session>,
}

enum Session {
    Open {
        snapshot: Arc<Data>,
        at: u64,
        writes: BTreeMap<Key, Document>,
    },
    Committed {
        at: u64,
    },
    Aborted,
}

/// Always transient: the whole transaction may be tried again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refusal {
    pub code: i32,
}

impl Data {
    pub fn documents(&self, collection: &str) -> impl Iterator<Item = &Document> {
        let ours = self.0.iter().filter(move |((name, _), _)| name == collection);
        ours.map(|(_, stored)| &*stored.document)
    }

    /// The integers among a collection's `_id`s.
    pub fn ids(&self, collection: &str) -> impl Iterator<Item = i64> {
        self.documents(collection)
            .filter_map(|document| document.get_i64("_id").ok())
    }

    pub fn sum(&self, collection: &str, field: &str) -> i64 {
        self.documents(collection)
            .filter_map(|document| document.get_i64(field).ok())
            .sum()
    }

    fn get(&self, key: &Key) -> Option<&Stored> {
        self.0.get(key)
    }
}

fn key(collection: &str, id: Option<&Bson>) -> Key {
    let id = match id {
        Some(Bson::Int64(id)) => Id::Long(*id),
        Some(Bson::String(id)) => Id::Text(id.clone()),
        other => {
            let raw = RawDocumentBuf::try_from(doc! { "_id": other.cloned() }).expect("readable");
            Id::Bytes(raw.as_bytes().to_vec())
        }
    };
    (collection.to_owned(), id)
}

impl Mongod {
    pub fn primary(&self) -> &Data {
        &self.primary
    }

    pub fn majority(&self) -> &Data {
        &self.majority
    }

    /// Stores documents, unordered; the indexes of those whose `_id` is taken.
    pub fn insert(&mut self, collection: &str, documents: &[Document]) -> Vec<usize> {
        let mut taken = Vec::new();
        for (index, document) in documents.iter().enumerate() {
            let key = key(collection, document.get("_id"));
            if self.primary.get(&key).is_some() {
                taken.push(index);
            } else {
                self.write(key, document.clone());
            }
        }
        taken
    }

    /// Fills in a topic id where there is none.
    pub fn record_topic_id(&mut self, unknown: &str, known: &str) {
        let without: Vec<Document> = (self.primary.documents(PROGRESS_COLLECTION))
            .filter(|document| document.get_str("topic_id").is_ok_and(|id| id == unknown))
            .cloned()
            .collect();
        for mut document in without {
            document.insert("topic_id", known);
            self.write(key(PROGRESS_COLLECTION, document.get("_id")), document);
        }
    }

    fn write(&mut self, key: Key, document: Document) {
        self.clock += 1;
        let document = Arc::new(document);
        Arc::make_mut(&mut self.primary).0.insert(
            key,
            Stored {
                document,
                at: self.clock,
            },
        );
    }

    /// Takes a document away everywhere.
    pub fn delete(&mut self, collection: &str, id: i64) {
        let key = (collection.to_owned(), Id::Long(id));
        for data in [&mut self.primary, &mut self.majority] {
            Arc::make_mut(data).0.remove(&key);
        }
    }

    /// A majority has everything that the primary has.
    pub fn replicate(&mut self) {
        self.majority = Arc::clone(&self.primary);
        self.majority_clock = self.clock;
    }

    /// Another member becomes primary: it has what a majority has, and knows of no open transaction.
    pub fn fail_over(&mut self) {
        self.primary = Arc::clone(&self.majority);
        let majority = self.majority_clock;
        let lost = |session: &Session| match session {
            Session::Open { .. } => true,
            Session::Committed { at } => *at > majority,
            Session::Aborted => false,
        };
        self.sessions
            .values_mut()
            .filter(|s| lost(s))
            .for_each(|s| *s = Session::Aborted);
    }

    /// Transactions that hold locks.
    pub fn open(&self) -> Vec<u64> {
        let open = self.sessions.iter().filter(|(_, s)| matches!(s, Session::Open { .. }));
        open.map(|(id, _)| *id).collect()
    }

    /// Nothing happens where it is committed already.
    pub fn abort(&mut self, session: u64) {
        let state = self.sessions.entry(session).or_insert(Session::Aborted);
        if matches!(state, Session::Open { .. }) {
            *state = Session::Aborted;
        }
    }

    /// May be repeated.
    pub fn commit(&mut self, session: u64) -> Result<(), Refusal> {
        match self.sessions.insert(session, Session::Aborted) {
            Some(Session::Open { writes, .. }) => {
                for (key, document) in writes {
                    self.write(key, document);
                }
            }
            Some(Session::Committed { at }) => {
                self.sessions.insert(session, Session::Committed { at });
                return Ok(());
            }
            Some(Session::Aborted) | None => {
                return Err(Refusal {
                    code: NO_SUCH_TRANSACTION,
                });
            }
        }
        self.sessions.insert(session, Session::Committed { at: self.clock });
        Ok(())
    }

    /// Runs a command inside a transaction. A refusal ends the transaction.
    pub fn run(&mut self, session: u64, command: &Document) -> Result<Document, Refusal> {
        let begun = || Session::Open {
            snapshot: Arc::clone(&self.primary),
            at: self.clock,
            writes: BTreeMap::new(),
        };
        if !matches!(self.sessions.entry(session).or_insert_with(begun), Session::Open { .. }) {
            return Err(Refusal {
                code: NO_SUCH_TRANSACTION,
            });
        }
        let done = if let Ok(collection) = command.get_str("aggregate") {
            Ok(self.count(session, collection, command))
        } else if let Ok(collection) = command.get_str("update") {
            self.update(session, collection, command)
        } else if let Ok(collection) = command.get_str("insert") {
            self.insert_new(session, collection, command)
        } else {
            panic!("a command that the simulation does not know: {command}")
        };
        if done.is_err() {
            self.abort(session);
        }
        done
    }

    /// A document as the transaction sees it.
    fn seen(&self, session: u64, key: &Key) -> Option<Document> {
        let Some(Session::Open { snapshot, writes, .. }) = self.sessions.get(&session) else {
            return None;
        };
        let stored = || snapshot.get(key).map(|stored| (*stored.document).clone());
        writes.get(key).cloned().or_else(stored)
    }

    /// `[{$match: {_id: {$gte, $lt}}}, {$count: "n"}]`
    fn count(&self, session: u64, collection: &str, command: &Document) -> Document {
        let stages = command.get_array("pipeline").expect("has one");
        let matched = stages[0]
            .as_document()
            .and_then(|stage| stage.get_document("$match").ok());
        let range = matched
            .and_then(|matched| matched.get_document("_id").ok())
            .expect("a range of ids");
        let bound = |name| range.get_i64(name).expect("an integer");
        let Some(Session::Open { snapshot, .. }) = self.sessions.get(&session) else {
            unreachable!("checked by the caller")
        };
        let inside = |id: &i64| (bound("$gte")..bound("$lt")).contains(id);
        let count = snapshot.ids(collection).filter(inside).count() as i32;
        let answer: Vec<Document> = (count > 0).then(|| doc! { "n": count }).into_iter().collect();
        doc! { "cursor": { "firstBatch": answer }, "ok": 1.0 }
    }

    /// Inserts documents; one that is there ends the transaction, and the reply names it.
    fn insert_new(&mut self, session: u64, collection: &str, command: &Document) -> Result<Document, Refusal> {
        let documents = command.get_array("documents").expect("has some");
        for (index, document) in documents.iter().enumerate() {
            let document = document.as_document().expect("a document");
            let key = key(collection, document.get("_id"));
            if self.seen(session, &key).is_some() {
                self.abort(session);
                let error = doc! { "index": index as i32, "code": DUPLICATE_KEY, "keyPattern": { "_id": 1 } };
                return Ok(doc! { "n": index as i32, "writeErrors": [error], "ok": 1.0 });
            }
            self.lock(session, &key)?;
            if let Some(Session::Open { writes, .. }) = self.sessions.get_mut(&session) {
                writes.insert(key, document.clone());
            }
        }
        Ok(doc! { "n": documents.len() as i32, "ok": 1.0 })
    }

    fn update(&mut self, session: u64, collection: &str, command: &Document) -> Result<Document, Refusal> {
        let mut matched = 0;
        for statement in command.get_array("updates").expect("has some") {
            let statement = statement.as_document().expect("a statement");
            let query = statement.get_document("q").expect("has one");
            let change = statement.get_document("u").expect("has one");
            let key = key(collection, query.get("_id"));
            let found = self.seen(session, &key);
            let document = match found {
                Some(document) if query.iter().all(|(name, wanted)| document.get(name) == Some(wanted)) => document,
                None if statement.get_bool("upsert").is_ok_and(|upsert| upsert) => query.clone(),
                _ => continue,
            };
            self.lock(session, &key)?;
            matched += 1;
            let changed = changed(document, change);
            if let Some(Session::Open { writes, .. }) = self.sessions.get_mut(&session) {
                writes.insert(key, changed);
            }
        }
        Ok(doc! { "n": matched, "nModified": matched, "ok": 1.0 })
    }

    /// Refuses what another transaction is writing, or has written since this one began.
    fn lock(&self, session: u64, key: &Key) -> Result<(), Refusal> {
        let Some(Session::Open { at, .. }) = self.sessions.get(&session) else {
            unreachable!("checked by the caller")
        };
        let newer = self.primary.get(key).is_some_and(|stored| stored.at > *at);
        let held = self.sessions.iter().any(|(other, state)| {
            let writes = |state: &Session| matches!(state, Session::Open { writes, .. } if writes.contains_key(key));
            *other != session && writes(state)
        });
        if newer || held {
            return Err(Refusal { code: WRITE_CONFLICT });
        }
        Ok(())
    }
}

fn changed(mut document: Document, change: &Document) -> Document {
    let new = !document.contains_key("t") && change.contains_key("$setOnInsert");
    for (operator, fields) in change {
        let fields = fields.as_document().expect("fields to change");
        for (name, value) in fields {
            match operator.as_str() {
                "$set" => {
                    document.insert(name, value.clone());
                }
                "$setOnInsert" if new => {
                    document.insert(name, value.clone());
                }
                "$inc" => {
                    let before = document.get_i64(name).unwrap_or_default();
                    document.insert(
                        name,
                        before + value.as_i64().expect("the rollup's measures are integers"),
                    );
                }
                "$max" => {
                    let before = document.get_datetime(name).ok();
                    let higher = value.as_datetime().expect("only event times rise") > before.unwrap_or(&DateTime::MIN);
                    if higher {
                        document.insert(name, value.clone());
                    }
                }
                "$setOnInsert" | "$currentDate" => {}
                other => panic!("an operator that the simulation does not know: {other}"),
            }
        }
    }
    document
}
