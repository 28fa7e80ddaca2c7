//! Is a table damaged, or only out of reach? The first is a finding (exit 1), the second is none (exit 3).

use std::fmt;

/// What the table's own files show to be wrong. Attached as context to whatever was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged(pub String);

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An error met while reading something the log promises: as damage, unless the store did not answer.
pub fn judge(error: anyhow::Error, what: impl fmt::Display) -> anyhow::Error {
    let store = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<object_store::Error>());
    match store {
        Some(object_store::Error::NotFound { .. }) => error.context(Damaged(format!("{what} is gone"))),
        Some(_) => error.context(format!("cannot read {what}")),
        None => {
            let damaged = Damaged(format!("{what} is damaged: {error:#}"));
            error.context(damaged)
        }
    }
}

/// The finding in an error, if it is one.
pub fn finding(error: &anyhow::Error) -> Option<&Damaged> {
    error.downcast_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_or_cannot_be_parsed_is_damage_and_a_silent_store_is_not() {
        let not_found = object_store::Error::NotFound {
            path: "a".into(),
            source: "no such file".into(),
        };
        let silent = object_store::Error::Generic {
            store: "S3",
            source: "timed out".into(),
        };
        let garbage = serde_json::from_str::<serde_json::Value>("{").unwrap_err();
        let wrapped = parquet::errors::ParquetError::External(Box::new(object_store::Error::Generic {
            store: "S3",
            source: "connection reset".into(),
        }));
        let found = |error: anyhow::Error| finding(&judge(error, "a.parquet")).map(|damaged| damaged.0.clone());
        assert_eq!(found(not_found.into()).as_deref(), Some("a.parquet is gone"));
        assert!(found(garbage.into()).unwrap().starts_with("a.parquet is damaged: EOF"));
        assert_eq!(found(silent.into()), None);
        assert_eq!(found(wrapped.into()), None);
    }
}
