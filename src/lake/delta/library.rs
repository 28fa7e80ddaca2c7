//! The Delta library on a table of ours, whatever store it lies on.
//!
//! Owns: handing it our store. The library would find one by the URL's scheme, and knows neither ours for HDFS nor a local
//! one that syncs.
//! Does not own: what is asked of it: checkpoints (`maintenance`), the list of active files (`maintenance`, `verify`).

use std::sync::Arc;

use deltalake_core::DeltaTable;
use deltalake_core::logstore::{StorageConfig, default_logstore};
use url::Url;

use crate::lake::store::Store;

/// The table, not loaded yet.
pub fn table(store: &Store) -> DeltaTable {
    // To the library the store's root is the table's. Of this scheme alone it does not expect listings in order.
    let root = Url::parse("file:///").expect("a URL");
    let objects = || Arc::clone(store.objects());
    DeltaTable::new(default_logstore(objects(), objects(), &root, &StorageConfig::default()))
}
