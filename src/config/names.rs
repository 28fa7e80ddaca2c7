//! What may be called what: one predicate per kind of name, because a name becomes a path, a collection, a
//! column and part of the lake's `appId`, and the strictest of them decides.
//!
//! Owns: the rules and their reasons. Each answers `Err` with a text that continues "the name …".
//! Does not own: where a name is used twice (`stream`, `rollup`).

use crate::schema::{ID_COLUMN, TIMESTAMP_COLUMN};

/// Prefix of everything affluent stores for itself, in collections and columns.
pub(super) const RESERVED_PREFIX: &str = "_affluent_";

/// A stream or rollup: a MongoDB collection, a directory, and (a stream) a part of the lake's `appId`, whose
/// parts a `/` separates.
pub(super) fn collection(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("may not be empty".to_owned());
    }
    if name.starts_with(RESERVED_PREFIX) {
        return Err(format!("{name:?} begins with {RESERVED_PREFIX}, which is reserved"));
    }
    if name.starts_with("system.") {
        return Err(format!("{name:?} begins with system., which MongoDB reserves"));
    }
    if !name.starts_with(char::is_alphanumeric) {
        // `.` and `_` hide a directory from Hive-style readers; `-` reads as a flag.
        return Err(format!("{name:?} must begin with a letter or digit"));
    }
    if let Some(bad) = name
        .chars()
        .find(|c| !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.')))
    {
        return Err(format!("{name:?} holds {bad:?}; letters, digits, _ - . are allowed"));
    }
    if name.len() > 120 {
        // MongoDB bounds database and collection together at 255 bytes, file systems one directory at 255.
        return Err(format!("{name:?} is longer than 120 bytes"));
    }
    Ok(())
}

/// The job: a part of the lake's `appId` and a value in every progress document.
pub(super) fn job(name: &str) -> Result<(), String> {
    collection(name)
}

/// A declared field: a column of the table and a field of the document.
pub(super) fn column(name: &str) -> Result<(), String> {
    field(name)?;
    if [ID_COLUMN, TIMESTAMP_COLUMN]
        .iter()
        .any(|own| own.eq_ignore_ascii_case(name))
    {
        return Err(format!("{name:?} is a column that affluent writes itself"));
    }
    Ok(())
}

/// A measure: a field at the top level of a rollup's document, beside `_id`, `t` and the dimensions.
pub(super) fn measure(name: &str) -> Result<(), String> {
    field(name)?;
    if name == ID_COLUMN || name == "t" {
        return Err(format!("{name:?} is a field that every rollup has"));
    }
    Ok(())
}

fn field(name: &str) -> Result<(), String> {
    // Parquet columns of Delta tables without column mapping refuse blanks and ,;{}()=; MongoDB gives `.` and
    // `$` a meaning; `/` and quotes break paths and the SQL that people write.
    const REFUSED: &str = " ,;{}()=.$/\\\"'`";
    if name.is_empty() {
        return Err("may not be empty".to_owned());
    }
    if name.to_ascii_lowercase().starts_with(RESERVED_PREFIX) {
        return Err(format!("{name:?} begins with {RESERVED_PREFIX}, which is reserved"));
    }
    if let Some(bad) = name.chars().find(|c| c.is_control() || REFUSED.contains(*c)) {
        return Err(format!("{name:?} holds {bad:?}, which a column cannot carry"));
    }
    if name.len() > 255 {
        return Err(format!("{name:?} is longer than 255 bytes"));
    }
    Ok(())
}

/// A topic, by the broker's own rule.
pub(super) fn topic(name: &str) -> Result<(), String> {
    if name.is_empty() || name == "." || name == ".." {
        return Err(format!("{name:?} is no legal topic name"));
    }
    if let Some(bad) = name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')))
    {
        return Err(format!(
            "{name:?} holds {bad:?}; Kafka allows ASCII letters, digits, _ - ."
        ));
    }
    if name.len() > 249 {
        return Err(format!("{name:?} is longer than Kafka's 249 characters"));
    }
    Ok(())
}

/// A MongoDB database.
pub(super) fn database(name: &str) -> Result<(), String> {
    const REFUSED: &str = "/\\. \"$*<>:|?";
    if name.is_empty() || name.len() > 63 {
        return Err("must have 1 to 63 bytes".to_owned());
    }
    if ["admin", "local", "config"].contains(&name) {
        return Err(format!("{name:?} is one of MongoDB's own databases"));
    }
    if let Some(bad) = name.chars().find(|c| c.is_control() || REFUSED.contains(*c)) {
        return Err(format!("{name:?} holds {bad:?}, which MongoDB refuses"));
    }
    Ok(())
}
