//! Calls to the server: each has a deadline, and each failure is classified here, once.
//!
//! Owns: the deadline (this driver has no socket timeout), and the line between "hold and try again" and "stop".
//! Does not own: what a failed transaction means (`transaction`): that depends on how far it got.

use std::fmt::Display;
use std::future::IntoFuture;
use std::time::Duration;

use bson::Document;
use mongodb::error::{Error, ErrorKind};

use crate::error::{Invariant, SinkError};

/// How long any one call may take. Well above a slow checkpoint's stall, well below the server's transaction
/// lifetime (60 s): a call that takes longer has an unknown outcome.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the server waits for a majority before it says so; shorter than [`CALL_TIMEOUT`] so that the
/// server's answer arrives instead of our deadline.
pub(super) const MAJORITY_TIMEOUT: Duration = Duration::from_secs(20);

pub(super) const DUPLICATE_KEY: i32 = 11000;

/// Server codes that no retry heals: the collection or the document is not what we need it to be.
const PERMANENT: [i32; 12] = [
    2,     // BadValue: an increment that overflows the stored number
    9,     // FailedToParse
    14,    // TypeMismatch: an increment of something that is no number
    20,    // IllegalOperation
    22,    // InvalidBSON
    73,    // InvalidNamespace
    121,   // DocumentValidationFailure
    166,   // CommandNotSupportedOnView
    224,   // a document that cannot be stored in a time-series collection
    10334, // BSONObjectTooLarge
    17280, // key too large to index
    17419, // the document would become larger than 16 MiB
];

/// Why a call has no result. The driver's error is taken apart where it arrives: what follows from it is decided
/// over plain data.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    #[error("no answer within {} s", CALL_TIMEOUT.as_secs())]
    Deadline,
    #[error("{text}")]
    Failed {
        /// The server's code; of several, [`DUPLICATE_KEY`] if it is among them.
        code: Option<i32>,
        labels: Vec<String>,
        no_server: bool,
        text: String,
    },
}

impl From<Error> for CallError {
    fn from(error: Error) -> Self {
        let duplicate = |e: &mongodb::error::IndexedWriteError| e.code == DUPLICATE_KEY;
        Self::Failed {
            code: match error.kind.as_ref() {
                ErrorKind::Command(command) => Some(command.code),
                ErrorKind::InsertMany(many) if many.write_errors.iter().flatten().any(duplicate) => Some(DUPLICATE_KEY),
                _ => None,
            },
            labels: error.labels().iter().cloned().collect(),
            no_server: matches!(*error.kind, ErrorKind::ServerSelection { .. }),
            // The driver's own text adds the whole server response; its kind says enough.
            text: error.kind.to_string(),
        }
    }
}

/// One call to the server, within its deadline. What the server did of a call that ran into it is unknown.
pub(super) async fn call<T>(call: impl IntoFuture<Output = Result<T, Error>>) -> Result<T, CallError> {
    match tokio::time::timeout(CALL_TIMEOUT, call.into_future()).await {
        Ok(result) => result.map_err(CallError::from),
        Err(_) => Err(CallError::Deadline),
    }
}

impl CallError {
    pub fn code(&self) -> Option<i32> {
        match self {
            Self::Failed { code, .. } => *code,
            Self::Deadline => None,
        }
    }

    pub fn has_label(&self, label: &str) -> bool {
        matches!(self, Self::Failed { labels, .. } if labels.iter().any(|l| l == label))
    }

    pub fn is_server_selection(&self) -> bool {
        matches!(self, Self::Failed { no_server: true, .. })
    }

    /// `attempted` completes "cannot …".
    pub fn classify(self, attempted: impl Display) -> SinkError {
        match self.code() {
            Some(code) if PERMANENT.contains(&code) => refused(attempted, self),
            _ => SinkError::Infrastructure(anyhow::Error::new(self).context(format!("cannot {attempted} in mongodb"))),
        }
    }
}

/// One entry of `writeErrors` in the reply to an insert or update command.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct WriteError {
    pub index: usize,
    pub code: i32,
    pub message: String,
    /// Which index refused a duplicate; absent before MongoDB 4.2.
    pub key_pattern: Option<Document>,
}

impl WriteError {
    pub fn all(reply: &Document) -> Vec<Self> {
        let Ok(errors) = reply.get_array("writeErrors") else {
            return Vec::new();
        };
        let errors = errors.iter().filter_map(|error| error.as_document());
        errors
            .map(|error| Self {
                index: error.get_i32("index").unwrap_or_default() as usize,
                code: error.get_i32("code").unwrap_or_default(),
                message: error.get_str("errmsg").unwrap_or_default().to_owned(),
                key_pattern: error.get_document("keyPattern").ok().cloned(),
            })
            .collect()
    }

    /// A duplicate of `_id`, as far as the server tells.
    pub fn is_duplicate_id(&self) -> bool {
        self.code == DUPLICATE_KEY && self.key_pattern.as_ref().is_none_or(|keys| keys.keys().eq(["_id"]))
    }

    pub fn classify(self, attempted: impl Display) -> SinkError {
        let text = format!("error {} {}", self.code, self.message);
        if self.code == DUPLICATE_KEY || PERMANENT.contains(&self.code) {
            refused(attempted, text)
        } else {
            SinkError::Infrastructure(anyhow::anyhow!("cannot {attempted} in mongodb: {text}"))
        }
    }
}

/// The reply's write concern error: written here, but a majority has not said so.
pub(super) fn write_concern_error(reply: &Document) -> Option<String> {
    let error = reply.get_document("writeConcernError").ok()?;
    let code = error.get_i32("code").unwrap_or_default();
    Some(format!("error {code} {}", error.get_str("errmsg").unwrap_or_default()))
}

fn refused(attempted: impl Display, why: impl Display) -> SinkError {
    Invariant::new(
        format!("mongodb refuses to {attempted}: {why}"),
        "remove what refuses it (a validator, a unique index, a view or time-series collection of that name, a \
         document written by something else) and start again; nothing is skipped until then",
    )
    .into()
}

#[cfg(test)]
mod tests {
    use bson::doc;

    use super::*;

    fn error(code: i32, keys: Option<Document>) -> WriteError {
        WriteError {
            index: 0,
            code,
            message: "m".into(),
            key_pattern: keys,
        }
    }

    #[test]
    fn only_a_duplicate_of_the_id_can_be_a_replay() {
        assert!(error(11000, Some(doc! { "_id": 1 })).is_duplicate_id());
        assert!(error(11000, None).is_duplicate_id());
        assert!(!error(11000, Some(doc! { "email": 1 })).is_duplicate_id());
        assert!(!error(11000, Some(doc! { "_id": 1, "x": 1 })).is_duplicate_id());
        assert!(!error(121, None).is_duplicate_id());
    }

    #[test]
    fn what_no_retry_heals_stops_and_everything_else_holds() {
        let stops = |e: WriteError| matches!(e.classify("insert"), SinkError::Invariant(_));
        assert!(stops(error(121, None)), "a validator");
        assert!(stops(error(11000, Some(doc! { "email": 1 }))), "a foreign unique index");
        assert!(!stops(error(10107, None)), "not primary");
        assert!(!stops(error(13, None)), "unauthorized");
        assert!(!stops(error(14031, None)), "out of disk space");
    }

    #[test]
    fn write_errors_are_read_from_the_reply() {
        let reply = doc! {
            "n": 1, "ok": 1.0,
            "writeErrors": [{ "index": 3, "code": 11000, "keyPattern": { "_id": 1 }, "errmsg": "dup" }],
            "writeConcernError": { "code": 64, "errmsg": "waiting for replication timed out" },
        };
        let errors = WriteError::all(&reply);
        assert_eq!(
            (errors[0].index, errors[0].code, errors[0].message.as_str()),
            (3, 11000, "dup")
        );
        assert_eq!(
            write_concern_error(&reply).as_deref(),
            Some("error 64 waiting for replication timed out")
        );
        assert_eq!(WriteError::all(&doc! { "ok": 1.0 }), []);
        assert_eq!(write_concern_error(&doc! { "ok": 1.0 }), None);
    }
}
